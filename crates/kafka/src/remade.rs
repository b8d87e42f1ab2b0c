//! Topics that were deleted and made anew while they are read, so quickly that no metadata ever lacked them.
//!
//! librdkafka keeps its position then: it asks for the new topic's records from the old topic's offset on, and
//! whatever lies before is never read (2.12.1 says so itself, in a FIXME beside the line that is read here). Neither
//! rdkafka nor the consumer API shows topic ids; what tells that one changed is this debug line, which comes before
//! the first record that was fetched with the new id. The text is pinned by a test against the real Kafka.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The topics that the log has told of, until somebody takes care of them.
#[derive(Default)]
pub(crate) struct Remade(Mutex<BTreeSet<String>>);

impl Remade {
    /// Listens to a line of librdkafka's log, and gives the topic that it tells of. Called from its threads.
    pub(crate) fn hear<'m>(&self, message: &'m str) -> Option<&'m str> {
        let topic = made_anew(message)?;
        self.topics().insert(topic.to_owned());
        Some(topic)
    }

    pub(crate) fn topics(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // A set is whole whatever panicked while it was locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `[thrd:main]: Topic NAME changed id from OLD to NEW`. An id of zeros is that of a topic just heard of.
fn made_anew(message: &str) -> Option<&str> {
    let (before, ids) = message.split_once(" changed id from ")?;
    let (old, _) = ids.split_once(" to ")?;
    let is_first = old.trim_end_matches('=').chars().all(|digit| digit == 'A');
    let (_, topic) = before.rsplit_once("Topic ")?;
    (!is_first).then_some(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_whose_id_changed_was_made_anew_and_one_just_heard_of_was_not() {
        let line =
            "[thrd:main]: Topic my.events changed id from 0NMKD2T6Q8yAkrOBPgcLvA to XwvIhSpLTNGBZBlu7_7nAw";
        assert_eq!(made_anew(line), Some("my.events"));
        let first =
            "[thrd:main]: Topic my.events changed id from AAAAAAAAAAAAAAAAAAAAAA to XwvIhSpLTNGBZBlu7_7nAw";
        assert_eq!(made_anew(first), None);
        assert_eq!(made_anew("[thrd:main]: Topic my.events [0] Leader 1 Epoch 0"), None);
    }
}
