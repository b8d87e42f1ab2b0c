//! Writes the answers of a lane.

use std::{sync::Arc, time::SystemTime};

use twinlane_pipeline::LaneName;
use twinlane_record::{Answerer, Blocks, Outcome, Output, Prepared, Rejection, Scores, Verdict, headers};

use crate::{Answers, ModelIdentity, Pending, Read, Settled, scorer::Task};

/// Who answers, and when.
#[derive(Clone, Copy)]
pub(crate) struct By<'b> {
    pub(crate) task: &'b Task,
    pub(crate) model: &'b ModelIdentity,
    /// Milliseconds since the Unix epoch.
    pub(crate) time_ms: i64,
    /// Begin and end of the model's run, where answers tell it.
    pub(crate) run: Option<[SystemTime; 2]>,
}

/// Writes scored events, and the dead letters of a worker.
pub(crate) struct ScoredAnswers {
    answers: Answers,
    lane: LaneName,
    known: KnownParts,
    blocks: Blocks,
}

impl ScoredAnswers {
    pub(crate) fn new(answers: Answers, pipeline: Arc<str>, lane: LaneName) -> Self {
        let known = KnownParts { pipeline, lane, parts: Vec::new() };
        Self { answers, lane, known, blocks: Blocks::default() }
    }

    /// What a model has answered.
    pub(crate) fn scored(
        &mut self,
        by: By<'_>,
        pending: Pending,
        outputs: Vec<(Arc<str>, Output)>,
    ) -> Settled {
        self.answer(by, pending, Outcome::Scored, outputs)
    }

    /// The answer for an event that is too old for the model.
    pub(crate) fn expired(&mut self, by: By<'_>, pending: Pending) -> Settled {
        self.answer(by, pending, Outcome::Expired, Vec::new())
    }

    /// See [`Answers::dead_letter`].
    pub(crate) fn dead_letter(
        &self,
        read: Read<'_>,
        rejection: &Rejection,
        model_digest: Option<&Arc<str>>,
    ) -> Settled {
        self.answers.dead_letter(read, rejection, model_digest)
    }

    fn answer(
        &mut self,
        By { task, model, time_ms, run }: By<'_>,
        pending: Pending,
        outcome: Outcome,
        outputs: Vec<(Arc<str>, Output)>,
    ) -> Settled {
        // An event's place on its source topic is its name.
        let place = self.blocks.print(&pending.origin);
        let mut carried_headers = pending.event.headers.without_reserved();
        carried_headers.0.reserve(5);
        carried_headers.push(headers::EVENT_ID, place.clone());
        carried_headers.push(headers::ROUTE, pending.route.bytes.clone());
        carried_headers.push(headers::LANE, self.lane.as_str().as_bytes());
        carried_headers.push(headers::SOURCE, place.clone());
        if let Some([began, ended]) = run {
            carried_headers.carry_moments(&pending.event.headers);
            carried_headers.note_moment("run", began);
            carried_headers.note_moment("ran", ended);
        }
        let scores = Scores {
            event_id: std::str::from_utf8(&place).expect("it was printed"),
            outcome,
            outputs: &outputs,
            carried: &pending.carried,
            degraded: false,
            source: &pending.origin,
            event_time_ms: pending.event.timestamp_ms,
            scored_time_ms: time_ms,
        };
        let by = self.known.of(task, &pending.route.name, model);
        let value = self.blocks.write(|out| task.parts.codec.write(by, &scores, out));
        let verdict = match outcome {
            Outcome::Scored => Verdict::Scored,
            Outcome::Expired => Verdict::Expired,
        };
        self.answers.answer(pending.read(), &task.answers_to, Some(value), carried_headers, verdict)
    }
}

/// What is the same in all answers of a route and task, written once for each model.
struct KnownParts {
    pipeline: Arc<str>,
    lane: LaneName,
    /// For each route and task that was answered, under the model that answered last.
    parts: Vec<KnownPart>,
}

struct KnownPart {
    route: Arc<str>,
    task: Arc<str>,
    model: ModelIdentity,
    by: Prepared,
}

impl KnownParts {
    fn of(&mut self, task: &Task, route: &Arc<str>, model: &ModelIdentity) -> &Prepared {
        let is_it = |part: &KnownPart| Arc::ptr_eq(&part.route, route) && Arc::ptr_eq(&part.task, &task.name);
        let at = self.parts.iter().position(is_it).unwrap_or(self.parts.len());
        if self.parts.get(at).is_none_or(|part| part.model != *model) {
            let by = task.parts.codec.prepare(&Answerer {
                pipeline: &self.pipeline,
                route,
                lane: self.lane.as_str(),
                task: &task.name,
                variant: &task.variant,
                model_digest: &model.digest,
                device: &model.device,
            });
            let part = KnownPart { route: route.clone(), task: task.name.clone(), model: model.clone(), by };
            match self.parts.get_mut(at) {
                Some(former) => *former = part,
                None => self.parts.push(part),
            }
        }
        &self.parts[at].by
    }
}
