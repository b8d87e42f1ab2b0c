//! What a worker says when it does not start.

mod support;

use std::path::Path;

use support::{class, input, load, load_on, output, path, runtime};
use twinlane_inference::{Error, Model, ModelSource, check_contract};
use twinlane_pipeline::{Device, Dim, FeatureEncoder, Kind, OutputKind, Plan, TensorSpec};

fn x(columns: usize) -> [TensorSpec; 1] {
    [input("x", Kind::Real, &[Dim::Fixed(columns)])]
}

#[test]
fn everything_that_does_not_fit_is_named_with_its_remedy() {
    let outputs = [output("y", OutputKind::Number), output("z", OutputKind::Vector)];
    let Err(Error::Contract { task, problems, .. }) = load("linear", &x(2), &outputs) else {
        panic!("it does not fit")
    };
    assert_eq!(task, "linear");
    assert_eq!(
        problems,
        [
            "input `x`: the model takes f32[batch, 3], the pipeline gives [batch, 2]; \
             give it 3 columns, or export the model with 2",
            "output `z`: output `z` reads it, the model has `y`; name one of these as its `tensor`",
        ]
    );
}

#[test]
fn a_tensor_that_does_not_fit_is_refused_with_its_line_in_the_pipeline_file() {
    let text = "\
pipeline: p
sources: { events: { topic: e, format: json } }
routes: [{ from: events, task: t, lane: precision }]
tasks:
  t:
    models: { full: linear.onnx }
    inputs:
      amount: { columns: [a, b, c] }
    outputs:
      y: { tensor: score, kind: number }
    publish: { topic: answers, format: json }
lanes: { precision: { model: full, device: [cpu], max_batch: 8 } }
dead_letters: { topic: dead }
";
    let plan = Plan::parse(text, "shop.yaml").unwrap();
    let task = &plan.tasks[0];
    let encoder = FeatureEncoder::new(task, &|_| unreachable!("no vocabulary")).unwrap();
    let source = ModelSource {
        task: &task.name,
        path: &path("linear"),
        inputs: encoder.specs(),
        outputs: &task.outputs,
        places: Some(&task.places),
        devices: &[Device::Cpu],
        max_batch: 8,
        parity: None,
        sha256: None,
    };
    let Err(Error::Contract { problems, .. }) = check_contract(&runtime(), &source) else {
        panic!("it does not fit")
    };
    let [filled, needed, read] = &problems[..] else { panic!("{problems:?}") };
    assert!(
        filled.starts_with("shop.yaml:8:") && filled.contains("input `amount`: the pipeline"),
        "{filled}"
    );
    assert!(needed.starts_with("input `x`: the model needs"), "in no line of the file: {needed}");
    assert!(read.starts_with("shop.yaml:10:") && read.contains("output `score`"), "{read}");
}

#[test]
fn a_list_of_maps_is_refused_with_the_option_that_exports_a_tensor() {
    let outputs = [output("maps", class(&["a", "b"], None))];
    let error = load("zipmap", &x(2), &outputs).unwrap_err().to_string();
    assert!(error.contains("`options={\"zipmap\": False}`"), "{error}");
    assert!(
        load("zipmap", &x(2), &[output("index", class(&["a", "b"], None))]).is_ok(),
        "unless nobody reads it"
    );
}

#[test]
fn a_vector_per_step_is_refused_since_its_length_would_follow_the_neighbours() {
    let steps = Dim::Steps { max: 4 };
    let inputs = [input("x", Kind::Real, &[steps, Dim::Fixed(2)])];
    let error = load("per_step", &inputs, &[output("hidden", OutputKind::Vector)]).unwrap_err().to_string();
    assert!(error.contains("export it pooled"), "{error}");
}

#[test]
fn a_batch_of_one_runs_when_the_lane_batches_nothing() {
    let (path, inputs, outputs) = (path("one_row"), x(2), [output("y", OutputKind::Number)]);
    let source = |max_batch| ModelSource {
        task: "one",
        path: &path,
        inputs: &inputs,
        outputs: &outputs,
        places: None,
        devices: &[Device::Cpu],
        max_batch,
        parity: None,
        sha256: None,
    };
    assert!(
        matches!(Model::load(&runtime(), source(32)), Err(Error::Contract { problems, .. }) if problems.len() == 2)
    );
    Model::load(&runtime(), source(1)).unwrap().warm_up().unwrap();
}

#[test]
fn checking_gives_the_digest_that_answers_will_carry() {
    let (path, inputs, outputs) = (path("linear"), x(3), [output("y", OutputKind::Number)]);
    let source = ModelSource {
        task: "t",
        path: &path,
        inputs: &inputs,
        outputs: &outputs,
        places: None,
        devices: &[Device::Cuda],
        max_batch: 8,
        parity: None,
        sha256: None,
    };
    let checked = check_contract(&runtime(), &source).unwrap();
    assert_eq!(&checked, load("linear", &inputs, &outputs).unwrap().digest());
}

#[test]
fn a_gpu_that_is_not_there_is_passed_over_only_when_the_list_says_so() {
    let (inputs, outputs) = (x(3), [output("y", OutputKind::Number)]);
    match load_on("linear", &inputs, &outputs, &[Device::Cuda]) {
        Ok(model) => assert_eq!(model.device(), Device::Cuda, "this machine has a GPU"),
        Err(error) => {
            assert!(matches!(error, Error::NoDevice { .. }), "{error}");
            assert!(error.to_string().contains("cuda: "), "{error}");
            let model = load_on("linear", &inputs, &outputs, &[Device::Cuda, Device::Cpu]).unwrap();
            assert_eq!(model.device(), Device::Cpu);
        }
    }
    assert!(matches!(load_on("linear", &inputs, &outputs, &[]), Err(Error::NoDevice { .. })));
}

#[test]
fn a_file_that_is_no_model_or_not_there_is_named() {
    let (inputs, outputs) = (x(3), [output("y", OutputKind::Number)]);
    let load = |path: &Path| {
        let devices = &[Device::Cuda, Device::Cpu];
        let source = ModelSource {
            task: "t",
            path,
            inputs: &inputs,
            outputs: &outputs,
            places: None,
            devices,
            max_batch: 8,
            parity: None,
            sha256: None,
        };
        Model::load(&runtime(), source).unwrap_err()
    };
    let missing = load(&path("absent"));
    assert!(
        matches!(missing, Error::Read { .. }) && missing.to_string().contains("absent.onnx"),
        "{missing}"
    );
    let script = load(&path("linear").with_file_name("build.py"));
    assert!(matches!(script, Error::Load { .. }) && script.to_string().contains("build.py"), "{script}");
}

#[test]
fn several_threads_share_one_reading_of_the_file() {
    let (path, inputs, outputs) = (path("linear"), x(3), [output("y", OutputKind::Number)]);
    let source = ModelSource {
        task: "t",
        path: &path,
        inputs: &inputs,
        outputs: &outputs,
        places: None,
        devices: &[Device::Cpu],
        max_batch: 8,
        parity: None,
        sha256: None,
    };
    let mut models = Model::load_for(&runtime(), source, |_| 3).unwrap();
    assert_eq!(models.len(), 3);
    assert!(models.iter().all(|model| model.digest() == models[0].digest()));
    models.iter_mut().for_each(|model| model.warm_up().unwrap());
}

#[test]
fn a_file_that_the_pipeline_does_not_mean_is_not_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, "no model").unwrap();
    // `printf 'no model' | sha256sum`
    let its = "f62c7d17e241fe5c5c0c64d2e32ab6e3bd10547a9c02977cc126acc0fe6e6554";
    let other = its.replace('2', "3");
    let (inputs, outputs) = (x(3), [output("y", OutputKind::Number)]);
    let source = |sha256| ModelSource {
        task: "t",
        path: &path,
        inputs: &inputs,
        outputs: &outputs,
        places: None,
        devices: &[Device::Cpu],
        max_batch: 8,
        parity: None,
        sha256: Some(sha256),
    };
    let refused = check_contract(&runtime(), &source(&other)).expect_err("another file").to_string();
    assert!(refused.contains(its) && refused.contains(&other), "{refused}");
    let error = check_contract(&runtime(), &source(its)).expect_err("no model");
    assert!(matches!(error, Error::Load { .. }), "it is the one that is meant: {error}");
}
