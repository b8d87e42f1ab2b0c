//! Client settings: what exactly once needs is fixed here, everything else may be overridden by the user.

use std::{collections::BTreeMap, fmt, time::Duration};

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};

/// How to reach a cluster. Cheap to clone; built once from the settings. Its `Debug` leaves out what is secret.
#[derive(Clone, Default)]
pub struct Connection {
    /// Bootstrap addresses, `host:port,host:port`.
    pub brokers: String,
    /// librdkafka properties for every client (security, time-outs), as the user set them.
    pub common: BTreeMap<String, String>,
    /// Properties for every client whose values are secret whatever they are called. They win over `common`.
    pub secrets: BTreeMap<String, String>,
    /// Properties for consumers alone.
    pub consumer: BTreeMap<String, String>,
    /// Properties for producers alone.
    pub producer: BTreeMap<String, String>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Connection")
            .field("brokers", &self.brokers)
            .field("common", &shown(&self.common))
            .field("secrets", &self.secrets.keys())
            .field("consumer", &shown(&self.consumer))
            .field("producer", &shown(&self.producer))
            .finish()
    }
}

/// What stands in the place of a value that is secret.
pub const REDACTED: &str = "<redacted>";

/// Parts of the names of properties whose values nobody may see; among them misspelt ones.
const SECRET: &[&str] =
    &["pas", "pwd", "secret", "jaas", "credential", "private.key", "key.pem", "bearer.config"];

/// Whether a property's value is a secret, by its name.
pub fn is_secret(property: &str) -> bool {
    let name = property.to_ascii_lowercase();
    SECRET.iter().any(|part| name.contains(part))
}

/// Properties as they may be shown: [`REDACTED`] instead of secrets.
pub fn shown(properties: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let show = |(name, value)| {
        let (name, value): (&String, &String) = (name, value);
        (name.as_str(), if is_secret(name) { REDACTED } else { value.as_str() })
    };
    properties.iter().map(show).collect()
}

/// Defaults for consumers that a user may override.
const CONSUMER_DEFAULTS: &[(&str, &str)] = &[
    // More than brokers take to miss one of theirs (`broker.session.timeout.ms`, 9 s by default): a member whose
    // coordinator died finds the next one before it has to join anew.
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "1000"),
    // New partitions are found within seconds instead of five minutes.
    ("topic.metadata.refresh.interval.ms", "10000"),
    // A full local queue postpones the next fetch by this much; the default of a second saw-tooths.
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.wait.max.ms", "100"),
    ("queued.max.messages.kbytes", "32768"),
    // A record that was fetched and waits costs 320 bytes beside itself, which the limit above does not see: the default of
    // 100,000 is 30 MiB of that. 20,000 are six times what is read while the next fetch is postponed.
    ("queued.min.messages", "20000"),
];

/// What the delivery argument rests on; overriding these would break it silently.
const CONSUMER_FIXED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
    // Rebalances are answered incrementally.
    ("partition.assignment.strategy", "cooperative-sticky"),
];

const PRODUCER_DEFAULTS: &[(&str, &str)] = &[
    // A transaction begins with its outputs in memory, so this covers a produce and a commit, no model run.
    ("transaction.timeout.ms", "10000"),
    ("compression.type", "lz4"),
    // A window is flushed when a partition's batch is full and when all of it is handed over, which overrides this.
    ("linger.ms", "100"),
    ("batch.num.messages", "50000"),
    ("queue.buffering.max.messages", "1000000"),
    // A topic that was deleted and made again is found within seconds instead of five minutes.
    ("topic.metadata.refresh.interval.ms", "10000"),
    // AddOffsetsToTxn retries CONCURRENT_TRANSACTIONS at this pace.
    ("retry.backoff.ms", "10"),
    // The topic's own limit decides; the client must not refuse before it.
    ("message.max.bytes", "104857600"),
];

const PRODUCER_FIXED: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    // A transaction asks what failed, and whether anything is left; a report on each record costs as much as its compression.
    ("delivery.report.only.error", "true"),
];

const METADATA_PROPAGATION: &str = "topic.metadata.propagation.max.ms";

/// librdkafka's own default for `batch.size`.
const BATCH_BYTES: usize = 1_000_000;

const COMMON_DEFAULTS: &[(&str, &str)] =
    &[("reconnect.backoff.ms", "50"), ("reconnect.backoff.max.ms", "400"), ("log.connection.close", "false")];

/// Which clients, whether a user may say otherwise, and what.
type Told = (&'static str, bool, &'static [(&'static str, &'static str)]);

/// What clients are told before a user says anything.
pub static PROPERTIES: [Told; 5] = [
    ("every client", true, COMMON_DEFAULTS),
    ("consumers", true, CONSUMER_DEFAULTS),
    ("producers", true, PRODUCER_DEFAULTS),
    ("consumers", false, CONSUMER_FIXED),
    ("producers", false, PRODUCER_FIXED),
];

impl Connection {
    /// A connection without any overrides.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), ..Self::default() }
    }

    /// Our defaults, then what the user set for every client.
    fn base(&self, client_id: &str, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", client_id);
        set(&mut config, COMMON_DEFAULTS);
        set(&mut config, defaults);
        for (key, value) in self.common.iter().chain(&self.secrets) {
            config.set(key, value);
        }
        trust_the_systems_authorities(&mut config);
        config
    }

    pub(crate) fn consumer_config(&self, client_id: &str, group: &str) -> ClientConfig {
        let mut config = self.base(client_id, CONSUMER_DEFAULTS);
        for (key, value) in &self.consumer {
            config.set(key, value);
        }
        set(&mut config, CONSUMER_FIXED);
        config.set("group.id", group);
        // A few lines per refresh, read in `remade`. Not `topic`, which has the same line: rdkafka has lines put
        // into the consumer's queue, and `topic` writes one while librdkafka holds that queue's lock (when a
        // partition is removed), which stops the consumer for ever.
        let debug = config.get("debug").map_or("metadata".into(), |asked| format!("{asked},metadata"));
        config.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
        config
    }

    /// `max_batch_bytes`: the least `max.message.bytes` of the topics written, which brokers hold against a whole batch.
    pub(crate) fn producer_config(
        &self,
        client_id: &str,
        transactional_id: &str,
        max_batch_bytes: usize,
    ) -> ClientConfig {
        let mut config = self.base(client_id, PRODUCER_DEFAULTS);
        for (key, value) in &self.producer {
            config.set(key, value);
        }
        set(&mut config, PRODUCER_FIXED);
        config.set("transactional.id", transactional_id);
        let asked = config.get("batch.size").and_then(|bytes| bytes.parse().ok()).unwrap_or(BATCH_BYTES);
        config.set("batch.size", max_batch_bytes.min(asked).to_string());
        config
    }

    /// How long brokers may take to agree that a topic is there or gone: librdkafka's own setting for it.
    pub(crate) fn metadata_propagation(&self) -> Duration {
        let set = self.common.get(METADATA_PROPAGATION).and_then(|ms| ms.parse().ok());
        Duration::from_millis(set.unwrap_or(30_000))
    }

    pub(crate) fn admin_config(&self) -> ClientConfig {
        self.base("twinlane-admin", &[])
    }
}

/// Our OpenSSL was built elsewhere, and looks for authorities where this system has none.
fn trust_the_systems_authorities(config: &mut ClientConfig) {
    let is_encrypted =
        config.get("security.protocol").is_some_and(|protocol| protocol.to_ascii_lowercase().contains("ssl"));
    if is_encrypted && ["ssl.ca.location", "ssl.ca.pem"].iter().all(|named| config.get(named).is_none()) {
        config.set("ssl.ca.location", "probe");
    }
}

fn set(config: &mut ClientConfig, properties: &[(&str, &str)]) {
    for (key, value) in properties {
        config.set(*key, *value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exactly_once_rests_on_cannot_be_overridden() {
        let mut connection = Connection::new("localhost:1");
        connection.consumer.insert("isolation.level".into(), "read_uncommitted".into());
        connection.common.insert("session.timeout.ms".into(), "9000".into());
        let config = connection.consumer_config("c", "g");
        assert_eq!(config.get("isolation.level"), Some("read_committed"));
        assert_eq!(config.get("session.timeout.ms"), Some("9000"));
    }

    #[test]
    fn the_systems_authorities_are_trusted_unless_others_are_named() {
        let mut connection = Connection::new("localhost:1");
        assert_eq!(connection.admin_config().get("ssl.ca.location"), None, "nothing is encrypted");
        connection.common.insert("security.protocol".into(), "SASL_SSL".into());
        assert_eq!(connection.admin_config().get("ssl.ca.location"), Some("probe"));
        connection.common.insert("ssl.ca.pem".into(), "…".into());
        assert_eq!(connection.admin_config().get("ssl.ca.location"), None);
    }

    #[test]
    fn a_connection_shows_no_secret() {
        let mut connection = Connection::new("localhost:1");
        for name in [
            "sasl.password",
            "sasl.pasword",
            "ssl.key.password",
            "ssl.keystore.password",
            "ssl.key.pem",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.config",
            "sasl.jaas.config",
            "sasl.oauthbearer.assertion.private.key.passphrase",
        ] {
            connection.common.insert(name.into(), "hunter2".into());
            connection.consumer.insert(name.into(), "hunter2".into());
        }
        connection.secrets.insert("sasl.username".into(), "hunter2".into());
        connection.producer.insert("sasl.mechanism".into(), "PLAIN".into());
        let shown = format!("{connection:?}");
        assert!(
            !shown.contains("hunter2") && shown.contains("PLAIN") && shown.contains("sasl.username"),
            "{shown}"
        );
        let config = connection.admin_config();
        assert_eq!(config.get("sasl.username"), Some("hunter2"), "the client gets it");
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        for name in [
            "security.protocol",
            "sasl.mechanism",
            "sasl.username",
            "ssl.ca.location",
            "ssl.key.location",
            "ssl.certificate.location",
            "enable.sasl.oauthbearer.unsecure.jwt",
            "session.timeout.ms",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
