//! librdkafka alone: consumes a topic, produces as many bytes to as many partitions as a service would, and commits both
//! in transactions of a fixed size. One thread does everything, as fast as the client allows; the client settings are
//! those of the services.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList, bindings};
use twinlane_testkit::client::{self, Follower, Record};

use super::{Pace, QUIET, Stretch, WARM_UP};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    brokers: String,
    /// The topic to read.
    #[arg(long)]
    from: String,
    /// Topics to write: one for each of `like`.
    #[arg(long, required = true)]
    to: Vec<String>,
    /// Topics that a service has written: their values and headers are produced, one after the other, in the same mixture.
    #[arg(long, required = true)]
    like: Vec<String>,
    /// How many records to read.
    #[arg(long)]
    records: u64,
    /// Records in a transaction.
    #[arg(long)]
    window: u64,
}

const LIMIT: Duration = Duration::from_secs(30);
/// More than a core keeps in its caches: a stream is not in them either.
const SAMPLES: usize = 20_000;

/// What is produced for a record.
pub(crate) struct Sample {
    /// Which of the topics it stood on.
    topic: usize,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: OwnedHeaders,
}

/// Counts records that could not be delivered.
#[derive(Default)]
pub(crate) struct Failures(AtomicUsize);

impl Failures {
    /// All were delivered.
    pub(crate) fn none(&self) -> Result<()> {
        ensure!(self.0.load(Ordering::Relaxed) == 0, "records could not be delivered");
        Ok(())
    }
}

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Topics of which nothing more came for so long are read to their end.
const ENDED: Duration = Duration::from_secs(1);
/// What is over sooner goes on from the beginning: CPU time comes in hundredths of a second.
const AT_LEAST: Duration = Duration::from_secs(3);

/// Moves the records, and measures after a tenth of them.
pub(crate) fn run(arguments: &Arguments) -> Result<Pace> {
    let samples = samples(&arguments.brokers, &arguments.like)?;
    let partitions = client::partitions(&arguments.brokers, &arguments.to[0])?;
    ensure!(arguments.to.len() == arguments.like.len(), "a topic to write for each that is like it");
    let consumer = consumer(&arguments.brokers, &arguments.from)?;
    let producer = producer(&arguments.brokers, &[("transactional.id", &client::unique("limit"))])?;
    producer.init_transactions(LIMIT)?;

    let warm = (arguments.records as f64 * WARM_UP) as u64;
    let mut stretch = Stretch::of(std::process::id());
    let (mut done, mut last) = (0, Instant::now());
    let mut next: HashMap<i32, i64> = HashMap::new();
    let (began, beginning) = (Instant::now(), beginning(&arguments.brokers, &arguments.from)?);
    while done < arguments.records || began.elapsed() < AT_LEAST {
        let left = arguments.records - done % arguments.records;
        producer.begin_transaction()?;
        let mut in_window = 0;
        while in_window < arguments.window.min(left) {
            let Some(message) = consumer.poll(Duration::from_millis(if in_window == 0 { 100 } else { 0 }))
            else {
                if in_window > 0 {
                    break;
                }
                ensure!(last.elapsed() < QUIET, "only {done} of {} records came", arguments.records);
                continue;
            };
            let message = message?;
            last = Instant::now();
            let sample = &samples[(done + in_window) as usize % samples.len()];
            let mut record = BaseRecord::to(&arguments.to[sample.topic])
                .partition(message.partition() % partitions)
                .payload(&sample.value)
                .headers(sample.headers.clone());
            record.key = message.key();
            send(&producer, record)?;
            next.insert(message.partition(), message.offset() + 1);
            in_window += 1;
        }
        commit(&producer, &consumer, &arguments.from, &mut next)?;
        done += in_window;
        if done % arguments.records == 0 {
            consumer.assign(&beginning).context("beginning anew")?;
        }
        if done >= warm {
            stretch.at(done)?;
        }
    }
    producer.context().none()?;
    stretch.pace()
}

/// Records of these topics, taken evenly from all that they hold.
pub(crate) fn samples(brokers: &str, topics: &[String]) -> Result<Vec<Sample>> {
    let names: Vec<_> = topics.iter().map(String::as_str).collect();
    let (count, _) = records(brokers, &names, |_| ())?;
    let every = count.div_ceil(SAMPLES).max(1);
    let mut seen = 0;
    let (_, samples) = records(brokers, &names, |record| {
        seen += 1;
        (seen % every == 0 || seen == 1).then(|| {
            let headers = record
                .headers()
                .into_iter()
                .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value }));
            let topic = names.iter().position(|name| *name == record.topic()).unwrap_or_default();
            Sample { topic, value: record.value().unwrap_or_default().to_vec(), headers }
        })
    })?;
    let samples: Vec<_> = samples.into_iter().flatten().collect();
    ensure!(!samples.is_empty(), "{} have no records", names.join(", "));
    Ok(samples)
}

/// Looks at every record of these topics; also how many there are.
fn records<T>(
    brokers: &str,
    topics: &[&str],
    mut look: impl FnMut(&Record<'_>) -> T,
) -> Result<(usize, Vec<T>)> {
    let follower = Follower::from_beginning(brokers, topics)?;
    let (mut found, mut last) = (Vec::new(), Instant::now());
    while last.elapsed() < if found.is_empty() { QUIET } else { ENDED } {
        if let Some(one) = follower.next(Duration::from_millis(100), &mut look)? {
            found.push(one);
            last = Instant::now();
        }
    }
    Ok((found.len(), found))
}

/// As the services set it up: see `crates/kafka/src/config.rs`.
pub(crate) fn consumer(brokers: &str, topic: &str) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", client::unique("limit"))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.wait.max.ms", "100")
        .set("queued.max.messages.kbytes", "32768")
        .create()
        .context("creating a consumer")?;
    consumer.assign(&beginning(brokers, topic)?).context("assigning partitions")?;
    Ok(consumer)
}

/// All partitions of a topic, from their beginning.
pub(crate) fn beginning(brokers: &str, topic: &str) -> Result<TopicPartitionList> {
    let mut all = TopicPartitionList::new();
    for partition in 0..client::partitions(brokers, topic)? {
        all.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    Ok(all)
}

/// As the services set it up, with what else it needs.
pub(crate) fn producer(brokers: &str, more: &[(&str, &str)]) -> Result<ThreadedProducer<Failures>> {
    let mut config = ClientConfig::new();
    for (name, value) in more {
        config.set(*name, *value);
    }
    config
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "100")
        .set("delivery.report.only.error", "true")
        .set("batch.num.messages", "50000")
        .set("queue.buffering.max.messages", "1000000")
        .set("retry.backoff.ms", "10")
        .create_with_context(Failures::default())
        .context("creating a producer")
}

/// Hands a record over; waits where there is no room for it.
pub(crate) fn send(
    producer: &ThreadedProducer<Failures>,
    record: BaseRecord<'_, [u8], Vec<u8>>,
) -> Result<()> {
    let mut record = record;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(1));
            }
            Err((error, _)) => bail!(error),
        }
    }
}

fn commit(
    producer: &ThreadedProducer<Failures>,
    consumer: &BaseConsumer,
    topic: &str,
    next: &mut HashMap<i32, i64>,
) -> Result<()> {
    flush(producer);
    let mut offsets = TopicPartitionList::new();
    for (partition, offset) in next.drain() {
        offsets.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    }
    let metadata = consumer.group_metadata().context("a consumer with a group has metadata")?;
    producer.send_offsets_to_transaction(&offsets, &metadata, LIMIT)?;
    producer.commit_transaction(LIMIT)?;
    Ok(())
}

/// rdkafka's own `flush` polls in steps of 100 ms; the C function waits on a condition and overrides linger.
#[expect(unsafe_code, reason = "a limit must not be slowed down by the wrapper")]
pub(crate) fn flush(producer: &ThreadedProducer<Failures>) {
    // SAFETY: the handle belongs to `producer`, which outlives the call.
    unsafe {
        bindings::rd_kafka_flush(producer.client().native_ptr(), LIMIT.as_millis() as i32);
    }
}
