//! What is produced: the shop's events, computed from the seed and their number alone, or the reference events of the
//! pipeline `commerce` with its models.

use std::path::Path;

use anyhow::{Context, Result};
use twinlane_replay::{Damage, Known, Order, ReferenceEvent, Task, damage, orders, reference_events};
use twinlane_testkit::random::mix;

use crate::events::{self, Event, Outcome};
use crate::shop::{Role, Source};

/// Events by their number. The same load gives the same event every time.
pub(crate) enum Load {
    /// Trivial models, whose answers the rig computes.
    Trivial {
        /// What the events follow from.
        seed: u64,
    },
    /// The reference models. So many different events come again and again, and every answer to one of them must be the
    /// first one's; a part of the shop's events comes between them.
    Reference {
        /// What the order of events follows from.
        seed: u64,
        /// The different events.
        events: Vec<ReferenceEvent>,
        /// Orders to spoil.
        to_spoil: Vec<Known<Order>>,
    },
}

/// So many different reference events: each comes often enough to be answered before, amid and after faults.
const DIFFERENT: usize = 5000;
/// One in so many reference events is spoiled.
const SPOILED_ONE_IN: u64 = 60;

impl Load {
    /// Reads the reference events from `data`.
    pub(crate) fn reference(seed: u64, data: &Path) -> Result<Self> {
        let read =
            || format!("reading the reference data in {}; `cargo xtask setup` fetches it", data.display());
        let events = reference_events(data, Some(DIFFERENT)).with_context(read)?.collect();
        let to_spoil = orders::orders(data).with_context(read)?.into_iter().take(100).collect();
        Ok(Self::Reference { seed, events, to_spoil })
    }

    /// The event with this number.
    pub(crate) fn event(&self, id: u64) -> Event {
        match self {
            Self::Trivial { seed } => events::event(*seed, id),
            Self::Reference { seed, events, to_spoil } => {
                let trivial = events::event(*seed, id);
                let random = mix(seed ^ mix(!id));
                match trivial.source {
                    Source::Reviews => trivial,
                    Source::Events if random.is_multiple_of(SPOILED_ONE_IN) => spoiled(to_spoil, random >> 8),
                    Source::Events => {
                        let index = (random >> 8) as usize % events.len();
                        sound(&events[index], index, random >> 40)
                    }
                }
            }
        }
    }
}

fn sound(event: &ReferenceEvent, index: usize, spread: u64) -> Event {
    let (lane, task, field) = match event.task {
        Task::OrderRisk => (Role::Precision, "order", "order_id"),
        Task::RepeatPurchase => (Role::Throughput, "root", "purchase_id"),
    };
    Event {
        source: Source::Events,
        lane: Some(lane),
        task,
        key: Some(event.key.clone()),
        value: Some(event.payload.clone()),
        outcome: Outcome::SameAs { index, carried: (field, event.id.clone()) },
        spread,
    }
}

fn spoiled(orders: &[Known<Order>], random: u64) -> Event {
    let damage = Damage::ALL[random as usize % Damage::ALL.len()];
    let one = damage.spoil(&orders[(random >> 8) as usize % orders.len()], random as usize % 1000);
    // What an order lacks is found out where its tensors are filled, everything else by the router.
    let (lane, task) = match damage {
        Damage::AmountMissing | Damage::AmountNotANumber | Damage::AmountInfinite => {
            (Some(Role::Precision), "order")
        }
        _ => (None, ""),
    };
    let outcome = match damage.expected() {
        damage::Expected::DeadLetter(reason) => Outcome::Dead(reason),
        damage::Expected::Skipped => Outcome::Skip,
    };
    let (key, value) = (Some(one.key), one.payload);
    Event { source: Source::Events, lane, task, key, value, outcome, spread: random >> 16 }
}
