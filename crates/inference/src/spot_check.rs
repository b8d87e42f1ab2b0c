//! A share of what a device answers, compared with what the CPU answers while events flow. A thread of its own has a CPU
//! session of the same model; it takes what it can, and nobody waits for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use twinlane_pipeline::Row;

use crate::{
    metric_names::ParityMetrics,
    model::Answer,
    parity::{self, TOLERANCE},
};

/// Rows that wait for the CPU; more are let go unchecked.
const WAITING: usize = 64;

/// Picks rows of one model thread. Clones share the thread that compares, which ends with the last of them.
#[derive(Clone)]
pub(crate) struct SpotCheck {
    every: u64,
    answered: Arc<AtomicU64>,
    picked: Sender<(Row, Answer)>,
}

impl SpotCheck {
    /// Compares this share of the rows with what `cpu` answers to one row.
    pub(crate) fn start(
        task: &str,
        share: f64,
        cpu: impl FnMut(&Row) -> Result<Answer, String> + Send + 'static,
    ) -> Self {
        let (picked, rows) = bounded(WAITING);
        let task: Arc<str> = task.into();
        let thread = thread::Builder::new().name("parity".into());
        let compares = thread.spawn(move || compare_all(&task, &rows, cpu));
        compares.expect("the system can start a thread");
        // A share of 0 or less is refused by the pipeline file's check.
        let every = (1.0 / share).round().max(1.0) as u64;
        Self { every, answered: Arc::default(), picked }
    }

    /// Some of these rows are compared.
    pub(crate) fn see(&self, rows: &[Row], answers: &[Answer]) {
        let before = self.answered.fetch_add(rows.len() as u64, Ordering::Relaxed);
        let first = (self.every - before % self.every - 1) as usize;
        let every = usize::try_from(self.every).unwrap_or(usize::MAX);
        for (row, answer) in rows.iter().zip(answers).skip(first).step_by(every) {
            // Full: the CPU is behind.
            let _ = self.picked.try_send((row.clone(), answer.clone()));
        }
    }
}

fn compare_all(
    task: &str,
    rows: &Receiver<(Row, Answer)>,
    mut cpu: impl FnMut(&Row) -> Result<Answer, String>,
) {
    let metrics = ParityMetrics::new(task);
    let mut outside = 0_u64;
    for (row, answer) in rows {
        let compared = cpu(&row).and_then(|expected| parity::compare(&[answer], &[expected]));
        metrics.checked.increment(1);
        match compared {
            Ok(apart) => metrics.difference.record(apart * TOLERANCE),
            Err(why) => {
                metrics.outside.increment(1);
                outside += 1;
                // The first, and then ever fewer: a broken device gives one with every row.
                if outside.is_power_of_two() {
                    tracing::error!(
                        task,
                        outside,
                        why,
                        tolerance = TOLERANCE,
                        "the device does not answer as the CPU does"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use twinlane_pipeline::{RowTensor, TensorData};
    use twinlane_record::Output;

    use super::*;

    fn row(n: i64) -> Row {
        Row { tensors: vec![RowTensor { steps: 0, data: TensorData::Integer(vec![n]) }] }
    }

    fn number(row: &Row) -> i64 {
        match &row.tensors[0].data {
            TensorData::Integer(values) => values[0],
            other => panic!("{other:?}"),
        }
    }

    fn answer(n: f64) -> Answer {
        Ok(vec![("y".into(), Output::Number(n))])
    }

    #[test]
    fn the_share_is_kept_across_batches_of_any_size() {
        let (asked, rows) = crossbeam_channel::unbounded();
        let check = SpotCheck::start("t", 0.1, move |row| {
            asked.send(number(row)).expect("the test listens");
            Ok(answer(0.0))
        });
        let mut next = 0_i64;
        for size in [1, 7, 25, 3, 64, 100] {
            let batch: Vec<_> = (next..next + size).map(row).collect();
            check.see(&batch, &vec![answer(0.0); batch.len()]);
            next += size;
        }
        drop(check);
        let seen: BTreeSet<_> = rows.iter().collect();
        assert_eq!(seen, (0..200).filter(|n| n % 10 == 9).collect());
    }

    #[test]
    fn nobody_waits_for_a_cpu_that_is_behind() {
        let (open, gate) = bounded::<()>(0);
        let check = SpotCheck::start("t", 1.0, move |_| {
            let _ = gate.recv();
            Ok(answer(0.0))
        });
        let batch: Vec<_> = (0..10 * WAITING as i64).map(row).collect();
        let answers = vec![answer(0.0); batch.len()];
        let (done, finished) = bounded(1);
        thread::spawn(move || {
            check.see(&batch, &answers);
            done.send(()).expect("the test waits");
        });
        finished.recv_timeout(Duration::from_secs(20)).expect("it does not block");
        drop(open);
    }
}
