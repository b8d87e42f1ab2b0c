//! One model, checked against its pipeline, on the device that really runs it. [`Model::run`] answers every row
//! of a batch by itself: a row that the model cannot take never costs its neighbours their answers.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use ort::session::{HasSelectedOutputs, RunOptions, Session};
use twinlane_pipeline::{Device, Row, TensorSpec};
use twinlane_record::{Output, Reason, Rejection};

use crate::{
    Error, ModelSource, OnnxRuntime, RunError, answers,
    capture::{self, Captures, Shape},
    contract::Binding,
    cuda,
    device::Opened,
    divide::{Costs, divide},
    load::{self, Again, Loaded},
    metric_names::ModelMetrics,
    pack::Packer,
    spot_check::SpotCheck,
    warm_up,
};

/// For models that run while another is captured.
const BETWEEN_CAPTURES: Duration = Duration::from_millis(1);

/// What a row gets: the task's outputs by name, or why there are none.
pub type Answer = Result<Vec<(Arc<str>, Output)>, Rejection>;

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
    /// Where runs may be captured, until they were: what opens a session that can do without.
    may_capture: Option<Again>,
    captures: Option<Captures>,
    metrics: ModelMetrics,
    spot_check: Option<SpotCheck>,
}

impl Model {
    /// Loads a model for one thread.
    pub fn load(runtime: &OnnxRuntime, source: ModelSource<'_>) -> Result<Self, Error> {
        let mut models = Self::load_for(runtime, source, |_| 1)?;
        Ok(models.pop().expect("one was asked for"))
    }

    /// Loads a model for as many threads as its device shall have: the file is read and hashed once, and the device is
    /// chosen once, so that all of them run the same. Each session holds its own copy of the weights.
    pub fn load_for(
        runtime: &OnnxRuntime,
        source: ModelSource<'_>,
        threads: impl Fn(Device) -> usize,
    ) -> Result<Vec<Self>, Error> {
        let Loaded { sessions, binding, device, digest, again, spot_check } =
            load::load(runtime, &source, threads, true)?;
        let specs: Arc<[TensorSpec]> = source.inputs.into();
        sessions
            .into_iter()
            .map(|Opened { session, captures }| {
                let options = binding.reads_only();
                Ok(Self {
                    task: source.task.into(),
                    session,
                    options: options.map_err(|why| load::cannot_load(&source, why.to_string()))?,
                    packer: Packer::new(&binding),
                    binding: binding.clone(),
                    specs: specs.clone(),
                    max_batch: source.max_batch.max(1),
                    digest: digest.clone(),
                    device,
                    may_capture: captures.then(|| again.clone()),
                    captures: None,
                    metrics: ModelMetrics::new(source.task),
                    spot_check: spot_check.clone(),
                })
            })
            .collect()
    }

    /// Runs the model on made-up batches, the smallest first: what is allocated, tuned or compiled at a first
    /// run is over before an event waits for it, and a model that cannot run at all is found out. Called on the thread
    /// that will run it: what a GPU captures here belongs to that thread.
    pub fn warm_up(&mut self) -> Result<(), Error> {
        let row = warm_up::row(&self.specs);
        let began = Instant::now();
        for batch in warm_up::batches(self.max_batch) {
            let started = Instant::now();
            let rows = vec![&row; batch];
            self.attempt(&rows).map_err(|failure| Error::WarmUp {
                task: self.task.to_string(),
                batch,
                source: failure.into_run_error(),
            })?;
            if !warm_up::goes_on(self.device, began.elapsed(), started.elapsed()) {
                break;
            }
        }
        if let Some(again) = self.may_capture.take() {
            let began = Instant::now();
            match self.capture_all() {
                Ok(captured) => {
                    let seconds = began.elapsed().as_secs_f64();
                    tracing::info!(task = %self.task, captured, seconds, "runs of small batches captured as CUDA graphs");
                }
                Err(why) => {
                    tracing::warn!(task = %self.task, why, "runs cannot be captured as CUDA graphs; small batches take longer");
                    self.captures = None;
                    // Nobody may capture while a session is opened.
                    let opened = {
                        let _alone = cuda::capturing();
                        again.open()
                    };
                    self.session = opened.map_err(|why| Error::WarmUp {
                        task: self.task.to_string(),
                        batch: 1,
                        source: RunError::SessionBroken(why),
                    })?;
                    self.probe().map_err(|source| Error::WarmUp {
                        task: self.task.to_string(),
                        batch: 1,
                        source,
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Captures the runs of all small batches.
    fn capture_all(&mut self) -> Result<usize, String> {
        let mut captures = Captures::new(&self.session)?;
        let shapes = Shape::all(self.max_batch, &self.packer.most_steps());
        if shapes.len() > capture::MOST {
            return Err(format!(
                "batches have {} shapes, and at most {} are captured",
                shapes.len(),
                capture::MOST
            ));
        }
        let _capturer = cuda::capturer();
        for shape in &shapes {
            let row = warm_up::row_of(&self.specs, shape.steps.iter().copied().max().unwrap_or(1));
            self.packer.pack_as(&vec![&row; shape.rows], shape);
            captures.capture(&mut self.session, &self.packer, &self.binding, shape)?;
            // The models that run meanwhile wait for a capture, and must not wait for all of them.
            std::thread::park_timeout(BETWEEN_CAPTURES);
        }
        self.captures = Some(captures);
        Ok(shapes.len())
    }

    /// Whether a made-up row gets an answer: one that gives NaN for it may give it for events, too. A model may have its
    /// reasons; one that takes the place of another which has none is better left alone.
    pub fn is_sound(&mut self) -> Result<bool, RunError> {
        let row = warm_up::row(&self.specs);
        let answers = self.attempt(&[&row]).map_err(Failure::into_run_error)?;
        Ok(answers.iter().all(Result::is_ok))
    }

    /// SHA-256 of the bytes that were loaded, the first 16 hex digits.
    pub fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    /// The device that runs it.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Answers each row, in order. Rows hold the tensors of the source's `inputs`. When the whole batch fails,
    /// halves of it are run until the rows that do it stand alone; they are rejected with the model's message,
    /// and everyone else is answered.
    pub fn run(&mut self, rows: &[Row]) -> Result<Vec<Answer>, RunError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        // What probes and warm-ups packed is nobody's.
        self.packer.take_packed();
        let costs = match self.device {
            Device::Cpu => Costs::CPU,
            Device::Cuda => Costs::CUDA,
        };
        let runs = divide(&self.packer.lengths(rows), costs);
        let mut answers: Vec<Option<Answer>> = rows.iter().map(|_| None).collect();
        for run in runs {
            let part: Vec<&Row> = run.iter().map(|&row| &rows[row]).collect();
            let answered = match self.attempt(&part) {
                Ok(answered) => answered,
                Err(failure) => self.isolate(&part, failure)?,
            };
            run.into_iter().zip(answered).for_each(|(row, answer)| answers[row] = Some(answer));
        }
        self.metrics.batch_size.record(rows.len() as f64);
        self.metrics.run_seconds.record(started.elapsed().as_secs_f64());
        let packed = self.packer.take_packed();
        self.metrics.packed.increment(packed.all as u64);
        self.metrics.padding.increment(packed.padding as u64);
        // A row without an answer makes the answers fewer than the rows, which the caller refuses.
        let answers: Vec<Answer> = answers.into_iter().flatten().collect();
        if let Some(check) = &self.spot_check {
            check.see(rows, &answers);
        }
        Ok(answers)
    }

    /// A failed batch, cut into halves until each failure is one row's.
    fn isolate(&mut self, rows: &[&Row], failure: Failure) -> Result<Vec<Answer>, RunError> {
        tracing::warn!(
            task = %self.task,
            rows = rows.len(),
            why = %failure,
            "a batch failed; looking for the record that does it"
        );
        // A lost device fails for any input, and a model that breaks its promise may break it for all. Blaming
        // the records would empty the topic into dead letters.
        self.probe()?;
        let mut answers = Vec::with_capacity(rows.len());
        let mut left = vec![(rows, Some(failure))];
        while let Some((part, failed)) = left.pop() {
            let failure = match failed {
                Some(failure) => failure,
                None => match self.attempt(part) {
                    Ok(answered) => {
                        answers.extend(answered);
                        continue;
                    }
                    Err(failure) => failure,
                },
            };
            if let [_] = part {
                answers.push(Err(Rejection::new(Reason::ModelFailed, failure.to_string())));
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
        self.attempt(&[&row]).map(drop).map_err(Failure::into_run_error)
    }

    fn attempt(&mut self, rows: &[&Row]) -> Result<Vec<Answer>, Failure> {
        if self.captures.is_some() {
            let longest = longest(&self.packer.lengths(rows.iter().copied()));
            if let Some(shape) = Shape::of(rows.len(), &longest, &self.packer.most_steps())
                && let Some(answers) = self.attempt_captured(rows, &shape)?
            {
                self.metrics.captured.increment(1);
                return Ok(answers);
            }
        }
        self.metrics.plain.increment(1);
        let rejected = self.packer.pack(rows);
        let _running = (self.device == Device::Cuda).then(cuda::running);
        let inputs = self.packer.views().map_err(|why| Failure::Run(why.to_string()))?;
        let outputs = self
            .session
            .run_with_options(inputs.as_slice(), &self.options)
            .map_err(|why| Failure::Run(why.to_string()))?;
        let answers = answers::read(|name| outputs.get(name), &self.binding.outputs, rows.len(), rows.len());
        with_rejections(answers, rejected)
    }

    /// By a captured run of this shape; `None` where there is none.
    fn attempt_captured(&mut self, rows: &[&Row], shape: &Shape) -> Result<Option<Vec<Answer>>, Failure> {
        let Some(captures) = &mut self.captures else { return Ok(None) };
        let rejected = self.packer.pack_as(rows, shape);
        match captures.run(&mut self.session, &self.packer, shape) {
            Ok(None) => Ok(None),
            Ok(Some(outputs)) => {
                let answers =
                    answers::read(|name| outputs.get(name), &self.binding.outputs, shape.rows, rows.len());
                with_rejections(answers, rejected).map(Some)
            }
            Err(why) => Err(Failure::Run(why)),
        }
    }
}

/// Per group the steps of the longest row.
fn longest(lengths: &[Vec<usize>]) -> Vec<usize> {
    let mut longest = lengths.first().cloned().unwrap_or_default();
    for row in lengths {
        longest.iter_mut().zip(row).for_each(|(most, steps)| *most = (*most).max(*steps));
    }
    longest
}

fn with_rejections(
    answers: Result<Vec<Answer>, RunError>,
    rejected: Vec<(usize, Rejection)>,
) -> Result<Vec<Answer>, Failure> {
    let mut answers = answers.map_err(Failure::Output)?;
    for (row, rejection) in rejected {
        answers[row] = Err(rejection);
    }
    Ok(answers)
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    /// It ran, and what came is not what the model promised; with a shape that depends on the data, a record may
    /// be the reason too.
    Output(RunError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(why) => f.write_str(why),
            Self::Output(error) => write!(f, "{error}"),
        }
    }
}

impl Failure {
    fn into_run_error(self) -> RunError {
        match self {
            Failure::Run(why) => RunError::SessionBroken(why),
            Failure::Output(error) => error,
        }
    }
}
