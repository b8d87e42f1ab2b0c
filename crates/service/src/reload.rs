//! Other models while a worker runs. The files of a lane's models are looked at once a second, and at once on SIGHUP; when
//! one was replaced (by a rename, or by another target of a link on its way, as Kubernetes' volumes do it), all are loaded,
//! held to the pipeline and warmed up beside those that run, and take over between two batches. Whatever does not work leaves
//! those that run in their place.

use std::{
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::Thread,
    time::Duration,
};

use serde_json::{Value, json};
use twinlane_inference::{Sessions, metric_names::RELOADS};
use twinlane_pipeline::LaneName;
use twinlane_runtime::ModelIdentity;

use crate::{
    Failure, LoadedPipeline, Settings,
    assemble::{self, Serving},
};

const LOOK: Duration = Duration::from_secs(1);

/// What the admin port says about models, and how SIGHUP gets here.
#[derive(Default)]
pub(crate) struct Reload {
    /// Of the lane, in the order of its models.
    tasks: Vec<Arc<str>>,
    /// The first device of the lane's list.
    wanted: &'static str,
    serving: Mutex<Vec<ModelIdentity>>,
    /// Why the last change was refused; `None` once one was taken.
    refused: Mutex<Option<String>>,
    asked: AtomicBool,
    watcher: Mutex<Option<Thread>>,
}

impl Reload {
    /// Has the files looked at now, whether they seem changed or not.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        if let Some(watcher) = &*lock(&self.watcher) {
            watcher.unpark();
        }
    }

    /// Why the last change of models was refused.
    pub(crate) fn refused(&self) -> Option<String> {
        lock(&self.refused).clone()
    }

    /// Models that run on another device than the first of the lane's list, a sentence each.
    pub(crate) fn fallen_back(&self) -> Vec<String> {
        let models = lock(&self.serving);
        let elsewhere = self.tasks.iter().zip(&*models).filter(|(_, model)| &*model.device != self.wanted);
        elsewhere
            .map(|(task, model)| {
                let (device, wanted) = (&model.device, self.wanted);
                format!("task {task} runs on {device}, because {wanted} does not work here; the log says why")
            })
            .collect()
    }

    /// Models that run, and what was refused.
    pub(crate) fn status(&self) -> Value {
        let models = lock(&self.serving);
        let models: Vec<_> = self
            .tasks
            .iter()
            .zip(&*models)
            .map(|(task, model)| {
                let fell_back = &*model.device != self.wanted;
                json!({ "task": &**task, "digest": &*model.digest, "device": &*model.device, "fell_back": fell_back })
            })
            .collect();
        json!({ "models": models, "refused_change": self.refused() })
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each is set whole.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What tells one file from another that has taken its place: device and inode, length, time of the last change.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

struct Watcher {
    loaded: Arc<LoadedPipeline>,
    settings: Arc<Settings>,
    lane: LaneName,
    serving: Serving,
    files: Vec<PathBuf>,
    state: Arc<Reload>,
}

/// Watches the files of a lane's models for as long as the process lives.
pub(crate) fn watch(
    loaded: Arc<LoadedPipeline>,
    settings: Arc<Settings>,
    lane: LaneName,
    serving: Serving,
) -> Result<Arc<Reload>, Failure> {
    let (mut tasks, mut wanted) = (Vec::new(), "");
    if let Some(of_lane) = loaded.plan.lane(lane) {
        tasks.extend(of_lane.tasks.iter().map(|&task| loaded.plan.tasks[task].name.clone()));
        wanted = of_lane.devices.first().map_or("", |device| device.as_str());
    }
    let state = Arc::new(Reload { tasks, wanted, ..Reload::default() });
    lock(&state.serving).clone_from(&serving.identities);
    let files = assemble::model_files(&loaded, lane)?.into_iter().map(|(file, _)| file).collect();
    let watcher = Watcher { loaded, settings, lane, serving, files, state: state.clone() };
    for outcome in ["taken", "refused"] {
        metrics::counter!(RELOADS, "outcome" => outcome).increment(0);
    }
    let thread = std::thread::Builder::new().name("models-watch".into()).spawn(move || watcher.run());
    *lock(&state.watcher) = Some(thread.expect("the system can start a thread").thread().clone());
    Ok(state)
}

impl Watcher {
    fn run(mut self) {
        let mut seen = self.stamps();
        loop {
            std::thread::park_timeout(LOOK);
            let asked = self.state.asked.swap(false, Ordering::AcqRel);
            let now = self.stamps();
            // A file that is away for a moment is about to be replaced.
            if (now == seen && !asked) || now.contains(&None) {
                continue;
            }
            seen = now;
            let outcome = match self.change() {
                Ok(false) => {
                    tracing::info!(lane = self.lane.as_str(), "the models are those that run already");
                    continue;
                }
                Ok(true) => {
                    *lock(&self.state.refused) = None;
                    "taken"
                }
                Err(why) => {
                    tracing::warn!(lane = self.lane.as_str(), %why, "the change of models is refused; those that run go on");
                    *lock(&self.state.refused) = Some(why.to_string());
                    "refused"
                }
            };
            metrics::counter!(RELOADS, "outcome" => outcome).increment(1);
        }
    }

    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |file: &PathBuf| {
            let found = std::fs::metadata(file).ok()?;
            Some((found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
        };
        self.files.iter().map(stamp).collect()
    }

    /// Loads what lies there, warms it up, and sends it on; false where it is what runs.
    fn change(&mut self) -> Result<bool, Failure> {
        let prepared = assemble::models(&self.loaded, &self.settings, self.lane)?;
        if prepared.identities == self.serving.identities {
            return Ok(false);
        }
        if self.serving.sound && !prepared.sound {
            return Err(Failure::Invalid(
                "a model gives no number for a made-up event, and the one that runs does".into(),
            ));
        }
        let sessions = Sessions::start_beside(prepared.per_thread, self.serving.results.clone())?;
        self.serving.results = sessions.successor();
        self.serving.identities = prepared.identities.clone();
        self.serving.sound = prepared.sound;
        lock(&self.state.serving).clone_from(&prepared.identities);
        let models = twinlane_runtime::Models { sessions, identities: prepared.identities };
        // Nobody takes them only when the stage has ended.
        let _ = self.serving.successors.send(models);
        Ok(true)
    }
}
