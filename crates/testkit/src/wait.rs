//! Waiting for something to become true, with a limit. Tests wait for an event, never for a time.

use std::time::{Duration, Instant};

/// Asks until there is an answer, or gives up after `limit`. Asks at least once.
pub fn until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        pause_for(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Pauses the thread: between two questions to something that cannot wake us, or to keep a rate.
#[expect(clippy::disallowed_methods, reason = "the one place where a pause is meant")]
pub fn pause_for(time: Duration) {
    std::thread::sleep(time);
}
