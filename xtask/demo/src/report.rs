//! The verdict: computed from the topics alone, after everything has stopped, and told to people and to machines.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use twinlane_testkit::checker::{Checker, Expected, Found, Verdict, coordinates};
use twinlane_testkit::client::check_and_visit_topics;

use crate::board::Board;
use crate::commerce::{LANES, Lane, Pipeline};
use crate::score::Matches;
use crate::scored::Reader;
use crate::screen::millis;

/// What a lane did, as it lies on the topics.
#[derive(Debug, Default, Serialize)]
struct LaneReport {
    scored: u64,
    dead_lettered: u64,
    events_per_s: f64,
    /// From sending an event to reading its committed score, without the events that met the crash.
    p50_ms: f64,
    p99_ms: f64,
    /// The same with them.
    p99_with_crash_ms: f64,
    device: String,
    /// By the known labels of events later than all that the models were trained on.
    f1: Option<f64>,
    accuracy: Option<f64>,
    judged: u64,
}

/// The crash of the precision worker.
#[derive(Debug, Serialize)]
struct CrashReport {
    after_events: u64,
    orders_answered_again_after_s: Option<f64>,
    as_fast_as_before_after_s: Option<f64>,
}

/// All that is known in the end.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    produced: u64,
    answered: u64,
    scored: u64,
    lost: u64,
    repeated: u64,
    reordered: u64,
    skipped: u64,
    dead_lettered: u64,
    misjudged: u64,
    wrong_reasons: u64,
    /// Answers that are no scored event, or carry another event's id than that of the event they name.
    wrong_answers: u64,
    foreign: u64,
    scattered: u64,
    elapsed_s: f64,
    capacity_events_per_s: f64,
    rate_events_per_s: f64,
    dead_letters_by_reason: BTreeMap<String, u64>,
    crash: Option<CrashReport>,
    lanes: BTreeMap<&'static str, LaneReport>,
    #[serde(skip)]
    examples: Vec<String>,
    #[serde(skip)]
    clean: bool,
}

/// What the demo measured while it ran.
pub(crate) struct Measured {
    pub(crate) capacity: f64,
    pub(crate) rate: f64,
    /// When the first event was sent.
    pub(crate) began: Instant,
    /// When the replay at `rate` began.
    pub(crate) replayed: Instant,
}

impl Report {
    /// Reads the topics from their beginning to their end.
    pub(crate) fn compute(
        bootstrap: &str,
        pipeline: &Pipeline,
        reader: &Reader,
        board: &Board,
        measured: &Measured,
    ) -> Result<Self> {
        let mut checker = Checker::new();
        for (partition, offset, sent) in board.events() {
            checker.produced(&pipeline.source, partition, offset, sent.expected);
        }
        let mut lanes = [LaneReport::default(), LaneReport::default()];
        let mut matches = [Matches::default(); 2];
        let (mut reasons, mut wrong_reasons, mut wrong_answers) = (BTreeMap::new(), 0, 0);
        let outputs = pipeline.outputs.each_ref().map(String::as_str);
        check_and_visit_topics(
            bootstrap,
            &mut checker,
            &outputs,
            &[&pipeline.dead_letters],
            |found, record| {
                let source = record.header("twinlane-source").and_then(coordinates);
                let sent = source.and_then(|(_, partition, offset)| board.event(partition, offset));
                let Some(sent) = sent else { return };
                let lane = &mut lanes[sent.lane.index()];
                match found {
                    Found::DeadLetter => {
                        lane.dead_lettered += 1;
                        let reason = record.header("twinlane-dead-reason").unwrap_or_default();
                        let reason = String::from_utf8_lossy(reason).into_owned();
                        wrong_reasons +=
                            u64::from(sent.expected == Expected::DeadLetter && sent.reason != Some(&*reason));
                        *reasons.entry(reason).or_default() += 1;
                    }
                    Found::Answer => {
                        lane.scored += 1;
                        match reader.read(record.value().unwrap_or_default()) {
                            Ok(scored) => {
                                wrong_answers += u64::from(!scored.carries(&sent.id));
                                if let (Some(said), Some(truth)) = (scored.says_yes(), sent.truth) {
                                    matches[sent.lane.index()].add(said, truth);
                                }
                                lane.device = scored.device;
                            }
                            Err(_) => wrong_answers += 1,
                        }
                    }
                }
            },
        )?;
        let rates = board.rates(measured.replayed);
        let recovered = board.crash.is_none_or(|crash| crash.over.is_some());
        for (lane, report) in LANES.into_iter().zip(&mut lanes) {
            let (live, matches) = (board.lane(lane), matches[lane.index()]);
            report.events_per_s = rounded(rates[lane.index()], 1);
            // A lane that never was as fast again has nothing to leave out.
            let times = if recovered { &live.steady } else { &live.all };
            report.p50_ms = quantile_ms(times, 0.5);
            report.p99_ms = quantile_ms(times, 0.99);
            report.p99_with_crash_ms = quantile_ms(&live.all, 0.99);
            report.f1 = matches.f1().map(|f1| rounded(f1, 4));
            report.accuracy = matches.accuracy().map(|accuracy| rounded(accuracy, 4));
            report.judged = matches.judged();
        }
        let crash = board.crash.map(|crash| {
            let since = |at: Instant| rounded(at.saturating_duration_since(crash.at).as_secs_f64(), 2);
            CrashReport {
                after_events: crash.sent_before,
                orders_answered_again_after_s: crash.answered_again.map(since),
                as_fast_as_before_after_s: crash.over.map(since),
            }
        });
        let verdict = checker.verdict();
        let clean = verdict.is_clean() && [wrong_reasons, wrong_answers] == [0; 2];
        let Verdict { produced, answered, scored, lost, repeated, reordered, skipped, dead_lettered, .. } =
            verdict;
        Ok(Self {
            produced,
            answered,
            scored,
            lost,
            repeated,
            reordered,
            skipped,
            dead_lettered,
            misjudged: verdict.misjudged,
            wrong_reasons,
            wrong_answers,
            foreign: verdict.foreign,
            scattered: verdict.scattered,
            elapsed_s: rounded(board.last_answer.saturating_duration_since(measured.began).as_secs_f64(), 2),
            capacity_events_per_s: rounded(measured.capacity, 1),
            rate_events_per_s: rounded(measured.rate, 1),
            dead_letters_by_reason: reasons,
            crash,
            lanes: LANES.map(Lane::name).into_iter().zip(lanes).collect(),
            examples: verdict.examples,
            clean,
        })
    }

    /// Whether every event was answered exactly once, rightly and in order.
    pub(crate) fn is_clean(&self) -> bool {
        self.clean
    }

    /// Writes it for machines.
    pub(crate) fn write_json(&self, file: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }

    /// Tells it to a person.
    pub(crate) fn print(&self) {
        println!(
            "\nlane        traffic       scored  dead letters  events/s       p50       p99      F1  accuracy  device"
        );
        for lane in LANES {
            let report = &self.lanes[lane.name()];
            println!(
                "{:<11} {:<10} {:>9} {:>13} {:>9.0} {:>9} {:>9} {:>7} {:>9}  {}",
                lane.name(),
                lane.traffic(),
                report.scored,
                report.dead_lettered,
                report.events_per_s,
                shown(report.p50_ms),
                shown(report.p99_ms),
                report.f1.map_or_else(|| "–".into(), |f1| format!("{f1:.3}")),
                report.accuracy.map_or_else(|| "–".into(), |share| format!("{:.1} %", share * 100.0)),
                report.device,
            );
        }
        let judged: u64 = self.lanes.values().map(|lane| lane.judged).sum();
        println!(
            "p50 and p99: from sending an event to reading its committed score, at {:.0} events/s (60 % of\ncapacity), but for those that met the crash. F1 and accuracy: on {judged} events later than all that the models learned from.",
            self.rate_events_per_s
        );
        if let Some(crash) = &self.crash {
            self.print_crash(crash);
        }
        println!("\nThe verdict, from the topics, read with read_committed:");
        println!(
            "  {} events produced = {} scored + {} dead-lettered + {} skipped by a rule + {} lost",
            self.produced, self.scored, self.dead_lettered, self.skipped, self.lost
        );
        let reasons = self.dead_letters_by_reason.iter().map(|(reason, count)| format!("{count} {reason}"));
        println!("  dead letters: {}", reasons.collect::<Vec<_>>().join(", "));
        println!("  lost {}, repeated {}, reordered {}", self.lost, self.repeated, self.reordered);
        if self.clean {
            println!("  Every event was answered exactly once, and in order.");
            return;
        }
        println!(
            "  NOT as promised: also {} misjudged, {} with a wrong reason, {} with another event's answer, {} foreign, {} scattered",
            self.misjudged, self.wrong_reasons, self.wrong_answers, self.foreign, self.scattered
        );
        self.examples.iter().for_each(|example| println!("    {example}"));
    }
}

impl Report {
    fn print_crash(&self, crash: &CrashReport) {
        let after = |seconds: Option<f64>| {
            seconds.map_or_else(|| "never".into(), |time| format!("after {time:.1} s"))
        };
        println!(
            "The precision worker was killed with SIGKILL after {} events, and started again at once: new orders were answered\n\
             again {}, as fast as before {}. With that time, p99 is {} for orders and {} for purchases.",
            crash.after_events,
            after(crash.orders_answered_again_after_s),
            after(crash.as_fast_as_before_after_s),
            shown(self.lanes["precision"].p99_with_crash_ms),
            shown(self.lanes["throughput"].p99_with_crash_ms)
        );
    }
}

fn quantile_ms(times: &hdrhistogram::Histogram<u64>, quantile: f64) -> f64 {
    rounded(times.value_at_quantile(quantile) as f64 / 1000.0, 2)
}

fn shown(time_ms: f64) -> String {
    millis(Duration::from_secs_f64(time_ms / 1000.0))
}

fn rounded(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}
