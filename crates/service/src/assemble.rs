//! Puts stages together: from a pipeline file and settings to work that can run.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use twinlane_delivery::{DeadLetterLimit, Limits};
use twinlane_inference::{
    Error as InferenceError, Model, ModelSource, OnnxRuntime, Results, Sessions, default_threads,
};
use twinlane_kafka::{BelowStart, ConsumerOptions, TopicFacts, Topics};
use twinlane_pipeline::{self as pipeline, FeatureEncoder, LaneName, Plan};
use twinlane_record::{Format, SchemaFolder, ScoredEventCodec};
use twinlane_runtime::{
    Answers, ModelIdentity, Pending, Router, Sampling, SchemaLookup, Scorer, Sources, StageOptions, TaskParts,
};

use crate::{Failure, Settings, registry::SchemaRegistry, settings};

/// A pipeline file with the folder that its paths are relative to, and the schemas.
pub struct LoadedPipeline {
    /// The checked file.
    pub plan: Plan,
    /// The schema folder, and what it lacked.
    pub schemas: SchemaFolder,
    folder: PathBuf,
    registry: Option<SchemaRegistry>,
}

/// The most bytes that one transaction holds; a transaction must fit its time-out on a slow network.
const WINDOW_BYTES: usize = 24 << 20;

impl LoadedPipeline {
    /// Reads and checks the settings' pipeline file, schemas and rules; no Kafka, no models. A schema that the folder
    /// lacks is asked of the registry, if there is one: once.
    pub fn load(settings: &Settings) -> Result<Self, Failure> {
        Self::with(settings, SchemaRegistry::of(&settings.registry)?)
    }

    /// As [`LoadedPipeline::load`], and waits for a registry that is away.
    pub(crate) fn load_patiently(settings: &Settings) -> Result<Self, Failure> {
        Self::with(settings, SchemaRegistry::of(&settings.registry)?.map(SchemaRegistry::patient))
    }

    fn with(settings: &Settings, registry: Option<SchemaRegistry>) -> Result<Self, Failure> {
        let file = &settings.pipeline;
        let text = std::fs::read_to_string(file)
            .map_err(|e| Failure::Invalid(format!("pipeline file {}: {e}", file.display())))?;
        let plan = Plan::parse(&text, &file.display().to_string()).map_err(invalid)?;
        let schemas = schemas(&plan, &settings.schemas, registry.as_ref())?;
        let folder = file.parent().unwrap_or(Path::new(".")).to_owned();
        let loaded = Self { plan, schemas, folder, registry };
        // Compiles every rule, so that an unknown name is refused before anything starts.
        loaded.sources()?;
        Ok(loaded)
    }

    /// Who is asked for schemas that the folder lacks.
    pub(crate) fn registry(&self) -> Option<&SchemaRegistry> {
        self.registry.as_ref()
    }

    /// A path of the pipeline file.
    pub fn path(&self, relative: &Path) -> PathBuf {
        self.folder.join(relative)
    }

    /// Decoders and rules of every source.
    pub fn sources(&self) -> Result<Sources, Failure> {
        Ok(Sources::build(&self.plan, &self.schemas)?.looking_up(self.registry.is_some()))
    }

    /// Compiles a task's inputs with its vocabularies.
    pub fn encoder(&self, task: usize) -> Result<FeatureEncoder, Failure> {
        let read = |file: &Path| std::fs::read_to_string(self.path(file));
        FeatureEncoder::new(&self.plan.tasks[task], &read).map_err(invalid)
    }

    /// How a task's answers are written.
    fn codec(&self, task: usize) -> Result<ScoredEventCodec, Failure> {
        let publish = &self.plan.tasks[task].publish;
        match (publish.format, &self.registry) {
            (Format::Avro, Some(registry)) => registry.codec(&publish.topic.name, &self.schemas),
            (format, _) => ScoredEventCodec::new(format, &self.schemas).map_err(invalid),
        }
    }

    fn topics_to_write(&self, lane: LaneName, router: bool) -> Vec<pipeline::Topic> {
        let plan = &self.plan;
        let mut topics = vec![plan.dead_letters.clone()];
        let Some(of_lane) = plan.lane(lane) else { return topics };
        if router {
            let routed = plan.routed_tasks(lane).into_iter();
            topics.extend(routed.map(|task| pipeline::Topic {
                name: plan.lane_topic(lane, task).into(),
                partitions: of_lane.partitions,
            }));
        } else {
            topics.extend(of_lane.tasks.iter().map(|&task| plan.tasks[task].publish.topic.clone()));
        }
        topics
    }

    /// Creates the topics of the pipeline that Twinlane writes and that do not exist yet.
    pub fn create_topics(&self, topics: &Topics) -> Result<Vec<Arc<str>>, Failure> {
        let (dead, others): (Vec<_>, Vec<_>) = self
            .plan
            .topics()
            .into_iter()
            .map(|t| (t.name, t.partitions))
            .partition(|(name, _)| *name == self.plan.dead_letters.name);
        // A dead letter is its event and some headers: it must fit where the event did.
        let mut created = topics.create_missing(&dead, &[("max.message.bytes", "2097152")])?;
        created.extend(topics.create_missing(&others, &[])?);
        Ok(created)
    }

    /// Facts of the topics that a stage writes, held to the plan; its sources must exist too.
    fn facts(
        &self,
        topics: &Topics,
        lane: LaneName,
        router: bool,
        reads: &[(Arc<str>, BelowStart)],
    ) -> Result<HashMap<Arc<str>, TopicFacts>, Failure> {
        let planned = self.topics_to_write(lane, router);
        let names: Vec<_> =
            planned.iter().map(|t| t.name.clone()).chain(reads.iter().map(|r| r.0.clone())).collect();
        let facts = topics.describe(&names)?;
        for topic in planned {
            let found = facts.get(&topic.name).map_or(0, |f| f.partitions);
            if found != topic.partitions {
                let (topic, planned) = (topic.name.to_string(), topic.partitions);
                return Err(twinlane_kafka::Error::Partitions { topic, found, planned }.into());
            }
        }
        Ok(facts)
    }

    /// The router's stage for one lane.
    pub(crate) fn router(
        &self,
        settings: &Settings,
        topics: &Topics,
        lane: LaneName,
        lookup: Option<SchemaLookup>,
    ) -> Result<(StageOptions, Router), Failure> {
        let plan = &self.plan;
        let stage = format!("router.{}", lane.as_str());
        let reads: Vec<_> = plan.sources.iter().filter(|s| s.direct.is_none()).map(reads).collect();
        let facts = self.facts(topics, lane, true, &reads)?;
        let max_batch_bytes = least_limit(&facts);
        let answers = Answers::new(stage.as_str(), plan.dead_letters.name.clone(), facts)?;
        let work = Router::new(plan, lane, self.sources()?, answers)?.with_timings(settings.timings);
        let group = plan.router_group(lane);
        let instance_id = Some(settings.transactional_id(&plan.pipeline, &stage));
        let consumer = ConsumerOptions { client_id: stage.clone(), group, instance_id, topics: reads };
        let options = self.options(settings, lane, stage, consumer, max_batch_bytes);
        Ok((StageOptions { schemas: lookup, ..options }, work))
    }

    /// A lane's worker, its models loaded and warm.
    pub(crate) fn worker(
        &self,
        settings: &Settings,
        topics: &Topics,
        lane: LaneName,
        lookup: Option<SchemaLookup>,
    ) -> Result<(StageOptions, Scorer, Serving), Failure> {
        let plan = &self.plan;
        let of_lane = plan.lane(lane).ok_or_else(|| {
            Failure::Invalid(format!(
                "the pipeline has no {} lane; this worker has nothing to do",
                lane.as_str()
            ))
        })?;
        let stage = lane.as_str().to_owned();
        let mut topics_read: Vec<(Arc<str>, BelowStart)> = plan
            .routed_tasks(lane)
            .into_iter()
            .map(|task| (plan.lane_topic(lane, task).into(), BelowStart::Stop))
            .collect();
        let themselves = plan.sources.iter().enumerate().filter(|(index, _)| plan.reads_itself(lane, *index));
        topics_read.extend(themselves.map(|(_, source)| reads(source)));
        let facts = self.facts(topics, lane, false, &topics_read)?;
        let max_batch_bytes = least_limit(&facts);
        let answers = Answers::new(stage.as_str(), plan.dead_letters.name.clone(), facts)?;
        let prepared = models(self, settings, lane)?;
        let (identities, threads) = (prepared.identities.clone(), prepared.per_thread.len());
        let sessions = Sessions::start(prepared.per_thread)?;
        tracing::info!(stage, threads, "models warm");
        let mut parts = Vec::new();
        for &task in &of_lane.tasks {
            parts.push(TaskParts { task, encoder: self.encoder(task)?, codec: self.codec(task)? });
        }
        let (successors, arrive) = crossbeam_channel::unbounded();
        let serving = Serving {
            results: sessions.successor(),
            identities: identities.clone(),
            sound: prepared.sound,
            successors,
        };
        let models = twinlane_runtime::Models { sessions, identities };
        let work = Scorer::new(plan, lane, parts, self.sources()?, models, arrive, answers)?
            .with_timings(settings.timings);
        let group = plan.lane_group(lane);
        let instance_id = Some(settings.transactional_id(&plan.pipeline, &stage));
        let consumer = ConsumerOptions { client_id: stage.clone(), group, instance_id, topics: topics_read };
        let options = self.options(settings, lane, stage, consumer, max_batch_bytes);
        Ok((StageOptions { schemas: lookup, ..options }, work, serving))
    }

    fn options(
        &self,
        settings: &Settings,
        lane: LaneName,
        stage: String,
        consumer: ConsumerOptions,
        max_batch_bytes: usize,
    ) -> StageOptions {
        let of_lane = self.plan.lane(lane);
        StageOptions {
            transactional_id: settings.transactional_id(&self.plan.pipeline, &stage),
            consumer,
            max_batch_bytes,
            stage,
            delivery: twinlane_delivery::Options {
                window_floor: of_lane.map_or_else(Default::default, |l| l.window),
                window_bytes: WINDOW_BYTES,
                dead_letter_limit: Some(DeadLetterLimit {
                    consecutive: self.plan.dead_letter_limit.consecutive.get(),
                    ratio: self.plan.dead_letter_limit.ratio,
                }),
            },
            limits: of_lane.map_or(Limits { records: 20_000, bytes: 64 << 20 }, |l| Limits {
                records: l.in_flight.records,
                bytes: l.in_flight.bytes,
            }),
            timings: settings.timings,
            traces: settings.traces.otlp.as_ref().map(|_| Sampling {
                roots: self.plan.sources.iter().map(|source| source.topic.clone()).collect(),
                share: settings.traces.sample,
            }),
            schemas: None,
        }
    }
}

/// The schema folder, completed from the registry with the newest version of each subject that a source names.
fn schemas(plan: &Plan, folder: &Path, registry: Option<&SchemaRegistry>) -> Result<SchemaFolder, Failure> {
    let avro = plan.sources.iter().map(|source| source.format);
    let mut avro = avro.chain(plan.tasks.iter().map(|task| task.publish.format));
    if !avro.any(|format| format == Format::Avro) {
        // JSON alone needs no schemas, and no folder for them.
        return Ok(SchemaFolder::default());
    }
    let Some(registry) = registry else { return SchemaFolder::open(folder).map_err(invalid) };
    let mut schemas = match folder.join("index.json").exists() {
        true => SchemaFolder::open(folder).map_err(invalid)?,
        false => SchemaFolder::default(),
    };
    for subject in plan.sources.iter().flat_map(|source| &source.schemas) {
        if schemas.latest(subject).is_none() {
            let (entry, text) = registry.latest(subject)?;
            tracing::info!(%subject, id = entry.id, version = entry.version, "read as the registry's newest version");
            schemas.add(entry, &text).map_err(invalid)?;
        }
    }
    Ok(schemas)
}

/// What runs in a lane, for whoever is to put something else in its place.
pub(crate) struct Serving {
    pub(crate) results: Results<Box<Pending>>,
    pub(crate) identities: Vec<ModelIdentity>,
    /// Whether all of them answer made-up rows.
    pub(crate) sound: bool,
    pub(crate) successors: crossbeam_channel::Sender<twinlane_runtime::Models>,
}

/// Models of a lane, loaded and held to the pipeline, and not warm yet.
pub(crate) struct Prepared {
    /// For each thread one for every task.
    pub(crate) per_thread: Vec<Vec<Model>>,
    pub(crate) identities: Vec<ModelIdentity>,
    pub(crate) sound: bool,
}

/// The files of a lane's models, in the order of its tasks, with what each must hold.
pub(crate) fn model_files(
    loaded: &LoadedPipeline,
    lane: LaneName,
) -> Result<Vec<(PathBuf, Option<&str>)>, Failure> {
    let Some(of_lane) = loaded.plan.lane(lane) else { return Ok(Vec::new()) };
    let file = |&index: &usize| {
        let task = &loaded.plan.tasks[index];
        let model = task.models.get(of_lane.variant).ok_or_else(|| {
            Failure::Invalid(format!("task `{}` has no {} model", task.name, of_lane.variant.as_str()))
        })?;
        Ok((loaded.path(&model.file), model.sha256.as_deref()))
    };
    of_lane.tasks.iter().map(file).collect()
}

/// Loads the models of a lane and checks each against the pipeline.
pub(crate) fn models(
    loaded: &LoadedPipeline,
    settings: &Settings,
    lane: LaneName,
) -> Result<Prepared, Failure> {
    let of_lane = loaded.plan.lane(lane).ok_or_else(|| Failure::Invalid("the lane has no models".into()))?;
    let threads = |device| of_lane.model_threads.map_or_else(|| default_threads(device), usize::from);
    let library = settings.onnxruntime.clone().or_else(settings::ort_dylib_path);
    let runtime = OnnxRuntime::load(library.as_deref())?
        .with_gpu_memory(settings.gpu_session_mib.map(|mib| mib.saturating_mul(1 << 20)));
    let (mut of_tasks, mut sound) = (Vec::new(), true);
    for (&index, (file, sha256)) in of_lane.tasks.iter().zip(model_files(loaded, lane)?) {
        let task = &loaded.plan.tasks[index];
        allowed(&file, settings.max_model_mib)?;
        let encoder = loaded.encoder(index)?;
        let source = ModelSource {
            task: &task.name,
            path: &file,
            inputs: encoder.specs(),
            outputs: &task.outputs,
            places: Some(&task.places),
            devices: &of_lane.devices,
            max_batch: of_lane.max_batch.get(),
            parity: of_lane.parity,
            sha256,
        };
        let mut models = Model::load_for(&runtime, source, threads)?;
        if let Some(model) = models.first_mut() {
            let task = task.name.to_string();
            sound &= model.is_sound().map_err(|source| InferenceError::WarmUp { task, batch: 1, source })?;
        }
        of_tasks.push(models);
    }
    let identity = |model: &Model| ModelIdentity {
        digest: model.digest().clone(),
        device: model.device().as_str().into(),
    };
    let identities = of_tasks.iter().filter_map(|models| models.first().map(identity)).collect();
    // Those of one task may have been given another device, and more threads.
    let threads = of_tasks.iter().map(Vec::len).min().unwrap_or(0);
    let mut per_thread: Vec<Vec<Model>> = (0..threads).map(|_| Vec::new()).collect();
    for models in of_tasks {
        per_thread.iter_mut().zip(models).for_each(|(thread, model)| thread.push(model));
    }
    Ok(Prepared { per_thread, identities, sound })
}

fn allowed(file: &Path, most_mib: Option<u64>) -> Result<(), Failure> {
    let mib = std::fs::metadata(file).map_or(0, |found| found.len() >> 20);
    match most_mib.filter(|most| mib > *most) {
        None => Ok(()),
        Some(most) => Err(Failure::Invalid(format!(
            "model {} has {mib} MiB, and `max_model_mib` allows {most}",
            file.display()
        ))),
    }
}

fn least_limit(facts: &HashMap<Arc<str>, TopicFacts>) -> usize {
    facts.values().map(|facts| facts.max_message_bytes).min().unwrap_or(usize::MAX)
}

fn reads(source: &pipeline::Source) -> (Arc<str>, BelowStart) {
    let below = match source.when_below_start {
        pipeline::BelowStart::Stop => BelowStart::Stop,
        pipeline::BelowStart::Earliest => BelowStart::Earliest,
    };
    (source.topic.clone(), below)
}

fn invalid(error: impl std::fmt::Display) -> Failure {
    Failure::Invalid(error.to_string())
}
