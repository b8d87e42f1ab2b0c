//! What this machine must have before anything is fetched or built, named all at once, each with the command that
//! installs it. What is cached already is not asked for.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use twinlane_testkit::broker::{self, EXISTING_CLUSTER};
use twinlane_testkit::{cache, jars};

use crate::downloads;

/// What the task at hand needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    /// A C and a C++ compiler, make and Perl, for the Kafka client.
    pub(crate) compiler: bool,
    /// Java, for Kafka; with Maven where Kafka is to be fetched.
    pub(crate) kafka: Kafka,
    /// pip, where something from PyPI is to be fetched.
    pub(crate) downloads: bool,
}

/// Whether a Kafka of our own is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kafka {
    /// Where `KAFKA_BROKERS` names none.
    UnlessNamed,
    /// In any case: some tests break the broker that they use.
    Always,
    /// There is nothing to do for one.
    Never,
}

impl Kafka {
    pub(crate) fn of_our_own(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::UnlessNamed => cache::setting(EXISTING_CLUSTER).is_none(),
        }
    }
}

impl Needs {
    /// Everything that building, testing and the demo need.
    pub(crate) fn everything() -> Self {
        Self { compiler: true, kafka: Kafka::UnlessNamed, downloads: true }
    }
}

struct Tool {
    what: &'static str,
    why: &'static str,
    apt: &'static str,
    dnf: &'static str,
    brew: &'static str,
}

const COMPILER: Tool = Tool {
    what: "a C and C++ compiler (cc, c++) and make",
    why: "the Kafka client is built from source",
    apt: "apt-get install build-essential",
    dnf: "dnf install gcc gcc-c++ make",
    brew: "xcode-select --install",
};
const PERL: Tool = Tool {
    what: "Perl with its core modules",
    why: "OpenSSL, which the Kafka client signs in and encrypts with, is configured by it",
    apt: "apt-get install perl",
    dnf: "dnf install perl",
    brew: "brew install perl",
};
const JAVA: Tool = Tool {
    what: "Java 17 or newer",
    why: "Apache Kafka runs on it",
    apt: "apt-get install openjdk-17-jre-headless",
    dnf: "dnf install java-21-openjdk-headless",
    brew: "brew install openjdk",
};
const MAVEN: Tool = Tool {
    what: "Maven (mvn)",
    why: "it fetches Apache Kafka from Maven Central",
    apt: "apt-get install maven",
    dnf: "dnf install maven",
    brew: "brew install maven",
};
const PIP: Tool = Tool {
    what: "Python's pip (python3 -m pip)",
    why: "it fetches ONNX Runtime and the demo's data from PyPI",
    apt: "apt-get install python3-pip",
    dnf: "dnf install python3-pip",
    brew: "brew install python",
};

const PYTHON: Tool = Tool {
    what: "Python 3.11 or newer with venv",
    why: "it builds the models",
    apt: "apt-get install python3-venv",
    dnf: "dnf install python3",
    brew: "brew install python",
};

/// Refuses with everything that is missing.
pub(crate) fn check(needs: Needs) -> Result<()> {
    let mut missing = Vec::new();
    if needs.compiler && !compilers() {
        missing.push((&COMPILER, String::new()));
    }
    // Distributions have a Perl without the modules that its own documentation calls core.
    if needs.compiler && !answers("perl", &["-MFindBin", "-MIPC::Cmd", "-MTime::Piece", "-e", "1"]) {
        missing.push((&PERL, String::new()));
    }
    if needs.kafka.of_our_own() {
        let why_own = match cache::setting(EXISTING_CLUSTER) {
            Some(_) => "; some tests start a Kafka of their own beside the one that KAFKA_BROKERS names",
            None => "",
        };
        match java_version() {
            Some(version) if version >= 17 => {}
            Some(version) => missing.push((&JAVA, format!("; found Java {version}{why_own}"))),
            None => missing.push((&JAVA, why_own.to_owned())),
        }
        if !jars::present() && !answers("mvn", &["--version"]) {
            missing.push((&MAVEN, String::new()));
        }
    }
    if needs.downloads && !downloads::all_present() && !answers("python3", &["-m", "pip", "--version"]) {
        missing.push((&PIP, String::new()));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = missing
        .iter()
        .map(|(tool, found)| format!("  {} ({}{found})\n      {}", tool.what, tool.why, tool.command()))
        .collect();
    bail!("this machine lacks:\n{}\nInstall that and start again.", lines.join("\n"))
}

/// Refuses where no Python can make an environment for programs that build models.
pub(crate) fn python() -> Result<()> {
    let is_new = ["-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"];
    if answers("python3", &is_new) {
        return Ok(());
    }
    bail!(
        "this machine lacks:\n  {} ({})\n      {}\nInstall that and start again.",
        PYTHON.what,
        PYTHON.why,
        PYTHON.command()
    )
}

impl Tool {
    fn command(&self) -> &'static str {
        if cfg!(target_os = "macos") {
            self.brew
        } else if answers("dnf", &["--version"]) && !answers("apt-get", &["--version"]) {
            self.dnf
        } else {
            self.apt
        }
    }
}

/// Whether all are there that librdkafka's own build looks for; it takes a C++ compiler by any of these names.
fn compilers() -> bool {
    let there = |program: &&str| answers(program, &["--version"]);
    ["cc", "make"].iter().all(there) && ["c++", "g++", "clang++"].iter().any(there)
}

fn answers(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn java_version() -> Option<u32> {
    let java = broker::java().ok()?;
    let output = Command::new(java).arg("-version").output().ok()?;
    major_version(&String::from_utf8_lossy(&output.stderr))
}

/// Reads 17 from `openjdk version "17.0.15" 2025-04-15`, and 8 from `java version "1.8.0_392"`.
fn major_version(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    let mut numbers = quoted.split(|character: char| !character.is_ascii_digit());
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        version => Some(version),
    }
}

#[cfg(test)]
mod tests {
    use super::major_version;

    #[test]
    fn javas_version_is_read_in_its_old_and_new_form() {
        assert_eq!(major_version("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK"), Some(17));
        assert_eq!(major_version("java version \"1.8.0_392\""), Some(8));
        assert_eq!(major_version("openjdk version \"26-ea\" 2026-03-17"), Some(26));
        assert_eq!(major_version("The command was not found"), None);
    }
}
