//! Divides a batch among runs of the model. Sequences are padded to the longest of their run, so a batch of mixed lengths
//! mostly computes padding, while each run costs something by itself. This finds the division that costs least. Pure.

/// What a run costs by itself, in steps of one row. Measured with the reference models on one core: 0.3 ms a run and
/// 0.02 ms a step for the full one, 12 to 15 steps.
const RUN: usize = 12;
/// What a row costs beside its steps.
const ROW: usize = 1;
/// No run is larger: beyond that its numbers leave the processor's caches, and nothing is won.
const LARGEST: usize = 64;

/// The rows of each run, by position. `lengths` has, for every row, its steps in each group of sequences that is padded
/// together. Without sequences there is one run.
pub(crate) fn divide(lengths: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let rows: Vec<usize> = (0..lengths.len()).collect();
    if lengths.iter().all(Vec::is_empty) {
        return if rows.is_empty() { Vec::new() } else { vec![rows] };
    }
    // With several groups no order has all that are alike side by side.
    let mut by_sum = rows.clone();
    by_sum.sort_by_key(|&row| (lengths[row].iter().sum::<usize>(), &lengths[row]));
    let mut by_first = rows.clone();
    by_first.sort_by_key(|&row| &lengths[row]);
    let mut by_last = rows;
    by_last.sort_by(|&a, &b| lengths[a].iter().rev().cmp(lengths[b].iter().rev()));
    let divisions = [by_sum, by_first, by_last].map(|rows| in_order(&rows, lengths));
    divisions.into_iter().min_by_key(|(cost, _)| *cost).map_or_else(Vec::new, |(_, runs)| runs)
}

/// The best division of rows in this order, and what it costs.
fn in_order(rows: &[usize], lengths: &[Vec<usize>]) -> (usize, Vec<Vec<usize>>) {
    // For the first `n` rows: the least cost, and how many rows the last run has.
    let mut least: Vec<(usize, usize)> = vec![(0, 0)];
    for end in 1..=rows.len() {
        let mut longest = lengths[rows[end - 1]].clone();
        let mut best = (usize::MAX, 0);
        for size in 1..=end.min(LARGEST) {
            let row = &lengths[rows[end - size]];
            longest.iter_mut().zip(row).for_each(|(longest, length)| *longest = (*longest).max(*length));
            let cost = least[end - size].0 + RUN + size * (ROW + longest.iter().sum::<usize>());
            best = best.min((cost, size));
        }
        least.push(best);
    }
    let mut runs = Vec::new();
    let mut end = rows.len();
    while end > 0 {
        let size = least[end].1;
        runs.push(rows[end - size..end].to_vec());
        end -= size;
    }
    (least[rows.len()].0, runs)
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
            RUN + run.len() * (ROW + padded.sum::<usize>())
        };
        runs.iter().map(of_run).sum()
    }

    #[test]
    fn short_and_long_rows_run_apart_when_that_saves_more_than_a_run_costs() {
        let lengths: Vec<_> = (0..20).map(|row| vec![if row % 2 == 0 { 1 } else { 16 }]).collect();
        let mut runs = divide(&lengths);
        runs.sort();
        assert_eq!(runs, [(0..20).step_by(2).collect::<Vec<_>>(), (1..20).step_by(2).collect()]);
        assert_eq!(
            divide(&[vec![1], vec![2], vec![1]]).len(),
            1,
            "a run of its own costs more than padding does"
        );
    }

    #[test]
    fn without_sequences_there_is_one_run() {
        assert_eq!(divide(&[vec![], vec![], vec![]]), [[0, 1, 2]]);
        assert!(divide(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn every_row_runs_once_and_never_at_a_higher_cost_than_together(
            lengths in prop::collection::vec(prop::collection::vec(0..17_usize, 2), 1..LARGEST),
        ) {
            let runs = divide(&lengths);
            let mut rows: Vec<_> = runs.concat();
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
            let together = vec![(0..lengths.len()).collect()];
            prop_assert!(cost(&lengths, &runs) <= cost(&lengths, &together));
        }
    }
}
