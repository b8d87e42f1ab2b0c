//! What a stage does with a record. The stage owns offsets, windows and threads; work owns neither.

use std::time::Instant;

use crossbeam_channel::Receiver;
use twinlane_delivery::Ticket;
use twinlane_kafka::Outgoing;
use twinlane_record::{Envelope, Verdict};

use crate::{Finding, ModelRun, Unread};

/// A record's verdict with what it produces: nothing for a skipped record, else one output or dead letter.
#[derive(Debug)]
pub struct Settled {
    /// The receipt that the stage gave with the record.
    pub ticket: Ticket,
    /// How it is settled.
    pub verdict: Verdict,
    /// What to produce.
    pub output: Option<Outgoing>,
}

/// Verdicts collected during one turn of the stage.
pub type Verdicts = Vec<Settled>;

/// The part of a stage that differs between services. All calls come from the stage thread.
pub trait Work: Send {
    /// What it does with an event, for the names of traces.
    const NAME: &'static str;
    /// What comes back from other threads; `()` where everything is settled at once.
    type Done: Send;

    /// A record has arrived by `now`. Settles it at once, or keeps the ticket and settles it later, or gives the record back:
    /// its schema has to be looked up first. It comes again after [`Work::learn`].
    fn receive(
        &mut self,
        ticket: Ticket,
        event: Envelope,
        now: Instant,
        verdicts: &mut Verdicts,
    ) -> Option<Box<Unread>>;

    /// Something became known of a schema id: its records need no lookup until [`Work::forget`].
    fn learn(&mut self, id: u32, finding: &Finding);

    /// A schema id that was refused may be looked up again.
    fn forget(&mut self, id: u32);

    /// Where finished work arrives.
    fn done(&self) -> &Receiver<Self::Done>;

    /// The model runs that this is the end of, for traces.
    fn runs<'d>(&'d self, _done: &'d Self::Done) -> Vec<ModelRun<'d>> {
        Vec::new()
    }

    /// Finished work came back.
    fn finish(&mut self, done: Self::Done, verdicts: &mut Verdicts) -> Result<(), crate::Error>;

    /// Called at the end of every turn: hand queued work to whoever is idle.
    fn dispatch(&mut self);

    /// When the first of what is queued becomes too old to be worth its work.
    fn expires_at(&self) -> Option<Instant> {
        None
    }

    /// Called when [`Work::expires_at`] has passed: settles what has become too old.
    fn expire(&mut self, _verdicts: &mut Verdicts) {}

    /// Called twice a second: set the gauges of what waits.
    fn measure(&self) {}

    /// Assignments have changed: forget queued work for which `current` is false.
    fn forget_stale(&mut self, current: &dyn Fn(Ticket) -> bool);

    /// When something that was handed on must have come back; later than that it never will.
    fn overdue_at(&self) -> Option<Instant> {
        None
    }

    /// Why the stage ends when [`Work::overdue_at`] has passed.
    fn overdue(&self) -> crate::Error {
        crate::Error::ThreadDied("model")
    }
}
