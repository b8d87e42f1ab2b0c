//! A record that its model cannot take costs its neighbours nothing, and a broken session blames no record.

mod support;

use support::{input, load, number, output, real, row, whole};
use twinlane_inference::RunError;
use twinlane_pipeline::{
    Dim, FeatureEncoder, Kind, OutputKind, Plan, Row, RowTensor, TensorData, TensorSpec,
};
use twinlane_record::{EventDecoder, Output, Reason};

fn index() -> [TensorSpec; 1] {
    [input("index", Kind::Integer, &[])]
}

#[test]
fn not_a_number_is_a_matter_of_its_row() {
    let mut model = load("root", &[input("x", Kind::Real, &[])], &[output("y", OutputKind::Number)]).unwrap();
    let answers = model.run(&[row([real(&[4.0])]), row([real(&[-1.0])]), row([real(&[9.0])])]).unwrap();
    assert_eq!((number(&answers[0]), number(&answers[2])), (2.0, 3.0));
    let rejection = answers[1].as_ref().unwrap_err();
    assert_eq!(rejection.reason, Reason::OutputNotFinite);
    assert_eq!(rejection.detail, "output `y`: the model answers NaN at position 0");
}

#[test]
fn a_batch_that_fails_is_cut_until_the_offending_records_stand_alone() {
    let mut model = load("lookup", &index(), &[output("y", OutputKind::Vector)]).unwrap();
    model.warm_up().unwrap();
    for bad in [vec![], vec![0], vec![31], vec![5, 6, 20], (0..32).collect::<Vec<usize>>()] {
        let at = |n: usize| if bad.contains(&n) { 99 } else { (n % 4) as i64 };
        let rows: Vec<Row> = (0..32).map(|n| row([whole(&[at(n)])])).collect();
        for (n, answer) in model.run(&rows).unwrap().into_iter().enumerate() {
            match answer {
                Ok(outputs) => {
                    let expected = (n % 4) as f32;
                    assert!(!bad.contains(&n), "{n}");
                    assert_eq!(
                        outputs[0].1,
                        Output::Vector(vec![expected, expected + 0.5]),
                        "{n} of {bad:?}"
                    );
                }
                Err(rejection) => {
                    assert!(bad.contains(&n), "{n} was none of {bad:?}: {rejection}");
                    assert_eq!(rejection.reason, Reason::ModelFailed);
                    assert!(rejection.detail.contains("99"), "the model's own words: {}", rejection.detail);
                }
            }
        }
    }
}

#[test]
fn a_shape_that_depends_on_the_data_costs_the_rows_that_cause_it_not_the_worker() {
    let mut model =
        load("compress", &[input("x", Kind::Real, &[])], &[output("y", OutputKind::Number)]).unwrap();
    model.warm_up().unwrap();
    let rows = [1.0, -1.0, 2.0, 3.0, -2.0].map(|x| row([real(&[x])]));
    let answers = model.run(&rows).unwrap();
    assert_eq!([0, 2, 3].map(|at| number(&answers[at])), [1.0, 2.0, 3.0]);
    for at in [1, 4] {
        let rejection = answers[at].as_ref().unwrap_err();
        assert_eq!(rejection.reason, Reason::ModelFailed);
        assert_eq!(
            rejection.detail,
            "output tensor `y` came back as f32[0] where [1, 1] of numbers is needed"
        );
    }
}

#[test]
fn a_session_that_fails_for_any_input_is_broken_and_no_record_is_blamed() {
    let mut model = load("broken", &index(), &[output("y", OutputKind::Number)]).unwrap();
    let warm_up = model.warm_up().unwrap_err().to_string();
    assert!(warm_up.starts_with("the model of task `broken` fails on a warm-up batch of 1: "), "{warm_up}");
    let rows: Vec<Row> = (0..4).map(|n| row([whole(&[n])])).collect();
    match model.run(&rows) {
        Err(RunError::SessionBroken(why)) => assert!(!why.is_empty()),
        other => panic!("{other:?}"),
    }
}

/// Deterministic noise, so that a failure can be repeated.
fn noise(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 11) as f64 / (1_u64 << 53) as f64 * 4.0 - 2.0
}

#[test]
fn a_score_is_the_same_alone_and_in_any_batch() {
    const TOLERANCE: f64 = 1e-5;
    let steps = Dim::Steps { max: 12 };
    let inputs = [
        input("history", Kind::Real, &[steps, Dim::Fixed(2)]),
        input("history_mask", Kind::Integer, &[steps]),
    ];
    let mut model = load("sequence", &inputs, &[output("score", OutputKind::Number)]).unwrap();
    model.warm_up().unwrap();

    let mut seed = 7;
    let rows: Vec<Row> = (0..96)
        .map(|n| {
            let length = (n * 5) % 13;
            let history: Vec<f64> =
                (0..length * 2).map(|_| noise(&mut seed) * if n == 40 { 1e6 } else { 1.0 }).collect();
            row([
                RowTensor { steps: length, ..real(&history) },
                RowTensor { steps: length, data: TensorData::Integer(vec![1; length]) },
            ])
        })
        .collect();
    let alone: Vec<f64> =
        rows.iter().map(|row| number(&model.run(std::slice::from_ref(row)).unwrap()[0])).collect();
    for size in [2, 3, 7, 32, 96] {
        for (at, batch) in rows.chunks(size).enumerate() {
            for (n, answer) in model.run(batch).unwrap().iter().enumerate() {
                let (alone, together) = (alone[at * size + n], number(answer));
                assert!(
                    (alone - together).abs() < TOLERANCE,
                    "row {n} of {size}: {alone} alone, {together} together"
                );
            }
        }
    }
}

const MEAN: &str = "
pipeline: mean
sources:
  orders: { topic: orders, format: json }
routes:
  - { from: orders, task: mean, lane: precision }
tasks:
  mean:
    models: { full: mean.onnx }
    inputs:
      x: { each: history, keep_last: 4, columns: [amount] }
    outputs:
      y: { tensor: y, kind: number }
    publish: { topic: means, format: json }
lanes:
  precision: { model: full, device: [cpu], max_batch: 32 }
dead_letters: { topic: mean.dead-letters }
";

#[test]
fn without_a_mask_too_a_score_does_not_depend_on_the_neighbours_history() {
    // The model takes the mean over all steps, padding included: it notices each step too many.
    let plan = Plan::parse(MEAN, "mean.yaml").unwrap();
    let task = &plan.tasks[0];
    let encoder = FeatureEncoder::new(task, &|_| unreachable!("no vocabulary")).unwrap();
    let mut model = load("mean", encoder.specs(), &task.outputs).unwrap();
    let rows =
        ["[]", r#"[{"amount": 8}]"#, r#"[{"amount": 1}, {"amount": 2}, {"amount": 3}, {"amount": 6}]"#].map(
            |history| {
                let event =
                    EventDecoder::json().decode(format!(r#"{{"history": {history}}}"#).as_bytes()).unwrap();
                encoder.encode(&event.value).unwrap()
            },
        );
    let alone: Vec<f64> =
        rows.iter().map(|row| number(&model.run(std::slice::from_ref(row)).unwrap()[0])).collect();
    let together: Vec<f64> = model.run(&rows).unwrap().iter().map(number).collect();
    assert_eq!((alone, together), (vec![0.0, 2.0, 3.0], vec![0.0, 2.0, 3.0]));
}
