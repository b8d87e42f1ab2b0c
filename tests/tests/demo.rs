//! The demo as a whole, with few events: the reference pipeline, its models and its schemas, every kind of damaged
//! Avro event, a worker killed in the middle, and a verdict.

use std::process::Command;

use twinlane_testkit::broker::{Broker, EXISTING_CLUSTER};
use twinlane_tests::binary;

#[test]
fn the_demo_answers_every_event_once_and_says_so_to_machines() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = folder.path().join("verdict.json");
    let demo = binary("demo");
    let output = Command::new(&demo)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(["--events", "2000", "--json"])
        .arg(&report)
        .arg("--binaries")
        .arg(demo.parent().expect("a binary lies in a folder"))
        .env(EXISTING_CLUSTER, Broker::shared().bootstrap())
        .output()
        .expect("the demo starts");
    let said =
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Every event was answered exactly once, and in order."), "{said}");

    let report = std::fs::read(&report).expect("the verdict is written");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("the verdict is JSON");
    let count = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("no count {name} in {report:#}"));
    assert_eq!((count("produced"), count("answered")), (2000, 2000));
    assert_eq!([count("lost"), count("repeated"), count("reordered")], [0; 3]);
    // One in a hundred is spoiled: of every ten, eight are dead letters and two are skipped.
    assert_eq!((count("skipped"), count("dead_lettered")), (4, 16));
    assert!(report["elapsed_s"].as_f64().is_some_and(|seconds| seconds > 0.0), "{report:#}");
    for lane in ["precision", "throughput"] {
        let lane = &report["lanes"][lane];
        assert!(lane["scored"].as_u64().is_some_and(|scored| scored > 500), "{report:#}");
        assert!(lane["dead_lettered"].is_u64(), "{report:#}");
        for figure in ["events_per_s", "p50_ms", "p99_ms", "f1"] {
            assert!(lane[figure].as_f64().is_some_and(|value| value > 0.0), "{figure} in {report:#}");
        }
        assert_eq!(lane["device"], "cpu");
    }
}
