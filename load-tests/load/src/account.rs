//! The account of a stream: when each event was due, and when its answer could be read. Either may be told first.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use crate::breakdown::{Breakdown, Moments};
use crate::workload::Lane;

/// What is known of an event that is not through yet.
#[derive(Debug, Clone, Copy)]
enum Half {
    /// It is not answered.
    Due(Due),
    /// Its answer was read, and the broker has not told us yet where the event stands.
    Answered(Answer),
}

/// When an event was due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    pub(crate) at: Instant,
    /// See [`Workload::kinds`](crate::workload::Workload::kinds).
    pub(crate) kind: usize,
}

/// An answer that was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) read: Instant,
    /// The lane that answered.
    pub(crate) lane: Option<Lane>,
    /// What the services say of its way, if they do.
    pub(crate) moments: Option<Moments>,
}

/// Whether a model is being changed, and microseconds by kind: the latencies while none is, and while one is.
#[derive(Debug)]
struct Changes {
    under_way: Arc<AtomicBool>,
    quiet: Vec<Histogram<u64>>,
    changing: Vec<Histogram<u64>>,
}

/// Events by partition and offset of their source topic.
#[derive(Debug)]
pub(crate) struct Account {
    halves: HashMap<(i32, i64), Half>,
    /// The lane that each kind belongs to.
    lanes: &'static [Lane],
    /// Events that another lane answered.
    astray: u64,
    /// Events that were due before are answered, but not counted.
    from: Instant,
    /// Microseconds, by kind.
    latencies: Vec<Histogram<u64>>,
    /// All that are through, by kind, those before `from` included.
    through: Vec<u64>,
    /// Microseconds, by kind: the latencies since [`Account::recent`] was told to forget.
    recent: Vec<Histogram<u64>>,
    breakdowns: Vec<Breakdown>,
    /// Latencies while models are changed, and while none is.
    changes: Option<Changes>,
    /// A moment on both clocks.
    epoch: (Instant, i64),
}

/// Latencies are kept with three digits, up to ten minutes; what waits longer counts as that.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are valid")
}

impl Account {
    /// For kinds of events that belong to these lanes. Events that are due before `from` are not counted.
    pub(crate) fn new(lanes: &'static [Lane], from: Instant) -> Self {
        let kinds = lanes.len();
        let all = || (0..kinds).map(|_| histogram()).collect();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            halves: HashMap::new(),
            lanes,
            astray: 0,
            from,
            latencies: all(),
            recent: all(),
            through: vec![0; kinds],
            breakdowns: (0..kinds).map(|_| Breakdown::new()).collect(),
            changes: None,
            epoch: (Instant::now(), since.as_micros() as i64),
        }
    }

    /// Latencies are kept apart by what `under_way` says when the answer is read.
    pub(crate) fn with_changes(mut self, under_way: Arc<AtomicBool>) -> Self {
        let kinds = self.latencies.len();
        let all = || (0..kinds).map(|_| histogram()).collect();
        self.changes = Some(Changes { under_way, quiet: all(), changing: all() });
        self
    }

    /// The latencies of a kind while no model was changed, and while one was.
    pub(crate) fn by_change(&self, kind: usize) -> Option<[&Histogram<u64>; 2]> {
        self.changes.as_ref().map(|changes| [&changes.quiet[kind], &changes.changing[kind]])
    }

    /// The event that stands there was due then.
    pub(crate) fn due(&mut self, at: (i32, i64), due: Due) {
        match self.halves.remove(&at) {
            Some(Half::Answered(answer)) => self.count(due, answer),
            _ => drop(self.halves.insert(at, Half::Due(due))),
        }
    }

    /// Its answer was read.
    pub(crate) fn answered(&mut self, at: (i32, i64), answer: Answer) {
        match self.halves.remove(&at) {
            Some(Half::Due(due)) => self.count(due, answer),
            _ => drop(self.halves.insert(at, Half::Answered(answer))),
        }
    }

    fn count(&mut self, Due { at: due, kind }: Due, Answer { read, lane, moments }: Answer) {
        self.through[kind] += 1;
        self.astray += u64::from(lane != Some(self.lanes[kind]));
        if due >= self.from {
            let latency = read.saturating_duration_since(due).as_micros() as u64;
            self.latencies[kind].saturating_record(latency.max(1));
            self.recent[kind].saturating_record(latency.max(1));
            if let Some(Changes { under_way, quiet, changing }) = &mut self.changes {
                let of = if under_way.load(Ordering::Acquire) { changing } else { quiet };
                of[kind].saturating_record(latency.max(1));
            }
            if let Some(moments) = moments {
                let [due, read] = [due, read].map(|moment| self.on_the_wall(moment));
                self.breakdowns[kind].add(due, moments, read);
            }
        }
    }

    /// Microseconds since the Unix epoch.
    fn on_the_wall(&self, moment: Instant) -> i64 {
        let (instant, us) = self.epoch;
        let after = moment.saturating_duration_since(instant).as_micros() as i64;
        us + after - instant.saturating_duration_since(moment).as_micros() as i64
    }

    /// Where the time of a kind's events went.
    pub(crate) fn breakdown(&self, kind: usize) -> &Breakdown {
        &self.breakdowns[kind]
    }

    /// Events of a kind that are answered.
    pub(crate) fn through_kind(&self, kind: usize) -> u64 {
        self.through[kind]
    }

    /// Every event that is answered was answered by the lane that it belongs to.
    pub(crate) fn ensure_lanes(&self) -> Result<()> {
        let (astray, all) = (self.astray, self.through());
        ensure!(astray == 0, "{astray} of {all} events were not answered by the lane that they belong to");
        Ok(())
    }

    /// Events that are answered, of all kinds.
    pub(crate) fn through(&self) -> u64 {
        self.through.iter().sum()
    }

    /// The latencies of a kind.
    pub(crate) fn latencies(&self, kind: usize) -> &Histogram<u64> {
        &self.latencies[kind]
    }

    /// How long a part of a kind's recent events took at most; `forget` begins anew afterwards.
    pub(crate) fn recent(&mut self, kind: usize, part: f64, forget: bool) -> Option<Duration> {
        let recent = &mut self.recent[kind];
        let found = (!recent.is_empty()).then(|| Duration::from_micros(recent.value_at_quantile(part)));
        if forget {
            recent.reset();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_when_an_event_was_due_whichever_is_told_first() {
        let began = Instant::now();
        let after = |ms| began + Duration::from_millis(ms);
        let mut account = Account::new(&[Lane::Precision, Lane::Throughput], after(10));
        let answer = |ms| Answer { read: after(ms), lane: Some(Lane::Precision), moments: None };
        let due = |kind, ms| Due { at: after(ms), kind };
        account.due((0, 0), due(0, 5));
        account.answered((0, 0), answer(50));
        account.answered((0, 1), answer(60));
        account.due((0, 1), due(0, 20));
        account.due((1, 0), due(1, 20));
        account.answered((1, 0), answer(120));
        account.due((1, 1), due(1, 30));
        assert_eq!(account.through(), 3, "one is not answered");
        assert_eq!(account.latencies(0).len(), 1, "what was due before does not count");
        assert!((39_900..40_100).contains(&account.latencies(0).max()));
        assert!((99_800..100_200).contains(&account.latencies(1).max()));
        assert_eq!(account.recent(0, 0.5, true).map(|at| at.as_millis()), Some(40));
        assert_eq!(account.recent(0, 0.5, true), None);
    }

    #[test]
    fn an_answer_of_another_lane_is_no_answer_that_counts_for_a_comparison_of_lanes() {
        let now = Instant::now();
        let answered = |kind, lane| {
            let mut account = Account::new(&[Lane::Precision, Lane::Throughput], now);
            account.due((0, 0), Due { at: now, kind });
            account.answered((0, 0), Answer { read: now, lane, moments: None });
            account.ensure_lanes()
        };
        assert!(answered(0, Some(Lane::Precision)).is_ok());
        assert!(answered(1, Some(Lane::Throughput)).is_ok());
        let astray = answered(0, Some(Lane::Throughput)).expect_err("it is the other lane's");
        assert!(astray.to_string().contains("1 of 1"), "{astray}");
        assert!(answered(1, None).is_err(), "an answer says its lane");
    }
}
