//! The torture rig as a whole, for two minutes with a fixed seed, and a verdict: of processes killed, stopped, hung and
//! gone, a broker killed, the network cut, workers that come and go and a topic that grows, as many as fit. Then for forty
//! seconds with precision workers that read the mixed topic themselves.

use std::{
    process::Command,
    sync::{Mutex, PoisonError},
};

use twinlane_tests::binary;

#[test]
fn nothing_is_lost_repeated_or_reordered_whatever_breaks_for_two_minutes() {
    torture("1.5", 18_000, &[]);
}

#[test]
fn nor_where_workers_read_a_mixed_topic_themselves() {
    torture("0.7", 8_000, &["--direct"]);
}

/// One at a time: either takes all of a small machine.
static RIG: Mutex<()> = Mutex::new(());

fn torture(minutes: &str, events: u64, how: &[&str]) {
    let _alone = RIG.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = folder.path().join("report.json");
    let torture = binary("torture");
    let output = Command::new(&torture)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        // Few events: these are not release builds, and other tests run beside them.
        .args(["--minutes", minutes, "--events", &events.to_string(), "--seed", "1", "--mode", "settle"])
        .args(how)
        .args([
            "--faults",
            "kill-router,kill-precision,terminate-throughput,freeze-precision,gone-throughput",
        ])
        .args(["--faults", "broker-kill,network-cut,scale,add-partitions"])
        .arg("--json")
        .arg(&report)
        .arg("--keep-logs")
        .arg(folder.path().join("logs"))
        .arg("--binaries")
        .arg(torture.parent().expect("a binary lies in a folder"))
        .output()
        .expect("the rig starts");
    let said =
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");

    let report = std::fs::read(&report).expect("the report is written");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("the report is JSON");
    let count = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("no count {name} in {report:#}"));
    assert_eq!(count("produced"), count("answered"), "{report:#}");
    assert!(count("produced") >= events && count("dead_lettered") > 0, "{report:#}");
    let wrong = ["lost", "repeated", "reordered", "misjudged", "foreign", "wrong_content"];
    assert_eq!(wrong.map(count), [0; 6], "{report:#}");
    assert_eq!(count("seed"), 1);
    let faults = report["faults"].as_object().expect("faults by kind");
    assert!(faults.len() > 1, "{report:#}");
    for kind in faults.keys() {
        assert!(report["recovery_s"][kind]["worst"].is_number(), "{kind} in {report:#}");
    }
}
