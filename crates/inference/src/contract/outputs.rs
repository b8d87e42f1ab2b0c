//! Finds out how each output that the pipeline reads is read from the model's tensor.

use std::sync::Arc;

use twinlane_pipeline::{Apply, OutputKind, OutputSpec};

use super::{BoundOutput, Groups, LabelBy, Read, names};
use crate::signature::{Element, Extent, Tensor};

pub(super) fn bind(
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
