//! How brokers of ours are reached besides the plain listener that tests use themselves.

use std::net::SocketAddr;

/// A further listener of every broker, on a free port.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Its name, in upper case.
    pub name: &'static str,
    /// What is spoken there: `SSL`, `SASL_SSL` and the like.
    pub protocol: &'static str,
    /// Its own lines for `server.properties`, without `listener.name.….` before them.
    pub properties: Vec<(String, String)>,
}

/// One that has its port.
pub(super) struct Open<'a> {
    pub(super) name: &'a str,
    pub(super) protocol: &'a str,
    pub(super) bound: SocketAddr,
    /// Where clients are told to find it; nobody is told of the controllers' own.
    pub(super) advertised: Option<SocketAddr>,
    pub(super) properties: &'a [(String, String)],
}

impl<'a> Open<'a> {
    pub(super) fn plain(name: &'a str, bound: SocketAddr, advertised: Option<SocketAddr>) -> Self {
        Self { name, protocol: "PLAINTEXT", bound, advertised, properties: &[] }
    }
}

/// The lines for `server.properties`.
pub(super) fn lines(listeners: &[Open<'_>]) -> String {
    let each = |line: &dyn Fn(&Open<'_>) -> Option<String>| {
        listeners.iter().filter_map(line).collect::<Vec<_>>().join(",")
    };
    let mut lines = format!(
        "listeners={}\nadvertised.listeners={}\nlistener.security.protocol.map={}\n",
        each(&|one| Some(format!("{}://{}", one.name, one.bound))),
        each(&|one| Some(format!("{}://{}", one.name, one.advertised?))),
        each(&|one| Some(format!("{}:{}", one.name, one.protocol))),
    );
    for one in listeners {
        for (name, value) in one.properties {
            lines.push_str(&format!("listener.name.{}.{name}={value}\n", one.name.to_lowercase()));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_listener_has_its_protocol_and_its_own_settings() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let own = [("ssl.client.auth".to_owned(), "required".to_owned())];
        let tls =
            Open { name: "TLS", protocol: "SSL", bound: at(3), advertised: Some(at(4)), properties: &own };
        assert_eq!(
            lines(&[Open::plain("CONTROLLER", at(2), None), tls]),
            "listeners=CONTROLLER://127.0.0.1:2,TLS://127.0.0.1:3\n\
             advertised.listeners=TLS://127.0.0.1:4\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,TLS:SSL\n\
             listener.name.tls.ssl.client.auth=required\n"
        );
    }
}
