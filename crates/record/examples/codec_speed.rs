//! How long decoding and encoding take, in nanoseconds an event. Run it with
//! `cargo run --release -p twinlane-record --example codec_speed`.

use std::{hint::black_box, path::Path, sync::Arc, time::Instant};

use apache_avro::{
    reader::datum::GenericDatumReader, types::Value as Avro, writer::datum::GenericDatumWriter,
};
use twinlane_record::{
    Coordinates, EventDecoder, Format, Outcome, Output, SchemaFolder, ScoredEvent, ScoredEventCodec, Value,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let schemas = SchemaFolder::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas"))?;
    let order = schemas.require("order")?;
    let datum = GenericDatumWriter::builder(&order.schema).build()?.write_value_to_vec(an_order())?;
    let payload = [&[0_u8][..], &order.id.to_be_bytes(), &datum].concat();
    let decoder = EventDecoder::avro(&schemas, &["order".into()])?;
    let json = r#"{"order_id":"o-1","amount":12.5,"currency":"EUR","placed_at":"2026-11-24T06:00:00Z",
        "recent":[{"amount":1.5,"age_s":60.0},{"amount":2.5,"age_s":120.0},{"amount":3.5,"age_s":180.0}]}"#;

    println!("an order of {} bytes with twice 16 recent ones", payload.len());
    time("decode avro", || decoder.decode(&payload).expect("valid").value);
    time("schema name only", || decoder.schema_name(&payload).expect("known").is_some());
    let reader = GenericDatumReader::builder(&order.schema).build()?;
    time("apache-avro, for comparison", || reader.read_value(&mut &datum[..]).expect("valid"));
    println!("a JSON object of {} bytes", json.len());
    let from_json = EventDecoder::json();
    time("decode json", || from_json.decode(json.as_bytes()).expect("valid").value);

    let scored = a_scored_event();
    for format in [Format::Avro, Format::Json] {
        let codec = ScoredEventCodec::new(format, &schemas)?;
        println!("a scored event of {} bytes as {format:?}", codec.encode(&scored).len());
        time("encode", || codec.encode(&scored));
    }
    Ok(())
}

/// The best of many short rounds: what it takes when nothing else runs.
fn time<T>(what: &str, mut run: impl FnMut() -> T) {
    const ROUNDS: u32 = 300;
    const CALLS: u32 = 300;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..CALLS {
            black_box(run());
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(CALLS));
    }
    println!("  {what:<28} {best:>7.0} ns");
}

fn an_order() -> Avro {
    let text = |text: &str| Avro::String(text.to_owned());
    let past = |i: i32| {
        Avro::Record(vec![
            ("amount".into(), Avro::Double(f64::from(i) * 1.5)),
            ("age_s".into(), Avro::Double(f64::from(i) * 3600.0)),
            ("fraud".into(), Avro::Union(1, Box::new(Avro::Int(0)))),
            ("other_legitimate".into(), Avro::Int(i)),
            ("other_frauds".into(), Avro::Int(0)),
        ])
    };
    let recent = || Avro::Array((1..=16).map(past).collect());
    Avro::Record(vec![
        ("order_id".into(), text("o-000123456")),
        ("test".into(), Avro::Boolean(false)),
        ("card_id".into(), text("card-4711")),
        ("store_id".into(), text("store-42")),
        ("placed_at".into(), Avro::TimestampMillis(1_700_000_000_000)),
        ("amount".into(), Avro::Union(1, Box::new(Avro::Double(99.5)))),
        ("currency".into(), text("EUR")),
        ("country".into(), Avro::Union(1, Box::new(text("NO")))),
        ("provider".into(), text("visa")),
        ("customer_present".into(), Avro::Boolean(true)),
        ("lat".into(), Avro::Double(59.9)),
        ("lng".into(), Avro::Double(10.7)),
        ("card_orders".into(), Avro::Int(20)),
        ("card_labelled".into(), Avro::Int(18)),
        ("card_frauds".into(), Avro::Int(0)),
        ("store_orders".into(), Avro::Int(900)),
        ("store_labelled".into(), Avro::Int(850)),
        ("store_frauds".into(), Avro::Int(3)),
        ("card_recent".into(), recent()),
        ("store_recent".into(), recent()),
    ])
}

fn a_scored_event() -> ScoredEvent {
    let name = |name: &str| -> Arc<str> { name.into() };
    let scores = vec![(name("legitimate"), 0.97), (name("fraudulent"), 0.03)];
    ScoredEvent {
        event_id: name("shop.events/3/123456"),
        pipeline: name("commerce"),
        route: name("order-risk on precision"),
        lane: name("precision"),
        task: name("order-risk"),
        variant: name("full"),
        model_digest: name("9f86d081884c7d65"),
        device: name("cuda"),
        outcome: Outcome::Scored,
        outputs: vec![(name("risk"), Output::Class { label: name("legitimate"), scores })],
        carried: vec![(name("order_id"), Value::Text(name("o-000123456")))],
        degraded: false,
        source: Coordinates { topic: name("shop.events"), partition: 3, offset: 123_456 },
        event_time_ms: Some(1_700_000_000_000),
        scored_time_ms: 1_700_000_000_050,
    }
}
