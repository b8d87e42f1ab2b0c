//! What faults are injected into, and how recovery is told.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use twinlane_testkit::proxy::Proxy;
use twinlane_testkit::{Broker, client, wait};

use crate::feed::Feed;
use crate::fleet::Fleet;
use crate::shop::{self, DEAD_LETTERS, GROUPS, OUTPUTS, Role, Source};
use crate::watch::{Strand, Watch};

/// Everything that runs.
pub(crate) struct Rig {
    pub(crate) fleet: Fleet,
    pub(crate) broker: Mutex<Broker>,
    pub(crate) proxies: Vec<Arc<Proxy>>,
    /// Where the rig's own clients reach the brokers, whatever the proxies do.
    pub(crate) bootstrap: String,
    pub(crate) feed: Feed,
    pub(crate) watch: Watch,
    /// The folder of the binaries with fail points.
    pub(crate) armed: Option<PathBuf>,
    pub(crate) interrupted: Arc<AtomicBool>,
    /// Something broke that the rig itself needs.
    pub(crate) broken: AtomicBool,
}

/// After so long without recovery there will be none.
pub(crate) const RECOVERY_LIMIT: Duration = Duration::from_secs(90);

impl Rig {
    /// Every lane's work on every source partition that gets events.
    pub(crate) fn strands(&self) -> Vec<Strand> {
        let mut strands = Vec::new();
        for partition in 0..self.feed.partitions(Source::Events) {
            strands.extend([Role::Precision, Role::Throughput].map(|lane| (lane, Source::Events, partition)));
        }
        let reviews = 0..self.feed.partitions(Source::Reviews);
        strands.extend(reviews.map(|partition| (Role::Precision, Source::Reviews, partition)));
        strands
    }

    /// Waits until every strand has answered events that were produced after `moment`, and says how long after it.
    pub(crate) fn recovered(&self, moment: Instant) -> Result<Duration> {
        self.wait_for(moment, |strands| self.watch.behind(moment, strands))
    }

    /// Waits until answers flow on every strand again, be it those of a backlog, and says how long after `moment`.
    pub(crate) fn flows(&self, moment: Instant) -> Result<Duration> {
        self.wait_for(moment, |strands| self.watch.silent(moment, strands))
    }

    fn wait_for(&self, moment: Instant, left: impl Fn(&[Strand]) -> Vec<Strand>) -> Result<Duration> {
        let strands = self.strands();
        let mut behind = strands.clone();
        let end = Instant::now() + RECOVERY_LIMIT;
        while Instant::now() < end {
            behind = left(&strands);
            if behind.is_empty() {
                return Ok(moment.elapsed());
            }
            self.go_on()?;
            wait::pause_for(Duration::from_millis(10));
        }
        for line in self.stuck().unwrap_or_else(|error| vec![format!("{error:#}")]) {
            println!("  {line}");
        }
        bail!("no answers after {RECOVERY_LIMIT:?} from {behind:?}")
    }

    /// Where it hangs: partitions with an open transaction, and those whose group is behind.
    fn stuck(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        let ends = client::Ends::new(&self.bootstrap)?;
        let written = shop::lanes(&self.bootstrap)?
            .into_iter()
            .chain(OUTPUTS.map(|(topic, _)| topic))
            .chain([DEAD_LETTERS]);
        for topic in written {
            for partition in 0..client::partitions(&self.bootstrap, topic)? {
                let (stable, end) = ends.of(topic, partition)?;
                if stable < end {
                    lines.push(format!("{topic}[{partition}] is committed up to {stable} of {end}"));
                }
            }
        }
        for (group, topics) in GROUPS {
            for topic in topics {
                let lag = client::committed_lag(&self.bootstrap, group, topic)?;
                lines.push(format!("{group} has {lag} to go on {topic}"));
            }
        }
        Ok(lines)
    }

    /// Pauses, unless the rig is interrupted meanwhile.
    pub(crate) fn pause(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.go_on()?;
            wait::pause_for(Duration::from_millis(50).min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// Asks until there is something, or the limit has passed.
    pub(crate) fn until<T>(&self, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<Option<T>> {
        let end = Instant::now() + limit;
        loop {
            if let Some(answer) = ask() {
                return Ok(Some(answer));
            }
            if Instant::now() > end {
                return Ok(None);
            }
            self.pause(Duration::from_millis(20))?;
        }
    }

    /// Fails once Ctrl-C was pressed, or the rig itself is broken.
    pub(crate) fn go_on(&self) -> Result<()> {
        if self.interrupted.load(Ordering::SeqCst) {
            bail!("interrupted; everything is stopped");
        }
        if self.broken.load(Ordering::SeqCst) {
            bail!("broken off");
        }
        Ok(())
    }
}
