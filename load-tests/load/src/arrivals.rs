//! When events leave. The schedule is made before anything is sent and follows from a seed: an event leaves at its time
//! whether or not answers have come back, and its latency counts from there, so that a stall is not hidden.

use std::time::Duration;

use serde::Deserialize;
use twinlane_testkit::random::Random;

/// How events arrive. Rates are events per second.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Arrivals {
    /// One after the other, at the same distance.
    Constant(f64),
    /// Independently of each other.
    Poisson(f64),
    /// One rate after the other, each for so many seconds, evenly.
    Steps(Vec<Step>),
    /// Mostly one rate, and another one for a while, again and again; independently of each other.
    Bursts(Bursts),
    /// As the reference events happened, so many times faster.
    Recorded { speed: f64 },
}

/// A rate for a while.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) per_second: f64,
    pub(crate) seconds: f64,
}

/// Bursts in a steady stream.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bursts {
    /// Between bursts.
    pub(crate) per_second: f64,
    /// In a burst.
    pub(crate) burst_per_second: f64,
    /// From the beginning of one burst to the beginning of the next; the first begins after as much.
    pub(crate) every_seconds: f64,
    /// How long each lasts.
    pub(crate) lasts_seconds: f64,
}

impl Arrivals {
    /// The times at which events leave, in order, within `seconds` from the beginning. `scale` multiplies every rate.
    pub(crate) fn schedule(&self, seconds: f64, scale: f64, seed: u64) -> Vec<Duration> {
        let mut random = Random::new(seed);
        match self {
            Self::Constant(rate) => evenly(*rate * scale, 0.0, seconds).collect(),
            Self::Poisson(rate) => by_chance(seconds, *rate * scale, |_| *rate * scale, &mut random),
            Self::Steps(steps) => {
                let mut begins = 0.0;
                let mut times = Vec::new();
                for step in steps {
                    let ends = (begins + step.seconds).min(seconds);
                    times.extend(evenly(step.per_second * scale, begins, ends));
                    begins = ends;
                }
                times
            }
            Self::Bursts(bursts) => {
                let rate = |at: f64| {
                    let in_burst =
                        at >= bursts.every_seconds && at % bursts.every_seconds < bursts.lasts_seconds;
                    scale * if in_burst { bursts.burst_per_second } else { bursts.per_second }
                };
                let most = scale * bursts.per_second.max(bursts.burst_per_second);
                by_chance(seconds, most, rate, &mut random)
            }
            // When these leave is said by the events themselves; see `recorded`.
            Self::Recorded { .. } => Vec::new(),
        }
    }
}

fn evenly(per_second: f64, begins: f64, ends: f64) -> impl Iterator<Item = Duration> {
    let count = ((ends - begins).max(0.0) * per_second).round() as u64;
    (0..count).map(move |event| Duration::from_secs_f64(begins + event as f64 / per_second))
}

/// A Poisson process whose rate changes with time: candidates at the highest rate, of which a part is taken.
fn by_chance(seconds: f64, most: f64, rate: impl Fn(f64) -> f64, random: &mut Random) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut at = 0.0;
    loop {
        at += -(1.0 - random.unit()).ln() / most;
        if at >= seconds || !at.is_finite() {
            return times;
        }
        if random.unit() * most < rate(at) {
            times.push(Duration::from_secs_f64(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(times: &[Duration], from: f64, to: f64) -> usize {
        times.iter().filter(|at| (from..to).contains(&at.as_secs_f64())).count()
    }

    #[test]
    fn constant_arrivals_are_as_many_as_asked_for_and_evenly_spread() {
        let times = Arrivals::Constant(100.0).schedule(10.0, 2.0, 1);
        assert_eq!(times.len(), 2000);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= Duration::from_micros(5001)));
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_one() {
        let times = Arrivals::Poisson(1000.0).schedule(100.0, 1.0, 7);
        assert!((98_500..101_500).contains(&times.len()), "{}", times.len());
        let gaps: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((deviation / mean - 1.0).abs() < 0.03, "{deviation} of {mean}: gaps are exponential");
        assert_eq!(times, Arrivals::Poisson(1000.0).schedule(100.0, 1.0, 7), "a seed repeats");
    }

    #[test]
    fn steps_follow_one_another_and_end_with_the_time() {
        let step = |per_second, seconds| Step { per_second, seconds };
        let times = Arrivals::Steps(vec![step(10.0, 5.0), step(100.0, 50.0)]).schedule(7.0, 1.0, 1);
        assert_eq!((between(&times, 0.0, 5.0), between(&times, 5.0, 7.0), times.len()), (50, 200, 250));
    }

    #[test]
    fn bursts_come_when_they_should() {
        let bursts =
            Bursts { per_second: 100.0, burst_per_second: 1000.0, every_seconds: 10.0, lasts_seconds: 2.0 };
        let times = Arrivals::Bursts(bursts).schedule(20.0, 1.0, 3);
        assert!((880..1120).contains(&between(&times, 0.0, 10.0)));
        assert!((1850..2150).contains(&between(&times, 10.0, 12.0)));
        assert!((700..900).contains(&between(&times, 12.0, 20.0)));
    }
}
