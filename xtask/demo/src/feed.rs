//! Produces the reference events on a thread of its own: some as fast as Kafka takes them, then the rest at a rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use twinlane_testkit::checker::Expected;
use twinlane_testkit::client::{Delivered, Outgoing, Producer};
use twinlane_testkit::wait;

use crate::commerce::Lane;
use crate::events::Event;

/// What is remembered of an event that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// What its answer must carry.
    pub(crate) id: Arc<str>,
    pub(crate) lane: Lane,
    pub(crate) expected: Expected,
    /// For a dead letter: the reason that it must name.
    pub(crate) reason: Option<&'static str>,
    /// The known label, where there is one.
    pub(crate) truth: Option<bool>,
    /// Sent at the chosen rate, so that its time counts.
    pub(crate) replayed: bool,
    pub(crate) at: Instant,
}

struct Order {
    events: u64,
    per_second: Option<f64>,
}

/// The producer of events.
pub(crate) struct Feed {
    producer: Arc<Producer<Sent>>,
    orders: Option<Sender<Order>>,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Feed {
    /// Starts the thread; it sends nothing until it is told to.
    pub(crate) fn start(
        bootstrap: &str,
        topic: &str,
        events: impl Iterator<Item = Event> + Send + 'static,
    ) -> Result<Self> {
        let producer = Arc::new(Producer::new(bootstrap)?);
        let (orders, receiver) = channel();
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let runner = Runner {
            producer: Arc::clone(&producer),
            topic: topic.to_owned(),
            sent: Arc::clone(&sent),
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new()
            .name("feed".into())
            .spawn(move || runner.run(&receiver, Box::new(events)))
            .context("starting a thread")?;
        Ok(Self { producer, orders: Some(orders), sent, stop, thread: Some(thread) })
    }

    /// Sends the next events, at a rate or as fast as it goes.
    pub(crate) fn send(&self, events: u64, per_second: Option<f64>) {
        let orders = self.orders.as_ref().expect("orders are given before the end");
        // A thread that has failed is found out by `finish`.
        let _ = orders.send(Order { events, per_second });
    }

    /// How many events were handed to the producer.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether the thread has ended, well or not.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// What the broker has confirmed since the last call.
    pub(crate) fn take_delivered(&self) -> Vec<Delivered<Sent>> {
        self.producer.take_delivered()
    }

    /// Waits until all is sent and confirmed.
    pub(crate) fn finish(&mut self) -> Result<Vec<Delivered<Sent>>> {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the feed does not panic")?;
        }
        Ok(self.producer.flush()?)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Runner {
    producer: Arc<Producer<Sent>>,
    topic: String,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Runner {
    fn run(
        &self,
        orders: &Receiver<Order>,
        mut events: Box<dyn Iterator<Item = Event> + Send>,
    ) -> Result<()> {
        for order in orders {
            let start = Instant::now();
            let mut done = 0;
            while done < order.events {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let due = match order.per_second {
                    Some(rate) => (start.elapsed().as_secs_f64() * rate) as u64,
                    None => u64::MAX,
                };
                if due <= done {
                    wait::pause_for(Duration::from_millis(2));
                    continue;
                }
                let event = events.next().context("the replay has fewer events than were asked for")?;
                self.send(&event, order.per_second.is_some())?;
                done += 1;
            }
        }
        Ok(())
    }

    fn send(&self, event: &Event, replayed: bool) -> Result<()> {
        let outgoing = Outgoing {
            topic: &self.topic,
            key: Some(&event.key),
            value: event.value.as_deref(),
            ..Default::default()
        };
        let &Event { ref id, lane, expected, reason, truth, .. } = event;
        let id = Arc::clone(id);
        self.producer
            .send(&outgoing, Sent { id, lane, expected, reason, truth, replayed, at: Instant::now() })?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
