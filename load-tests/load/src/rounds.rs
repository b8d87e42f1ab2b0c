//! The same measured several times: one figure is the median, and how far the others lie apart is what noise is here.

use std::collections::BTreeMap;

use crate::report::{Met, Ratio, Report};

/// The lowest and the highest value of several rounds.
pub(crate) type Range = [f64; 2];

impl Report {
    /// Takes over what each round has found: medians, with their ranges where there were several. A ratio is the median of
    /// the rounds' own ratios, so that a service is held against a limit of the same minutes.
    pub(crate) fn add_rounds(&mut self, rounds: Vec<Report>) {
        let several = rounds.len() > 1;
        let mut figures: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let mut ratios: BTreeMap<String, Vec<Ratio>> = BTreeMap::new();
        for (round, report) in rounds.into_iter().enumerate() {
            report.figures.into_iter().for_each(|(name, value)| figures.entry(name).or_default().push(value));
            report.ratios.into_iter().for_each(|(name, ratio)| ratios.entry(name).or_default().push(ratio));
            if round == 0 {
                self.plots.extend(report.plots);
            }
        }
        for (name, mut values) in figures {
            values.sort_by(f64::total_cmp);
            if several && let (Some(&lowest), Some(&highest)) = (values.first(), values.last()) {
                self.ranges.insert(name.clone(), [lowest, highest]);
            }
            self.figures.insert(name, values[(values.len() - 1) / 2]);
        }
        for (name, mut all) in ratios {
            // What one round could not measure is not known, whatever the others say.
            all.sort_by(|a, b| {
                (a.met != Met::NotMeasured).cmp(&(b.met != Met::NotMeasured)).then(order(a, b))
            });
            let of = if all[0].met == Met::NotMeasured { 0 } else { (all.len() - 1) / 2 };
            let range = several.then(|| Some([all[0].value?, all.last()?.value?])).flatten();
            self.ratios.insert(name, Ratio { range, ..all.swap_remove(of) });
        }
    }
}

fn order(a: &Ratio, b: &Ratio) -> std::cmp::Ordering {
    a.value.unwrap_or_default().total_cmp(&b.value.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(speed: f64, part: Option<f64>) -> Report {
        let mut report = Report::default();
        report.figure("speed", speed);
        report.ratios.insert("part".into(), Ratio::at_least(0.5, part, format!("{speed}")));
        report
    }

    #[test]
    fn of_several_rounds_the_median_counts_and_its_range_is_told() {
        let mut report = Report::default();
        report.add_rounds(vec![round(9.0, Some(0.4)), round(1.0, Some(0.9)), round(4.0, Some(0.6))]);
        assert_eq!((report.figures["speed"], report.ranges["speed"]), (4.0, [1.0, 9.0]));
        let part = &report.ratios["part"];
        assert_eq!((part.value, part.met, part.range), (Some(0.6), Met::Yes, Some([0.4, 0.9])));
        assert_eq!(part.baseline, "4", "the limit of the round that is told");
    }

    #[test]
    fn one_round_has_no_range() {
        let mut report = Report::default();
        report.add_rounds(vec![round(9.0, Some(0.4))]);
        assert_eq!((report.figures["speed"], report.ranges.len()), (9.0, 0));
        assert_eq!((report.ratios["part"].met, report.ratios["part"].range), (Met::No, None));
    }

    #[test]
    fn what_one_round_could_not_measure_is_not_measured() {
        let mut report = Report::default();
        report.add_rounds(vec![round(9.0, Some(0.9)), round(1.0, None), round(4.0, Some(0.9))]);
        assert_eq!(report.ratios["part"].met, Met::NotMeasured);
    }
}
