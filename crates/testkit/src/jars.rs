//! Apache Kafka's jars, fetched from Maven Central with the version of every one pinned by Kafka's own release.

use std::path::PathBuf;

use crate::{Error, Result, cache, maven};

/// The Apache Kafka release that tests and the demo run against.
pub const KAFKA_VERSION: &str = "4.4.0";
/// The logging binding that Kafka's own distribution adds to its jars.
const LOG4J_VERSION: &str = "2.25.5";

/// How many jars there are to fetch, about: for a progress bar.
pub const JARS: u64 = 45;

/// Where the jars are, or will be.
pub fn folder() -> PathBuf {
    cache::folder().join(name())
}

/// Whether the jars are there already.
pub fn present() -> bool {
    folder().is_dir()
}

/// Makes sure that the jars are there; `downloaded` is called once per jar that Maven fetched.
///
/// # Errors
/// When Maven is missing or cannot fetch.
pub fn fetch(downloaded: impl FnMut()) -> Result<PathBuf> {
    maven::once(&name(), |work| {
        std::fs::write(work.join("pom.xml"), pom()).map_err(Error::io("writing Maven's pom.xml"))?;
        let into = format!("-DoutputDirectory={}", work.join("filled").display());
        let arguments = [into, "-DincludeScope=runtime".into()];
        let what = format!("Apache Kafka {KAFKA_VERSION}");
        maven::dependency(work, "copy-dependencies", &arguments, &what, downloaded)
    })
}

fn name() -> String {
    format!("kafka-{KAFKA_VERSION}")
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
