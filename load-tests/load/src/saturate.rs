//! Drains, each held against its limits: ONNX Runtime alone on the events of the drain, and a bare transactional loop
//! over the same records. Limits and service run one after the other on the same core, against the same broker.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use twinlane_testkit::process::Process;
use twinlane_testkit::{Broker, client, wait};

use crate::cores::Cores;
use crate::drain::{Drain, Drained, Filled};
use crate::limit::Pace;
use crate::plot::Plot;
use crate::progress::say;
use crate::report::{Ratio, Report};
use crate::services::How;
use crate::tool::Tool;
use crate::workload::{PARTITIONS, SOURCE};

/// Batches that are tried for ONNX Runtime alone.
const BATCHES: [usize; 8] = [1, 4, 8, 16, 32, 64, 128, 256];
/// Windows that are tried for the bare loop, beside the one that the service used.
const WINDOWS: [u64; 3] = [1000, 4000, 16_000];
/// A limit of ours that is slower than this part of librdkafka's own tool is none.
const AS_THE_TOOL: f64 = 0.85;
/// A limit that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(180);

/// Where everything lies.
pub(crate) struct Place<'a> {
    pub(crate) binaries: &'a Path,
    /// The reference data.
    pub(crate) data: &'a Path,
    pub(crate) out: &'a Path,
    pub(crate) cores: &'a Cores,
    /// The broker of everything but drains, each of which has its own.
    pub(crate) broker: Option<&'a Broker>,
    pub(crate) interrupted: &'a Arc<AtomicBool>,
}

/// Measures one drain and its limits, into the report.
pub(crate) fn measure(drain: &Drain, place: &Place<'_>, report: &mut Report) -> Result<()> {
    let name = &drain.name;
    let folder = tempfile::tempdir().context("creating a folder")?;
    let routes = drain.routes.unwrap_or(drain.workload.routes());
    let pipeline = drain.workload.write(folder.path(), routes)?;
    say(&format!("{name}: filling a topic with {} events", drain.events));
    let filled = Filled::start(drain, place.cores, place.data)?;
    say(&format!("{name}: {} on core {}", drain.workload.service(), place.cores.measured));
    let how = How {
        binaries: place.binaries,
        pipeline: &pipeline,
        brokers: filled.broker.bootstrap(),
        logs: &place.out.join("logs"),
        prefix: &place.cores.pinned(),
        timings: false,
    };
    let drained = filled.drain(drain, how, place.interrupted)?;
    note_drained(drain, &drained, &pipeline, report)?;
    if drain.alone {
        return Ok(());
    }

    if drain.of_onnx_runtime.is_some() {
        let best = onnx_runtime(drain, &drained, &pipeline, &filled, place, report)?;
        add_ratios(name, "onnx_runtime", drain.of_onnx_runtime, drained.pace, best, report);
    }
    // What a model makes slower by orders of magnitude says nothing of Kafka's limits.
    if drain.of_transactions.is_none() && !drain.against_the_tool {
        return Ok(());
    }
    let plain = plain(drain, &filled, place, report)?;
    if drain.against_the_tool {
        against_the_tool(drain, &drained, plain, &filled, place, report)?;
    }
    let best = transactions(drain, &drained, &filled, place, report)?;
    add_ratios(name, "transactions", drain.of_transactions, drained.pace, best, report);
    Ok(())
}

fn note_drained(drain: &Drain, drained: &Drained, pipeline: &Path, report: &mut Report) -> Result<()> {
    let name = &drain.name;
    note_pace(name, drained.pace, report);
    report.figure(format!("{name}.bytes_in"), drained.bytes_in);
    report.figure(format!("{name}.bytes_out"), drained.bytes_out);
    let resident = drained.resident as f64 / f64::from(1 << 20);
    report.figure(format!("{name}.resident_mib"), resident);
    if let Some(model) = drain.workload.model_bytes(pipeline)? {
        report
            .figure(format!("{name}.resident_less_model_mib"), resident - model as f64 / f64::from(1 << 20));
    }
    report.figure(format!("{name}.first_answer_after_s"), drained.first_answer.as_secs_f64());
    if let Some(batch) = drained.batch {
        report.figure(format!("{name}.mean_batch"), batch);
    }
    if let Some(window) = drained.window {
        report.figure(format!("{name}.mean_window"), window);
    }
    report.plots.push(Plot {
        title: format!("{name}: events answered"),
        x: "seconds since the service was started".into(),
        y: "events".into(),
        lines: vec![("answered".into(), drained.course.clone())],
    });
    Ok(())
}

fn note_pace(name: &str, pace: Pace, report: &mut Report) {
    report.figure(format!("{name}.events_per_s"), pace.per_second());
    report.figure(format!("{name}.events_per_cpu_s"), pace.per_cpu_second());
}

/// Both ways to compare: what an event costs, and how fast it goes on one core.
fn add_ratios(
    name: &str,
    of: &str,
    target: Option<f64>,
    is: Pace,
    best: (String, Pace),
    report: &mut Report,
) {
    let Some(target) = target else { return };
    let (baseline, limit) = best;
    for (way, value, at) in [
        ("cpu", is.per_cpu_second() / limit.per_cpu_second(), limit.per_cpu_second()),
        ("wall", is.per_second() / limit.per_second(), limit.per_second()),
    ] {
        let unit = if way == "cpu" { "events per CPU-second" } else { "events/s on one core" };
        let baseline = format!("{baseline}: {at:.0} {unit}");
        report.ratios.insert(format!("{name}.of_{of}.{way}"), Ratio::at_least(target, Some(value), baseline));
    }
}

/// The best batch of those that are tried and the one that the worker used.
fn onnx_runtime(
    drain: &Drain,
    drained: &Drained,
    pipeline: &Path,
    filled: &Filled,
    place: &Place<'_>,
    report: &mut Report,
) -> Result<(String, Pace)> {
    let name = &drain.name;
    let (task, variant) = drain.workload.model().context("this workload runs no model")?;
    let used = drained.batch.map(|batch| batch.round().max(1.0) as usize);
    let mut line = Vec::new();
    let mut best: Option<(String, Pace)> = None;
    for batch in BATCHES.into_iter().chain(used.filter(|used| !BATCHES.contains(used))) {
        let arguments = [
            ["--pipeline", &pipeline.to_string_lossy()],
            ["--schemas", "schemas"],
            ["--brokers", filled.broker.bootstrap()],
            ["--task", task],
            ["--variant", variant],
            ["--batch", &batch.to_string()],
            ["--records", &drain.events.to_string()],
        ];
        let pace = limit("model", arguments.as_flattened(), place)?;
        say(&format!("{name}: ONNX Runtime alone, batch {batch}: {:.0} events/s", pace.per_second()));
        line.push((batch as f64, pace.per_second()));
        if used == Some(batch) {
            note_pace(&format!("{name}.onnx_runtime_at_the_workers_batch"), pace, report);
        }
        if best.as_ref().is_none_or(|(_, best)| pace.per_second() > best.per_second()) {
            best = Some((format!("ONNX Runtime alone, {task} {variant}, batch {batch}"), pace));
        }
    }
    line.sort_by(|a, b| a.0.total_cmp(&b.0));
    report.plots.push(Plot {
        title: format!("{name}: ONNX Runtime alone, one thread"),
        x: "batch".into(),
        y: "events/s".into(),
        lines: vec![("ONNX Runtime".into(), line)],
    });
    let best = best.context("batches were tried")?;
    note_pace(&format!("{name}.onnx_runtime"), best.1, report);
    Ok(best)
}

/// A consumer of what the service read, and a producer of what it wrote, each alone and without transactions.
fn plain(drain: &Drain, filled: &Filled, place: &Place<'_>, report: &mut Report) -> Result<Plain> {
    let (name, bootstrap, records) = (&drain.name, filled.broker.bootstrap(), drain.events.to_string());
    let consume = [["--brokers", bootstrap], ["--from", SOURCE], ["--records", &records]];
    let consumer = limit("consume", consume.as_flattened(), place)?;
    say(&format!("{name}: a plain consumer: {:.0} events/s", consumer.per_second()));
    note_pace(&format!("{name}.plain_consumer"), consumer, report);
    let to = client::unique("limit");
    client::create_topic(bootstrap, &to, PARTITIONS, &[])?;
    let mut produce = vec![["--brokers", bootstrap], ["--to", &to], ["--records", &records]];
    produce.extend(drain.workload.outputs().iter().map(|like| ["--like", like]));
    let producer = limit("produce", produce.as_flattened(), place)?;
    say(&format!("{name}: a plain producer: {:.0} events/s", producer.per_second()));
    note_pace(&format!("{name}.plain_producer"), producer, report);
    Ok(Plain { consumer, producer })
}

/// How fast a plain consumer and a plain producer are.
struct Plain {
    consumer: Pace,
    producer: Pace,
}

/// Our plain consumer and producer as a part of librdkafka's own tool, on the same core.
fn against_the_tool(
    drain: &Drain,
    drained: &Drained,
    plain: Plain,
    filled: &Filled,
    place: &Place<'_>,
    report: &mut Report,
) -> Result<()> {
    let (name, bootstrap) = (&drain.name, filled.broker.bootstrap());
    let tool = Tool::build(place.binaries)?;
    let consumed = tool.consume(bootstrap, SOURCE, drain.events, place)?;
    let to = client::unique("limit");
    client::create_topic(bootstrap, &to, PARTITIONS, &[])?;
    let produced = tool.produce(bootstrap, &to, drained.bytes_out.round() as usize, drain.events, place)?;
    say(&format!("{name}: librdkafka's tool consumes {consumed:.0} and produces {produced:.0} records/s"));
    for (what, ours, theirs) in
        [("consumer", plain.consumer, consumed), ("producer", plain.producer, produced)]
    {
        report.figure(format!("{name}.tool_{what}.events_per_s"), theirs);
        let baseline = format!("librdkafka's rdkafka_performance: {theirs:.0} records/s on one core");
        let ratio = Ratio::at_least(AS_THE_TOOL, Some(ours.per_second() / theirs), baseline);
        report.ratios.insert(format!("{name}.plain_{what}.of_the_tool"), ratio);
    }
    Ok(())
}

/// The best window of those that are tried and the one that the service used.
fn transactions(
    drain: &Drain,
    drained: &Drained,
    filled: &Filled,
    place: &Place<'_>,
    report: &mut Report,
) -> Result<(String, Pace)> {
    let name = &drain.name;
    let bootstrap = filled.broker.bootstrap();
    let used = drained.window.map(|window| window.round().max(1.0) as u64);
    let mut best: Option<(String, Pace)> = None;
    for window in WINDOWS.into_iter().chain(used) {
        let (records, size) = (drain.events.to_string(), window.to_string());
        let mut arguments =
            vec![["--brokers", bootstrap], ["--from", SOURCE], ["--records", &records], ["--window", &size]];
        let like = drain.workload.outputs();
        let to: Vec<_> = like.iter().map(|_| client::unique("limit")).collect();
        for (to, like) in to.iter().zip(like) {
            client::create_topic(bootstrap, to, PARTITIONS, &[])?;
            arguments.extend([["--to", to], ["--like", like]]);
        }
        let pace = limit("transactions", arguments.as_flattened(), place)?;
        say(&format!("{name}: bare transactions of {window} records: {:.0} events/s", pace.per_second()));
        if used == Some(window) {
            note_pace(&format!("{name}.transactions_at_the_services_window"), pace, report);
        }
        if best.as_ref().is_none_or(|(_, best)| pace.per_second() > best.per_second()) {
            best = Some((format!("a bare transactional loop, {window} records a transaction"), pace));
        }
    }
    let best = best.context("windows were tried")?;
    note_pace(&format!("{name}.transactions"), best.1, report);
    Ok(best)
}

/// Runs a limit in a process of its own on the measured core.
fn limit(which: &str, arguments: &[&str], place: &Place<'_>) -> Result<Pace> {
    let program = std::env::current_exe().context("asking where this program lies")?;
    let [taskset, flag, core] = place.cores.pinned();
    let output = tempfile::NamedTempFile::new().context("creating a file")?;
    let mut command = Command::new(taskset);
    command.args([flag, core]).arg(program).args(["limit", which]).args(arguments);
    let mut process = Process::start(which, command, output.path(), None)?;
    let interrupted = || place.interrupted.load(Ordering::SeqCst);
    let ended = wait::until(LIMIT, || process.ended().or_else(|| interrupted().then(String::new)));
    ensure!(!interrupted(), "interrupted; everything is stopped");
    let text = std::fs::read_to_string(output.path()).context("reading what a limit says")?;
    if ended.is_none() {
        bail!("the limit `{which}` does not end:\n{text}");
    }
    let status = process.wait()?;
    ensure!(status.success(), "the limit `{which}` failed:\n{text}");
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("the limit `{which}` says:\n{text}"))
}
