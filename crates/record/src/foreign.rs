//! A writer's schema that the schema folder does not have: known by its id alone, from a registry.

use std::sync::Arc;

use apache_avro::{Schema, schema::RecordSchema};

use crate::{Reason, RegisteredSchema, Rejection, schema_text};

/// A schema that was looked up.
#[derive(Clone, Debug)]
pub struct ForeignSchema(Arc<Schema>);

impl ForeignSchema {
    /// Parses what a registry holds under `id`. One that cannot be used is no reason to stop: its events are refused so.
    pub fn parse(id: u32, text: &str) -> Result<Self, Rejection> {
        let refuse = |why: String| {
            let detail = format!("schema id {id} of the registry cannot be used: {why}");
            Rejection::new(Reason::IncompatibleSchema, detail)
        };
        schema_text::check(text).map_err(refuse)?;
        let schema = Schema::parse_str(text).map_err(|error| refuse(error.to_string()))?;
        Ok(Self(Arc::new(schema)))
    }

    /// Whether it says the same as a schema of the folder.
    pub fn is(&self, registered: &RegisteredSchema) -> bool {
        self.0 == registered.schema
    }

    /// Its record, for people.
    pub fn name(&self) -> String {
        match self.record() {
            Some(record) => format!("the record `{}`", record.name.fullname(None)),
            None => "no record".into(),
        }
    }

    pub(crate) fn avro(&self) -> &Schema {
        &self.0
    }

    /// Which of these reads it, by the record's name.
    pub(crate) fn reader_among<'r>(&self, readers: &'r [RegisteredSchema]) -> Option<&'r RegisteredSchema> {
        let writer = self.record()?;
        let fits = |reader: &RegisteredSchema| match &*reader.schema {
            Schema::Record(RecordSchema { name, aliases, .. }) => {
                name.name() == writer.name.name()
                    || aliases.iter().flatten().any(|alias| alias.name() == writer.name.name())
            }
            _ => false,
        };
        let same = |reader: &&RegisteredSchema| match &*reader.schema {
            Schema::Record(record) => record.name.fullname(None) == writer.name.fullname(None),
            _ => false,
        };
        readers.iter().find(same).or_else(|| readers.iter().find(|reader| fits(reader)))
    }

    fn record(&self) -> Option<&RecordSchema> {
        match &*self.0 {
            Schema::Record(record) => Some(record),
            _ => None,
        }
    }
}
