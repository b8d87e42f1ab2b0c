//! One line per record, as a person reads it: when, what, how sure, whose, by which model, how long it took, where from.

use serde_json::{Map, Value as Json, json};
use twinlane_record::{DeadLetter, Envelope};

/// Details of carried fields beyond this are for `--json`.
const LONGEST: usize = 40;

/// A scored event, from its JSON form (which Avro answers are read into, too).
pub(crate) fn scored(event: &Json) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or("?").to_owned();
    let answer = match event["outcome"].as_str() {
        Some("scored") => outputs(&event["outputs"]),
        other => other.unwrap_or("?").to_owned(),
    };
    let carried = pairs(&event["carried"], |value| short(value, LONGEST));
    let by = format!("{} on {}", text("variant"), text("device"));
    let took = took(event["event_time"].as_i64(), event["scored_time"].as_i64());
    let time = clock(event["scored_time"].as_i64().unwrap_or(0));
    let degraded = if event["degraded"] == json!(true) { "  degraded" } else { "" };
    format!("{time}  {:<16} {answer:<28} {carried}  {by}{took}  {}{degraded}", text("task"), text("event_id"))
}

/// A dead letter.
pub(crate) fn dead_letter(letter: &DeadLetter) -> String {
    let again = match letter.deaths {
        0 | 1 => String::new(),
        deaths => format!("  died {deaths} times"),
    };
    format!(
        "{}  {:<16} {}: {}  by {}  {}{again}",
        clock(letter.time_ms),
        "DEAD LETTER",
        letter.reason,
        letter.detail,
        letter.stage,
        letter.source
    )
}

/// A dead letter with the bytes that came: as text where they are text, else as hexadecimal.
pub(crate) fn dead_letter_json(letter: &DeadLetter, record: &Envelope) -> Json {
    let own = record.headers.without_reserved().0;
    let headers: Map<String, Json> =
        own.iter().map(|header| (header.name.to_string(), bytes(header.value.as_deref()))).collect();
    json!({
        "dead_letter": {
            "reason": letter.reason.as_str(),
            "detail": letter.detail,
            "stage": letter.stage,
            "model_digest": letter.model_digest,
            "time": letter.time_ms,
            "deaths": letter.deaths,
            "source": {
                "topic": letter.source.topic,
                "partition": letter.source.partition,
                "offset": letter.source.offset,
            },
        },
        "key": bytes(record.key.as_deref()),
        "value": bytes(record.value.as_deref()),
        "headers": headers,
    })
}

fn bytes(bytes: Option<&[u8]>) -> Json {
    match bytes.map(std::str::from_utf8) {
        None => Json::Null,
        Some(Ok(text)) if !text.contains('\0') => json!(text),
        _ => {
            let hex = bytes.into_iter().flatten().map(|byte| format!("{byte:02x}"));
            json!({ "hex": hex.collect::<String>() })
        }
    }
}

/// One output speaks for itself; several are named.
fn outputs(outputs: &Json) -> String {
    match outputs.as_object() {
        Some(one) if one.len() == 1 => one.values().map(output).collect(),
        _ => pairs(outputs, output),
    }
}

fn output(output: &Json) -> String {
    match output {
        Json::Number(number) => rounded(number.as_f64().unwrap_or(f64::NAN)),
        Json::Array(vector) => {
            let first: Vec<_> =
                vector.iter().take(3).map(|x| rounded(x.as_f64().unwrap_or(f64::NAN))).collect();
            let more = if vector.len() > 3 { ", …" } else { "" };
            format!("[{}{more}] ({})", first.join(", "), vector.len())
        }
        Json::Object(class) => {
            let label = class.get("label").and_then(Json::as_str).unwrap_or("?");
            match class.get("scores").and_then(|scores| scores[label].as_f64()) {
                Some(score) => format!("{label} {score:.2}"),
                None => label.to_owned(),
            }
        }
        other => other.to_string(),
    }
}

fn pairs(fields: &Json, show: impl Fn(&Json) -> String) -> String {
    let fields = fields.as_object().into_iter().flatten();
    fields.map(|(name, value)| format!("{name}={}", show(value))).collect::<Vec<_>>().join(" ")
}

/// Four significant digits are enough to look at.
fn rounded(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let digits = (3 - number.abs().log10().floor() as i64).clamp(0, 9) as usize;
    let text = format!("{number:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn short(value: &Json, longest: usize) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.char_indices().nth(longest) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// From the event's own time to its score, where that says something: replayed events are old, clocks differ.
fn took(event_ms: Option<i64>, scored_ms: Option<i64>) -> String {
    match event_ms.zip(scored_ms).map(|(event, scored)| scored - event) {
        Some(ms @ 0..1_000) => format!("  {ms} ms"),
        Some(ms @ 1_000..3_600_000) => format!("  {:.1} s", ms as f64 / 1000.0),
        _ => String::new(),
    }
}

/// The time of day, UTC.
fn clock(ms: i64) -> String {
    let ms = ms.rem_euclid(86_400_000);
    format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

#[cfg(test)]
mod tests {
    use twinlane_record::{Coordinates, Headers, Reason};

    use super::*;

    fn event() -> Json {
        json!({
            "event_id": "shop.events/3/10442", "task": "order-risk", "variant": "full", "device": "cpu",
            "outcome": "scored",
            "outputs": { "risk": { "label": "fraudulent", "scores": { "legitimate": 0.083, "fraudulent": 0.917 } } },
            "carried": { "order_id": "order-7" }, "degraded": false,
            "event_time": 1_764_000_000_000_i64, "scored_time": 1_764_000_000_014_i64,
        })
    }

    fn letter(deaths: u32) -> DeadLetter {
        DeadLetter {
            route: None,
            source: Coordinates { topic: "shop.events".into(), partition: 0, offset: 7 },
            stage: "precision".into(),
            reason: Reason::MissingField,
            detail: "field `amount` is null".into(),
            model_digest: None,
            time_ms: 45_296_789,
            deaths,
        }
    }

    #[test]
    fn a_scored_event_is_one_line() {
        assert_eq!(
            scored(&event()),
            "16:00:00.014  order-risk       fraudulent 0.92              order_id=order-7  full on cpu  14 ms  shop.events/3/10442"
        );
    }

    #[test]
    fn several_outputs_are_named() {
        let mut event = event();
        event["outputs"] = json!({ "decision": { "label": "returns", "scores": {} }, "returns": 0.731_249 });
        assert!(scored(&event).contains("decision=returns returns=0.7312 "), "{}", scored(&event));
        assert_eq!(output(&json!([0.5, -0.25, 1.0, 2.0])), "[0.5, -0.25, 1, …] (4)");
    }

    #[test]
    fn an_answer_without_outputs_says_what_it_is() {
        let mut event = event();
        event["outcome"] = json!("expired");
        event["degraded"] = json!(true);
        event["event_time"] = Json::Null;
        let line = scored(&event);
        assert!(line.contains("expired") && line.ends_with("degraded") && !line.contains(" ms"), "{line}");
    }

    #[test]
    fn numbers_keep_four_digits() {
        let shown = [0.0, 1.0, 12_345.678, 0.000_123_456, -2.5, 1e-12].map(rounded);
        assert_eq!(shown, ["0", "1", "12346", "0.0001235", "-2.5", "0"]);
    }

    #[test]
    fn a_time_that_says_nothing_is_left_out() {
        assert_eq!(took(Some(0), Some(1_764_000_000_000)), "");
        assert_eq!(took(Some(20), Some(10)), "");
        assert_eq!(took(Some(0), Some(2_340)), "  2.3 s");
        assert_eq!(took(None, Some(1)), "");
    }

    #[test]
    fn long_fields_are_cut_between_characters() {
        assert_eq!(short(&json!("äöü"), 2), "äö…");
        assert_eq!(short(&json!({ "a": 1 }), 40), "{\"a\":1}");
    }

    #[test]
    fn a_dead_letter_says_why_and_where() {
        assert_eq!(
            dead_letter(&letter(1)),
            "12:34:56.789  DEAD LETTER      missing_field: field `amount` is null  by precision  shop.events/0/7"
        );
        assert!(dead_letter(&letter(3)).ends_with("died 3 times"));
    }

    #[test]
    fn a_dead_letter_as_json_keeps_what_came() {
        let mut headers = Headers::default();
        headers.push("traceparent", "00-abc".as_bytes().to_vec());
        headers.push("twinlane-dead-reason", "missing_field".as_bytes().to_vec());
        let at = Coordinates { topic: "dead".into(), partition: 0, offset: 0 };
        let (key, value) = (Some("card-7".into()), Some(vec![0, 255].into()));
        let record = Envelope { at, timestamp_ms: None, key, value, headers };
        let json = dead_letter_json(&letter(1), &record);
        assert_eq!(json["dead_letter"]["reason"], "missing_field");
        assert_eq!(json["dead_letter"]["source"]["offset"], 7);
        assert_eq!((&json["key"], &json["value"]), (&json!("card-7"), &json!({ "hex": "00ff" })));
        assert_eq!(json["headers"], json!({ "traceparent": "00-abc" }), "the reserved ones are told above");
    }
}
