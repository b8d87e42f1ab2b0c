//! The dead letter: the raw key and value as they came, and everything else in headers. Wrapping a payload of
//! 900 kB into a record of ours would make it too large to produce.

use std::sync::Arc;

use crate::{Coordinates, Headers, Reason, headers};

/// Why an event could not be answered, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where the event stands on its source topic.
    pub source: Coordinates,
    /// The route that it took, if it came so far.
    pub route: Option<Arc<str>>,
    /// The stage that refused it.
    pub stage: Arc<str>,
    /// Fixed reason.
    pub reason: Reason,
    /// For a person.
    pub detail: String,
    /// The model of its task, where a worker refused it.
    pub model_digest: Option<Arc<str>>,
    /// When, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// How often it has died, this time included.
    pub deaths: u32,
}

/// Details are for a person; a model's message can be a page long.
const DETAIL_LIMIT: usize = 1000;

impl DeadLetter {
    /// The record's headers: the event's own, then ours.
    pub fn headers(&self, original: &Headers) -> Headers {
        let mut all = original.without_reserved();
        // Of an event's own headers only the router's word for it counts, which comes with the coordinates that it wrote.
        let by_router = || headers::source(original).as_ref() == Some(&self.source);
        let route = self.route.as_deref().map(str::as_bytes);
        if let Some(route) = route.or_else(|| original.get(headers::ROUTE).filter(|_| by_router())) {
            all.push(headers::ROUTE, route.to_vec());
        }
        all.push(headers::SOURCE, self.source.to_string());
        all.push(headers::DEAD_STAGE, self.stage.as_bytes().to_vec());
        all.push(headers::DEAD_REASON, self.reason.as_str().as_bytes());
        let cut =
            (0..=self.detail.len().min(DETAIL_LIMIT)).rev().find(|&at| self.detail.is_char_boundary(at));
        all.push(headers::DEAD_DETAIL, self.detail.as_bytes()[..cut.unwrap_or(0)].to_vec());
        if let Some(digest) = &self.model_digest {
            all.push(headers::DEAD_MODEL_DIGEST, digest.as_bytes().to_vec());
        }
        all.push(headers::DEAD_TIME, self.time_ms.to_string());
        all.push(headers::DEAD_COUNT, self.deaths.to_string());
        all
    }

    /// Reads a dead letter back from a record's headers; `None` if it is not one.
    pub fn from_headers(headers: &Headers) -> Option<Self> {
        let reason = headers.text(headers::DEAD_REASON)?;
        Some(Self {
            source: headers::source(headers)?,
            route: headers.text(headers::ROUTE).map(Into::into),
            stage: headers.text(headers::DEAD_STAGE)?.into(),
            reason: Reason::ALL.into_iter().find(|r| r.as_str() == reason)?,
            detail: headers.text(headers::DEAD_DETAIL).unwrap_or_default().to_owned(),
            model_digest: headers.text(headers::DEAD_MODEL_DIGEST).map(Into::into),
            time_ms: headers.text(headers::DEAD_TIME)?.parse().ok()?,
            deaths: headers::deaths(headers)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> DeadLetter {
        DeadLetter {
            route: None,
            source: Coordinates { topic: "t".into(), partition: 1, offset: 2 },
            stage: "router".into(),
            reason: Reason::NoRoute,
            detail: "no route matched".into(),
            model_digest: None,
            time_ms: 7,
            deaths: 2,
        }
    }

    #[test]
    fn a_dead_letter_is_read_back_and_the_events_own_headers_stay() {
        for (reason, digest) in Reason::ALL.into_iter().zip([None, Some("9f86d0".into())].into_iter().cycle())
        {
            let letter = DeadLetter { reason, model_digest: digest, ..letter() };
            let mut original = Headers::default();
            original.push("tenant", "a");
            let headers = letter.headers(&original);
            assert_eq!(headers.text("tenant"), Some("a"));
            assert_eq!(DeadLetter::from_headers(&headers), Some(letter));
        }
        assert_eq!(DeadLetter::from_headers(&Headers::default()), None);
    }

    #[test]
    fn headers_of_ours_that_stand_on_a_source_record_are_not_believed() {
        let mut original = Headers::default();
        original.push(headers::SOURCE, "forged/0/0");
        original.push(headers::ROUTE, "forged");
        original.push(headers::DEAD_REASON, "tombstone");
        let headers = letter().headers(&original);
        let all = |name: &str| headers.0.iter().filter(|h| &*h.name == name).count();
        assert_eq!((all(headers::SOURCE), all(headers::ROUTE), all(headers::DEAD_REASON)), (1, 0, 1));
        assert_eq!(DeadLetter::from_headers(&headers), Some(letter()));

        let mut routed = Headers::default();
        routed.push(headers::SOURCE, "t/1/2");
        routed.push(headers::ROUTE, "orders");
        assert_eq!(letter().headers(&routed).text(headers::ROUTE), Some("orders"), "the router's is kept");
    }

    #[test]
    fn a_long_detail_is_cut_at_a_character() {
        let long = DeadLetter { detail: "ü".repeat(DETAIL_LIMIT), ..letter() };
        let read = DeadLetter::from_headers(&long.headers(&Headers::default())).expect("a dead letter");
        assert_eq!(read.detail, "ü".repeat(DETAIL_LIMIT / 2));
    }
}
