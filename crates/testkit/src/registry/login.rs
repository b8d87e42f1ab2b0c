//! A door before a registry that asks for a user and a password, as companies' registries do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// Hands on requests that carry the right header, one for each connection, until it is dropped.
#[derive(Debug)]
pub struct Login {
    address: SocketAddr,
    closed: Arc<AtomicBool>,
}

const REFUSAL: &str = r#"{"error_code":40101,"message":"no such user and password"}"#;

impl Login {
    /// Listens on a free port before `target`; `authorization` is what the header must say.
    ///
    /// # Errors
    /// When there is no port to listen at.
    pub fn start(target: SocketAddr, authorization: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io("starting a login"))?;
        let address = listener.local_addr().map_err(Error::io("asking for the login's port"))?;
        let closed = Arc::new(AtomicBool::new(false));
        let (ended, authorization) = (closed.clone(), authorization.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(std::result::Result::ok) {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                let authorization = authorization.clone();
                // A client that goes away in the middle is its own matter.
                std::thread::spawn(move || drop(serve(client, target, &authorization)));
            }
        });
        Ok(Self { address, closed })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Release);
        // Wakes the thread that waits for clients.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(client: TcpStream, target: SocketAddr, authorization: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let (mut head, mut length, mut welcome) = (String::new(), 0, false);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "authorization" => welcome = value.trim() == authorization,
                "connection" => continue,
                _ => {}
            }
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut client = client;
    if !welcome {
        let length = REFUSAL.len();
        return write!(
            client,
            "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{REFUSAL}"
        );
    }
    let mut registry = TcpStream::connect(target)?;
    registry.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
    registry.write_all(&body)?;
    std::io::copy(&mut registry, &mut client)?;
    client.shutdown(Shutdown::Both)
}
