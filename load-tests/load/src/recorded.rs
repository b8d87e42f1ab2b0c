//! A recorded stream: the reference events in their own time, faster. Nights, weekends and sales are in it.
//!
//! The two data sets are decades apart; each begins with the stream, and purchases pass at the speed at which both end
//! together.

use std::time::Duration;

use crate::workload::Event;

/// Sorts the events by when they leave, drops those that leave later than `seconds`, and gives the times. One second is
/// `speed` seconds of the orders' data, or of the only data that there are. Events without a time of their own are dropped.
pub(crate) fn times(events: &mut Vec<Event>, speed: f64, seconds: f64) -> Vec<Duration> {
    let span = |kind: usize| {
        let times =
            || events.iter().filter(move |event| event.kind == kind).filter_map(|event| event.happened_at);
        Some((times().min()?, times().max()?))
    };
    let spans = [span(0), span(1)];
    let length = spans.iter().find_map(|span| span.map(|(first, last)| (last - first).max(1) as f64));
    let seconds_of = |event: &Event| {
        let (first, last) = (*spans.get(event.kind)?)?;
        let part = (event.happened_at? - first) as f64 / (last - first).max(1) as f64;
        Some(part * length? / 1000.0 / speed)
    };
    let all = std::mem::take(events).into_iter();
    let mut timed: Vec<_> = all.filter_map(|event| Some((seconds_of(&event)?, event))).collect();
    timed.retain(|(at, _)| *at < seconds);
    timed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (times, sorted): (Vec<_>, Vec<_>) = timed.into_iter().unzip();
    *events = sorted;
    times.into_iter().map(Duration::from_secs_f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: usize, happened_at: i64) -> Event {
        Event { kind, key: happened_at.to_string(), value: Vec::new(), happened_at: Some(happened_at) }
    }

    #[test]
    fn events_leave_in_their_own_time_and_both_kinds_end_together() {
        let orders = [1000, 5000, 11_000].map(|at| event(0, at));
        let purchases = [70_000, 72_000].map(|at| event(1, at));
        let mut events: Vec<_> = orders.into_iter().chain(purchases).collect();
        let times = times(&mut events, 10.0, 1.5);
        let seconds: Vec<_> = times.iter().map(Duration::as_secs_f64).collect();
        assert_eq!(seconds, [0.0, 0.0, 0.4, 1.0, 1.0]);
        let keys: Vec<_> = events.iter().map(|event| event.key.as_str()).collect();
        assert_eq!(keys, ["1000", "70000", "5000", "11000", "72000"]);
    }

    #[test]
    fn what_leaves_too_late_is_left_out() {
        let mut events: Vec<_> = (0..10).map(|at| event(0, at * 1000)).collect();
        assert_eq!(times(&mut events, 1.0, 4.5).len(), 5);
        assert_eq!(events.len(), 5);
    }
}
