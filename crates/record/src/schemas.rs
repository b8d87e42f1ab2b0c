//! The schema folder: Avro schemas with the ids under which they travel, registered in `index.json`, so that
//! nothing has to run. An id belongs to one version of one subject for ever.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use apache_avro::Schema;
use serde::Deserialize;

/// One version of one subject.
#[derive(Clone, Debug)]
pub struct RegisteredSchema {
    /// The id in the wire format.
    pub id: u32,
    /// Subject, the name that rules use (`order`).
    pub subject: Arc<str>,
    /// Version within the subject, from 1.
    pub version: u32,
    /// The schema.
    pub schema: Arc<Schema>,
}

impl RegisteredSchema {
    /// Names of the record's top-level fields.
    pub fn field_names(&self) -> Vec<String> {
        match &*self.schema {
            Schema::Record(record) => record.fields.iter().map(|f| f.name.clone()).collect(),
            _ => Vec::new(),
        }
    }
}

/// All schemas of a folder.
#[derive(Clone, Debug, Default)]
pub struct SchemaFolder {
    by_id: HashMap<u32, RegisteredSchema>,
    by_subject: BTreeMap<Arc<str>, BTreeMap<u32, u32>>,
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// A file cannot be read.
    #[error("{file}: {source}; a schema folder holds index.json and the files that it names")]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `index.json` is not a list of `{{"id", "subject", "version", "file"}}`.
    #[error("{file}: {source}; each entry needs exactly id, subject, version and file")]
    Index {
        /// Which.
        file: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A schema is not valid Avro.
    #[error("{file}: not a valid Avro schema: {source}")]
    Schema {
        /// Which.
        file: PathBuf,
        /// Why.
        source: Box<apache_avro::Error>,
    },
    /// An id or a subject's version stands twice.
    #[error("{file}: {what} stands twice; every version of a subject needs an id of its own")]
    Twice {
        /// The index.
        file: PathBuf,
        /// What.
        what: String,
    },
    /// A schema cannot be compiled for reading.
    #[error("schema `{subject}`: {what}")]
    Unsupported {
        /// The name.
        subject: String,
        /// What is wrong.
        what: String,
    },
    /// A source names a schema that the folder lacks.
    #[error("schema `{subject}` is not in the schema folder, which has: {known}; register it in index.json")]
    Unknown {
        /// The name.
        subject: String,
        /// What there is.
        known: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: u32,
    subject: Arc<str>,
    version: u32,
    file: PathBuf,
}

impl SchemaFolder {
    /// Reads `index.json` and every schema that it names.
    pub fn open(folder: &Path) -> Result<Self, SchemaError> {
        let file = folder.join("index.json");
        let read = |file: &Path| {
            std::fs::read_to_string(file).map_err(|source| SchemaError::Read { file: file.into(), source })
        };
        let entries: Vec<Entry> = serde_json::from_str(&read(&file)?)
            .map_err(|source| SchemaError::Index { file: file.clone(), source })?;
        let mut schemas = Self::default();
        for entry in entries {
            let path = folder.join(&entry.file);
            let schema = Schema::parse_str(&read(&path)?)
                .map_err(|source| SchemaError::Schema { file: path, source: Box::new(source) })?;
            let twice = |what: String| SchemaError::Twice { file: file.clone(), what };
            let Entry { id, subject, version, .. } = entry;
            if schemas.by_subject.entry(subject.clone()).or_default().insert(version, id).is_some() {
                return Err(twice(format!("version {version} of `{subject}`")));
            }
            let registered = RegisteredSchema { id, subject, version, schema: Arc::new(schema) };
            if schemas.by_id.insert(id, registered).is_some() {
                return Err(twice(format!("id {id}")));
            }
        }
        Ok(schemas)
    }

    /// The schema with this id.
    pub fn by_id(&self, id: u32) -> Option<&RegisteredSchema> {
        self.by_id.get(&id)
    }

    /// The newest version of a subject: what Twinlane reads as.
    pub fn latest(&self, subject: &str) -> Option<&RegisteredSchema> {
        self.by_id.get(self.by_subject.get(subject)?.values().next_back()?)
    }

    /// Every version of a subject.
    pub fn versions(&self, subject: &str) -> impl Iterator<Item = &RegisteredSchema> {
        self.by_subject.get(subject).into_iter().flat_map(|v| v.values()).filter_map(|id| self.by_id.get(id))
    }

    /// The newest version of a subject, or an error that says what there is.
    pub fn require(&self, subject: &str) -> Result<&RegisteredSchema, SchemaError> {
        self.latest(subject).ok_or_else(|| SchemaError::Unknown {
            subject: subject.to_owned(),
            known: self.by_subject.keys().map(|s| &**s).collect::<Vec<_>>().join(", "),
        })
    }
}
