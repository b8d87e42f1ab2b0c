//! What has changed between two reports, and whether it is beyond noise.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::report::{Met, Report};
use crate::rounds::Range;

/// What counts as noise for what was measured once: the same binary gives this much more or less within an hour (see
/// docs/performance.md).
const NOISE: f64 = 0.15;

/// One thing that both reports know.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) name: String,
    pub(crate) before: f64,
    pub(crate) after: f64,
    /// Between which values each lies, where both were measured several times.
    pub(crate) ranges: Option<(Range, Range)>,
}

impl Change {
    /// The difference as a part of what was before.
    pub(crate) fn relative(&self) -> f64 {
        (self.after - self.before) / self.before.abs().max(f64::MIN_POSITIVE)
    }

    /// Beyond it is what lies apart from all that was measured before.
    pub(crate) fn is_beyond_noise(&self) -> bool {
        match self.ranges {
            Some(([was_lowest, was_highest], [lowest, highest])) => {
                highest < was_lowest || was_highest < lowest
            }
            None => self.relative().abs() > NOISE,
        }
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
    println!(
        "\nNoise is where the ranges of several rounds overlap, and for what was measured once less than {:.0} %.",
        NOISE * 100.0
    );
    Ok(())
}

fn changes(before: &Report, after: &Report) -> Vec<Change> {
    let mut after: BTreeMap<_, _> = known(after).collect();
    let both = known(before).filter_map(|(name, (before, was))| {
        let (after, is) = after.remove(&name)?;
        Some(Change { name, before, after, ranges: was.zip(is) })
    });
    both.collect()
}

/// Ratios, then figures, each with its range where it has one.
fn known(report: &Report) -> impl Iterator<Item = (String, (f64, Option<Range>))> {
    let ratios = report.ratios.iter().filter_map(|(name, is)| Some((name.clone(), (is.value?, is.range))));
    let range = |name| report.ranges.get(name).copied();
    ratios.chain(report.figures.iter().map(move |(name, value)| (name.clone(), (*value, range(name)))))
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
        after.figure("b", 80.0);
        after.figure("new", 1.0);
        let changes = changes(&before, &after);
        let says: Vec<_> = changes.iter().map(|c| (c.name.as_str(), c.is_beyond_noise())).collect();
        assert_eq!(says, [("a", false), ("b", true)]);
    }

    #[test]
    fn what_was_measured_in_rounds_has_changed_where_their_ranges_lie_apart() {
        let report = |rounds: [f64; 3]| {
            let of = |value| {
                let mut round = Report::default();
                round.figure("a", value);
                round
            };
            let mut report = Report::default();
            report.add_rounds(rounds.map(of).into());
            report
        };
        let before = report([90.0, 100.0, 103.0]);
        let beyond = |rounds| changes(&before, &report(rounds))[0].is_beyond_noise();
        assert!(beyond([104.0, 105.0, 106.0]), "five in a hundred, but always");
        assert!(!beyond([60.0, 70.0, 95.0]), "thirty in a hundred, but not always");
    }
}
