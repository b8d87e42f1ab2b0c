//! When a window closes: as soon as the last transaction is back and something is settled, but not more often
//! than the lane's floor allows. Idle lanes get short transactions, loaded ones long ones, with no setting to
//! tune between the two.

use std::time::{Duration, Instant};

/// Decides when the next transaction may begin.
#[derive(Clone, Debug)]
pub struct Cadence {
    floor: Duration,
    began: Option<Instant>,
    in_flight: bool,
}

impl Cadence {
    /// A cadence with at least `floor` between the beginnings of two transactions.
    pub fn new(floor: Duration) -> Self {
        Self { floor, began: None, in_flight: false }
    }

    /// Whether a transaction is out.
    pub fn in_flight(&self) -> bool {
        self.in_flight
    }

    /// When a window that has something settled may close: `None` while a transaction is out, else the
    /// instant, which may already have passed.
    pub fn opens_at(&self, now: Instant) -> Option<Instant> {
        match (self.in_flight, self.began) {
            (true, _) => None,
            (false, None) => Some(now),
            (false, Some(began)) => Some(began + self.floor),
        }
    }

    /// A transaction was handed over.
    pub fn begin(&mut self, now: Instant) {
        debug_assert!(!self.in_flight, "one transaction at a time");
        self.in_flight = true;
        self.began = Some(now);
    }

    /// Its outcome is known.
    pub fn end(&mut self) {
        self.in_flight = false;
    }
}

#[cfg(test)]
impl Cadence {
    /// Sets when the last transaction began, if one did.
    pub(crate) fn began_at(&mut self, at: Instant) {
        self.began = self.began.map(|_| at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_window_after_idling_closes_at_once_and_the_next_waits_for_commit_and_floor() {
        let start = Instant::now();
        let floor = Duration::from_millis(10);
        let mut cadence = Cadence::new(floor);
        assert_eq!(cadence.opens_at(start), Some(start));
        cadence.begin(start);
        assert_eq!(cadence.opens_at(start + floor * 5), None, "one transaction at a time");
        cadence.end();
        assert_eq!(cadence.opens_at(start), Some(start + floor));
    }
}
