//! A record as it came from Kafka: the user's own bytes, untouched, and where they stood.

use std::sync::Arc;

use bytes::Bytes;

use crate::Coordinates;

/// The name of a header: one of Twinlane's own, which cost nothing, or one that was read.
#[derive(Clone, Debug)]
pub enum HeaderName {
    /// Known to the program.
    Known(&'static str),
    /// Read from a record.
    Read(Arc<str>),
}

impl std::ops::Deref for HeaderName {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Known(name) => name,
            Self::Read(name) => name,
        }
    }
}

impl From<&'static str> for HeaderName {
    fn from(name: &'static str) -> Self {
        Self::Known(name)
    }
}

impl From<String> for HeaderName {
    fn from(name: String) -> Self {
        Self::Read(name.into())
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for HeaderName {}

impl std::fmt::Display for HeaderName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self)
    }
}

/// One header: a name and its bytes (Kafka allows a header without a value).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Name; may occur more than once in a record.
    pub name: HeaderName,
    /// Value as it came.
    pub value: Option<Bytes>,
}

/// Headers in the order in which they stand on the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<Header>);

impl Headers {
    /// The last header of that name, as Kafka's own `lastHeader` does it.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|h| &*h.name == name).and_then(|h| h.value.as_deref())
    }

    /// The last header of that name as text, when it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|v| std::str::from_utf8(v).ok())
    }

    /// Appends a header.
    pub fn push(&mut self, name: impl Into<HeaderName>, value: impl Into<Bytes>) {
        self.0.push(Header { name: name.into(), value: Some(value.into()) });
    }

    /// Bytes that the headers add to a record, framing excluded.
    pub fn size(&self) -> usize {
        self.0.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Bytes::len)).sum()
    }
}

/// A record of a source or lane topic, with nothing decoded yet.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Where it stands on the topic it was read from.
    pub at: Coordinates,
    /// Kafka's record timestamp, milliseconds since the Unix epoch; absent on very old message formats.
    pub timestamp_ms: Option<i64>,
    /// The key's bytes.
    pub key: Option<Bytes>,
    /// The value's bytes; `None` is a tombstone, which differs from an empty payload.
    pub value: Option<Bytes>,
    /// Headers, the user's own and Twinlane's.
    pub headers: Headers,
}

impl Envelope {
    /// Bytes that this record holds in memory: what the budget counts.
    pub fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + self.headers.size()
    }
}
