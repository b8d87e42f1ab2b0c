//! Payloads of a source: Avro under the shipped schemas, and JSON.

use twinlane_record::Value;

use crate::shipped::{IDS, SHIPPED, any_event, scored, settles};

/// A payload under the shipped schemas. The first byte picks one, the rest is the datum; the input as a whole is tried as
/// a payload in the wire format too.
pub fn avro_payload(data: &[u8]) {
    under_its_id(data);
    let Some((pick, datum)) = data.split_first() else { return };
    let id = IDS[usize::from(*pick) % IDS.len()];
    let payload = [&[0], &id.to_be_bytes()[..], datum].concat();
    under_its_id(&payload);
    if let Ok(event) = SHIPPED.scored_avro.decode(&payload) {
        settles(&SHIPPED.scored_avro, &event);
        settles(&SHIPPED.scored_json, &event);
    }
}

fn under_its_id(payload: &[u8]) {
    let named = SHIPPED.avro.schema_name(payload);
    let event = match SHIPPED.avro.decode(payload) {
        Ok(event) => event,
        Err(rejection) => return assert!(!rejection.detail.is_empty(), "a refusal without words"),
    };
    assert_eq!(named.ok().flatten(), event.schema.as_ref(), "the schema's name from the first bytes");
    any_event(&event.value);
    let schema = event.schema.as_deref();
    let routed = SHIPPED.rules.route(schema, &mut || Ok(event.value.clone()), None);
    if matches!(schema, Some("order" | "purchase")) {
        routed.expect("the reference pipeline has a route for each of its events");
    }
}

/// A JSON event, and a scored event in JSON.
pub fn json_event(data: &[u8]) {
    if let Ok(event) = SHIPPED.scored_json.decode(data) {
        settles(&SHIPPED.scored_json, &event);
        settles(&SHIPPED.scored_avro, &event);
    }
    let Ok(event) = SHIPPED.json.decode(data) else { return };
    any_event(&event.value);
    let Value::Record(fields) = event.value else { panic!("an event is a record") };
    // JSON has no number and no type that it would not carry.
    let carried = settles(&SHIPPED.scored_json, &scored(fields.clone())).carried;
    assert_eq!(carried, fields, "a JSON event carried along in JSON");
}
