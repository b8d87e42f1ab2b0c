//! librdkafka's own performance tool, from the source that this program's librdkafka was built from. It keeps our plain
//! consumer and producer honest: a limit that is slower than the tool is no limit.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use twinlane_testkit::client;

use crate::saturate::Place;

/// The tool, built.
pub(crate) struct Tool(PathBuf);

impl Tool {
    /// Builds it beside the librdkafka that Cargo built for these binaries; takes a second, once.
    pub(crate) fn build(binaries: &Path) -> Result<Self> {
        let builds = binaries.join("build");
        let folders = std::fs::read_dir(&builds).with_context(|| format!("reading {}", builds.display()))?;
        let examples = folders.filter_map(|folder| Some(folder.ok()?.path().join("out/examples")));
        let built =
            |examples: &PathBuf| examples.join("../src/librdkafka.a").metadata().ok()?.modified().ok();
        let examples = examples.filter(|examples| examples.join("rdkafka_performance.c").exists());
        let newest = examples.filter(|examples| built(examples).is_some()).max_by_key(built);
        let examples = newest.with_context(|| format!("no librdkafka was built in {}", builds.display()))?;
        let made = Command::new("make").arg("-C").arg(&examples).arg("rdkafka_performance").output();
        let made = made.context("running make")?;
        ensure!(
            made.status.success(),
            "librdkafka's performance tool cannot be built:\n{}",
            String::from_utf8_lossy(&made.stderr)
        );
        Ok(Self(examples.join("rdkafka_performance")))
    }

    /// Records per second that it reads from a topic with so many.
    pub(crate) fn consume(
        &self,
        brokers: &str,
        topic: &str,
        records: usize,
        place: &Place<'_>,
    ) -> Result<f64> {
        let group = client::unique("tool");
        self.run(
            &["-G", &group, "-t", topic, "-o", "beginning", "-X", "auto.offset.reset=earliest"],
            brokers,
            records,
            place,
        )
    }

    /// Records of `bytes` per second that it writes to a topic.
    pub(crate) fn produce(
        &self,
        brokers: &str,
        topic: &str,
        bytes: usize,
        records: usize,
        place: &Place<'_>,
    ) -> Result<f64> {
        let size = bytes.to_string();
        let settings = ["-X", "enable.idempotence=true", "-X", "queue.buffering.max.messages=1000000"];
        self.run(&[&["-P", "-t", topic, "-s", &size][..], &settings].concat(), brokers, records, place)
    }

    fn run(&self, arguments: &[&str], brokers: &str, records: usize, place: &Place<'_>) -> Result<f64> {
        let [taskset, flag, core] = place.cores.pinned();
        let mut command = Command::new(taskset);
        command.args([flag, core]).arg(&self.0).args(arguments);
        command.args(["-b", brokers, "-c", &records.to_string(), "-X", "linger.ms=2"]);
        let ran = command.output().context("running rdkafka_performance")?;
        let text = String::from_utf8_lossy(&ran.stdout);
        let pace = text.lines().rev().find_map(per_second);
        pace.with_context(|| {
            format!("rdkafka_performance says:\n{text}{}", String::from_utf8_lossy(&ran.stderr))
        })
    }
}

/// From `% 100 messages produced (…) in 10ms: 10000 msgs/s and …`, its last line but for what it says when it ends.
fn per_second(line: &str) -> Option<f64> {
    let (before, _) = line.split_once(" msgs/s")?;
    before.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_summary_is_read() {
        let line = "% 300000 messages (45000000 bytes) consumed in 512ms: 585937 msgs/s (87.89 MB/s)";
        assert_eq!(per_second(line), Some(585_937.0));
        assert_eq!(per_second("% 1 messages in outq"), None);
    }
}
