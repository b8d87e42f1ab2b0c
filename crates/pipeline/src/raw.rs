//! The pipeline file as it is written. Doc comments here are the reference that editors show.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_saphyr::Spanned;
use twinlane_record::Format;

/// A Twinlane pipeline: which topics are read, how events are routed to lanes, and what is predicted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pipeline {
    /// Name of the pipeline: lower-case letters, digits and dashes. Prefixes topics, consumer groups and
    /// transactional ids.
    #[schemars(with = "String")]
    pub(crate) pipeline: Spanned<String>,
    /// Topics that you write, by a name of your choice.
    #[schemars(with = "BTreeMap<String, Source>")]
    pub(crate) sources: BTreeMap<String, Spanned<Source>>,
    /// Rules; the first that matches wins. An event that no route matches is a dead letter.
    #[schemars(with = "Vec<Route>")]
    pub(crate) routes: Vec<Spanned<Route>>,
    /// What is predicted, by name.
    #[schemars(with = "BTreeMap<String, Task>")]
    pub(crate) tasks: BTreeMap<String, Spanned<Task>>,
    /// How each lane runs.
    pub(crate) lanes: Lanes,
    /// Where events go that cannot be answered. Nothing is silently discarded, so it is mandatory.
    #[schemars(with = "DeadLetters")]
    pub(crate) dead_letters: Option<Spanned<DeadLetters>>,
}

/// A topic that you write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    /// Topic name.
    pub(crate) topic: String,
    /// How its values are written: `avro` (Confluent wire format) or `json`.
    #[schemars(with = "String")]
    pub(crate) format: Format,
    /// Subjects of the schemas that may occur on it; needed for Avro.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) schemas: Vec<Spanned<String>>,
    /// What a null value means: `skip` (counted) or `dead_letter`.
    #[serde(default)]
    pub(crate) tombstones: Tombstones,
    /// When records were deleted by retention before they were answered: `stop` the partition, or go on from
    /// the `earliest` record.
    #[serde(default)]
    pub(crate) when_below_start: BelowStart,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tombstones {
    #[default]
    Skip,
    DeadLetter,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BelowStart {
    #[default]
    Stop,
    Earliest,
}

/// A rule that picks a lane, or skips.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// Source that it applies to.
    #[schemars(with = "String")]
    pub(crate) from: Spanned<String>,
    /// Name in headers and metrics; derived from source and task when absent.
    pub(crate) name: Option<String>,
    /// CEL over `event` (its fields), `schema`, `topic` and `key`; none matches everything. CEL computes only
    /// with numbers of one kind, and JSON writes 5.0 as 5: where a rule computes, say `double(event.amount) * 1.1`.
    /// A field that only some of the source's schemas have needs `schema == "…" &&` or `has(event.field) &&` before it.
    /// At most 4000 characters; its macros walk through at most 50000 items for one event, which else is a dead letter.
    #[schemars(with = "Option<String>")]
    pub(crate) when: Option<Spanned<String>>,
    /// Count matching events without answering them, and say why.
    pub(crate) skip: Option<String>,
    /// Task that answers.
    #[schemars(with = "Option<String>")]
    pub(crate) task: Option<Spanned<String>>,
    /// Lane: `precision` or `throughput`.
    #[schemars(with = "Option<String>")]
    pub(crate) lane: Option<Spanned<String>>,
}

/// What is predicted: inputs, outputs, and one or two models with one contract.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Task {
    /// ONNX files, relative to this file.
    pub(crate) models: Models,
    /// The models' input tensors by name, and how each is filled.
    #[schemars(with = "BTreeMap<String, Input>")]
    pub(crate) inputs: BTreeMap<String, Spanned<Input>>,
    /// Named outputs of a scored event, and the tensors they come from.
    #[schemars(with = "BTreeMap<String, Output>")]
    pub(crate) outputs: BTreeMap<String, Spanned<Output>>,
    /// Where answers go.
    #[schemars(with = "Publish")]
    pub(crate) publish: Spanned<Publish>,
    /// How old an event may become before a model begins with it, such as `2s`, counted from its record's timestamp, so
    /// that the time which it waited in Kafka counts. An older one is answered `expired`, without outputs and without a
    /// model run. Without a deadline every event is scored, however old.
    #[schemars(with = "Option<String>")]
    pub(crate) deadline: Option<Spanned<String>>,
}

/// Model files; one variant is enough.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Models {
    /// The precise model.
    #[schemars(with = "Option<ModelFile>")]
    pub(crate) full: Option<Spanned<ModelFile>>,
    /// The light model.
    #[schemars(with = "Option<ModelFile>")]
    pub(crate) distilled: Option<Spanned<ModelFile>>,
}

/// A model's file, alone or with what it must be.
#[derive(Debug, JsonSchema)]
#[serde(untagged)]
pub(crate) enum ModelFile {
    /// The file, whatever it holds.
    Any(String),
    /// The file, if it holds what it should.
    Verified(VerifiedModel),
}

/// A model's file and what it must hold. Another one is refused at the start, and when it takes the place of one that runs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifiedModel {
    /// The file.
    pub(crate) file: String,
    /// SHA-256 of the file, 64 hex digits, as `sha256sum` prints them.
    pub(crate) sha256: String,
}

/// How one tensor is filled: `field` for `[batch]`, `columns` for `[batch, columns]`, `each` with `columns`
/// for `[batch, steps, columns]`, `text` for `[batch, tokens]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// One value an event.
    pub(crate) field: Option<String>,
    /// How the field becomes a number; see a column's `as`.
    #[serde(rename = "as")]
    pub(crate) convert: Option<Convert>,
    /// Zone for `hour_of_day` and `day_of_week`: `UTC` or an offset such as `+02:00`.
    pub(crate) zone: Option<String>,
    /// File with one category a line; the tensor gets the line's index, from 0.
    pub(crate) vocabulary: Option<String>,
    /// Index, within the vocabulary, for a category that it does not list.
    pub(crate) unknown: Option<i64>,
    /// Number for a missing or null field, with a `vocabulary` an index of it; without it such an event is a dead
    /// letter.
    pub(crate) missing: Option<f64>,
    /// Columns of a matrix, or of each step of a sequence.
    #[schemars(with = "Option<Vec<Column>>")]
    pub(crate) columns: Option<Vec<Spanned<Column>>>,
    /// Field that holds a list: one step an item. An event without the field, or with null, has an empty list and
    /// is answered: a first customer has no history. The columns are fields of the items.
    pub(crate) each: Option<String>,
    /// The most steps; the last ones are kept.
    pub(crate) keep_last: Option<usize>,
    /// Tensor that gets 1 for a step and 0 for padding. With one, lists are padded to the longest of the batch; without
    /// one always to `keep_last`, so that a score does not depend on who else is in the batch.
    #[schemars(with = "Option<String>")]
    pub(crate) mask: Option<Spanned<String>>,
    /// Field that holds a text; the tensor gets the ids of its tokens. Needs `tokenizer`, `max_tokens` and `mask`.
    pub(crate) text: Option<String>,
    /// `tokenizer.json` of the model, as Hugging Face's tokenizers write it.
    pub(crate) tokenizer: Option<String>,
    /// The most tokens of a text, those that the tokenizer adds included; what comes after them is left out.
    pub(crate) max_tokens: Option<usize>,
    /// Tensor that gets 0 for every token, for models that tell first from second texts (`token_type_ids`).
    #[schemars(with = "Option<String>")]
    pub(crate) type_ids: Option<Spanned<String>>,
}

/// A column: the name of a field that holds a number, or how to make one from a field.
#[derive(Debug, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Column {
    /// A field that holds a number.
    Name(String),
    /// A field and how it becomes a number.
    Spec(ColumnSpec),
}

/// A field and how it becomes a number.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ColumnSpec {
    /// Field, by dotted path.
    pub(crate) field: String,
    /// How it becomes a number; `number` by default.
    #[serde(rename = "as")]
    pub(crate) convert: Option<Convert>,
    /// Zone for `hour_of_day` and `day_of_week`: `UTC` or an offset such as `+02:00`.
    pub(crate) zone: Option<String>,
    /// File with one category a line; the column gets the line's index, from 0.
    pub(crate) vocabulary: Option<String>,
    /// Index, within the vocabulary, for a category that it does not list.
    pub(crate) unknown: Option<i64>,
    /// Number for a missing or null field, with a `vocabulary` an index of it; without it such an event is a dead
    /// letter.
    pub(crate) missing: Option<f64>,
}

/// How a field becomes a number.
#[derive(Debug, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Convert {
    /// A number as it is.
    Number,
    /// A boolean, as 0 or 1.
    Boolean,
    /// A timestamp, as seconds since the Unix epoch.
    EpochSeconds,
    /// A timestamp, as milliseconds since the Unix epoch.
    EpochMillis,
    /// A timestamp, as the hour of its day, 0 to 24, with fractions.
    HourOfDay,
    /// A timestamp, as the day of its week, 0 (Monday) to 6.
    DayOfWeek,
}

/// How an output tensor is read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Output {
    /// Tensor of the model.
    #[schemars(with = "String")]
    pub(crate) tensor: Spanned<String>,
    /// `class`, `number` or `vector`.
    pub(crate) kind: OutputKind,
    /// Labels of a class, in the tensor's order.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) labels: Vec<Spanned<String>>,
    /// `softmax` or `sigmoid`, when the model gives logits.
    pub(crate) apply: Option<Apply>,
}

#[derive(Debug, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutputKind {
    Class,
    Number,
    Vector,
}

#[derive(Debug, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Apply {
    Softmax,
    Sigmoid,
}

/// Where answers go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Publish {
    /// Topic name.
    pub(crate) topic: String,
    /// How answers are written: `avro` or `json`.
    #[schemars(with = "String")]
    pub(crate) format: Format,
    /// Fields of the event that travel along; one that an event lacks travels as null.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) carry: Vec<Spanned<String>>,
    /// Partitions of the topic; 6 by default. Changing it needs a drain.
    pub(crate) partitions: Option<i32>,
}

/// How the lanes run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lanes {
    /// For events where each answer counts.
    #[schemars(with = "Option<Lane>")]
    pub(crate) precision: Option<Spanned<Lane>>,
    /// For volume.
    #[schemars(with = "Option<Lane>")]
    pub(crate) throughput: Option<Spanned<Lane>>,
}

/// How one lane runs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lane {
    /// Which of each task's models: `full` or `distilled`.
    pub(crate) model: Variant,
    /// Devices in order of preference; the first that works is used, and nothing else.
    pub(crate) device: Vec<Device>,
    /// Events in one model run at most.
    pub(crate) max_batch: usize,
    /// Least time between two transactions, such as `5ms`; 5 ms in the precision lane, 50 ms in the other.
    pub(crate) window: Option<String>,
    /// Whether its workers read mixed sources themselves and pass by what belongs to the other lane, without the router in
    /// between. An event is answered after one transaction instead of two, in half the time, and every worker reads and
    /// routes every event of those sources. Changing it needs a drain.
    #[serde(default)]
    pub(crate) direct: bool,
    /// Partitions of each of its task topics; 6 by default. Changing it needs a drain.
    pub(crate) partitions: Option<i32>,
    /// How long one model run may take, such as `30s`, which is the default. A run that takes longer hangs: the worker
    /// ends with exit code 8, and its records are read again.
    pub(crate) run_deadline: Option<String>,
    /// Share of the events, such as `0.01`, whose answers are compared with those of the CPU while they flow, to notice a
    /// device that answers something else. The CPU runs them once more, on a thread of its own. Without it, a device is
    /// compared once, when it starts.
    pub(crate) parity: Option<f64>,
    /// Model threads; by default from the CPU quota.
    pub(crate) model_threads: Option<usize>,
    /// The most that may be in flight in one worker.
    pub(crate) in_flight: Option<InFlight>,
}

#[derive(Debug, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Variant {
    Full,
    Distilled,
}

#[derive(Debug, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Device {
    Cpu,
    Cuda,
}

/// A bound on memory.
#[derive(Debug, Deserialize, JsonSchema, Clone, Copy)]
#[serde(deny_unknown_fields)]
pub(crate) struct InFlight {
    /// Records; 30,000 by default.
    pub(crate) records: Option<usize>,
    /// Mebibytes; 64 by default.
    pub(crate) mib: Option<usize>,
}

/// Where events go that cannot be answered.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetters {
    /// Topic name.
    pub(crate) topic: String,
    /// Partitions of the topic; 6 by default.
    pub(crate) partitions: Option<i32>,
    /// When a stage fails for nearly everything, it must not empty a topic into the dead letters. A partition that is
    /// past the limit is not answered any more; it is tried again after 1 s, 2 s, up to a minute, and goes on with the
    /// first record that can be answered.
    #[serde(default)]
    pub(crate) limit: DeadLetterLimit,
}

/// The most dead letters of one partition.
#[derive(Debug, Default, Deserialize, JsonSchema, Clone, Copy)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetterLimit {
    /// One after another; 1000 by default.
    pub(crate) consecutive: Option<usize>,
    /// Of about the last 1000 records, 0 to 1; 0.5 by default, 1 for no limit.
    pub(crate) ratio: Option<f64>,
}

/// By hand, because an untagged enum would answer every mistake with "matches no variant".
impl<'de> Deserialize<'de> for ModelFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ModelFile;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a file's path, or { file: …, sha256: … }")
            }

            fn visit_str<E>(self, file: &str) -> Result<ModelFile, E> {
                Ok(ModelFile::Any(file.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ModelFile, A::Error> {
                VerifiedModel::deserialize(MapAccessDeserializer::new(map)).map(ModelFile::Verified)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// As for [`ModelFile`].
impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Column;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a field's name, or { field: …, as: … }")
            }

            fn visit_str<E>(self, name: &str) -> Result<Column, E> {
                Ok(Column::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Column, A::Error> {
                ColumnSpec::deserialize(MapAccessDeserializer::new(map)).map(Column::Spec)
            }
        }
        deserializer.deserialize_any(Either)
    }
}
