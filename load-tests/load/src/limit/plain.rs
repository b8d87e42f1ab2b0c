//! librdkafka without transactions: a consumer that throws away what it reads, and a producer.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rdkafka::consumer::Consumer as _;
use rdkafka::producer::{BaseRecord, Producer as _};
use twinlane_testkit::client;

use super::{Pace, QUIET, Stretch, WARM_UP, transactions};

#[derive(Debug, Args)]
pub(crate) struct Consume {
    #[arg(long)]
    brokers: String,
    /// The topic to read.
    #[arg(long)]
    from: String,
    /// How many records to read.
    #[arg(long)]
    records: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Produce {
    #[arg(long)]
    brokers: String,
    /// The topic to write.
    #[arg(long)]
    to: String,
    /// Topics whose values and headers are produced, one after the other.
    #[arg(long, required = true)]
    like: Vec<String>,
    /// How many records to write.
    #[arg(long)]
    records: u64,
}

/// What is over sooner goes on: CPU time comes in hundredths of a second.
const AT_LEAST: Duration = Duration::from_secs(3);

/// Reads the records again and again, and measures after a tenth of the first pass. The clock runs from the first record of
/// a pass to its last, as that of librdkafka's own tool does: in between the client looks for the beginning.
pub(crate) fn consume(arguments: &Consume) -> Result<Pace> {
    let consumer = transactions::consumer(&arguments.brokers, &arguments.from)?;
    let beginning = transactions::beginning(&arguments.brokers, &arguments.from)?;
    let warm = (arguments.records as f64 * WARM_UP) as u64;
    let mut stretch = Stretch::of(std::process::id());
    let began = Instant::now();
    let (mut done, mut last) = (0, began);
    let (mut read, mut pass) = (Duration::ZERO, None);
    while done < arguments.records || began.elapsed() < AT_LEAST {
        match consumer.poll(Duration::from_millis(100)) {
            Some(message) => {
                message.context("consuming")?;
                (done, last) = (done + 1, Instant::now());
                let since = *pass.get_or_insert(last);
                if done % arguments.records == 0 {
                    read += last.duration_since(since);
                    pass = None;
                    consumer.assign(&beginning).context("beginning anew")?;
                }
            }
            None => ensure!(last.elapsed() < QUIET, "only {done} of {} records came", arguments.records),
        }
        if done >= warm && !stretch.has_begun() {
            stretch.at(done)?;
        }
    }
    stretch.at(done)?;
    read += pass.map_or(Duration::ZERO, |since| last.duration_since(since));
    let pace = stretch.pace()?;
    Ok(Pace { wall_s: pace.events as f64 * read.as_secs_f64() / done as f64, ..pace })
}

/// Writes the records with an idempotent producer, and measures after a tenth of them.
pub(crate) fn produce(arguments: &Produce) -> Result<Pace> {
    let samples = transactions::samples(&arguments.brokers, &arguments.like)?;
    let partitions = client::partitions(&arguments.brokers, &arguments.to)?;
    let producer = transactions::producer(&arguments.brokers, &[])?;
    let warm = (arguments.records as f64 * WARM_UP) as u64;
    let mut stretch = Stretch::of(std::process::id());
    let (began, mut done) = (Instant::now(), 0);
    while done < arguments.records || began.elapsed() < AT_LEAST {
        if done == warm {
            stretch.at(done)?;
        }
        let sample = &samples[done as usize % samples.len()];
        let record = BaseRecord::to(&arguments.to)
            .partition((done % partitions as u64) as i32)
            .payload(&sample.value)
            .headers(sample.headers.clone());
        transactions::send(&producer, record)?;
        done += 1;
    }
    transactions::flush(&producer);
    producer.context().none()?;
    stretch.at(done)?;
    stretch.pace()
}
