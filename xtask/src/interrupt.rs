//! Ctrl-C and SIGTERM: noticed, so that what was started is stopped by its owners on the way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use twinlane_testkit::wait;

const LOOK: Duration = Duration::from_millis(50);

/// Whether somebody asked this process to end.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on the first Ctrl-C is noticed rather than fatal; the second ends the process at once.
    pub(crate) fn install() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let handler = Arc::clone(&asked);
        ctrlc::set_handler(move || {
            if handler.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        })
        .context("taking over Ctrl-C")?;
        Ok(Self(asked))
    }

    /// Whether the end was asked for.
    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Waits for an answer or the end; none when the end was asked for first.
    pub(crate) fn or<T>(&self, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
        while !self.asked() {
            if let Some(answer) = ask() {
                return Some(answer);
            }
            wait::pause_for(LOOK);
        }
        None
    }
}
