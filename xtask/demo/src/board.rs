//! What is known while the demo runs: every event that was sent, and what has come back of it.
//!
//! This is the live picture. The verdict at the end takes from it what was sent and how long answers took; what became
//! of each event it reads anew from the topics.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use twinlane_testkit::checker::{Expected, Found};
use twinlane_testkit::client::Delivered;

use crate::commerce::{LANES, Lane};
use crate::feed::Sent;
use crate::watch::Answer;

/// Latencies in microseconds, up to ten minutes, with three digits.
fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("these bounds are valid")
}

struct Event {
    sent: Sent,
    answered: bool,
}

/// One lane, live.
pub(crate) struct LaneBoard {
    pub(crate) sent: u64,
    pub(crate) skipped: u64,
    pub(crate) scored: u64,
    pub(crate) dead_lettered: u64,
    /// Events whose time counts: replayed at the chosen rate, and not touched by the crash.
    pub(crate) steady: Histogram<u64>,
    /// All replayed events.
    pub(crate) all: Histogram<u64>,
    recent: Histogram<u64>,
    recent_scored: u64,
    recent_since: Instant,
    replayed_scored: u64,
    last_answer: Option<Instant>,
}

/// The crash of the precision worker and what followed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crash {
    pub(crate) at: Instant,
    pub(crate) sent_before: u64,
    /// When the first order that was sent after it was answered.
    pub(crate) answered_again: Option<Instant>,
    /// When answers were as fast as before.
    pub(crate) over: Option<Instant>,
}

/// A line of the live display.
pub(crate) struct Line {
    pub(crate) lane: Lane,
    pub(crate) sent: u64,
    pub(crate) scored: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) lag: u64,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// All of it.
pub(crate) struct Board {
    events: HashMap<(i32, i64), Event>,
    // An answer may be read before the producer has told where its event lies.
    early: Vec<Answer>,
    lanes: [LaneBoard; 2],
    pub(crate) crash: Option<Crash>,
    pub(crate) last_answer: Instant,
    pub(crate) outstanding: u64,
}

impl Board {
    pub(crate) fn new(now: Instant) -> Self {
        let lane = || LaneBoard {
            sent: 0,
            skipped: 0,
            scored: 0,
            dead_lettered: 0,
            steady: latencies(),
            all: latencies(),
            recent: latencies(),
            recent_scored: 0,
            recent_since: now,
            replayed_scored: 0,
            last_answer: None,
        };
        let lanes = [lane(), lane()];
        let events = HashMap::new();
        Self { events, early: Vec::new(), lanes, crash: None, last_answer: now, outstanding: 0 }
    }

    pub(crate) fn lane(&self, lane: Lane) -> &LaneBoard {
        &self.lanes[lane.index()]
    }

    /// What was sent at these coordinates.
    pub(crate) fn event(&self, partition: i32, offset: i64) -> Option<&Sent> {
        self.events.get(&(partition, offset)).map(|event| &event.sent)
    }

    /// Every event that was sent, with its coordinates.
    pub(crate) fn events(&self) -> impl Iterator<Item = (i32, i64, &Sent)> {
        self.events.iter().map(|(&(partition, offset), event)| (partition, offset, &event.sent))
    }

    /// Everything sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.sent).sum()
    }

    /// Takes what the broker has confirmed.
    pub(crate) fn confirmed(&mut self, delivered: Vec<Delivered<Sent>>) {
        for Delivered { tag, partition, offset, .. } in delivered {
            let lane = &mut self.lanes[tag.lane.index()];
            lane.sent += 1;
            if tag.expected == Expected::Skip {
                lane.skipped += 1;
            } else {
                self.outstanding += 1;
            }
            self.events.insert((partition, offset), Event { sent: tag, answered: false });
        }
        for answer in std::mem::take(&mut self.early) {
            self.answered(answer);
        }
    }

    /// Takes an answer or a dead letter.
    pub(crate) fn answered(&mut self, answer: Answer) {
        let Some(event) = self.events.get_mut(&answer.source) else {
            return self.early.push(answer);
        };
        if std::mem::replace(&mut event.answered, true) {
            return;
        }
        let sent = event.sent.clone();
        let took = answer.at.saturating_duration_since(sent.at);
        self.outstanding = self.outstanding.saturating_sub(1);
        self.last_answer = self.last_answer.max(answer.at);
        // A dead letter may come from the router, which the crash did not touch.
        let disturbed = answer.found == Found::Answer && self.disturbs(&sent, answer.at, took);
        let lane = &mut self.lanes[sent.lane.index()];
        match answer.found {
            Found::DeadLetter => lane.dead_lettered += 1,
            Found::Answer => {
                lane.scored += 1;
                lane.recent_scored += 1;
                lane.recent.saturating_record(micros(took));
                if sent.replayed {
                    lane.replayed_scored += 1;
                    lane.last_answer = Some(answer.at);
                    lane.all.saturating_record(micros(took));
                    if !disturbed {
                        lane.steady.saturating_record(micros(took));
                    }
                }
            }
        }
    }

    /// Notes that the precision worker was killed.
    pub(crate) fn crashed(&mut self, at: Instant) {
        self.crash = Some(Crash { at, sent_before: self.sent(), answered_again: None, over: None });
    }

    /// Whether the crash had a part in this answer's time. It ends for its lane with the first order that was sent
    /// after it and is answered about as fast as before.
    fn disturbs(&mut self, sent: &Sent, at: Instant, took: Duration) -> bool {
        let usual = Duration::from_micros(self.lane(Lane::Precision).steady.value_at_quantile(0.99));
        let Some(crash) = self.crash.as_mut().filter(|_| sent.lane == Lane::Precision) else { return false };
        if at < crash.at {
            return false;
        }
        if sent.at > crash.at {
            crash.answered_again.get_or_insert(at);
            if crash.over.is_none() && took <= usual.max(Duration::from_millis(100)) {
                crash.over = Some(at);
            }
        }
        crash.over.is_none_or(|over| sent.at < over)
    }

    /// The live line of a lane, and a new start for what it says of "now".
    pub(crate) fn line(&mut self, lane: Lane, now: Instant) -> Line {
        let board = &mut self.lanes[lane.index()];
        let elapsed = now.saturating_duration_since(board.recent_since).as_secs_f64();
        let quantile = |q| Duration::from_micros(board.recent.value_at_quantile(q));
        let line = Line {
            lane,
            sent: board.sent,
            scored: board.scored,
            dead_lettered: board.dead_lettered,
            lag: board.sent.saturating_sub(board.scored + board.dead_lettered + board.skipped),
            per_second: if elapsed > 0.0 { board.recent_scored as f64 / elapsed } else { 0.0 },
            p50: quantile(0.5),
            p99: quantile(0.99),
        };
        board.recent.reset();
        board.recent_scored = 0;
        board.recent_since = now;
        line
    }

    /// Scored events per second of each lane over the replay that began at `start`.
    pub(crate) fn rates(&self, start: Instant) -> [f64; 2] {
        LANES.map(|lane| {
            let lane = self.lane(lane);
            let seconds =
                lane.last_answer.map_or(0.0, |last| last.saturating_duration_since(start).as_secs_f64());
            if seconds > 0.0 { lane.replayed_scored as f64 / seconds } else { 0.0 }
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn send(board: &mut Board, offset: i64, at: Instant) {
        let tag = Sent {
            id: "order-1".into(),
            lane: Lane::Precision,
            expected: Expected::Answer,
            reason: None,
            truth: None,
            replayed: true,
            at,
        };
        board.confirmed(vec![Delivered { tag, partition: 0, offset, time_ms: 0 }]);
    }

    fn answer(offset: i64, at: Instant) -> Answer {
        Answer { source: (0, offset), found: Found::Answer, at }
    }

    #[test]
    fn an_answer_that_is_read_before_its_event_is_confirmed_still_counts() {
        let start = Instant::now();
        let mut board = Board::new(start);
        board.answered(answer(0, start + MS * 5));
        assert_eq!(board.lane(Lane::Precision).scored, 0);
        send(&mut board, 0, start);
        assert_eq!((board.lane(Lane::Precision).scored, board.outstanding), (1, 0));
    }

    #[test]
    fn events_that_met_the_crash_are_kept_out_of_the_steady_times() {
        let start = Instant::now();
        let mut board = Board::new(start);
        send(&mut board, 0, start);
        board.answered(answer(0, start + MS * 20));
        send(&mut board, 1, start + MS * 90);
        board.crashed(start + MS * 100);
        send(&mut board, 2, start + MS * 110);
        board.answered(answer(1, start + MS * 3000));
        board.answered(answer(2, start + MS * 3000));
        send(&mut board, 3, start + MS * 4000);
        board.answered(answer(3, start + MS * 4020));
        send(&mut board, 4, start + MS * 5000);
        board.answered(answer(4, start + MS * 5020));

        let lane = board.lane(Lane::Precision);
        assert_eq!((lane.all.len(), lane.steady.len()), (5, 2));
        assert_eq!(board.crash.unwrap().answered_again, Some(start + MS * 3000));
        assert_eq!(board.crash.unwrap().over, Some(start + MS * 4020));
    }
}
