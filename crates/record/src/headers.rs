//! The headers that Twinlane adds. All start with [`PREFIX`], and none is believed on a record of a user's
//! source topic, where anybody may have written it.

use std::{
    ffi::CStr,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{Coordinates, Header, HeaderName, Headers};

/// Reserved for Twinlane.
pub const PREFIX: &str = "twinlane-";
/// Identifies the event: where it stands on its source topic.
pub const EVENT_ID: &str = "twinlane-event-id";
/// Name of the route that matched.
pub const ROUTE: &str = "twinlane-route";
/// `precision` or `throughput`.
pub const LANE: &str = "twinlane-lane";
/// Source coordinates, `topic/partition/offset`.
pub const SOURCE: &str = "twinlane-source";
/// When the answer stops being of use, milliseconds since the Unix epoch.
pub const DEADLINE: &str = "twinlane-deadline";
/// `true` when another model than the planned one answered.
pub const DEGRADED: &str = "twinlane-degraded";
/// Stage at which an event died.
pub const DEAD_STAGE: &str = "twinlane-dead-stage";
/// Why, as one of [`crate::Reason`]'s fixed strings.
pub const DEAD_REASON: &str = "twinlane-dead-reason";
/// Why, for a person.
pub const DEAD_DETAIL: &str = "twinlane-dead-detail";
/// Digest of the model of its task, where a worker refused it.
pub const DEAD_MODEL_DIGEST: &str = "twinlane-dead-model-digest";
/// When, milliseconds since the Unix epoch.
pub const DEAD_TIME: &str = "twinlane-dead-time";
/// How often this event has died, this time included.
pub const DEAD_COUNT: &str = "twinlane-dead-count";
/// Names the last part that was left out because the dead letter would not fit its topic: `value`, then also the
/// event's own `headers`, then also the `key`.
pub const DEAD_TRUNCATED: &str = "twinlane-dead-truncated";
/// Moments of the event's way through the stages, where the services write them (`timings`): see
/// [`Headers::note_moment`].
pub const TIMINGS: &str = "twinlane-timings";
/// On an event that `twinlane dead-letters redrive` sent again: coordinates of the dead letter that it was. Stages do
/// not pass it on, since on a source topic anybody may have written it; whoever wants to know what an answer was
/// before reads the event where the answer says that it stands. The count of deaths does travel.
pub const REDRIVEN_FROM: &str = "twinlane-redriven-from";

/// All of them.
const ALL: [&str; 15] = [
    EVENT_ID,
    ROUTE,
    LANE,
    SOURCE,
    DEADLINE,
    DEGRADED,
    DEAD_STAGE,
    DEAD_REASON,
    DEAD_DETAIL,
    DEAD_MODEL_DIGEST,
    DEAD_TIME,
    DEAD_COUNT,
    DEAD_TRUNCATED,
    TIMINGS,
    REDRIVEN_FROM,
];

impl From<&CStr> for HeaderName {
    /// Of a header that was read. What is not UTF-8 is replaced.
    fn from(name: &CStr) -> Self {
        let known = ALL.into_iter().find(|known| known.as_bytes() == name.to_bytes());
        known.map_or_else(|| name.to_string_lossy().into_owned().into(), Self::Known)
    }
}

/// Nobody tries an event again more often than this.
const MAX_DEATHS: u32 = 1_000_000;

impl Headers {
    /// The user's own headers.
    pub fn without_reserved(&self) -> Headers {
        Headers(self.0.iter().filter(|h| !is_reserved(h)).cloned().collect())
    }

    /// Adds a moment to the header [`TIMINGS`], which is a list in the order of time, in microseconds since the Unix epoch:
    /// `read=1790000000000000,run=1790000000000420`.
    pub fn note_moment(&mut self, name: &str, at: SystemTime) {
        let moment = format!("{name}={}", at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros());
        let Some(header) = self.0.iter_mut().rev().find(|header| &*header.name == TIMINGS) else {
            return self.push(TIMINGS, moment);
        };
        let mut moments = header.value.as_deref().unwrap_or_default().to_vec();
        moments.push(b',');
        moments.extend_from_slice(moment.as_bytes());
        header.value = Some(moments.into());
    }

    /// Takes the moments of another record's [`TIMINGS`] along.
    pub fn carry_moments(&mut self, from: &Headers) {
        let found = from.0.iter().rev().find(|header| &*header.name == TIMINGS);
        self.0.extend(found.cloned());
    }
}

fn is_reserved(header: &Header) -> bool {
    header.name.starts_with(PREFIX)
}

/// The source coordinates that a stage of ours wrote.
pub fn source(headers: &Headers) -> Option<Coordinates> {
    headers.text(SOURCE)?.parse().ok()
}

/// How often the event has died before, if it ever did. Capped, because on a source topic anybody may have
/// written it.
pub fn deaths(headers: &Headers) -> Option<u32> {
    Some(headers.text(DEAD_COUNT)?.parse::<u32>().ok()?.min(MAX_DEATHS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_headers_are_dropped_and_the_users_own_stay_in_order() {
        let mut headers = Headers::default();
        for name in ["traceparent", SOURCE, "b", "twinlane-of-tomorrow", "b"] {
            headers.push(name, name.as_bytes().to_vec());
        }
        headers.0.push(Header { name: "empty".into(), value: None });
        let own: Vec<_> = headers.without_reserved().0.iter().map(|h| h.name.to_string()).collect();
        assert_eq!(own, ["traceparent", "b", "b", "empty"]);
    }

    #[test]
    fn moments_are_listed_in_their_order_and_carried_on() {
        let at = |micros| UNIX_EPOCH + std::time::Duration::from_micros(micros);
        let mut read = Headers::default();
        read.note_moment("read", at(1));
        read.note_moment("routed", at(2));
        let mut answer = read.without_reserved();
        assert_eq!(answer.text(TIMINGS), None);
        answer.carry_moments(&read);
        answer.note_moment("read", at(3));
        assert_eq!(answer.text(TIMINGS), Some("read=1,routed=2,read=3"));
    }

    #[test]
    fn a_forged_count_of_deaths_leaves_room_for_one_more() {
        let mut headers = Headers::default();
        for (text, count) in [("3", Some(3)), ("4294967295", Some(MAX_DEATHS)), ("-1", None), ("x", None)] {
            headers.push(DEAD_COUNT, text);
            assert_eq!(deaths(&headers), count, "{text}");
        }
    }
}
