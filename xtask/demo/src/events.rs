//! The events of the demo: the reference orders and purchases in time order, and one in a hundred spoiled on purpose.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use twinlane_replay::{Damage, Known, Order, ReferenceEvent, Split, Task, damage, orders, reference_events};
use twinlane_testkit::checker::Expected;

use crate::commerce::Lane;

/// One in this many events is spoiled.
const SPOILED: u64 = 100;

/// An event to send, and what must come of it.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// `order_id` or `purchase_id`, which its answer carries.
    pub(crate) id: Arc<str>,
    pub(crate) lane: Lane,
    pub(crate) expected: Expected,
    /// For a dead letter: the reason that it must name.
    pub(crate) reason: Option<&'static str>,
    /// What the future brought, where models may be measured by it: on events later than all they were trained on.
    pub(crate) truth: Option<bool>,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

/// `count` events; where the data has fewer, it begins again.
pub(crate) fn events(data: &Path, count: u64) -> Result<impl Iterator<Item = Event> + Send + use<>> {
    let sound = usize::try_from(count - count / SPOILED).context("more events than memory can hold")?;
    let read = || format!("reading the reference data in {}", data.display());
    let to_spoil: Vec<_> = orders::orders(data).with_context(read)?.into_iter().take(1000).collect();
    let sound: Vec<_> = reference_events(data, Some(sound)).with_context(read)?.collect();
    // A cycle keeps a copy of every event, which only a long replay needs.
    let enough = sound.len() as u64 >= count - count / SPOILED;
    let sound: Box<dyn Iterator<Item = _> + Send> =
        if enough { Box::new(sound.into_iter()) } else { Box::new(sound.into_iter().cycle()) };
    Ok(mixed(sound, to_spoil, count))
}

fn mixed(
    mut sound: Box<dyn Iterator<Item = ReferenceEvent> + Send>,
    to_spoil: Vec<Known<Order>>,
    count: u64,
) -> impl Iterator<Item = Event> + Send {
    (0..count).map_while(move |number| {
        if number % SPOILED != SPOILED / 2 {
            return sound.next().map(Event::from);
        }
        let number = (number / SPOILED) as usize;
        let damage = Damage::ALL[number % Damage::ALL.len()];
        let order = &to_spoil[number % to_spoil.len()];
        Some(spoiled(damage, order, number))
    })
}

impl From<ReferenceEvent> for Event {
    fn from(event: ReferenceEvent) -> Self {
        let lane = match event.task {
            Task::OrderRisk => Lane::Precision,
            Task::RepeatPurchase => Lane::Throughput,
        };
        let truth = event.label.filter(|_| event.split == Split::Test);
        let (id, key, value) = (event.id.into(), event.key.into_bytes(), Some(event.payload));
        Self { id, lane, expected: Expected::Answer, reason: None, truth, key, value }
    }
}

fn spoiled(damage: Damage, order: &Known<Order>, number: usize) -> Event {
    let (expected, reason) = match damage.expected() {
        damage::Expected::DeadLetter(reason) => (Expected::DeadLetter, Some(reason)),
        damage::Expected::Skipped => (Expected::Skip, None),
    };
    let spoiled = damage.spoil(order, number);
    let (id, key, value) = (spoiled.id.into(), spoiled.key.into_bytes(), spoiled.payload);
    Event { id, lane: Lane::Precision, expected, reason, truth: None, key, value }
}
