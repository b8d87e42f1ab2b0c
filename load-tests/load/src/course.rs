//! What a stream looked like, sample by sample: latency, lag, and what the services used.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::account::Account;
use crate::plot::Plot;
use crate::report::Report;
use crate::services::Running;

type Line = Vec<(f64, f64)>;

/// Seconds from the beginning of the stream, and what was measured there.
#[derive(Debug)]
pub(crate) struct Course {
    /// By kind of event: p50 and p99 since the sample before, in milliseconds.
    latencies: Vec<[Line; 2]>,
    /// Events that were sent and not answered.
    pub(crate) lag: Line,
    answered: Line,
    /// By service: part of a core, MiB resident, threads and files.
    usage: Vec<[Line; 4]>,
    names: Vec<&'static str>,
    before: Vec<(Instant, Duration)>,
    through: (f64, u64),
}

const USED: [(&str, &str, &str); 4] = [
    ("cores", "CPU", "cores"),
    ("resident", "memory", "MiB resident"),
    ("threads", "threads", "threads"),
    ("files", "files", "open files"),
];
const CORES: usize = 0;
const RESIDENT: usize = 1;

impl Course {
    pub(crate) fn new(kinds: usize, services: &[Running]) -> Self {
        Self {
            latencies: vec![Default::default(); kinds],
            lag: Vec::new(),
            answered: Vec::new(),
            usage: vec![Default::default(); services.len()],
            names: services.iter().map(|service| service.name).collect(),
            before: Vec::new(),
            through: (0.0, 0),
        }
    }

    pub(crate) fn sample(
        &mut self,
        now: f64,
        lag: u64,
        account: &mut Account,
        services: &mut [Running],
    ) -> Result<()> {
        for (kind, lines) in self.latencies.iter_mut().enumerate() {
            // Both from the same events: the first question forgets nothing, the second does.
            let halves = [account.recent(kind, 0.5, false), account.recent(kind, 0.99, true)];
            for (line, latency) in lines.iter_mut().zip(halves) {
                line.extend(latency.map(|latency| (now, latency.as_secs_f64() * 1000.0)));
            }
        }
        self.lag.push((now, lag as f64));
        let (then, through) = std::mem::replace(&mut self.through, (now, account.through()));
        if now > then {
            self.answered.push((now, (account.through() - through) as f64 / (now - then)));
        }
        let mut before = Vec::new();
        for (at, service) in services.iter_mut().enumerate() {
            service.check()?;
            let usage = service.usage()?;
            let moment = Instant::now();
            if let Some((then, cpu)) = self.before.get(at) {
                let part = usage.cpu.saturating_sub(*cpu).as_secs_f64() / then.elapsed().as_secs_f64();
                self.usage[at][CORES].push((now, part));
            }
            let resident = usage.resident as f64 / f64::from(1 << 20);
            for (line, value) in self.usage[at][RESIDENT..].iter_mut().zip([
                resident,
                usage.threads as f64,
                usage.files as f64,
            ]) {
                line.push((now, value));
            }
            before.push((moment, usage.cpu));
        }
        self.before = before;
        Ok(())
    }

    /// What it comes to, as figures of `name`, for a stream of so many events per second.
    pub(crate) fn note(&self, name: &str, per_second: f64, warm_up_seconds: f64, report: &mut Report) {
        let most = |line: &Line| line.iter().map(|point| point.1).reduce(f64::max);
        if let Some(most) = most(&self.lag) {
            report.figure(format!("{name}.lag_most"), most);
        }
        report.figure(format!("{name}.caught_up_after_s"), caught_up(&self.lag, per_second));
        if let Some(growth) = growth(&self.lag, warm_up_seconds) {
            report.figure(format!("{name}.lag_growth"), growth);
        }
        for (service, used) in self.names.iter().zip(&self.usage) {
            let name = format!("{name}.{service}");
            if let Some(most) = most(&used[RESIDENT]) {
                report.figure(format!("{name}.resident_mib_most"), most);
            }
            if let Some(mean) = mean(&used[CORES]) {
                report.figure(format!("{name}.cores"), mean);
            }
            for (line, (says, ..)) in used.iter().zip(USED).skip(RESIDENT) {
                if let Some(growth) = growth(line, warm_up_seconds) {
                    report.figure(format!("{name}.{says}_growth"), growth);
                }
            }
        }
    }

    /// All of it, as plots.
    pub(crate) fn plot(self, name: &str, account: &Account, kinds: &[&str], report: &mut Report) {
        let mut plot = |what: &str, y: &str, lines| {
            let title = format!("{name}: {what}");
            report.plots.push(Plot { title, x: "seconds".into(), y: y.into(), lines });
        };
        let over_time = self.latencies.into_iter().zip(kinds).flat_map(|(lines, kind)| {
            let named = ["p50", "p99"].map(|says| format!("{kind} {says}"));
            named.into_iter().zip(lines)
        });
        plot("latency over time", "ms", over_time.collect());
        plot("events answered", "events/s", vec![("answered".into(), self.answered)]);
        plot("lag: sent and not answered", "events", vec![("lag".into(), self.lag)]);
        for (index, (_, what, y)) in USED.into_iter().enumerate() {
            let lines = self.names.iter().zip(&self.usage);
            plot(what, y, lines.map(|(name, of)| ((*name).to_owned(), of[index].clone())).collect());
        }
        let curve = |kind: usize| -> Line {
            // Nines on the x axis: 1 is 90 %, 2 is 99 %, 3 is 99.9 %.
            let points = (0..=35).map(|tenth| f64::from(tenth) / 10.0);
            let latencies = account.latencies(kind);
            let at = |nines: f64| latencies.value_at_quantile(1.0 - 10f64.powf(-nines)) as f64 / 1000.0;
            points.map(|nines| (nines, at(nines))).collect()
        };
        let lines = kinds.iter().enumerate().map(|(kind, name)| ((*name).to_owned(), curve(kind)));
        report.plots.push(Plot {
            title: format!("{name}: latency by percentile"),
            x: "nines (1: 90 %, 2: 99 %, 3: 99.9 %)".into(),
            y: "ms".into(),
            lines: lines.collect(),
        });
    }
}

fn mean(line: &[(f64, f64)]) -> Option<f64> {
    (!line.is_empty()).then(|| line.iter().map(|point| point.1).sum::<f64>() / line.len() as f64)
}

/// The moment after which never again more than a second's events wait; 0 if they never did.
fn caught_up(lag: &[(f64, f64)], per_second: f64) -> f64 {
    lag.iter().rev().find(|(_, lag)| *lag > per_second).map_or(0.0, |(at, _)| *at)
}

/// The mean of the last fifth of a line as a part of the mean of its first fifth, warm-up left out.
fn growth(line: &[(f64, f64)], warm_up_seconds: f64) -> Option<f64> {
    let from = line.partition_point(|(at, _)| *at < warm_up_seconds);
    let line = &line[from..];
    let fifth = line.len() / 5;
    let (first, last) = (mean(&line[..fifth])?, mean(&line[line.len() - fifth..])?);
    Some(last / first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[f64]) -> Line {
        values.iter().enumerate().map(|(at, &value)| (at as f64, value)).collect()
    }

    #[test]
    fn a_line_grows_by_its_ends_and_its_warm_up_is_not_one() {
        let grows = line(&[1.0, 100.0, 100.0, 105.0, 105.0, 107.0, 107.0, 110.0, 110.0, 110.0, 110.0]);
        let growth = growth(&grows, 1.0).expect("long enough");
        assert!((growth - 1.1).abs() < 1e-9, "{growth}");
        assert_eq!(super::growth(&line(&[1.0, 2.0]), 0.0), None);
    }

    #[test]
    fn a_stream_has_caught_up_when_it_does_not_fall_behind_again() {
        assert_eq!(caught_up(&line(&[5.0, 200.0, 90.0, 101.0, 100.0, 3.0]), 100.0), 3.0);
        assert_eq!(caught_up(&line(&[5.0, 10.0]), 100.0), 0.0);
    }
}
