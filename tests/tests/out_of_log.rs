//! Records that are gone before they were answered, topics that are gone, and topics that grow: never passed over in
//! silence. A partition whose committed offset lies outside of its log is stopped, or goes on from the earliest record
//! where its source says so; either is said in the log, in the metrics and in `/status`.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use twinlane_testkit::{
    Service,
    checker::{Checker, Expected},
    client, process, wait,
};
use twinlane_tests::{Event, PARTITIONS, Shop};

const LIMIT: Duration = Duration::from_secs(60);
const WORKER: &str = "precision-worker";
const OUT_OF_LOG: &str = "twinlane_offsets_out_of_log_total";
/// The source that the worker reads itself, with the least that a source says.
const REVIEWS: &str = "reviews, format: json, tombstones: dead_letter";

fn review(partition: i32) -> Event {
    let value = json!({ "id": 1, "stars": 3, "helpful": true, "at": "2026-01-31T12:00:00+01:00" });
    Event {
        id: 1,
        source: "reviews",
        partition,
        key: None,
        value: Some(value.to_string().into_bytes()),
        expected: Expected::Answer,
        reason: None,
    }
}

/// A shop whose reviews are answered up to here, and its worker.
struct Stand {
    shop: Shop,
    account: Checker,
}

impl Stand {
    fn open() -> Self {
        Self { shop: Shop::open(), account: Checker::new() }
    }

    /// As [`Stand::open`], with a source that goes on from the earliest record.
    fn open_that_skips() -> Self {
        let stand = Self::open();
        stand.shop.rewrite(REVIEWS, &format!("{REVIEWS}, when_below_start: earliest"));
        stand
    }

    fn produce(&mut self, partitions: impl Iterator<Item = i32>, each: usize) {
        let events: Vec<_> = partitions.flat_map(|partition| vec![review(partition); each]).collect();
        self.shop.produce(&events, &mut self.account);
    }

    fn produce_everywhere(&mut self, each: usize) {
        self.produce(0..PARTITIONS, each);
    }

    fn topic(&self) -> String {
        self.shop.topic("reviews")
    }

    fn group(&self) -> String {
        // The pipeline is named after the shop, and the group after pipeline and lane.
        self.shop.topic("precision")
    }

    fn start(&self) -> (Service, SocketAddr) {
        self.shop.start_with(WORKER, 0, "")
    }

    /// Waits until this many answers are visible.
    fn wait_for_answers(&self, count: usize) {
        let answers = || self.shop.committed("scores.reviews");
        let reached = wait::until(LIMIT, || (answers() >= count).then_some(()));
        assert!(reached.is_some(), "{} of {count} answers", answers());
    }

    /// Starts the worker, lets it answer, and stops it.
    fn answer_and_stop(&self, count: usize) {
        let (mut worker, _) = self.start();
        self.wait_for_answers(count);
        assert_eq!(worker.stop(Duration::from_secs(10)), Some(0), "{}", worker.output());
    }

    fn committed(&self, partition: i32) -> i64 {
        let committed =
            client::committed_offset(self.shop.bootstrap(), &self.group(), &self.topic(), partition);
        committed.expect("answers").expect("the worker has committed")
    }

    fn delete_before(&self, partition: i32, offset: i64) {
        client::delete_records(self.shop.bootstrap(), &self.topic(), partition, offset).expect("deleted");
    }
}

fn status(admin: SocketAddr) -> Value {
    let body = process::http_get(admin, "/status").expect("answers");
    serde_json::from_str::<Value>(&body).expect("JSON")["stages"][0].clone()
}

/// The value of a metric with these labels, 0 where it was never recorded.
fn metric(admin: SocketAddr, name: &str, labels: &[&str]) -> f64 {
    let page = process::http_get(admin, "/metrics").expect("answers");
    let line = page.lines().find(|line| {
        line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label))
    });
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}

/// The partition that is not read is told everywhere, and the worker is otherwise well.
fn assert_one_is_stopped(worker: &mut Service, admin: SocketAddr, said: &[&str]) {
    let line = worker.wait_for_line("stopping the partition", LIMIT).expect("it is in the log");
    for text in said {
        assert!(line.contains(text), "{text} is missing: {line}");
    }
    let told = wait::until(LIMIT, || (status(admin)["halted_partitions"] == 1).then_some(()));
    assert!(told.is_some(), "{}", status(admin));
    assert_eq!(metric(admin, "twinlane_halted_partitions", &[]), 1.0);
    assert_eq!(metric(admin, OUT_OF_LOG, &["stage=\"precision\"", "action=\"stopped\""]), 1.0);
    assert_eq!(metric(admin, OUT_OF_LOG, &["action=\"skipped\""]), 0.0);
    for path in ["/health/live", "/health/ready"] {
        worker.wait_for_http(admin, path, LIMIT).expect("the other partitions are read");
    }
}

#[test]
fn records_deleted_before_they_were_answered_stop_their_partition_and_no_other() {
    let mut stand = Stand::open();
    stand.produce_everywhere(10);
    stand.answer_and_stop(30);
    let committed = stand.committed(0);
    stand.produce_everywhere(10);
    stand.delete_before(0, committed + 4);
    let (mut worker, admin) = stand.start();
    assert_one_is_stopped(&mut worker, admin, &["gone=4", &format!("{}/0", stand.topic())]);
    stand.wait_for_answers(50);
    // What comes later is not answered either: the order of the partition would be broken.
    stand.produce_everywhere(1);
    stand.wait_for_answers(52);
    assert_eq!(worker.stop(Duration::from_secs(10)), Some(0), "{}", worker.output());
    assert_eq!(stand.shop.committed("scores.reviews"), 52);
    assert_eq!(stand.committed(0), committed, "it stays where somebody must decide");
}

#[test]
fn a_source_that_says_so_goes_on_from_the_earliest_record_and_counts_it() {
    let mut stand = Stand::open_that_skips();
    stand.produce_everywhere(10);
    stand.answer_and_stop(30);
    stand.produce_everywhere(10);
    stand.delete_before(0, stand.committed(0) + 4);
    let (mut worker, admin) = stand.start();
    stand.wait_for_answers(56);
    let line = worker.wait_for_line("going on from the earliest", LIMIT).expect("it is in the log");
    assert!(line.contains("gone=4"), "{line}");
    assert_eq!(metric(admin, OUT_OF_LOG, &["stage=\"precision\"", "action=\"skipped\""]), 1.0);
    assert_eq!(metric(admin, OUT_OF_LOG, &["action=\"stopped\""]), 0.0);
    assert_eq!(status(admin)["halted_partitions"], 0);
    assert_eq!(worker.stop(Duration::from_secs(10)), Some(0), "{}", worker.output());
    assert_eq!(stand.shop.committed("scores.reviews"), 56);
}

#[test]
fn an_offset_beyond_the_end_stops_its_partition_whatever_the_source_says() {
    let mut stand = Stand::open_that_skips();
    stand.produce_everywhere(10);
    stand.answer_and_stop(30);
    let beyond = stand.committed(0) + 100;
    client::commit_offset(stand.shop.bootstrap(), &stand.group(), &stand.topic(), 0, beyond).expect("moved");
    stand.produce_everywhere(10);
    let (mut worker, admin) = stand.start();
    assert_one_is_stopped(&mut worker, admin, &[&format!("committed={beyond}")]);
    stand.wait_for_answers(50);
}

#[test]
fn records_deleted_under_a_slow_reader_are_noticed() {
    let mut stand = Stand::open();
    stand.produce_everywhere(10);
    let (mut worker, admin) = stand.start();
    stand.wait_for_answers(30);
    let committed =
        wait::until(LIMIT, || (stand.committed(0) == 10).then_some(10)).expect("all is committed");
    worker.process().freeze();
    // What it has asked for already is answered, with nothing, after `fetch.wait.max.ms`.
    wait::pause_for(Duration::from_millis(500));
    stand.produce_everywhere(10);
    stand.delete_before(0, committed + 4);
    worker.process().thaw();
    assert_one_is_stopped(&mut worker, admin, &["gone=4", "committed=10"]);
    stand.wait_for_answers(50);
}

#[test]
fn a_topic_made_anew_while_it_is_read_stops_and_is_read_from_its_beginning_after_a_restart() {
    let mut stand = Stand::open_that_skips();
    stand.produce_everywhere(10);
    let (mut worker, admin) = stand.start();
    stand.wait_for_answers(30);
    // So quickly that the worker never hears that the topic was gone.
    worker.process().freeze();
    client::delete_topic(stand.shop.bootstrap(), &stand.topic()).expect("deleted");
    client::create_topic(stand.shop.bootstrap(), &stand.topic(), PARTITIONS, &[]).expect("made anew");
    stand.account = Checker::new();
    // More than there were, so that the old position lies within the new log.
    stand.produce_everywhere(30);
    worker.process().thaw();
    worker.wait_for_line("deleted and made anew while it was read", LIMIT).expect("it is in the log");
    let told = wait::until(LIMIT, || (status(admin)["halted_partitions"] == PARTITIONS).then_some(()));
    assert!(told.is_some(), "{}", status(admin));
    let stopped = metric(admin, OUT_OF_LOG, &["stage=\"precision\"", "action=\"stopped\""]);
    assert_eq!(stopped, f64::from(PARTITIONS));
    assert_eq!(worker.stop(Duration::from_secs(10)), Some(0), "{}", worker.output());
    assert_eq!(stand.shop.committed("scores.reviews"), 30, "nothing of the new topic was answered");
    let (_again, _) = stand.start();
    stand.wait_for_answers(120);
}

#[test]
fn a_source_that_is_deleted_ends_its_worker_with_the_topic_and_what_to_do() {
    let mut stand = Stand::open();
    stand.produce_everywhere(10);
    let quick = "[kafka.common]\n\"topic.metadata.propagation.max.ms\" = \"2000\"\n\
                 \"topic.metadata.refresh.interval.ms\" = \"1000\"\n";
    let (mut worker, _) = stand.shop.start_with(WORKER, 0, quick);
    stand.wait_for_answers(30);
    client::delete_topic(stand.shop.bootstrap(), &stand.topic()).expect("deleted");
    let ended = wait::until(LIMIT, || worker.process().ended());
    assert_eq!(ended.as_deref(), Some("exit status: 4"), "{}", worker.output());
    let last = format!("topic `{}` does not exist; create it", stand.topic());
    assert!(worker.output().contains(&last), "{}", worker.output());
}

#[test]
fn partitions_that_are_added_are_read_from_their_beginning() {
    let mut stand = Stand::open();
    stand.produce_everywhere(10);
    let (mut worker, admin) = stand.start();
    stand.wait_for_answers(30);
    client::add_partitions(stand.shop.bootstrap(), &stand.topic(), PARTITIONS + 2).expect("grown");
    // Before the worker can know of them.
    stand.produce(PARTITIONS..PARTITIONS + 2, 10);
    let verdict = stand.shop.verdict(&mut stand.account);
    assert!(verdict.is_clean(), "{verdict:#?}");
    assert_eq!(status(admin)["halted_partitions"], 0);
    assert_eq!(worker.stop(Duration::from_secs(10)), Some(0), "{}", worker.output());
}
