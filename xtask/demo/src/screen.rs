//! What the person in front of the demo sees: a moving line per lane on a terminal, plain lines anywhere else.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::board::Line;
use crate::commerce::LANES;

/// The live display.
pub(crate) struct Screen {
    terminal: Option<Terminal>,
    last_shown: Option<Instant>,
}

struct Terminal {
    lines: MultiProgress,
    heading: ProgressBar,
    total: ProgressBar,
    lanes: [ProgressBar; 2],
}

const HEADING: &str = "lane             in       scored  dead letters     lag  events/s       p50       p99";

impl Screen {
    /// A display for what is to come.
    pub(crate) fn new() -> Self {
        Self { terminal: None, last_shown: None }
    }

    /// Prints a line that stays.
    pub(crate) fn say(&self, line: &str) {
        match &self.terminal {
            // A terminal that is gone is no reason to stop.
            Some(terminal) => drop(terminal.lines.println(line)),
            None => println!("{line}"),
        }
    }

    /// Does something that takes a few seconds, and says so.
    pub(crate) fn during<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        let line = ProgressBar::new_spinner();
        line.set_style(style("{spinner} {msg} ({elapsed})"));
        line.set_message(what.to_owned());
        line.enable_steady_tick(Duration::from_millis(100));
        let started = Instant::now();
        let result = work();
        line.finish_and_clear();
        self.say(&format!("{what}: {:.1} s", started.elapsed().as_secs_f64()));
        result
    }

    /// Begins the live lines of a replay of `events` events.
    pub(crate) fn begin(&mut self, events: u64) {
        self.last_shown = Some(Instant::now());
        if !std::io::stderr().is_terminal() {
            println!("{HEADING}");
            return;
        }
        let lines = MultiProgress::new();
        let heading = lines.add(ProgressBar::new(0).with_style(style("{msg}")));
        heading.set_message(HEADING);
        let lanes = LANES.map(|_| lines.add(ProgressBar::new(0).with_style(style("{msg}"))));
        let total = lines.add(
            ProgressBar::new(events).with_style(style("[{bar:40}] {pos} of {len} events sent, {eta} left")),
        );
        self.terminal = Some(Terminal { lines, heading, total, lanes });
    }

    /// Whether the live lines are due: once a second, or every five seconds without a terminal.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let every = if self.terminal.is_some() { Duration::from_secs(1) } else { Duration::from_secs(5) };
        self.last_shown.is_none_or(|last| now.saturating_duration_since(last) >= every)
    }

    /// Shows the live lines.
    pub(crate) fn show(&mut self, sent: u64, lines: [Line; 2], now: Instant) {
        self.last_shown = Some(now);
        for line in lines {
            let text = row(&line);
            match &self.terminal {
                Some(terminal) => terminal.lanes[line.lane.index()].set_message(text),
                None => println!("{text}"),
            }
        }
        if let Some(terminal) = &self.terminal {
            terminal.total.set_position(sent);
        }
    }

    /// Ends the live lines; what they said last stays.
    pub(crate) fn end(&mut self) {
        if let Some(terminal) = self.terminal.take() {
            terminal.total.finish_and_clear();
            terminal.heading.abandon();
            terminal.lanes.iter().for_each(ProgressBar::abandon);
            println!();
        }
    }
}

fn row(line: &Line) -> String {
    format!(
        "{:<10} {:>8} {:>12} {:>13} {:>7} {:>9.0} {:>9} {:>9}",
        line.lane.name(),
        line.sent,
        line.scored,
        line.dead_lettered,
        line.lag,
        line.per_second,
        millis(line.p50),
        millis(line.p99),
    )
}

/// A time as a person reads it: `12.3 ms`, `450 ms`, `3.2 s`.
pub(crate) fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    match millis {
        0.0 => "–".to_owned(),
        ..100.0 => format!("{millis:.1} ms"),
        ..1000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1000.0),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are well-formed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_with_the_digits_that_matter() {
        let shown = [0, 12_345, 450_000, 3_210_000].map(|micros| millis(Duration::from_micros(micros)));
        assert_eq!(shown, ["–", "12.3 ms", "450 ms", "3.2 s"]);
    }
}
