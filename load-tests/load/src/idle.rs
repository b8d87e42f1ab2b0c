//! What services cost that have nothing to do.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Deserialize;
use twinlane_testkit::wait;

use crate::progress::say;
use crate::report::Report;
use crate::saturate::Place;
use crate::system::System;
use crate::workload::Workload;

/// A while without events.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Idle {
    /// What its figures are called.
    pub(crate) name: String,
    /// Whose services run.
    pub(crate) workload: Workload,
    pub(crate) seconds: u64,
}

/// Joining a group is not idleness.
const SETTLE: Duration = Duration::from_secs(3);

/// Measures the part of a core and the memory of each service, into the report.
pub(crate) fn measure(idle: &Idle, place: &Place<'_>, report: &mut Report) -> Result<()> {
    let mut system = System::start(&idle.name, idle.workload, false, place, report)?;
    say(&format!("{}: {} s without events", idle.name, idle.seconds));
    let interrupted = || place.interrupted.load(std::sync::atomic::Ordering::SeqCst).then_some(());
    wait::until(SETTLE, interrupted);
    let mut before = Vec::new();
    for service in &mut system.services {
        before.push((Instant::now(), service.usage()?.cpu));
    }
    wait::until(Duration::from_secs(idle.seconds), interrupted);
    ensure!(interrupted().is_none(), "interrupted; everything is stopped");
    for (service, (since, cpu)) in system.services.iter_mut().zip(before) {
        service.check()?;
        let (usage, name) = (service.usage()?, format!("{}.{}", idle.name, service.name));
        let part = usage.cpu.saturating_sub(cpu).as_secs_f64() / since.elapsed().as_secs_f64();
        report.figure(format!("{name}.cores"), part);
        report.figure(format!("{name}.resident_mib"), usage.resident as f64 / f64::from(1 << 20));
    }
    system.stop(report)
}
