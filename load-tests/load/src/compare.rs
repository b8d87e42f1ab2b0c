//! What has changed between two reports, and whether it is beyond noise.

use std::path::Path;

use anyhow::Result;

use crate::report::{Met, Report};

/// What counts as noise. A first guess: how much two runs of the same thing differ has not been measured yet.
const NOISE: f64 = 0.05;

/// One thing that both reports know.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) name: String,
    pub(crate) before: f64,
    pub(crate) after: f64,
}

impl Change {
    /// The difference as a part of what was before.
    pub(crate) fn relative(&self) -> f64 {
        (self.after - self.before) / self.before.abs().max(f64::MIN_POSITIVE)
    }

    pub(crate) fn is_beyond_noise(&self) -> bool {
        self.relative().abs() > NOISE
    }
}

/// Prints what changed from the report in `before` to the one in `after`.
pub(crate) fn compare(before: &Path, after: &Path) -> Result<()> {
    let (before, after) = (Report::read(before)?, Report::read(after)?);
    if before.machine != after.machine {
        println!("The machines or settings differ: only the ratios can be compared.");
    }
    let changes = changes(&before, &after);
    let width = changes.iter().map(|change| change.name.len()).max().unwrap_or(0);
    for change in &changes {
        let says = if change.is_beyond_noise() { "changed" } else { "within noise" };
        println!(
            "{:<width$}  {:>14.4} → {:>14.4}  {:>+7.1} %  {says}",
            change.name,
            change.before,
            change.after,
            change.relative() * 100.0
        );
    }
    for (name, ratio) in &after.ratios {
        let was = before.ratios.get(name).map(|ratio| ratio.met);
        if was.is_some_and(|was| was != ratio.met) {
            let says = if ratio.met == Met::Yes { "is met now" } else { "is no longer met" };
            println!("the target of {name} {says}");
        }
    }
    println!("\nA difference of less than {:.0} % is taken for noise.", NOISE * 100.0);
    Ok(())
}

fn changes(before: &Report, after: &Report) -> Vec<Change> {
    let ratios = |report: &Report| -> Vec<(String, f64)> {
        let known = report.ratios.iter().filter_map(|(name, ratio)| Some((name.clone(), ratio.value?)));
        known.chain(report.figures.iter().map(|(name, value)| (name.clone(), *value))).collect()
    };
    let after: std::collections::BTreeMap<_, _> = ratios(after).into_iter().collect();
    let both = ratios(before).into_iter().filter_map(|(name, before)| {
        let after = *after.get(&name)?;
        Some(Change { name, before, after })
    });
    both.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_both_know_is_compared_and_small_differences_are_noise() {
        let (mut before, mut after) = (Report::default(), Report::default());
        before.figure("a", 100.0);
        before.figure("b", 100.0);
        before.figure("gone", 1.0);
        after.figure("a", 104.0);
        after.figure("b", 90.0);
        after.figure("new", 1.0);
        let changes = changes(&before, &after);
        let says: Vec<_> = changes.iter().map(|c| (c.name.as_str(), c.is_beyond_noise())).collect();
        assert_eq!(says, [("a", false), ("b", true)]);
    }
}
