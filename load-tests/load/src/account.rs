//! The account of a stream: when each event was due, and when its answer could be read. Either may be told first.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// What is known of an event that is not through yet.
#[derive(Debug, Clone, Copy)]
enum Half {
    /// It was due then, and is not answered.
    Due(Instant),
    /// Its answer of this lane was read then, and the broker has not told us yet where the event stands.
    Answered(usize, Instant),
}

/// Events by partition and offset of their source topic.
#[derive(Debug)]
pub(crate) struct Account {
    halves: HashMap<(i32, i64), Half>,
    /// Events that were due before are answered, but not counted.
    from: Instant,
    /// Microseconds, by lane.
    latencies: Vec<Histogram<u64>>,
    /// All that are through, by lane, those before `from` included.
    through: Vec<u64>,
    /// Microseconds, by lane: the latencies since [`Account::recent`] was told to forget.
    recent: Vec<Histogram<u64>>,
}

/// Latencies are kept with three digits, up to ten minutes; what waits longer counts as that.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are valid")
}

impl Account {
    /// For so many lanes. Events that are due before `from` are not counted.
    pub(crate) fn new(lanes: usize, from: Instant) -> Self {
        let all = || (0..lanes).map(|_| histogram()).collect();
        Self { halves: HashMap::new(), from, latencies: all(), recent: all(), through: vec![0; lanes] }
    }

    /// The event that stands there was due at this moment.
    pub(crate) fn due(&mut self, at: (i32, i64), due: Instant) {
        match self.halves.remove(&at) {
            Some(Half::Answered(lane, read)) => self.count(lane, due, read),
            _ => drop(self.halves.insert(at, Half::Due(due))),
        }
    }

    /// Its answer was read.
    pub(crate) fn answered(&mut self, at: (i32, i64), lane: usize, read: Instant) {
        match self.halves.remove(&at) {
            Some(Half::Due(due)) => self.count(lane, due, read),
            _ => drop(self.halves.insert(at, Half::Answered(lane, read))),
        }
    }

    fn count(&mut self, lane: usize, due: Instant, read: Instant) {
        self.through[lane] += 1;
        if due >= self.from {
            let latency = read.saturating_duration_since(due).as_micros() as u64;
            self.latencies[lane].saturating_record(latency.max(1));
            self.recent[lane].saturating_record(latency.max(1));
        }
    }

    /// Events that are answered, over all lanes.
    pub(crate) fn through(&self) -> u64 {
        self.through.iter().sum()
    }

    /// The latencies of a lane.
    pub(crate) fn latencies(&self, lane: usize) -> &Histogram<u64> {
        &self.latencies[lane]
    }

    /// How long a part of a lane's recent events took at most; `forget` begins anew afterwards.
    pub(crate) fn recent(&mut self, lane: usize, part: f64, forget: bool) -> Option<Duration> {
        let recent = &mut self.recent[lane];
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
        let mut account = Account::new(2, after(10));
        account.due((0, 0), after(5));
        account.answered((0, 0), 0, after(50));
        account.answered((0, 1), 0, after(60));
        account.due((0, 1), after(20));
        account.due((1, 0), after(20));
        account.answered((1, 0), 1, after(120));
        account.due((1, 1), after(30));
        assert_eq!(account.through(), 3, "one is not answered");
        assert_eq!(account.latencies(0).len(), 1, "what was due before does not count");
        assert!((39_900..40_100).contains(&account.latencies(0).max()));
        assert!((99_800..100_200).contains(&account.latencies(1).max()));
        assert_eq!(account.recent(0, 0.5, true).map(|at| at.as_millis()), Some(40));
        assert_eq!(account.recent(0, 0.5, true), None);
    }
}
