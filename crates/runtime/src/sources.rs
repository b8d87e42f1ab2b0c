//! What a stage knows of each source: how to decode it, and its rules.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use twinlane_pipeline::{Plan, RuleSet, Tombstones};
use twinlane_record::{
    Envelope, EventDecoder, ForeignSchema, Format, Reason, Rejection, SchemaFolder, Value,
};

use crate::{Error, Finding};

/// One source, ready to be read.
pub(crate) struct SourceParts {
    pub(crate) index: usize,
    pub(crate) tombstones: Tombstones,
    /// Tells schemas; decodes for nobody.
    decoder: EventDecoder,
    for_rules: Reader,
    /// See [`Sources::for_tasks`].
    for_tasks: Vec<Reader>,
    rules: RuleSet,
    /// Whether somebody can be asked for schemas.
    looks_up: bool,
}

/// Decodes what one reader of events looks at.
struct Reader {
    decoder: EventDecoder,
    /// Names of fields; none where it looks at whole events.
    fields: Option<BTreeSet<String>>,
}

impl Reader {
    fn new(decoder: &EventDecoder, fields: Option<BTreeSet<String>>) -> Self {
        let decoder = match &fields {
            Some(fields) => decoder.clone().only(&|name| fields.contains(name)),
            None => decoder.clone(),
        };
        Self { decoder, fields }
    }

    fn learn(&mut self, id: u32, schema: &ForeignSchema) {
        let Self { decoder, fields } = self;
        // Why it cannot be read is said once, by the source's own decoder.
        let _ = match fields {
            Some(fields) => decoder.learn(id, schema, Some(&|name: &str| fields.contains(name))),
            None => decoder.learn(id, schema, None),
        };
    }
}

impl SourceParts {
    /// What a task looks at in an event; see [`Sources::for_tasks`].
    pub(crate) fn decode_for(&self, task: usize, value: &[u8]) -> Result<Value, Rejection> {
        self.for_tasks[task].decoder.decode(value).map(|event| event.value)
    }

    fn readers(&mut self) -> impl Iterator<Item = &mut Reader> {
        std::iter::once(&mut self.for_rules).chain(&mut self.for_tasks)
    }

    /// See [`Sources::route`].
    pub(crate) fn route(&self, event: &Envelope) -> Result<Option<usize>, Rejection> {
        let value = match (&event.value, self.tombstones) {
            (Some(value), _) => value,
            (None, Tombstones::Skip) => return Ok(None),
            (None, Tombstones::DeadLetter) => {
                return Err(Rejection::new(Reason::Tombstone, "the value is null"));
            }
        };
        if value.is_empty() {
            return Err(Rejection::new(Reason::EmptyPayload, "the payload has no bytes"));
        }
        let schema = self.decoder.schema_name(value)?;
        let mut decode = || self.for_rules.decoder.decode(value).map(|event| event.value);
        self.rules.route(schema.map(|s| &**s), &mut decode, event.key.as_deref()).map(Some)
    }
}

/// The sources of a plan, by topic.
pub struct Sources(HashMap<Arc<str>, SourceParts>);

impl Sources {
    /// Builds decoders and compiles the rules of every source.
    pub fn build(plan: &Plan, schemas: &SchemaFolder) -> Result<Self, Error> {
        let mut sources = HashMap::new();
        for (index, source) in plan.sources.iter().enumerate() {
            let decoder = match source.format {
                Format::Avro => {
                    let at = &source.schemas_at;
                    EventDecoder::avro(schemas, &source.schemas)
                        .map_err(|e| Error::Plan(format!("{at}: {e}")))?
                }
                Format::Json => EventDecoder::json(),
            };
            for why in decoder.incompatible() {
                tracing::warn!(topic = %source.topic, why, "events of this schema version become dead letters");
            }
            let known = |subject: &str| schemas.latest(subject).map(|s| s.field_names());
            let rules = RuleSet::compile(plan, index, &known).map_err(|e| Error::Plan(e.to_string()))?;
            let fields = rules.fields().map(|fields| fields.into_iter().map(str::to_owned).collect());
            let for_rules = Reader::new(&decoder, fields);
            let tombstones = source.tombstones;
            let for_tasks = Vec::new();
            let parts =
                SourceParts { index, tombstones, decoder, for_rules, for_tasks, rules, looks_up: false };
            sources.insert(source.topic.clone(), parts);
        }
        Ok(Self(sources))
    }

    /// The same, for a stage that can look schemas up; see [`StageOptions::schemas`](crate::StageOptions::schemas).
    #[must_use]
    pub fn looking_up(mut self, looks_up: bool) -> Self {
        self.0.values_mut().for_each(|source| source.looks_up = looks_up);
        self
    }

    /// The same, for tasks that look at no other fields of an event than these.
    #[must_use]
    pub(crate) fn for_tasks(mut self, fields: &[BTreeSet<String>]) -> Self {
        for source in self.0.values_mut() {
            let reader = |fields: &BTreeSet<String>| Reader::new(&source.decoder, Some(fields.clone()));
            source.for_tasks = fields.iter().map(reader).collect();
        }
        self
    }

    /// Which route takes an event of a source topic, as an index into the plan's; none takes a tombstone that is skipped.
    pub fn route(&self, event: &Envelope) -> Result<Option<usize>, Rejection> {
        let stranger = || Rejection::new(Reason::NoRoute, "no source of this pipeline names its topic");
        self.by_topic(&event.at.topic).ok_or_else(stranger)?.route(event)
    }

    /// The schema id that is to be looked up before an event of a source topic is refused so.
    pub(crate) fn to_look_up(&self, event: &Envelope, rejection: &Rejection) -> Option<u32> {
        self.by_topic(&event.at.topic)?.to_look_up(event.value.as_deref(), rejection)
    }

    pub(crate) fn by_topic(&self, topic: &str) -> Option<&SourceParts> {
        self.0.get(topic)
    }

    pub(crate) fn by_index(&self, index: usize) -> Option<&SourceParts> {
        self.0.values().find(|s| s.index == index)
    }

    /// Something became known of a schema id.
    pub(crate) fn learn(&mut self, id: u32, finding: &Finding) {
        for (topic, source) in &mut self.0 {
            match finding {
                Finding::Schema(schema) => {
                    let why = source.decoder.learn(id, schema, None);
                    source.readers().for_each(|reader| reader.learn(id, schema));
                    if let Some(why) = why {
                        tracing::debug!(%topic, why, "events of this schema become dead letters");
                    }
                }
                Finding::Refused(why) | Finding::Nothing(why) => {
                    source.decoder.refuse(id, why.clone());
                    source.readers().for_each(|reader| reader.decoder.refuse(id, why.clone()));
                }
            }
        }
    }

    /// Whatever an id was refused for may have changed.
    pub(crate) fn forget(&mut self, id: u32) {
        for source in self.0.values_mut() {
            source.decoder.forget(id);
            source.readers().for_each(|reader| reader.decoder.forget(id));
        }
    }
}

impl SourceParts {
    /// The id that is to be looked up before this record is refused.
    pub(crate) fn to_look_up(&self, value: Option<&[u8]>, rejection: &Rejection) -> Option<u32> {
        match self.looks_up && rejection.reason == Reason::UnknownSchema {
            true => self.decoder.unknown_id(value?),
            false => None,
        }
    }
}
