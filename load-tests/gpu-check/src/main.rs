//! Whether a GPU runs a pipeline's model rightly, and as fast as ONNX Runtime alone does: the same rows through a worker's
//! batcher, sessions and answers, with a source and a sink in this process and no Kafka.

mod bench;
mod change;
mod device;
mod parity;
mod quantile;
mod report;
mod texts;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use twinlane_inference::{ModelSource, OnnxRuntime};
use twinlane_pipeline::{Device, FeatureEncoder, Plan, Row, Task};

use crate::report::{Report, Variant};

/// Check a model on a GPU: its scores against those of a CPU, and a worker's speed against ONNX Runtime's own.
#[derive(Debug, Parser)]
#[command(name = "gpu-check")]
struct Args {
    /// Pipeline file whose first task is checked
    #[arg(long, value_name = "FILE")]
    pipeline: PathBuf,
    /// Events as JSON lines; those with `expected`, a score by label, are compared
    #[arg(long, value_name = "FILE")]
    events: PathBuf,
    /// Model, by the name that the report gives it; again for another one
    #[arg(long, value_name = "NAME=FILE", required = true, value_parser = named)]
    model: Vec<(String, PathBuf)>,
    /// `cuda`, or `cpu` for what the GPU is compared with
    #[arg(long, default_value = "cuda", value_parser = ["cuda", "cpu"])]
    device: String,
    /// ONNX Runtime's shared library
    #[arg(long, value_name = "FILE")]
    onnxruntime: PathBuf,
    /// Batch sizes
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8,16,32,64,128,256")]
    batches: Vec<usize>,
    /// How long each figure is measured
    #[arg(long, value_name = "S", default_value_t = 1.5)]
    seconds: f64,
    /// Threads, each with a session of its own [default: 2 on a GPU, 1 on a CPU]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Most that a score may differ from the expected one
    #[arg(long, value_name = "X", default_value_t = 0.01)]
    tolerance: f64,
    /// Measure ONNX Runtime alone over every batch and sequence length of a grid, too
    #[arg(long)]
    grid: bool,
    /// MiB of GPU memory that each session may take
    #[arg(long, value_name = "N")]
    session_mib: Option<usize>,
    /// Where the report goes
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
}

fn named(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("write NAME=FILE")?;
    Ok((name.to_owned(), file.into()))
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_env_filter("warn,twinlane_inference=info,ort::logging=error")
        .init();
    match check(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("gpu-check: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// What is checked: one task, on one device.
struct Subject<'a> {
    runtime: OnnxRuntime,
    task: &'a Task,
    encoder: FeatureEncoder,
    devices: [Device; 1],
    threads: usize,
    seconds: Duration,
}

impl Subject<'_> {
    fn source<'s>(&'s self, model: &'s Path, max_batch: usize) -> ModelSource<'s> {
        ModelSource {
            task: &self.task.name,
            path: model,
            inputs: self.encoder.specs(),
            outputs: &self.task.outputs,
            places: None,
            devices: &self.devices,
            max_batch,
            parity: None,
            sha256: None,
        }
    }
}

/// Whether all that was compared agrees.
fn check(args: &Args) -> Result<bool> {
    let text =
        std::fs::read_to_string(&args.pipeline).with_context(|| args.pipeline.display().to_string())?;
    let plan = Plan::parse(&text, &args.pipeline.display().to_string())?;
    let Some(task) = plan.tasks.first() else { bail!("the pipeline has no task") };
    let folder = args.pipeline.parent().unwrap_or(Path::new("."));
    let encoder = FeatureEncoder::new(task, &|file| std::fs::read_to_string(folder.join(file)))?;
    let device = if args.device == "cuda" { Device::Cuda } else { Device::Cpu };
    let subject = Subject {
        runtime: OnnxRuntime::load(Some(&args.onnxruntime))?
            .with_gpu_memory(args.session_mib.map(|mib| mib << 20)),
        task,
        threads: args.threads.unwrap_or(if device == Device::Cuda { 2 } else { 1 }),
        encoder,
        devices: [device],
        seconds: Duration::from_secs_f64(args.seconds),
    };
    let events = texts::read(&args.events)?;
    eprintln!("{} events", events.len());
    let (rows, encoding) = texts::encode(&subject.encoder, &events)?;
    let mut report = Report::new(device::describe(device), &args.onnxruntime, &rows, encoding);
    let mut agrees = true;
    for (name, model) in &args.model {
        let mut variant = Variant::default();
        // A model that fails must not cost what the others show.
        let outcome = one(&subject, name, model, args, &events, &rows, &mut variant);
        if let Err(error) = &outcome {
            eprintln!("{name}: {error:#}");
            variant.error = Some(format!("{error:#}"));
        }
        agrees &= outcome.unwrap_or(false);
        report.variants.insert(name.clone(), variant);
        report.write(&args.json)?;
    }
    report.print();
    Ok(agrees)
}

fn one(
    subject: &Subject<'_>,
    name: &str,
    model: &Path,
    args: &Args,
    events: &[texts::Event],
    rows: &[Row],
    variant: &mut Variant,
) -> Result<bool> {
    eprintln!("{name}: scores");
    variant.parity = parity::check(subject, name, model, events, rows, args.tolerance)?;
    if args.grid {
        variant.grid = bench::grid(subject, model, rows, &args.batches)?;
        variant.grid.iter().for_each(|cell| eprintln!("  {cell:?}"));
    }
    eprintln!("{name}: changes of the model");
    let change = change::under_load(subject, model, rows)?;
    eprintln!("  {change:?}");
    variant.change = Some(change);
    for &batch in &args.batches {
        eprintln!("{name}: batches of {batch}");
        let line = bench::batch(subject, model, rows, batch)?;
        eprintln!("  {}", line.summary());
        variant.batches.push(line);
    }
    Ok(variant.parity.as_ref().is_none_or(|parity| parity.agrees))
}
