//! Whole services against the real Kafka: a small shop with a mixed topic and one that needs no router, and
//! the three services as processes of their own. `cargo xtask test` builds their binaries first.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use tempfile::TempDir;
use twinlane_testkit::{
    Service,
    broker::{Broker, BrokerOptions},
    checker::{Checker, Expected, Verdict},
    client::{self, Outgoing, Producer},
    process::{ServiceOptions, free_port},
};

/// Partitions of every topic of the shop.
pub const PARTITIONS: i32 = 3;
const READY: Duration = Duration::from_secs(60);
const ANSWERED: Duration = Duration::from_secs(120);

/// A Kafka of its own, of one broker, that a test kills while transactions are open.
///
/// It looks for transactions that timed out as seldom as Kafka does by default, and not every second as the tests' others do:
/// a lone broker that was killed takes its partitions back at once, and its controller takes them away again nine seconds later,
/// when the registration from before has timed out. Transactions that it rolls back in between are ended without their markers
/// (docs/decisions/0015-a-coordinator-that-skips-markers.md).
pub fn lone_broker() -> Broker {
    let cleanup = "transaction.abort.timed.out.transaction.cleanup.interval.ms";
    let properties = vec![(cleanup.to_owned(), "10000".to_owned())];
    let options = BrokerOptions { properties, ..BrokerOptions::default() };
    Broker::start_own(&options).expect("a Kafka of its own")
}

/// A pipeline of its own, with topics that no other test uses.
pub struct Shop {
    name: String,
    folder: TempDir,
    bootstrap: String,
    /// Topics that its tasks publish to.
    outputs: Vec<String>,
    /// What was produced, by the coordinates that the broker gave it.
    produced: Mutex<HashMap<String, Event>>,
}

impl Shop {
    /// The shop of `shop.yaml`.
    pub fn open() -> Self {
        Self::with_pipeline(include_str!("shop.yaml"))
    }

    /// A shop with another pipeline file, in which `{shop}` stands for its name and `{models}` for the folder of the test
    /// models. Creates its source topics `events` and `reviews`.
    pub fn with_pipeline(file: &str) -> Self {
        Self::at(Broker::shared().bootstrap(), file)
    }

    /// As [`Shop::open`], on a cluster of the test's own.
    pub fn open_at(bootstrap: &str) -> Self {
        Self::at(bootstrap, include_str!("shop.yaml"))
    }

    /// As [`Shop::with_pipeline`], on a cluster of the test's own.
    pub fn at(bootstrap: &str, file: &str) -> Self {
        let bootstrap = bootstrap.to_owned();
        let name = client::unique("shop").to_lowercase().replace(['.', '_'], "-");
        let folder = tempfile::tempdir().expect("a temporary folder");
        for source in ["events", "reviews"] {
            let settings = [("max.message.bytes", "2000000")];
            client::create_topic(&bootstrap, &format!("{name}.{source}"), PARTITIONS, &settings)
                .expect("created");
        }
        let mut shop = Self { name, folder, bootstrap, outputs: Vec::new(), produced: Mutex::default() };
        shop.change_pipeline(file);
        shop
    }

    /// Writes another pipeline file, for services that start from now on.
    pub fn change_pipeline(&mut self, file: &str) {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/inference/tests/models");
        let models = models.canonicalize().expect("the models are in the repository");
        let file = file.replace("{shop}", &self.name).replace("{models}", &models.to_string_lossy());
        let published = file.lines().filter_map(|line| line.trim().strip_prefix("publish: { topic: "));
        self.outputs = published.filter_map(|rest| Some(rest.split_once(',')?.0.to_owned())).collect();
        std::fs::write(self.folder.path().join("pipeline.yaml"), file).expect("written");
    }

    /// A topic of the shop.
    pub fn topic(&self, of: &str) -> String {
        format!("{}.{of}", self.name)
    }

    /// Address of the cluster.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Changes the pipeline file, before services start.
    ///
    /// # Panics
    /// When `from` is not in it.
    pub fn rewrite(&self, from: &str, to: &str) {
        let file = self.folder.path().join("pipeline.yaml");
        let text = std::fs::read_to_string(&file).expect("the shop wrote it");
        assert!(text.contains(from), "{from} is not in\n{text}");
        std::fs::write(file, text.replace(from, to)).expect("written");
    }

    /// Starts the `twinlane` command with these words on this cluster; `PIPELINE` among them stands for the shop's.
    pub fn twinlane(&self, words: &[&str]) -> Service {
        self.twinlane_at(&self.bootstrap, words)
    }

    /// As [`Shop::twinlane`], with its brokers at this address.
    pub fn twinlane_at(&self, brokers: &str, words: &[&str]) -> Service {
        self.twinlane_alone(&[words, &["--brokers", brokers]].concat())
    }

    /// As [`Shop::twinlane`], for a command that needs no cluster.
    pub fn twinlane_alone(&self, words: &[&str]) -> Service {
        let folder = self.folder.path().to_string_lossy();
        let words = words.iter().map(|&word| if word == "PIPELINE" { &folder } else { word });
        let options = ServiceOptions {
            name: client::unique("twinlane"),
            program: binary("twinlane"),
            arguments: words.map(str::to_owned).collect(),
            logs: self.folder.path().to_owned(),
            ..ServiceOptions::default()
        };
        Service::spawn(&options).expect("spawned")
    }

    /// Starts a service and waits until it is ready.
    pub fn start(&self, service: &str, ordinal: u32) -> Service {
        self.start_with(service, ordinal, "").0
    }

    /// As [`Shop::start`], with the text of a settings file; gives the address of its admin port too.
    pub fn start_with(&self, service: &str, ordinal: u32, settings: &str) -> (Service, SocketAddr) {
        let (mut service, admin) = self.spawn(service, ordinal, &self.bootstrap, settings);
        service
            .wait_for_http(admin, "/health/ready", READY)
            .unwrap_or_else(|e| panic!("{e}\n{}", service.output()));
        (service, admin)
    }

    /// Starts a service that finds its brokers at this address, and does not wait for anything.
    pub fn spawn(&self, service: &str, ordinal: u32, brokers: &str, settings: &str) -> (Service, SocketAddr) {
        let (options, admin) = self.service(service, ordinal, brokers, settings);
        (Service::spawn(&options).expect("spawned"), admin)
    }

    /// Has a service print its settings.
    pub fn dump_config(&self, service: &str, settings: &str) -> Service {
        let (mut options, _) = self.service(service, 0, &self.bootstrap, settings);
        options.arguments.push("--dump-config".into());
        Service::spawn(&options).expect("spawned")
    }

    fn service(
        &self,
        service: &str,
        ordinal: u32,
        brokers: &str,
        settings: &str,
    ) -> (ServiceOptions, SocketAddr) {
        let admin = free_port().expect("a free port");
        let file = self.folder.path().join("pipeline.yaml");
        let settings_file = self.folder.path().join(format!("{service}-{ordinal}.toml"));
        std::fs::write(&settings_file, settings).expect("written");
        let options = ServiceOptions {
            name: format!("{service}-{ordinal}"),
            program: binary(service),
            arguments: [
                ["--settings", &settings_file.to_string_lossy()],
                ["--pipeline", &file.to_string_lossy()],
                ["--brokers", brokers],
                ["--ordinal", &ordinal.to_string()],
                ["--admin-port", &admin.port().to_string()],
            ]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect(),
            environment: vec![("NO_COLOR".into(), "1".into())],
            logs: self.folder.path().to_owned(),
        };
        (options, admin)
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

    /// Where the event with this id stands on its source topic.
    ///
    /// # Panics
    /// When none was produced.
    pub fn produced_at(&self, id: u32) -> String {
        let produced = self.produced.lock().expect("no holder of this lock panics");
        let found = produced.iter().find(|(_, event)| event.id == id);
        found.map(|(at, _)| at.clone()).expect("an event with this id was produced")
    }

    /// Produces `count` events with the same value, on every partition in turn, which are on no account.
    pub fn flood(&self, source: &str, value: &str, count: usize) {
        let producer = Producer::new(&self.bootstrap).expect("a producer");
        let topic = self.topic(source);
        for number in 0..count {
            let partition = Some(number as i32 % PARTITIONS);
            let value = Some(value.as_bytes());
            let outgoing = Outgoing { topic: &topic, partition, value, ..Outgoing::default() };
            producer.send(&outgoing, ()).expect("accepted");
        }
        producer.flush().expect("delivered");
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
        let outputs = &self.outputs;
        let dead = self.topic("dead-letters");
        let mut every: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let follower = client::Follower::from_beginning(&self.bootstrap, &[&every[..], &[&dead]].concat())
            .expect("follows");
        let produced = self.produced.lock().expect("no holder of this lock panics");
        let mut progress = Progress { account, outputs, produced: &produced };
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
