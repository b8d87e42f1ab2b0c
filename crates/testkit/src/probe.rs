//! Asks a Kafka broker which brokers its cluster has, and which of them coordinates something, in the wire protocol
//! itself, so that starting a broker needs no Kafka client to be compiled. The requests are `Metadata` version 1 with no
//! topics and `FindCoordinator` version 1; every Kafka up to 4.x answers them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const METADATA: i16 = 3;
const FIND_COORDINATOR: i16 = 10;

/// What is coordinated.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeyKind {
    Group = 0,
    Transactions = 1,
}

/// The number of brokers that the cluster behind `address` knows.
pub(crate) fn brokers(address: SocketAddr) -> io::Result<usize> {
    // An empty list of topics; the answer is the array of brokers, which begins with its length.
    let answer = ask(address, METADATA, &0_i32.to_be_bytes())?;
    let count = answer.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_be_bytes);
    Ok(usize::try_from(count).unwrap_or(0))
}

/// The id of the broker that coordinates the group or transactional id `key`.
pub(crate) fn coordinator(address: SocketAddr, kind: KeyKind, key: &str) -> io::Result<usize> {
    let mut body = text(key);
    body.push(kind as u8);
    let answer = ask(address, FIND_COORDINATOR, &body)?;
    // Throttle time, error code, a message with its length (-1: none), then the node's id.
    let unexpected = || io::Error::other("not an answer to FindCoordinator");
    let short =
        |at: usize| answer.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(i16::from_be_bytes);
    let code = short(4).ok_or_else(unexpected)?;
    let message = usize::try_from(short(6).ok_or_else(unexpected)?).unwrap_or(0);
    let id =
        answer.get(8 + message..12 + message).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
    match (code, id.map(usize::try_from)) {
        (0, Some(Ok(id))) => Ok(id),
        _ => Err(io::Error::other(format!("no coordinator, code {code}"))),
    }
}

/// Sends a request of version 1 and gives its answer without size and correlation id.
pub(crate) fn ask(address: SocketAddr, key: i16, body: &[u8]) -> io::Result<Vec<u8>> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(&request(key, body))?;

    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = usize::try_from(i32::from_be_bytes(size)).unwrap_or(0).min(1 << 20);
    let mut answer = vec![0; size.max(4)];
    stream.read_exact(&mut answer)?;
    Ok(answer.split_off(4))
}

fn request(key: i16, body: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend(key.to_be_bytes());
    request.extend(1_i16.to_be_bytes());
    request.extend(1_i32.to_be_bytes()); // correlation id
    request.extend(text("probe")); // client id
    request.extend(body);
    let mut framed = (request.len() as i32).to_be_bytes().to_vec();
    framed.extend(request);
    framed
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    [&(text.len() as i16).to_be_bytes(), text.as_bytes()].concat()
}
