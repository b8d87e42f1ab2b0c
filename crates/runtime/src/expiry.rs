//! When queued events become too old. Ages are counted from their records' timestamps, by the wall clock; the stage
//! waits by the monotonic one.

use std::time::{Duration, Instant};

use crate::answer::now_ms;

/// A queue is looked through at most this often: events of a backlog become too old one after another, and each look
/// walks through all that wait.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// A moment, in milliseconds since the Unix epoch, after which an event is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TooOld(i64);

impl TooOld {
    /// For an event with this timestamp. One without a timestamp never becomes too old.
    pub(crate) fn of(timestamp_ms: Option<i64>, deadline: Option<Duration>) -> Option<Self> {
        let age = i64::try_from(deadline?.as_millis()).unwrap_or(i64::MAX);
        Some(Self(timestamp_ms?.saturating_add(age)))
    }

    /// Whether the moment has passed.
    pub(crate) fn has_come(self) -> bool {
        self.0 < now_ms()
    }
}

/// When to look through the queue next.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    /// The earliest moment among all that were queued since the last look, and what that look has left. What has gone to
    /// a model meanwhile may be among them: then a look finds nothing, and learns when the next one is due.
    first: Option<TooOld>,
    looked: Option<Instant>,
}

impl Expiry {
    /// Something is queued.
    pub(crate) fn expect(&mut self, moment: Option<TooOld>) {
        self.first = [self.first, moment].into_iter().flatten().min();
    }

    /// When to look.
    pub(crate) fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        let at = match u64::try_from(self.first?.0.saturating_sub(now_ms())) {
            // One more, because a moment has passed a millisecond after it. Of far ones this asks again before they come.
            Ok(left) => now + Duration::from_millis(left.saturating_add(1).min(60_000)),
            Err(_) => now,
        };
        Some(self.looked.map_or(at, |looked| at.max(looked + BETWEEN_LOOKS)))
    }

    /// The queue is looked through now; what stays is told by [`Expiry::expect`].
    pub(crate) fn looks(&mut self) {
        *self = Self { first: None, looked: Some(Instant::now()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    #[test]
    fn an_age_is_counted_from_the_timestamp() {
        let old = TooOld::of(Some(now_ms() - 1100), SECOND).expect("has one");
        let young = TooOld::of(Some(now_ms() - 500), SECOND).expect("has one");
        assert!(old.has_come() && !young.has_come());
        assert_eq!(TooOld::of(None, SECOND), None);
        assert_eq!(TooOld::of(Some(0), None), None);
        assert!(!TooOld::of(Some(i64::MAX), SECOND).expect("has one").has_come());
    }

    #[test]
    fn the_first_of_those_that_wait_says_when_to_look() {
        let mut expiry = Expiry::default();
        assert_eq!(expiry.due(), None);
        let now = now_ms();
        for left in [5000, 300, 9000] {
            expiry.expect(TooOld::of(Some(now + left - 1000), SECOND));
        }
        expiry.expect(None);
        let due = expiry.due().expect("some wait") - Instant::now();
        assert!(due <= Duration::from_millis(301), "{due:?}");
        assert!(due >= Duration::from_millis(100), "{due:?}");
    }

    #[test]
    fn looks_keep_their_distance() {
        let mut expiry = Expiry::default();
        expiry.looks();
        assert_eq!(expiry.due(), None, "nothing waits");
        let looked = Instant::now();
        expiry.expect(TooOld::of(Some(now_ms() - 5000), SECOND));
        let due = expiry.due().expect("one waits");
        assert!(due + Duration::from_millis(2) >= looked + BETWEEN_LOOKS, "{:?}", due - looked);
    }
}
