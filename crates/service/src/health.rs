//! Asks the service that runs on this machine whether it is ready. For containers: their images hold no HTTP client, so the
//! program that serves the answer also fetches it.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

/// How long a connection and each read may take. Whoever asks (an image's HEALTHCHECK) allows more.
const LIMIT: Duration = Duration::from_secs(2);
/// The answer is a few lines.
const LONGEST: u64 = 64 << 10;

/// The body of `/health/ready`; an error if the service is not ready or does not answer.
pub(crate) fn ask(host: IpAddr, port: u16) -> anyhow::Result<String> {
    ensure!(port != 0, "the admin port is a free one, so nobody else knows it; give --admin-port");
    let address = SocketAddr::new(reachable(host), port);
    let said = fetch(address).with_context(|| format!("asking {address}"))?;
    let (head, body) = said.split_once("\r\n\r\n").context("no HTTP answer")?;
    if head.split(' ').nth(1) != Some("200") {
        bail!("{}", body.trim_end());
    }
    Ok(body.to_owned())
}

fn fetch(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    // HTTP/1.0: the answer ends where the connection does, and comes in one piece.
    stream.write_all(b"GET /health/ready HTTP/1.0\r\n\r\n")?;
    let mut said = String::new();
    stream.take(LONGEST).read_to_string(&mut said)?;
    Ok(said)
}

/// Who listens everywhere is asked on this machine.
fn reachable(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, routing::get};

    use super::*;

    /// Serves an answer as the admin port does, and gives what a check of it says.
    fn check(status: StatusCode, body: &'static str) -> anyhow::Result<String> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let port = listener.local_addr()?.port();
        let routes = Router::new().route("/health/ready", get(async move || (status, body)));
        runtime.spawn(async move { axum::serve(listener, routes).await });
        // As in a container, where the service listens on all addresses.
        ask(Ipv4Addr::UNSPECIFIED.into(), port)
    }

    #[test]
    fn a_service_is_healthy_when_it_says_that_it_is_ready() {
        assert_eq!(check(StatusCode::OK, "ready\n").expect("ready"), "ready\n");
    }

    #[test]
    fn one_that_is_not_ready_says_why() {
        let error = check(StatusCode::SERVICE_UNAVAILABLE, "models are not warm\n").expect_err("not ready");
        assert_eq!(error.to_string(), "models are not warm");
    }

    #[test]
    fn one_that_does_not_listen_is_not_healthy() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        drop(listener);
        let error = ask(address.ip(), address.port()).expect_err("nobody listens").to_string();
        assert_eq!(error, format!("asking {address}"));
    }

    #[test]
    fn a_port_that_nobody_knows_cannot_be_asked() {
        let error = ask(Ipv4Addr::LOCALHOST.into(), 0).expect_err("no port").to_string();
        assert!(error.contains("--admin-port"), "{error}");
    }
}
