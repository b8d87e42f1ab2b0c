//! Forms batches from the backlog. A batch is whatever waits at the moment a session is free, never more than
//! the lane allows, and nothing waits for a batch to fill. Pure: no clock, no threads.

use std::collections::VecDeque;

use twinlane_pipeline::Row;

/// Rows of one task for one model run. The tags are the caller's and come back with the answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch<T> {
    /// Task, as it was given to [`Batcher::push`].
    pub task: usize,
    /// One per row.
    pub tags: Vec<T>,
    /// What the model gets.
    pub rows: Vec<Row>,
}

/// A queue per task. It has no bound of its own: what it may hold is decided by the budget that lets records
/// into the service, which counts them until they are settled.
#[derive(Clone, Debug)]
pub struct Batcher<T> {
    queues: Vec<Queue<T>>,
    max_batch: usize,
    arrivals: u64,
    turns: u64,
}

#[derive(Clone, Debug)]
struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    /// When it was last served; 0 is never.
    served: u64,
}

#[derive(Clone, Debug)]
struct Waiting<T> {
    arrival: u64,
    tag: T,
    row: Row,
}

impl<T> Queue<T> {
    fn batch(&mut self, task: usize, size: usize) -> Batch<T> {
        let mut batch = Batch { task, tags: Vec::with_capacity(size), rows: Vec::with_capacity(size) };
        for waiting in self.waiting.drain(..size) {
            batch.tags.push(waiting.tag);
            batch.rows.push(waiting.row);
        }
        batch
    }
}

impl<T> Batcher<T> {
    /// A batcher for tasks `0..tasks`, with at least one row and at most `max_batch` in a batch.
    pub fn new(tasks: usize, max_batch: usize) -> Self {
        let queues = (0..tasks).map(|_| Queue { waiting: VecDeque::new(), served: 0 }).collect();
        Self { queues, max_batch: max_batch.max(1), arrivals: 0, turns: 0 }
    }

    /// Adds a row behind those of its task.
    ///
    /// # Panics
    /// If the batcher was not made for that task.
    pub fn push(&mut self, task: usize, tag: T, row: Row) {
        self.arrivals += 1;
        self.queues[task].waiting.push_back(Waiting { arrival: self.arrivals, tag, row });
    }

    /// The next batch when `idle` sessions are free; `None` when nothing waits. A backlog that fits into one
    /// batch is shared among them, since a session that is left idle answers nobody.
    ///
    /// The task that was served longest ago comes first, and among tasks that were never served the one whose
    /// event has waited longest. So a task waits for at most one turn of each other task, however long their
    /// queues are.
    pub fn next_for(&mut self, idle: usize) -> Option<Batch<T>> {
        let (task, queue) = self
            .queues
            .iter_mut()
            .enumerate()
            .filter_map(|(task, queue)| Some((queue.served, queue.waiting.front()?.arrival, task, queue)))
            .min_by_key(|(served, arrival, ..)| (*served, *arrival))
            .map(|(_, _, task, queue)| (task, queue))?;
        let size = queue.waiting.len().div_ceil(idle.max(1)).min(self.max_batch);
        self.turns += 1;
        queue.served = self.turns;
        Some(queue.batch(task, size))
    }

    /// Another full batch of this task, out of the same turn; `None` where the rest of it does not fill one for each of the
    /// `idle` sessions.
    ///
    /// # Panics
    /// If the batcher was not made for that task.
    pub fn more_of(&mut self, task: usize, idle: usize) -> Option<Batch<T>> {
        let queue = &mut self.queues[task];
        let full = queue.waiting.len() >= idle.max(1) * self.max_batch;
        full.then(|| queue.batch(task, self.max_batch))
    }

    /// Takes out what is not to be run any more, with its task, in the order in which it arrived.
    pub fn take(&mut self, mut unwanted: impl FnMut(&T) -> bool) -> Vec<(usize, T)> {
        let mut taken = Vec::new();
        for (task, queue) in self.queues.iter_mut().enumerate() {
            let waiting = std::mem::take(&mut queue.waiting);
            for one in waiting {
                if unwanted(&one.tag) {
                    taken.push((task, one.tag));
                } else {
                    queue.waiting.push_back(one);
                }
            }
        }
        taken
    }

    /// Rows of a task that wait.
    pub fn waiting(&self, task: usize) -> usize {
        self.queues[task].waiting.len()
    }

    /// Drops what the caller no longer wants answered, such as records of a partition that was taken away.
    pub fn retain(&mut self, mut wanted: impl FnMut(&T) -> bool) {
        for queue in &mut self.queues {
            queue.waiting.retain(|waiting| wanted(&waiting.tag));
        }
    }
}

#[cfg(test)]
#[path = "batcher_tests.rs"]
mod tests;
