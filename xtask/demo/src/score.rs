//! How well a lane's answers match the known labels.

/// Counts of answers by what was said and what is true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Matches {
    hits: u64,
    false_alarms: u64,
    misses: u64,
    true_negatives: u64,
}

impl Matches {
    pub(crate) fn add(&mut self, said: bool, truth: bool) {
        *match (said, truth) {
            (true, true) => &mut self.hits,
            (true, false) => &mut self.false_alarms,
            (false, true) => &mut self.misses,
            (false, false) => &mut self.true_negatives,
        } += 1;
    }

    /// How many answers have a known label.
    pub(crate) fn judged(&self) -> u64 {
        self.hits + self.false_alarms + self.misses + self.true_negatives
    }

    /// The F1 of the positive class (fraudulent; buys again), 0 to 1; none where nothing could be judged.
    pub(crate) fn f1(&self) -> Option<f64> {
        let relevant = 2 * self.hits + self.false_alarms + self.misses;
        (relevant > 0).then(|| (2 * self.hits) as f64 / relevant as f64)
    }

    /// The share of right answers; none where nothing could be judged.
    pub(crate) fn accuracy(&self) -> Option<f64> {
        (self.judged() > 0).then(|| (self.hits + self.true_negatives) as f64 / self.judged() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_weighs_misses_and_false_alarms_alike() {
        let mut matches = Matches::default();
        for (said, truth, times) in [(true, true, 6), (true, false, 2), (false, true, 4), (false, false, 88)]
        {
            (0..times).for_each(|_| matches.add(said, truth));
        }
        assert!((matches.f1().unwrap() - 12.0 / 18.0).abs() < 1e-12);
        assert!((matches.accuracy().unwrap() - 0.94).abs() < 1e-12);
    }

    #[test]
    fn nothing_judged_is_no_score() {
        assert_eq!((Matches::default().f1(), Matches::default().accuracy()), (None, None));
    }
}
