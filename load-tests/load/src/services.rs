//! The services that a scenario runs, each a process of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use twinlane_testkit::Service;
use twinlane_testkit::process::{ServiceOptions, free_port, http_get};
use twinlane_testkit::usage::Usage;

/// Loading and warming up the models, and joining the group.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How services are started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How<'a> {
    pub(crate) binaries: &'a Path,
    pub(crate) pipeline: &'a Path,
    pub(crate) brokers: &'a str,
    pub(crate) logs: &'a Path,
    /// What comes before the program on its command line.
    pub(crate) prefix: &'a [String],
    /// Note on every answer when its event was read, run and produced.
    pub(crate) timings: bool,
}

/// A service that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) name: &'static str,
    service: Service,
    admin: SocketAddr,
    started: Instant,
    ready: bool,
}

impl Running {
    /// Starts a replica of it and does not wait. `log` is the name of its log.
    pub(crate) fn spawn(name: &'static str, log: &str, replica: usize, how: How<'_>) -> Result<Self> {
        let program = how.binaries.join(name);
        ensure!(program.exists(), "{} is not there; `cargo xtask load` builds it", program.display());
        let admin = free_port()?;
        let own = [
            ["--pipeline", &how.pipeline.to_string_lossy()],
            ["--schemas", "schemas"],
            ["--brokers", how.brokers],
            ["--ordinal", &replica.to_string()],
            ["--admin-port", &admin.port().to_string()],
        ];
        let own = own.iter().flatten().map(|&argument| argument.to_owned());
        let own = own.chain(how.timings.then(|| "--timings".to_owned()));
        let program = [program.to_string_lossy().into_owned()];
        let mut line = how.prefix.iter().cloned().chain(program).chain(own);
        let program = line.next().context("a command line has a program")?.into();
        let options = ServiceOptions {
            name: log.to_owned(),
            program,
            arguments: line.collect(),
            logs: how.logs.to_owned(),
            ..Default::default()
        };
        let started = Instant::now();
        Ok(Self { name, service: Service::spawn(&options)?, admin, started, ready: false })
    }

    /// Waits until it has joined its groups, and says how long that took from its start.
    pub(crate) fn wait_until_ready(&mut self) -> Result<Duration> {
        self.service.wait_for_http(self.admin, "/health/ready", READY_LIMIT)?;
        Ok(self.started.elapsed())
    }

    /// Whether it has joined its groups by now.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.ready |= self.service.wait_for_http(self.admin, "/health/ready", Duration::ZERO).is_ok();
        self.ready
    }

    /// Where it answers about itself.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The operating system's number for it.
    pub(crate) fn process(&mut self) -> u32 {
        self.service.process().id()
    }

    /// What it uses now.
    pub(crate) fn usage(&mut self) -> Result<Usage> {
        Ok(Usage::of(self.process())?)
    }

    /// Fails when it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        Ok(self.service.check_running()?)
    }

    /// Where its output goes.
    pub(crate) fn log(&self) -> &Path {
        self.service.log()
    }

    /// The mean of a histogram over all its labels; none before it has any sample.
    pub(crate) fn mean(&self, metric: &str) -> Result<Option<f64>> {
        Ok(mean(&http_get(self.admin, "/metrics")?, metric))
    }

    /// The part of a histogram's samples that are not above `bound`, one of its own bounds; none before it has any.
    pub(crate) fn part_below(&self, metric: &str, bound: &str) -> Result<Option<f64>> {
        Ok(part_below(&http_get(self.admin, "/metrics")?, metric, bound))
    }

    /// Stops it cleanly.
    pub(crate) fn stop(mut self) -> Result<()> {
        let code = self.service.stop(STOP_LIMIT);
        ensure!(code == Some(0), "{} ended with {code:?}; see {}", self.name, self.log().display());
        Ok(())
    }
}

/// A metric's value summed over its labels, of which one reads `label`, if that is not empty.
fn total(metrics: &str, name: &str, label: &str) -> f64 {
    let of = metrics.lines().filter_map(|line| line.strip_prefix(name));
    let of = of.filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label));
    of.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn mean(metrics: &str, name: &str) -> Option<f64> {
    let count = total(metrics, &format!("{name}_count"), "");
    (count > 0.0).then(|| total(metrics, &format!("{name}_sum"), "") / count)
}

fn part_below(metrics: &str, name: &str, bound: &str) -> Option<f64> {
    let count = total(metrics, &format!("{name}_count"), "");
    let below = total(metrics, &format!("{name}_bucket"), &format!("le=\"{bound}\""));
    (count > 0.0).then(|| below / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_a_histogram_is_over_all_its_labels_and_no_other_metric() {
        let metrics = "# TYPE a summary\na{task=\"x\",quantile=\"0.5\"} 7\na_sum{task=\"x\"} 20\na_count{task=\"x\"} 4\n\
                       a_sum{task=\"y\"} 10\na_count{task=\"y\"} 1\na_sum_of_all 99\nb_sum 5\nb_count 5\n";
        assert_eq!(mean(metrics, "a"), Some(6.0));
        assert_eq!(mean(metrics, "b"), Some(1.0));
        assert_eq!(mean(metrics, "c"), None);
    }

    #[test]
    fn the_part_below_a_bound_is_over_all_labels() {
        let metrics = "a_bucket{x=\"1\",le=\"0.012\"} 6\na_bucket{x=\"1\",le=\"0.12\"} 9\n\
                       a_bucket{x=\"2\",le=\"0.012\"} 1\na_count{x=\"1\"} 9\na_count{x=\"2\"} 1\n";
        assert_eq!(part_below(metrics, "a", "0.012"), Some(0.7));
        assert_eq!(part_below(metrics, "b", "0.012"), None);
    }
}
