//! The stage's counters, looked up once: a handle is one atomic add, a name is a hash and a lock.

use std::collections::HashMap;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use twinlane_record::{Reason, Verdict};

use crate::metric_names as names;

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
}

impl Tally {
    pub(crate) fn new(stage: &str) -> Self {
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
        }
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
