//! One batch size: ONNX Runtime alone on packed batches, a worker that is never short of rows, and a worker that has one
//! batch at a time.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use twinlane_inference::{Bare, Batcher, Model, Sessions};
use twinlane_pipeline::Row;
use twinlane_testkit::usage::Usage;

use crate::Subject;
use crate::device::Utilisation;
use crate::quantile::quantile;

/// Figures of one batch size. Rates are events a second.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) batch: usize,
    pub(crate) bare: Figures,
    pub(crate) worker: Figures,
    /// Worker to bare, in events a second.
    pub(crate) ratio: f64,
    /// Worker to bare, in the device's utilisation.
    pub(crate) utilisation_ratio: Option<f64>,
    /// What a batch takes longer through the worker when there is nothing else to do, ms at the median.
    pub(crate) added_p50_ms: f64,
    pub(crate) alone_p50_ms: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) events_per_second: f64,
    /// Events per second of the process's CPU time.
    pub(crate) events_per_cpu_second: f64,
    pub(crate) batch_p50_ms: f64,
    pub(crate) batch_p99_ms: f64,
    pub(crate) gpu_utilisation: Option<f64>,
    /// How long every batch took once, first runs of their shapes included.
    pub(crate) first_pass_seconds: Option<f64>,
}

impl Line {
    pub(crate) fn summary(&self) -> String {
        format!(
            "bare {:.0}/s p50 {:.2} ms; worker {:.0}/s, ratio {:.3}; alone p50 {:.2} ms, added {:.2} ms; utilisation {:?} and {:?}",
            self.bare.events_per_second,
            self.bare.batch_p50_ms,
            self.worker.events_per_second,
            self.ratio,
            self.alone_p50_ms,
            self.added_p50_ms,
            self.bare.gpu_utilisation,
            self.worker.gpu_utilisation,
        )
    }
}

/// What is measured meanwhile.
struct Meter {
    began: Instant,
    cpu: Duration,
    utilisation: Utilisation,
    events: usize,
    took: Vec<f64>,
}

impl Meter {
    fn start() -> Result<Self> {
        let utilisation = Utilisation::watch();
        let cpu = Usage::of(std::process::id())?.cpu;
        Ok(Self { began: Instant::now(), cpu, utilisation, events: 0, took: Vec::new() })
    }

    fn note(&mut self, events: usize, took: Duration) {
        self.events += events;
        self.took.push(took.as_secs_f64() * 1e3);
    }

    fn end(self) -> Result<Figures> {
        let seconds = self.began.elapsed().as_secs_f64();
        let cpu = (Usage::of(std::process::id())?.cpu - self.cpu).as_secs_f64();
        ensure!(!self.took.is_empty(), "nothing ran");
        Ok(Figures {
            events_per_second: self.events as f64 / seconds,
            events_per_cpu_second: self.events as f64 / cpu.max(0.01),
            batch_p50_ms: quantile(&self.took, 0.5),
            batch_p99_ms: quantile(&self.took, 0.99),
            gpu_utilisation: self.utilisation.mean(),
            first_pass_seconds: None,
        })
    }
}

pub(crate) fn batch(subject: &Subject<'_>, file: &Path, rows: &[Row], size: usize) -> Result<Line> {
    let bare = bare(subject, file, rows, size)?;
    let models = |threads| Model::load_for(&subject.runtime, subject.source(file, size), move |_| threads);
    let alone = worker(subject, models(1)?, rows, size, 1)?;
    let worker = worker(subject, models(subject.threads)?, rows, size, 2 * subject.threads)?;
    Ok(Line {
        batch: size,
        ratio: worker.events_per_second / bare.events_per_second,
        utilisation_ratio: worker.gpu_utilisation.zip(bare.gpu_utilisation).map(|(w, b)| w / b.max(1.0)),
        added_p50_ms: alone.batch_p50_ms - bare.batch_p50_ms,
        alone_p50_ms: alone.batch_p50_ms,
        bare,
        worker,
    })
}

/// ONNX Runtime alone, one batch after the other.
fn bare(subject: &Subject<'_>, file: &Path, rows: &[Row], size: usize) -> Result<Figures> {
    let mut bare = Bare::load(&subject.runtime, &subject.source(file, size))?;
    // Whole batches only, in the order in which the worker gets them.
    bare.pack(&rows[..rows.len() / size * size], size);
    // Every batch once, however long that takes: what a first run of a shape costs is not to count.
    let began = Instant::now();
    bare.run()?;
    let first_pass = began.elapsed();
    let mut at = 0;
    let mut meter = Meter::start()?;
    while meter.began.elapsed() < subject.seconds {
        let began = Instant::now();
        let events = bare.run_one(at)?;
        meter.note(events, began.elapsed());
        at += 1;
    }
    let mut figures = meter.end()?;
    figures.first_pass_seconds = Some(first_pass.as_secs_f64());
    Ok(figures)
}

/// One shape of a batch, ONNX Runtime alone.
#[derive(Debug, Serialize)]
pub(crate) struct Cell {
    batch: usize,
    steps: usize,
    first_ms: f64,
    p50_ms: f64,
    captured_p50_ms: f64,
}

/// What each shape costs: rows with so many steps, all alike; plainly, and through a model whose small batches are captured.
pub(crate) fn grid(subject: &Subject<'_>, file: &Path, rows: &[Row], batches: &[usize]) -> Result<Vec<Cell>> {
    let most = batches.iter().copied().max().unwrap_or(1);
    let mut bare = Bare::load(&subject.runtime, &subject.source(file, most))?;
    let mut model = Model::load(&subject.runtime, subject.source(file, most))?;
    model.warm_up()?;
    let mut cells = Vec::new();
    for steps in [16, 32, 64, 128] {
        let long = rows.iter().find(|row| row.tensors[0].steps >= steps).context("no event is as long")?;
        let mut row = long.clone();
        for tensor in &mut row.tensors {
            tensor.steps = steps;
            match &mut tensor.data {
                twinlane_pipeline::TensorData::Integer(values) => values.truncate(steps),
                other => anyhow::bail!("only texts have a grid, not {other:?}"),
            }
        }
        for &batch in batches {
            let rows = vec![row.clone(); batch];
            bare.pack(&rows, batch);
            let began = Instant::now();
            bare.run_one(0)?;
            let first_ms = began.elapsed().as_secs_f64() * 1e3;
            let p50 = |run: &mut dyn FnMut() -> Result<()>| -> Result<f64> {
                let mut took = Vec::new();
                let began = Instant::now();
                while took.len() < 5 || began.elapsed() < subject.seconds / 8 {
                    let began = Instant::now();
                    run()?;
                    took.push(began.elapsed().as_secs_f64() * 1e3);
                }
                Ok(quantile(&took, 0.5))
            };
            let p50_ms = p50(&mut || Ok(bare.run_one(0).map(drop)?))?;
            model.run(&rows)?;
            let captured_p50_ms = p50(&mut || Ok(model.run(&rows).map(drop)?))?;
            cells.push(Cell { batch, steps, first_ms, p50_ms, captured_p50_ms });
        }
    }
    Ok(cells)
}

/// A worker's batcher, sessions and answers. So many batches wait or run at any time: with one, each batch has the device to
/// itself, and its time is from the hand-over to its answers.
fn worker(
    subject: &Subject<'_>,
    models: Vec<Model>,
    rows: &[Row],
    size: usize,
    backlog: usize,
) -> Result<Figures> {
    let mut sessions = Sessions::start(models.into_iter().map(|model| vec![model]).collect())?;
    let mut batcher = Batcher::new(1, size);
    let mut at = 0;
    let mut waiting = 0;
    let mut running = 0;
    let mut meter = None;
    let began = Instant::now();
    loop {
        // The source: rows as a consumer hands them over, one after the other.
        while waiting + running < backlog * size {
            batcher.push(0, (), rows[at % (rows.len() / size * size)].clone());
            at += 1;
            waiting += 1;
        }
        while sessions.idle() > 0 && waiting >= size {
            let batch = batcher.next_for(1).context("rows wait")?;
            waiting -= batch.rows.len();
            running += batch.rows.len();
            sessions.submit(vec![batch]);
        }
        let mut together = sessions.results().recv()?;
        sessions.done(&together);
        let ran = together.pop().context("a batch was run")?;
        running -= ran.tags.len();
        // The sink.
        let answers = ran.results?;
        ensure!(
            answers.iter().all(Result::is_ok),
            "an event was refused: {:?}",
            answers.iter().find(|a| a.is_err())
        );
        match &mut meter {
            None if began.elapsed() > subject.seconds / 3 => meter = Some(Meter::start()?),
            None => {}
            Some(meter) => {
                meter.note(answers.len(), ran.started.elapsed());
                if meter.began.elapsed() > subject.seconds {
                    break;
                }
            }
        }
    }
    meter.context("measured")?.end()
}
