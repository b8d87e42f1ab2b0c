//! Schemas, pipelines and vocabularies as this repository ships them, compiled once and held in memory: a target does
//! no I/O. With them, what must hold for any event that decodes.

use std::{io, path::Path, sync::LazyLock};

use twinlane_pipeline::{Dim, FeatureEncoder, Plan, Row, RuleSet, TensorData, TensorSpec};
use twinlane_record::{
    Coordinates, EventDecoder, Format, Outcome, Output, SchemaEntry, SchemaFolder, ScoredEvent,
    ScoredEventCodec, Value,
};

pub(crate) const COMMERCE: &str = include_str!("../../../pipelines/commerce/pipeline.yaml");
const IRIS: &str = include_str!("../../../pipelines/example-iris/pipeline.yaml");
const SCHEMAS: [(u32, &str, &str); 3] = [
    (1, "order", include_str!("../../../schemas/order.v1.avsc")),
    (2, "purchase", include_str!("../../../schemas/purchase.v1.avsc")),
    (100, "scored-event", include_str!("../../../schemas/scored-event.v1.avsc")),
];

/// Ids of the shipped schemas.
pub(crate) const IDS: [u32; 3] = [SCHEMAS[0].0, SCHEMAS[1].0, SCHEMAS[2].0];

/// Everything that is compiled.
pub(crate) struct Shipped {
    /// The schema folder.
    pub(crate) schemas: SchemaFolder,
    /// Of all of its subjects.
    pub(crate) avro: EventDecoder,
    /// Of JSON objects.
    pub(crate) json: EventDecoder,
    /// Of each task of the shipped pipelines.
    pub(crate) encoders: Vec<FeatureEncoder>,
    /// Of the reference pipeline.
    pub(crate) rules: RuleSet,
    /// Of scored events in Avro.
    pub(crate) scored_avro: ScoredEventCodec,
    /// Of scored events in JSON.
    pub(crate) scored_json: ScoredEventCodec,
}

pub(crate) static SHIPPED: LazyLock<Shipped> = LazyLock::new(|| {
    let mut schemas = SchemaFolder::default();
    for (id, subject, text) in SCHEMAS {
        let entry = SchemaEntry { id, subject: subject.into(), version: 1, file: subject.into() };
        schemas.add(entry, text).expect("a shipped schema is valid");
    }
    let subjects: Vec<_> = schemas.subjects().cloned().collect();
    let plans =
        [COMMERCE, IRIS].map(|text| Plan::parse(text, "shipped").expect("a shipped pipeline is valid"));
    let encoders = plans.iter().flat_map(|plan| &plan.tasks);
    Shipped {
        avro: EventDecoder::avro(&schemas, &subjects).expect("the shipped schemas compile"),
        json: EventDecoder::json(),
        encoders: encoders
            .map(|task| FeatureEncoder::new(task, &vocabulary).expect("the shipped vocabularies fit"))
            .collect(),
        rules: RuleSet::compile(&plans[0], 0, &|name| fields(&schemas, name))
            .expect("the shipped rules compile"),
        scored_avro: ScoredEventCodec::new(Format::Avro, &schemas).expect("the shipped schema is ours"),
        scored_json: ScoredEventCodec::new(Format::Json, &schemas).expect("JSON needs no schema"),
        schemas,
    }
});

/// The text of a shipped vocabulary; whatever else a file asks for is not there.
pub(crate) fn vocabulary(file: &Path) -> io::Result<String> {
    let text = match file.file_name().and_then(|name| name.to_str()) {
        Some("country.txt") => include_str!("../../../pipelines/commerce/vocabularies/country.txt"),
        Some("currency.txt") => include_str!("../../../pipelines/commerce/vocabularies/currency.txt"),
        Some("provider.txt") => include_str!("../../../pipelines/commerce/vocabularies/provider.txt"),
        _ => return Err(io::ErrorKind::NotFound.into()),
    };
    Ok(text.to_owned())
}

/// The top-level fields of a subject's newest version.
pub(crate) fn fields(schemas: &SchemaFolder, subject: &str) -> Option<Vec<String>> {
    schemas.latest(subject).map(|schema| schema.field_names())
}

/// What holds for any decoded event: the shipped tasks make a row of the stated shape of it or refuse it, and all of its
/// fields travel along in a scored event that is read back.
pub(crate) fn any_event(event: &Value) {
    for encoder in &SHIPPED.encoders {
        fits_or_is_refused(encoder, event);
    }
    let Value::Record(fields) = event else { panic!("an event is a record, not {}", event.kind()) };
    let scored = scored(fields.clone());
    settles(&SHIPPED.scored_avro, &scored);
    settles(&SHIPPED.scored_json, &scored);
}

/// A row has the shape that the encoder promises, or the event is refused with a reason for a person.
pub(crate) fn fits_or_is_refused(encoder: &FeatureEncoder, event: &Value) {
    match encoder.encode(event) {
        Ok(row) => has_shape(&row, encoder.specs()),
        Err(rejection) => assert!(!rejection.detail.is_empty(), "a refusal without words"),
    }
}

fn has_shape(row: &Row, specs: &[TensorSpec]) {
    assert_eq!(row.tensors.len(), specs.len(), "tensors of a row");
    for (tensor, spec) in row.tensors.iter().zip(specs) {
        let mut due = 1;
        let mut most = 0;
        for dim in &spec.dims {
            match *dim {
                Dim::Fixed(size) => due *= size,
                Dim::Steps { max } => (due, most) = (due * tensor.steps, max),
            }
        }
        assert!(tensor.steps <= most, "{} of {most} steps in `{}`", tensor.steps, spec.name);
        let len = match &tensor.data {
            TensorData::Real(numbers) => {
                assert!(numbers.iter().all(|n| n.is_finite()), "`{}` is not finite", spec.name);
                numbers.len()
            }
            TensorData::Integer(numbers) => numbers.len(),
            TensorData::Bool(flags) => flags.len(),
        };
        assert_eq!(len, due, "numbers in `{}`", spec.name);
    }
}

/// A scored event that carries these fields, and outputs that JSON has no numbers for.
pub(crate) fn scored(carried: Vec<(std::sync::Arc<str>, Value)>) -> ScoredEvent {
    let text = |text: &str| text.into();
    ScoredEvent {
        event_id: text("t/0/1"),
        pipeline: text("p"),
        route: text("r"),
        lane: text("precision"),
        task: text("t"),
        variant: text("full"),
        model_digest: text("0"),
        device: text("cpu"),
        outcome: Outcome::Scored,
        outputs: vec![(text("n"), Output::Number(f64::NAN)), (text("v"), Output::Vector(vec![f32::MAX]))],
        carried,
        degraded: false,
        source: Coordinates { topic: text("t"), partition: 0, offset: 1 },
        // A producer may write any.
        event_time_ms: Some(i64::MAX),
        scored_time_ms: 1_560_489_020_014,
    }
}

/// What is written is read back, and from then on stays the same: a format's own losses come once.
pub(crate) fn settles(codec: &ScoredEventCodec, event: &ScoredEvent) -> ScoredEvent {
    let read = |bytes: &[u8]| codec.decode(bytes).unwrap_or_else(|why| panic!("not read back: {why}"));
    let read_back = read(&codec.encode(event));
    let written = codec.encode(&read_back);
    assert_eq!(written, codec.encode(&read(&written)), "a scored event changes with every reading");
    codec.read(&written).unwrap_or_else(|why| panic!("not shown: {why}"));
    read_back
}
