//! A scenario: a small file in `load-tests/scenarios` that says what is measured and what it should reach.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::capacity::Capacity;
use crate::drain::Drain;
use crate::idle::Idle;
use crate::report::{Met, Ratio, Report};
use crate::stream::Stream;
use crate::workload::Workload;

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
    /// How often the drains are measured, one round after the other; an odd number, whose medians count.
    #[serde(default = "one")]
    pub(crate) rounds: usize,
    /// What systems sustain, one after the other.
    #[serde(default)]
    pub(crate) capacities: Vec<Capacity>,
    /// Services without events, one after the other.
    #[serde(default)]
    pub(crate) idles: Vec<Idle>,
    /// Streams, one after the other.
    #[serde(default)]
    pub(crate) streams: Vec<Stream>,
    /// What the figures should be.
    #[serde(default)]
    pub(crate) targets: Vec<Target>,
}

fn one() -> usize {
    1
}

/// A part of a figure that was measured before.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// The name of the figure.
    of: String,
    part: f64,
}

impl Part {
    /// The part of what was measured.
    pub(crate) fn of(&self, figures: &BTreeMap<String, f64>) -> Result<f64> {
        let whole =
            figures.get(&self.of).with_context(|| format!("no figure `{}` was measured before", self.of))?;
        Ok(whole * self.part)
    }
}

/// What a figure should be, alone or as a part of another one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// The name of a figure.
    pub(crate) figure: String,
    /// The name of another one.
    pub(crate) part_of: Option<String>,
    pub(crate) at_least: Option<f64>,
    pub(crate) at_most: Option<f64>,
}

impl Target {
    /// Holds the figures against it.
    pub(crate) fn judge(&self, figures: &BTreeMap<String, f64>) -> Result<Ratio> {
        let figure = figures.get(&self.figure).copied();
        let whole = self.part_of.as_ref().map_or(Some(1.0), |whole| figures.get(whole).copied());
        let value = figure.zip(whole).map(|(figure, whole)| figure / whole);
        let baseline = match &self.part_of {
            Some(whole) => format!("{} as a part of {whole}", self.figure),
            None => self.figure.clone(),
        };
        match (self.at_least, self.at_most) {
            (Some(least), None) => Ok(Ratio::at_least(least, value, baseline)),
            (None, Some(most)) => Ok(Ratio::at_most(most, value, baseline)),
            _ => bail!("the target `{}` needs either `at_least` or `at_most`", self.name),
        }
    }
}

impl Scenario {
    /// Holds those targets against a round of drains that are about drains.
    pub(crate) fn judge_round(&self, round: &mut Report) -> Result<()> {
        for target in &self.targets {
            let ratio = target.judge(&round.figures)?;
            if ratio.met != Met::NotMeasured {
                round.ratios.insert(target.name.clone(), ratio);
            }
        }
        Ok(())
    }

    /// Holds the other targets against the whole report.
    pub(crate) fn judge(&self, report: &mut Report) -> Result<()> {
        for target in &self.targets {
            if !report.ratios.contains_key(&target.name) {
                report.ratios.insert(target.name.clone(), target.judge(&report.figures)?);
            }
        }
        Ok(())
    }

    /// Whether it measures anything but drains.
    pub(crate) fn needs_a_broker(&self) -> bool {
        !(self.capacities.is_empty() && self.idles.is_empty() && self.streams.is_empty())
    }

    /// Everything that it lets services do.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = Workload> {
        let drains = self.drains.iter().map(|drain| drain.workload);
        let capacities = self.capacities.iter().map(|capacity| capacity.workload);
        let idles = self.idles.iter().map(|idle| idle.workload);
        let streams = self.streams.iter().map(|stream| stream.workload);
        drains.chain(capacities).chain(idles).chain(streams)
    }

    /// Reads the scenario of this name, or the file.
    pub(crate) fn find(name: &str) -> Result<(String, Self)> {
        let file = match Path::new(name).extension() {
            Some(_) => PathBuf::from(name),
            None => Path::new(FOLDER).join(format!("{name}.yaml")),
        };
        let Ok(text) = std::fs::read_to_string(&file) else {
            bail!("there is no scenario `{name}`; known are {}", names()?.join(", "));
        };
        let scenario: Self =
            serde_saphyr::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
        ensure!(scenario.rounds % 2 == 1, "`rounds` must be odd, so that one of them is in the middle");
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
            let measured = scenario.drains.len() + scenario.capacities.len() + scenario.idles.len();
            assert!(measured + scenario.streams.len() > 0, "{name} measures nothing");
        });
        assert!(read.count() > 0);
    }

    #[test]
    fn a_target_holds_a_figure_against_another_or_a_number_and_never_what_is_missing() {
        let text = "{name: a, figure: x, part_of: y, at_least: 0.5}";
        let target: Target = serde_saphyr::from_str(text).expect("valid");
        let judge = |figures: &[(&str, f64)]| {
            let figures = figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
            target.judge(&figures).expect("one bound").met
        };
        assert_eq!(judge(&[("x", 1.0), ("y", 2.0)]), Met::Yes);
        assert_eq!(judge(&[("x", 1.0), ("y", 3.0)]), Met::No);
        assert_eq!(judge(&[("x", 1.0)]), Met::NotMeasured);
    }

    #[test]
    fn a_target_that_does_not_exist_is_refused() {
        let text = "about: x\ndrains: [{name: a, workload: orders, events: 10, of_triton: 0.9}]";
        let error = serde_saphyr::from_str::<Scenario>(text).expect_err("unknown").to_string();
        assert!(error.contains("of_triton"), "{error}");
    }
}
