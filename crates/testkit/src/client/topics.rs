//! Topics for tests.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::config;
use crate::{Broker, Error, Result, wait};

const LIMIT: Duration = Duration::from_secs(30);

impl Broker {
    /// Creates a topic on this broker; see [`create_topic`].
    ///
    /// # Errors
    /// As [`create_topic`].
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        create_topic(self.bootstrap(), name, partitions, settings)
    }
}

/// Creates a topic with the broker's default replication, and waits until it can be used. A topic that exists is fine.
///
/// # Errors
/// When the broker refuses, or does not answer in time.
pub fn create_topic(bootstrap: &str, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
    let what = || format!("creating the topic {name}");
    let admin: AdminClient<DefaultClientContext> =
        config(bootstrap).create().map_err(Error::kafka(what()))?;
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
    for (setting, value) in settings {
        topic = topic.set(setting, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(LIMIT)).request_timeout(Some(LIMIT));
    let outcome = block_on(admin.create_topics([&topic], &options)).map_err(Error::kafka(what()))?;
    match outcome.into_iter().next() {
        Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
            return Err(Error::Kafka { what: what(), cause: KafkaError::AdminOp(code) });
        }
        _ => {}
    }
    let count = wait::until(LIMIT, || self::partitions(bootstrap, name).ok().filter(|&count| count > 0));
    let timeout = || Error::Timeout { what: what(), within: LIMIT, context: String::new() };
    count.map(|_| ()).ok_or_else(timeout)
}

/// Waits until every replica of every partition of the cluster is in sync: it has recovered from what broke it.
///
/// # Errors
/// When that is not so after `limit`.
pub fn wait_until_in_sync(bootstrap: &str, limit: Duration) -> Result<()> {
    let what = || "all replicas in sync".to_owned();
    let consumer: BaseConsumer = config(bootstrap).create().map_err(Error::kafka(what()))?;
    let in_sync = wait::until(limit, || {
        let metadata = consumer.fetch_metadata(None, Duration::from_secs(5)).ok()?;
        let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let all = partitions
            .all(|partition| partition.leader() >= 0 && partition.isr().len() == partition.replicas().len());
        all.then_some(())
    });
    in_sync.ok_or_else(|| Error::Timeout { what: what(), within: limit, context: String::new() })
}

/// The names of all topics, Kafka's own included.
///
/// # Errors
/// When the broker does not answer.
pub fn topics(bootstrap: &str) -> Result<Vec<String>> {
    let what = || "listing the topics".to_owned();
    let consumer: BaseConsumer = config(bootstrap).create().map_err(Error::kafka(what()))?;
    let metadata = consumer.fetch_metadata(None, LIMIT).map_err(Error::kafka(what()))?;
    Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
}

/// How many partitions a topic has that have a leader; 0 for a topic that is not there.
///
/// # Errors
/// When the broker does not answer.
pub fn partitions(bootstrap: &str, topic: &str) -> Result<i32> {
    let what = || format!("asking about the topic {topic}");
    let consumer: BaseConsumer = config(bootstrap).create().map_err(Error::kafka(what()))?;
    let metadata = consumer.fetch_metadata(Some(topic), LIMIT).map_err(Error::kafka(what()))?;
    let count = metadata.topics().iter().filter(|found| found.name() == topic && found.error().is_none());
    let count =
        count.flat_map(|found| found.partitions()).filter(|partition| partition.leader() >= 0).count();
    Ok(i32::try_from(count).expect("Kafka counts partitions in 32 bits"))
}

/// Whether every partition of every topic can be written to, as far as the cluster knows by now: it has a leader and so many
/// replicas in sync, and the broker `dead` is none of them. Until the cluster knows that one to be dead, every write waits
/// for it.
///
/// # Errors
/// When no broker answers.
pub fn takes_writes(bootstrap: &str, dead: Option<i32>, in_sync: usize) -> Result<bool> {
    let what = || "asking who leads the partitions".to_owned();
    let consumer: BaseConsumer = config(bootstrap).create().map_err(Error::kafka(what()))?;
    let metadata = consumer.fetch_metadata(None, Duration::from_secs(5)).map_err(Error::kafka(what()))?;
    let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    Ok(partitions.all(|partition| {
        let waits_for = |broker: i32| partition.leader() == broker || partition.isr().contains(&broker);
        partition.leader() >= 0 && partition.isr().len() >= in_sync && !dead.is_some_and(waits_for)
    }))
}

/// `name` with an ending that no other test has, in this process or another: tests share a broker.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_micros());
    format!("{name}-{:x}-{:x}-{}", std::process::id(), now, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits for an admin future on this thread; librdkafka completes it from a thread of its own.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
