//! A checked pipeline: what would run. Everything downstream reads this and never the file.

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use twinlane_record::Format;

use crate::place::Place;

/// A checked pipeline file.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Name; prefixes topics, consumer groups and transactional ids.
    pub pipeline: Arc<str>,
    /// Where events come from.
    pub sources: Vec<Source>,
    /// Rules, in order; the first that matches wins.
    pub routes: Vec<Route>,
    /// What is predicted.
    pub tasks: Vec<Task>,
    /// One or two lanes.
    pub lanes: Vec<Lane>,
    /// Where events go that cannot be answered.
    pub dead_letters: Topic,
    /// When dead letters are too many.
    pub dead_letter_limit: DeadLetterLimit,
}

/// The most dead letters of one partition, before it is held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeadLetterLimit {
    /// One after another.
    pub consecutive: NonZeroUsize,
    /// Of the last records, 0 to 1; 1 is no limit.
    pub ratio: f64,
}

/// A topic that Twinlane writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Name.
    pub name: Arc<str>,
    /// Number of partitions: part of the plan, because order holds only while it stays the same.
    pub partitions: i32,
}

/// A topic that users write.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Name within the file.
    pub name: Arc<str>,
    /// Topic.
    pub topic: Arc<str>,
    /// Encoding of its values.
    pub format: Format,
    /// Subjects that it carries; for Avro at least one.
    pub schemas: Vec<Arc<str>>,
    /// Where its subjects are listed; where the source begins if it lists none.
    pub schemas_at: Place,
    /// What a null value means.
    pub tombstones: Tombstones,
    /// What to do when retention has passed the committed offset.
    pub when_below_start: BelowStart,
    /// The one route that takes every event of it: that lane's workers read the topic themselves, without
    /// the router. Without such a route the source is mixed.
    pub direct: Option<usize>,
}

/// What a null value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tombstones {
    /// Counted, not answered.
    Skip,
    /// A dead letter.
    DeadLetter,
}

/// What to do when retention has passed the committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BelowStart {
    /// Stop the partition.
    Stop,
    /// Go on from the earliest record.
    Earliest,
}

/// A rule that picks a lane.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Name, in headers and metrics.
    pub name: Arc<str>,
    /// Index of its source.
    pub source: usize,
    /// CEL; none matches everything.
    pub when: Option<Rule>,
    /// What happens to a match.
    pub action: Action,
}

/// A rule's text and where it stands, for refusals that come when it is compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// CEL.
    pub text: String,
    /// Where it begins.
    pub place: Place,
}

/// What happens to an event that a route matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Counted, not answered.
    Skip {
        /// Why, in the file's words.
        why: Arc<str>,
    },
    /// Scored.
    Score {
        /// Index of the task.
        task: usize,
        /// Lane.
        lane: LaneName,
    },
}

/// What is predicted.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Name.
    pub name: Arc<str>,
    /// Its model files.
    pub models: Models,
    /// How the model's tensors are filled.
    pub inputs: Vec<Input>,
    /// How its outputs are read.
    pub outputs: Vec<OutputSpec>,
    /// Where answers go.
    pub publish: Publish,
    /// How old an event may become before a model begins with it.
    pub deadline: Option<Duration>,
    /// Where its tensors and fields stand.
    pub places: TaskPlaces,
}

impl Task {
    /// Where the file names a tensor, an input, mask or output; for a refusal by the model.
    pub fn place_of(&self, tensor: &str) -> Option<&Place> {
        self.places.inputs.get(tensor).or_else(|| self.places.outputs.get(tensor))
    }
}

/// Where a task's parts stand in the file, for what its models and the schemas show later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskPlaces {
    /// Of each input tensor, by its name; a mask's is where the file says `mask`.
    pub inputs: BTreeMap<Arc<str>, Place>,
    /// Of each tensor that outputs read, by its name; the first one's where several read it.
    pub outputs: BTreeMap<Arc<str>, Place>,
    /// Of `publish`.
    pub publish: Place,
    /// Of each field in `publish.carry`, in its order.
    pub carry: Vec<Place>,
}

/// Model files, relative to the pipeline file's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Models {
    /// The precise one.
    pub full: Option<ModelFile>,
    /// The light one.
    pub distilled: Option<ModelFile>,
}

/// A model's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// Where it lies.
    pub file: PathBuf,
    /// SHA-256 of what it must hold, 64 lower-case hex digits.
    pub sha256: Option<Arc<str>>,
}

impl Models {
    /// The file of a variant.
    pub fn get(&self, variant: Variant) -> Option<&ModelFile> {
        match variant {
            Variant::Full => self.full.as_ref(),
            Variant::Distilled => self.distilled.as_ref(),
        }
    }
}

/// One input of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// `[batch]`: one value an event.
    Scalar {
        /// Tensor.
        tensor: Arc<str>,
        /// How it is filled.
        column: Column,
    },
    /// `[batch, columns]`.
    Matrix {
        /// Tensor.
        tensor: Arc<str>,
        /// How each column is filled.
        columns: Vec<Column>,
    },
    /// `[batch, steps, columns]`, padded with zeros.
    Sequence {
        /// Tensor.
        tensor: Arc<str>,
        /// The field that holds the list.
        each: Arc<str>,
        /// The most steps; the last ones are kept.
        keep_last: usize,
        /// Tensor `[batch, steps]` with 1 for a step and 0 for padding.
        mask: Option<Arc<str>>,
        /// How each column of a step is filled; names are of the list's items.
        columns: Vec<Column>,
    },
    /// `[batch, tokens]`: the ids of a text's tokens, padded with zeros.
    Text {
        /// Tensor.
        tensor: Arc<str>,
        /// Dotted path of the field that holds the text.
        field: Arc<str>,
        /// `tokenizer.json`, relative to the pipeline file's folder.
        tokenizer: PathBuf,
        /// The most tokens, those that the tokenizer adds included.
        max_tokens: usize,
        /// Tensor `[batch, tokens]` with 1 for a token and 0 for padding.
        mask: Arc<str>,
        /// Tensor `[batch, tokens]` of zeros.
        type_ids: Option<Arc<str>>,
        /// Where the file says so.
        place: Place,
    },
}

/// How one number is taken from an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Dotted path of the field.
    pub field: Arc<str>,
    /// How it becomes a number.
    pub conversion: Conversion,
    /// The number for a missing or null field; without it such an event is a dead letter.
    pub missing: Option<f64>,
    /// Where the file says so.
    pub place: Place,
}

/// How a field becomes a number.
#[derive(Clone, Debug, PartialEq)]
pub enum Conversion {
    /// A number as it is; a boolean is refused.
    Number,
    /// 0 or 1.
    Boolean,
    /// Seconds since the Unix epoch, with fractions.
    EpochSeconds,
    /// Milliseconds since the Unix epoch.
    EpochMillis,
    /// 0 to 24, with fractions, in a zone given as its offset from UTC in seconds.
    HourOfDay(i32),
    /// 0 (Monday) to 6, in a zone given as its offset from UTC in seconds.
    DayOfWeek(i32),
    /// The line of a vocabulary.
    Category(Vocabulary),
}

/// A list of categories, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// File, relative to the pipeline file's folder; its first line is index 0.
    pub file: PathBuf,
    /// Index of what is not listed; without it such an event is a dead letter.
    pub unknown: Option<i64>,
}

/// One output of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSpec {
    /// Name in the scored event.
    pub name: Arc<str>,
    /// Tensor of the model.
    pub tensor: Arc<str>,
    /// How it is read.
    pub kind: OutputKind,
}

/// How an output tensor is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// One score a label; the highest wins.
    Class {
        /// Labels in the tensor's order.
        labels: Vec<Arc<str>>,
        /// What turns the tensor's numbers into scores.
        apply: Option<Apply>,
    },
    /// One number an event.
    Number,
    /// A vector an event.
    Vector,
}

/// Turns logits into scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// Scores that sum to 1.
    Softmax,
    /// Each on its own; one logit for two labels is the second label's.
    Sigmoid,
}

/// Where answers go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Topic.
    pub topic: Topic,
    /// Encoding.
    pub format: Format,
    /// Fields of the event that travel along.
    pub carry: Vec<Arc<str>>,
}

/// The two lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LaneName {
    /// The full model, for events where each answer counts.
    Precision,
    /// The distilled model, for volume.
    Throughput,
}

impl LaneName {
    /// Both, precision first.
    pub const ALL: [LaneName; 2] = [LaneName::Precision, LaneName::Throughput];

    /// The fixed string.
    pub fn as_str(self) -> &'static str {
        match self {
            LaneName::Precision => "precision",
            LaneName::Throughput => "throughput",
        }
    }
}

/// Which of a task's models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The precise one.
    Full,
    /// The light one.
    Distilled,
}

impl Variant {
    /// The fixed string.
    pub fn as_str(self) -> &'static str {
        match self {
            Variant::Full => "full",
            Variant::Distilled => "distilled",
        }
    }
}

/// What a model runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// ONNX Runtime's CPU execution provider.
    Cpu,
    /// ONNX Runtime's CUDA execution provider.
    Cuda,
}

impl Device {
    /// The fixed string.
    pub fn as_str(self) -> &'static str {
        match self {
            Device::Cpu => "cpu",
            Device::Cuda => "cuda",
        }
    }
}

/// A lane.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    /// Which.
    pub name: LaneName,
    /// Which of each task's models it runs.
    pub variant: Variant,
    /// Devices in order of preference; the first that works is used.
    pub devices: Vec<Device>,
    /// Events in one model run at most.
    pub max_batch: NonZeroUsize,
    /// Least time between the beginnings of two transactions.
    pub window: Duration,
    /// How long one model run may take.
    pub run_deadline: Duration,
    /// Whether its workers read mixed sources themselves, without the router.
    pub direct: bool,
    /// Partitions of each of its task topics.
    pub partitions: i32,
    /// Share of the events whose answers are compared with the CPU's, above 0 and at most 1.
    pub parity: Option<f64>,
    /// Model threads; without it from the CPU quota.
    pub model_threads: Option<NonZeroUsize>,
    /// The most that may be in flight in one worker.
    pub in_flight: InFlight,
    /// Indices of the tasks that some route sends here.
    pub tasks: Vec<usize>,
}

/// The most that may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Records.
    pub records: usize,
    /// Bytes.
    pub bytes: usize,
}

impl Plan {
    /// A lane, if the pipeline has it.
    pub fn lane(&self, name: LaneName) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.name == name)
    }

    /// The topic of one task in one lane.
    pub fn lane_topic(&self, lane: LaneName, task: usize) -> String {
        format!("{}.{}.{}", self.pipeline, lane.as_str(), self.tasks[task].name)
    }

    /// Consumer group of the router's stage for a lane.
    pub fn router_group(&self, lane: LaneName) -> String {
        format!("{}.router.{}", self.pipeline, lane.as_str())
    }

    /// Consumer group of a lane's workers.
    pub fn lane_group(&self, lane: LaneName) -> String {
        format!("{}.{}", self.pipeline, lane.as_str())
    }

    /// Whether a lane is the one that settles what belongs to none: skips, tombstones, and what no route takes. The last one,
    /// so that a flood of broken events never stands before the orders.
    pub fn owns_rest(&self, lane: LaneName) -> bool {
        self.lanes.last().is_some_and(|last| last.name == lane)
    }

    /// Whether a lane's workers read a source (its index) themselves, without the router.
    pub fn reads_itself(&self, lane: LaneName, source: usize) -> bool {
        let leads_here = |route: &Route| matches!(route.action, Action::Score { lane: to, .. } if to == lane);
        match self.sources[source].direct {
            Some(route) => leads_here(&self.routes[route]),
            None if !self.lane(lane).is_some_and(|lane| lane.direct) => false,
            None => {
                let leads = self.routes.iter().any(|route| route.source == source && leads_here(route));
                leads || self.owns_rest(lane)
            }
        }
    }

    /// A mixed source of which a lane's workers read several tasks themselves: an answer waits there for all that comes before
    /// it, whichever task that is of.
    pub fn reads_tasks_in_one_row(&self, lane: LaneName) -> Option<&Source> {
        let (_, source) = self.sources.iter().enumerate().find(|&(index, _)| {
            let mut tasks = self.routes.iter().filter(|route| route.source == index).filter_map(|route| {
                match route.action {
                    Action::Score { task, lane: to } if to == lane => Some(task),
                    _ => None,
                }
            });
            let first = tasks.next();
            self.reads_itself(lane, index) && tasks.any(|task| Some(task) != first)
        })?;
        Some(source)
    }

    /// Lanes that the router has a stage for; it reads every mixed source.
    pub fn routed_lanes(&self) -> impl Iterator<Item = &Lane> {
        let is_mixed = self.sources.iter().any(|source| source.direct.is_none());
        self.lanes.iter().filter(move |lane| is_mixed && !lane.direct)
    }

    /// Indices of the tasks that the router forwards to a lane.
    pub fn routed_tasks(&self, lane: LaneName) -> Vec<usize> {
        if !self.routed_lanes().any(|routed| routed.name == lane) {
            return Vec::new();
        }
        let mut tasks: Vec<_> = self
            .routes
            .iter()
            .enumerate()
            .filter(|(index, route)| self.sources[route.source].direct != Some(*index))
            .filter_map(|(_, route)| match route.action {
                Action::Score { task, lane: to } if to == lane => Some(task),
                _ => None,
            })
            .collect();
        tasks.sort_unstable();
        tasks.dedup();
        tasks
    }

    /// Whether anything needs the router.
    pub fn needs_router(&self) -> bool {
        self.routed_lanes().next().is_some()
    }

    /// Every topic that Twinlane writes, with its partitions.
    pub fn topics(&self) -> Vec<Topic> {
        let mut topics = vec![self.dead_letters.clone()];
        for lane in &self.lanes {
            for task in self.routed_tasks(lane.name) {
                let name = self.lane_topic(lane.name, task).into();
                topics.push(Topic { name, partitions: lane.partitions });
            }
        }
        for task in &self.tasks {
            if !topics.contains(&task.publish.topic) {
                topics.push(task.publish.topic.clone());
            }
        }
        topics
    }
}
