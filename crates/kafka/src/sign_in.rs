//! What ends a client before it has asked for anything: brokers that do not let it in, and certificates that one side does
//! not accept. librdkafka tells of these in words; the codes beside them it also gives to connections that merely broke
//! while both sides introduced themselves, and those heal.

use std::sync::{Mutex, PoisonError};

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode,
};

use crate::{Error, complaints::Complaints, consumer::log, error::CertificateFault, trust};

/// What a client's callback hears: for the log, and for whoever is to decide about the client.
#[derive(Default)]
pub(crate) struct Heard {
    refusal: Mutex<Option<Refusal>>,
    pub(crate) complaints: Complaints,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Refusal {
    /// The brokers', in their words.
    SignIn(String),
    TheirCertificate,
    OurCertificate,
}

impl Heard {
    /// To be called for every error of a client (`consumer`, `producer`).
    pub(crate) fn hear(&self, client: &str, error: &KafkaError, reason: &str) {
        self.complaints.tell(client, error, reason);
        if let Some(refusal) = error.rdkafka_error_code().and_then(|code| Refusal::of(code, reason)) {
            // It is set whole.
            *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
        }
    }

    /// Why the client with these settings cannot go on, if that was heard. Where a certificate was refused, this asks
    /// why, which takes a moment.
    pub(crate) fn failure(&self, config: &ClientConfig) -> Option<Error> {
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let brokers = config.get("bootstrap.servers").unwrap_or_default().to_owned();
        let fault = match refusal {
            Refusal::SignIn(why) => return Some(Error::SignIn { brokers, why }),
            Refusal::TheirCertificate => trust::fault(config),
            Refusal::OurCertificate => CertificateFault::Ours,
        };
        Some(Error::Certificate { brokers, fault })
    }
}

/// TLS alerts about the certificate of the one who hears them: bad, unsupported, revoked, expired, unknown, of an unknown
/// authority, missing (RFC 8446, section 6.2).
const ABOUT_OURS: [&str; 7] = ["42", "43", "44", "45", "46", "48", "116"];

impl Refusal {
    fn of(code: RDKafkaErrorCode, reason: &str) -> Option<Self> {
        use RDKafkaErrorCode as E;
        let said = |words: &[&str]| words.iter().any(|words| reason.contains(words));
        match code {
            // A connection that broke is an error of this side.
            E::Authentication | E::SaslAuthenticationFailed if !said(&["handshake failed: Local: "]) => {
                Some(Self::SignIn(in_their_words(reason)))
            }
            E::SSL
                if said(&[
                    "certificate verify failed",
                    "verify broker certificate",
                    "not provide a certificate",
                ]) =>
            {
                Some(Self::TheirCertificate)
            }
            // It may come after our side of the handshake is done, when the client asks its first question.
            E::SSL | E::BrokerTransportFailure => {
                let alert = reason.split("SSL alert number ").nth(1)?;
                let number = alert.split(|c: char| !c.is_ascii_digit()).next()?;
                ABOUT_OURS.contains(&number).then_some(Self::OurCertificate)
            }
            _ => None,
        }
    }
}

/// From `sasl_ssl://host:port/bootstrap: SASL authentication error: Authentication failed: … (after 5ms in state …)`.
fn in_their_words(reason: &str) -> String {
    let said = reason.split_once("SASL authentication error: ").map_or(reason, |(_, said)| said);
    let said = said.split(" (after ").next().unwrap_or(said);
    // Brokers word it freely, and this is to be one sentence.
    said.trim_end_matches('.').replace(['\n', '\r', ';'], ",")
}

/// A consumer that only listens: an admin client does not tell why its brokers are away.
pub(crate) fn listener(config: &ClientConfig) -> KafkaResult<BaseConsumer<Listener>> {
    config.clone().set("group.id", "twinlane-admin").create_with_context(Listener::default())
}

#[derive(Default)]
pub(crate) struct Listener(pub(crate) Heard);

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.hear("admin client", &error, reason);
    }
}

impl ConsumerContext for Listener {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_refuses_whom_is_told_by_librdkafkas_words() {
        use RDKafkaErrorCode as E;
        let verify = "ssl://a:1/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: \
                      broker certificate could not be verified";
        let missing = "ssl://a:1/1: Receive failed: error:0A00045C:SSL routines::tlsv13 alert certificate required: \
                       SSL alert number 116";
        let wrong = "sasl_ssl://a:1/1: SASL authentication error: Authentication failed: Invalid username or password \
                     (after 30ms in state AUTH_REQ)";
        let sign_in = Refusal::SignIn("Authentication failed: Invalid username or password".into());
        let refusals = [
            (E::SSL, verify, Refusal::TheirCertificate),
            (E::BrokerTransportFailure, missing, Refusal::OurCertificate),
            (E::Authentication, wrong, sign_in),
        ];
        for (code, reason, refusal) in refusals {
            assert_eq!(Refusal::of(code, reason), Some(refusal), "{reason}");
        }
    }

    #[test]
    fn a_connection_that_breaks_while_both_sides_introduce_themselves_heals() {
        use RDKafkaErrorCode as E;
        let breaks = [
            (
                E::SSL,
                "ssl://a:1/1: SSL handshake failed: error:0A000126:SSL routines::unexpected eof while reading",
            ),
            (E::BrokerTransportFailure, "ssl://a:1/1: Disconnected: during SSL connection handshake"),
            (
                E::Authentication,
                "sasl_ssl://a:1/1: SASL PLAIN mechanism handshake failed: Local: Broker transport failure: broker's \
                 supported mechanisms: (n/a)",
            ),
            (E::BrokerTransportFailure, "ssl://a:1/1: Receive failed: SSL alert number 80"),
            (E::AllBrokersDown, "1/1 brokers are down"),
        ];
        for (code, reason) in breaks {
            assert_eq!(Refusal::of(code, reason), None, "{reason}");
        }
    }
}
