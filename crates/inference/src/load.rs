//! From a model's file to sessions that are ready: the file is read and hashed once, the first device of the list
//! that works and really runs the model is chosen once, and the model is held to the pipeline's contract.

use std::{fs, path::Path, sync::Arc};

use ort::session::Session;
use sha2::{Digest, Sha256};
use twinlane_pipeline::{Device, OutputSpec, Row, TaskPlaces, TensorSpec};

use crate::{
    Answer, Error, OnnxRuntime, answers,
    contract::{self, Binding, Mismatch, Side},
    device::{Opened, Opener},
    metric_names::{device_fallback, device_in_use},
    pack::Packer,
    parity,
    placement::{Placement, Profile},
    signature::Signature,
    spot_check::SpotCheck,
    warm_up,
};

/// Where a model comes from, and what the pipeline wants of it.
#[derive(Clone, Copy, Debug)]
pub struct ModelSource<'a> {
    /// Task.
    pub task: &'a str,
    /// ONNX file.
    pub path: &'a Path,
    /// What rows are made of, in their order.
    pub inputs: &'a [TensorSpec],
    /// What is read from it.
    pub outputs: &'a [OutputSpec],
    /// Where its tensors stand in the pipeline file, for a refusal; `None` where there is no file.
    pub places: Option<&'a TaskPlaces>,
    /// Devices; the first that works is taken.
    pub devices: &'a [Device],
    /// Most rows per run.
    pub max_batch: usize,
    /// The share of the rows, above 0 and at most 1, whose answers are compared with the CPU's while events flow.
    pub parity: Option<f64>,
    /// SHA-256 that the file must have, 64 lower-case hex digits. Another file is not looked at.
    pub sha256: Option<&'a str>,
}

/// A loaded model, before threads take it.
pub(crate) struct Loaded {
    /// All on one device. Each holds its own copy of the weights.
    pub(crate) sessions: Vec<Opened>,
    pub(crate) binding: Binding,
    pub(crate) device: Device,
    /// SHA-256 of the file, the first 16 hex digits.
    pub(crate) digest: Arc<str>,
    /// For a session in the place of one whose runs could not be captured.
    pub(crate) again: Again,
    pub(crate) spot_check: Option<SpotCheck>,
}

/// Opens a model's session once more, without captures.
#[derive(Clone)]
pub(crate) struct Again {
    runtime: OnnxRuntime,
    bytes: Arc<[u8]>,
    device: Device,
}

impl Again {
    pub(crate) fn open(&self) -> Result<Session, String> {
        self.open_on(self.device)
    }

    fn open_on(&self, device: Device) -> Result<Session, String> {
        let opener = Opener { runtime: &self.runtime, bytes: &self.bytes, captures: false };
        opener.open(device, None).map(|opened| opened.session)
    }
}

/// Why a device was passed over.
struct PassedOver {
    device: Device,
    why: String,
}

/// Checks that a model fits its pipeline, without preparing it for work; the answer is its digest.
pub fn check_contract(runtime: &OnnxRuntime, source: &ModelSource<'_>) -> Result<Arc<str>, Error> {
    let bytes = read(source)?;
    let opener = Opener { runtime, bytes: &bytes, captures: false };
    let session = opener.open(Device::Cpu, None).map_err(|why| cannot_load(source, why))?;
    bind(source, &session.session)?;
    Ok(digest(&bytes))
}

/// Loads a model for as many threads as its device shall have. `captures`: its runs may be captured where the device can.
pub(crate) fn load(
    runtime: &OnnxRuntime,
    source: &ModelSource<'_>,
    threads: impl Fn(Device) -> usize,
    captures: bool,
) -> Result<Loaded, Error> {
    let bytes = read(source)?;
    let opener = Opener { runtime, bytes: &bytes, captures };
    let digest = digest(&bytes);
    let (first, binding, device) = first_device(&opener, source)?;
    tracing::info!(
        task = source.task,
        device = device.as_str(),
        digest = &*digest,
        path = %source.path.display(),
        "model loaded"
    );
    let mut sessions = vec![first];
    for _ in 1..threads(device) {
        sessions.push(opener.open(device, None).map_err(|why| cannot_load(source, why))?);
    }
    let again = Again { runtime: runtime.clone(), bytes: bytes.into(), device };
    let spot_check = source.parity.map(|share| spot_check(source, share, &again, &binding)).transpose()?;
    Ok(Loaded { sessions, binding, device, digest, again, spot_check })
}

/// What compares a share of the answers with those of a CPU session, which is there only for this.
fn spot_check(
    source: &ModelSource<'_>,
    share: f64,
    again: &Again,
    binding: &Binding,
) -> Result<SpotCheck, Error> {
    let cannot = |why| cannot_load(source, format!("`parity` needs it on the CPU too: {why}"));
    let mut cpu = again.open_on(Device::Cpu).map_err(cannot)?;
    let binding = binding.clone();
    Ok(SpotCheck::start(source.task, share, move |row| {
        let mut answers = answers_of(&mut cpu, &binding, std::slice::from_ref(row))?;
        answers.pop().ok_or_else(|| "the CPU gives no answer".to_owned())
    }))
}

/// The first device of the list that works and runs the model, or why none does.
fn first_device(opener: &Opener<'_>, source: &ModelSource<'_>) -> Result<(Opened, Binding, Device), Error> {
    let mut passed = Vec::new();
    for &device in source.devices {
        // Only a session with more than one provider has a choice of where its nodes run. It is made when the graph
        // is loaded, so what the first session shows holds for those of the other threads.
        let profile = (device != Device::Cpu).then(Profile::begin).transpose();
        let opened = profile.and_then(|profile| Ok((opener.open(device, profile.as_ref())?, profile)));
        let (mut opened, profile) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                passed.push(PassedOver { device, why });
                continue;
            }
        };
        // A model that does not fit is refused, whatever the device.
        let binding = bind(source, &opened.session)?;
        let placed = profile.map_or(Ok(()), |profile| {
            let placement = trial(&mut opened.session, &binding, source.inputs, &profile)?;
            let share = placement.verify(device)?;
            tracing::info!(
                task = source.task,
                device = device.as_str(),
                nodes = share,
                "where the model runs"
            );
            answers_as_the_cpu(opener, source, &mut opened.session, &binding, device)
        });
        match placed {
            Ok(()) => {
                report(source, device, &passed);
                return Ok((opened, binding, device));
            }
            Err(why) => passed.push(PassedOver { device, why }),
        }
    }
    Err(refused(source, &passed))
}

/// Runs one made-up row and reads from the session's profile where each node ran. The profile ends here: later
/// runs cost what they cost without one.
fn trial(
    session: &mut Session,
    binding: &Binding,
    specs: &[TensorSpec],
    profile: &Profile,
) -> Result<Placement, String> {
    let mut packer = Packer::new(binding);
    packer.pack(&[&warm_up::row(specs)]);
    let run = |session: &mut Session| -> ort::Result<()> {
        let inputs = packer.views()?;
        session.run_with_options(inputs.as_slice(), &binding.reads_only()?).map(drop)
    };
    run(session).map_err(|why| format!("its first run fails: {why}"))?;
    profile.end(session)
}

/// Compares a device's answers with those of a CPU session of the same model, which is there only for this.
fn answers_as_the_cpu(
    opener: &Opener<'_>,
    source: &ModelSource<'_>,
    session: &mut Session,
    binding: &Binding,
    device: Device,
) -> Result<(), String> {
    let rows = parity::rows(source.inputs);
    let ours = answers_of(session, binding, &rows)?;
    let cpu = opener.open(Device::Cpu, None).and_then(|mut cpu| answers_of(&mut cpu.session, binding, &rows));
    let cpu = match cpu {
        Ok(answers) => answers,
        Err(why) => {
            tracing::warn!(
                task = source.task,
                why,
                "the CPU cannot run this model, so what the device answers is compared with nothing"
            );
            return Ok(());
        }
    };
    let apart =
        parity::compare(&ours, &cpu).map_err(|why| format!("it does not answer as the CPU does: {why}"))?;
    tracing::info!(
        task = source.task,
        device = device.as_str(),
        largest_difference = apart * parity::TOLERANCE,
        tolerance = parity::TOLERANCE,
        "the device answers as the CPU does"
    );
    Ok(())
}

fn answers_of(session: &mut Session, binding: &Binding, rows: &[Row]) -> Result<Vec<Answer>, String> {
    let mut packer = Packer::new(binding);
    packer.pack(&rows.iter().collect::<Vec<_>>());
    let text = |why: ort::Error| why.to_string();
    let (views, options) = (packer.views().map_err(text)?, binding.reads_only().map_err(text)?);
    let outputs = session.run_with_options(views.as_slice(), &options).map_err(text)?;
    answers::read(|name| outputs.get(name), &binding.outputs, rows.len(), rows.len())
        .map_err(|why| why.to_string())
}

/// What is loaded later is what was verified here: the file may be another one by then.
fn read(source: &ModelSource<'_>) -> Result<Vec<u8>, Error> {
    let (task, path) = (source.task.to_owned(), source.path.to_owned());
    let bytes = match fs::read(source.path) {
        Ok(bytes) => bytes,
        Err(source) => return Err(Error::Read { task, path, source }),
    };
    match source.sha256 {
        Some(expected) if sha256(&bytes) != expected => {
            Err(Error::Digest { task, path, expected: expected.to_owned(), found: sha256(&bytes) })
        }
        _ => Ok(bytes),
    }
}

fn bind(source: &ModelSource<'_>, session: &Session) -> Result<Binding, Error> {
    contract::bind(&Signature::of(session), source.inputs, source.outputs, source.max_batch).map_err(
        |problems| Error::Contract {
            task: source.task.to_owned(),
            path: source.path.to_owned(),
            problems: problems.iter().map(|problem| placed(source.places, problem)).collect(),
        },
    )
}

/// A problem behind `file:line:column` of its tensor. A tensor that the file does not name stands nowhere.
fn placed(places: Option<&TaskPlaces>, problem: &Mismatch) -> String {
    let place = places.and_then(|places| match problem.side {
        Side::Input => places.inputs.get(&*problem.tensor),
        Side::Output => places.outputs.get(&*problem.tensor),
    });
    place.map_or_else(|| problem.to_string(), |place| format!("{place}: {problem}"))
}

fn digest(bytes: &[u8]) -> Arc<str> {
    sha256(bytes)[..16].into()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn cannot_load(source: &ModelSource<'_>, why: String) -> Error {
    let remedy = if why.contains("model_path must not be empty") || why.contains("external data") {
        " (its weights lie in a second file: export it as one file, so that its digest names all of it)"
    } else {
        ""
    };
    Error::Load { task: source.task.to_owned(), path: source.path.to_owned(), why: format!("{why}{remedy}") }
}

/// No device took the model. The CPU takes every sound one, so its reason is about the file.
fn refused(source: &ModelSource<'_>, passed: &[PassedOver]) -> Error {
    match passed.iter().find(|passed| passed.device == Device::Cpu) {
        Some(cpu) => cannot_load(source, cpu.why.clone()),
        None => {
            let tried = if passed.is_empty() { "the list is empty".to_owned() } else { reasons(passed) };
            Error::NoDevice { task: source.task.to_owned(), tried }
        }
    }
}

fn reasons(passed: &[PassedOver]) -> String {
    let reasons = passed.iter().map(|passed| format!("{}: {}", passed.device.as_str(), passed.why));
    reasons.collect::<Vec<_>>().join("; ")
}

fn report(source: &ModelSource<'_>, device: Device, passed: &[PassedOver]) {
    let task = source.task;
    for PassedOver { device: wanted, why } in passed {
        tracing::warn!(
            task,
            wanted = wanted.as_str(),
            device = device.as_str(),
            why,
            "the model runs on another device of its list"
        );
    }
    // All of them: models that took the place of others may run elsewhere than those did.
    for &listed in source.devices {
        device_in_use(task, listed.as_str()).set(f64::from(listed == device));
    }
    device_fallback(task).set(f64::from(!passed.is_empty()));
}
