//! The router's work: decide each event's lane and forward the bytes as they came.
//!
//! One stage per lane reads every event and forwards only its own lane's, so that a stalled behaviour lane
//! never holds back the orders. Events that belong to no lane (skips, tombstones, dead letters) are settled
//! by the one stage that `owns_rest`; the others pass them by.

use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::{Receiver, never};
use twinlane_delivery::Ticket;
use twinlane_pipeline::{Action, LaneName, Plan};
use twinlane_record::{Blocks, Envelope, Verdict, headers};

use crate::{Answers, Error, Finding, Read, Settled, Sources, Unread, Verdicts, Work, answer::Target};

/// What becomes of the events of a route in this lane's stage.
enum Way {
    Forward {
        /// The route's name, as headers carry it.
        route: Bytes,
        to: Target,
    },
    Skip,
    /// The other lane's stage forwards them.
    Elsewhere,
}

/// Routes events of the sources that need it.
pub struct Router {
    lane: LaneName,
    owns_rest: bool,
    sources: Sources,
    /// In the order of the plan's routes.
    ways: Vec<Way>,
    answers: Answers,
    timings: bool,
    /// What is written for each event.
    blocks: Blocks,
    done: Receiver<()>,
}

impl Router {
    /// The work of the stage for one lane.
    pub fn new(
        plan: &Plan,
        lane: LaneName,
        owns_rest: bool,
        sources: Sources,
        answers: Answers,
    ) -> Result<Self, Error> {
        let reads_directly = |source: usize| plan.sources[source].direct.is_some();
        let way = |route: &twinlane_pipeline::Route| {
            Ok(match route.action {
                Action::Skip { .. } => Way::Skip,
                Action::Score { task, lane: to } if to == lane && !reads_directly(route.source) => {
                    Way::Forward {
                        route: Bytes::copy_from_slice(route.name.as_bytes()),
                        to: answers.target(&plan.lane_topic(lane, task).into())?,
                    }
                }
                Action::Score { .. } => Way::Elsewhere,
            })
        };
        let ways = plan.routes.iter().map(way).collect::<Result<_, Error>>()?;
        Ok(Self {
            lane,
            owns_rest,
            sources,
            ways,
            answers,
            timings: false,
            blocks: Blocks::default(),
            done: never(),
        })
    }

    /// Whether events take the moments of their way along; see [`StageOptions::timings`](crate::StageOptions::timings).
    #[must_use]
    pub fn with_timings(self, timings: bool) -> Self {
        Self { timings, ..self }
    }

    fn rest(&self, ticket: Ticket, settled: impl FnOnce() -> Settled) -> Settled {
        if self.owns_rest { settled() } else { Settled { ticket, verdict: Verdict::Elsewhere, output: None } }
    }

    /// On its source topic an event's `place` is its name.
    fn forward(&self, read: Read<'_>, place: Bytes, route: &Bytes, to: &Target) -> Settled {
        let event = read.event;
        let mut carried = event.headers.without_reserved();
        carried.0.reserve(6);
        carried.push(headers::EVENT_ID, place.clone());
        carried.push(headers::ROUTE, route.clone());
        carried.push(headers::LANE, self.lane.as_str().as_bytes());
        carried.push(headers::SOURCE, place);
        if let Some(deaths) = headers::deaths(&event.headers) {
            carried.push(headers::DEAD_COUNT, deaths.to_string());
        }
        if self.timings {
            carried.carry_moments(&event.headers);
        }
        self.answers.answer(read, to, event.value.clone(), carried, Verdict::Routed)
    }
}

impl Work for Router {
    const NAME: &'static str = "route";
    type Done = ();

    fn receive(
        &mut self,
        ticket: Ticket,
        event: Envelope,
        _now: Instant,
        verdicts: &mut Verdicts,
    ) -> Option<Box<Unread>> {
        let read = Read { ticket, event: &event, origin: &event.at };
        let skipped = || Settled { ticket, verdict: Verdict::Skipped, output: None };
        verdicts.push(match self.sources.route(&event) {
            Err(rejection) => match self.sources.to_look_up(&event, &rejection) {
                Some(id) => return Some(Box::new(Unread { ticket, event, id })),
                None => self.rest(ticket, || self.answers.dead_letter(read, &rejection, None)),
            },
            Ok(None) => self.rest(ticket, skipped),
            Ok(Some(route)) => match &self.ways[route] {
                Way::Skip => self.rest(ticket, skipped),
                Way::Forward { route, to } => {
                    let place = self.blocks.print(&event.at);
                    self.forward(read, place, route, to)
                }
                Way::Elsewhere => Settled { ticket, verdict: Verdict::Elsewhere, output: None },
            },
        });
        None
    }

    fn learn(&mut self, id: u32, finding: &Finding) {
        self.sources.learn(id, finding);
    }

    fn forget(&mut self, id: u32) {
        self.sources.forget(id);
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
