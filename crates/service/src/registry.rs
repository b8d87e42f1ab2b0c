//! The schema registry in a running service. One thread asks it, so that no other ever waits for it: for the ids that
//! stages meet and do not know, until it has answered. What it said of an id is kept for good. While it is away known
//! schemas keep working, questions are asked again after pauses that grow, and the log says so once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use twinlane_record::{
    ForeignSchema, Reason, RegisteredSchema, Rejection, SchemaEntry, SchemaFolder, ScoredEventCodec,
};
use twinlane_registry::{Client, Error, value_subject};
use twinlane_runtime::{Ask, Finding, SchemaLookup};

use crate::{Failure, RegistrySettings, metric_names as names};

/// The first pause after a question that was not answered.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Questions on their way to the thread.
const ASKS: usize = 256;
/// Ids that may wait for an answer at once; whoever asks for more has its records' turn end without one.
const MOST_PENDING: usize = 4096;

/// A registry that a service uses.
pub(crate) struct SchemaRegistry {
    client: Client,
    turn: Duration,
    state: Arc<State>,
    /// Whether one that is away is waited for, where nothing can be done without it.
    patient: bool,
}

/// What the admin port says of it.
pub(crate) struct State {
    url: String,
    /// It has answered once.
    known: AtomicBool,
    /// Why it does not answer now.
    trouble: Mutex<Option<String>>,
    up: Gauge,
}

impl SchemaRegistry {
    /// The registry that the settings name, if any.
    pub(crate) fn of(settings: &RegistrySettings) -> Result<Option<Self>, Failure> {
        let Some(client) = settings.client()? else { return Ok(None) };
        let state = Arc::new(State {
            url: client.url().to_owned(),
            known: AtomicBool::new(false),
            trouble: Mutex::default(),
            up: gauge!(names::REGISTRY_UP),
        });
        state.up.set(0.0);
        Ok(Some(Self { client, turn: Duration::from_millis(settings.wait_ms), state, patient: false }))
    }

    /// One that is waited for while it is away.
    pub(crate) fn patient(self) -> Self {
        Self { patient: true, ..self }
    }

    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Starts the thread that asks, for as long as somebody may ask it.
    pub(crate) fn start(&self, folder: &SchemaFolder) -> SchemaLookup {
        let (asks, asked) = bounded(ASKS);
        let of_folder = folder.subjects().flat_map(|subject| folder.versions(subject)).cloned().collect();
        let clerk = Clerk {
            client: self.client.clone(),
            state: self.state.clone(),
            asked,
            of_folder: Some(of_folder),
            known: HashMap::new(),
            pending: BTreeMap::new(),
            pause: FIRST_PAUSE,
            not_before: Instant::now(),
            tally: Tally::new(),
        };
        let thread = std::thread::Builder::new().name("schema-registry".into()).spawn(move || clerk.run());
        thread.expect("the system can start a thread");
        SchemaLookup { asks, turn: self.turn, asked: self.client.url().into() }
    }

    /// The newest version of a subject that the folder lacks. Waits for a registry that is away.
    pub(crate) fn latest(&self, subject: &Arc<str>) -> Result<(SchemaEntry, String), Failure> {
        match self.patiently(|client| client.latest(subject)) {
            Ok(found) => Ok((
                SchemaEntry {
                    id: found.id,
                    subject: subject.clone(),
                    version: found.version,
                    file: format!("{}/subjects/{subject}", self.client.url()).into(),
                },
                found.schema,
            )),
            Err(Error::NotFound { url, .. }) => Err(Failure::Invalid(format!(
                "schema `{subject}` is neither in the schema folder nor a subject of the registry at {url}"
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes scored events to a topic under the id that they have in the registry; under the folder's, if they are not
    /// registered there. Waits for a registry that is away: what is written under a wrong id stays wrong.
    pub(crate) fn codec(&self, topic: &str, folder: &SchemaFolder) -> Result<ScoredEventCodec, Failure> {
        let subject = value_subject(topic);
        let found = self.patiently(|client| client.id_of(&subject, ScoredEventCodec::SCHEMA));
        match found? {
            Some(id) => {
                tracing::info!(topic, subject, id, "scored events are written under the registry's id");
                ScoredEventCodec::with_id(id)
            }
            None => {
                tracing::warn!(
                    topic, subject, registry = self.client.url(),
                    "scored events are not registered in the schema registry, and written under the id of the schema \
                     folder; `twinlane schemas register` registers them"
                );
                ScoredEventCodec::new(twinlane_record::Format::Avro, folder)
            }
        }
        .map_err(|error| Failure::Invalid(error.to_string()))
    }

    fn patiently<T>(&self, ask: impl Fn(&Client) -> twinlane_registry::Result<T>) -> Result<T, Error> {
        let mut pause = FIRST_PAUSE;
        loop {
            match ask(&self.client) {
                Err(error) if error.may_heal() && self.patient => {
                    self.state.failed(&error);
                    std::thread::park_timeout(pause);
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
                Err(error) if error.may_heal() => return Err(error),
                answer => {
                    self.state.answered();
                    return answer;
                }
            }
        }
    }
}

impl State {
    /// Why a service is not ready because of it.
    pub(crate) fn unknown(&self) -> Option<String> {
        if self.known.load(Ordering::Acquire) {
            return None;
        }
        let trouble = self.trouble();
        let why = trouble.map_or_else(String::new, |why| format!(": {why}"));
        Some(format!("schema registry {} has not answered yet{why}", self.url))
    }

    /// For the status page.
    pub(crate) fn status(&self) -> serde_json::Value {
        serde_json::json!({
            "url": self.url, "known": self.known.load(Ordering::Acquire), "trouble": self.trouble(),
        })
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, to: Option<String>) -> Option<String> {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *trouble, to)
    }

    fn failed(&self, error: &Error) {
        self.up.set(0.0);
        let told = error.to_string();
        if self.change(Some(told.clone())).as_ref() != Some(&told) {
            tracing::error!(
                registry = self.url,
                error = told,
                "the schema registry is asked again until it answers; schemas that are known keep working"
            );
        }
    }

    fn answered(&self) {
        self.up.set(1.0);
        let first = !self.known.swap(true, Ordering::AcqRel);
        if self.change(None).is_some() || first {
            tracing::info!(registry = self.url, "the schema registry answers");
        }
    }
}

struct Tally {
    found: Counter,
    refused: Counter,
    nothing: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl Tally {
    fn new() -> Self {
        let of = |result: &'static str| {
            let counter = counter!(names::LOOKUPS, "result" => result);
            counter.increment(0);
            counter
        };
        Self {
            found: of("found"),
            refused: of("refused"),
            nothing: of("unknown"),
            failed: of("failed"),
            seconds: histogram!(names::LOOKUP_SECONDS),
        }
    }
}

/// The thread that asks.
struct Clerk {
    client: Client,
    state: Arc<State>,
    asked: Receiver<Ask>,
    /// To be compared once the registry answers.
    of_folder: Option<Vec<RegisteredSchema>>,
    /// What an id stands for does not change.
    known: HashMap<u32, Finding>,
    /// Who waits for what.
    pending: BTreeMap<u32, Vec<Sender<(u32, Finding)>>>,
    pause: Duration,
    /// After a failure.
    not_before: Instant,
    tally: Tally,
}

impl Clerk {
    fn run(mut self) {
        loop {
            let idle = self.of_folder.is_none() && self.pending.is_empty();
            let asked = match idle {
                true => self.asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => self.asked.recv_deadline(self.not_before),
            };
            match asked {
                Ok(ask) => self.take(ask),
                Err(RecvTimeoutError::Timeout) => {}
                // No stage is left.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(ask) = self.asked.try_recv() {
                self.take(ask);
            }
            if self.not_before <= Instant::now() {
                match self.work() {
                    Ok(()) => self.pause = FIRST_PAUSE,
                    Err(error) => {
                        self.state.failed(&error);
                        self.not_before = Instant::now() + self.pause;
                        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
                    }
                }
            }
        }
    }

    fn take(&mut self, Ask { id, answer }: Ask) {
        if let Some(finding) = self.known.get(&id) {
            // A stage that is gone needs no answer.
            let _ = answer.send((id, finding.clone()));
        } else if self.pending.len() < MOST_PENDING || self.pending.contains_key(&id) {
            let waiting = self.pending.entry(id).or_default();
            if !waiting.iter().any(|other| other.same_channel(&answer)) {
                waiting.push(answer);
            }
        }
    }

    /// Asks what is to be asked, until something is not answered.
    fn work(&mut self) -> Result<(), Error> {
        if let Some(of_folder) = self.of_folder.take() {
            let asked = self.client.answers().and_then(|()| self.compare(&of_folder));
            match asked {
                Err(error) if error.may_heal() => {
                    self.of_folder = Some(of_folder);
                    return Err(error);
                }
                _ => self.state.answered(),
            }
        }
        while let Some((&id, _)) = self.pending.first_key_value() {
            let began = Instant::now();
            let finding = self.look_up(id);
            self.tally.seconds.record(began.elapsed().as_secs_f64());
            match &finding {
                Ok(Finding::Schema(_)) => &self.tally.found,
                Ok(Finding::Refused(_)) => &self.tally.refused,
                Ok(Finding::Nothing(_)) => &self.tally.nothing,
                Err(_) => &self.tally.failed,
            }
            .increment(1);
            let finding = finding?;
            self.state.answered();
            for answer in self.pending.remove(&id).into_iter().flatten() {
                let _ = answer.send((id, finding.clone()));
            }
            match &finding {
                Finding::Schema(schema) => tracing::info!(id, schema = schema.name(), "looked up a schema"),
                Finding::Refused(why) => tracing::warn!(id, %why, "a schema that cannot be used"),
                // It may come yet.
                Finding::Nothing(_) => continue,
            }
            self.known.insert(id, finding);
        }
        Ok(())
    }

    fn look_up(&self, id: u32) -> Result<Finding, Error> {
        let refuse = |reason, why: String| Finding::Refused(Rejection::new(reason, why));
        match self.client.schema(id) {
            Ok(schema) if schema.kind != "AVRO" => Ok(refuse(
                Reason::UnknownSchema,
                format!(
                    "schema id {id} is {} in the registry, and this source's events are Avro",
                    schema.kind
                ),
            )),
            Ok(schema) if !schema.references.is_empty() => Ok(refuse(
                Reason::IncompatibleSchema,
                format!(
                    "schema id {id} refers to other schemas of the registry, which Twinlane does not follow; register it whole"
                ),
            )),
            Ok(schema) => Ok(match ForeignSchema::parse(id, &schema.schema) {
                Ok(schema) => Finding::Schema(schema),
                Err(why) => Finding::Refused(why),
            }),
            Err(error) if error.may_heal() => Err(error),
            Err(Error::NotFound { url, .. }) => {
                let why = format!(
                    "schema id {id} is not known here, and the schema registry at {url} has none of that id"
                );
                Ok(Finding::Nothing(Rejection::new(Reason::UnknownSchema, why)))
            }
            Err(error) => Ok(Finding::Nothing(Rejection::new(
                Reason::UnknownSchema,
                format!("schema id {id}: {error}"),
            ))),
        }
    }

    /// Ids of the folder that stand for something else in the registry: the folder is believed, and events that were
    /// written with the registry's would be misread.
    fn compare(&self, of_folder: &[RegisteredSchema]) -> Result<(), Error> {
        for registered in of_folder {
            let theirs = match self.client.schema(registered.id) {
                Ok(schema) => schema,
                Err(error) if error.may_heal() => return Err(error),
                Err(_) => continue,
            };
            let same = ForeignSchema::parse(registered.id, &theirs.schema).is_ok_and(|s| s.is(registered));
            if !same {
                tracing::warn!(
                    id = registered.id, subject = %registered.subject, version = registered.version,
                    registry = self.client.url(),
                    "this id stands for one schema in the schema folder and for another in the registry; the folder is \
                     believed, and events that were written with the registry's are misread. Take it out of the folder, or \
                     give it another id there"
                );
            }
        }
        Ok(())
    }
}
