//! What profiles say, and a real one.

use std::path::Path;

use super::*;
use crate::{OnnxRuntime, device::Opener};

/// Recorded from ONNX Runtime 1.31.1 on a CPU (tests/models/classifier.onnx), the sizes in `args` left out.
const ON_CPU: &str = r#"[
{"cat" : "Session","pid" :7923,"tid" :7923,"dur" :411,"ts" :9,"ph" : "X","name" :"model_loading_uri","args" : {}},
{"cat" : "Session","pid" :7923,"tid" :7923,"dur" :9598,"ts" :467,"ph" : "X","name" :"session_initialization","args" : {}},
{"cat" : "Node","pid" :7923,"tid" :7923,"dur" :116,"ts" :10256,"ph" : "X","name" :"Softmax_0_kernel_time","args" : {"op_name" : "Softmax","parameter_size" : "0","provider" : "CPUExecutionProvider","output_type_shape" : [{"float":[1,2]}],"node_index" : "0"}},
{"cat" : "Node","pid" :7923,"tid" :7923,"dur" :35,"ts" :10379,"ph" : "X","name" :"ArgMax_1_kernel_time","args" : {"output_type_shape" : [{"int64":[1]}],"node_index" : "1","provider" : "CPUExecutionProvider","op_name" : "ArgMax","thread_scheduling_stats" : {"main_thread": {"core": -1}, "sub_threads": {}}}},
{"cat" : "Node","pid" :7923,"tid" :7923,"dur" :34,"ts" :10420,"ph" : "X","name" :"LabelEncoder_3_kernel_time","args" : {"op_name" : "LabelEncoder","provider" : "CPUExecutionProvider"}},
{"cat" : "Node","pid" :7923,"tid" :7923,"dur" :35,"ts" :10460,"ph" : "X","name" :"Mul_2_kernel_time","args" : {"op_name" : "Mul","provider" : "CPUExecutionProvider","parameter_size" : "8"}},
{"cat" : "Session","pid" :7923,"tid" :7923,"dur" :249,"ts" :10252,"ph" : "X","name" :"SequentialExecutor::Execute","args" : {}},
{"cat" : "Session","pid" :7923,"tid" :7923,"dur" :264,"ts" :10242,"ph" : "X","name" :"model_run","args" : {}}
]"#;

/// Nodes as ONNX Runtime writes them, the CPU's from a recording, CUDA's by its name: no GPU was at hand.
fn profile(nodes: &[(&str, &str)]) -> String {
    let events = nodes.iter().map(|(operator, provider)| {
        format!(
            r#"{{"cat" : "Node","pid" :1,"tid" :1,"dur" :35,"ts" :9,"ph" : "X","name" :"{operator}_kernel_time","args" : {{"op_name" : "{operator}","provider" : "{provider}ExecutionProvider"}}}}"#
        )
    });
    format!("[\n{}\n]\n", events.collect::<Vec<_>>().join(",\n"))
}

fn verify(nodes: &[(&str, &str)], device: Device) -> Result<String, String> {
    ran_on(&profile(nodes)).unwrap().verify(device)
}

#[test]
fn a_recorded_profile_of_a_cpu_bears_out_the_cpu_and_nothing_else() {
    let placement = ran_on(ON_CPU).unwrap();
    let operators = ["Softmax", "ArgMax", "LabelEncoder", "Mul"].map(str::to_owned);
    assert_eq!(placement.providers, [("CPUExecutionProvider".to_owned(), operators.to_vec())].into());
    assert_eq!(placement.verify(Device::Cpu).unwrap(), "4 of 4");
    let refusal = placement.verify(Device::Cuda).unwrap_err();
    assert!(
        refusal.contains("nodes here: 0 of 4, elsewhere ArgMax, LabelEncoder, Mul, Softmax"),
        "{refusal}"
    );
}

#[test]
fn a_network_on_the_gpu_is_borne_out_and_what_the_cpu_helps_with_is_told() {
    let network = [("MemcpyFromHost", "CUDA"), ("Conv", "CUDA"), ("Relu", "CUDA"), ("Gemm", "CUDA")];
    assert_eq!(verify(&network, Device::Cuda).unwrap(), "3 of 3");
    let shapes = [("Shape", "CPU"), ("Gather", "CPU"), ("Unsqueeze", "CPU"), ("Concat", "CPU")];
    let with_shapes = [&network[..], &shapes, &[("TopK", "CPU")]].concat();
    assert_eq!(verify(&with_shapes, Device::Cuda).unwrap(), "3 of 4, elsewhere TopK");
}

#[test]
fn copies_to_and_from_the_gpu_do_not_make_a_model_the_gpus() {
    let nodes = [("MemcpyFromHost", "CUDA"), ("Cast", "CUDA"), ("Softmax", "CPU"), ("MemcpyToHost", "CUDA")];
    assert!(verify(&nodes, Device::Cuda).unwrap_err().contains("0 of 1"));
    assert!(verify(&nodes[..2], Device::Cuda).is_err(), "nothing computes");
}

#[test]
fn a_tree_on_the_cpu_is_the_cpus_although_its_scaling_runs_on_the_gpu() {
    let nodes =
        [("Sub", "CUDA"), ("Div", "CUDA"), ("TreeEnsembleClassifier", "CPU"), ("MemcpyFromHost", "CUDA")];
    let refusal = verify(&nodes, Device::Cuda).unwrap_err();
    assert!(refusal.contains("2 of 3, elsewhere TreeEnsembleClassifier") && refusal.contains("`cpu`"));
}

#[test]
fn a_gpu_with_less_than_half_of_the_nodes_does_not_run_the_model() {
    let nodes = [("MatMul", "CUDA"), ("LSTM", "CPU"), ("Einsum", "CPU")];
    assert!(verify(&nodes, Device::Cuda).is_err());
    assert!(verify(&nodes[..2], Device::Cuda).is_ok());
}

#[test]
fn waits_around_a_node_and_other_events_are_not_counted() {
    let text = r#"[{"cat":"Node","name":"a_fence_before","args":{"op_name":"Conv"}},{"name":"x"},
        {"cat":"Kernel","name":"sgemm","args":{"op_name":"Conv","provider":"CUDAExecutionProvider"}}]"#;
    assert_eq!(ran_on(text).unwrap(), Placement::default());
    assert!(ran_on("[").unwrap_err().contains("unreadable"));
}

#[test]
fn a_real_profile_says_where_each_node_of_a_session_ran() {
    #[allow(clippy::disallowed_methods, reason = "tests have no service that reads settings for them")]
    let library = std::env::var("ORT_DYLIB_PATH").expect("`cargo xtask test` sets ORT_DYLIB_PATH");
    let runtime = OnnxRuntime::load(Some(Path::new(&library))).unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/classes.onnx");
    let bytes = fs::read(file).unwrap();

    let profile = Profile::begin().unwrap();
    let folder = profile.prefix().parent().unwrap().to_owned();
    let session =
        Opener { runtime: &runtime, bytes: &bytes, captures: false }.open(Device::Cpu, Some(&profile));
    let mut session = session.unwrap().session;
    let run = |session: &mut Session| {
        let x = ort::value::TensorRef::from_array_view(([1_usize, 3], &[0.0_f32, 1.0, 2.0][..])).unwrap();
        session.run(ort::inputs![x]).map(drop).unwrap();
    };
    run(&mut session);
    let placement = profile.end(&mut session).unwrap();
    assert_eq!(placement.verify(Device::Cpu).unwrap(), "2 of 2");
    assert!(placement.verify(Device::Cuda).is_err());

    // Nothing is written once the profile has ended, and nothing stays behind.
    let written =
        || fs::read_dir(&folder).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum::<u64>();
    let before = written();
    run(&mut session);
    assert_eq!(written(), before);
    drop(profile);
    assert!(!folder.exists());
}
