//! Where the time of an event went, from the moments that the services write on its answer (`--timings`).
//!
//! ```text
//! due ─broker─► read by the router ─router─► read by the worker ─queue─► run ─run─► ran ─settle─► produced ─commit─► read
//! ```
//!
//! A source that its worker reads directly has no router. `run` is the run of the batch that the event was in, and `net`
//! is the whole way without it: what Twinlane and Kafka add to the model.

use hdrhistogram::Histogram;

use crate::account::histogram;
use crate::report::Report;

/// The moments of one answer, microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moments {
    /// By the router, where the event passed it.
    routed: Option<i64>,
    read: i64,
    run: i64,
    ran: i64,
    produced: i64,
}

impl Moments {
    /// From the text of the header `twinlane-timings`: `read=1,run=2,ran=3,produced=4`, and before it `read=0,produced=0`
    /// where the event passed the router.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let moments = text.split(',').map(|moment| moment.split_once('='));
        let moments: Vec<(&str, i64)> = moments
            .map(|moment| moment.and_then(|(name, at)| Some((name, at.parse().ok()?))))
            .collect::<Option<_>>()?;
        match moments[..] {
            [("read", read), ("run", run), ("ran", ran), ("produced", produced)] => {
                Some(Self { routed: None, read, run, ran, produced })
            }
            [
                ("read", routed),
                ("produced", _),
                ("read", read),
                ("run", run),
                ("ran", ran),
                ("produced", produced),
            ] => Some(Self { routed: Some(routed), read, run, ran, produced }),
            _ => None,
        }
    }
}

const PARTS: [&str; 7] = ["broker", "router", "queue", "run", "settle", "commit", "net"];

/// Microseconds that events of a kind spent in each part of their way.
#[derive(Debug)]
pub(crate) struct Breakdown([Histogram<u64>; PARTS.len()]);

impl Breakdown {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| histogram()))
    }

    /// One event, from when it was due to when its answer was read.
    pub(crate) fn add(&mut self, due: i64, moments: Moments, answered: i64) {
        let Moments { routed, read, run, ran, produced } = moments;
        let parts = [
            routed.unwrap_or(read) - due,
            routed.map_or(0, |routed| read - routed),
            run - read,
            ran - run,
            produced - ran,
            answered - produced,
            (answered - due) - (ran - run),
        ];
        for (histogram, part) in self.0.iter_mut().zip(parts) {
            histogram.saturating_record(u64::try_from(part).unwrap_or(0).max(1));
        }
    }

    /// Into the report, in milliseconds, as figures of `name`; nothing if no answer had moments.
    pub(crate) fn note(&self, name: &str, report: &mut Report) {
        for (histogram, part) in self.0.iter().zip(PARTS).filter(|(histogram, _)| !histogram.is_empty()) {
            for (quantile, says) in [(0.5, "p50"), (0.99, "p99")] {
                let ms = histogram.value_at_quantile(quantile) as f64 / 1000.0;
                report.figure(format!("{name}.{part}_{says}_ms"), ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_microsecond_of_an_event_is_in_one_part() {
        let routed = "read=1010,produced=1200,read=2000,run=2500,ran=9500,produced=9600";
        let direct = "read=2000,run=2500,ran=9500,produced=9600";
        for (text, broker, router) in [(routed, 10, 990), (direct, 1000, 1)] {
            let mut breakdown = Breakdown::new();
            breakdown.add(1000, Moments::parse(text).expect("valid"), 12_000);
            let parts: Vec<_> = breakdown.0.iter().map(Histogram::max).collect();
            assert_eq!(parts[..2], [broker, router]);
            assert!((4000..4010).contains(&parts[6]), "net of 11000 with a run of 7000: {}", parts[6]);
        }
    }

    #[test]
    fn what_is_no_list_of_moments_is_not_guessed_at() {
        for text in ["", "read", "read=1", "read=1,run=2,ran=x,produced=4", "run=1,read=2,ran=3,produced=4"] {
            assert_eq!(Moments::parse(text), None, "{text}");
        }
    }
}
