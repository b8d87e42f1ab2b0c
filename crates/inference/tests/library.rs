//! A process of its own: once a library is loaded, no other is tried.

mod support;

use std::path::Path;

use twinlane_inference::OnnxRuntime;

#[test]
fn a_library_that_cannot_be_loaded_is_named_with_the_remedy_and_another_may_be_tried() {
    let error = OnnxRuntime::load(Some(Path::new("/nowhere/libonnxruntime.so"))).unwrap_err().to_string();
    assert!(error.starts_with("cannot load ONNX Runtime from /nowhere/libonnxruntime.so: "), "{error}");
    assert!(error.contains("cargo xtask setup") && error.contains("ORT_DYLIB_PATH"), "{error}");
    support::runtime();
    OnnxRuntime::load(Some(Path::new("/nowhere/libonnxruntime.so"))).expect("the one that is loaded answers");
}
