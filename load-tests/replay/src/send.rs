//! `reference-events send`: the reference events into a Kafka topic at a steady rate, over and over: what the compose file
//! runs as its source of events.

use std::{
    ops::ControlFlow,
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use twinlane_replay::{ReferenceEvent, reference_events};
use twinlane_testkit::client::{Outgoing, Producer};

#[derive(Args)]
pub(crate) struct Send {
    /// Kafka bootstrap addresses
    #[arg(long, value_name = "HOST:PORT,…", env = "KAFKA_BROKERS", default_value = "localhost:9092")]
    brokers: String,
    /// The topic, which must exist
    #[arg(long, default_value = "shop.events")]
    topic: String,
    /// Events per second
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    rate: f64,
    /// End after so many events [default: none; after the last of the 169,651 events comes the first again]
    #[arg(long, value_name = "N")]
    events: Option<u64>,
}

/// How often it is said how many were sent, and looked whether the broker took them.
const REPORT: Duration = Duration::from_secs(10);

pub(crate) fn send(wheels: &Path, asked: &Send) -> anyhow::Result<()> {
    ensure!(asked.rate.is_finite() && asked.rate > 0.0, "--rate must be more than 0");
    // Before the data is read, which takes seconds: a container's first process is not stopped by a signal without one.
    let (stop, stopped) = channel();
    let signalled = move || {
        // After the first signal nobody may listen any more.
        let _ = stop.send(());
    };
    ctrlc::set_handler(signalled).context("listening for signals")?;
    let producer = Producer::new(&asked.brokers)?;
    let mut sender = Sender { producer, stopped, asked, pace: Pace::new(asked.rate), sent: 0 };
    while sender.all(reference_events(wheels, None)?)?.is_continue() {}
    sender.confirm()?;
    println!("{} events sent and confirmed", sender.sent);
    Ok(())
}

struct Sender<'a> {
    producer: Producer<()>,
    stopped: Receiver<()>,
    asked: &'a Send,
    pace: Pace,
    sent: u64,
}

impl Sender<'_> {
    /// Sends these, unless it was enough before or a signal came.
    fn all(&mut self, events: impl Iterator<Item = ReferenceEvent>) -> anyhow::Result<ControlFlow<()>> {
        let mut reported = Instant::now();
        for event in events {
            if self.asked.events == Some(self.sent) {
                return Ok(ControlFlow::Break(()));
            }
            match self.stopped.recv_timeout(self.pace.wait(Instant::now())) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(ControlFlow::Break(())),
            }
            let outgoing = Outgoing {
                topic: &self.asked.topic,
                key: Some(event.key.as_bytes()),
                value: Some(&event.payload),
                ..Outgoing::default()
            };
            self.producer.send(&outgoing, ())?;
            self.sent += 1;
            if reported.elapsed() >= REPORT {
                self.confirm()?;
                println!("{} events sent", self.sent);
                reported = Instant::now();
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Waits until the broker has what was sent; an event that it did not take ends the program.
    fn confirm(&self) -> anyhow::Result<()> {
        self.producer.flush()?;
        Ok(())
    }
}

/// When the next event is due.
struct Pace {
    every: Duration,
    next: Option<Instant>,
}

impl Pace {
    /// Further behind than this, what was missed is left out: after brokers were away, the rate is as before.
    const BEHIND: Duration = Duration::from_secs(1);

    fn new(rate: f64) -> Self {
        Self { every: Duration::from_secs_f64(1.0 / rate), next: None }
    }

    /// How long to wait for the next event, which then counts as sent.
    fn wait(&mut self, now: Instant) -> Duration {
        let due = self.next.filter(|due| now.saturating_duration_since(*due) <= Self::BEHIND).unwrap_or(now);
        self.next = Some(due + self.every);
        due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_due_at_the_rate_also_when_one_was_late() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut pace = Pace::new(10.0);
        assert_eq!(pace.wait(start), ms(0));
        assert_eq!(pace.wait(start), ms(100));
        // The third was due at 200 ms; the fourth is still due at 300 ms.
        assert_eq!(pace.wait(start + ms(250)), ms(0));
        assert_eq!(pace.wait(start + ms(250)), ms(50));
    }

    #[test]
    fn a_long_pause_is_not_made_up_for() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut pace = Pace::new(10.0);
        pace.wait(start);
        assert_eq!(pace.wait(start + ms(5000)), ms(0));
        assert_eq!(pace.wait(start + ms(5000)), ms(100));
    }
}
