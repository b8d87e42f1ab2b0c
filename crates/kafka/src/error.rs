//! What can go wrong with Kafka, sorted by what a caller can do about it.

use rdkafka::{
    error::{KafkaError, RDKafkaError},
    types::RDKafkaErrorCode,
};

/// An error that ends a stage. Errors that heal (brokers away, time-outs, rebalances) are logged and retried
/// inside this crate and never surface here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A client setting is not one that librdkafka knows, or its value is wrong.
    #[error("the Kafka client refused its settings: {0}; check the [kafka] section of the settings")]
    Settings(#[source] KafkaError),
    /// The brokers refused us, or sign-in failed.
    #[error("not authorised: {what}: {code}; grant the principal access or correct its credentials")]
    Unauthorised {
        /// What was being done.
        what: String,
        /// The broker's answer.
        code: RDKafkaErrorCode,
    },
    /// A topic does not exist.
    #[error(
        "topic `{0}` does not exist; create it (`twinlane topics create` makes all that a pipeline needs)"
    )]
    MissingTopic(String),
    /// A topic has another number of partitions than the pipeline plans.
    #[error(
        "topic `{topic}` has {found} partitions where the pipeline plans {planned}; set `partitions: {found}` in the pipeline file, or drain and recreate the topic"
    )]
    Partitions {
        /// The topic.
        topic: String,
        /// What the brokers say.
        found: i32,
        /// What the plan says.
        planned: i32,
    },
    /// No broker answered.
    #[error("no Kafka broker answered at {brokers}: {source}; is the cluster up and the address right?")]
    Unreachable {
        /// The bootstrap addresses.
        brokers: String,
        /// The client's last word.
        source: KafkaError,
    },
    /// Another process runs under the same transactional id.
    #[error("fenced: another process runs as `{0}`; give every replica of a stage its own --ordinal")]
    Fenced(String),
    /// A command was begun again while it ran, under the same transactional id; or its transaction timed out, which
    /// looks the same from here.
    #[error(
        "fenced: the same command was begun again (transactional id `{0}`); what this one sent stands, and the other goes on with the rest"
    )]
    Superseded(String),
    /// A broker refuses a record for good, so that its window could never be committed.
    #[error(
        "topic `{topic}` refuses what this stage writes: {code}; see its settings (cleanup.policy, message.timestamp.after.max.ms, max.message.bytes)"
    )]
    Refused {
        /// The topic of one such record.
        topic: String,
        /// The broker's answer.
        code: RDKafkaErrorCode,
    },
    /// The client has locked itself up; nothing that calls it comes back.
    #[error(
        "the Kafka client of stage `{0}` does not answer any more (as in librdkafka #5476); the process must be started \
         again, and goes on where it was"
    )]
    Hung(String),
    /// A thread of this crate panicked.
    #[error("the {0} thread panicked; its last words are in the log")]
    Panicked(&'static str),
    /// Something this crate has no better word for.
    #[error("{what}: {source}")]
    Client {
        /// What was being done.
        what: String,
        /// The client's error.
        source: KafkaError,
    },
}

/// Whether an error code means that waiting will not help, because somebody must grant something.
pub(crate) fn is_authorisation(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(
        code,
        E::TopicAuthorizationFailed
            | E::GroupAuthorizationFailed
            | E::ClusterAuthorizationFailed
            | E::TransactionalIdAuthorizationFailed
            | E::SaslAuthenticationFailed
            | E::Authentication
    )
}

/// Whether an error code means that a topic or partition is not there. Brokers may say so for a moment of one
/// that was just made.
pub(crate) fn is_missing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(code, E::UnknownTopicOrPartition | E::UnknownTopic | E::UnknownPartition)
}

/// Whether sending the same record again would end the same.
pub(crate) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(code, E::InvalidRecord | E::InvalidTimestamp | E::MessageSizeTooLarge)
}

/// Whether another producer has the transactional id, or had its transaction ended.
pub(crate) fn is_fenced(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(code, E::Fenced | E::ProducerFenced | E::InvalidProducerEpoch)
}

/// Whether librdkafka says that the same call may be made again with the same arguments.
pub(crate) fn is_retriable(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(inner) => RDKafkaError::is_retriable(inner) && !inner.txn_requires_abort(),
        KafkaError::Flush(_) => true,
        _ => false,
    }
}
