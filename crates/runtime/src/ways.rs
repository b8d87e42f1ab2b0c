//! Which events of mixed sources are a stage's own. One stage per lane reads every event of them; each takes what is its
//! lane's and passes by the others. What belongs to no lane is settled by one of them alone, so that it is counted once.

use twinlane_pipeline::{Action, LaneName, Plan, Route};
use twinlane_record::{Envelope, Rejection, Verdict};

use crate::Sources;

/// What becomes of the events of a route in a stage.
enum Way<W> {
    /// They are its own.
    Own(W),
    Skip,
    /// The other lane's stage takes them.
    Elsewhere,
}

/// The routes of a plan, as a stage sees them. `W` is what it knows of those that are its own.
pub(crate) struct Ways<W> {
    /// In the order of the plan's routes.
    ways: Vec<Way<W>>,
    owns_rest: bool,
}

/// What a stage does with an event.
#[derive(Debug, PartialEq)]
pub(crate) enum Decided<W> {
    /// It is its own.
    Own(W),
    /// Nothing is produced.
    Settled(Verdict),
    /// It becomes a dead letter.
    Refused(Rejection),
    /// The schema of this id has to be looked up first.
    Unread(u32),
}

impl<W> Decided<W> {
    pub(crate) fn map<M>(self, own: impl FnOnce(W) -> M) -> Decided<M> {
        match self {
            Self::Own(way) => Decided::Own(own(way)),
            Self::Settled(verdict) => Decided::Settled(verdict),
            Self::Refused(rejection) => Decided::Refused(rejection),
            Self::Unread(id) => Decided::Unread(id),
        }
    }
}

impl<W> Ways<W> {
    /// `own` says what is known of a route that leads to `lane`, with its task; `None`: it is not for this stage.
    pub(crate) fn new<E>(
        plan: &Plan,
        lane: LaneName,
        mut own: impl FnMut(&Route, usize) -> Result<Option<W>, E>,
    ) -> Result<Self, E> {
        let way = |route: &Route| {
            Ok(match route.action {
                Action::Skip { .. } => Way::Skip,
                Action::Score { task, lane: to } if to == lane => {
                    own(route, task)?.map_or(Way::Elsewhere, Way::Own)
                }
                Action::Score { .. } => Way::Elsewhere,
            })
        };
        Ok(Self {
            ways: plan.routes.iter().map(way).collect::<Result<_, E>>()?,
            owns_rest: plan.owns_rest(lane),
        })
    }

    /// Decides about an event of a source topic.
    pub(crate) fn decide(&self, sources: &Sources, event: &Envelope) -> Decided<&W> {
        match sources.route(event) {
            Err(rejection) => match sources.to_look_up(event, &rejection) {
                Some(id) => Decided::Unread(id),
                None if self.owns_rest => Decided::Refused(rejection),
                None => Decided::Settled(Verdict::Elsewhere),
            },
            Ok(None) => self.skipped(),
            Ok(Some(route)) => match &self.ways[route] {
                Way::Own(own) => Decided::Own(own),
                Way::Skip => self.skipped(),
                Way::Elsewhere => Decided::Settled(Verdict::Elsewhere),
            },
        }
    }

    fn skipped(&self) -> Decided<&W> {
        Decided::Settled(if self.owns_rest { Verdict::Skipped } else { Verdict::Elsewhere })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use twinlane_record::{Coordinates, Headers, Reason, SchemaFolder};

    use super::*;

    const SHOP: &str = r#"
pipeline: shop
sources:
  events: { topic: events, format: json }
routes:
  - { from: events, when: 'event.kind == "test"', skip: test traffic }
  - { from: events, when: 'event.kind == "order"', task: risk, lane: precision }
  - { from: events, when: 'event.kind == "click"', task: risk, lane: throughput }
tasks:
  risk:
    models: { full: a.onnx }
    inputs: { x: { columns: [a] } }
    outputs: { y: { tensor: y, kind: number } }
    publish: { topic: scores, format: json }
lanes:
  precision: { model: full, device: [cpu], max_batch: 8 }
  throughput: { model: full, device: [cpu], max_batch: 8 }
dead_letters: { topic: dead }
"#;

    /// What becomes of an event in a lane's stage.
    fn decided(lane: LaneName, value: Option<&str>) -> Decided<String> {
        let plan = Plan::parse(SHOP, "shop.yaml").expect("valid");
        let sources = Sources::build(&plan, &SchemaFolder::default()).expect("its rules compile");
        let ways = Ways::new(&plan, lane, |route, _| Ok::<_, Infallible>(Some(route.name.to_string())));
        let event = Envelope {
            at: Coordinates { topic: "events".into(), partition: 0, offset: 1 },
            timestamp_ms: None,
            key: None,
            value: value.map(|value| value.to_owned().into()),
            headers: Headers::default(),
        };
        let Ok(ways) = ways;
        ways.decide(&sources, &event).map(String::clone)
    }

    #[test]
    fn each_event_is_the_own_of_one_lane_and_what_is_nobodys_is_the_last_ones() {
        use LaneName::{Precision, Throughput};
        let elsewhere = || Decided::Settled(Verdict::Elsewhere);
        let order = Some(r#"{"kind": "order"}"#);
        assert_eq!(decided(Precision, order), Decided::Own("events-risk".into()));
        assert_eq!(decided(Throughput, order), elsewhere());
        let click = Some(r#"{"kind": "click"}"#);
        assert_eq!(decided(Precision, click), elsewhere());
        assert_eq!(decided(Throughput, click), Decided::Own("events-risk-2".into()));
        for skipped in [Some(r#"{"kind": "test"}"#), None] {
            assert_eq!(decided(Precision, skipped), elsewhere(), "{skipped:?}");
            assert_eq!(decided(Throughput, skipped), Decided::Settled(Verdict::Skipped), "{skipped:?}");
        }
        for (refused, why) in [
            (r#"{"kind": "unheard of"}"#, Reason::NoRoute),
            ("{ not json", Reason::MalformedPayload),
            ("{}", Reason::RuleFailed),
        ] {
            assert_eq!(decided(Precision, Some(refused)), elsewhere(), "{refused}");
            let is_it =
                matches!(decided(Throughput, Some(refused)), Decided::Refused(found) if found.reason == why);
            assert!(is_it, "{refused}: {why:?}");
        }
    }
}
