//! How much may be in flight. One budget of records and bytes covers everything that arrived and is not yet
//! committed: decoding, queues, model runs and windows alike.
//!
//! Two marks: pressure that lasts becomes a `pause` of the librdkafka consumer, which throws away what it had fetched ahead,
//! so flipping at a single mark would fetch every record several times. As long as it costs nothing to go on, the lower mark
//! is close, or the stage would stand still while half of what it may hold is in a transaction.

use std::time::{Duration, Instant};

/// The most that may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records.
    pub records: usize,
    /// Bytes of keys, values, headers and outputs.
    pub bytes: usize,
}

/// What the consumer should do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// The high mark was reached: stop fetching.
    Pause,
    /// Usage fell below the low mark: fetch again.
    Resume,
}

/// Watches usage against [`Limits`] and says when to pause and when to resume.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    paused_at: Option<Instant>,
}

impl Budget {
    /// For so long the consumer merely waits and keeps what it has fetched; its own patience has to end later.
    pub const BRIEFLY: Duration = Duration::from_millis(400);

    /// A budget; the low mark is three quarters of the limits at first, then a quarter.
    pub fn new(limits: Limits) -> Self {
        Self { limits, paused_at: None }
    }

    /// Whether the consumer was last told to pause.
    pub fn is_paused(&self) -> bool {
        self.paused_at.is_some()
    }

    /// Compares what is in flight with the marks; `Some` only when something changes.
    pub fn observe(&mut self, records: usize, bytes: usize, now: Instant) -> Option<Pressure> {
        let Limits { records: most_records, bytes: most_bytes } = self.limits;
        match self.paused_at {
            None if records >= most_records || bytes >= most_bytes => {
                self.paused_at = Some(now);
                Some(Pressure::Pause)
            }
            Some(at) => {
                let quarters = if now.duration_since(at) < Self::BRIEFLY { 3 } else { 1 };
                let under = records <= most_records / 4 * quarters && bytes <= most_bytes / 4 * quarters;
                under.then(|| {
                    self.paused_at = None;
                    Pressure::Resume
                })
            }
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_resumes_below_a_mark_that_is_close_at_first_and_far_once_records_would_be_fetched_again() {
        let mut budget = Budget::new(Limits { records: 100, bytes: 1000 });
        let start = Instant::now();
        let later = start + Budget::BRIEFLY;
        assert_eq!(budget.observe(99, 999, start), None);
        assert_eq!(budget.observe(100, 0, start), Some(Pressure::Pause));
        assert_eq!(budget.observe(120, 0, start), None);
        assert_eq!(budget.observe(75, 751, start), None);
        assert_eq!(budget.observe(75, 750, start), Some(Pressure::Resume));
        assert_eq!(budget.observe(10, 1000, start), Some(Pressure::Pause));
        assert_eq!(budget.observe(26, 0, later), None);
        assert_eq!(budget.observe(25, 251, later), None);
        assert_eq!(budget.observe(25, 250, later), Some(Pressure::Resume));
        assert!(!budget.is_paused());
    }
}
