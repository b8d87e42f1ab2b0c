//! How values are written on a topic.

use serde::{Deserialize, Serialize};

/// The encoding of a topic's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Avro in the Confluent wire format: a zero byte, the schema id (big-endian u32), the datum.
    Avro,
    /// One JSON object a record.
    Json,
}
