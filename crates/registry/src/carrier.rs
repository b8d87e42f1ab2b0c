//! HTTP for whoever else of this process speaks it, so that one crate knows how.

use std::time::Duration;

use ureq::{
    Agent,
    http::{Request, Response},
};

use crate::tls::trust;

/// Takes requests to a server that is no registry. It blocks, for no longer than its limit.
#[derive(Clone, Debug)]
pub struct Carrier(Agent);

/// Of an answer.
const LONGEST: u64 = 1 << 20;

impl Carrier {
    /// `authorities` are those that may vouch for a server behind TLS, as PEM; without them, the system's. `setting` names
    /// them in errors. They are looked at if `secure`; without that, only `http://` is spoken.
    ///
    /// # Errors
    /// In words, when there is nobody to believe.
    pub fn new(
        setting: &str,
        authorities: Option<&[u8]>,
        secure: bool,
        limit: Duration,
    ) -> Result<Self, String> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(limit))
            // A redirect would take a token in the headers to somebody else.
            .max_redirects(0)
            .user_agent(concat!("twinlane/", env!("CARGO_PKG_VERSION")));
        if secure {
            config = config.tls_config(trust(setting, authorities)?);
        }
        Ok(Self(config.build().new_agent()))
    }

    /// Sends one request, and waits for its answer of any status.
    ///
    /// # Errors
    /// With what the connection said, when none comes.
    pub fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, String> {
        let told = |error: ureq::Error| error.to_string();
        let mut response = self.0.run(request).map_err(told)?;
        let body = response.body_mut().with_config().limit(LONGEST).read_to_vec().map_err(told)?;
        Ok(response.map(|_| body))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Read as _, Write as _},
        net::TcpListener,
        sync::Arc,
        thread::JoinHandle,
    };

    use rustls::{
        ServerConfig, ServerConnection, StreamOwned,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    };

    use super::*;

    /// A receiver that answers one request over TLS: its address, whom to believe, and what it was sent, if anything.
    fn receiver() -> (String, Vec<u8>, JoinHandle<std::io::Result<Vec<u8>>>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let der = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_no_client_auth()
            .with_single_cert(vec![der.clone()], key)
            .expect("the key is the certificate's");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("https://localhost:{}", listener.local_addr().expect("it is bound").port());
        let served = std::thread::spawn(move || {
            let (stream, _) = listener.accept()?;
            let tls = ServerConnection::new(Arc::new(config)).expect("a connection");
            let mut reader = BufReader::new(StreamOwned::new(tls, stream));
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line)? > 2 {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a number");
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
            Ok(body)
        });
        (address, made.cert.pem().into_bytes(), served)
    }

    fn send(address: &str, authority: &[u8]) -> Result<Vec<u8>, String> {
        let carrier = Carrier::new("ca_file", Some(authority), true, Duration::from_secs(10))?;
        let request = Request::post(address).body(b"spans".to_vec()).expect("a request");
        carrier.send(request).map(Response::into_body)
    }

    #[test]
    fn a_receiver_behind_tls_takes_what_is_sent_by_those_that_believe_it() {
        let (address, authority, served) = receiver();
        assert_eq!(send(&address, &authority).expect("taken"), b"ok");
        assert_eq!(served.join().expect("no panic").expect("served"), b"spans");
    }

    #[test]
    fn a_receiver_that_nobody_vouches_for_gets_nothing() {
        let (address, _, served) = receiver();
        let (_, other, _) = receiver();
        let error = send(&address, &other).expect_err("refused");
        assert!(error.contains("certificate"), "{error}");
        served.join().expect("no panic").expect_err("no request");
    }
}
