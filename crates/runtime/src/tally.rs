//! The stage's counters, looked up once: a handle is one atomic add, a name is a hash and a lock.

use std::collections::HashMap;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use twinlane_delivery::{Limits, Window};
use twinlane_kafka::Outgoing;
use twinlane_record::{Reason, Verdict};

use crate::{answer::now_ms, metric_names as names};

pub(crate) struct Tally {
    pub(crate) events_in: Counter,
    routed: Counter,
    scored: Counter,
    skipped: Counter,
    expired: Counter,
    dead: HashMap<Reason, Counter>,
    pub(crate) assigned: Counter,
    pub(crate) revoked: Counter,
    pub(crate) lost: Counter,
    pub(crate) records: Gauge,
    pub(crate) bytes: Gauge,
    pub(crate) partitions: Gauge,
    pub(crate) halted: Gauge,
    pub(crate) held: Gauge,
    pub(crate) holds: Counter,
    pub(crate) window_records: Histogram,
    pub(crate) latency: Histogram,
    pub(crate) read: Histogram,
    pub(crate) prepare: Histogram,
    pub(crate) window: Histogram,
    pub(crate) budget_spent: Gauge,
}

/// A step of a stage, for [`names::STEP_SECONDS`].
pub(crate) fn step(stage: &str, step: &'static str) -> Histogram {
    histogram!(names::STEP_SECONDS, "stage" => stage.to_owned(), "step" => step)
}

/// What waits for a lane's models.
pub(crate) struct Waiting {
    /// In the order of the tasks.
    pub(crate) records: Vec<Gauge>,
    pub(crate) seconds: Histogram,
}

impl Waiting {
    pub(crate) fn new<'t>(stage: &str, tasks: impl Iterator<Item = &'t str>) -> Self {
        let records = tasks.map(|task| gauge!(names::QUEUE_RECORDS, "task" => task.to_owned())).collect();
        Self { records, seconds: step(stage, "queue") }
    }
}

impl Tally {
    pub(crate) fn new(stage: &str, limits: Limits) -> Self {
        let one = |name: &'static str| counter!(name, "stage" => stage.to_owned());
        let level = |name: &'static str| gauge!(name, "stage" => stage.to_owned());
        let rebalance =
            |kind: &'static str| counter!(names::REBALANCES, "stage" => stage.to_owned(), "kind" => kind);
        let dead = Reason::ALL
            .into_iter()
            .map(|reason| {
                let handle =
                    counter!(names::DEAD_LETTERS, "stage" => stage.to_owned(), "reason" => reason.as_str());
                (reason, handle)
            })
            .collect();
        level(names::LIMIT_RECORDS).set(limits.records as f64);
        level(names::LIMIT_BYTES).set(limits.bytes as f64);
        Self {
            events_in: one(names::EVENTS_IN),
            routed: one(names::ROUTED),
            scored: one(names::SCORED),
            skipped: one(names::SKIPPED),
            expired: one(names::EXPIRED),
            dead,
            assigned: rebalance("assigned"),
            revoked: rebalance("revoked"),
            lost: rebalance("lost"),
            records: level(names::IN_FLIGHT_RECORDS),
            bytes: level(names::IN_FLIGHT_BYTES),
            partitions: level(names::PARTITIONS),
            halted: level(names::HALTED),
            held: level(names::HELD),
            holds: one(names::HOLDS),
            window_records: histogram!(names::WINDOW_RECORDS, "stage" => stage.to_owned()),
            latency: histogram!(names::LATENCY, "stage" => stage.to_owned()),
            read: step(stage, "read"),
            prepare: step(stage, "prepare"),
            window: step(stage, "window"),
            budget_spent: level(names::BUDGET_SPENT),
        }
    }

    /// What a poll brought: its first record is about the oldest.
    pub(crate) fn read(&self, oldest_ms: Option<i64>) {
        if let Some(at) = oldest_ms {
            self.read.record(seconds_since(at, now_ms()));
        }
    }

    /// Every event that a window answered has its latency now.
    pub(crate) fn committed(&self, window: &Window<Outgoing>) {
        let now = now_ms();
        let times = window.outputs().filter_map(|output| output.timestamp_ms);
        times.for_each(|at| self.latency.record(seconds_since(at, now)));
    }

    pub(crate) fn verdict(&self, verdict: Verdict) {
        match verdict {
            Verdict::Routed => self.routed.increment(1),
            Verdict::Scored => self.scored.increment(1),
            Verdict::Skipped => self.skipped.increment(1),
            // Another stage counts it.
            Verdict::Elsewhere => {}
            Verdict::Expired => self.expired.increment(1),
            Verdict::DeadLettered(reason) => {
                if let Some(counter) = self.dead.get(&reason) {
                    counter.increment(1);
                }
            }
        }
    }
}

/// A producer's clock may be ahead of ours.
fn seconds_since(at_ms: i64, now_ms: i64) -> f64 {
    now_ms.saturating_sub(at_ms).max(0) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::seconds_since;

    #[test]
    fn an_event_from_the_future_has_no_latency_and_none_of_any_time_overflows() {
        assert_eq!(seconds_since(1_000, 3_500), 2.5);
        assert_eq!(seconds_since(4_000, 3_500), 0.0);
        assert!(seconds_since(i64::MIN, 3_500) > 0.0);
    }
}
