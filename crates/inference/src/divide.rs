//! Divides a batch among runs of the model. Sequences are padded to the longest of their run, so a batch of mixed lengths
//! mostly computes padding, while each run costs something by itself. This finds the division that costs least. Pure.

/// What runs cost on a device, in steps of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Costs {
    /// What a run costs by itself.
    pub(crate) run: usize,
    /// What a row costs beside its steps.
    pub(crate) row: usize,
    /// No run is larger.
    pub(crate) largest: usize,
    /// Lengths that differ by less are as good as equal.
    pub(crate) step: usize,
}

impl Costs {
    /// Measured with the reference models on one core: 0.3 ms a run and 0.02 ms a step for the full one. Beyond the largest
    /// its numbers leave the processor's caches, and nothing is won.
    pub(crate) const CPU: Self = Self { run: 12, row: 1, largest: 64, step: 1 };
    /// A device that computes some thousand steps in the time in which a run is launched.
    pub(crate) const CUDA: Self = Self { run: 4000, row: 1, largest: usize::MAX, step: 16 };
}

/// The rows of each run, by position. `lengths` has, for every row, its steps in each group of sequences that is padded
/// together. Without sequences there is one run.
pub(crate) fn divide(lengths: &[Vec<usize>], costs: Costs) -> Vec<Vec<usize>> {
    let rows: Vec<usize> = (0..lengths.len()).collect();
    if lengths.iter().all(Vec::is_empty) {
        return if rows.is_empty() { Vec::new() } else { vec![rows] };
    }
    let lengths: Vec<Vec<usize>> = lengths
        .iter()
        .map(|row| row.iter().map(|length| length.next_multiple_of(costs.step)).collect())
        .collect();
    let mut by_first = rows.clone();
    by_first.sort_by_key(|&row| &lengths[row]);
    if lengths[0].len() == 1 {
        return in_order(&by_first, &lengths, costs).1;
    }
    // With several groups no order has all that are alike side by side.
    let mut by_sum = rows.clone();
    by_sum.sort_by_key(|&row| (lengths[row].iter().sum::<usize>(), &lengths[row]));
    let mut by_last = rows;
    by_last.sort_by(|&a, &b| lengths[a].iter().rev().cmp(lengths[b].iter().rev()));
    let divisions = [by_sum, by_first, by_last].map(|rows| in_order(&rows, &lengths, costs));
    divisions.into_iter().min_by_key(|(cost, _)| *cost).map_or_else(Vec::new, |(_, runs)| runs)
}

/// The best division of rows in this order, and what it costs.
fn in_order(rows: &[usize], lengths: &[Vec<usize>], costs: Costs) -> (usize, Vec<Vec<usize>>) {
    // Between two that are alike nothing is divided, unless a run would be too large.
    let alike = |at: usize| lengths[rows[at - 1]] == lengths[rows[at]];
    let ends: Vec<usize> = (1..=rows.len())
        .filter(|&end| rows.len() > costs.largest || end == rows.len() || !alike(end))
        .collect();
    // For the first rows up to each end: the least cost, and where the last run begins.
    let mut least: Vec<(usize, usize, usize)> = vec![(0, 0, 0)];
    for &end in &ends {
        let mut longest = vec![0; lengths[rows[0]].len()];
        let (mut best, mut from) = ((usize::MAX, 0), end);
        for (before, &(so_far, start, _)) in least.iter().enumerate().rev() {
            if end - start > costs.largest {
                break;
            }
            for &row in &rows[start..from] {
                longest.iter_mut().zip(&lengths[row]).for_each(|(most, steps)| *most = (*most).max(*steps));
            }
            from = start;
            let run = costs.run + (end - start) * (costs.row + longest.iter().sum::<usize>());
            best = best.min((so_far + run, before));
        }
        least.push((best.0, end, best.1));
    }
    let mut runs = Vec::new();
    let mut at = least.len() - 1;
    while at > 0 {
        let (_, end, before) = least[at];
        runs.push(rows[least[before].1..end].to_vec());
        at = before;
    }
    (least[least.len() - 1].0, runs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cost(lengths: &[Vec<usize>], runs: &[Vec<usize>]) -> usize {
        let of_run = |run: &Vec<usize>| {
            let groups = lengths[run[0]].len();
            let padded =
                (0..groups).map(|group| run.iter().map(|&row| lengths[row][group]).max().unwrap_or(0));
            Costs::CPU.run + run.len() * (Costs::CPU.row + padded.sum::<usize>())
        };
        runs.iter().map(of_run).sum()
    }

    #[test]
    fn short_and_long_rows_run_apart_when_that_saves_more_than_a_run_costs() {
        let lengths: Vec<_> = (0..20).map(|row| vec![if row % 2 == 0 { 1 } else { 16 }]).collect();
        let mut runs = divide(&lengths, Costs::CPU);
        runs.sort();
        assert_eq!(runs, [(0..20).step_by(2).collect::<Vec<_>>(), (1..20).step_by(2).collect()]);
        assert_eq!(
            divide(&[vec![1], vec![2], vec![1]], Costs::CPU).len(),
            1,
            "a run of its own costs more than padding does"
        );
    }

    #[test]
    fn without_sequences_there_is_one_run() {
        assert_eq!(divide(&[vec![], vec![], vec![]], Costs::CPU), [[0, 1, 2]]);
        assert!(divide(&[], Costs::CPU).is_empty());
    }

    #[test]
    fn a_gpu_divides_only_what_saves_thousands_of_steps() {
        let mixed = |rows: usize| -> Vec<_> {
            (0..rows).map(|row| vec![if row % 8 == 0 { 128 } else { 17 }]).collect()
        };
        assert_eq!(divide(&mixed(32), Costs::CUDA).len(), 1);
        let mut runs = divide(&mixed(256), Costs::CUDA);
        runs.sort_by_key(Vec::len);
        assert_eq!(runs.iter().map(Vec::len).collect::<Vec<_>>(), [32, 224]);
    }

    proptest! {
        #[test]
        fn every_row_runs_once_and_never_at_a_higher_cost_than_together(
            lengths in prop::collection::vec(prop::collection::vec(0..17_usize, 2), 1..Costs::CPU.largest),
        ) {
            let runs = divide(&lengths, Costs::CPU);
            let mut rows: Vec<_> = runs.concat();
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
            let together = vec![(0..lengths.len()).collect()];
            prop_assert!(cost(&lengths, &runs) <= cost(&lengths, &together));
        }
    }
}
