//! One model, checked against its pipeline, on the device that really runs it. [`Model::run`] answers every row
//! of a batch by itself: a row that the model cannot take never costs its neighbours their answers.

use std::{fs, path::Path, sync::Arc, time::Instant};

use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session};
use sha2::{Digest, Sha256};
use twinlane_pipeline::{Device, OutputSpec, Row, TensorSpec};
use twinlane_record::{Output, Reason, Rejection};

use crate::{
    Error, OnnxRuntime, RunError, answers,
    contract::{self, Binding},
    device::{Opener, PassedOver},
    metric_names::{ModelMetrics, device_in_use},
    pack::Packer,
    signature::Signature,
    warm_up,
};

/// What a row gets: the task's outputs by name, or why there are none.
pub type Answer = Result<Vec<(Arc<str>, Output)>, Rejection>;

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
    /// Devices; the first that works is taken.
    pub devices: &'a [Device],
    /// Most rows per run.
    pub max_batch: usize,
}

/// A model that is ready to run, for one thread.
pub struct Model {
    task: Arc<str>,
    session: Session,
    options: RunOptions<HasSelectedOutputs>,
    binding: Binding,
    packer: Packer,
    specs: Arc<[TensorSpec]>,
    max_batch: usize,
    digest: Arc<str>,
    device: Device,
    fallback: Option<Arc<str>>,
    metrics: ModelMetrics,
}

/// Checks that a model fits its pipeline, without preparing it for work; the answer is its digest.
pub fn check_contract(runtime: &OnnxRuntime, source: &ModelSource<'_>) -> Result<Arc<str>, Error> {
    let bytes = read(source)?;
    let opener = Opener { runtime, bytes: &bytes };
    let session = opener.open(Device::Cpu).map_err(|why| cannot_load(source, why))?;
    bind(source, &session)?;
    Ok(digest(&bytes))
}

impl Model {
    /// Loads a model for one thread.
    pub fn load(runtime: &OnnxRuntime, source: ModelSource<'_>) -> Result<Self, Error> {
        let mut models = Self::load_for(runtime, source, 1)?;
        Ok(models.pop().expect("one was asked for"))
    }

    /// Loads a model for several threads: the file is read and hashed once, and the device is chosen once, so
    /// that all of them run the same. Each session holds its own copy of the weights.
    pub fn load_for(
        runtime: &OnnxRuntime,
        source: ModelSource<'_>,
        threads: usize,
    ) -> Result<Vec<Self>, Error> {
        let bytes = read(&source)?;
        let opener = Opener { runtime, bytes: &bytes };
        let (first, device, passed) =
            opener.first_of(source.devices).map_err(|passed| refused(&source, &passed))?;
        let binding = bind(&source, &first)?;
        let digest = digest(&bytes);
        let fallback = (!passed.is_empty()).then(|| Arc::from(reasons(&passed)));
        report(&source, &digest, device, &passed);

        let specs: Arc<[TensorSpec]> = source.inputs.into();
        let mut sessions = vec![first];
        for _ in 1..threads {
            sessions.push(opener.open(device).map_err(|why| cannot_load(&source, why))?);
        }
        sessions
            .into_iter()
            .map(|session| {
                Ok(Self {
                    task: source.task.into(),
                    session,
                    options: reads_only(&binding).map_err(|why| cannot_load(&source, why.to_string()))?,
                    packer: Packer::new(&binding),
                    binding: binding.clone(),
                    specs: specs.clone(),
                    max_batch: source.max_batch.max(1),
                    digest: digest.clone(),
                    device,
                    fallback: fallback.clone(),
                    metrics: ModelMetrics::new(source.task),
                })
            })
            .collect()
    }

    /// Runs the model on made-up batches, the smallest first: what is allocated, tuned or compiled at a first
    /// run is over before an event waits for it, and a model that cannot run at all is found out.
    pub fn warm_up(&mut self) -> Result<(), Error> {
        let row = warm_up::row(&self.specs);
        let began = Instant::now();
        for batch in warm_up::batches(self.max_batch) {
            let started = Instant::now();
            let rows = vec![row.clone(); batch];
            self.attempt(&rows).map_err(|failure| Error::WarmUp {
                task: self.task.to_string(),
                batch,
                source: failure.into_run_error(),
            })?;
            if !warm_up::goes_on(self.device, began.elapsed(), started.elapsed()) {
                break;
            }
        }
        Ok(())
    }

    /// SHA-256 of the bytes that were loaded, the first 16 hex digits.
    pub fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    /// The device that runs it.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Why it does not run on a device that the lane would rather have; `None` when it runs on the first.
    pub fn fallback(&self) -> Option<&Arc<str>> {
        self.fallback.as_ref()
    }

    /// Answers each row, in order. Rows hold the tensors of the source's `inputs`. When the whole batch fails,
    /// halves of it are run until the rows that do it stand alone; they are rejected with the model's message,
    /// and everyone else is answered.
    pub fn run(&mut self, rows: &[Row]) -> Result<Vec<Answer>, RunError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let answers = match self.attempt(rows) {
            Ok(answers) => Ok(answers),
            Err(Failure::Output(error)) => Err(error),
            Err(Failure::Run(why)) => self.isolate(rows, why),
        };
        self.metrics.batch_size.record(rows.len() as f64);
        self.metrics.run_seconds.record(started.elapsed().as_secs_f64());
        answers
    }

    /// A failed batch, cut into halves until each failure is one row's.
    fn isolate(&mut self, rows: &[Row], why: String) -> Result<Vec<Answer>, RunError> {
        tracing::warn!(task = %self.task, rows = rows.len(), why, "a batch failed; looking for the record that does it");
        // A lost device fails for any input. Blaming the records would empty the topic into dead letters.
        self.probe()?;
        let mut answers = Vec::with_capacity(rows.len());
        let mut left = vec![(rows, Some(why))];
        while let Some((part, failed)) = left.pop() {
            let why = match failed {
                Some(why) => why,
                None => match self.attempt(part) {
                    Ok(answered) => {
                        answers.extend(answered);
                        continue;
                    }
                    Err(Failure::Output(error)) => return Err(error),
                    Err(Failure::Run(why)) => why,
                },
            };
            if let [_] = part {
                answers.push(Err(Rejection::new(Reason::ModelFailed, why)));
            } else {
                let (front, back) = part.split_at(part.len() / 2);
                left.push((back, None));
                left.push((front, None));
            }
        }
        // The record that a device died of is no more to blame than those after it: all of them come again.
        self.probe()?;
        Ok(answers)
    }

    fn probe(&mut self) -> Result<(), RunError> {
        let row = warm_up::row(&self.specs);
        self.attempt(&[row]).map(drop).map_err(Failure::into_run_error)
    }

    fn attempt(&mut self, rows: &[Row]) -> Result<Vec<Answer>, Failure> {
        let rejected = self.packer.pack(rows);
        let inputs = self.packer.views().map_err(|why| Failure::Run(why.to_string()))?;
        let outputs = self
            .session
            .run_with_options(inputs.as_slice(), &self.options)
            .map_err(|why| Failure::Run(why.to_string()))?;
        let mut answers =
            answers::read(&outputs, &self.binding.outputs, rows.len()).map_err(Failure::Output)?;
        for (row, rejection) in rejected {
            answers[row] = Err(rejection);
        }
        Ok(answers)
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { task, digest, device, .. } = self;
        f.debug_struct("Model")
            .field("task", task)
            .field("digest", digest)
            .field("device", device)
            .finish_non_exhaustive()
    }
}

/// Why a run gave no answers.
enum Failure {
    /// ONNX Runtime refused or failed; a record may be the reason.
    Run(String),
    /// It ran, and what came is not what the model promised.
    Output(RunError),
}

impl Failure {
    fn into_run_error(self) -> RunError {
        match self {
            Failure::Run(why) => RunError::SessionBroken(why),
            Failure::Output(error) => error,
        }
    }
}

fn read(source: &ModelSource<'_>) -> Result<Vec<u8>, Error> {
    fs::read(source.path).map_err(|error| Error::Read {
        task: source.task.to_owned(),
        path: source.path.to_owned(),
        source: error,
    })
}

fn bind(source: &ModelSource<'_>, session: &Session) -> Result<Binding, Error> {
    contract::bind(&Signature::of(session), source.inputs, source.outputs, source.max_batch).map_err(
        |problems| Error::Contract {
            task: source.task.to_owned(),
            path: source.path.to_owned(),
            problems: problems.iter().map(ToString::to_string).collect(),
        },
    )
}

/// Run options that fetch only what the pipeline reads: exports carry outputs that nobody asks for.
fn reads_only(binding: &Binding) -> ort::Result<RunOptions<HasSelectedOutputs>> {
    let mut names: Vec<&str> = binding.outputs.iter().map(|output| &*output.tensor).collect();
    names.sort_unstable();
    names.dedup();
    let selected = names.into_iter().fold(OutputSelector::no_default(), OutputSelector::with);
    Ok(RunOptions::new()?.with_outputs(selected))
}

fn digest(bytes: &[u8]) -> Arc<str> {
    let digest = Sha256::digest(bytes);
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

fn cannot_load(source: &ModelSource<'_>, why: String) -> Error {
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

fn report(source: &ModelSource<'_>, digest: &str, device: Device, passed: &[PassedOver]) {
    let (task, name) = (source.task, device.as_str());
    for passed in passed {
        device_in_use(task, passed.device.as_str()).set(0.0);
        let wanted = passed.device.as_str();
        tracing::warn!(
            task,
            wanted,
            device = name,
            why = passed.why,
            "the model runs on another device of its list"
        );
    }
    device_in_use(task, name).set(1.0);
    tracing::info!(task, device = name, digest, path = %source.path.display(), "model loaded");
}
