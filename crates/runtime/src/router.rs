//! The router's work: decide each event's lane and forward the bytes as they came.
//!
//! One stage per lane reads every event and forwards only its own lane's, so that a stalled behaviour lane
//! never holds back the orders; see [`Ways`].

use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::{Receiver, never};
use twinlane_delivery::Ticket;
use twinlane_pipeline::{LaneName, Plan};
use twinlane_record::{Blocks, Envelope, Verdict, headers};

use crate::{
    Answers, Error, Finding, Read, Settled, Sources, Unread, Verdicts, Work,
    answer::Target,
    ways::{Decided, Ways},
};

/// Where the events of a route go.
struct Forward {
    /// The route's name, as headers carry it.
    route: Bytes,
    to: Target,
}

/// Routes events of the sources that need it.
pub struct Router {
    lane: LaneName,
    sources: Sources,
    ways: Ways<Forward>,
    answers: Answers,
    timings: bool,
    /// What is written for each event.
    blocks: Blocks,
    done: Receiver<()>,
}

impl Router {
    /// The work of the stage for one lane.
    pub fn new(plan: &Plan, lane: LaneName, sources: Sources, answers: Answers) -> Result<Self, Error> {
        let ways = Ways::new(plan, lane, |route, task| {
            if plan.sources[route.source].direct.is_some() {
                return Ok(None);
            }
            let to = answers.target(&plan.lane_topic(lane, task).into())?;
            Ok::<_, Error>(Some(Forward { route: Bytes::copy_from_slice(route.name.as_bytes()), to }))
        })?;
        Ok(Self { lane, sources, ways, answers, timings: false, blocks: Blocks::default(), done: never() })
    }

    /// Whether events take the moments of their way along; see [`StageOptions::timings`](crate::StageOptions::timings).
    #[must_use]
    pub fn with_timings(self, timings: bool) -> Self {
        Self { timings, ..self }
    }

    /// On its source topic an event's `place` is its name.
    fn forward(&self, read: Read<'_>, place: Bytes, Forward { route, to }: &Forward) -> Settled {
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
        let read = Read { ticket, event: &event, origin: &event.at, route: None };
        verdicts.push(match self.ways.decide(&self.sources, &event) {
            Decided::Own(forward) => {
                let place = self.blocks.print(&event.at);
                self.forward(read, place, forward)
            }
            Decided::Settled(verdict) => Settled { ticket, verdict, output: None },
            Decided::Refused(rejection) => self.answers.dead_letter(read, &rejection, None),
            Decided::Unread(id) => return Some(Box::new(Unread { ticket, event, id })),
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
