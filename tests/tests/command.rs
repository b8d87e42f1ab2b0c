//! The `twinlane` command against the real Kafka, on the example that the README walks a newcomer through: topics made,
//! services started, answers followed, everything stopped.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use twinlane_testkit::broker::Broker;
use twinlane_testkit::client::{self, Outgoing, Producer};
use twinlane_testkit::process::{Service, ServiceOptions};
use twinlane_testkit::wait;
use twinlane_tests::binary;

const FLOWERS: usize = 150;
const BROKEN: usize = 75;
/// A start with a model to load, on a machine that runs other tests at the same time.
const LIMIT: Duration = Duration::from_secs(60);
/// More than `twinlane run` allows its services before it kills them.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A copy of `pipelines/example-iris` with topics that no other test uses.
struct Garden {
    flowers: String,
    folder: TempDir,
}

impl Garden {
    fn new() -> Self {
        let flowers = client::unique("flowers").to_lowercase();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/example-iris");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = std::fs::read_to_string(example.join("pipeline.yaml")).expect("the example's file");
        let renamed = file.replace("topic: flowers", &format!("topic: {flowers}"));
        assert_eq!(renamed.matches(&flowers).count(), 3, "a source, answers and dead letters:\n{renamed}");
        std::fs::write(folder.path().join("pipeline.yaml"), renamed).expect("written");
        std::fs::copy(example.join("iris.onnx"), folder.path().join("iris.onnx")).expect("copied");
        Self { flowers, folder }
    }

    /// Starts `twinlane` with these words and the pipeline.
    fn twinlane(&self, words: &[&str]) -> Service {
        let cluster = ["--brokers", Broker::shared().bootstrap()];
        let folder = self.folder.path();
        let mut arguments: Vec<_> = words.iter().chain(&cluster).map(|&word| word.to_owned()).collect();
        arguments.push(folder.display().to_string());
        let options = ServiceOptions {
            name: format!("twinlane-{}", words[0]),
            program: binary("twinlane"),
            arguments,
            logs: folder.to_owned(),
            ..ServiceOptions::default()
        };
        Service::spawn(&options).expect("started")
    }

    fn make_topics(&self) {
        let mut topics = self.twinlane(&["topics", "create"]);
        let said = output_of(&mut topics);
        for topic in ["", ".species", ".dead-letters"].map(|suffix| format!("{}{suffix}", self.flowers)) {
            assert!(said.contains(&format!("created  {topic} (")), "{topic} is missing:\n{said}");
        }
    }

    /// Sends the flowers as `send.py` does, with a broken one among them.
    fn send_flowers(&self) {
        let producer = Producer::new(Broker::shared().bootstrap()).expect("a producer");
        for number in 0..FLOWERS {
            let id = id(number);
            let size = number as f64 / 50.0;
            let mut flower = json!({
                "id": id, "sepal_length": 4.5 + size, "sepal_width": 3.0,
                "petal_length": 1.0 + 2.0 * size, "petal_width": 0.2 + 0.8 * size,
            });
            if number == BROKEN {
                flower["petal_width"] = json!("wide");
            }
            let value = flower.to_string();
            let outgoing = Outgoing {
                topic: &self.flowers,
                partition: None,
                key: Some(id.as_bytes()),
                value: Some(value.as_bytes()),
                headers: &[],
                time_ms: None,
            };
            producer.send(&outgoing, ()).expect("accepted");
        }
        assert_eq!(producer.flush().expect("delivered").len(), FLOWERS);
    }

    /// How many records a topic holds for a reader with `read_committed`.
    fn committed(&self, suffix: &str) -> usize {
        let mut count = 0;
        let topic = format!("{}{suffix}", self.flowers);
        client::read_to_end(Broker::shared().bootstrap(), &topic, |_| count += 1).expect("reads");
        count
    }
}

fn id(number: usize) -> String {
    format!("flower-{number}")
}

/// What a command says that ends by itself, and well.
fn output_of(command: &mut Service) -> String {
    let ended = wait::until(LIMIT, || command.process().ended());
    assert_eq!(ended.as_deref(), Some("exit status: 0"), "{}", command.output());
    command.output()
}

/// The children of a process that still run. One that ended and that nobody has asked about yet does not count.
fn children(of: u32) -> Vec<(u32, String)> {
    running().into_iter().filter(|(_, parent, _)| *parent == of).map(|(id, _, name)| (id, name)).collect()
}

fn still_running(processes: &[(u32, String)]) -> Vec<(u32, String)> {
    let all = running();
    let same = |(id, name): &(u32, String)| all.iter().any(|(other, _, found)| other == id && found == name);
    processes.iter().filter(|process| same(process)).cloned().collect()
}

/// Number, parent and name of every process that is not a zombie.
fn running() -> Vec<(u32, u32, String)> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid=,stat=,comm="]).output();
    let output = output.expect("ps (apt-get install procps) lists processes");
    let text = String::from_utf8_lossy(&output.stdout);
    let process = |line: &str| {
        let mut words = line.split_whitespace();
        let (id, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        (!words.next()?.starts_with('Z')).then(|| (id, parent, words.collect::<Vec<_>>().join(" ")))
    };
    text.lines().filter_map(process).collect()
}

#[test]
fn a_newcomer_gets_an_answer_for_every_flower_and_the_reason_for_the_broken_one() {
    let garden = Garden::new();
    garden.make_topics();
    let mut run = garden.twinlane(&["run"]);
    garden.send_flowers();

    let mut tail = garden.twinlane(&["tail", "--from-beginning", "-n", &FLOWERS.to_string()]);
    let followed = wait::until(LIMIT, || tail.process().ended());
    let said = tail.output();
    assert_eq!(followed.as_deref(), Some("exit status: 0"), "{said}\n{}", run.output());
    let (dead, scored): (Vec<_>, Vec<_>) = said.lines().partition(|line| line.contains("DEAD LETTER"));
    assert_eq!((scored.len(), dead.len()), (FLOWERS - 1, 1), "{said}");
    assert!(dead[0].contains("wrong_type: ") && dead[0].contains("petal_width"), "{}", dead[0]);
    assert!(scored.iter().all(|line| line.contains(" species ") && line.contains(" full on cpu ")), "{said}");
    let answered: BTreeSet<_> =
        scored.iter().flat_map(|line| line.split(' ')).filter_map(|word| word.strip_prefix("id=")).collect();
    let flowers: Vec<_> = (0..FLOWERS).filter(|&number| number != BROKEN).map(id).collect();
    assert_eq!(answered, flowers.iter().map(String::as_str).collect(), "every flower once");

    let services = children(run.process().id());
    assert!(services.iter().any(|(_, name)| name.contains("precision")), "{services:?}");
    assert_eq!(run.stop(STOP_LIMIT), Some(0), "{}", run.output());
    assert_eq!(still_running(&services), [], "{}", run.output());
    assert_eq!((garden.committed(".species"), garden.committed(".dead-letters")), (FLOWERS - 1, 1));
}

#[test]
fn the_services_do_not_outlive_a_command_that_is_killed() {
    let garden = Garden::new();
    garden.make_topics();
    let mut run = garden.twinlane(&["run"]);
    let started = run.wait_for_line("precision-worker │", LIMIT);
    started.unwrap_or_else(|error| panic!("{error}"));
    let services = children(run.process().id());
    assert!(services.iter().any(|(_, name)| name.contains("precision")), "{services:?}");
    run.kill();
    let left = || still_running(&services);
    assert!(wait::until(STOP_LIMIT, || left().is_empty().then_some(())).is_some(), "{:?}", left());
}

#[test]
fn a_run_without_its_topics_ends_at_once_and_names_the_command_that_makes_them() {
    let garden = Garden::new();
    let mut run = garden.twinlane(&["run"]);
    let ended = wait::until(LIMIT, || run.process().ended());
    assert_eq!(ended.as_deref(), Some("exit status: 4"), "{}", run.output());
    let said = run.output();
    assert!(said.contains(&garden.flowers) && said.contains("twinlane topics create"), "{said}");
}
