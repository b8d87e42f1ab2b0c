//! The events: each is computed from the seed and its number alone, and so is what must become of it. One in forty is
//! spoiled, in one of the ways of [`SPOILED`].

use serde_json::{Value, json};
use twinlane_testkit::checker::Expected;
use twinlane_testkit::random::mix;

use crate::shop::{Role, Source};

/// An event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) source: Source,
    /// The lane that must answer it; none for what the rules of the mixed topic refuse or skip.
    pub(crate) lane: Option<Role>,
    /// Its task there. Order is kept along a route, so two tasks of one lane may overtake each other.
    pub(crate) task: &'static str,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) outcome: Outcome,
    /// Where it goes, modulo the number of partitions.
    pub(crate) spread: u64,
}

/// What must become of an event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// An answer with this number, or these.
    Answer { y: Value },
    /// The same answer as every other event of this index gets, which carries this field.
    SameAs { index: usize, carried: (&'static str, String) },
    /// A dead letter for this reason.
    Dead(&'static str),
    /// Nothing.
    Skip,
}

impl Outcome {
    pub(crate) fn expected(&self) -> Expected {
        match self {
            Self::Answer { .. } | Self::SameAs { .. } => Expected::Answer,
            Self::Dead(_) => Expected::DeadLetter,
            Self::Skip => Expected::Skip,
        }
    }
}

/// One in so many events is spoiled.
const SPOILED_ONE_IN: u64 = 40;
/// Ways to spoil one.
const SPOILED: u64 = 14;
/// Longer than an answer on the reviews' topic may be, with room for the rest of the dead letter in its own topic.
const TOO_LONG: usize = 70_000;

/// The event with this number. The same arguments give the same event.
pub(crate) fn event(seed: u64, id: u64) -> Event {
    let random = mix(seed ^ mix(id));
    let key = (!id.is_multiple_of(7)).then(|| format!("customer-{}", random >> 32 & 0xff));
    let Shape { source, lane, task, value, outcome } =
        if (random >> 8).is_multiple_of(SPOILED_ONE_IN) { spoiled(id, random) } else { sound(id, random) };
    Event { source, lane, task, key, value, outcome, spread: random >> 16 }
}

/// What a kind of event determines.
struct Shape {
    source: Source,
    lane: Option<Role>,
    task: &'static str,
    value: Option<Vec<u8>>,
    outcome: Outcome,
}

/// The ways that events go, with the task at their end.
impl Shape {
    fn order(value: Value, outcome: Outcome) -> Self {
        Self::of(Source::Events, Some(Role::Precision), "order", bytes(&value), outcome)
    }

    fn root(value: Value, outcome: Outcome) -> Self {
        Self::of(Source::Events, Some(Role::Throughput), "root", bytes(&value), outcome)
    }

    fn lookup(value: Value, outcome: Outcome) -> Self {
        Self::of(Source::Events, Some(Role::Throughput), "lookup", bytes(&value), outcome)
    }

    fn review(value: Option<Vec<u8>>, outcome: Outcome) -> Self {
        Self::of(Source::Reviews, Some(Role::Precision), "review", value, outcome)
    }

    /// An event that the rules lead nowhere.
    fn nowhere(value: Option<Vec<u8>>, outcome: Outcome) -> Self {
        Self::of(Source::Events, None, "", value, outcome)
    }

    fn of(
        source: Source,
        lane: Option<Role>,
        task: &'static str,
        value: Option<Vec<u8>>,
        outcome: Outcome,
    ) -> Self {
        Self { source, lane, task, value, outcome }
    }
}

fn sound(id: u64, random: u64) -> Shape {
    // All numbers are sums of quarters below 2^12, so that 32 bits hold every step of the models exactly.
    let (a, b, c) = (id % 1000, random % 64, (random >> 24) % 32);
    match random % 100 {
        0..30 => {
            let y = a as f64 + 2.0 * (b as f64 / 4.0) + 3.0 * c as f64 + 0.5;
            let value = json!({ "kind": "order", "id": id, "a": a, "b": b as f64 / 4.0, "c": c });
            Shape::order(value, answer(json!(y)))
        }
        30..55 => {
            let x = a as f64 / 2.0;
            Shape::root(json!({ "kind": "root", "id": id, "x": x }), answer(json!(x.sqrt())))
        }
        55..75 => {
            let index = b % 4;
            let y = json!([index as f64, index as f64 + 0.5]);
            Shape::lookup(json!({ "kind": "lookup", "id": id, "index": index }), answer(y))
        }
        _ => {
            let (stars, helpful) = (b % 6, c.is_multiple_of(2));
            let value = json!({ "id": id, "stars": stars, "helpful": helpful, "length": a, "text": "fine" });
            let y = stars as f64 + if helpful { 2.0 } else { 0.0 } + 3.0 * a as f64 + 0.5;
            Shape::review(bytes(&value), answer(json!(y)))
        }
    }
}

fn spoiled(id: u64, random: u64) -> Shape {
    use Outcome::{Dead, Skip};
    match (random >> 40) % SPOILED {
        0 => Shape::nowhere(Some(b"{ not json".to_vec()), Dead("malformed_payload")),
        1 => Shape::nowhere(Some(Vec::new()), Dead("empty_payload")),
        2 => Shape::nowhere(None, Skip),
        3 => Shape::review(None, Dead("tombstone")),
        4 => Shape::nowhere(bytes(&json!({ "kind": "test", "id": id })), Skip),
        5 => Shape::nowhere(bytes(&json!({ "kind": "unheard of", "id": id })), Dead("no_route")),
        6 => Shape::nowhere(bytes(&json!({ "id": id })), Dead("rule_failed")),
        7 => Shape::root(json!({ "kind": "root", "id": id, "x": "four" }), Dead("wrong_type")),
        8 => Shape::order(json!({ "kind": "order", "id": id, "a": 1, "b": 2 }), Dead("missing_field")),
        9 | 10 => {
            let x = -1.0 - (id % 9) as f64;
            Shape::root(json!({ "kind": "root", "id": id, "x": x }), Dead("output_not_finite"))
        }
        11 | 12 => {
            Shape::lookup(json!({ "kind": "lookup", "id": id, "index": 4 + id % 9 }), Dead("model_failed"))
        }
        _ => {
            let text = "x".repeat(TOO_LONG);
            let value = json!({ "id": id, "stars": 1, "helpful": true, "length": 2, "text": text });
            Shape::review(bytes(&value), Dead("output_too_large"))
        }
    }
}

fn answer(y: Value) -> Outcome {
    Outcome::Answer { y }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    Some(value.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_seed_and_a_number_give_the_same_event_every_time() {
        for id in 0..1000 {
            assert_eq!(format!("{:?}", event(7, id)), format!("{:?}", event(7, id)));
        }
        assert_ne!(event(7, 1).spread, event(8, 1).spread);
    }

    #[test]
    fn every_task_and_every_way_to_spoil_an_event_is_in_the_mix() {
        let outcomes: HashSet<String> = (0..20_000)
            .map(|id| event(1, id))
            .map(|event| match event.outcome {
                Outcome::Answer { .. } | Outcome::SameAs { .. } => event.task.to_owned(),
                Outcome::Dead(reason) => reason.to_owned(),
                Outcome::Skip => "skip".to_owned(),
            })
            .collect();
        assert_eq!(outcomes.len(), 4 + 10 + 1, "{outcomes:?}");
    }
}
