//! What comes out of real models, of every type and shape that a pipeline can name.

mod support;

use support::{class, input, label, load, number, output, real, row, whole};
use twinlane_inference::Answer;
use twinlane_pipeline::{Apply, Device, Dim, Kind, OutputKind, Row, RowTensor, TensorData};
use twinlane_record::Output;

fn first(answer: &Answer) -> &Output {
    &answer.as_ref().expect("the row is answered")[0].1
}

#[test]
fn a_linear_model_answers_each_row_in_order() {
    let inputs = [input("x", Kind::Real, &[Dim::Fixed(3)])];
    let mut model = load("linear", &inputs, &[output("y", OutputKind::Number)]).unwrap();
    model.warm_up().unwrap();
    let rows: Vec<Row> = (0..5).map(|n| row([real(&[f64::from(n), 1.0, 0.0])])).collect();
    let answers: Vec<f64> = model.run(&rows).unwrap().iter().map(number).collect();
    assert_eq!(answers, [2.5, 3.5, 4.5, 5.5, 6.5]);
    assert_eq!(model.run(&[]).unwrap(), []);
    assert_eq!(model.device(), Device::Cpu);
}

#[test]
fn a_class_and_a_vector_come_from_one_run() {
    let inputs = [input("x", Kind::Real, &[Dim::Fixed(3)])];
    let outputs = [
        output("logits", class(&["low", "middle", "high"], Some(Apply::Softmax))),
        output("pooled", OutputKind::Vector),
    ];
    let mut model = load("classes", &inputs, &outputs).unwrap();
    let answer = model.run(&[row([real(&[0.0, 1.0, 3.0])])]).unwrap().remove(0).unwrap();
    let (name, scores) = label(&answer[0].1);
    assert_eq!((&*answer[0].0, &*name), ("logits", "high"));
    assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    assert!((scores[2] - 0.8438).abs() < 1e-4, "{scores:?}");
    assert_eq!(answer[1], ("pooled".into(), Output::Vector(vec![0.0, 1.0])));
}

#[test]
fn sigmoid_and_none_leave_each_score_to_itself() {
    let inputs = [input("x", Kind::Real, &[Dim::Fixed(3)])];
    let labels = ["a", "b", "c"];
    let scores = |apply| {
        let mut model = load("classes", &inputs, &[output("logits", class(&labels, apply))]).unwrap();
        let answers = model.run(&[row([real(&[0.0, 2.0, -2.0])])]).unwrap();
        label(first(&answers[0]))
    };
    let (name, sigmoid) = scores(Some(Apply::Sigmoid));
    assert_eq!((&*name, sigmoid[0]), ("b", 0.5));
    assert!((sigmoid[1] + sigmoid[2] - 1.0).abs() < 1e-6);
    assert_eq!(scores(None), ("b".into(), vec![0.0, 2.0, -2.0]));
}

#[test]
fn one_logit_gives_the_scores_of_two_classes() {
    let inputs = [input("x", Kind::Real, &[Dim::Fixed(1)])];
    let two = class(&["legitimate", "fraudulent"], Some(Apply::Sigmoid));
    let mut model = load("one_logit", &inputs, &[output("logit", two)]).unwrap();
    let answers = model.run(&[row([real(&[0.0])]), row([real(&[4.0])])]).unwrap();
    assert_eq!(label(first(&answers[0])), ("legitimate".into(), vec![0.5, 0.5]));
    let (name, scores) = label(first(&answers[1]));
    assert_eq!(&*name, "fraudulent");
    assert!((scores[0] - 0.0180).abs() < 1e-4 && (scores[0] + scores[1] - 1.0).abs() < 1e-6);
}

#[test]
fn doubles_keep_the_milliseconds_of_a_timestamp() {
    let inputs = [input("x", Kind::Real, &[])];
    let mut model = load("double", &inputs, &[output("y", OutputKind::Number)]).unwrap();
    let answers = model.run(&[row([real(&[1_700_000_000.125])])]).unwrap();
    assert_eq!(number(&answers[0]), 0.125);
}

#[test]
fn halves_go_in_and_come_out_and_refuse_what_they_cannot_hold() {
    let inputs = [input("x", Kind::Real, &[Dim::Fixed(2)])];
    let mut model = load("half", &inputs, &[output("y", OutputKind::Vector)]).unwrap();
    let answers =
        model.run(&[row([real(&[1.0, 2.0])]), row([real(&[1e6, 0.0])]), row([real(&[2.0, 0.0])])]).unwrap();
    assert_eq!(first(&answers[0]), &Output::Vector(vec![4.5]));
    assert!(
        answers[1].as_ref().unwrap_err().to_string().starts_with("not_finite: tensor `x` (f16): 1000000")
    );
    assert_eq!(first(&answers[2]), &Output::Vector(vec![1.0]));
}

#[test]
fn whole_numbers_and_booleans_fill_columns_of_their_own() {
    let inputs =
        [input("member", Kind::Bool, &[]), input("day", Kind::Real, &[]), input("count", Kind::Integer, &[])];
    let mut model = load("mixed", &inputs, &[output("y", OutputKind::Number)]).unwrap();
    model.warm_up().unwrap();
    let member = |value| RowTensor { steps: 0, data: TensorData::Bool(vec![value]) };
    let rows = [
        row([member(true), real(&[6.0]), whole(&[7])]),
        row([member(false), real(&[6.5]), whole(&[7])]),
        row([member(false), real(&[1.0]), whole(&[2])]),
    ];
    let answers = model.run(&rows).unwrap();
    assert_eq!((number(&answers[0]), number(&answers[2])), (167.0, 12.0));
    let refused = answers[1].as_ref().unwrap_err().to_string();
    assert_eq!(refused, "not_finite: tensor `day` (i32): 6.5 does not fit");
}

#[test]
fn a_fixed_number_of_steps_is_filled_up_with_zeros() {
    let inputs = [input("x", Kind::Real, &[Dim::Steps { max: 3 }, Dim::Fixed(1)])];
    let mut model = load("four_steps", &inputs, &[output("y", OutputKind::Number)]).unwrap();
    model.warm_up().unwrap();
    let steps = |values: &[f64]| row([RowTensor { steps: values.len(), ..real(values) }]);
    let answers = model.run(&[steps(&[1.0, 2.0, 3.0]), steps(&[]), steps(&[5.0])]).unwrap();
    assert_eq!(answers.iter().map(number).collect::<Vec<_>>(), [6.0, 0.0, 5.0]);
}

#[test]
fn a_scikit_learn_classifier_is_read_by_label_or_by_probabilities() {
    let inputs = [input("x", Kind::Real, &[Dim::Fixed(2)])];
    let answer = |tensor: &str, labels: &[&str]| {
        let mut model = load("classifier", &inputs, &[output(tensor, class(labels, None))]).unwrap();
        let answers = model.run(&[row([real(&[3.0, 0.0])]), row([real(&[0.0, 3.0])])]).unwrap();
        [label(first(&answers[0])), label(first(&answers[1]))]
    };
    let probabilities = answer("probabilities", &["ham", "spam"]);
    assert_eq!((&*probabilities[0].0, &*probabilities[1].0), ("ham", "spam"));
    assert!((probabilities[1].1[1] - 0.9526).abs() < 1e-4);
    assert_eq!(answer("name", &["ham", "spam"])[1], ("spam".into(), vec![]), "texts");
    assert_eq!(answer("label", &["0", "10"])[1], ("10".into(), vec![]), "the class's own number");
    assert_eq!(answer("index", &["ham", "spam"])[1], ("spam".into(), vec![]), "its index");
}

#[test]
fn a_label_that_the_pipeline_does_not_list_is_that_rows_failure() {
    let inputs = [input("x", Kind::Real, &[Dim::Fixed(2)])];
    let mut model = load("classifier", &inputs, &[output("name", class(&["ham", "eggs"], None))]).unwrap();
    let answers = model.run(&[row([real(&[3.0, 0.0])]), row([real(&[0.0, 3.0])])]).unwrap();
    assert_eq!(&*label(first(&answers[0])).0, "ham");
    assert_eq!(
        answers[1].as_ref().unwrap_err().to_string(),
        "model_failed: output `name`: the model answers `spam`, which is none of the 2 labels"
    );
}
