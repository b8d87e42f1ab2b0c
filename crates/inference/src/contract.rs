//! The contract between a pipeline and a model: every tensor that the model needs is given, fits in type and
//! shape, and every output that the pipeline reads is there. What holds becomes a [`Binding`], which packing
//! and reading then follow without asking again; what does not becomes a list of [`Mismatch`]es.

use std::{collections::HashMap, fmt, sync::Arc};

use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions};
use twinlane_pipeline::{Apply, Dim, OutputKind, OutputSpec, TensorSpec};

use crate::signature::{Element, Extent, Signature, Tensor};

/// One thing that does not fit, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// `input` or `output`, and the tensor's name.
    pub tensor: String,
    /// What the model has and what the pipeline gives or reads.
    pub found: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.tensor, self.found, self.remedy)
    }
}

/// How rows become the model's inputs and its outputs become answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    /// In the model's order.
    pub(crate) inputs: Vec<BoundInput>,
    /// In the pipeline's order.
    pub(crate) outputs: Vec<BoundOutput>,
    /// How many step dimensions there are that vary independently of one another.
    pub(crate) step_groups: usize,
}

impl Binding {
    /// Run options that fetch only what the pipeline reads: exports carry outputs that nobody asks for.
    pub(crate) fn reads_only(&self) -> ort::Result<RunOptions<HasSelectedOutputs>> {
        let mut names: Vec<&str> = self.outputs.iter().map(|output| &*output.tensor).collect();
        names.sort_unstable();
        names.dedup();
        let selected = names.into_iter().fold(OutputSelector::no_default(), OutputSelector::with);
        Ok(RunOptions::new()?.with_outputs(selected))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BoundInput {
    pub(crate) name: Arc<str>,
    /// Index of the tensor in a row.
    pub(crate) in_row: usize,
    pub(crate) element: Element,
    pub(crate) steps: Option<Steps>,
    /// Dimensions after batch and steps.
    pub(crate) inner: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Steps {
    /// Tensors of one group are padded to one length, because the model names their dimension alike.
    pub(crate) group: usize,
    /// The most that a row has.
    pub(crate) max: usize,
    /// The model's own number of steps, where it fixes one.
    pub(crate) exactly: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BoundOutput {
    pub(crate) name: Arc<str>,
    pub(crate) tensor: Arc<str>,
    pub(crate) read: Read,
}

/// How a row of an output tensor is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// A score per label.
    Scores {
        labels: Vec<Arc<str>>,
        apply: Option<Apply>,
    },
    /// One number that tells two labels apart: the second one's logit or probability.
    OneOfTwo {
        labels: Vec<Arc<str>>,
        apply: Option<Apply>,
    },
    /// The label itself, by its text or by its index, without scores.
    Label {
        labels: Vec<Arc<str>>,
        by: LabelBy,
    },
    Number,
    Vector,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LabelBy {
    Text,
    /// The labels are whole numbers, as scikit-learn writes the classes that it was trained on.
    NumberAsText,
    Index,
}

/// Checks a model against what the pipeline gives and reads.
pub(crate) fn bind(
    model: &Signature,
    inputs: &[TensorSpec],
    outputs: &[OutputSpec],
    max_batch: usize,
) -> Result<Binding, Vec<Mismatch>> {
    let mut problems = Vec::new();
    let mut groups = Groups::default();
    let mut bound_inputs = Vec::new();
    for spec in inputs {
        if !model.inputs.iter().any(|tensor| *tensor.name == *spec.name) {
            problems.push(Mismatch {
                tensor: format!("input `{}`", spec.name),
                found: format!("the pipeline fills it, the model has {}", names(&model.inputs)),
                remedy: "rename it in the pipeline to what the model calls it, or take it out".to_owned(),
            });
        }
    }
    for tensor in &model.inputs {
        match bind_input(tensor, inputs, max_batch, &mut groups) {
            Ok(bound) => bound_inputs.push(bound),
            Err(problem) => problems.push(problem),
        }
    }
    for bound in &mut bound_inputs {
        if let Some(steps) = &mut bound.steps
            && let Some(size) = groups.pinned(steps.group)
        {
            if steps.max > size {
                problems.push(Mismatch {
                    tensor: format!("input `{}`", bound.name),
                    found: format!(
                        "it has up to {} steps, and an input without a mask whose steps the model names alike has {size}",
                        steps.max
                    ),
                    remedy: "set one `keep_last` for both".to_owned(),
                });
            }
            steps.exactly = Some(size);
        }
    }
    let mut bound_outputs = Vec::new();
    for spec in outputs {
        match bind_output(spec, &model.outputs, max_batch, &groups) {
            Ok(bound) => bound_outputs.push(bound),
            Err((found, remedy)) => {
                problems.push(Mismatch { tensor: format!("output `{}`", spec.tensor), found, remedy });
            }
        }
    }
    if problems.is_empty() {
        Ok(Binding { inputs: bound_inputs, outputs: bound_outputs, step_groups: groups.count })
    } else {
        Err(problems)
    }
}

#[derive(Default)]
struct Groups {
    by_name: HashMap<String, usize>,
    count: usize,
    /// Named dimensions that a sequence without a mask fills, always to the same length.
    fixed: HashMap<String, usize>,
}

impl Groups {
    fn of(&mut self, extent: &Extent) -> usize {
        let next = self.count;
        let group = match extent {
            Extent::Named(name) => *self.by_name.entry(name.clone()).or_insert(next),
            Extent::Fixed(_) | Extent::Open => next,
        };
        self.count = self.count.max(group + 1);
        group
    }

    /// The length that a group's steps always have, because a sequence without a mask shares them.
    fn pinned(&self, group: usize) -> Option<usize> {
        let of_group = self.by_name.iter().filter(|(_, of)| **of == group);
        of_group.filter_map(|(name, _)| self.fixed.get(name).copied()).max()
    }

    /// Whether a dimension is as long as the batch's longest row has steps.
    fn varies(&self, extent: &Extent) -> bool {
        matches!(extent, Extent::Named(name) if self.by_name.contains_key(name) && !self.fixed.contains_key(name))
    }
}

fn bind_input(
    tensor: &Tensor,
    specs: &[TensorSpec],
    max_batch: usize,
    groups: &mut Groups,
) -> Result<BoundInput, Mismatch> {
    let fails = |found: String, remedy: &str| Mismatch {
        tensor: format!("input `{}`", tensor.name),
        found,
        remedy: remedy.to_owned(),
    };
    let Some(in_row) = specs.iter().position(|spec| *spec.name == *tensor.name) else {
        let found = format!("the model needs {tensor}, the pipeline does not fill it");
        return Err(fails(found, "add it to the task's `inputs`, or export the model without it"));
    };
    let spec = &specs[in_row];
    let both = || format!("the model takes {tensor}, the pipeline gives {}", shape(&spec.dims));
    if matches!(tensor.element, Element::Text | Element::Other(_)) {
        let remedy = "export it with a numeric input (f16, f32, f64, i32, i64 or bool)";
        return Err(fails(both(), remedy));
    }
    if let Some(Extent::Fixed(batch)) = tensor.dims.first()
        && (*batch, max_batch) != (1, 1)
    {
        let found = format!("the model takes {tensor}, so exactly {batch} per run");
        let remedy = "export it with a dynamic first dimension (a batch of 1 also runs with `max_batch: 1`)";
        return Err(fails(found, remedy));
    }
    let fitted = fit(&spec.dims, &tensor.dims).map_err(|remedy| fails(both(), &remedy))?;
    if let ([Dim::Fixed(steps), Dim::Fixed(_)], Some(Extent::Named(name))) =
        (&spec.dims[..], tensor.dims.get(1))
    {
        groups.fixed.insert(name.clone(), *steps);
    }
    let steps = fitted.steps.map(|(max, extent)| Steps {
        group: groups.of(&extent),
        max,
        exactly: match extent {
            Extent::Fixed(size) => Some(size),
            _ => None,
        },
    });
    Ok(BoundInput {
        name: spec.name.clone(),
        in_row,
        element: tensor.element.clone(),
        steps,
        inner: fitted.inner,
    })
}

struct Fitted {
    steps: Option<(usize, Extent)>,
    inner: Vec<usize>,
}

/// Lays a row's dimensions over the model's. Dimensions of one may be added or left out at the end: exports
/// disagree about `[batch]` and `[batch, 1]`, and the numbers are the same.
fn fit(spec: &[Dim], model: &[Extent]) -> Result<Fitted, String> {
    let (max, fixed): (Option<usize>, &[Dim]) = match spec {
        [Dim::Steps { max }, rest @ ..] => (Some(*max), rest),
        all => (None, all),
    };
    let mut inner = Vec::new();
    for dim in fixed {
        match dim {
            Dim::Fixed(size) => inner.push(*size),
            Dim::Steps { .. } => return Err("only the first dimension of an input can vary".to_owned()),
        }
    }
    if model.is_empty() {
        return Ok(Fitted { steps: max.map(|max| (max, Extent::Open)), inner });
    }
    let lead = 1 + usize::from(max.is_some());
    let wanted = lead + inner.len();
    if model.len() == wanted + 1
        && matches!(model[wanted], Extent::Fixed(1) | Extent::Open | Extent::Named(_))
    {
        inner.push(1);
    } else if model.len() + 1 == wanted && inner.last() == Some(&1) {
        inner.pop();
    } else if model.len() != wanted {
        return Err(format!("fill it so that it has {} dimensions after the batch", model.len() - 1));
    }
    for (at, (size, extent)) in inner.iter().zip(&model[lead..]).enumerate() {
        if let Extent::Fixed(has) = extent
            && has != size
        {
            // A sequence without a mask: its steps are its first dimension.
            if at == 0 && matches!(spec, [Dim::Fixed(_), Dim::Fixed(_)]) {
                return Err(format!("set `keep_last: {has}`, or export the model with dynamic steps"));
            }
            return Err(format!("give it {has} columns, or export the model with {size}"));
        }
    }
    let steps = max.map(|max| (max, model[1].clone()));
    if let Some((max, Extent::Fixed(size))) = &steps
        && max > size
    {
        return Err(format!("set `keep_last: {size}`, or export the model with dynamic steps"));
    }
    Ok(Fitted { steps, inner })
}

fn bind_output(
    spec: &OutputSpec,
    outputs: &[Tensor],
    max_batch: usize,
    groups: &Groups,
) -> Result<BoundOutput, (String, String)> {
    let Some(tensor) = outputs.iter().find(|tensor| *tensor.name == *spec.tensor) else {
        let found = format!("output `{}` reads it, the model has {}", spec.name, names(outputs));
        return Err((found, "name one of these as its `tensor`".to_owned()));
    };
    if let Element::Other(_) = tensor.element {
        let mut remedy = "export the model so that this output is a tensor".to_owned();
        if tensor.element.to_string().contains("Map") || tensor.element.to_string().contains("Sequence") {
            remedy.push_str(" (skl2onnx: `options={\"zipmap\": False}`)");
        }
        return Err((format!("the model gives {tensor}"), remedy));
    }
    if let Some(Extent::Fixed(batch)) = tensor.dims.first()
        && (*batch, max_batch) != (1, 1)
    {
        let found = format!("the model gives {tensor}, so {batch} whatever the batch");
        return Err((found, "export it with one row per input row and a dynamic first dimension".to_owned()));
    }
    let inner = tensor.dims.get(1..).unwrap_or(&[]);
    if inner.iter().any(|extent| groups.varies(extent)) {
        let found = format!("the model gives {tensor}, as long as the longest event of the batch");
        return Err((found, "export it pooled, with one result per row".to_owned()));
    }
    let read = match &spec.kind {
        OutputKind::Class { labels, apply } => class(tensor, labels, *apply)?,
        OutputKind::Number if tensor.element == Element::Text => {
            return Err((format!("the model gives {tensor}"), "read it as `kind: class`".to_owned()));
        }
        OutputKind::Number => match inner {
            rest if rest.iter().all(|extent| !matches!(extent, Extent::Fixed(n) if *n != 1)) => Read::Number,
            _ => {
                let remedy = "read it as `kind: vector`, or as `kind: class` with labels".to_owned();
                return Err((format!("the model gives {tensor}, a number is one per row"), remedy));
            }
        },
        OutputKind::Vector => match (&tensor.element, tensor.dims.len()) {
            (_, 1) => {
                return Err((format!("the model gives {tensor}"), "read it as `kind: number`".to_owned()));
            }
            (Element::F16 | Element::F32 | Element::F64, rank) => {
                // A dimension that is told at run time only may follow the batch's longest event, and the vector's
                // length with it.
                if rank == 0 || !inner.iter().all(|extent| matches!(extent, Extent::Fixed(_))) {
                    let found = format!("the model gives {tensor}, so the vector has no length of its own");
                    let remedy =
                        "export it pooled, one vector of a fixed length per row: [batch, 384]".to_owned();
                    return Err((found, remedy));
                }
                Read::Vector
            }
            _ => {
                let remedy = "a vector is made of f16, f32 or f64: export it so".to_owned();
                return Err((format!("the model gives {tensor}"), remedy));
            }
        },
    };
    Ok(BoundOutput { name: spec.name.clone(), tensor: spec.tensor.clone(), read })
}

fn class(tensor: &Tensor, labels: &[Arc<str>], apply: Option<Apply>) -> Result<Read, (String, String)> {
    let labels = labels.to_vec();
    let gives = format!("the model gives {tensor}, the pipeline has {} labels", labels.len());
    let by = match tensor.element {
        Element::Text => Some(LabelBy::Text),
        Element::I32 | Element::I64 | Element::Bool => {
            let numbers = labels.iter().all(|label| label.parse::<i64>().is_ok());
            Some(if numbers { LabelBy::NumberAsText } else { LabelBy::Index })
        }
        _ => None,
    };
    if let Some(by) = by {
        if apply.is_some() {
            return Err((gives, "it is the label itself: leave out `apply`".to_owned()));
        }
        return match tensor.dims.get(1) {
            None | Some(Extent::Fixed(1) | Extent::Open | Extent::Named(_)) => Ok(Read::Label { labels, by }),
            Some(Extent::Fixed(_)) => Err((gives, "a label is one per row".to_owned())),
        };
    }
    let columns = match tensor.dims.as_slice() {
        [] => None,
        [_] => Some(1),
        [_, Extent::Fixed(columns)] => Some(*columns),
        [_, _] => None,
        _ => return Err((gives, "a class has one score per label: export it as [batch, labels]".to_owned())),
    };
    match columns {
        Some(1) if labels.len() == 2 && apply != Some(Apply::Softmax) => Ok(Read::OneOfTwo { labels, apply }),
        Some(1) if labels.len() == 2 => {
            Err((gives, "one number tells two classes apart by `apply: sigmoid`, not by softmax".to_owned()))
        }
        Some(columns) if columns != labels.len() => {
            Err((gives, format!("list {columns} labels, in the order of the model's classes")))
        }
        _ => Ok(Read::Scores { labels, apply }),
    }
}

fn names(tensors: &[Tensor]) -> String {
    match tensors {
        [] => "none".to_owned(),
        some => some.iter().map(|tensor| format!("`{}`", tensor.name)).collect::<Vec<_>>().join(", "),
    }
}

fn shape(dims: &[Dim]) -> String {
    let dims = dims.iter().map(|dim| match dim {
        Dim::Fixed(size) => format!(", {size}"),
        Dim::Steps { max } => format!(", up to {max} steps"),
    });
    format!("[batch{}]", dims.collect::<String>())
}

#[cfg(test)]
#[path = "contract_tests.rs"]
mod tests;
