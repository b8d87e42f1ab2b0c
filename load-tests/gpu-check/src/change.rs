//! The model is changed several times while rows flow: loaded, compared with the CPU and warmed up beside the one that runs,
//! as a worker does it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use twinlane_inference::{Batcher, Model, Sessions};
use twinlane_pipeline::Row;

use crate::Subject;
use crate::quantile::quantile;

const CHANGES: usize = 3;
/// Rows of a batch: small enough to be a captured run.
const BATCH: usize = 8;

/// What the change cost the batches that ran meanwhile.
#[derive(Debug, Serialize)]
pub(crate) struct Change {
    changes: usize,
    seconds_each: f64,
    batches_before: usize,
    p99_before_ms: f64,
    batches_during: usize,
    p99_during_ms: f64,
    longest_during_ms: f64,
}

pub(crate) fn under_load(subject: &Subject<'_>, file: &std::path::Path, rows: &[Row]) -> Result<Change> {
    let load = || -> Result<Vec<Vec<Model>>> {
        let models = Model::load_for(&subject.runtime, subject.source(file, BATCH), |_| subject.threads)?;
        Ok(models.into_iter().map(|model| vec![model]).collect())
    };
    let first = Sessions::<()>::start(load()?)?;
    let mut results = first.successor();
    let mut pools = vec![first];
    let (send, arrive) = std::sync::mpsc::channel();
    let (begin, asked) = std::sync::mpsc::channel::<()>();
    let mut begin = Some(begin);
    let done = AtomicBool::new(false);
    let (mut before, mut during) = (Vec::new(), Vec::new());
    let mut seconds = 0.0;
    std::thread::scope(|scope| -> Result<()> {
        let (done, results) = (&done, &mut results);
        let loader = scope.spawn(move || -> Result<f64> {
            // Until its sender is dropped.
            let _ = asked.recv();
            let began = Instant::now();
            for _ in 0..CHANGES {
                let next = Sessions::start_beside(load()?, results.clone())?;
                *results = next.successor();
                send.send(next).context("somebody takes it")?;
            }
            done.store(true, Ordering::Release);
            Ok(began.elapsed().as_secs_f64() / CHANGES as f64)
        });
        let mut batcher = Batcher::new(1, BATCH);
        let (mut at, mut waiting, mut running) = (0, 0, 0);
        let began = Instant::now();
        while !done.load(Ordering::Acquire) && !loader.is_finished() {
            if began.elapsed() > subject.seconds {
                begin = None;
            }
            while let Ok(next) = arrive.try_recv() {
                pools.push(next);
            }
            let serving = pools.len() - 1;
            while waiting + running < 2 * subject.threads * BATCH {
                batcher.push(0, (), rows[at % rows.len()].clone());
                at += 1;
                waiting += 1;
            }
            while pools[serving].idle() > 0 && waiting >= BATCH {
                let batch = batcher.next_for(1).context("rows wait")?;
                waiting -= batch.rows.len();
                running += batch.rows.len();
                pools[serving].submit(vec![batch]);
            }
            let mut together = pools[serving].results().recv_timeout(Duration::from_secs(30))?;
            let generation = together[0].generation;
            let of = pools.iter_mut().find(|pool| pool.generation() == generation);
            of.context("pools are kept")?.done(&together);
            let ran = together.pop().context("a batch was run")?;
            running -= ran.tags.len();
            let answers = ran.results?;
            ensure!(answers.iter().all(Result::is_ok), "an event was refused");
            let took = ran.started.elapsed().as_secs_f64() * 1e3;
            if begin.is_none() { during.push(took) } else { before.push(took) }
        }
        seconds = loader.join().expect("the loader does not panic")?;
        Ok(())
    })?;
    Ok(Change {
        changes: CHANGES,
        seconds_each: seconds,
        batches_before: before.len(),
        p99_before_ms: quantile(&before, 0.99),
        batches_during: during.len(),
        p99_during_ms: quantile(&during, 0.99),
        longest_during_ms: quantile(&during, 1.0),
    })
}
