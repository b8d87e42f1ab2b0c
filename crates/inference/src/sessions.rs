//! The threads that run models. Each owns one model per task, so no session is ever shared; batches go in and
//! answers come out through channels, and the thread that hands out work never waits for a model. Several batches may go in
//! at once, and then come out at once: handing over costs as much as a run of a small model.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use twinlane_pipeline::Row;

use crate::{Batch, Error, Model, RunError, model::Answer};

/// What a thread runs. [`Model`] does; tests of stages script their own.
pub trait Runs: Send + 'static {
    /// Called once, on the thread, before the first batch.
    fn warm_up(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Answers each row, in order.
    fn run(&mut self, rows: &[Row]) -> Result<Vec<Answer>, RunError>;
}

impl Runs for Model {
    fn warm_up(&mut self) -> Result<(), Error> {
        Model::warm_up(self)
    }

    fn run(&mut self, rows: &[Row]) -> Result<Vec<Answer>, RunError> {
        Model::run(self, rows)
    }
}

/// A batch that was run. It comes back with those that were handed over with it; give them all to [`Sessions::done`], which
/// makes their thread idle again.
#[derive(Debug)]
pub struct Ran<T> {
    /// Task.
    pub task: usize,
    /// The batch's tags, in its order.
    pub tags: Vec<T>,
    /// An answer per tag, or why the batch has none.
    pub results: Result<Vec<Answer>, RunError>,
    /// When the run began.
    pub started: Instant,
    /// How long it took, packing and reading included.
    pub elapsed: Duration,
    /// Which pool ran it: see [`Sessions::generation`].
    pub generation: u32,
    thread: usize,
    /// Freed by whoever made them: memory that another thread frees goes a long way back.
    _rows: Vec<Row>,
}

/// Where the results of a pool arrive: a pool that [takes its place](Sessions::start_beside) sends its results there, too.
#[derive(Debug)]
pub struct Results<T> {
    finished: Sender<Vec<Ran<T>>>,
    results: Receiver<Vec<Ran<T>>>,
    generation: u32,
}

impl<T> Clone for Results<T> {
    fn clone(&self) -> Self {
        Self { finished: self.finished.clone(), results: self.results.clone(), generation: self.generation }
    }
}

/// A pool of model threads. Dropping it lets each finish the batch that it runs, and joins those that do not hang.
#[derive(Debug)]
pub struct Sessions<T> {
    threads: Vec<ModelThread<T>>,
    /// Also for a batch whose thread is gone: it comes back as an error, never not at all.
    results: Results<T>,
    deadline: Option<Duration>,
}

/// What was handed over and has not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Task.
    pub task: usize,
    /// When it must have come back.
    pub until: Instant,
}

#[derive(Debug)]
struct ModelThread<T> {
    batches: Option<Sender<Vec<Batch<T>>>>,
    handle: Option<JoinHandle<()>>,
    /// Task of the first batch that it was handed, and when, until the results are taken.
    busy: Option<(usize, Instant)>,
}

impl<T: Send + 'static> Sessions<T> {
    /// Starts a thread for each list of models, and returns when all of them are warm; a list holds a model per task, in
    /// the order that batches name tasks by.
    pub fn start<M: Runs>(models: Vec<Vec<M>>) -> Result<Self, Error> {
        // Never longer than its pools: a thread gets the next batches when its results were taken.
        let (finished, results) = unbounded();
        Self::start_for(models, Results { finished, results, generation: 0 })
    }

    /// A pool that is to take the place of the one whose results these are. It may be started by any thread.
    pub fn start_beside<M: Runs>(models: Vec<Vec<M>>, results: Results<T>) -> Result<Self, Error> {
        Self::start_for(models, Results { generation: results.generation + 1, ..results })
    }

    fn start_for<M: Runs>(models: Vec<Vec<M>>, results: Results<T>) -> Result<Self, Error> {
        let (finished, generation) = (results.finished.clone(), results.generation);
        let mut sessions = Self { threads: Vec::new(), results, deadline: None };
        let (warm, warmed) = bounded(models.len());
        for (at, models) in models.into_iter().enumerate() {
            let warm = warm.clone();
            // One slot, and never full: `submit` hands batches to idle threads only. None at all would make it wait
            // for a thread that has sent its result and is on its way back to its inbox.
            let (batches, inbox) = bounded(1);
            let finished = finished.clone();
            let handle = thread::Builder::new()
                .name(format!("model-{at}"))
                .spawn(move || serve((at, generation), models, warm, &inbox, &finished))
                .map_err(Error::Thread)?;
            sessions.threads.push(ModelThread { batches: Some(batches), handle: Some(handle), busy: None });
        }
        drop(warm);
        warmed.iter().collect::<Result<(), Error>>()?;
        Ok(sessions)
    }

    /// A run that takes longer than this hangs: it cannot be stopped from outside, and dropping the pool does not wait
    /// for it.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// What must come back first, if there is a deadline.
    pub fn most_urgent(&self) -> Option<Running> {
        let deadline = self.deadline?;
        let running = self.threads.iter().filter_map(|thread| thread.busy);
        let (task, since) = running.min_by_key(|(_, since)| *since)?;
        Some(Running { task, until: since + deadline })
    }

    /// Threads with nothing to do.
    pub fn idle(&self) -> usize {
        self.threads.iter().filter(|thread| thread.busy.is_none()).count()
    }

    /// Gives batches to an idle thread, which runs them one after the other. Never blocks. The deadline is that of all of
    /// them.
    ///
    /// # Panics
    /// If no thread is [`idle`](Self::idle): a caller that does not look would queue without a bound. If there is no batch.
    pub fn submit(&mut self, batches: Vec<Batch<T>>) {
        let first = batches.first().expect("there is something to run");
        let (at, thread) = self
            .threads
            .iter_mut()
            .enumerate()
            .find(|(_, thread)| thread.busy.is_none())
            .expect("a batch is submitted only while a thread is idle");
        thread.busy = Some((first.task, Instant::now()));
        let sender = thread.batches.as_ref().expect("senders live until the pool is dropped");
        if let Err(gone) = sender.try_send(batches) {
            let generation = self.results.generation;
            let ran = |Batch { task, tags, rows }| {
                let results = Err(RunError::Panicked("its thread has ended".to_owned()));
                let (started, elapsed) = (Instant::now(), Duration::ZERO);
                Ran { task, tags, results, started, elapsed, generation, thread: at, _rows: rows }
            };
            let ran = gone.into_inner().into_iter().map(ran).collect();
            self.results.finished.send(ran).expect("the receiver is a field of this pool");
        }
    }

    /// Where results arrive, in the order in which they finish; never an empty list.
    pub fn results(&self) -> &Receiver<Vec<Ran<T>>> {
        &self.results.results
    }

    /// For a pool that is to take the place of this one.
    pub fn successor(&self) -> Results<T> {
        self.results.clone()
    }

    /// 0 for the first pool, one more for each that took the place of another.
    pub fn generation(&self) -> u32 {
        self.results.generation
    }

    /// Whether every batch has come back.
    pub fn is_idle(&self) -> bool {
        self.threads.iter().all(|thread| thread.busy.is_none())
    }

    /// Counts results of this pool that came together as taken.
    pub fn done(&mut self, together: &[Ran<T>]) {
        for ran in together {
            self.threads[ran.thread].busy = None;
        }
    }
}

impl<T> Drop for Sessions<T> {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.batches = None;
        }
        let hangs = |since: Instant| self.deadline.is_some_and(|deadline| since.elapsed() >= deadline);
        for thread in &mut self.threads {
            if thread.busy.is_some_and(|(_, since)| hangs(since)) {
                continue;
            }
            if let Some(handle) = thread.handle.take()
                && handle.join().is_err()
            {
                tracing::error!("a model thread ended with a panic");
            }
        }
    }
}

fn serve<T, M: Runs>(
    (thread, generation): (usize, u32),
    mut models: Vec<M>,
    warm: Sender<Result<(), Error>>,
    inbox: &Receiver<Vec<Batch<T>>>,
    finished: &Sender<Vec<Ran<T>>>,
) {
    let warmed = models.iter_mut().try_for_each(Runs::warm_up);
    let failed = warmed.is_err();
    // A receiver that is gone has heard of another thread's failure.
    if warm.send(warmed).is_err() || failed {
        return;
    }
    drop(warm);
    let mut run = |Batch { task, tags, rows }| {
        let started = Instant::now();
        let results = match models.get_mut(task) {
            None => Err(RunError::UnknownTask(task)),
            // After a panic the model may be in any state; the caller stops on the error, so it is not asked again.
            Some(model) => catch_unwind(AssertUnwindSafe(|| model.run(&rows)))
                .unwrap_or_else(|panic| Err(RunError::Panicked(message(&*panic)))),
        };
        let elapsed = started.elapsed();
        Ran { task, tags, results, started, elapsed, generation, thread, _rows: rows }
    };
    for batches in inbox {
        if finished.send(batches.into_iter().map(&mut run).collect()).is_err() {
            return;
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc, time::Duration};

    use twinlane_pipeline::{RowTensor, TensorData};
    use twinlane_record::Output;

    use super::*;

    /// Answers with the row's number, waits at a gate when the number says so, panics at 13.
    struct Scripted {
        gate: Receiver<()>,
    }

    impl Runs for Scripted {
        fn run(&mut self, rows: &[Row]) -> Result<Vec<Answer>, RunError> {
            let number = |row: &Row| match &row.tensors[0].data {
                TensorData::Integer(values) => values[0],
                other => panic!("{other:?}"),
            };
            assert!(!rows.iter().any(|row| number(row) == 13), "thirteen");
            if rows.iter().any(|row| number(row) == 99) {
                self.gate.recv().unwrap();
            }
            Ok(rows
                .iter()
                .map(|row| Ok(vec![(Arc::from("n"), Output::Number(number(row) as f64))]))
                .collect())
        }
    }

    fn batch(numbers: &[i64]) -> Batch<i64> {
        let row =
            |&n: &i64| Row { tensors: vec![RowTensor { steps: 0, data: TensorData::Integer(vec![n]) }] };
        Batch { task: 0, tags: numbers.to_vec(), rows: numbers.iter().map(row).collect() }
    }

    fn pool(threads: usize) -> (Sessions<i64>, Sender<()>) {
        let (open, gate) = unbounded();
        let models = (0..threads).map(|_| vec![Scripted { gate: gate.clone() }]).collect();
        (Sessions::start(models).unwrap(), open)
    }

    fn take(sessions: &mut Sessions<i64>) -> Ran<i64> {
        let mut ran = back(sessions);
        sessions.done(&ran);
        assert_eq!(ran.len(), 1);
        ran.remove(0)
    }

    fn back(sessions: &Sessions<i64>) -> Vec<Ran<i64>> {
        sessions.results().recv_timeout(Duration::from_secs(20)).expect("every batch comes back")
    }

    #[test]
    fn what_is_handed_over_together_is_run_in_order_and_comes_back_together() {
        let (mut sessions, _open) = pool(1);
        sessions.submit(vec![batch(&[1, 2]), batch(&[13]), batch(&[3])]);
        assert_eq!(sessions.idle(), 0);
        let ran = back(&sessions);
        sessions.done(&ran);
        assert_eq!(sessions.idle(), 1);
        let tags: Vec<_> = ran.iter().map(|ran| &ran.tags[..]).collect();
        assert_eq!(tags, [&[1, 2][..], &[13], &[3]]);
        assert!(ran.windows(2).all(|two| two[0].started + two[0].elapsed <= two[1].started));
        assert_eq!(ran.iter().map(|ran| ran.results.is_ok()).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn answers_come_back_with_their_tags_and_the_thread_is_idle_again() {
        let (mut sessions, _open) = pool(2);
        assert_eq!(sessions.idle(), 2);
        sessions.submit(vec![batch(&[1, 2])]);
        assert_eq!(sessions.idle(), 1);
        let ran = take(&mut sessions);
        assert_eq!((ran.task, &ran.tags[..]), (0, &[1, 2][..]));
        let first = ran.results.unwrap().into_iter().next().unwrap();
        assert_eq!(first, Ok(vec![(Arc::from("n"), Output::Number(1.0))]));
        assert_eq!(sessions.idle(), 2);
    }

    #[test]
    fn a_submitter_never_waits_and_a_busy_thread_holds_nobody_up() {
        let (mut sessions, open) = pool(2);
        sessions.submit(vec![batch(&[99])]);
        sessions.submit(vec![batch(&[1])]);
        assert_eq!(take(&mut sessions).tags, [1], "the second thread answers while the first waits");
        sessions.submit(vec![batch(&[2])]);
        assert_eq!(take(&mut sessions).tags, [2], "the idle thread is chosen, not the one at the gate");
        open.send(()).unwrap();
        assert_eq!(take(&mut sessions).tags, [99]);
    }

    #[test]
    fn a_panic_is_an_error_with_its_message_and_the_tags_come_back() {
        let (mut sessions, _open) = pool(1);
        sessions.submit(vec![batch(&[12, 13])]);
        let ran = take(&mut sessions);
        assert_eq!(ran.tags, [12, 13]);
        assert_eq!(ran.results, Err(RunError::Panicked("thirteen".to_owned())));
        sessions.submit(vec![batch(&[14])]);
        assert!(take(&mut sessions).results.is_ok(), "the thread lives on");
    }

    #[test]
    fn a_task_without_a_model_is_an_error() {
        let (mut sessions, _open) = pool(1);
        sessions.submit(vec![Batch { task: 7, ..batch(&[1]) }]);
        assert_eq!(take(&mut sessions).results, Err(RunError::UnknownTask(7)));
    }

    #[test]
    fn dropping_the_pool_ends_its_threads_with_what_they_run() {
        let (mut sessions, open) = pool(2);
        (0..2).for_each(|_| sessions.submit(vec![batch(&[99])]));
        (0..2).for_each(|_| open.send(()).unwrap());
        let results = sessions.results().clone();
        drop(sessions);
        // The threads are joined, so all of their senders are gone, and what they ran is in the channel.
        let left: Vec<_> = results.iter().collect();
        assert_eq!(left.len(), 2);
    }

    #[test]
    fn a_run_past_its_deadline_is_known_and_not_waited_for() {
        let (sessions, _open) = pool(2);
        let mut sessions = sessions.with_deadline(Duration::from_millis(1));
        assert_eq!(sessions.most_urgent(), None);
        sessions.submit(vec![batch(&[99])]);
        let running = sessions.most_urgent().expect("a batch runs");
        assert_eq!(running.task, 0);
        assert!(crossbeam_channel::at(running.until).recv().is_ok());
        drop(sessions);
    }

    #[test]
    fn a_pool_takes_the_place_of_another_and_what_still_runs_there_comes_back() {
        let (mut former, open) = pool(1);
        former.submit(vec![batch(&[99])]);
        let gate = unbounded().1;
        let mut next = Sessions::start_beside(vec![vec![Scripted { gate }]], former.successor()).unwrap();
        assert_eq!((former.generation(), next.generation()), (0, 1));
        next.submit(vec![batch(&[1])]);
        assert_eq!(take(&mut next).tags, [1]);
        open.send(()).unwrap();
        let ran = back(&next);
        assert_eq!((ran[0].generation, &ran[0].tags[..]), (0, &[99][..]));
        assert!(!former.is_idle() && next.is_idle());
        former.done(&ran);
        assert!(former.is_idle());
    }

    #[test]
    #[should_panic(expected = "only while a thread is idle")]
    fn a_batch_without_an_idle_thread_is_a_defect_of_the_caller() {
        let (mut sessions, open) = pool(1);
        // Opened beforehand, so that dropping the pool does not wait for it.
        open.send(()).unwrap();
        sessions.submit(vec![batch(&[99])]);
        sessions.submit(vec![batch(&[1])]);
    }

    #[test]
    fn nothing_is_lost_or_repeated_over_many_batches() {
        let (mut sessions, _open) = pool(3);
        let mut next = 1000_i64;
        let mut seen = HashSet::new();
        while seen.len() < 600 {
            while sessions.idle() > 0 && next < 1600 {
                sessions.submit(vec![batch(&[next, next + 1])]);
                next += 2;
            }
            for tag in take(&mut sessions).tags {
                assert!(seen.insert(tag), "{tag} came twice");
            }
        }
        assert_eq!(sessions.idle(), 3);
    }
}
