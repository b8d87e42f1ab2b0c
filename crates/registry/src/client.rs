//! The few questions that are asked of a registry.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::{Error, Options, Result, transport::Transport};

/// Asks one registry. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client(Transport);

/// What an id stands for.
#[derive(Clone, Debug, Deserialize)]
pub struct Schema {
    /// The schema as text.
    pub schema: String,
    /// `AVRO` (also when it is left out), `JSON` or `PROTOBUF`.
    #[serde(rename = "schemaType", default = "avro")]
    pub kind: String,
    /// Other schemas that this one names and does not hold.
    #[serde(default)]
    pub references: Vec<serde_json::Value>,
}

fn avro() -> String {
    "AVRO".into()
}

/// A version of a subject.
#[derive(Clone, Debug, Deserialize)]
pub struct Version {
    /// From 1.
    pub version: u32,
    /// The id under which it travels.
    pub id: u32,
    /// The schema as text.
    pub schema: String,
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

#[derive(Deserialize)]
struct Verdict {
    is_compatible: bool,
    #[serde(default)]
    messages: Vec<String>,
}

impl Client {
    /// The longest that a call takes.
    pub const LIMIT: Duration = Duration::from_secs(3);

    /// Knows how to reach a registry; nothing is asked yet.
    ///
    /// # Errors
    /// [`Error::Settings`] for an address or a certificate that cannot be.
    pub fn new(options: Options) -> Result<Self> {
        Transport::new(options, Self::LIMIT).map(Self)
    }

    /// Where it is, for people.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Whether a registry answers, and lets us ask.
    ///
    /// # Errors
    /// When it does not.
    pub fn answers(&self) -> Result<()> {
        match self.0.get::<Vec<String>>("/schemas/types") {
            // A registry that lacks this question has the other one, which is longer where there are many.
            Err(Error::Unwell { status: 404, .. } | Error::NotFound { .. }) => {
                self.0.get::<Vec<String>>("/subjects").map(drop)
            }
            answer => answer.map(drop),
        }
    }

    /// What an id stands for; it never stands for anything else.
    ///
    /// # Errors
    /// [`Error::NotFound`] when no schema has this id.
    pub fn schema(&self, id: u32) -> Result<Schema> {
        self.0.get(&format!("/schemas/ids/{id}"))
    }

    /// The newest version of a subject.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such subject.
    pub fn latest(&self, subject: &str) -> Result<Version> {
        self.0.get(&format!("/subjects/{}/versions/latest", escaped(subject)))
    }

    /// The id of this very schema among the versions of a subject; none if it is not registered there.
    ///
    /// # Errors
    /// When the registry does not say.
    pub fn id_of(&self, subject: &str, schema: &str) -> Result<Option<u32>> {
        let found = self.0.post(&format!("/subjects/{}", escaped(subject)), &json!({ "schema": schema }));
        match found {
            Ok(Registered { id }) => Ok(Some(id)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the subject's rules allow this schema after its newest version, and why not.
    ///
    /// # Errors
    /// When the registry does not say; a subject that does not exist allows everything.
    pub fn compatible(&self, subject: &str, schema: &str) -> Result<std::result::Result<(), String>> {
        let path = format!("/compatibility/subjects/{}/versions/latest?verbose=true", escaped(subject));
        match self.0.post(&path, &json!({ "schema": schema })) {
            Ok(Verdict { is_compatible: true, .. }) | Err(Error::NotFound { .. }) => Ok(Ok(())),
            Ok(Verdict { messages, .. }) => Ok(Err(match messages.is_empty() {
                true => "the registry gives no reason".into(),
                false => messages.join("; "),
            })),
            Err(error) => Err(error),
        }
    }

    /// Makes this schema the subject's newest version, if it is none yet; gives its id.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is incompatible with the version before.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        let path = format!("/subjects/{}/versions", escaped(subject));
        self.0.post(&path, &json!({ "schema": schema })).map(|Registered { id }| id)
    }
}

/// The subject of a topic's values, as serializers name it unless they are told otherwise (`TopicNameStrategy`).
pub fn value_subject(topic: &str) -> String {
    format!("{topic}-value")
}

/// A subject as a part of a path: it may hold whatever a topic's or a record's name may, and more.
fn escaped(subject: &str) -> String {
    let mut text = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_one_part_of_a_path_whatever_it_holds() {
        assert_eq!(escaped("orders.v1-value"), "orders.v1-value");
        assert_eq!(escaped("a/b?c ü"), "a%2Fb%3Fc%20%C3%BC");
    }
}
