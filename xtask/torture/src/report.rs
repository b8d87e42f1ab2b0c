//! What a run has to say: a table for people, an object for machines.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::fault::Kind;
use crate::judge::Judgement;

/// A fault that was injected, and how long recovery took where somebody waited for it.
#[derive(Debug, Clone)]
pub(crate) struct Injection {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    /// Since the first event, when it began.
    pub(crate) at: Duration,
    pub(crate) detail: String,
    /// What the kind's bound is for: until answers flow on every partition after brokers were away, until every partition
    /// has answered what came later after all other faults.
    pub(crate) recovery: Option<Duration>,
    /// Until every partition has answered what came later.
    pub(crate) caught_up: Option<Duration>,
}

/// Everything that a run has found out.
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) mode: &'static str,
    pub(crate) settings: Value,
    pub(crate) elapsed: Duration,
    pub(crate) longest_stall: Duration,
    pub(crate) injections: Vec<Injection>,
    pub(crate) notes: Vec<String>,
    /// Why the run ended before its time, if it did.
    pub(crate) broken_off: Option<String>,
    pub(crate) slowest_stop: Duration,
    pub(crate) judgement: Judgement,
}

impl Report {
    /// Whether every event was answered once, rightly and in order, and the run came to its end.
    pub(crate) fn is_clean(&self) -> bool {
        self.judgement.is_clean() && self.broken_off.is_none()
    }

    /// Per kind: how often, and the recovery times in order.
    fn by_kind(&self) -> BTreeMap<Kind, (usize, Vec<Duration>)> {
        let mut kinds: BTreeMap<Kind, (usize, Vec<Duration>)> = BTreeMap::new();
        for injection in &self.injections {
            let (count, times) = kinds.entry(injection.kind).or_default();
            *count += 1;
            times.extend(injection.recovery);
        }
        kinds.values_mut().for_each(|(_, times)| times.sort());
        kinds
    }

    /// Prints it as a table.
    pub(crate) fn print(&self) {
        println!("\n{:<40} {:>5} {:>9} {:>9} {:>9}", "fault", "count", "median", "worst", "bound");
        for (kind, (count, times)) in self.by_kind() {
            let seconds = |time: Option<Duration>| {
                time.map_or_else(|| "-".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()))
            };
            let (median, worst) = (median(&times), times.last().copied());
            let held = match (worst, kind.bound()) {
                (Some(worst), Some(bound)) if worst > bound => "over",
                (Some(_), Some(_)) => "met",
                _ => "",
            };
            println!(
                "{:<40} {count:>5} {:>9} {:>9} {:>9} {held}",
                kind.name(),
                seconds(median),
                seconds(worst),
                seconds(kind.bound())
            );
        }
        for note in &self.notes {
            println!("note: {note}");
        }
        if let Some(cause) = &self.broken_off {
            println!("broken off: {cause}");
        }
        let Judgement { verdict, wrong_content, examples, sources } = &self.judgement;
        println!(
            "\nseed {}, {}, {:.0} s, {} faults; longest stall of one lane on one partition {:.1} s; slowest last stop \
             {:.1} s",
            self.seed,
            self.mode,
            self.elapsed.as_secs_f64(),
            self.injections.len(),
            self.longest_stall.as_secs_f64(),
            self.slowest_stop.as_secs_f64()
        );
        if sources.unconfirmed + sources.duplicated + sources.vanished > 0 {
            println!("the source topics against what the brokers confirmed: {sources:?}");
        }
        println!("{verdict}, {wrong_content} with wrong content");
        examples.iter().for_each(|example| println!("  {example}"));
    }

    /// Writes it as one JSON object.
    pub(crate) fn write_json(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.json()).context("writing JSON")?;
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }

    fn json(&self) -> Value {
        let verdict = &self.judgement.verdict;
        let (mut faults, mut recovery) = (serde_json::Map::new(), serde_json::Map::new());
        for (kind, (count, times)) in self.by_kind() {
            faults.insert(kind.name(), json!(count));
            let worst = times.last().copied();
            let met = worst.zip(kind.bound()).map(|(worst, bound)| worst <= bound);
            let figures = json!({
                "median": median(&times).map(seconds), "worst": worst.map(seconds),
                "bound": kind.bound().map(seconds), "met": met,
            });
            recovery.insert(kind.name(), figures);
        }
        let injected: Vec<_> = self
            .injections
            .iter()
            .map(|one| {
                json!({
                    "number": one.number, "kind": one.kind.name(), "at_s": seconds(one.at), "detail": one.detail,
                    "recovery_s": one.recovery.map(seconds), "caught_up_s": one.caught_up.map(seconds),
                })
            })
            .collect();
        json!({
            "seed": self.seed,
            "mode": self.mode,
            "clean": self.is_clean(),
            "produced": verdict.produced,
            "answered": verdict.answered,
            "scored": verdict.scored,
            "dead_lettered": verdict.dead_lettered,
            "skipped": verdict.skipped,
            "lost": verdict.lost,
            "repeated": verdict.repeated,
            "reordered": verdict.reordered,
            "misjudged": verdict.misjudged,
            "foreign": verdict.foreign,
            "scattered": verdict.scattered,
            "sources": {
                "unconfirmed": self.judgement.sources.unconfirmed,
                "duplicated": self.judgement.sources.duplicated,
                "vanished": self.judgement.sources.vanished,
            },
            "wrong_content": self.judgement.wrong_content,
            "examples": verdict.examples.iter().chain(&self.judgement.examples).collect::<Vec<_>>(),
            "faults": faults,
            "recovery_s": recovery,
            "longest_stall_s": seconds(self.longest_stall),
            "elapsed_s": seconds(self.elapsed),
            "injected": injected,
            "notes": self.notes,
            "broken_off": self.broken_off,
            "settings": self.settings,
        })
    }
}

fn median(sorted: &[Duration]) -> Option<Duration> {
    sorted.get(sorted.len() / 2).copied()
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
