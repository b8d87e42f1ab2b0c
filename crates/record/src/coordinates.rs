//! Where a record stands in Kafka. Offsets are opaque here: nothing in this crate computes with them.

use std::{fmt, str::FromStr, sync::Arc};

/// Topic, partition and offset of one record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Coordinates {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
    /// Offset of the record itself (a consumer that is done with it commits the next one).
    pub offset: i64,
}

/// Written as `topic/partition/offset`, the form that headers, logs and commands use.
impl fmt::Display for Coordinates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut partition, mut offset) = (itoa::Buffer::new(), itoa::Buffer::new());
        for part in [&*self.topic, "/", partition.format(self.partition), "/", offset.format(self.offset)] {
            f.write_str(part)?;
        }
        Ok(())
    }
}

/// The text is not `topic/partition/offset`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not of the form topic/partition/offset")]
pub struct InvalidCoordinates(String);

impl FromStr for Coordinates {
    type Err = InvalidCoordinates;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Kafka topic names cannot hold a slash, so the last two parts are always the numbers.
        let invalid = || InvalidCoordinates(text.to_owned());
        let mut parts = text.rsplitn(3, '/');
        let offset = parts.next().and_then(|p| p.parse().ok()).ok_or_else(invalid)?;
        let partition = parts.next().and_then(|p| p.parse().ok()).ok_or_else(invalid)?;
        let topic = parts.next().filter(|t| !t.is_empty() && !t.contains('/')).ok_or_else(invalid)?;
        Ok(Self { topic: topic.into(), partition, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        let at = Coordinates { topic: "shop.events".into(), partition: 3, offset: 42 };
        assert_eq!(at.to_string(), "shop.events/3/42");
        assert_eq!(at.to_string().parse(), Ok(at));
    }

    #[test]
    fn text_that_is_not_coordinates_is_refused() {
        for text in ["", "a", "a/1", "a/b/c", "/1/2", "a/1/", "a/x/1/2"] {
            assert!(text.parse::<Coordinates>().is_err(), "{text:?} was accepted");
        }
    }
}
