//! Models and rows for the tests that run ONNX Runtime. Without the library they fail: a skipped test would
//! say that a model was run.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use twinlane_inference::{Answer, Error, Model, ModelSource, OnnxRuntime};
use twinlane_pipeline::{
    Apply, Device, Dim, Kind, OutputKind, OutputSpec, Row, RowTensor, TensorData, TensorSpec,
};
use twinlane_record::Output;

pub(crate) fn runtime() -> OnnxRuntime {
    #[allow(clippy::disallowed_methods, reason = "tests have no service that reads settings for them")]
    let path = std::env::var("ORT_DYLIB_PATH").unwrap_or_else(|_| {
        panic!(
            "these tests run real models: `cargo xtask test` sets ORT_DYLIB_PATH to ONNX Runtime's library"
        )
    });
    OnnxRuntime::load(Some(Path::new(&path))).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(format!("{name}.onnx"))
}

pub(crate) fn input(name: &str, kind: Kind, dims: &[Dim]) -> TensorSpec {
    TensorSpec { name: name.into(), kind, dims: dims.to_vec() }
}

pub(crate) fn output(tensor: &str, kind: OutputKind) -> OutputSpec {
    OutputSpec { name: tensor.into(), tensor: tensor.into(), kind }
}

pub(crate) fn class(labels: &[&str], apply: Option<Apply>) -> OutputKind {
    OutputKind::Class { labels: labels.iter().map(|&label| label.into()).collect(), apply }
}

pub(crate) fn load(name: &str, inputs: &[TensorSpec], outputs: &[OutputSpec]) -> Result<Model, Error> {
    load_on(name, inputs, outputs, &[Device::Cpu])
}

pub(crate) fn load_on(
    name: &str,
    inputs: &[TensorSpec],
    outputs: &[OutputSpec],
    devices: &[Device],
) -> Result<Model, Error> {
    let path = path(name);
    Model::load(
        &runtime(),
        ModelSource {
            task: name,
            path: &path,
            inputs,
            outputs,
            places: None,
            devices,
            max_batch: 32,
            parity: None,
            sha256: None,
        },
    )
}

pub(crate) fn real(values: &[f64]) -> RowTensor {
    RowTensor { steps: 0, data: TensorData::Real(values.to_vec()) }
}

pub(crate) fn whole(values: &[i64]) -> RowTensor {
    RowTensor { steps: 0, data: TensorData::Integer(values.to_vec()) }
}

pub(crate) fn row(tensors: impl IntoIterator<Item = RowTensor>) -> Row {
    Row { tensors: tensors.into_iter().collect() }
}

/// The one number of an answer with one output.
pub(crate) fn number(answer: &Answer) -> f64 {
    match answer.as_deref() {
        Ok([(_, Output::Number(number))]) => *number,
        other => panic!("a number was expected: {other:?}"),
    }
}

pub(crate) fn label(output: &Output) -> (Arc<str>, Vec<f32>) {
    match output {
        Output::Class { label, scores } => (label.clone(), scores.iter().map(|(_, score)| *score).collect()),
        other => panic!("a class was expected: {other:?}"),
    }
}
