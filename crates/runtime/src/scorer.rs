//! The workers' work: decode, encode features, batch, run the model, and answer.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use crossbeam_channel::Receiver;
use twinlane_delivery::Ticket;
use twinlane_inference::{Batcher, Ran, RunError, Running, Sessions};
use twinlane_pipeline::{Action, FeatureEncoder, LaneName, Plan, Row, Tombstones};
use twinlane_record::{Coordinates, Envelope, Reason, Rejection, ScoredEventCodec, Value, Verdict, headers};

use crate::{
    Answers, Error, Finding, ModelRun, Read, Settled, Sources, Unread, Verdicts, Work,
    answer::{Target, now_ms},
    expiry::{Expiry, TooOld},
    pace::Pace,
    scored::{By, ScoredAnswers},
    sources::SourceParts,
    tally::Waiting,
    ways::{Decided, Ways},
};

/// What a worker needs for one task of its lane.
pub struct TaskParts {
    /// Index of the task in the plan; batches and sessions use the position in the list of parts.
    pub task: usize,
    /// Fills the model's tensors.
    pub encoder: FeatureEncoder,
    /// Writes the answers.
    pub codec: ScoredEventCodec,
}

/// A model that runs, as its answers tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelIdentity {
    /// Digest of its file.
    pub digest: Arc<str>,
    /// The device that really runs it.
    pub device: Arc<str>,
}

/// Warm models, one for each task of a lane and each thread.
pub struct Models {
    /// Their threads.
    pub sessions: Sessions<Box<Pending>>,
    /// In the order of the tasks.
    pub identities: Vec<ModelIdentity>,
}

impl Models {
    fn with_deadline(self, deadline: Duration) -> Self {
        Self { sessions: self.sessions.with_deadline(deadline), ..self }
    }
}

/// Where one record came from and what its answer carries along. Boxed, because it is handed from queue to queue.
pub struct Pending {
    pub(crate) ticket: Ticket,
    received: Instant,
    pub(crate) event: Envelope,
    pub(crate) origin: Coordinates,
    pub(crate) route: Route,
    pub(crate) carried: Carried,
    too_old: Option<TooOld>,
}

impl Pending {
    fn has_expired(&self) -> bool {
        self.too_old.is_some_and(TooOld::has_come)
    }

    pub(crate) fn read(&self) -> Read<'_> {
        let Self { ticket, event, origin, route, .. } = self;
        Read { ticket: *ticket, event, origin, route: Some(&route.name) }
    }
}

/// A route's name, as text and as headers carry it.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) name: Arc<str>,
    pub(crate) bytes: Bytes,
}

impl Route {
    fn of(name: &Arc<str>) -> Self {
        Self { name: name.clone(), bytes: Bytes::copy_from_slice(name.as_bytes()) }
    }
}

pub(crate) struct Task {
    pub(crate) name: Arc<str>,
    pub(crate) variant: Arc<str>,
    pub(crate) answers_to: Target,
    carry: Vec<Arc<str>>,
    deadline: Option<Duration>,
    pub(crate) parts: TaskParts,
}

impl Task {
    fn carried(&self, event: &Value) -> Carried {
        let of = |name: &Arc<str>| event.path(name).cloned().unwrap_or(Value::Null);
        self.carry.iter().map(|name| (name.clone(), of(name))).collect()
    }

    /// Names of the fields that it looks at in an event.
    fn fields(&self) -> BTreeSet<String> {
        let carried = self.carry.iter().filter_map(|path| path.split('.').next());
        self.parts.encoder.fields().map(|name| &**name).chain(carried).map(str::to_owned).collect()
    }
}

/// Scores the events of one lane.
pub struct Scorer {
    lane: LaneName,
    tasks: Vec<Task>,
    /// How long a batch of each takes.
    paces: Vec<Pace>,
    sources: Sources,
    /// Lane topic → position in `tasks`.
    by_topic: HashMap<Arc<str>, usize>,
    /// Route name → (route, source index), for records that passed the router.
    routes: HashMap<Arc<str>, (Route, usize)>,
    /// Source topic → (route, position in `tasks`), for sources whose events are all this lane's.
    direct: HashMap<Arc<str>, (Route, usize)>,
    /// Of sources that are read without the router although not all of their events are this lane's: the routes that are,
    /// with their positions in `tasks`.
    mixed: Ways<(Route, usize)>,
    batcher: Batcher<Box<Pending>>,
    expiry: Expiry,
    /// The last ones get the batches; those before them finish what they had begun.
    models: Vec<Models>,
    successors: Receiver<Models>,
    answers: ScoredAnswers,
    run_deadline: Duration,
    timings: bool,
    gauges: Waiting,
}

/// What a record is.
struct Identity<'s> {
    route: Route,
    /// Position in the lane.
    task: usize,
    source: &'s SourceParts,
    origin: Coordinates,
}

/// Fields of an event that its answer carries along.
type Carried = Vec<(Arc<str>, Value)>;

/// A record on its way to the batcher.
struct Admitted {
    task: usize,
    pending: Box<Pending>,
    /// None for what is too old: no model will see it.
    row: Option<Row>,
}

/// What else becomes of a record that arrives.
enum Otherwise {
    Settled(Box<Settled>),
    Unread(Box<Unread>),
}

impl From<Settled> for Otherwise {
    fn from(settled: Settled) -> Self {
        Self::Settled(Box::new(settled))
    }
}

impl Scorer {
    /// The work of one lane's worker. What arrives in `successors` takes the place of `models` before the next batch.
    pub fn new(
        plan: &Plan,
        lane: LaneName,
        parts: Vec<TaskParts>,
        sources: Sources,
        models: Models,
        successors: Receiver<Models>,
        answers: Answers,
    ) -> Result<Self, Error> {
        let lane_plan = plan
            .lane(lane)
            .ok_or_else(|| Error::Plan(format!("the pipeline has no {} lane", lane.as_str())))?;
        let variant: Arc<str> = lane_plan.variant.as_str().into();
        let tasks = parts
            .into_iter()
            .map(|parts| {
                let task = &plan.tasks[parts.task];
                Ok(Task {
                    name: task.name.clone(),
                    variant: variant.clone(),
                    answers_to: answers.target(&task.publish.topic.name)?,
                    carry: task.publish.carry.clone(),
                    deadline: task.deadline,
                    parts,
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let position = |task: usize| tasks.iter().position(|t| t.parts.task == task);
        let by_topic = tasks
            .iter()
            .enumerate()
            .map(|(at, task)| (plan.lane_topic(lane, task.parts.task).into(), at))
            .collect();
        let routes = plan.routes.iter().map(|r| (r.name.clone(), (Route::of(&r.name), r.source))).collect();
        let mut direct = HashMap::new();
        for source in &plan.sources {
            let Some(route) = source.direct.map(|r| &plan.routes[r]) else { continue };
            if let Action::Score { task, lane: of } = route.action
                && of == lane
                && let Some(at) = position(task)
            {
                direct.insert(source.topic.clone(), (Route::of(&route.name), at));
            }
        }
        let mixed = Ways::new(plan, lane, |route, task| {
            Ok::<_, Error>(position(task).map(|at| (Route::of(&route.name), at)))
        })?;
        let max_batch = lane_plan.max_batch.get();
        let batcher = Batcher::new(tasks.len(), max_batch);
        let gauges = Waiting::new(lane.as_str(), tasks.iter().map(|task| &*task.name));
        let fields: Vec<_> = tasks.iter().map(Task::fields).collect();
        Ok(Self {
            lane,
            paces: vec![Pace::default(); tasks.len()],
            tasks,
            sources: sources.for_tasks(&fields),
            by_topic,
            routes,
            direct,
            mixed,
            batcher,
            expiry: Expiry::default(),
            models: vec![models.with_deadline(lane_plan.run_deadline)],
            successors,
            answers: ScoredAnswers::new(answers, plan.pipeline.clone(), lane),
            run_deadline: lane_plan.run_deadline,
            timings: false,
            gauges,
        })
    }

    /// Whether answers say when their events were read and run; see
    /// [`StageOptions::timings`](crate::StageOptions::timings).
    #[must_use]
    pub fn with_timings(self, timings: bool) -> Self {
        Self { timings, ..self }
    }

    /// Route, task, source and coordinates of a record: of an event as the rules say, of what the router sent from its
    /// topic and headers.
    fn identify(&self, event: &Envelope) -> Decided<Identity<'_>> {
        let Some(source) = self.sources.by_topic(&event.at.topic) else {
            return match self.identify_routed(event) {
                Ok(identity) => Decided::Own(identity),
                Err(rejection) => Decided::Refused(rejection),
            };
        };
        let of = |(route, task): &(Route, usize)| Identity {
            route: route.clone(),
            task: *task,
            source,
            origin: event.at.clone(),
        };
        match self.direct.get(&event.at.topic) {
            Some(way) => Decided::Own(of(way)),
            None => self.mixed.decide(&self.sources, event).map(of),
        }
    }

    fn identify_routed(&self, event: &Envelope) -> Result<Identity<'_>, Rejection> {
        let refuse = |detail: String| Rejection::new(Reason::UnknownTask, detail);
        let &task = self
            .by_topic
            .get(&event.at.topic)
            .ok_or_else(|| refuse(format!("topic {} belongs to no task of this lane", event.at.topic)))?;
        let route = event
            .headers
            .text(headers::ROUTE)
            .ok_or_else(|| refuse(format!("a lane topic's record has no header {}", headers::ROUTE)))?;
        let (route, source) = self
            .routes
            .get(route)
            .and_then(|(route, source)| Some((route.clone(), self.sources.by_index(*source)?)))
            .ok_or_else(|| refuse(format!("route `{route}` is not in this pipeline")))?;
        let origin = headers::source(&event.headers).ok_or_else(|| {
            refuse(format!("a lane topic's record has no valid header {}", headers::SOURCE))
        })?;
        Ok(Identity { route, task, source, origin })
    }

    fn admit(&self, ticket: Ticket, event: Envelope, received: Instant) -> Result<Admitted, Otherwise> {
        let Identity { route, task: at, source, origin } = match self.identify(&event) {
            Decided::Own(found) => found,
            Decided::Settled(verdict) => return Err(Settled { ticket, verdict, output: None }.into()),
            Decided::Refused(rejection) => {
                let read = Read { ticket, event: &event, origin: &event.at, route: None };
                return Err(self.answers.dead_letter(read, &rejection, None).into());
            }
            Decided::Unread(id) => return Err(Otherwise::Unread(Box::new(Unread { ticket, event, id }))),
        };
        let task = &self.tasks[at];
        let too_old = TooOld::of(event.timestamp_ms, task.deadline);
        let expired = too_old.is_some_and(TooOld::has_come);
        let encoded = match (&event.value, source.tombstones) {
            (None, Tombstones::Skip) => {
                return Err(Settled { ticket, verdict: Verdict::Skipped, output: None }.into());
            }
            (None, Tombstones::DeadLetter) => Err(Rejection::new(Reason::Tombstone, "the value is null")),
            (Some(value), _) => source.decode_for(at, value).and_then(|fields| {
                let row = if expired { None } else { Some(task.parts.encoder.encode(&fields)?) };
                Ok((row, task.carried(&fields)))
            }),
        };
        match encoded {
            Err(rejection) => {
                if let Some(id) = source.to_look_up(event.value.as_deref(), &rejection) {
                    return Err(Otherwise::Unread(Box::new(Unread { ticket, event, id })));
                }
                let digest = Some(&self.serving().identities[at].digest);
                let read = Read { ticket, event: &event, origin: &origin, route: Some(&route.name) };
                Err(self.answers.dead_letter(read, &rejection, digest).into())
            }
            Ok((row, carried)) => {
                let pending = Box::new(Pending { ticket, received, event, origin, route, carried, too_old });
                Ok(Admitted { task: at, pending, row })
            }
        }
    }

    /// The answer for an event that is too old for the model that would have run it.
    fn expired(&mut self, task: usize, pending: Pending) -> Settled {
        let model = &self.models.last().expect("there is always one").identities[task];
        let by = By { task: &self.tasks[task], model, time_ms: now_ms(), run: None };
        self.answers.expired(by, pending)
    }

    /// The batch that must come back first.
    fn most_urgent(&self) -> Option<Running> {
        self.models
            .iter()
            .filter_map(|models| models.sessions.most_urgent())
            .min_by_key(|running| running.until)
    }

    fn serving(&self) -> &Models {
        self.models.last().expect("there is always one")
    }

    /// Puts models that have arrived in the place of those that run, and lets go of those that have finished.
    fn take_over(&mut self) {
        while let Ok(models) = self.successors.try_recv() {
            tracing::info!(lane = self.lane.as_str(), models = ?models.identities, "other models take over");
            self.models.push(models.with_deadline(self.run_deadline));
        }
        let serving = self.models.len() - 1;
        if let Some(at) = self.models[..serving].iter().position(|models| models.sessions.is_idle()) {
            let former = self.models.remove(at);
            // Their memory is given back here; on a GPU that takes a while.
            let ends = std::thread::Builder::new().name("models-farewell".into()).spawn(move || drop(former));
            ends.expect("the system can start a thread");
        }
    }

    /// Answers a batch that the models at this place have run.
    fn finish_batch(
        &mut self,
        models: usize,
        ran: Ran<Box<Pending>>,
        verdicts: &mut Verdicts,
    ) -> Result<(), Error> {
        let task = &self.tasks[ran.task];
        let failed = |detail: String| Error::Model { task: task.name.to_string(), detail };
        let results = ran.results.map_err(|error: RunError| failed(error.to_string()))?;
        if results.len() != ran.tags.len() {
            return Err(failed(format!("{} answers for a batch of {}", results.len(), ran.tags.len())));
        }
        self.paces[ran.task].took(ran.elapsed);
        if let Some(first) = ran.tags.first() {
            self.gauges.seconds.record((ran.started - first.received).as_secs_f64());
        }
        let run = self.timings.then(|| {
            let began = SystemTime::now() - ran.started.elapsed();
            [began, began + ran.elapsed]
        });
        let model = &self.models[models].identities[ran.task];
        let by = By { task, model, time_ms: now_ms(), run };
        for (pending, result) in ran.tags.into_iter().zip(results) {
            verdicts.push(match result {
                Ok(outputs) => self.answers.scored(by, *pending, outputs),
                Err(rejection) => self.answers.dead_letter(pending.read(), &rejection, Some(&model.digest)),
            });
        }
        Ok(())
    }
}

impl Work for Scorer {
    const NAME: &'static str = "score";
    /// What came back together.
    type Done = Vec<Ran<Box<Pending>>>;

    fn receive(
        &mut self,
        ticket: Ticket,
        event: Envelope,
        now: Instant,
        verdicts: &mut Verdicts,
    ) -> Option<Box<Unread>> {
        match self.admit(ticket, event, now) {
            Ok(Admitted { task, pending, row: Some(row) }) => {
                self.expiry.expect(pending.too_old);
                self.batcher.push(task, pending, row);
            }
            Ok(Admitted { task, pending, row: None }) => verdicts.push(self.expired(task, *pending)),
            Err(Otherwise::Settled(settled)) => verdicts.push(*settled),
            Err(Otherwise::Unread(unread)) => return Some(unread),
        }
        None
    }

    fn learn(&mut self, id: u32, finding: &Finding) {
        self.sources.learn(id, finding);
    }

    fn forget(&mut self, id: u32) {
        self.sources.forget(id);
    }

    fn done(&self) -> &Receiver<Self::Done> {
        self.serving().sessions.results()
    }

    fn runs<'d>(&'d self, done: &'d Self::Done) -> Vec<ModelRun<'d>> {
        let run = |ran: &'d Ran<Box<Pending>>| {
            let of = |models: &&Models| models.sessions.generation() == ran.generation;
            let model = &self.models.iter().find(of)?.identities[ran.task];
            Some(ModelRun {
                task: &self.tasks[ran.task].name,
                model_digest: &model.digest,
                device: &model.device,
                tickets: ran.tags.iter().map(|pending| pending.ticket).collect(),
                started: ran.started,
                elapsed: ran.elapsed,
            })
        };
        done.iter().filter_map(run).collect()
    }

    fn finish(&mut self, done: Self::Done, verdicts: &mut Verdicts) -> Result<(), Error> {
        let by = |models: &Models| done.iter().any(|ran| models.sessions.generation() == ran.generation);
        let at = self.models.iter().position(by).expect("models are kept while they run");
        self.models[at].sessions.done(&done);
        done.into_iter().try_for_each(|ran| self.finish_batch(at, ran, verdicts))
    }

    fn dispatch(&mut self) {
        self.take_over();
        let serving = self.models.len() - 1;
        let sessions = &mut self.models[serving].sessions;
        while let idle @ 1.. = sessions.idle() {
            let Some(first) = self.batcher.next_for(idle) else { break };
            let task = first.task;
            let mut batches = vec![first];
            while batches.len() < self.paces[task].batches()
                && let Some(more) = self.batcher.more_of(task, idle)
            {
                batches.push(more);
            }
            sessions.submit(batches);
        }
    }

    fn expires_at(&self) -> Option<Instant> {
        self.expiry.due()
    }

    /// Answers what became too old while it waited for a model, whatever that model is busy with.
    fn expire(&mut self, verdicts: &mut Verdicts) {
        self.expiry.looks();
        let expiry = &mut self.expiry;
        let expired = self.batcher.take(|pending| {
            let expired = pending.has_expired();
            if !expired {
                expiry.expect(pending.too_old);
            }
            expired
        });
        for (task, pending) in expired {
            verdicts.push(self.expired(task, *pending));
        }
    }

    fn measure(&self) {
        let tasks = self.gauges.records.iter().enumerate();
        tasks.for_each(|(task, gauge)| gauge.set(self.batcher.waiting(task) as f64));
    }

    fn forget_stale(&mut self, current: &dyn Fn(Ticket) -> bool) {
        self.batcher.retain(|pending| current(pending.ticket));
    }

    fn overdue_at(&self) -> Option<Instant> {
        Some(self.most_urgent()?.until)
    }

    fn overdue(&self) -> Error {
        let task = self.most_urgent().map_or("?".into(), |running| self.tasks[running.task].name.to_string());
        Error::ModelHung { task, deadline: self.run_deadline }
    }
}
