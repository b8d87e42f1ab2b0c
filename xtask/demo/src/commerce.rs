//! The names of the reference pipeline, and a copy of it under other names for a cluster that others use too.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The two lanes, in the order in which they are shown.
pub(crate) const LANES: [Lane; 2] = [Lane::Precision, Lane::Throughput];
/// How many partitions the source topic has.
pub(crate) const SOURCE_PARTITIONS: i32 = 3;

const PIPELINE: &str = "pipelines/commerce/pipeline.yaml";

/// A lane of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Orders, with the full model.
    Precision,
    /// Purchases, with the distilled one.
    Throughput,
}

impl Lane {
    pub(crate) fn name(self) -> &'static str {
        ["precision", "throughput"][self.index()]
    }

    /// What travels on it, in the words of the demo.
    pub(crate) fn traffic(self) -> &'static str {
        ["orders", "purchases"][self.index()]
    }

    /// Where it is in lists by lane.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// The pipeline file and the topics it names.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) file: PathBuf,
    pub(crate) source: String,
    /// By lane.
    pub(crate) outputs: [String; 2],
    pub(crate) dead_letters: String,
}

impl Pipeline {
    /// The pipeline as it is in the repository.
    pub(crate) fn reference() -> Self {
        Self {
            file: PIPELINE.into(),
            source: "shop.events".into(),
            outputs: ["scores.orders".into(), "scores.behaviour".into()],
            dead_letters: "commerce.dead-letters".into(),
        }
    }

    /// The same with `suffix` on every name, written into `folder` beside links to the models: on a cluster that stays,
    /// a second demo must not meet the topics of the first.
    pub(crate) fn renamed(suffix: &str, folder: &Path) -> Result<Self> {
        let reference = Self::reference();
        let home = reference.file.parent().context("the pipeline file lies in a folder")?;
        for entry in std::fs::read_dir(home).with_context(|| format!("reading {}", home.display()))? {
            let path = entry?.path().canonicalize()?;
            if let Some(name) = path.file_name().filter(|name| *name != "pipeline.yaml") {
                std::os::unix::fs::symlink(&path, folder.join(name))
                    .context("linking the pipeline's files")?;
            }
        }
        let text = std::fs::read_to_string(&reference.file).context("reading the pipeline file")?;
        let file = folder.join("pipeline.yaml");
        std::fs::write(&file, rename(&text, &reference, suffix)).context("writing a pipeline file")?;
        let named = |name: &str| format!("{name}.{suffix}");
        let outputs = reference.outputs.each_ref().map(|name| named(name));
        Ok(Self {
            file,
            source: named(&reference.source),
            outputs,
            dead_letters: named(&reference.dead_letters),
        })
    }

    pub(crate) fn answers(&self) -> [&str; 3] {
        [&self.outputs[0], &self.outputs[1], &self.dead_letters]
    }
}

fn rename(text: &str, reference: &Pipeline, suffix: &str) -> String {
    let mut text = text.replace("pipeline: commerce", &format!("pipeline: commerce-{suffix}"));
    for topic in [&reference.source, &reference.outputs[0], &reference.outputs[1], &reference.dead_letters] {
        text = text.replace(&format!("topic: {topic}"), &format!("topic: {topic}.{suffix}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_renamed_pipeline_is_its_own() {
        let text = "pipeline: commerce\nsources: { events: { topic: shop.events, format: avro } }\n\
                    publish: { topic: scores.orders }\ndead_letters: { topic: commerce.dead-letters }\n";
        let renamed = rename(text, &Pipeline::reference(), "x1");
        for name in ["commerce-x1", "shop.events.x1", "scores.orders.x1", "commerce.dead-letters.x1"] {
            assert!(renamed.contains(name), "{name} is not in {renamed}");
        }
    }
}
