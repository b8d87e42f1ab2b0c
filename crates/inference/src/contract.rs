//! The contract between a pipeline and a model: every tensor that the model needs is given, fits in type and
//! shape, and every output that the pipeline reads is there. What holds becomes a [`Binding`], which packing
//! and reading then follow without asking again; what does not becomes a list of [`Mismatch`]es.

mod inputs;
mod outputs;

use std::{collections::HashMap, fmt, sync::Arc};

use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions};
use twinlane_pipeline::{Apply, OutputSpec, TensorSpec};

use crate::{
    capture::{GRAPH_ID, NOT_CAPTURED},
    signature::{Element, Extent, Signature, Tensor},
};

/// One thing that does not fit, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) side: Side,
    pub(crate) tensor: String,
    /// What the model has and what the pipeline gives or reads.
    pub(crate) found: String,
    /// What would be right.
    pub(crate) remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Input,
    Output,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Input => "input",
            Side::Output => "output",
        };
        write!(f, "{side} `{}`: {}; {}", self.tensor, self.found, self.remedy)
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
        let mut options = RunOptions::new()?.with_outputs(selected);
        // For a session whose runs may be captured: these are not. Others do not read it.
        options.set(GRAPH_ID, NOT_CAPTURED)?;
        Ok(options)
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
                side: Side::Input,
                tensor: spec.name.to_string(),
                found: format!("the pipeline fills it, the model has {}", names(&model.inputs)),
                remedy: "rename it in the pipeline to what the model calls it, or take it out".to_owned(),
            });
        }
    }
    for tensor in &model.inputs {
        match inputs::bind(tensor, inputs, max_batch, &mut groups) {
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
                    side: Side::Input,
                    tensor: bound.name.to_string(),
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
        match outputs::bind(spec, &model.outputs, max_batch, &groups) {
            Ok(bound) => bound_outputs.push(bound),
            Err((found, remedy)) => {
                let tensor = spec.tensor.to_string();
                problems.push(Mismatch { side: Side::Output, tensor, found, remedy });
            }
        }
    }
    if problems.is_empty() {
        Ok(Binding { inputs: bound_inputs, outputs: bound_outputs, step_groups: groups.count })
    } else {
        Err(problems)
    }
}

/// Which step dimensions are padded together, and which of them always to one length.
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

fn names(tensors: &[Tensor]) -> String {
    match tensors {
        [] => "none".to_owned(),
        some => some.iter().map(|tensor| format!("`{}`", tensor.name)).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
#[path = "contract_tests.rs"]
mod tests;
