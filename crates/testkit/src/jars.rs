//! Apache Kafka's jars, fetched from Maven Central with the version of every one pinned by Kafka's own release.
//!
//! The folder is filled under another name and then renamed, so a folder that exists is complete.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{Error, Result, cache};

/// The Apache Kafka release that tests and the demo run against.
pub const KAFKA_VERSION: &str = "4.4.0";
/// The logging binding that Kafka's own distribution adds to its jars.
const LOG4J_VERSION: &str = "2.25.5";
const DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// How many jars there are to fetch, about: for a progress bar.
pub const JARS: u64 = 45;

/// Where the jars are, or will be.
pub fn folder() -> PathBuf {
    cache::folder().join(format!("kafka-{KAFKA_VERSION}"))
}

/// Whether the jars are there already.
pub fn present() -> bool {
    folder().is_dir()
}

/// Makes sure that the jars are there; `downloaded` is called once per jar that Maven fetched.
///
/// # Errors
/// When Maven is missing or cannot fetch.
pub fn fetch(mut downloaded: impl FnMut()) -> Result<PathBuf> {
    let target = folder();
    if target.is_dir() {
        return Ok(target);
    }
    let parent = cache::folder();
    std::fs::create_dir_all(&parent).map_err(Error::io(format!("creating {}", parent.display())))?;
    let work = tempfile::tempdir_in(&parent).map_err(Error::io("creating a folder for the download"))?;
    std::fs::write(work.path().join("pom.xml"), pom()).map_err(Error::io("writing Maven's pom.xml"))?;
    let jars = work.path().join("jars");

    let mut maven = Command::new("mvn")
        .current_dir(work.path())
        .args(["--batch-mode", "--strict-checksums"])
        .arg(format!("{DEPENDENCY_PLUGIN}:copy-dependencies"))
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .arg("-DincludeScope=runtime")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|_| Error::Missing {
            program: "mvn",
            remedy: "apt-get install maven (or: brew install maven)",
        })?;
    let output = maven.stdout.take().expect("the standard output was piped above");
    let mut tail = Vec::new();
    for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
        if line.contains("Downloaded from") && line.contains(".jar") {
            downloaded();
        }
        tail.push(line);
        if tail.len() > 15 {
            tail.remove(0);
        }
    }
    let status = maven.wait().map_err(Error::io("waiting for Maven"))?;
    if !status.success() {
        return Err(Error::Fetch { version: KAFKA_VERSION, output: tail.join("\n") });
    }
    match std::fs::rename(&jars, &target) {
        // Somebody else fetched them meanwhile: theirs are as good.
        Err(_) if target.is_dir() => Ok(target),
        other => other.map(|()| target).map_err(Error::io("moving Kafka's jars into the cache")),
    }
}

fn pom() -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>twinlane</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"#
    )
}
