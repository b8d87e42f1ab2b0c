//! A scenario: a small file in `load-tests/scenarios` that says what is measured and what it should reach.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::drain::Drain;
use crate::stream::Stream;

/// Where the scenarios lie.
pub(crate) const FOLDER: &str = "load-tests/scenarios";

/// A scenario file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// What is measured, for readers.
    pub(crate) about: String,
    /// Topics that are drained, one after the other.
    #[serde(default)]
    pub(crate) drains: Vec<Drain>,
    /// Streams, one after the other.
    #[serde(default)]
    pub(crate) streams: Vec<Stream>,
}

impl Scenario {
    /// Reads the scenario of this name, or the file.
    pub(crate) fn find(name: &str) -> Result<(String, Self)> {
        let file = match Path::new(name).extension() {
            Some(_) => PathBuf::from(name),
            None => Path::new(FOLDER).join(format!("{name}.yaml")),
        };
        let Ok(text) = std::fs::read_to_string(&file) else {
            bail!("there is no scenario `{name}`; known are {}", names()?.join(", "));
        };
        let scenario =
            serde_saphyr::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
        let name = file.file_stem().context("a file has a name")?.to_string_lossy().into_owned();
        Ok((name, scenario))
    }
}

/// The scenarios that there are.
pub(crate) fn names() -> Result<Vec<String>> {
    let entries = std::fs::read_dir(FOLDER).with_context(|| format!("reading {FOLDER}"))?;
    let mut names: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_of_the_repository_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let files = std::fs::read_dir(folder).expect("the folder is there");
        let read = files.map(|file| {
            let file = file.expect("readable").path();
            let (name, scenario) = Scenario::find(&file.to_string_lossy()).expect("valid");
            assert!(!scenario.about.is_empty(), "{name}");
            assert!(scenario.drains.len() + scenario.streams.len() > 0, "{name} measures nothing");
        });
        assert!(read.count() > 0);
    }

    #[test]
    fn a_target_that_does_not_exist_is_refused() {
        let text = "about: x\ndrains: [{name: a, workload: orders, events: 10, of_triton: 0.9}]";
        let error = serde_saphyr::from_str::<Scenario>(text).expect_err("unknown").to_string();
        assert!(error.contains("of_triton"), "{error}");
    }
}
