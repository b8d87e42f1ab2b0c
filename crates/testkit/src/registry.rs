//! A real schema registry with Confluent's API: Apicurio Registry's application from Maven Central, with its data in
//! memory, at a port for HTTP and one for HTTPS. Confluent's own is under a licence that does not allow everything.

mod login;

pub use login::Login;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Process, free_port, tail};
use crate::{Error, Result, broker, maven, wait};

/// The Apicurio Registry release that tests run against. From 3.3 on it needs Java 21, which Kafka does not.
pub const REGISTRY_VERSION: &str = "2.6.13.Final";
/// Below it are `/subjects` and `/schemas`.
const API: &str = "/apis/ccompat/v7";
const START_LIMIT: Duration = Duration::from_secs(120);
const PASSWORD: &str = "for-tests-only";

/// Makes sure that the application is there, and gives its folder.
///
/// # Errors
/// When Maven is missing or cannot fetch.
pub fn fetch() -> Result<PathBuf> {
    maven::once(&format!("apicurio-registry-{REGISTRY_VERSION}"), |work| {
        let arguments = [
            format!("-Dartifact=io.apicurio:apicurio-registry-app:{REGISTRY_VERSION}:zip:all"),
            format!("-DoutputDirectory={}", work.join("filled").display()),
        ];
        maven::dependency(work, "unpack", &arguments, &format!("Apicurio Registry {REGISTRY_VERSION}"), || {})
    })
}

/// A running registry, empty when it starts, gone when it is dropped.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    tls: SocketAddr,
    process: Process,
    // Dropped last: the process writes into it until it has ended.
    folder: TempDir,
}

impl Registry {
    /// Starts one at a free port.
    ///
    /// # Errors
    /// When Java or Maven is missing, or it does not come up; the error holds the end of its log.
    pub fn start() -> Result<Self> {
        Self::start_at(free_port()?)
    }

    /// Starts one at this address, which somebody may have been told before.
    ///
    /// # Errors
    /// As [`Registry::start`].
    pub fn start_at(address: SocketAddr) -> Result<Self> {
        let application = fetch()?;
        let folder = tempfile::tempdir().map_err(Error::io("creating the registry's folder"))?;
        let tls = free_port()?;
        certify(folder.path())?;
        let log = folder.path().join("registry.log");
        let mut java = Command::new(broker::java()?);
        java.args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"])
            .arg(format!("-Djava.io.tmpdir={}", folder.path().display()))
            .arg("-jar")
            .arg(runner(&application)?)
            .current_dir(folder.path())
            .env("QUARKUS_HTTP_HOST", address.ip().to_string())
            .env("QUARKUS_HTTP_PORT", address.port().to_string())
            .env("QUARKUS_HTTP_SSL_PORT", tls.port().to_string())
            .env("QUARKUS_HTTP_SSL_CERTIFICATE_KEY_STORE_FILE", folder.path().join("key.p12"))
            .env("QUARKUS_HTTP_SSL_CERTIFICATE_KEY_STORE_PASSWORD", PASSWORD);
        let process = Process::start("registry", java, &log, Some(folder.path()))?;
        let mut registry = Self { address, tls, process, folder };
        let ready = wait::until(START_LIMIT, || match registry.process.ended() {
            Some(status) => Some(Err(status)),
            None => registry
                .ask("GET", "/schemas/types", "")
                .is_ok_and(|(status, _)| status == 200)
                .then_some(Ok(())),
        });
        match ready {
            Some(Ok(())) => Ok(registry),
            Some(Err(status)) => {
                Err(Error::Ended { name: "registry".into(), status, tail: tail(&log, 30), log })
            }
            None => Err(Error::Timeout {
                what: "the registry's start".into(),
                within: START_LIMIT,
                context: format!("\nthe end of {}:\n{}", log.display(), tail(&log, 30)),
            }),
        }
    }

    /// Where the application listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a client is told.
    pub fn url(&self) -> String {
        url(self.address)
    }

    /// The same behind TLS, for those that believe [`Registry::authority`].
    pub fn tls_url(&self) -> String {
        format!("https://localhost:{}{API}", self.tls.port())
    }

    /// The certificate that its own is signed with, as PEM.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Makes a schema the newest version of a subject, and gives its id.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        let body = format!(
            r#"{{"schema":"{}"}}"#,
            schema.replace('\\', r"\\").replace('"', "\\\"").replace('\n', " ")
        );
        let path = format!("/subjects/{subject}/versions");
        let (status, answer) =
            self.ask("POST", &path, &body).map_err(Error::io(format!("registering {subject}")))?;
        let id = answer.split_once("\"id\":").map(|(_, rest)| rest.trim_start());
        let digits = id.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
        let id = digits.and_then(|digits| digits.parse().ok()).filter(|_| status == 200);
        id.ok_or_else(|| refused(&format!("registering {subject}"), status, &answer))
    }

    /// Has the registry refuse versions of a subject that cannot read those before them.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub fn guard(&self, subject: &str) -> Result<()> {
        let what = format!("guarding {subject}");
        let body = r#"{"compatibility":"BACKWARD"}"#;
        let answer = self.ask("PUT", &format!("/config/{subject}"), body).map_err(Error::io(what.clone()))?;
        if answer.0 == 200 { Ok(()) } else { Err(refused(&what, answer.0, &answer.1)) }
    }

    /// What it answers to a `GET`, whatever the status.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn get(&self, path: &str) -> Result<String> {
        Ok(self.ask("GET", path, "").map_err(Error::io(format!("asking the registry for {path}")))?.1)
    }

    /// Kills it, as a machine that goes away would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        // HTTP/1.0 has no chunks: what follows the headers is the body.
        let head = format!(
            "{method} {API}{path} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.get(9..12).and_then(|digits| digits.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other("not an HTTP answer"))?;
        Ok((status, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned()))
    }
}

/// What a client is told of a registry at this address.
pub fn url(address: SocketAddr) -> String {
    format!("http://{address}{API}")
}

fn refused(what: &str, status: u16, answer: &str) -> Error {
    Error::io(what)(std::io::Error::other(format!("status {status}: {answer}")))
}

/// The application's own jar, which names the others.
fn runner(application: &Path) -> Result<PathBuf> {
    let mut folders = vec![application.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(Error::io("looking for the registry's jar"))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.to_string_lossy().ends_with("-runner.jar") {
                return Ok(path);
            }
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    Err(Error::io("looking for the registry's jar")(std::io::Error::other("there is none in the archive")))
}

/// A key in `key.p12`, and the certificate that vouches for it in `authority.pem`.
fn certify(folder: &Path) -> Result<()> {
    let keytool = |arguments: &[&str]| {
        let said = Command::new(broker::java()?.with_file_name("keytool"))
            .current_dir(folder)
            .args([
                "-keystore",
                "key.p12",
                "-storetype",
                "PKCS12",
                "-storepass",
                PASSWORD,
                "-alias",
                "registry",
            ])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|_| Error::Missing {
                program: "keytool",
                remedy: "apt-get install openjdk-17-jre-headless",
            })?;
        if said.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&said.stdout).into_owned();
        Err(Error::io("making a certificate")(std::io::Error::other(told)))
    };
    keytool(&[
        "-genkeypair",
        "-keyalg",
        "EC",
        "-groupname",
        "secp256r1",
        "-validity",
        "2",
        "-dname",
        "CN=localhost",
        "-ext",
        "san=dns:localhost,ip:127.0.0.1",
    ])?;
    keytool(&["-exportcert", "-rfc", "-file", "authority.pem"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_keeps_what_it_is_given_and_leaves_nothing_behind() {
        let registry = Registry::start().unwrap();
        let schema = r#"{"type":"record","name":"r","fields":[{"name":"a","type":"int"}]}"#;
        let id = registry.register("s", schema).unwrap();
        assert_eq!(registry.register("s", schema).unwrap(), id);
        assert!(registry.get(&format!("/schemas/ids/{id}")).unwrap().contains("record"));
        assert!(std::fs::read_to_string(registry.authority()).unwrap().contains("BEGIN CERTIFICATE"));
        let folder = registry.folder.path().to_owned();
        drop(registry);
        assert!(!folder.exists());
    }
}
