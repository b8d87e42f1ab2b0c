//! Keys of which some are much more frequent than others.

use twinlane_testkit::random::Random;

/// Ranks from 0, of which low ones are frequent: the weight of rank r is 1 / (r + 1)^exponent.
#[derive(Debug, Clone)]
pub(crate) struct Zipf {
    /// Cumulated weights.
    up_to: Vec<f64>,
}

impl Zipf {
    /// For so many ranks, at least one.
    pub(crate) fn new(ranks: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let weight = |rank: usize| {
            sum += ((rank + 1) as f64).powf(-exponent);
            sum
        };
        Self { up_to: (0..ranks.max(1)).map(weight).collect() }
    }

    pub(crate) fn next(&self, random: &mut Random) -> usize {
        let all = self.up_to.last().expect("there is one rank at least");
        let chosen = random.unit() * all;
        self.up_to.partition_point(|&up_to| up_to <= chosen).min(self.up_to.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_ranks_are_as_frequent_as_zipf_says() {
        let zipf = Zipf::new(1000, 1.0);
        let mut random = Random::new(1);
        let mut counts = vec![0u32; 1000];
        (0..100_000).for_each(|_| counts[zipf.next(&mut random)] += 1);
        // The first rank has 1 / H(1000) = 13.4 % of the weight, the tenth a tenth of that.
        assert!((12_900..13_900).contains(&counts[0]), "{}", counts[0]);
        assert!((1200..1480).contains(&counts[9]), "{}", counts[9]);
    }
}
