//! A network between clients and one broker that can be cut and slowed down: a TCP proxy with a thread per direction.
//!
//! Every client names itself in the header of its first request, so a fault may hit one client alone. A cut ends the
//! connections that there are and every new one at once; a silent one keeps them and lets nothing through, which is what
//! a client sees of a cable that was pulled.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{Error, Result, wait};

/// What a network does to its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Connections are ended, and new ones as soon as they say who they are.
    Cut,
    /// Connections stay, and nothing comes through.
    Silent,
    /// Everything comes later, and at most so much of it.
    Slow {
        /// Added to each direction.
        latency: Duration,
        /// Bytes a second, per connection and direction.
        bytes_per_s: u64,
    },
}

/// Whom it hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Every client.
    All,
    /// The clients with this `client.id`.
    Client(String),
}

/// A proxy before one broker; it ends with its last clone's drop.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    weather: Mutex<Option<(Weather, Whom)>>,
    connections: Mutex<HashMap<u64, Connection>>,
    next: AtomicU64,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Connection {
    client: Option<String>,
    ends: [TcpStream; 2],
}

const CHUNK: usize = 16 << 10;
const LOOK: Duration = Duration::from_millis(20);

impl Proxy {
    /// Listens on a free port and hands every connection on to `target`.
    ///
    /// # Errors
    /// When there is no port to listen at.
    pub fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io("starting a proxy"))?;
        let address = listener.local_addr().map_err(Error::io("asking for the proxy's port"))?;
        let shared = Arc::new(Shared {
            target,
            weather: Mutex::default(),
            connections: Mutex::default(),
            next: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        spawn(move || {
            for stream in listener.incoming() {
                if accepting.closed.load(Ordering::Acquire) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&accepting);
                // A connection that fails is what clients of a broken network see.
                let _ = spawn(move || drop(shared.serve(stream)));
            }
        })?;
        Ok(Self { address, shared })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the network is so for `whom`; it replaces what was before.
    pub fn set(&self, weather: Weather, whom: Whom) {
        *lock(&self.shared.weather) = Some((weather, whom.clone()));
        if weather == Weather::Cut {
            for connection in lock(&self.shared.connections).values() {
                if is_hit(&whom, connection.client.as_deref()) {
                    connection.end();
                }
            }
        }
    }

    /// The network is sound again.
    pub fn heal(&self) {
        *lock(&self.shared.weather) = None;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        lock(&self.shared.connections).values().for_each(Connection::end);
    }
}

impl Connection {
    fn end(&self) {
        for stream in &self.ends {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn serve(self: Arc<Self>, mut client: TcpStream) -> std::io::Result<()> {
        client.set_nodelay(true)?;
        let mut first = vec![0; CHUNK];
        let length = client.read(&mut first)?;
        let name = client_id(&first[..length]);
        if matches!(self.now(name.as_deref()), Some(Weather::Cut)) {
            return client.shutdown(Shutdown::Both);
        }
        let mut broker = TcpStream::connect_timeout(&self.target, Duration::from_secs(5))?;
        broker.set_nodelay(true)?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let ends = [client.try_clone()?, broker.try_clone()?];
        lock(&self.connections).insert(id, Connection { client: name.clone(), ends });
        let served = self.both_ways(&mut client, &mut broker, &first[..length], name.as_deref());
        if let Some(connection) = lock(&self.connections).remove(&id) {
            connection.end();
        }
        served
    }

    fn both_ways(
        self: &Arc<Self>,
        client: &mut TcpStream,
        broker: &mut TcpStream,
        first: &[u8],
        name: Option<&str>,
    ) -> std::io::Result<()> {
        self.hold(first.len(), name)?;
        broker.write_all(first)?;
        let (mut from, mut to) = (broker.try_clone()?, client.try_clone()?);
        let (shared, back_name) = (Arc::clone(self), name.map(str::to_owned));
        let back = std::thread::Builder::new().name("proxy".into()).spawn(move || {
            let _ = shared.forward(&mut from, &mut to, back_name.as_deref());
            let _ = to.shutdown(Shutdown::Both);
        })?;
        let forth = self.forward(client, broker, name);
        let _ = broker.shutdown(Shutdown::Both);
        let _ = back.join();
        forth
    }

    fn forward(&self, from: &mut TcpStream, to: &mut TcpStream, name: Option<&str>) -> std::io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let length = from.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            self.hold(length, name)?;
            to.write_all(&buffer[..length])?;
        }
    }

    /// Waits as long as the network holds such a chunk back.
    fn hold(&self, length: usize, name: Option<&str>) -> std::io::Result<()> {
        loop {
            match self.now(name) {
                None => return Ok(()),
                Some(Weather::Cut) => return Err(std::io::ErrorKind::ConnectionReset.into()),
                Some(Weather::Silent) => wait::pause_for(LOOK),
                Some(Weather::Slow { latency, bytes_per_s }) => {
                    let transfer = Duration::from_secs_f64(length as f64 / bytes_per_s.max(1) as f64);
                    wait::pause_for(latency + transfer);
                    return Ok(());
                }
            }
            if self.closed.load(Ordering::Acquire) {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
        }
    }

    fn now(&self, client: Option<&str>) -> Option<Weather> {
        let weather = lock(&self.weather);
        weather.as_ref().filter(|(_, whom)| is_hit(whom, client)).map(|&(weather, _)| weather)
    }
}

fn is_hit(whom: &Whom, client: Option<&str>) -> bool {
    match whom {
        Whom::All => true,
        Whom::Client(name) => client == Some(name),
    }
}

/// The client's id in a request: size, api key, api version, correlation id, then the id with its length.
fn client_id(request: &[u8]) -> Option<String> {
    let length = i16::from_be_bytes(request.get(12..14)?.try_into().ok()?);
    let id = request.get(14..14 + usize::try_from(length).ok()?)?;
    String::from_utf8(id.to_vec()).ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in there is whole whatever panicked while it was locked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(run: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new().name("proxy".into()).spawn(run);
    thread.map(|_| ()).map_err(Error::io("starting a proxy's thread"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A broker that says everything back.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        });
        address
    }

    fn request(client: &str) -> Vec<u8> {
        let mut bytes = vec![0; 12];
        bytes.extend((client.len() as i16).to_be_bytes());
        bytes.extend(client.as_bytes());
        bytes
    }

    fn ask(stream: &mut TcpStream, client: &str) -> std::io::Result<()> {
        let sent = request(client);
        stream.write_all(&sent)?;
        stream.read_exact(&mut vec![0; sent.len()])
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    #[test]
    fn a_cut_ends_old_and_new_connections_until_it_heals() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut old = connect(&proxy);
        ask(&mut old, "a").unwrap();
        proxy.set(Weather::Cut, Whom::All);
        assert!(ask(&mut old, "a").is_err());
        assert!(ask(&mut connect(&proxy), "a").is_err());
        proxy.heal();
        ask(&mut connect(&proxy), "a").unwrap();
    }

    #[test]
    fn a_fault_may_hit_one_client_alone() {
        let proxy = Proxy::start(echo()).unwrap();
        let (mut one, mut other) = (connect(&proxy), connect(&proxy));
        ask(&mut one, "one").unwrap();
        ask(&mut other, "other").unwrap();
        proxy.set(Weather::Cut, Whom::Client("one".into()));
        assert!(ask(&mut one, "one").is_err());
        ask(&mut other, "other").unwrap();
    }

    #[test]
    fn a_slow_network_delays_each_way() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = connect(&proxy);
        ask(&mut stream, "a").unwrap();
        let latency = Duration::from_millis(60);
        proxy.set(Weather::Slow { latency, bytes_per_s: 1 << 20 }, Whom::All);
        let began = Instant::now();
        ask(&mut stream, "a").unwrap();
        assert!(began.elapsed() >= latency * 2, "{:?}", began.elapsed());
    }

    #[test]
    fn a_silent_network_keeps_what_was_sent_until_it_heals() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = connect(&proxy);
        ask(&mut stream, "a").unwrap();
        proxy.set(Weather::Silent, Whom::All);
        stream.write_all(b"late").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut answer = [0; 4];
        assert!(stream.read_exact(&mut answer).is_err(), "nothing comes through");
        proxy.heal();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"late");
    }
}
