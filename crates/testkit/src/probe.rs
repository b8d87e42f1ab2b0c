//! Asks a Kafka broker which brokers its cluster has, in the wire protocol itself, so that starting a broker needs no
//! Kafka client to be compiled. The request is `Metadata` version 1 with no topics; every Kafka up to 4.x answers it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const METADATA: i16 = 3;
const VERSION: i16 = 1;

/// The number of brokers that the cluster behind `address` knows.
pub(crate) fn brokers(address: SocketAddr) -> io::Result<usize> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(&request())?;

    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap_or(0).min(1 << 20)];
    stream.read_exact(&mut answer)?;
    // Correlation id, then the array of brokers, which begins with its length.
    let count = answer.get(4..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_be_bytes);
    Ok(usize::try_from(count).unwrap_or(0))
}

fn request() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(METADATA.to_be_bytes());
    body.extend(VERSION.to_be_bytes());
    body.extend(1_i32.to_be_bytes()); // correlation id
    body.extend(5_i16.to_be_bytes());
    body.extend(b"probe"); // client id
    body.extend(0_i32.to_be_bytes()); // an empty list of topics
    let mut framed = (body.len() as i32).to_be_bytes().to_vec();
    framed.extend(body);
    framed
}
