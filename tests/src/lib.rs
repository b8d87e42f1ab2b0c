//! Whole services against the real Kafka: a small shop with a mixed topic and one that needs no router, and
//! the three services as processes of their own. `cargo xtask test` builds their binaries first.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use tempfile::TempDir;
use twinlane_testkit::{
    Service,
    broker::Broker,
    checker::{Checker, Expected, Verdict},
    client::{self, Outgoing, Producer},
    process::{ServiceOptions, free_port},
};

/// Partitions of every topic of the shop.
pub const PARTITIONS: i32 = 3;
const READY: Duration = Duration::from_secs(60);
const ANSWERED: Duration = Duration::from_secs(120);

/// A pipeline of its own, with topics that no other test uses.
pub struct Shop {
    name: String,
    folder: TempDir,
    bootstrap: String,
    /// What was produced, by the coordinates that the broker gave it.
    produced: Mutex<HashMap<String, Event>>,
}

impl Shop {
    /// Writes the pipeline file and creates its source topics.
    pub fn open() -> Self {
        Self::open_at(Broker::shared().bootstrap())
    }

    /// As [`Shop::open`], on a cluster of the test's own.
    pub fn open_at(bootstrap: &str) -> Self {
        let bootstrap = bootstrap.to_owned();
        let name = client::unique("shop").to_lowercase().replace(['.', '_'], "-");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/inference/tests/models");
        let models = models.canonicalize().expect("the models are in the repository");
        let file =
            include_str!("shop.yaml").replace("{shop}", &name).replace("{models}", &models.to_string_lossy());
        std::fs::write(folder.path().join("pipeline.yaml"), file).expect("written");
        for source in ["events", "reviews"] {
            let settings = [("max.message.bytes", "2000000")];
            client::create_topic(&bootstrap, &format!("{name}.{source}"), PARTITIONS, &settings)
                .expect("created");
        }
        Self { name, folder, bootstrap, produced: Mutex::default() }
    }

    /// A topic of the shop.
    pub fn topic(&self, of: &str) -> String {
        format!("{}.{of}", self.name)
    }

    /// Address of the cluster.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Replaces text of the pipeline file, as one does who repairs it; services read it when they start.
    ///
    /// # Panics
    /// When the text is not there.
    pub fn repair(&self, from: &str, to: &str) {
        let file = self.folder.path().join("pipeline.yaml");
        let text = std::fs::read_to_string(&file).expect("the file");
        assert!(text.contains(from), "`{from}` is not in the pipeline file:\n{text}");
        std::fs::write(file, text.replace(from, to)).expect("written");
    }

    /// Starts the `twinlane` command with these words on this cluster; `PIPELINE` among them stands for the shop's.
    pub fn twinlane(&self, words: &[&str]) -> Service {
        let folder = self.folder.path().to_string_lossy();
        let words = words.iter().map(|&word| if word == "PIPELINE" { &folder } else { word });
        let options = ServiceOptions {
            name: client::unique("twinlane"),
            program: binary("twinlane"),
            arguments: words.chain(["--brokers", &self.bootstrap]).map(str::to_owned).collect(),
            logs: self.folder.path().to_owned(),
            ..ServiceOptions::default()
        };
        Service::spawn(&options).expect("spawned")
    }

    /// Starts a service and waits until it is ready.
    pub fn start(&self, service: &str, ordinal: u32) -> Service {
        let admin = free_port().expect("a free port");
        let file = self.folder.path().join("pipeline.yaml");
        let options = ServiceOptions {
            name: format!("{service}-{ordinal}"),
            program: binary(service),
            arguments: [
                ["--pipeline", &file.to_string_lossy()],
                ["--brokers", &self.bootstrap],
                ["--ordinal", &ordinal.to_string()],
                ["--admin-port", &admin.port().to_string()],
            ]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect(),
            logs: self.folder.path().to_owned(),
            ..ServiceOptions::default()
        };
        let mut service = Service::spawn(&options).expect("spawned");
        service
            .wait_for_http(admin, "/health/ready", READY)
            .unwrap_or_else(|e| panic!("{e}\n{}", service.output()));
        service
    }

    /// Produces events and puts what must become of each on the account.
    pub fn produce(&self, events: &[Event], account: &mut Checker) {
        let producer = Producer::new(&self.bootstrap).expect("a producer");
        for (number, event) in events.iter().enumerate() {
            let topic = self.topic(event.source);
            let outgoing = Outgoing {
                topic: &topic,
                partition: Some(event.partition),
                key: event.key.as_deref().map(str::as_bytes),
                value: event.value.as_deref(),
                headers: &[("tenant", b"a")],
                time_ms: None,
            };
            producer.send(&outgoing, number).expect("accepted");
        }
        let mut produced = self.produced.lock().expect("no holder of this lock panics");
        for delivered in producer.flush().expect("delivered") {
            let event = &events[delivered.tag];
            let topic = self.topic(event.source);
            account.produced(&topic, delivered.partition, delivered.offset, event.expected);
            let at = format!("{topic}/{}/{}", delivered.partition, delivered.offset);
            produced.insert(at, event.clone());
        }
    }

    /// How many records a topic holds for a reader with `read_committed`.
    pub fn committed(&self, of: &str) -> usize {
        let mut count = 0;
        client::read_to_end(&self.bootstrap, &self.topic(of), |_| count += 1).expect("reads");
        count
    }

    /// Reads all answers with `read_committed` until every event has one, and gives the account's verdict.
    ///
    /// # Panics
    /// When a record is not what its event must come to: another event's answer, another reason, other bytes.
    pub fn verdict(&self, account: &mut Checker) -> Verdict {
        let outputs: Vec<String> =
            ["scores.orders", "scores.clicks", "scores.reviews"].map(|t| self.topic(t)).into();
        let dead = self.topic("dead-letters");
        let mut every: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let follower = client::Follower::from_beginning(&self.bootstrap, &[&every[..], &[&dead]].concat())
            .expect("follows");
        let produced = self.produced.lock().expect("no holder of this lock panics");
        let mut progress = Progress { account, outputs: &outputs, produced: &produced };
        let deadline = std::time::Instant::now() + ANSWERED;
        while !progress.account.is_complete() && std::time::Instant::now() < deadline {
            follower.next(Duration::from_secs(1), |record| progress.see(record)).expect("reads");
        }
        // Whatever comes twice comes after the first: read on until no transaction is open and nothing comes.
        every.push(&dead);
        client::wait_until_settled(&self.bootstrap, &every, Duration::from_secs(30)).expect("settled");
        while follower.next(Duration::from_secs(1), |record| progress.see(record)).expect("reads").is_some() {
        }
        progress.account.verdict()
    }
}

struct Progress<'a> {
    account: &'a mut Checker,
    outputs: &'a [String],
    produced: &'a HashMap<String, Event>,
}

impl Progress<'_> {
    fn see(&mut self, record: &client::Record<'_>) {
        use twinlane_testkit::checker::{Found, Seen};
        let is_answer = self.outputs.iter().any(|topic| topic == record.topic());
        let stage = text(record, "twinlane-dead-stage");
        let source = text(record, "twinlane-source");
        // The checker counts records without a known source.
        if let Some(event) = self.produced.get(source) {
            assert_eq!(record.key(), event.key.as_deref().map(str::as_bytes), "the key of {source}");
            assert_eq!(text(record, "tenant"), "a", "the event's own header at {source}");
            if is_answer {
                let value = record.value().expect("an answer has a value");
                let answer: serde_json::Value = serde_json::from_slice(value).expect("an answer is JSON");
                assert_eq!(answer["event_id"], source);
                assert_eq!(answer["carried"]["id"], event.id, "{source} got another event's answer");
            } else {
                assert_eq!(Some(text(record, "twinlane-dead-reason")), event.reason, "{source}");
                assert!(
                    record.value() == event.value.as_deref(),
                    "the dead letter of {source} has other bytes"
                );
                assert_ne!(text(record, "twinlane-dead-detail"), "", "{source}");
            }
        }
        self.account.seen(&Seen {
            topic: record.topic(),
            partition: record.partition(),
            found: if is_answer { Found::Answer } else { Found::DeadLetter },
            stage,
            source: record.header("twinlane-source"),
        });
    }
}

fn text<'r>(record: &'r client::Record<'_>, header: &str) -> &'r str {
    record.header(header).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or("")
}

/// An event of the shop and what must become of it.
#[derive(Clone, Debug)]
pub struct Event {
    /// The `id` in its value, where it has one; its answer carries it.
    pub id: u32,
    /// `events` or `reviews`.
    pub source: &'static str,
    /// Partition that it goes to.
    pub partition: i32,
    /// Key.
    pub key: Option<String>,
    /// Value.
    pub value: Option<Vec<u8>>,
    /// What must become of it.
    pub expected: Expected,
    /// For a dead letter: the reason that it must name.
    pub reason: Option<&'static str>,
}

/// The binary of a service, beside this test's own.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it lies");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in <target>/<profile>/deps");
    let binary = folder.join(name);
    assert!(
        binary.exists(),
        "{} is not built; `cargo xtask test` builds it, so does `cargo build --workspace`",
        binary.display()
    );
    binary
}
