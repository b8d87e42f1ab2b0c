//! How many batches of a task go to a model at once.

use std::time::Duration;

/// Handing over takes some 15 µs of two threads, so what a model does in less than this is worth handing over together. An
/// event that comes meanwhile waits for it.
const TOGETHER: Duration = Duration::from_millis(1);
/// As many as that would hold of the least model there is.
const MOST: usize = 32;

/// How long the batches of a task take: the longest of the last ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace(Duration);

impl Default for Pace {
    /// Nothing is known: one batch at a time.
    fn default() -> Self {
        Self(TOGETHER)
    }
}

impl Pace {
    /// A batch took so long.
    pub(crate) fn took(&mut self, elapsed: Duration) {
        self.0 = elapsed.max(self.0 * 7 / 8);
    }

    /// So many batches are run within the time that is worth handing over, and always one.
    pub(crate) fn batches(self) -> usize {
        let longest = self.0.max(Duration::from_micros(1));
        ((TOGETHER.as_nanos() / longest.as_nanos()) as usize).clamp(1, MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_long_batch_is_remembered_and_short_ones_are_believed_by_and_by() {
        let mut pace = Pace::default();
        let mut after = |micros, times| {
            (0..times).for_each(|_| pace.took(Duration::from_micros(micros)));
            pace.batches()
        };
        assert_eq!(after(2000, 1), 1);
        assert_eq!(after(200, 3), 1);
        assert_eq!(after(200, 40), 5);
        assert_eq!(after(0, 100), MOST);
        assert_eq!(after(400, 1), 2);
        assert_eq!(after(1_000_000, 1), 1);
    }
}
