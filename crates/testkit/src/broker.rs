//! A real Apache Kafka in KRaft mode, on free ports of this machine, gone when its [`Broker`] is dropped.
//!
//! Its settings are those of a small production cluster, but for what makes tests wait: groups rebalance at once,
//! members may be declared dead early, and abandoned transactions are found every second instead of every ten.
//! Topics are never created by accident.

mod listener;
mod outage;

pub use listener::Listener;
pub use outage::Coordinated;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Process, tail};
use crate::proxy::Proxy;
use crate::{Error, Result, cache, jars, probe, wait};
use listener::Open;

/// Names a cluster that is used instead of starting one.
pub const EXISTING_CLUSTER: &str = "KAFKA_BROKERS";
/// Names the broker that `cargo xtask test` started for all test binaries. It does not begin with `TWINLANE_`, since a
/// service refuses settings of that name that it does not know.
pub const SHARED_BROKER: &str = "TESTKIT_BROKERS";

const CLUSTER_ID: &str = "dHdpbmxhbmUtdGVzdGtpdA";
const START_LIMIT: Duration = Duration::from_secs(90);
/// What Java says when it cannot bind a port.
const PORT_TAKEN: &str = "Address already in use";

/// How a cluster is started.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// How many brokers; each is also a controller. Topics are replicated to up to three of them.
    pub brokers: usize,
    /// The heap of each broker, as Java writes it.
    pub heap: String,
    /// It lives for longer than some minutes, so that optimising itself pays.
    pub lives_long: bool,
    /// Further lines for `server.properties`; they win over ours.
    pub properties: Vec<(String, String)>,
    /// Listeners beside the plain one, in the order of [`Broker::listener`].
    pub listeners: Vec<Listener>,
    /// Users that sign in with SCRAM, and their passwords.
    pub scram_users: Vec<(String, String)>,
    /// Keep the brokers' folders, for reading their logs after a failure.
    pub keep_files: bool,
    /// Give each broker a second listener that clients reach through a [`Proxy`] of this process.
    pub behind_proxies: bool,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            brokers: 1,
            heap: "512m".into(),
            lives_long: false,
            properties: Vec::new(),
            listeners: Vec::new(),
            scram_users: Vec::new(),
            keep_files: false,
            behind_proxies: false,
        }
    }
}

/// A running Kafka: our own, which stops when this is dropped, or somebody else's, which does not.
#[derive(Debug)]
pub struct Broker {
    bootstrap: String,
    /// Of each further listener.
    others: Vec<String>,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    id: usize,
    address: SocketAddr,
    config: PathBuf,
    heap: String,
    lives_long: bool,
    process: Option<Process>,
    proxy: Option<Arc<Proxy>>,
    // Dropped last: the process writes into it until it has ended.
    _folder: Option<TempDir>,
}

impl Broker {
    /// Uses the cluster that `KAFKA_BROKERS` names, or starts one.
    ///
    /// # Errors
    /// When Java or Maven is missing, or Kafka does not come up; the error holds the end of its log.
    pub fn start(options: &BrokerOptions) -> Result<Self> {
        match cache::setting(EXISTING_CLUSTER) {
            Some(bootstrap) => Ok(Self { bootstrap, others: Vec::new(), nodes: Vec::new() }),
            None => Self::start_own(options),
        }
    }

    /// Starts a cluster even where `KAFKA_BROKERS` names one: for tests that kill brokers.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn start_own(options: &BrokerOptions) -> Result<Self> {
        let jars = jars::fetch(|| {})?;
        // A port that was free may be taken before Java binds it. That is rare, so a second try is enough.
        match Self::start_once(options, &jars) {
            Err(Error::Ended { tail, .. }) if tail.contains(PORT_TAKEN) => Self::start_once(options, &jars),
            result => result,
        }
    }

    /// The broker that the tests of this process share: the one that `cargo xtask test` started, or the cluster named
    /// by `KAFKA_BROKERS`, or one that lives as long as this process. Tests keep apart by the names of their topics.
    ///
    /// # Panics
    /// When there is no Kafka to be had: such a test has failed, it is never skipped.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| match cache::setting(SHARED_BROKER) {
            Some(bootstrap) => Self { bootstrap, others: Vec::new(), nodes: Vec::new() },
            None => match Self::start(&BrokerOptions::default()) {
                Ok(broker) => broker,
                Err(error) => panic!("this test needs a real Kafka: {error}"),
            },
        })
    }

    /// The value for a client's `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The same for a further listener of our brokers, by its place in [`BrokerOptions::listeners`].
    pub fn listener(&self, index: usize) -> &str {
        &self.others[index]
    }

    /// Whether this cluster was started here, so that it is small, empty, and may be broken by a test.
    pub fn is_own(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// The operating system's numbers of our brokers that run.
    pub fn process_ids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| Some(node.process.as_ref()?.id())).collect()
    }

    /// Fails when a broker of ours has ended without being asked.
    ///
    /// # Errors
    /// With how it ended and the end of its log.
    pub fn check_running(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            if let Some(status) = node.process.as_mut().and_then(Process::ended) {
                return Err(node.ended_with(status));
            }
        }
        Ok(())
    }

    /// Asks our brokers to stop, and waits; what has not stopped after ten seconds is killed. Dropping does the same.
    pub fn stop(mut self) {
        self.stop_nodes();
    }

    fn stop_nodes(&mut self) {
        for node in &mut self.nodes {
            if let Some(process) = &node.process {
                process.ask_to_stop();
            }
        }
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                process.stop(Duration::from_secs(10));
            }
        }
    }

    fn start_once(options: &BrokerOptions, jars: &Path) -> Result<Self> {
        let ports = free_ports(options.brokers * (3 + options.listeners.len()))?;
        let (listeners, ports) = ports.split_at(options.brokers);
        let (controllers, ports) = ports.split_at(options.brokers);
        let (behind_proxies, others) = ports.split_at(options.brokers);
        let others: Vec<_> = others.chunks(options.brokers).collect();
        let voters: Vec<_> = controllers
            .iter()
            .enumerate()
            .map(|(index, address)| format!("{}@{address}", index + 1))
            .collect();

        let mut nodes = Vec::new();
        for (index, (&address, &controller)) in listeners.iter().zip(controllers).enumerate() {
            let folder = tempfile::Builder::new()
                .prefix("twinlane-kafka-")
                .disable_cleanup(options.keep_files)
                .tempdir();
            let folder = folder.map_err(Error::io("creating a folder for Kafka"))?;
            let hidden = behind_proxies[index];
            let proxy = options.behind_proxies.then(|| Proxy::start(hidden)).transpose()?;
            let mut open = vec![
                Open::plain("PLAINTEXT", address, Some(address)),
                Open::plain("CONTROLLER", controller, None),
            ];
            open.extend(proxy.iter().map(|proxy| Open::plain("PROXIED", hidden, Some(proxy.address()))));
            open.extend(options.listeners.iter().zip(&others).map(|(of, ports)| Open {
                name: of.name,
                protocol: of.protocol,
                bound: ports[index],
                advertised: Some(ports[index]),
                properties: &of.properties,
            }));
            let properties = properties(index + 1, options, &listener::lines(&open), &voters, folder.path());
            let config = folder.path().join("server.properties");
            std::fs::write(&config, properties).map_err(Error::io("writing server.properties"))?;
            std::fs::write(folder.path().join("log4j2.properties"), logging(folder.path()))
                .map_err(Error::io("writing log4j2.properties"))?;
            let mut node = Node {
                id: index + 1,
                address,
                config,
                heap: options.heap.clone(),
                lives_long: options.lives_long,
                process: None,
                proxy: proxy.map(Arc::new),
                _folder: Some(folder),
            };
            node.format(jars, &options.scram_users)?;
            node.start(jars)?;
            nodes.push(node);
        }
        let bootstrap = |of: &[SocketAddr]| of.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let others = others.into_iter().map(bootstrap).collect();
        let mut broker = Self { bootstrap: bootstrap(listeners), others, nodes };
        for node in &mut broker.nodes {
            node.wait_until_ready(options.brokers)?;
        }
        Ok(broker)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop_nodes();
    }
}

impl Node {
    fn folder(&self) -> &Path {
        self.config.parent().expect("the settings lie in the node's folder")
    }

    fn java(&self, jars: &Path, main: &str) -> Result<std::process::Command> {
        let mut java = std::process::Command::new(java()?);
        if !self.lives_long {
            // It would spend its life on optimising itself.
            java.arg("-XX:TieredStopAtLevel=1");
        }
        java.arg(format!("-Xmx{}", self.heap))
            .args(["-XX:+UseSerialGC", "-Djava.awt.headless=true"])
            .arg(format!("-Dlog4j2.configurationFile=file:{}/log4j2.properties", self.folder().display()))
            // Its native libraries are unpacked there, and stay when it is killed.
            .arg(format!("-Djava.io.tmpdir={}", self.folder().display()))
            .arg("-cp")
            .arg(jars.join("*"))
            .arg(main);
        Ok(java)
    }

    fn format(&self, jars: &Path, scram_users: &[(String, String)]) -> Result<()> {
        let mut format = self.java(jars, "kafka.tools.StorageTool")?;
        format.args(["format", "--cluster-id", CLUSTER_ID, "--config"]).arg(&self.config);
        for (name, password) in scram_users {
            for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                format.arg("--add-scram").arg(format!("{mechanism}=[name={name},password={password}]"));
            }
        }
        let output = format.output().map_err(Error::io("formatting Kafka's folder"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::Ended {
            name: "Kafka's storage tool".into(),
            status: output.status.to_string(),
            log: self.folder().join("kafka.log"),
            tail: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    fn start(&mut self, jars: &Path) -> Result<()> {
        let mut java = self.java(jars, "kafka.Kafka")?;
        java.arg(&self.config);
        let log = self.folder().join("output.log");
        let folder = self._folder.as_ref().map(TempDir::path);
        self.process = Some(Process::start(&format!("Kafka broker {}", self.id), java, &log, folder)?);
        Ok(())
    }

    /// Waits until this broker answers a request and knows `brokers` brokers.
    fn wait_until_ready(&mut self, brokers: usize) -> Result<()> {
        let log = self.folder().join("kafka.log");
        let address = self.address;
        let process = self.process.as_mut().expect("a node is started before it is waited for");
        let answer = wait::until(START_LIMIT, || match process.ended() {
            Some(status) => Some(Err(status)),
            None => (probe::brokers(address).ok()? >= brokers).then_some(Ok(())),
        });
        match answer {
            Some(Ok(())) => Ok(()),
            Some(Err(status)) => Err(self.ended_with(status)),
            None => Err(Error::Timeout {
                what: format!("an answer from Kafka at {address}"),
                within: START_LIMIT,
                context: format!("\nthe end of its log:\n{}", tail(&log, 20)),
            }),
        }
    }

    fn ended_with(&self, status: String) -> Error {
        let log = self.folder().join("kafka.log");
        let text = std::fs::read(&log).unwrap_or_default();
        Error::Ended {
            name: format!("Kafka broker {}", self.id),
            status,
            tail: format!(
                "{}{}\n{}",
                taken_port(&String::from_utf8_lossy(&text)),
                tail(&log, 20),
                tail(&self.folder().join("output.log"), 10)
            ),
            log,
        }
    }
}

/// The line that says that a port was taken, which the shutdown after it has moved far from the log's end.
fn taken_port(log: &str) -> String {
    log.lines().find(|line| line.contains(PORT_TAKEN)).map(|line| format!("{line}\n…\n")).unwrap_or_default()
}

/// The Java to run: `JAVA_HOME`'s, or the one on the `PATH`.
///
/// # Errors
/// When there is none.
pub fn java() -> Result<PathBuf> {
    let java = match cache::setting("JAVA_HOME") {
        Some(home) => PathBuf::from(home).join("bin/java"),
        None => PathBuf::from("java"),
    };
    let answers =
        std::process::Command::new(&java).arg("-version").output().is_ok_and(|out| out.status.success());
    if answers {
        return Ok(java);
    }
    Err(Error::Missing { program: "java (17 or newer)", remedy: "apt-get install openjdk-17-jre-headless" })
}

fn free_ports(count: usize) -> Result<Vec<SocketAddr>> {
    // All are held until all are known, so that no two are the same.
    let held: std::io::Result<Vec<_>> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect();
    let addresses: std::io::Result<Vec<_>> =
        held.and_then(|held| held.iter().map(TcpListener::local_addr).collect());
    addresses.map_err(Error::io("finding free ports"))
}

fn properties(
    id: usize,
    options: &BrokerOptions,
    listeners: &str,
    voters: &[String],
    folder: &Path,
) -> String {
    let replicas = options.brokers.min(3);
    let in_sync = replicas.saturating_sub(1).max(1);
    let voters = voters.join(",");
    let data = folder.join("data");
    let mut text = format!(
        "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
{listeners}controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=8
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
",
        data.display()
    );
    for (name, value) in &options.properties {
        text.push_str(&format!("{name}={value}\n"));
    }
    text
}

fn logging(folder: &Path) -> String {
    format!(
        "appender.file.type=File
appender.file.name=file
appender.file.fileName={}/kafka.log
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=INFO
rootLogger.appenderRef.file.ref=file
",
        folder.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_starts_answers_and_leaves_nothing_behind() {
        let mut broker = Broker::start_own(&BrokerOptions::default()).unwrap();
        let node = &broker.nodes[0];
        let (address, folder) = (node.address, node.folder().to_owned());
        assert_eq!(probe::brokers(address).unwrap(), 1);
        broker.check_running().unwrap();

        broker.stop();

        assert!(probe::brokers(address).is_err(), "something still listens at {address}");
        assert!(!folder.exists(), "{} is still there", folder.display());
    }

    #[test]
    fn a_taken_port_is_found_wherever_the_log_tells_of_it() {
        let shutdown = "[SocketServer] Stopped\n".repeat(100);
        let line = "[now] ERROR Socket server failed to bind to 127.0.0.1:9: Address already in use. (kafka)";
        assert_eq!(taken_port(&format!("[now] INFO\n{line}\n{shutdown}")), format!("{line}\n…\n"));
        assert_eq!(taken_port(&shutdown), "");
    }
}
