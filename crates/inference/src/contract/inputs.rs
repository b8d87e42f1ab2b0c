//! Lays what rows hold over what the model takes.

use twinlane_pipeline::{Dim, TensorSpec};

use super::{BoundInput, Groups, Mismatch, Side, Steps};
use crate::signature::{Element, Extent, Tensor};

pub(super) fn bind(
    tensor: &Tensor,
    specs: &[TensorSpec],
    max_batch: usize,
    groups: &mut Groups,
) -> Result<BoundInput, Mismatch> {
    let fails = |found: String, remedy: &str| Mismatch {
        side: Side::Input,
        tensor: tensor.name.clone(),
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

fn shape(dims: &[Dim]) -> String {
    let dims = dims.iter().map(|dim| match dim {
        Dim::Fixed(size) => format!(", {size}"),
        Dim::Steps { max } => format!(", up to {max} steps"),
    });
    format!("[batch{}]", dims.collect::<String>())
}
