//! What a person sees while they wait: one line per thing that takes longer than a moment, with an estimate.
//! Without a terminal the same comes as plain lines.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(100);

/// Prints a line about how things go.
pub(crate) fn say(line: &str) {
    eprintln!("twinlane: {line}");
}

/// Prints why a task ends without success.
pub(crate) fn problem(text: &str) {
    eprintln!("\ntwinlane: {text}");
}

/// Does something that takes a few seconds, with a line that moves meanwhile.
pub(crate) fn during<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let line = ProgressBar::new_spinner().with_style(style("{spinner} {msg} ({elapsed})"));
    line.set_message(what.to_owned());
    line.enable_steady_tick(TICK);
    let result = work();
    line.finish_and_clear();
    if result.is_ok() && (std::io::stderr().is_terminal() || started.elapsed() > Duration::from_secs(1)) {
        say(&format!("{what}: done in {:.1} s", started.elapsed().as_secs_f64()));
    }
    result
}

/// Several downloads at a time, each with a bar.
#[derive(Debug, Default)]
pub(crate) struct Downloads {
    lines: MultiProgress,
}

impl Downloads {
    /// A bar that counts bytes up to `total`.
    pub(crate) fn bytes(&self, name: &str, total: u64) -> ProgressBar {
        self.add(name, total, "{msg:32} {bar:30} {bytes:>10} of {total_bytes}, {eta} left")
    }

    /// A bar that counts files up to `total`.
    pub(crate) fn files(&self, name: &str, total: u64) -> ProgressBar {
        self.add(name, total, "{msg:32} {bar:30} {pos:>4} of {len} files, {eta} left")
    }

    fn add(&self, name: &str, total: u64, template: &str) -> ProgressBar {
        if !std::io::stderr().is_terminal() {
            say(&format!("fetching {name}"));
        }
        let bar = self.lines.add(ProgressBar::new(total).with_style(style(template)));
        bar.set_message(name.to_owned());
        bar.enable_steady_tick(TICK);
        bar
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are well-formed")
}
