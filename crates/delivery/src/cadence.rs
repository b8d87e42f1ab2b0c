//! When a window closes: as soon as the last transaction is back and something is settled, but not more often
//! than the lane's floor allows. Idle lanes get short transactions, loaded ones long ones, with no setting to
//! tune between the two.

use std::time::{Duration, Instant};

/// Between the end of a transaction and the beginning of the next. Brokers answer that a transaction has ended before they
/// have written its markers, which takes them 1 ms (median) to 5 ms (p99) on cores that are busy; a producer that adds a
/// partition meanwhile is told to come again, and librdkafka does so after 20 ms.
const MARKERS: Duration = Duration::from_millis(4);

/// Decides when the next transaction may begin.
#[derive(Clone, Debug)]
pub struct Cadence {
    floor: Duration,
    began: Option<Instant>,
    ended: Option<Instant>,
    in_flight: bool,
}

impl Cadence {
    /// A cadence with at least `floor` between the beginnings of two transactions.
    pub fn new(floor: Duration) -> Self {
        Self { floor, began: None, ended: None, in_flight: false }
    }

    /// Whether a transaction is out.
    pub fn in_flight(&self) -> bool {
        self.in_flight
    }

    /// When a window that has something settled may close: `None` while a transaction is out, else the
    /// instant, which may already have passed. Who is in a hurry waits for neither floor nor markers: its
    /// transactions take tens of milliseconds one after the other, and a gap between two is lost.
    pub fn opens_at(&self, now: Instant, hurried: bool) -> Option<Instant> {
        if self.in_flight {
            return None;
        }
        match (self.began, self.ended) {
            (Some(began), Some(ended)) if !hurried => Some((began + self.floor).max(ended + MARKERS)),
            _ => Some(now),
        }
    }

    /// A transaction was handed over.
    pub fn begin(&mut self, now: Instant) {
        debug_assert!(!self.in_flight, "one transaction at a time");
        self.in_flight = true;
        self.began = Some(now);
    }

    /// Its outcome is known.
    pub fn end(&mut self, now: Instant) {
        self.in_flight = false;
        self.ended = Some(now);
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
        assert_eq!(cadence.opens_at(start, false), Some(start));
        cadence.begin(start);
        assert_eq!(cadence.opens_at(start + floor * 5, true), None, "one transaction at a time");
        cadence.end(start + floor / 5);
        assert_eq!(cadence.opens_at(start, false), Some(start + floor));
    }

    #[test]
    fn markers_are_waited_for_where_nobody_hurries() {
        let start = Instant::now();
        let floor = Duration::from_millis(10);
        let mut cadence = Cadence::new(floor);
        cadence.begin(start);
        let late = start + floor * 3;
        cadence.end(late);
        assert_eq!(cadence.opens_at(late, false), Some(late + MARKERS), "the floor has passed");
        assert_eq!(cadence.opens_at(late, true), Some(late));
    }
}
