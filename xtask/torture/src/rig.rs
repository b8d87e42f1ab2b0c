//! What faults are injected into, and how recovery is told.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use twinlane_testkit::proxy::Proxy;
use twinlane_testkit::{Broker, wait};

use crate::feed::Feed;
use crate::fleet::Fleet;
use crate::shop::{Role, Source};
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
}

/// After so long without recovery there will be none.
pub(crate) const RECOVERY_LIMIT: Duration = Duration::from_secs(120);

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
        let strands = self.strands();
        let mut behind = strands.clone();
        let end = Instant::now() + RECOVERY_LIMIT;
        while Instant::now() < end {
            behind = self.watch.behind(moment, &strands);
            if behind.is_empty() {
                return Ok(moment.elapsed());
            }
            self.go_on()?;
            wait::pause_for(Duration::from_millis(10));
        }
        bail!("no answers after {RECOVERY_LIMIT:?} from {behind:?}")
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

    /// Fails once Ctrl-C was pressed.
    pub(crate) fn go_on(&self) -> Result<()> {
        if self.interrupted.load(Ordering::SeqCst) {
            bail!("interrupted; everything is stopped");
        }
        Ok(())
    }
}
