//! What can go wrong with Kafka, sorted by what a caller can do about it.

use rdkafka::{
    error::{KafkaError, RDKafkaError},
    types::{RDKafkaConfRes, RDKafkaErrorCode},
};

/// An error that ends a stage. Errors that heal (brokers away, time-outs, rebalances) are logged and retried
/// inside this crate and never surface here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A client setting is not one that librdkafka knows, or its value is wrong.
    #[error("the Kafka client refused its settings: {0}; check the [kafka] section of the settings")]
    Settings(String),
    /// The brokers did not let us in.
    #[error(
        "the brokers at {brokers} refused to sign us in: {why}; correct sasl.mechanism, the user or its password in the \
         [kafka] section of the settings"
    )]
    SignIn {
        /// The bootstrap addresses.
        brokers: String,
        /// The brokers' words.
        why: String,
    },
    /// One side of a TLS connection does not accept the other's certificate.
    #[error("no TLS connection to the brokers at {brokers}: {fault}")]
    Certificate {
        /// The bootstrap addresses.
        brokers: String,
        /// What is wrong, and what to do about it.
        fault: CertificateFault,
    },
    /// The brokers let us in, and not do this.
    #[error(
        "not authorised: {what}: {code}; grant the principal access (docs/secured-cluster.md lists the ACLs of each service)"
    )]
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
    #[error(
        "no Kafka broker answered at {brokers}: {source}; is the cluster up, and are the address and security.protocol right?"
    )]
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

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFault {
    /// The brokers'.
    #[error("their certificate has expired; renew it")]
    Expired,
    /// The brokers'.
    #[error("their certificate is not valid yet; compare the clocks of both machines")]
    NotYetValid,
    /// The brokers'.
    #[error(
        "an authority that is not trusted here has signed their certificate; name its own in ssl.ca.location"
    )]
    UnknownAuthority,
    /// The brokers'.
    #[error("their certificate is for another host name; use one that it names as the broker's address")]
    OtherName,
    /// The brokers'.
    #[error("their certificate was revoked; renew it")]
    Revoked,
    /// The brokers', for a reason that OpenSSL has a number for (`X509_V_ERR_…`), or 0 where it could not be asked again.
    #[error("their certificate could not be verified (X.509 error {0}); check it, and ssl.ca.location")]
    Other(i32),
    /// This client's.
    #[error(
        "they do not accept the certificate of this client, or miss one; check ssl.certificate.location and ssl.key.location (or ssl.keystore.location), \
         and whether it has expired"
    )]
    Ours,
}

/// A client could not be made of these settings. What a property was set to may be a secret, and is left out.
pub(crate) fn settings(error: KafkaError) -> Error {
    Error::Settings(match error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, property, _) => {
            format!("it knows no property `{property}`")
        }
        KafkaError::ClientConfig(_, why, property, value) if why.contains(&value) => {
            format!("`{property}` does not take what it is set to")
        }
        KafkaError::ClientConfig(_, why, property, _) => format!("`{property}`: {why}"),
        KafkaError::ClientCreation(why) => why,
        other => other.to_string(),
    })
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

#[cfg(test)]
mod tests {
    use rdkafka::{ClientConfig, consumer::BaseConsumer};

    use super::*;

    #[test]
    fn what_a_property_was_set_to_is_not_told() {
        for (property, said) in [
            ("sasl.pasword", "`sasl.pasword`"),
            ("security.protocol", "`security.protocol`"),
            ("linger.ms", "`linger.ms`"),
            ("sasl.jaas.config", "`sasl.jaas.config`"),
            ("ssl.ca.pem", "ssl.ca.pem"),
            ("ssl.key.pem", "ssl.key.pem"),
        ] {
            let mut config = ClientConfig::new();
            config.set("group.id", "g").set("security.protocol", "SASL_SSL").set("sasl.username", "u");
            config.set("sasl.mechanism", "PLAIN").set("sasl.password", "hunter2").set(property, "hunter2");
            let made = config.create::<BaseConsumer>();
            let sentence = settings(made.err().unwrap_or_else(|| panic!("{property} is taken"))).to_string();
            assert!(sentence.contains(said) && !sentence.contains("hunter2"), "{sentence}");
        }
    }
}
