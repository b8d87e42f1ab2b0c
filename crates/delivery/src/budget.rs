//! How much may be in flight. One budget of records and bytes covers everything that arrived and is not yet
//! committed: decoding, queues, model runs and windows alike.
//!
//! Two marks, far apart: pressure that lasts becomes a `pause` of the librdkafka consumer, which throws away what it had
//! fetched ahead, so flipping at a single mark would fetch every record several times.

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
    paused: bool,
}

impl Budget {
    /// A budget; the low mark is a quarter of the limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits, paused: false }
    }

    /// Whether the consumer was last told to pause.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Compares what is in flight with the marks; `Some` only when something changes.
    pub fn observe(&mut self, records: usize, bytes: usize) -> Option<Pressure> {
        let over = records >= self.limits.records || bytes >= self.limits.bytes;
        let under = records <= self.limits.records / 4 && bytes <= self.limits.bytes / 4;
        match (self.paused, over, under) {
            (false, true, _) => {
                self.paused = true;
                Some(Pressure::Pause)
            }
            (true, _, true) => {
                self.paused = false;
                Some(Pressure::Resume)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_pauses_at_the_high_mark_and_resumes_only_below_the_low_one() {
        let mut budget = Budget::new(Limits { records: 100, bytes: 1000 });
        assert_eq!(budget.observe(99, 999), None);
        assert_eq!(budget.observe(100, 0), Some(Pressure::Pause));
        assert_eq!(budget.observe(120, 0), None);
        assert_eq!(budget.observe(26, 0), None);
        assert_eq!(budget.observe(25, 251), None);
        assert_eq!(budget.observe(25, 250), Some(Pressure::Resume));
        assert_eq!(budget.observe(10, 1000), Some(Pressure::Pause));
    }
}
