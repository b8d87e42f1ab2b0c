//! ONNX Runtime alone.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use twinlane_inference::{Bare, ModelSource, OnnxRuntime};
use twinlane_pipeline::{Device, FeatureEncoder, Plan, Row, Variant};
use twinlane_record::{EventDecoder, Format, SchemaFolder};
use twinlane_testkit::cache;
use twinlane_testkit::client::Follower;

use super::{Pace, QUIET, Stretch};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Pipeline file with one source, whose events go to the task.
    #[arg(long)]
    pipeline: PathBuf,
    #[arg(long)]
    schemas: PathBuf,
    #[arg(long)]
    brokers: String,
    #[arg(long)]
    task: String,
    /// `full` or `distilled`.
    #[arg(long)]
    variant: String,
    /// Events in a batch.
    #[arg(long)]
    batch: usize,
    /// How many events the source has.
    #[arg(long)]
    records: usize,
    /// How many different events the batches are made of, taken evenly from all of the source: histories grow with it, and
    /// with them the cost of an event.
    #[arg(long, default_value_t = 4096)]
    events: usize,
    /// How long it runs.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

/// Runs the model on events of the pipeline's source.
pub(crate) fn run(arguments: &Arguments) -> Result<Pace> {
    let text = std::fs::read_to_string(&arguments.pipeline).context("reading the pipeline file")?;
    let plan = Plan::parse(&text, &arguments.pipeline.display().to_string())?;
    let folder = arguments.pipeline.parent().context("a file lies in a folder")?;
    let task = plan.tasks.iter().find(|task| *task.name == *arguments.task).context("no such task")?;
    let variant = [Variant::Full, Variant::Distilled].into_iter().find(|v| v.as_str() == arguments.variant);
    let model = task.models.get(variant.context("no such variant")?).context("the task has no such model")?;
    let encoder = FeatureEncoder::new(task, &|file| std::fs::read_to_string(folder.join(file)))?;
    let rows = rows(arguments, &plan, &encoder)?;

    let library = cache::setting("ORT_DYLIB_PATH").map(PathBuf::from);
    let runtime = OnnxRuntime::load(library.as_deref())?;
    let path = folder.join(&model.file);
    let source = ModelSource {
        task: &task.name,
        path: &path,
        inputs: encoder.specs(),
        outputs: &task.outputs,
        places: None,
        devices: &[Device::Cpu],
        max_batch: arguments.batch,
        parity: None,
        sha256: None,
    };
    let mut bare = Bare::load(&runtime, &source)?;
    bare.pack(&rows, arguments.batch);
    bare.run_one(0)?;

    let mut stretch = Stretch::of(std::process::id());
    let (mut done, end) = (0, Instant::now() + Duration::from_secs_f64(arguments.seconds));
    stretch.at(done)?;
    let mut at = 0;
    while Instant::now() < end {
        done += bare.run_one(at)? as u64;
        at += 1;
    }
    stretch.at(done)?;
    stretch.pace()
}

/// Events of the source, as a worker would give them to the model.
fn rows(arguments: &Arguments, plan: &Plan, encoder: &FeatureEncoder) -> Result<Vec<Row>> {
    let source = plan.sources.first().context("the pipeline has no source")?;
    let decoder = match source.format {
        Format::Avro => EventDecoder::avro(&SchemaFolder::open(&arguments.schemas)?, &source.schemas)?,
        Format::Json => EventDecoder::json(),
    };
    let follower = Follower::from_beginning(&arguments.brokers, &[&source.topic])?;
    let each = (arguments.records / arguments.events).max(1);
    let (mut rows, mut seen, mut last) = (Vec::new(), 0, Instant::now());
    while seen < arguments.records && last.elapsed() < QUIET {
        let row = follower.next(Duration::from_millis(200), |record| {
            seen += 1;
            if seen % each != 0 {
                return None;
            }
            let event = decoder.decode(record.value().unwrap_or_default()).ok()?;
            encoder.encode(&event.value).ok()
        })?;
        if let Some(row) = row {
            last = Instant::now();
            rows.extend(row);
        }
    }
    ensure!(!rows.is_empty(), "no event of {} can be encoded", source.topic);
    Ok(rows)
}
