//! A model that is replaced while a stream runs: by the same one under another digest, so that what the change costs is all
//! that differs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use twinlane_testkit::process::http_get;
use twinlane_testkit::wait;

use crate::report::Report;

/// How long a model may take to take over.
const LIMIT: Duration = Duration::from_secs(60);
/// Answers that come so long after a change are still its answers: they may have waited for it.
const AFTER: Duration = Duration::from_secs(1);

/// Replaces the model again and again, on a thread of its own.
pub(crate) struct Changes {
    changing: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Duration>>>,
}

impl Changes {
    /// Replaces `model`, which the service with this admin port runs, after each `every`, for the first time after `first`.
    pub(crate) fn start(model: PathBuf, admin: SocketAddr, first: Duration, every: Duration) -> Result<Self> {
        let (changing, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let original = std::fs::read(&model).with_context(|| format!("reading {}", model.display()))?;
        let (told, asked) = (changing.clone(), stop.clone());
        let change = move |number: usize| -> Result<Duration> {
            let former = digest(admin)?;
            let next = model.with_extension("next");
            std::fs::write(&next, with_doc(&original, number)).context("writing a model")?;
            told.store(true, Ordering::Release);
            let began = Instant::now();
            std::fs::rename(&next, &model).context("replacing a model")?;
            let took = wait::until(LIMIT, || (digest(admin).ok()? != former).then(|| began.elapsed()));
            wait::pause_for(AFTER);
            told.store(false, Ordering::Release);
            took.with_context(|| format!("the model did not take over within {LIMIT:?}"))
        };
        let run = move || {
            let mut took = Vec::new();
            let mut pause = first;
            while wait::until(pause, || asked.load(Ordering::Acquire).then_some(())).is_none() {
                took.push(change(took.len())?);
                pause = every;
            }
            Ok(took)
        };
        let thread = std::thread::Builder::new().name("changes".into()).spawn(run);
        Ok(Self { changing, stop, thread: thread.context("starting a thread")? })
    }

    /// Whether a change is under way.
    pub(crate) fn under_way(&self) -> Arc<AtomicBool> {
        self.changing.clone()
    }

    /// Ends them, and says how long each took from the replaced file to the model that answers.
    pub(crate) fn end(self, name: &str, report: &mut Report) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        let took = self.thread.join().map_err(|_| anyhow!("the thread that changes models panicked"))??;
        ensure!(!took.is_empty(), "{name}: the stream was over before the first change");
        report.figure(format!("{name}.changes"), took.len() as f64);
        let longest = took.iter().max().map_or(0.0, Duration::as_secs_f64);
        report.figure(format!("{name}.change_longest_s"), longest);
        Ok(())
    }
}

/// The same model with another text in a field that nothing reads (`doc_string`, field 6): the last one counts.
fn with_doc(model: &[u8], number: usize) -> Vec<u8> {
    let doc = number.to_string();
    let mut model = model.to_vec();
    model.extend([6 << 3 | 2, doc.len() as u8]);
    model.extend(doc.as_bytes());
    model
}

fn digest(admin: SocketAddr) -> Result<String> {
    let text = http_get(admin, "/status")?;
    let body = text.find('{').map_or(&*text, |at| &text[at..]);
    let status: Value = serde_json::from_str(body).context("a status is JSON")?;
    let digest = status["models"]["models"][0]["digest"].as_str();
    Ok(digest.context("the service runs a model")?.to_owned())
}
