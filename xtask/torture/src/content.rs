//! Whether a record is the right answer, or the right dead letter, for the event that it names: computed here from the
//! event, with no code of the product's.

use std::collections::HashMap;

use serde_json::Value;
use twinlane_testkit::client::Record;

use crate::events::{Event, Outcome};
use crate::feed::{ID, TENANT};
use crate::shop::NAME;

/// Relative difference up to which two numbers are the same: models compute in 32 bits.
pub(crate) const TOLERANCE: f64 = 1e-5;

/// The parts of a record that are judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(&'a str, Option<&'a [u8]>)],
}

impl Found<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        let last = self.headers.iter().rev().find(|(known, _)| *known == name)?;
        std::str::from_utf8(last.1?).ok()
    }
}

/// Says what is wrong with a record, if anything.
pub(crate) fn fault_of_record(event: &Event, id: u64, at: &str, record: &Record<'_>) -> Option<String> {
    let headers = record.headers();
    fault_of(event, id, at, &Found { key: record.key(), value: record.value(), headers: &headers })
}

/// Says what is wrong with what was found for the event with number `id` at the coordinates `at`, if anything.
pub(crate) fn fault_of(event: &Event, id: u64, at: &str, found: &Found<'_>) -> Option<String> {
    if found.key != event.key.as_deref().map(str::as_bytes) {
        return Some("another key".into());
    }
    if found.header(ID) != Some(id.to_string().as_str()) {
        return Some(format!("its own header {ID} is {:?}", found.header(ID)));
    }
    if found.header(TENANT.0).map(str::as_bytes) != Some(TENANT.1) {
        return Some(format!("its own header {} is {:?}", TENANT.0, found.header(TENANT.0)));
    }
    match (&event.outcome, found.header("twinlane-dead-reason")) {
        (Outcome::Answer { .. } | Outcome::SameAs { .. }, None) => {
            fault_of_answer(event, id, at, found.value)
        }
        (Outcome::Dead(reason), Some(named)) => {
            let same = found.value == event.value.as_deref();
            let detail = found.header("twinlane-dead-detail").unwrap_or("");
            match (named == *reason, same, detail.is_empty()) {
                (false, ..) => Some(format!("the reason is {named} instead of {reason}")),
                (_, false, _) => Some("the dead letter has other bytes".into()),
                (.., true) => Some("the dead letter has no detail".into()),
                _ => None,
            }
        }
        // The account counts these as misjudged.
        _ => None,
    }
}

fn fault_of_answer(event: &Event, id: u64, at: &str, value: Option<&[u8]>) -> Option<String> {
    let Ok(answer) = serde_json::from_slice::<Value>(value.unwrap_or_default()) else {
        return Some("the answer is no JSON".into());
    };
    let (topic, rest) = at.split_once('/')?;
    let (partition, offset) = rest.split_once('/')?;
    let source = &answer["source"];
    let place = (source["topic"].as_str(), source["partition"].to_string(), source["offset"].to_string());
    let lane = event.lane.map(crate::shop::Role::name);
    let texts =
        [("event_id", Some(at)), ("pipeline", Some(NAME)), ("task", Some(event.task)), ("lane", lane)];
    if let Some((name, _)) = texts.iter().find(|(name, right)| answer[*name].as_str() != *right) {
        return Some(format!("{name} is {}", answer[*name]));
    }
    if place != (Some(topic), partition.to_owned(), offset.to_owned()) {
        return Some(format!("source is {source}"));
    }
    match &event.outcome {
        Outcome::Answer { y } => {
            if answer["carried"]["id"].as_u64() != Some(id) {
                return Some(format!("it carries {} instead of {id}", answer["carried"]));
            }
            let found = &answer["outputs"]["y"];
            (!is_near(found, y)).then(|| format!("y is {found} instead of {y}"))
        }
        Outcome::SameAs { carried: (field, right), .. } => {
            let found = &answer["carried"][*field];
            (found.as_str() != Some(right)).then(|| format!("it carries {found} instead of {right}"))
        }
        Outcome::Dead(_) | Outcome::Skip => None,
    }
}

/// The outputs of the first answer to each reference event; every later one must have the same.
#[derive(Debug, Default)]
pub(crate) struct First(HashMap<usize, Value>);

impl First {
    /// Says what is wrong with an answer that should be the same as others, if anything.
    pub(crate) fn fault_of(&mut self, event: &Event, value: Option<&[u8]>) -> Option<String> {
        let Outcome::SameAs { index, .. } = event.outcome else { return None };
        let mut answer: Value = serde_json::from_slice(value?).ok()?;
        let outputs = answer["outputs"].take();
        let first = self.0.entry(index).or_insert_with(|| outputs.clone());
        (!is_near(&outputs, first)).then(|| format!("its outputs are {outputs}, the first ones were {first}"))
    }
}

fn is_near(found: &Value, right: &Value) -> bool {
    match (found, right) {
        (Value::Array(found), Value::Array(right)) => {
            found.len() == right.len() && found.iter().zip(right).all(|(found, right)| is_near(found, right))
        }
        (Value::Object(found), Value::Object(right)) => {
            found.len() == right.len()
                && found
                    .iter()
                    .all(|(name, value)| right.get(name).is_some_and(|right| is_near(value, right)))
        }
        _ => match (found.as_f64(), right.as_f64()) {
            (Some(found), Some(right)) => (found - right).abs() <= TOLERANCE * right.abs().max(1.0),
            _ => !right.is_null() && found == right,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::event;
    use serde_json::json;

    const AT: &str = "torture.events/2/17";

    fn an_order() -> (u64, Event, Value) {
        let is_order =
            |event: &Event| event.task == "order" && event.outcome != Outcome::Dead("missing_field");
        let id = (0..).find(|&id| is_order(&event(1, id))).expect("one in three is an order");
        let event = event(1, id);
        let Outcome::Answer { y } = &event.outcome else { unreachable!() };
        let answer = json!({
            "event_id": AT, "pipeline": NAME, "task": "order", "lane": "precision", "outputs": { "y": y },
            "carried": { "id": id }, "source": { "topic": "torture.events", "partition": 2, "offset": 17 },
        });
        (id, event, answer)
    }

    fn judge(event: &Event, id: u64, answer: &Value, headers: &[(&str, Option<&[u8]>)]) -> Option<String> {
        let value = answer.to_string().into_bytes();
        let key = event.key.as_deref().map(str::as_bytes);
        let own = id.to_string();
        let mut all = vec![(ID, Some(own.as_bytes())), (TENANT.0, Some(TENANT.1))];
        all.extend(headers);
        fault_of(event, id, AT, &Found { key, value: Some(&value), headers: &all })
    }

    #[test]
    fn the_right_answer_has_no_fault() {
        let (id, event, mut answer) = an_order();
        assert_eq!(judge(&event, id, &answer, &[]), None);
        let y = answer["outputs"]["y"].as_f64().expect("a number");
        answer["outputs"]["y"] = json!(y * (1.0 + TOLERANCE / 2.0));
        assert_eq!(judge(&event, id, &answer, &[]), None, "within the tolerance");
    }

    #[test]
    fn another_number_another_events_answer_and_another_place_are_each_found() {
        let (id, event, right) = an_order();
        for (pointer, wrong) in [
            ("/outputs/y", json!(-1.0)),
            ("/outputs/y", Value::Null),
            ("/carried/id", json!(id + 1)),
            ("/source/offset", json!(18)),
            ("/event_id", json!("torture.events/2/18")),
            ("/task", json!("root")),
        ] {
            let mut answer = right.clone();
            *answer.pointer_mut(pointer).expect("it is there") = wrong;
            assert!(judge(&event, id, &answer, &[]).is_some(), "{pointer}");
        }
        assert!(judge(&event, id, &right, &[(ID, Some(b"0x"))]).is_some(), "another event's header");
        let found = Found { key: Some(b"nobody"), value: None, headers: &[] };
        assert_eq!(fault_of(&event, id, AT, &found).as_deref(), Some("another key"));
    }
}
