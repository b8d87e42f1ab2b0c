//! What a client complains of. While brokers are away librdkafka says so several times a second, for each connection and in
//! changing words; a log says it once, and then from time to time how often it was said.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

/// Complaints that a client was heard to make.
#[derive(Default)]
pub(crate) struct Complaints(Mutex<HashMap<Subject, Told>>);

/// librdkafka's number of an error, and whom it is about as far as the client says.
type Subject = (i32, String);

struct Told {
    at: Instant,
    kept_back: u32,
}

/// After so long the same is told again.
const AGAIN: Duration = Duration::from_secs(30);

impl Complaints {
    /// Logs an error, unless the same was logged lately. `what` is whose it is, or what comes of it.
    pub(crate) fn tell(&self, what: &str, error: &KafkaError, reason: &str) {
        if let Some(kept_back) = self.is_due(error.rdkafka_error_code(), reason, Instant::now()) {
            tracing::warn!(%error, reason, kept_back, "{what}");
        }
    }

    /// How often the same was kept back since it was told last; `None` where it is to be kept back again.
    fn is_due(&self, code: Option<RDKafkaErrorCode>, reason: &str, now: Instant) -> Option<u32> {
        // `127.0.0.1:9092/1: Connect to … failed`, `2/2 brokers are down`
        let whom = reason.split_once(": ").map_or("", |(whom, _)| whom);
        let subject = (code.map_or(0, |code| code as i32), whom.to_owned());
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = told.get_mut(&subject) else {
            told.insert(subject, Told { at: now, kept_back: 0 });
            return Some(0);
        };
        if now.duration_since(last.at) < AGAIN {
            last.kept_back += 1;
            return None;
        }
        last.at = now;
        Some(std::mem::take(&mut last.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_complaint_is_told_once_and_later_how_often_it_was_made() {
        const AWAY: Option<RDKafkaErrorCode> = Some(RDKafkaErrorCode::BrokerTransportFailure);
        const DOWN: Option<RDKafkaErrorCode> = Some(RDKafkaErrorCode::AllBrokersDown);
        let complaints = Complaints::default();
        let start = Instant::now();
        assert_eq!(complaints.is_due(AWAY, "a:1/1: Connect failed (after 0ms)", start), Some(0));
        assert_eq!(complaints.is_due(AWAY, "a:1/1: Connect failed (after 9ms)", start), None);
        assert_eq!(
            complaints.is_due(AWAY, "b:1/2: Connect failed (after 0ms)", start),
            Some(0),
            "another broker"
        );
        assert_eq!(complaints.is_due(DOWN, "1/1 brokers are down", start), Some(0), "another error");
        assert_eq!(complaints.is_due(DOWN, "2/2 brokers are down", start), None);
        assert_eq!(complaints.is_due(AWAY, "a:1/1: Disconnected", start + AGAIN), Some(1));
        assert_eq!(complaints.is_due(AWAY, "a:1/1: Disconnected", start + AGAIN), None);
    }
}
