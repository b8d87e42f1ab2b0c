//! What a system sustains: first as many events per second as it answers while a fixed number of them is always on its
//! way, then, near that rate, a stream in steps. The capacity is the highest step at whose end no lag has built up.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use twinlane_testkit::client::{Outgoing, Producer};

use crate::account::{Account, Due};
use crate::arrivals::{Arrivals, Step};
use crate::progress::{Pulse, say};
use crate::report::Report;
use crate::saturate::Place;
use crate::scenario::Part;
use crate::stream;
use crate::system::System;
use crate::workload::{Event, SOURCE, Workload};

/// A capacity that a scenario asks for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Capacity {
    /// What its figures are called.
    pub(crate) name: String,
    pub(crate) workload: Workload,
    /// The part of the orders, of the large ones or of the reviews, where they are mixed with others.
    pub(crate) orders: Option<f64>,
    /// Those leave on schedule, as many per second as this part of a figure; only the others are always on their way, and only
    /// they are counted.
    pub(crate) hold_orders: Option<Part>,
    /// So many events are always on their way. The default is enough for every lane's largest batch and window: those of the
    /// router and of the throughput lane hold an event for half a second, so that 2,000 would be an end at 4,000 a second,
    /// whatever the models do.
    #[serde(default = "on_their_way")]
    pub(crate) on_their_way: u64,
    /// How long they are counted. A third of it goes before, uncounted.
    #[serde(default = "seconds")]
    pub(crate) seconds: f64,
    /// No steps follow, which say what is sustained without a queue.
    #[serde(default)]
    pub(crate) without_steps: bool,
}

fn on_their_way() -> u64 {
    20_000
}

fn seconds() -> f64 {
    12.0
}

const STEP_S: f64 = 6.0;
/// Parts of what the closed loop reached.
const STEPS: [f64; 9] = [0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0];
const DIFFERENT: usize = 20_000;
const QUIET: Duration = Duration::from_secs(30);

/// Measures one capacity, into the report.
pub(crate) fn measure(capacity: &Capacity, place: &Place<'_>, report: &mut Report) -> Result<()> {
    let name = &capacity.name;
    let mut system = System::start(name, capacity.workload, false, place, report)?;
    say(&format!("{name}: always {} events on their way", capacity.on_their_way));
    let closed = closed_loop(capacity, &mut system, place, report)?;
    report.figure(format!("{name}.closed_loop_per_s"), closed);
    if capacity.hold_orders.is_none() && !capacity.without_steps {
        say(&format!("{name}: {closed:.0} events/s; in steps around that"));
        let sustained = in_steps(capacity, closed, &mut system, place, report)?;
        report.figure(format!("{name}.sustained_per_s"), sustained);
        say(&format!("{name}: {sustained:.0} events/s without a growing lag"));
    }
    system.stop(report)
}

/// Events per second that are answered.
fn closed_loop(
    capacity: &Capacity,
    system: &mut System,
    place: &Place<'_>,
    report: &mut Report,
) -> Result<f64> {
    let held = capacity.hold_orders.as_ref().map(|part| part.of(&report.figures)).transpose()?;
    let mut events = capacity.workload.events(place.data, DIFFERENT, capacity.orders)?;
    let mut scheduled = Vec::new();
    if held.is_some() {
        (scheduled, events) = events.into_iter().partition(|event| event.kind == 0);
        ensure!(!scheduled.is_empty() && !events.is_empty(), "one kind is held where another is, too");
    }
    // The last kind is the one that is not held.
    let lanes = capacity.workload.lanes();
    let counted = |account: &Account| match held {
        Some(_) => account.through_kind(lanes.len() - 1),
        None => account.through(),
    };
    let producer: Producer<Due> = Producer::new(&system.brokers)?;
    let send = |event: &Event| {
        let (key, value) = (Some(event.key.as_bytes()), Some(event.value.as_slice()));
        let due = Due { at: Instant::now(), kind: event.kind };
        producer.send(&Outgoing { topic: SOURCE, key, value, ..Default::default() }, due)
    };
    let answers = system.answers()?;
    let began = Instant::now();
    let mut account = Account::new(lanes, began);
    let warm_up = Duration::from_secs_f64(capacity.seconds / 3.0);
    let (mut sent, mut sent_on_schedule) = (0, 0);
    let mut from: Option<(Instant, u64)> = None;
    let mut last = began;
    let mut pulse = Pulse::new();
    while began.elapsed() < warm_up + Duration::from_secs_f64(capacity.seconds) {
        if place.interrupted.load(std::sync::atomic::Ordering::SeqCst) {
            bail!("interrupted; everything is stopped");
        }
        while held.is_some_and(|rate| (sent_on_schedule as f64) < began.elapsed().as_secs_f64() * rate) {
            send(&scheduled[sent_on_schedule % scheduled.len()])?;
            sent_on_schedule += 1;
        }
        while sent < counted(&account) + capacity.on_their_way {
            send(&events[sent as usize % events.len()])?;
            sent += 1;
        }
        last = answers.next(Duration::from_millis(1), &mut account)?.unwrap_or(last);
        producer.take_delivered().into_iter().for_each(|d| account.due((d.partition, d.offset), d.tag));
        ensure!(last.elapsed() < QUIET, "nothing is answered any more; see {}", system.logs.display());
        if from.is_none() && began.elapsed() >= warm_up {
            from = Some((Instant::now(), counted(&account)));
        }
        pulse.show(|| format!("{} events answered", counted(&account)));
    }
    let (since, before) = from.context("it lasts longer than its warm-up")?;
    let pace = (counted(&account) - before) as f64 / since.elapsed().as_secs_f64();
    // Whatever is on its way must not be counted with what comes next.
    producer.flush()?.into_iter().for_each(|d| account.due((d.partition, d.offset), d.tag));
    let all = sent + sent_on_schedule as u64;
    while account.through() < all {
        last = answers.next(Duration::from_millis(20), &mut account)?.unwrap_or(last);
        producer.take_delivered().into_iter().for_each(|d| account.due((d.partition, d.offset), d.tag));
        ensure!(last.elapsed() < QUIET, "nothing is answered any more; see {}", system.logs.display());
    }
    account.ensure_lanes()?;
    if held.is_some() {
        let p95 = account.latencies(0).value_at_quantile(0.95) as f64 / 1000.0;
        report.figure(format!("{}.held_orders_p95_ms", capacity.name), p95);
    }
    Ok(pace)
}

/// The highest rate without a growing lag.
fn in_steps(
    capacity: &Capacity,
    around: f64,
    system: &mut System,
    place: &Place<'_>,
    report: &mut Report,
) -> Result<f64> {
    let name = &capacity.name;
    let events = capacity.workload.events(place.data, DIFFERENT, capacity.orders)?;
    let steps: Vec<_> = STEPS.map(|part| Step { per_second: part * around, seconds: STEP_S }).into();
    let times = Arrivals::Steps(steps.clone()).schedule(STEP_S * steps.len() as f64, 1.0, 0);
    let flow = stream::flow(name, stream::planned(times, events), 0.0, system, place)?;
    let waiting = waiting(&flow.course.lag);
    for (at, (step, (before, after))) in steps.iter().zip(&waiting).enumerate() {
        let rate = step.per_second;
        say(&format!("{name}: {rate:.0} events/s: {before:.0} wait at the beginning, {after:.0} at the end"));
        report.figure(format!("{name}.step_{at}.per_s"), rate);
        report.figure(format!("{name}.step_{at}.waiting_before"), *before);
        report.figure(format!("{name}.step_{at}.waiting_after"), *after);
    }
    let found = sustained(&waiting, steps.iter().map(|step| step.per_second));
    found.with_context(|| format!("{name}: lag grows at {:.0} events/s already", around * STEPS[0]))
}

/// How many events wait at the beginning and at the end of each step.
fn waiting(lag: &[(f64, f64)]) -> Vec<(f64, f64)> {
    // In the second around a moment, on average: a window at a time leaves, and lag saws.
    let around = |at: f64| {
        let near: Vec<_> = lag.iter().filter(|(t, _)| (t - at).abs() <= 0.75).map(|(_, lag)| *lag).collect();
        (!near.is_empty()).then(|| near.iter().sum::<f64>() / near.len() as f64)
    };
    let begins = (0..STEPS.len()).map(|step| step as f64 * STEP_S);
    begins.map_while(|begins| around(begins + 1.0).zip(around(begins + STEP_S - 1.0))).collect()
}

/// The highest of the rates, each of which lasted a step, that is sustained: at its end events wait at most a quarter of a
/// second longer than at the beginning of the lowest. A hiccup in a lower step says nothing of those above it; but what a
/// backlog lets through in large batches is not sustained without one.
fn sustained(waiting: &[(f64, f64)], rates: impl Iterator<Item = f64>) -> Option<f64> {
    let steps: Vec<_> = waiting.iter().zip(rates).collect();
    let ((at_rest, _), lowest) = *steps.first()?;
    let most_s = at_rest / lowest + 0.25;
    let holds = steps.into_iter().rfind(|((_, after), rate)| *after <= most_s * rate);
    holds.map(|(_, rate)| rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capacity_is_the_highest_step_in_which_no_lag_grows() {
        let rates = STEPS.map(|part| part * 1000.0);
        let found = |lag: fn(f64) -> f64| {
            let halves = 2 * (STEP_S as usize) * STEPS.len();
            let lag: Vec<_> = (0..halves).map(|half| half as f64 / 2.0).map(|at| (at, lag(at))).collect();
            sustained(&waiting(&lag), rates.into_iter())
        };
        assert_eq!(found(|at| 50.0 + (at - 18.0).max(0.0) * 100.0), Some(600.0));
        assert_eq!(found(|at| 50.0 + at * 100.0), None);
        assert_eq!(found(|_| 50.0), Some(1000.0));
        let hiccup = |at| if (8.0..12.0).contains(&at) { 500.0 } else { 50.0 };
        assert_eq!(found(hiccup), Some(1000.0), "it was over before the step above it");
        let backlog = |at| if at > 30.0 { 500.0 } else { 50.0 };
        assert_eq!(found(backlog), Some(800.0), "half a second's events wait from there on");
    }
}
