//! The consumer: what a stage is told and may ask, and the handle of the [thread that polls](crate::poller). Rebalances run
//! in [`Context`].

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use twinlane_delivery::TopicPartition;
use twinlane_record::Envelope;

use crate::{
    BelowStart, Connection, Error, Membership,
    context::{Context, Intake},
    error,
    lag::{self, Progress},
    membership::Current,
    pause,
    poller::Poller,
};

/// What happened on the consumer's side, in order.
#[derive(Debug)]
pub enum Inbound {
    /// Records, in the order in which they were polled.
    Records(Vec<Envelope>),
    /// These partitions are ours now; their records follow.
    Assigned(Vec<TopicPartition>),
    /// These partitions go. The callback returns, and the next owner starts, once `done` is dropped or sent.
    Revoked {
        /// The partitions.
        partitions: Vec<TopicPartition>,
        /// They are gone already: nothing of them may be committed any more.
        lost: bool,
        /// Answer when every transaction that holds them is resolved.
        done: Sender<()>,
    },
    /// After [`Consumer::rewind`]: records that follow come from the committed offset.
    Rewound(Vec<TopicPartition>),
    /// This partition is not read: its committed offset lies outside its log, or its topic was made anew. What is
    /// gone stands in the log.
    Halted(TopicPartition),
    /// The brokers do not say where this partition stands: a transaction may be open that will not end by itself.
    Unstable(TopicPartition),
    /// The position of some partition fell out of its log while it was read: read all again.
    Reread,
    /// The stage cannot go on.
    Failed(Error),
    /// The consumer has left its group; nothing follows.
    Closed,
}

/// What a consumer reads and how.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// Name for logs and broker metrics.
    pub client_id: String,
    /// Consumer group.
    pub group: String,
    /// Stable per replica: the restarted process, or one that was cut off, takes its own place in the group at once
    /// instead of waiting until its past has timed out. `None`: a new member every time.
    pub instance_id: Option<String>,
    /// Topics, with what to do when retention has passed the committed offset.
    pub topics: Vec<(Arc<str>, BelowStart)>,
}

/// What the stage asks of the consumer thread.
pub(crate) enum Command {
    Rewind(Vec<TopicPartition>),
    /// Whether anything is to be polled has changed.
    Look,
    Stop,
}

/// Beats while a consumer's client answers. One that has stopped does not begin again: librdkafka 2.12 can lock itself up
/// when a broker is decommissioned (#5476), and then whoever calls it waits for ever.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// About so much time lies between two beats.
    pub const EVERY: Duration = Duration::from_secs(1);

    /// Beats so far; none before the consumer has started.
    pub fn beats(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// librdkafka's consumer with our callbacks.
pub(crate) type Client = BaseConsumer<Context>;

/// Handle of the consumer thread.
pub struct Consumer {
    client: Current,
    commands: Sender<Command>,
    stopping: Arc<AtomicBool>,
    /// Dropped first: a revoke that still waits for the stage learns that nobody will answer.
    stage_lives: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Batches of records that may wait for the stage. When it is full the consumer thread waits; the stage
/// never blocks on it, and pauses long before by its budget.
const INBOUND_CAPACITY: usize = 4;
impl Consumer {
    /// Joins the group and starts reading.
    pub fn start(
        connection: &Connection,
        options: ConsumerOptions,
    ) -> Result<(Self, Receiver<Inbound>), Error> {
        let (inbound, events) = bounded(INBOUND_CAPACITY);
        // Unbounded, so that the stage never blocks: a rewind after each lost producer, and a stop.
        let (commands, orders) = unbounded();
        let stopping = Arc::new(AtomicBool::new(false));
        let (stage_lives, stage_gone) = bounded(0);
        let context = Context::new(&options, inbound.clone(), stopping.clone(), stage_gone);
        let mut config = connection.consumer_config(&options.client_id, &options.group);
        if let Some(id) = &options.instance_id {
            config.set("group.instance.id", id);
        }
        let client = Current::new(join(&config, context)?);
        let grace = connection.metadata_propagation();
        let poller = Poller::new(client.clone(), config, inbound.clone(), orders, grace);
        let thread = std::thread::Builder::new()
            .name("kafka-consumer".into())
            .spawn(move || {
                // The context keeps the channel open, so a panic must be told.
                if catch_unwind(AssertUnwindSafe(|| poller.run())).is_err() {
                    let _ = inbound.send(Inbound::Failed(Error::Panicked("consumer")));
                }
            })
            .expect("the system can start a thread");
        let stage_lives = Some(stage_lives);
        Ok((Self { client, commands, stopping, stage_lives, thread: Some(thread) }, events))
    }

    /// Group metadata for the transaction thread.
    pub fn membership(&self) -> Membership {
        Membership(self.client.clone())
    }

    /// Hands over no records until [`Consumer::resume`]; see [`Intake`].
    pub fn pause(&self) {
        let client = self.client.get();
        let mut intake = client.context().intake();
        if *intake == Intake::Open {
            *intake = Intake::Held(Instant::now());
        }
    }

    /// Stops fetching one partition, until [`Consumer::resume`] does not except it.
    pub fn hold(&self, partition: &TopicPartition) {
        self.client.get().context().some_held.store(true, Ordering::Release);
        // It may have gone meanwhile.
        if let Err(error) = self.client.get().pause(&listed(std::slice::from_ref(partition))) {
            tracing::debug!(%error, %partition, "hold");
        }
    }

    /// Hands over records again, of all assigned partitions except `halted`.
    pub fn resume(&self, halted: &[TopicPartition]) {
        let client = self.client.get();
        let mut intake = client.context().intake();
        let before = std::mem::replace(&mut *intake, Intake::Open);
        let _ = self.commands.send(Command::Look);
        let was_held = client.context().some_held.swap(!halted.is_empty(), Ordering::AcqRel);
        // None is paused, so none is to be resumed, which would throw away what was fetched of it.
        if matches!(before, Intake::Held(_)) && !was_held {
            return;
        }
        with_assignment(&client, "resume", |all| {
            let mut list = TopicPartitionList::new();
            for element in all.elements() {
                let is_halted =
                    halted.iter().any(|h| *h.topic == *element.topic() && h.partition == element.partition());
                if !is_halted {
                    list.add_partition(element.topic(), element.partition());
                }
            }
            client.resume(&list)
        });
    }

    /// Reads these partitions again from their committed offsets; [`Inbound::Rewound`] marks the point.
    pub fn rewind(&self, partitions: Vec<TopicPartition>) {
        // The thread outlives the stage; a closed channel means that it is stopping already.
        let _ = self.commands.send(Command::Rewind(partitions));
    }

    /// Lets the pulse beat for as long as librdkafka answers, on a thread of its own.
    pub fn beat(&self, pulse: Pulse) {
        let (client, stopping) = (self.client.clone(), self.stopping.clone());
        let beat = move || {
            while !stopping.load(Ordering::Acquire) {
                // Asks librdkafka's main thread, and waits for ever if that is stuck.
                let _ = client.get().assignment();
                pulse.0.fetch_add(1, Ordering::Relaxed);
                pause(Pulse::EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("kafka-pulse".into()).spawn(beat);
        thread.expect("the system can start a thread");
    }

    /// Tells how far the stage is, every few seconds, on a thread of its own.
    pub fn report(&self, progress: Progress) {
        lag::watch(self.client.clone(), self.stopping.clone(), progress);
    }

    /// Leaves the group. A last [`Inbound::Revoked`] comes before [`Inbound::Closed`].
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let _ = self.commands.send(Command::Stop);
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stage_lives = None;
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn with_assignment(
    client: &Client,
    what: &str,
    act: impl Fn(&TopicPartitionList) -> Result<(), KafkaError>,
) {
    // A partition may go between the two calls; that is the only way in which these fail.
    if let Err(error) = client.assignment().and_then(|all| act(&all)) {
        tracing::debug!(%error, what, "a partition went away meanwhile");
    }
}

/// Builds a client that joins the group at its first poll.
pub(crate) fn join(config: &ClientConfig, context: Context) -> Result<Arc<Client>, Error> {
    let client: Client = config.create_with_context(context).map_err(error::settings)?;
    let topics = client.context().topics();
    client.subscribe(&topics).map_err(|source| Error::Client { what: "subscribe".into(), source })?;
    Ok(Arc::new(client))
}

pub(crate) fn listed(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    list
}

pub(crate) fn named(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements()
        .iter()
        .map(|e| TopicPartition { topic: e.topic().into(), partition: e.partition() })
        .collect()
}

/// librdkafka's own log lines, under our levels.
pub(crate) fn log(level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
    use rdkafka::config::RDKafkaLogLevel as L;
    match level {
        // A connection that failed: the error callback is told the same.
        _ if facility == "FAIL" => tracing::debug!(facility, "{message}"),
        L::Emerg | L::Alert | L::Critical | L::Error => tracing::warn!(facility, "{message}"),
        L::Warning | L::Notice => tracing::info!(facility, "{message}"),
        L::Info | L::Debug => tracing::debug!(facility, "{message}"),
    }
}
