//! The course of the demo, from an empty machine to the verdict.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use twinlane_testkit::{Broker, BrokerOptions, broker, cache, client, wait};

use crate::Arguments;
use crate::board::Board;
use crate::commerce::{LANES, Pipeline, SOURCE_PARTITIONS};
use crate::events;
use crate::feed::Feed;
use crate::report::{Measured, Report};
use crate::scored::Reader;
use crate::screen::{Screen, millis};
use crate::services::Services;
use crate::watch::{Sample, Watch};

/// How many events wait for their answers while the capacity is measured.
const UNANSWERED: u64 = 300;
/// How much of the machine's capacity the replay uses, so that latencies say something.
const LOAD: f64 = 0.6;
/// After so long without any answer, the rest is taken as lost.
const STALL: Duration = Duration::from_secs(60);
const LOGS: &str = ".out/demo";

const INTRODUCTION: &str = "
Twinlane scores Kafka streams with ONNX models, exactly once. What you are about to see:

  shop.events ─► router ─┬─ orders ────► precision worker (full model)       ─► scores.orders
                         ├─ purchases ─► throughput worker (distilled model) ─► scores.behaviour
                         └─ broken ones ────────────────────────────────────► commerce.dead-letters
";

/// Runs it; whether every event was answered exactly once.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&interrupted);
    ctrlc::set_handler(move || {
        if handler.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })?;
    println!("{INTRODUCTION}");
    let screen = Screen::new();
    let reader = Reader::open(Path::new("schemas"))?;
    let data = cache::folder().join("data");
    let events = screen.during("reading the reference events", || events::events(&data, arguments.events))?;

    let kafka = match cache::setting(broker::EXISTING_CLUSTER) {
        Some(_) => "asking the Kafka that KAFKA_BROKERS names",
        None => "starting Kafka",
    };
    let broker = screen.during(kafka, || {
        let broker = Broker::start(&BrokerOptions::default())?;
        if !broker.is_own() {
            answers(broker.bootstrap())?;
        }
        anyhow::Ok(broker)
    })?;
    go_on(&interrupted)?;
    let folder = tempfile::tempdir().context("creating a folder")?;
    let pipeline = match broker.is_own() {
        true => Pipeline::reference(),
        false => Pipeline::renamed(&client::unique("demo"), folder.path())?,
    };
    broker.create_topic(&pipeline.source, SOURCE_PARTITIONS, &[])?;
    // What an earlier demo logged is of no use any more.
    let _ = std::fs::remove_dir_all(LOGS);
    let bootstrap = broker.bootstrap();
    let services = screen.during("starting router, precision-worker and throughput-worker", || {
        Services::start(&arguments.binaries, &pipeline, bootstrap, LOGS.into())
    })?;
    go_on(&interrupted)?;
    let watch = Watch::start(bootstrap, &pipeline)?;
    let feed = Feed::start(bootstrap, &pipeline.source, events)?;
    let board = Board::new(Instant::now());
    screen.say(&format!("their logs are in {LOGS}/"));

    let mut show = Show {
        screen,
        board,
        feed,
        watch,
        services,
        reader: &reader,
        interrupted,
        shown: 0,
        finished: false,
    };
    let measured = show.play(arguments.events)?;
    let Show { board, watch, services, interrupted, .. } = show;

    watch.stop()?;
    let unclean = services.stop();
    go_on(&interrupted)?;
    let report = Report::compute(bootstrap, &pipeline, &reader, &board, &measured)?;
    report.print();
    if let Some(file) = &arguments.json {
        report.write_json(file)?;
    }
    if !unclean.is_empty() {
        println!("\nThese did not stop cleanly when asked to: {} (see {LOGS}/)", unclean.join(", "));
    }
    println!(
        "\nTry next:\n  pipelines/commerce/pipeline.yaml     the file behind what you saw\n  \
         cargo run -p twinlane-cli -- check pipelines/commerce\n  README.md                            your own topic \
         and model in ten minutes"
    );
    if !broker.is_own() {
        let topics = pipeline.answers().join(", ");
        println!(
            "\nThese topics stay on your cluster, and those of the pipeline's lanes: {}, {topics}",
            pipeline.source
        );
    }
    broker.stop();
    Ok(report.is_clean() && unclean.is_empty())
}

/// Whether anybody is there, said in a way that helps whoever set the variable.
fn answers(brokers: &str) -> Result<()> {
    client::topics(brokers).map(drop).map_err(|error| {
        anyhow!(
            "no broker answers at {brokers}, which KAFKA_BROKERS names ({error}). Is that Kafka up, and is the address \
             right? Without KAFKA_BROKERS the demo starts a Kafka of its own"
        )
    })
}

/// Fails once Ctrl-C was pressed. What runs is stopped by its owners on the way out.
fn go_on(interrupted: &AtomicBool) -> Result<()> {
    if interrupted.load(Ordering::SeqCst) {
        bail!("interrupted; everything is stopped");
    }
    Ok(())
}

struct Show<'a> {
    screen: Screen,
    board: Board,
    feed: Feed,
    watch: Watch,
    services: Services,
    reader: &'a Reader,
    interrupted: Arc<AtomicBool>,
    shown: u64,
    finished: bool,
}

impl Show<'_> {
    /// Warms up, measures, replays with a crash half-way, and waits for the last answer.
    fn play(&mut self, events: u64) -> Result<Measured> {
        let (warm_up, measured) = ((events / 50).clamp(50, 1000), (events / 16).clamp(100, 6000));
        let began = Instant::now();
        self.as_fast_as_answered(warm_up)?;
        let took = self.as_fast_as_answered(measured)?;
        let capacity = measured as f64 / took.as_secs_f64();
        let (rest, rate) = (events - warm_up - measured, capacity * LOAD);
        self.screen.say(&format!(
            "{measured} events, never more than {UNANSWERED} of them unanswered: {capacity:.0} events/s.\nThe other {rest} follow at 60 % of that, {rate:.0} \
             events/s, which takes {:.1} minutes.\n",
            rest as f64 / rate / 60.0
        ));

        let replayed = Instant::now();
        self.screen.begin(events);
        for lane in LANES {
            // From here on the lines speak of the replay alone.
            let _ = self.board.line(lane, replayed);
        }
        self.feed.send(rest, Some(rate));
        let half = warm_up + measured + rest / 2;
        self.sent_up_to(half)?;
        let killed = self.services.kill_precision_worker();
        self.board.crashed(killed);
        self.screen
            .say("  ✗ half-way: the precision worker is killed with SIGKILL, in the middle of its work");
        self.services.restart_precision_worker()?;
        self.screen.say("  ↻ and started again, as whatever supervises it would");
        self.sent_up_to(events)?;
        let delivered = self.feed.finish()?;
        self.board.confirmed(delivered);
        self.finished = true;
        // What is not answered by then is lost, and the verdict will say so.
        self.until(true, |show| show.board.outstanding == 0)?;
        self.screen.end();
        Ok(Measured { capacity, rate, began, replayed })
    }

    fn sent_up_to(&mut self, events: u64) -> Result<()> {
        if !self.until(true, |show| show.feed.sent() >= events)? {
            bail!("no answer for {} s; see {LOGS}/", STALL.as_secs());
        }
        Ok(())
    }

    /// Sends events as fast as they are answered, and says how long it took until the last one was. A backlog would go
    /// faster, in larger transactions than a stream ever makes.
    fn as_fast_as_answered(&mut self, events: u64) -> Result<Duration> {
        let (start, before) = (Instant::now(), self.feed.sent());
        self.board.last_answer = start;
        let mut told = before;
        while told < before + events {
            let unanswered = |show: &Self| told - (show.board.sent() - show.board.outstanding);
            if !self.until(false, |show| unanswered(show) < UNANSWERED)? {
                break;
            }
            let more = (UNANSWERED - unanswered(self)).min(before + events - told);
            self.feed.send(more, None);
            told += more;
        }
        if !self.until(false, |show| show.board.sent() >= before + events && show.board.outstanding == 0)? {
            bail!(
                "{} of the first {} events got no answer; see {LOGS}/",
                self.board.outstanding,
                before + events
            );
        }
        Ok(self.board.last_answer.saturating_duration_since(start))
    }

    /// Keeps the board and the screen up to date until something is so; not so when nothing came back for a long time.
    fn until(&mut self, live: bool, mut so: impl FnMut(&Self) -> bool) -> Result<bool> {
        let start = Instant::now();
        loop {
            if self.interrupted.load(Ordering::SeqCst) {
                self.screen.end();
            }
            go_on(&self.interrupted)?;
            self.board.confirmed(self.feed.take_delivered());
            for answer in self.watch.take() {
                self.board.answered(answer);
            }
            if so(self) {
                return Ok(true);
            }
            self.services.check()?;
            if self.feed.has_ended() && !self.finished {
                self.feed.finish()?;
                bail!("the producer ended before its time");
            }
            if self.watch.has_ended() {
                bail!("the reader of answers ended before its time");
            }
            let now = Instant::now();
            if live && self.screen.is_due(now) {
                self.show_samples();
                let lines = LANES.map(|lane| self.board.line(lane, now));
                self.screen.show(self.feed.sent(), lines, now);
            }
            if now.saturating_duration_since(self.board.last_answer.max(start)) > STALL {
                return Ok(false);
            }
            wait::pause_for(Duration::from_millis(20));
        }
    }

    /// An order, a purchase or a dead letter as a person would read it; fewer as time goes on.
    fn show_samples(&mut self) {
        self.shown += 1;
        let turn = match self.shown {
            shown @ ..=12 => shown,
            shown if shown.is_multiple_of(4) => shown / 4,
            _ => return,
        };
        let topic = [0, 1, 0, 2][(turn % 4) as usize];
        let Some(sample) = self.watch.sample(topic) else { return };
        if let Some(text) = self.sentence(&sample) {
            self.screen.say(&text);
        }
    }

    fn sentence(&self, Sample { answer, value, dead }: &Sample) -> Option<String> {
        let sent = self.board.event(answer.source.0, answer.source.1)?;
        let took = millis(answer.at.saturating_duration_since(sent.at));
        if let Some([stage, reason, detail]) = dead {
            return Some(format!("  dead letter  {reason}: {detail}   [by {stage}, {took}]"));
        }
        let scored = self.reader.read(value).ok()?;
        let truth = match (scored.says_yes(), sent.truth) {
            (Some(said), Some(truth)) if said == truth => ", right",
            (Some(_), Some(_)) => ", wrong",
            _ => "",
        };
        Some(format!("  {:<16} {} {took}{truth}", scored.task, scored.sentence()))
    }
}
