//! The schema folder: Avro schemas with the ids under which they travel, registered in `index.json`, so that
//! nothing has to run. An id belongs to one version of one subject for ever.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use apache_avro::Schema;
use serde::Deserialize;

use crate::schema_text;

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
    /// The folder's versions of a subject that Twinlane writes are all different from what it writes.
    #[error(
        "no version of `{subject}` in the schema folder is the one that this build writes; put back {subject}.v1.avsc as it came, and register changes as further versions"
    )]
    NotOurs {
        /// The subject.
        subject: &'static str,
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

/// One line of `index.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaEntry {
    /// The id in the wire format.
    pub id: u32,
    /// Subject, the name that rules use (`order`).
    pub subject: Arc<str>,
    /// Version within the subject, from 1.
    pub version: u32,
    /// Where the schema stands, relative to the folder.
    pub file: PathBuf,
}

impl SchemaFolder {
    /// Reads `index.json` and every schema that it names.
    pub fn open(folder: &Path) -> Result<Self, SchemaError> {
        let file = folder.join("index.json");
        let read = |file: &Path| {
            std::fs::read_to_string(file).map_err(|source| SchemaError::Read { file: file.into(), source })
        };
        let entries: Vec<SchemaEntry> = serde_json::from_str(&read(&file)?)
            .map_err(|source| SchemaError::Index { file: file.clone(), source })?;
        let mut schemas = Self::default();
        for mut entry in entries {
            entry.file = folder.join(&entry.file);
            let text = read(&entry.file)?;
            schemas.insert(entry, &text, &file)?;
        }
        Ok(schemas)
    }

    /// Registers one more schema by its text; nothing is read from disk. `entry.file` is its name for refusals.
    pub fn add(&mut self, entry: SchemaEntry, text: &str) -> Result<(), SchemaError> {
        self.insert(entry, text, Path::new("index.json"))
    }

    fn insert(&mut self, entry: SchemaEntry, text: &str, index: &Path) -> Result<(), SchemaError> {
        let SchemaEntry { id, subject, version, file } = entry;
        let unsupported = |what| SchemaError::Unsupported { subject: subject.to_string(), what };
        schema_text::check(text).map_err(unsupported)?;
        let schema = Schema::parse_str(text)
            .map_err(|source| SchemaError::Schema { file, source: Box::new(source) })?;
        let twice = |what: String| SchemaError::Twice { file: index.to_owned(), what };
        if self.by_subject.entry(subject.clone()).or_default().insert(version, id).is_some() {
            return Err(twice(format!("version {version} of `{subject}`")));
        }
        let registered = RegisteredSchema { id, subject, version, schema: Arc::new(schema) };
        if self.by_id.insert(id, registered).is_some() {
            return Err(twice(format!("id {id}")));
        }
        Ok(())
    }

    /// The schema with this id.
    pub fn by_id(&self, id: u32) -> Option<&RegisteredSchema> {
        self.by_id.get(&id)
    }

    /// The newest version of a subject: what Twinlane reads as.
    pub fn latest(&self, subject: &str) -> Option<&RegisteredSchema> {
        self.by_id.get(self.by_subject.get(subject)?.values().next_back()?)
    }

    /// Every id, in no order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        self.by_id.keys().copied()
    }

    /// Every subject, in alphabetical order.
    pub fn subjects(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_subject.keys()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn open(index: &str) -> Result<SchemaFolder, SchemaError> {
        let folder = tempfile::tempdir().expect("a folder");
        let record = r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}"#;
        for (file, text) in [("index.json", index), ("r.avsc", record), ("bad.avsc", r#"{"type": "recrod"}"#)]
        {
            std::fs::write(folder.path().join(file), text).expect("written");
        }
        SchemaFolder::open(folder.path())
    }

    #[test]
    fn the_newest_version_is_the_highest_number_wherever_it_stands() {
        let schemas = open(
            r#"[{"id": 7, "subject": "r", "version": 10, "file": "r.avsc"},
                {"id": 9, "subject": "r", "version": 9, "file": "r.avsc"}]"#,
        )
        .expect("valid");
        assert_eq!(schemas.latest("r").map(|s| s.id), Some(7));
        assert_eq!(schemas.by_id(9).map(|s| s.version), Some(9));
        assert_eq!(schemas.latest("r").map(RegisteredSchema::field_names), Some(vec!["a".to_owned()]));
        assert_eq!(
            schemas.require("x").expect_err("unknown").to_string(),
            "schema `x` is not in the schema folder, which has: r; register it in index.json"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_used_names_the_file_and_what_is_wrong() {
        let one = |id: u32, version: u32, file: &str| {
            format!(r#"{{"id": {id}, "subject": "r", "version": {version}, "file": "{file}"}}"#)
        };
        for (index, says) in [
            ("{".to_owned(), "index.json: "),
            (r#"[{"id": 1}]"#.to_owned(), "needs exactly id, subject, version and file"),
            (format!("[{}]", one(1, 1, "none.avsc")), "none.avsc: "),
            (format!("[{}]", one(1, 1, "bad.avsc")), "bad.avsc: not a valid Avro schema"),
            (format!("[{}, {}]", one(1, 1, "r.avsc"), one(1, 2, "r.avsc")), "id 1 stands twice"),
            (format!("[{}, {}]", one(1, 1, "r.avsc"), one(2, 1, "r.avsc")), "version 1 of `r` stands twice"),
        ] {
            let error = open(&index).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
        let missing = SchemaFolder::open(Path::new("no-such-folder")).expect_err("missing").to_string();
        assert!(missing.contains("a schema folder holds index.json"), "{missing}");
    }

    #[test]
    fn every_schema_of_this_repository_can_be_used() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
        let schemas = SchemaFolder::open(&folder).expect("valid");
        let subjects: Vec<_> = schemas.subjects().cloned().collect();
        let decoder = crate::EventDecoder::avro(&schemas, &subjects).expect("valid");
        assert_eq!(decoder.incompatible(), [""; 0]);
    }
}
