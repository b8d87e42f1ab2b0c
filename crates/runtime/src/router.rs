//! The router's work: decide each event's lane and forward the bytes as they came.
//!
//! One stage per lane reads every event and forwards only its own lane's, so that a stalled behaviour lane
//! never holds back the orders. Events that belong to no lane (skips, tombstones, dead letters) are settled
//! by the one stage that `owns_rest`; the others pass them by.

use std::sync::Arc;

use crossbeam_channel::{Receiver, never};
use twinlane_delivery::Ticket;
use twinlane_pipeline::{Action, LaneName, Plan, Tombstones};
use twinlane_record::{Envelope, Reason, Rejection, Verdict, headers};

use crate::{Answers, Error, Read, Settled, Sources, Verdicts, Work, sources::SourceParts};

/// Routes events of the sources that need it.
pub struct Router {
    lane: LaneName,
    owns_rest: bool,
    sources: Sources,
    routes: Vec<(Arc<str>, Action)>,
    /// Per task: its topic in this lane.
    topics: Vec<Arc<str>>,
    answers: Answers,
    done: Receiver<()>,
}

impl Router {
    /// The work of the stage for one lane.
    pub fn new(plan: &Plan, lane: LaneName, owns_rest: bool, sources: Sources, answers: Answers) -> Self {
        Self {
            lane,
            owns_rest,
            sources,
            routes: plan.routes.iter().map(|r| (r.name.clone(), r.action.clone())).collect(),
            topics: (0..plan.tasks.len()).map(|task| plan.lane_topic(lane, task).into()).collect(),
            answers,
            done: never(),
        }
    }

    fn route(source: &SourceParts, event: &Envelope, value: &[u8]) -> Result<usize, Rejection> {
        if value.is_empty() {
            return Err(Rejection::new(Reason::EmptyPayload, "the payload has no bytes"));
        }
        let schema = source.decoder.schema_name(value)?;
        let mut decode = || source.decoder.decode(value).map(|event| event.value);
        source.rules.route(schema.map(|s| &**s), &mut decode, event.key.as_deref())
    }

    fn rest(&self, ticket: Ticket, settled: impl FnOnce() -> Settled) -> Settled {
        if self.owns_rest { settled() } else { Settled { ticket, verdict: Verdict::Elsewhere, output: None } }
    }

    fn forward(&self, read: Read<'_>, route: &str, task: usize) -> Settled {
        let event = read.event;
        let mut carried = event.headers.without_reserved();
        carried.push(headers::EVENT_ID, event.at.to_string());
        carried.push(headers::ROUTE, route.as_bytes().to_vec());
        carried.push(headers::LANE, self.lane.as_str().as_bytes());
        carried.push(headers::SOURCE, event.at.to_string());
        if let Some(deaths) = headers::deaths(&event.headers) {
            carried.push(headers::DEAD_COUNT, deaths.to_string());
        }
        let topic = &self.topics[task];
        self.answers.answer(read, topic, event.value.clone(), carried, Verdict::Routed)
    }
}

impl Work for Router {
    type Done = ();

    fn receive(&mut self, ticket: Ticket, event: Envelope, verdicts: &mut Verdicts) {
        let skipped = || Settled { ticket, verdict: Verdict::Skipped, output: None };
        let read = Read { ticket, event: &event, origin: &event.at };
        let dead = |rejection: &Rejection| self.answers.dead_letter(read, rejection, None);
        let Some(source) = self.sources.by_topic(&event.at.topic) else {
            let rejection = Rejection::new(Reason::NoRoute, "no source of this pipeline names its topic");
            return verdicts.push(self.rest(ticket, || dead(&rejection)));
        };
        let settled = match (&event.value, source.tombstones) {
            (None, Tombstones::Skip) => self.rest(ticket, skipped),
            (None, Tombstones::DeadLetter) => {
                let rejection = Rejection::new(Reason::Tombstone, "the value is null");
                self.rest(ticket, || dead(&rejection))
            }
            (Some(value), _) => match Self::route(source, &event, value) {
                Err(rejection) => self.rest(ticket, || dead(&rejection)),
                Ok(route) => match &self.routes[route] {
                    (_, Action::Skip { .. }) => self.rest(ticket, skipped),
                    (name, Action::Score { task, lane }) if *lane == self.lane => {
                        self.forward(read, name, *task)
                    }
                    _ => Settled { ticket, verdict: Verdict::Elsewhere, output: None },
                },
            },
        };
        verdicts.push(settled);
    }

    fn done(&self) -> &Receiver<()> {
        &self.done
    }

    fn finish(&mut self, (): (), _: &mut Verdicts) -> Result<(), Error> {
        Ok(())
    }

    fn dispatch(&mut self) {}

    fn forget_stale(&mut self, _: &dyn Fn(Ticket) -> bool) {}
}
