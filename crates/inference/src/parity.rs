//! Whether a device answers as the CPU does: f16, other orders of summing and other kernels move the digits, and a broken
//! driver or kernel moves more. Compared are made-up rows, before the device is given an event.

use twinlane_pipeline::{Kind, Row, TensorData, TensorSpec};
use twinlane_record::Output;

use crate::{model::Answer, warm_up};

/// Most that a score may differ; most that a number may differ, as a part of one and itself.
pub(crate) const TOLERANCE: f64 = 0.02;
/// Rows that are compared, of different lengths.
const ROWS: usize = 4;

/// Rows that no two numbers of which are alike. Whole numbers are what they are for warming up: more might lie beyond a
/// table of the model.
pub(crate) fn rows(specs: &[TensorSpec]) -> Vec<Row> {
    let mut numbers = (1_u32..).map(|n| f64::from(n.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24));
    (0..ROWS)
        .map(|at| {
            // 1, 5, 25 and 125 steps, or as many as there are at most.
            let mut row = warm_up::row_of(specs, 5_usize.pow(at as u32));
            for (tensor, spec) in row.tensors.iter_mut().zip(specs) {
                if let (Kind::Real, TensorData::Real(values)) = (spec.kind, &mut tensor.data) {
                    values.fill_with(|| numbers.next().expect("there is always another"));
                }
            }
            row
        })
        .collect()
}

/// The largest difference, in parts of the tolerance; the error says which answer differs by more.
pub(crate) fn compare(device: &[Answer], cpu: &[Answer]) -> Result<f64, String> {
    let mut largest = 0.0_f64;
    for (at, (ours, theirs)) in device.iter().zip(cpu).enumerate() {
        let (ours, theirs) = match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => (ours, theirs),
            // A made-up row may be one that the model cannot take.
            (_, Err(_)) => continue,
            (Err(why), Ok(_)) => return Err(format!("row {at}: the device gives no answer: {}", why.detail)),
        };
        for ((name, ours), (_, theirs)) in ours.iter().zip(theirs) {
            let apart = apart(ours, theirs) / TOLERANCE;
            if apart.is_nan() || apart > 1.0 {
                return Err(format!("row {at}, output `{name}`: {ours:?} instead of {theirs:?}"));
            }
            largest = largest.max(apart);
        }
    }
    Ok(largest)
}

fn apart(ours: &Output, theirs: &Output) -> f64 {
    let relative = |a: f64, b: f64| (a - b).abs() / (1.0 + b.abs());
    let most = |differences: &mut dyn Iterator<Item = f64>| differences.fold(0.0, f64::max);
    match (ours, theirs) {
        (Output::Number(a), Output::Number(b)) => relative(*a, *b),
        (Output::Vector(a), Output::Vector(b)) if a.len() == b.len() => {
            most(&mut a.iter().zip(b).map(|(a, b)| relative(f64::from(*a), f64::from(*b))))
        }
        // Labels without scores must be the same ones; with scores, these say how near it was.
        (Output::Class { label: a, scores: of_a }, Output::Class { label: b, scores: of_b }) => {
            if of_b.is_empty() && a != b {
                return f64::INFINITY;
            }
            most(&mut of_a.iter().zip(of_b).map(|((_, a), (_, b))| f64::from((a - b).abs())))
        }
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use twinlane_pipeline::Dim;
    use twinlane_record::{Reason, Rejection};

    use super::*;

    fn class(label: &str, second: f32) -> Answer {
        let scores = vec![("a".into(), 1.0 - second), ("b".into(), second)];
        Ok(vec![("y".into(), Output::Class { label: label.into(), scores })])
    }

    fn number(number: f64) -> Answer {
        Ok(vec![("y".into(), Output::Number(number))])
    }

    #[test]
    fn what_rounding_moves_is_let_pass_and_more_is_not() {
        assert!(compare(&[class("a", 0.499)], &[class("b", 0.501)]).unwrap() < 0.2, "near one half");
        assert!(compare(&[class("a", 0.4)], &[class("b", 0.6)]).unwrap_err().contains("output `y`"));
        assert!(compare(&[number(1_010.0)], &[number(1_000.0)]).is_ok(), "one per cent of a large number");
        assert!(compare(&[number(1.1)], &[number(1.0)]).is_err());
        assert!(compare(&[number(f64::NAN)], &[number(1.0)]).is_err());
    }

    #[test]
    fn a_device_must_answer_what_the_cpu_answers() {
        let refused = || Err(Rejection::new(Reason::NotFinite, "NaN"));
        assert!(compare(&[refused()], &[number(1.0)]).unwrap_err().contains("NaN"));
        assert!(compare(&[number(1.0)], &[refused()]).is_ok(), "what the CPU refuses proves nothing");
    }

    #[test]
    fn rows_have_different_lengths_and_numbers() {
        let steps = Dim::Steps { max: 40 };
        let specs = [
            TensorSpec { name: "x".into(), kind: Kind::Real, dims: vec![steps, Dim::Fixed(2)] },
            TensorSpec { name: "m".into(), kind: Kind::Integer, dims: vec![steps] },
        ];
        let rows = rows(&specs);
        assert_eq!(rows.iter().map(|row| row.tensors[1].steps).collect::<Vec<_>>(), [1, 5, 25, 40]);
        let TensorData::Real(values) = &rows[1].tensors[0].data else { panic!("real") };
        assert!(values.len() == 10 && values.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(values.iter().all(|value| (0.0..1.0).contains(value)));
    }
}
