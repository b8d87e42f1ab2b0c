//! What is going on, every two seconds.

use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(2);

/// Says what is done now.
pub(crate) fn say(what: &str) {
    println!("{what}");
}

/// A line every two seconds.
#[derive(Debug)]
pub(crate) struct Pulse {
    began: Instant,
    shown: Instant,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), shown: Instant::now() }
    }

    /// Shows the line, if it is time.
    pub(crate) fn show(&mut self, line: impl FnOnce() -> String) {
        if self.shown.elapsed() >= EVERY {
            self.shown = Instant::now();
            println!("  {:>4.0} s  {}", self.began.elapsed().as_secs_f64(), line());
        }
    }
}
