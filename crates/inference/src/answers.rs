//! Reads a batch's outputs into one answer per row. Each row stands for itself: NaN or infinity in one is that
//! row's rejection, whatever its neighbours say.

use std::sync::Arc;

use half::f16;
use ndarray::ArrayView2;
use ort::value::{DynValue, TensorElementType, ValueType};
use twinlane_pipeline::Apply;
use twinlane_record::{Output, Reason, Rejection};

use crate::{
    RunError,
    contract::{BoundOutput, LabelBy, Read},
    model::Answer,
};

/// One answer for each of the first `wanted` rows of a run of `rows`.
pub(crate) fn read<'o>(
    outputs: impl Fn(&str) -> Option<&'o DynValue>,
    bound: &[BoundOutput],
    rows: usize,
    wanted: usize,
) -> Result<Vec<Answer>, RunError> {
    let tables = bound
        .iter()
        .map(|output| {
            let value = outputs(&output.tensor).ok_or_else(|| unexpected(output, "absent", "a tensor"))?;
            let table =
                Table::of(value, rows).map_err(|found| unexpected(output, &found, &due(output, rows)))?;
            let columns = table.columns();
            let fits = match &output.read {
                Read::Scores { labels, .. } => columns == labels.len(),
                Read::OneOfTwo { .. } | Read::Label { .. } | Read::Number => columns == 1,
                Read::Vector => true,
            };
            let found = format!("[{rows}, {columns}]");
            if fits { Ok(table) } else { Err(unexpected(output, &found, &due(output, rows))) }
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut scratch = Vec::new();
    Ok((0..wanted)
        .map(|row| {
            bound
                .iter()
                .zip(&tables)
                .map(|(output, table)| {
                    table
                        .read(row, &output.read, &mut scratch)
                        .map(|read| (output.name.clone(), read))
                        .map_err(|rejection| {
                            let detail = format!("output `{}`: {}", output.tensor, rejection.detail);
                            Rejection::new(rejection.reason, detail)
                        })
                })
                .collect()
        })
        .collect())
}

fn unexpected(output: &BoundOutput, found: &str, wanted: &str) -> RunError {
    RunError::UnexpectedOutput {
        tensor: output.tensor.to_string(),
        found: found.to_owned(),
        wanted: wanted.to_owned(),
    }
}

fn due(output: &BoundOutput, rows: usize) -> String {
    match &output.read {
        Read::Scores { labels, .. } => format!("[{rows}, {}]", labels.len()),
        Read::OneOfTwo { .. } | Read::Number => format!("[{rows}, 1] of numbers"),
        Read::Label { .. } => format!("[{rows}] of labels"),
        Read::Vector => format!("[{rows}, n] of f16, f32 or f64"),
    }
}

/// An output tensor, a line per row.
enum Table<'a> {
    F16(ArrayView2<'a, f16>),
    F32(ArrayView2<'a, f32>),
    F64(ArrayView2<'a, f64>),
    I32(ArrayView2<'a, i32>),
    I64(ArrayView2<'a, i64>),
    Bool(ArrayView2<'a, bool>),
    Text(Vec<String>),
}

macro_rules! numbers {
    ($table:expr, $view:ident => $body:expr, text: $strings:ident => $text:expr) => {
        match $table {
            Table::F16($view) => $body,
            Table::F32($view) => $body,
            Table::F64($view) => $body,
            Table::I32($view) => $body,
            Table::I64($view) => $body,
            Table::Bool($view) => $body,
            Table::Text($strings) => $text,
        }
    };
}

impl<'a> Table<'a> {
    /// The tensor as `rows` lines; the error says what it is instead.
    fn of(value: &'a DynValue, rows: usize) -> Result<Self, String> {
        let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
            return Err(value.dtype().to_string());
        };
        let count = shape.num_elements();
        if shape.first().is_none_or(|&first| first != rows as i64) || rows == 0 {
            return Err(format!("{ty}{shape}"));
        }
        macro_rules! view {
            ($variant:ident) => {{
                let (_, cells) = value.try_extract_tensor().map_err(|why| why.to_string())?;
                ArrayView2::from_shape((rows, count / rows), cells)
                    .map(Table::$variant)
                    .map_err(|why| why.to_string())
            }};
        }
        match ty {
            TensorElementType::Float16 => view!(F16),
            TensorElementType::Float32 => view!(F32),
            TensorElementType::Float64 => view!(F64),
            TensorElementType::Int32 => view!(I32),
            TensorElementType::Int64 => view!(I64),
            TensorElementType::Bool => view!(Bool),
            TensorElementType::String if count == rows => value
                .try_extract_strings()
                .map(|(_, texts)| Table::Text(texts))
                .map_err(|why| why.to_string()),
            other => Err(format!("{other}{shape}")),
        }
    }

    fn columns(&self) -> usize {
        numbers!(self, view => view.ncols(), text: _texts => 1)
    }

    fn read(&self, row: usize, read: &Read, scratch: &mut Vec<f64>) -> Result<Output, Rejection> {
        match read {
            Read::Vector => self.vector(row),
            Read::Label { labels, by } => self.label(row, labels, *by),
            Read::Number | Read::Scores { .. } | Read::OneOfTwo { .. } => {
                scratch.clear();
                numbers!(self, view => scratch.extend(view.row(row).iter().map(|&cell| cell.wide())), text: _texts => ());
                finite(scratch)?;
                match read {
                    Read::Scores { labels, apply } => {
                        apply_to(scratch, *apply);
                        best(labels, scratch)
                    }
                    Read::OneOfTwo { labels, apply } => {
                        let second = second_of_two(scratch[0], *apply)?;
                        best(labels, &[1.0 - second, second])
                    }
                    _ => Ok(Output::Number(scratch[0])),
                }
            }
        }
    }

    fn vector(&self, row: usize) -> Result<Output, Rejection> {
        let vector: Vec<f32> = match self {
            Table::F32(view) => view.row(row).to_vec(),
            _ => {
                numbers!(self, view => view.row(row).iter().map(|&cell| cell.wide() as f32).collect(), text: _t => vec![])
            }
        };
        match vector.iter().position(|number| !number.is_finite()) {
            None => Ok(Output::Vector(vector)),
            Some(at) => {
                let number = numbers!(self, view => view[[row, at]].wide(), text: _texts => f64::NAN);
                Err(not_finite(number, at))
            }
        }
    }

    fn label(&self, row: usize, labels: &[Arc<str>], by: LabelBy) -> Result<Output, Rejection> {
        let text = numbers!(self, view => (view[[row, 0]].wide() as i64).to_string(), text: texts => texts[row].clone());
        let found = match by {
            LabelBy::Text | LabelBy::NumberAsText => labels.iter().find(|label| ***label == *text),
            LabelBy::Index => text.parse::<usize>().ok().and_then(|index| labels.get(index)),
        };
        match found {
            Some(label) => Ok(Output::Class { label: label.clone(), scores: Vec::new() }),
            None => {
                let text: String = text.chars().take(80).collect();
                let detail =
                    format!("the model answers `{text}`, which is none of the {} labels", labels.len());
                Err(Rejection::new(Reason::ModelFailed, detail))
            }
        }
    }
}

/// Widens every output number, so that scores are computed once for all types.
trait Wide {
    fn wide(self) -> f64;
}

macro_rules! wide {
    ($($cell:ty => |$value:ident| $wide:expr),+ $(,)?) => {
        $(impl Wide for $cell { fn wide(self) -> f64 { let $value = self; $wide } })+
    };
}

wide!(
    f16 => |value| value.to_f64(),
    f32 => |value| f64::from(value),
    f64 => |value| value,
    i32 => |value| f64::from(value),
    i64 => |value| value as f64,
    bool => |value| f64::from(u8::from(value)),
);

fn finite(numbers: &[f64]) -> Result<(), Rejection> {
    match numbers.iter().position(|number| !number.is_finite()) {
        None => Ok(()),
        Some(at) => Err(not_finite(numbers[at], at)),
    }
}

fn not_finite(number: f64, at: usize) -> Rejection {
    let beyond = if number.is_finite() { ", more than f32 holds" } else { "" };
    Rejection::new(Reason::OutputNotFinite, format!("the model answers {number:e}{beyond} at position {at}"))
}

fn apply_to(scores: &mut [f64], apply: Option<Apply>) {
    match apply {
        None => {}
        Some(Apply::Sigmoid) => scores.iter_mut().for_each(|score| *score = sigmoid(*score)),
        Some(Apply::Softmax) => {
            // Less the largest, so that no exponential overflows.
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
            let sum: f64 = scores.iter().sum();
            scores.iter_mut().for_each(|score| *score /= sum);
        }
    }
}

fn second_of_two(number: f64, apply: Option<Apply>) -> Result<f64, Rejection> {
    match apply {
        Some(_) => Ok(sigmoid(number)),
        None if (0.0..=1.0).contains(&number) => Ok(number),
        None => {
            let detail = format!(
                "the model answers {number}, which is no probability; if it is a logit, set `apply: sigmoid`"
            );
            Err(Rejection::new(Reason::ModelFailed, detail))
        }
    }
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// The first of the highest scores wins. Scores travel as f32: a double that is finite only as a double would
/// arrive as infinity.
fn best(labels: &[Arc<str>], scores: &[f64]) -> Result<Output, Rejection> {
    if let Some(at) = scores.iter().position(|&score| !(score as f32).is_finite()) {
        return Err(not_finite(scores[at], at));
    }
    let best = (1..scores.len()).fold(0, |best, at| if scores[at] > scores[best] { at } else { best });
    let scores = labels.iter().cloned().zip(scores.iter().map(|&score| score as f32)).collect();
    Ok(Output::Class { label: labels[best].clone(), scores })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_stands_large_logits_and_adds_up_to_one() {
        let mut scores = [1000.0, 1001.0, 999.0];
        apply_to(&mut scores, Some(Apply::Softmax));
        assert!((scores.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((scores[1] - 0.665).abs() < 1e-3);
    }

    #[test]
    fn one_number_gives_both_scores() {
        assert_eq!(second_of_two(0.0, Some(Apply::Sigmoid)), Ok(0.5));
        assert_eq!(second_of_two(0.25, None), Ok(0.25));
        assert!(second_of_two(2.5, None).unwrap_err().detail.contains("apply: sigmoid"));
    }

    #[test]
    fn equal_scores_go_to_the_first_label() {
        let labels = ["a".into(), "b".into()];
        let Ok(Output::Class { label, scores }) = best(&labels, &[0.5, 0.5]) else { panic!() };
        assert_eq!((&*label, scores.len()), ("a", 2));
    }

    #[test]
    fn a_score_that_only_a_double_can_hold_is_refused_not_sent_as_infinity() {
        let labels = ["a".into(), "b".into()];
        let rejection = best(&labels, &[0.5, 3.5e38]).unwrap_err();
        assert_eq!(rejection.reason, Reason::OutputNotFinite);
        assert!(rejection.detail.ends_with("more than f32 holds at position 1"), "{}", rejection.detail);
        assert!(best(&labels, &[0.5, 3.4e38]).is_ok());
    }
}
