//! What the cluster says about topics, asked once at start, and creating those that are missing.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::Consumer as _,
    error::KafkaError,
    metadata::{Metadata, MetadataTopic},
    types::RDKafkaErrorCode,
};

use crate::{
    Connection, Error,
    error::{self, is_authorisation},
    pause, sign_in,
};

/// What a stage must know of a topic before it produces to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFacts {
    /// Number of partitions.
    pub partitions: i32,
    /// The broker's limit for one record batch, bytes (`max.message.bytes`).
    pub max_message_bytes: usize,
}

/// Admin client for topics. Its calls block.
pub struct Topics {
    client: AdminClient<DefaultClientContext>,
    config: ClientConfig,
    brokers: String,
}

const PATIENCE: Duration = Topics::PATIENCE;
/// How long one question lasts before it is said that no broker answers yet.
const SLICE: Duration = Duration::from_secs(3);
/// Between two questions for a topic that is not known yet.
const KNOWN_AGAIN: Duration = Duration::from_millis(20);
/// Each question may go to another broker, and one that has just come back knows topics later than others.
const BELIEVED_MISSING: Duration = Duration::from_secs(3);
/// Kafka's default for `max.message.bytes`, where the principal may not read topic settings.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;

impl Topics {
    /// How long brokers may stay silent at start before that is an [`Error::Unreachable`].
    pub const PATIENCE: Duration = Duration::from_secs(15);

    /// Connects to the cluster.
    pub fn connect(connection: &Connection) -> Result<Self, Error> {
        let config = connection.admin_config();
        let client = config.create().map_err(error::settings)?;
        Ok(Self { client, config, brokers: connection.brokers.clone() })
    }

    /// Partitions and size limits of these topics. A topic that does not exist is an error.
    pub fn describe(&self, names: &[Arc<str>]) -> Result<HashMap<Arc<str>, TopicFacts>, Error> {
        let mut facts = HashMap::new();
        let until = Instant::now() + BELIEVED_MISSING;
        let metadata = loop {
            let metadata = self.metadata()?;
            match names.iter().find(|name| found(&metadata, name).is_none()) {
                None => break metadata,
                Some(name) if Instant::now() > until => return Err(self.missing(name)),
                Some(_) => pause(KNOWN_AGAIN),
            }
        };
        for name in names {
            let topic = found(&metadata, name).ok_or_else(|| Error::MissingTopic(name.to_string()))?;
            let partitions = topic.partitions().len() as i32;
            facts.insert(
                name.clone(),
                TopicFacts { partitions, max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES },
            );
        }
        let wanted: Vec<_> = names.iter().map(|n| ResourceSpecifier::Topic(n)).collect();
        let described =
            futures_executor::block_on(self.client.describe_configs(&wanted, &AdminOptions::new()))
                .map_err(|source| Error::Client { what: "describe topics".into(), source })?;
        for (name, settings) in names.iter().zip(described) {
            let limit = settings.ok().and_then(|s| s.get("max.message.bytes")?.value.as_ref()?.parse().ok());
            match limit {
                Some(limit) => {
                    if let Some(known) = facts.get_mut(name) {
                        known.max_message_bytes = limit;
                    }
                }
                None => {
                    tracing::warn!(topic = %name, "may not read the topic's settings; assuming 1 MiB records")
                }
            }
        }
        Ok(facts)
    }

    /// The partitions of those of these topics that exist.
    pub fn partitions(&self, names: &[Arc<str>]) -> Result<HashMap<Arc<str>, i32>, Error> {
        let metadata = self.metadata()?;
        let facts = names.iter().filter_map(|name| {
            found(&metadata, name).map(|topic| (name.clone(), topic.partitions().len() as i32))
        });
        Ok(facts.collect())
    }

    /// Creates the topics that do not exist and returns their names. `replication` is capped by the cluster.
    pub fn create_missing(
        &self,
        wanted: &[(Arc<str>, i32)],
        settings: &[(&str, &str)],
    ) -> Result<Vec<Arc<str>>, Error> {
        let metadata = self.metadata()?;
        let replication = metadata.brokers().len().clamp(1, 3) as i32;
        let missing: Vec<_> = wanted
            .iter()
            .filter(|(name, _)| !metadata.topics().iter().any(|t| t.name() == &**name))
            .collect();
        let new: Vec<_> = missing
            .iter()
            .map(|(name, partitions)| {
                settings.iter().fold(
                    NewTopic::new(name, *partitions, TopicReplication::Fixed(replication)),
                    |topic, (key, value)| topic.set(key, value),
                )
            })
            .collect();
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let results = futures_executor::block_on(self.client.create_topics(&new, &AdminOptions::new()))
            .map_err(|source| Error::Client { what: "create topics".into(), source })?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) if is_authorisation(code) => {
                    return Err(Error::Unauthorised { what: format!("create topic `{topic}`"), code });
                }
                Err((topic, code)) => {
                    let source = KafkaError::AdminOp(code);
                    return Err(Error::Client { what: format!("create topic `{topic}`"), source });
                }
            }
        }
        let created: Vec<_> = missing.into_iter().map(|(name, _)| name.clone()).collect();
        self.wait_until_known(&created)?;
        Ok(created)
    }

    /// A broker acknowledges a new topic before every broker's metadata shows it, and a topic that another
    /// process has just created is known to us even later.
    fn wait_until_known(&self, names: &[Arc<str>]) -> Result<(), Error> {
        let until = Instant::now() + PATIENCE;
        loop {
            let metadata = self.metadata()?;
            let is_led = |topic: &MetadataTopic| topic.partitions().iter().all(|p| p.leader() >= 0);
            let unknown = names.iter().find(|name| !found(&metadata, name).is_some_and(is_led));
            match unknown {
                None => return Ok(()),
                Some(name) if Instant::now() > until => return Err(Error::MissingTopic(name.to_string())),
                Some(_) => pause(KNOWN_AGAIN),
            }
        }
    }

    /// Brokers leave out topics that the principal may not see, and tell who asks for one by its name. A consumer asks: where
    /// brokers make topics by themselves, they would make it for a producer, as which an admin client counts.
    fn missing(&self, name: &str) -> Error {
        let named = sign_in::listener(&self.config).ok();
        let named = named.and_then(|consumer| consumer.fetch_metadata(Some(name), SLICE).ok());
        let code = named.and_then(|metadata| metadata.topics().first()?.error()).map(RDKafkaErrorCode::from);
        match code.filter(|&code| is_authorisation(code)) {
            Some(code) => Error::Unauthorised { what: format!("see topic `{name}`"), code },
            None => Error::MissingTopic(name.to_owned()),
        }
    }

    fn metadata(&self) -> Result<Metadata, Error> {
        let began = Instant::now();
        loop {
            match self.client.inner().fetch_metadata(None, SLICE) {
                Ok(metadata) => return Ok(metadata),
                Err(error) if began.elapsed() >= PATIENCE => return Err(self.unreachable(error)),
                Err(error) => {
                    if let Some(refused) = self.refused() {
                        return Err(refused);
                    }
                    tracing::warn!(brokers = self.brokers, %error, "no Kafka broker answers yet; waiting");
                    // Some errors come at once.
                    pause(KNOWN_AGAIN);
                }
            }
        }
    }

    /// Why the brokers are away, if it is that they do not let us in.
    fn refused(&self) -> Option<Error> {
        let consumer = sign_in::listener(&self.config).ok()?;
        let until = Instant::now() + SLICE;
        while Instant::now() < until {
            let heard = consumer.poll(SLICE / 10).is_some();
            if heard && let Some(refused) = consumer.context().0.failure(&self.config) {
                return Some(refused);
            }
        }
        None
    }

    fn unreachable(&self, source: KafkaError) -> Error {
        Error::Unreachable { brokers: self.brokers.clone(), source }
    }
}

/// The topic, if the cluster has it.
fn found<'m>(metadata: &'m Metadata, name: &str) -> Option<&'m MetadataTopic> {
    let topic = metadata.topics().iter().find(|topic| topic.name() == name)?;
    (topic.error().is_none() && !topic.partitions().is_empty()).then_some(topic)
}
