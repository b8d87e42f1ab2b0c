//! Looks for the records that came of one event.

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use twinlane_kafka::{Connection, Span, SpanReader};
use twinlane_record::{Coordinates, Envelope, headers};
use twinlane_service::Failure;

/// Where to look, and for what.
pub(crate) struct Search<'s> {
    pub(crate) connection: &'s Connection,
    pub(crate) client_id: &'static str,
    pub(crate) event: &'s Coordinates,
    /// The event's time, milliseconds since the Unix epoch: outputs have the same. Without it, all is searched.
    pub(crate) moment: Option<i64>,
    /// Of the topics that exist.
    pub(crate) partitions: HashMap<Arc<str>, i32>,
}

/// A record that came of the event.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) record: Envelope,
    /// First and last offset of the records around it that no commit marker divides: those that one window wrote.
    pub(crate) window: (i64, i64),
}

/// What is read on for to see where a window ends.
const LONGEST_WINDOW: i64 = 100_000;
/// Whoever waits longer wants to see that something happens.
const QUIET: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(500);

impl Search<'_> {
    /// The first record of the event in one partition.
    pub(crate) fn first(&self, topic: &Arc<str>, partition: i32) -> Result<Option<Found>, Failure> {
        Ok(self.look(topic, partition, 1)?.pop())
    }

    /// Every record of the event in one partition.
    pub(crate) fn all(&self, topic: &Arc<str>, partition: i32) -> Result<Vec<Found>, Failure> {
        self.look(topic, partition, usize::MAX)
    }

    fn look(&self, topic: &Arc<str>, partition: i32, most: usize) -> Result<Vec<Found>, Failure> {
        if self.partitions.get(topic).is_none_or(|&count| partition >= count) {
            return Ok(Vec::new());
        }
        let span = Span::since(self.connection, self.client_id, topic, partition, self.moment)?;
        let mut reader = span.read(self.connection, self.client_id)?;
        let mut progress = Progress::new(format!("{topic}/{partition}"), span.offsets());
        let mut windows = Windows::default();
        let mut found: Vec<Found> = Vec::new();
        while let Some(record) = reader.next_record()? {
            progress.at(&reader);
            let window = windows.take(record.at.offset);
            if let Some(last) = found.last_mut()
                && last.window.0 == window
            {
                last.window.1 = record.at.offset;
            }
            if found.len() < most && headers::source(&record.headers).as_ref() == Some(self.event) {
                found.push(Found { window: (window, record.at.offset), record });
            } else if found.len() == most
                && found.last().is_some_and(|last| {
                    last.window.0 != window || record.at.offset - last.record.at.offset > LONGEST_WINDOW
                })
            {
                break;
            }
        }
        progress.end();
        Ok(found)
    }
}

/// Tells one window's records from the next one's: a commit marker takes an offset that no reader sees.
#[derive(Default)]
struct Windows {
    first: i64,
    next: Option<i64>,
}

impl Windows {
    /// The first offset of the window that this record is in.
    fn take(&mut self, offset: i64) -> i64 {
        if self.next != Some(offset) {
            self.first = offset;
        }
        self.next = Some(offset + 1);
        self.first
    }
}

/// One line on a terminal that is overwritten.
struct Progress {
    what: String,
    all: u64,
    next: Instant,
    shown: bool,
}

impl Progress {
    fn new(what: String, all: u64) -> Self {
        Self { what, all, next: Instant::now() + QUIET, shown: false }
    }

    fn at(&mut self, reader: &SpanReader) {
        if Instant::now() < self.next || !io::stderr().is_terminal() {
            return;
        }
        self.next = Instant::now() + AGAIN;
        self.shown = true;
        let _ = write!(
            io::stderr(),
            "\rlooking through {}: {} of {} offsets",
            self.what,
            reader.passed(),
            self.all
        );
    }

    fn end(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_offset_divides_windows() {
        let mut windows = Windows::default();
        let first: Vec<_> = [3, 4, 5, 7, 8, 10].map(|offset| windows.take(offset)).into();
        assert_eq!(first, [3, 3, 3, 7, 7, 10]);
    }
}
