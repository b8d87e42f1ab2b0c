//! Reads the answers as a careful user would, `read_committed`, on a thread of its own, so that the time of an answer is
//! the time at which such a reader has it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use twinlane_testkit::checker::{Found, coordinates};
use twinlane_testkit::client::{Follower, Record};

use crate::commerce::Pipeline;

/// An answer or a dead letter, as it arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    /// Partition and offset of its event.
    pub(crate) source: (i32, i64),
    pub(crate) found: Found,
    pub(crate) at: Instant,
}

/// The reader of answers.
pub(crate) struct Watch {
    /// Unbounded: an answer is 40 bytes, there are as many as events, and the main loop takes them 20 times a second.
    answers: Receiver<Answer>,
    samples: Arc<Mutex<[Option<Sample>; 3]>>,
    stop: Arc<()>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// An answer to show, with its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) answer: Answer,
    pub(crate) value: Vec<u8>,
    /// For a dead letter: its stage, reason and detail.
    pub(crate) dead: Option<[String; 3]>,
}

impl Watch {
    /// Starts to read what is answered from now on.
    pub(crate) fn start(bootstrap: &str, pipeline: &Pipeline) -> Result<Self> {
        let topics = pipeline.answers().map(str::to_owned);
        let follower = Follower::from_end(bootstrap, &topics.each_ref().map(String::as_str))?;
        let (sender, answers) = channel();
        let samples = Arc::new(Mutex::new([const { None }; 3]));
        let (stop, kept) = (Arc::new(()), Arc::clone(&samples));
        let running = Arc::downgrade(&stop);
        let thread = std::thread::Builder::new().name("watch".into()).spawn(move || {
            while running.strong_count() > 0 {
                follower.next(Duration::from_millis(100), |record| take(record, &topics, &sender, &kept))?;
            }
            Ok(())
        })?;
        Ok(Self { answers, samples, stop, thread: Some(thread) })
    }

    /// What has arrived since the last call.
    pub(crate) fn take(&self) -> impl Iterator<Item = Answer> {
        self.answers.try_iter()
    }

    /// Whether the reading has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// An answer of an output topic (by lane), or dead letter (2): the first since the last call.
    pub(crate) fn sample(&self, topic: usize) -> Option<Sample> {
        self.samples.lock().expect("no holder of this lock panics")[topic].take()
    }

    /// Ends the reading, and says whether it went well.
    pub(crate) fn stop(mut self) -> Result<()> {
        drop(std::mem::take(&mut self.stop));
        let thread = self.thread.take().expect("the thread is joined once");
        thread.join().expect("the reader does not panic")
    }
}

fn take(
    record: &Record<'_>,
    topics: &[String; 3],
    answers: &Sender<Answer>,
    samples: &Mutex<[Option<Sample>; 3]>,
) {
    let at = Instant::now();
    let Some((_, partition, offset)) = record.header("twinlane-source").and_then(coordinates) else { return };
    let index = topics.iter().position(|topic| topic == record.topic()).unwrap_or(2);
    let found = if index == 2 { Found::DeadLetter } else { Found::Answer };
    let answer = Answer { source: (partition, offset), found, at };
    let mut samples = samples.lock().expect("no holder of this lock panics");
    if samples[index].is_none() {
        let text = |name| String::from_utf8_lossy(record.header(name).unwrap_or_default()).into_owned();
        let dead = (index == 2)
            .then(|| ["twinlane-dead-stage", "twinlane-dead-reason", "twinlane-dead-detail"].map(text));
        samples[index] = Some(Sample { answer, value: record.value().unwrap_or_default().to_vec(), dead });
    }
    // Nobody listens any more when the demo ends.
    let _ = answers.send(answer);
}
