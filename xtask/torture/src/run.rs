//! The course of a run: cluster, services, load, faults, and when all is quiet again the verdict.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use twinlane_testkit::{Broker, BrokerOptions, cache, random, wait};

use crate::fault::{Fault, Kind, Plan};
use crate::feed::Feed;
use crate::fleet::{Fleet, Start};
use crate::inject::Busy;
use crate::judge::judge;
use crate::load::Load;
use crate::report::{Injection, Report};
use crate::rig::Rig;
use crate::shop;
use crate::watch::Watch;
use crate::{Arguments, Mode, Models};

/// What recovery depends on.
const COMMON: [(&str, &str); 0] = [];
const PRODUCER: [(&str, &str); 1] = [("transaction.timeout.ms", "5000")];
const BROKER: [(&str, &str); 2] =
    [("broker.session.timeout.ms", "6000"), ("broker.heartbeat.interval.ms", "1000")];
const HEAP: &str = "400m";
/// So many faults may not be carried through where faults overlap.
const UNREACHED: usize = 10;
/// How long the end after Ctrl-C may take.
const PATIENCE: Duration = Duration::from_secs(5);
const PROGRESS: Duration = Duration::from_secs(2);
/// After so long without any new answer, the rest is taken as lost.
const QUIET: Duration = Duration::from_secs(45);

/// Runs it; whether every event was answered exactly once.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let seed = arguments.seed.unwrap_or_else(random::seed);
    let interrupted = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&interrupted);
    ctrlc::set_handler(move || {
        if handler.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        // Somebody may be waiting for a broker that is away. Whatever we started ends with us.
        std::thread::spawn(|| {
            wait::pause_for(PATIENCE);
            eprintln!("interrupted; everything is stopped");
            std::process::exit(130);
        });
    })?;
    let kinds = kinds(arguments)?;
    let load = Arc::new(match arguments.models {
        Models::Trivial => Load::Trivial { seed },
        Models::Reference => Load::reference(seed, &cache::folder().join("data"))?,
    });
    let folder = tempfile::tempdir().context("creating a folder")?;
    let logs = arguments.keep_logs.clone().unwrap_or_else(|| ".out/torture".into());
    let _ = std::fs::remove_dir_all(&logs);
    std::fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
    let settings = json!({
        "brokers": 3, "replication.factor": 3, "min.insync.replicas": 2,
        "broker": BROKER.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000, "group.initial.rebalance.delay.ms": 0,
        "transaction.timeout.ms": 5000, "session.timeout.ms": 10_000, "heartbeat.interval.ms": 1000,
        "topic.metadata.refresh.interval.ms": 10_000, "tolerance": crate::content::TOLERANCE,
        "events_per_s": arguments.per_second(), "models": arguments.models.name(), "direct": arguments.direct,
    });
    println!("seed {seed}, mode {}; again with: {}", arguments.mode.name(), arguments.again(seed));
    println!("settings {settings}");

    let options = BrokerOptions {
        brokers: 3,
        heap: HEAP.into(),
        properties: BROKER.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        behind_proxies: true,
        ..Default::default()
    };
    let broker = Broker::start_own(&options)?;
    let (bootstrap, proxied) = (broker.bootstrap().to_owned(), broker.proxied_bootstrap());
    let pipeline = shop::open(&bootstrap, folder.path(), arguments.models, arguments.direct)?;
    let fleet = Fleet::start(&Start {
        binaries: &arguments.binaries,
        pipeline: &pipeline,
        bootstrap: &proxied,
        folder: folder.path(),
        logs: &logs,
        common: &COMMON,
        producer: &PRODUCER,
    })?;
    let began = Instant::now();
    let rig = Rig {
        fleet,
        proxies: broker.proxies(),
        broker: Mutex::new(broker),
        feed: Feed::start(&bootstrap, Arc::clone(&load), arguments.per_second(), began)?,
        watch: Watch::start(&bootstrap, began)?,
        bootstrap,
        armed: arguments.armed.clone(),
        interrupted,
        broken: AtomicBool::new(false),
    };
    println!("three brokers and six services run; their logs are in {}", logs.display());

    let course = Course {
        rig: &rig,
        mode: arguments.mode,
        began,
        end: began + arguments.time(),
        now: Mutex::new("starting".into()),
        injections: Mutex::default(),
    };
    let broken_off = course.play(seed, kinds).err();
    if rig.interrupted.load(Ordering::SeqCst) {
        rig.go_on()?;
    }
    let (injections, elapsed) = (course.injections(), began.elapsed());
    if let Some(error) = &broken_off {
        println!("broken off: {error:#}");
    }
    let Rig { fleet, broker, feed, watch, bootstrap, interrupted, .. } = rig;
    let mut broker = broker.into_inner().unwrap_or_else(PoisonError::into_inner);
    broker.restart_missing()?;
    let confirmed = feed.finish()?;
    drain(&watch, &fleet, &confirmed, &load, &interrupted)?;
    let slowest_stop = fleet.stop().into_iter().max().unwrap_or_default();
    let longest_stall = watch.seen().longest_stall;
    drop(watch);
    println!("judging {} events by a fresh read of every topic", confirmed.len());
    let judgement = judge(&bootstrap, &load, &confirmed)?;
    let report = Report {
        seed,
        mode: arguments.mode.name(),
        settings,
        elapsed,
        longest_stall,
        injections,
        notes: fleet.notes(),
        broken_off: broken_off.map(|error| format!("{error:#}")),
        slowest_stop,
        judgement,
    };
    report.print();
    if let Some(file) = &arguments.json {
        report.write_json(file)?;
    }
    if !report.is_clean() {
        keep_broker_logs(&broker, &logs);
        println!("\nNot clean. The logs of services and brokers are kept in {}", logs.display());
    }
    broker.stop();
    Ok(report.is_clean())
}

fn kinds(arguments: &Arguments) -> Result<Vec<Kind>> {
    let mut kinds = match arguments.faults.is_empty() {
        true => Kind::all(),
        false => Kind::select(&arguments.faults)?,
    };
    if arguments.armed.is_none() {
        kinds.retain(|kind| !kind.needs_fail_points());
    }
    // A run that breaks nothing would pass.
    ensure!(
        !kinds.is_empty(),
        "these faults need services with fail points, which `cargo xtask torture` builds and --armed names"
    );
    Ok(kinds)
}

/// Waits until as many records were seen as there must be, or until nothing comes any more.
fn drain(
    watch: &Watch,
    fleet: &Fleet,
    confirmed: &[crate::feed::Confirmed],
    load: &Load,
    interrupted: &AtomicBool,
) -> Result<()> {
    use crate::events::Outcome;
    let expected = confirmed.iter().filter(|one| load.event(one.id).outcome != Outcome::Skip).count() as u64;
    let (mut count, mut since, mut shown) = (watch.count(), Instant::now(), Instant::now());
    while count < expected && since.elapsed() < QUIET {
        if interrupted.load(Ordering::SeqCst) {
            return Err(anyhow!("interrupted; everything is stopped"));
        }
        wait::pause_for(Duration::from_millis(50));
        fleet.supervise()?;
        if watch.count() > count {
            (count, since) = (watch.count(), Instant::now());
        }
        if shown.elapsed() > PROGRESS {
            shown = Instant::now();
            println!("        waiting for the last answers: {count} of {expected}");
        }
    }
    Ok(())
}

fn keep_broker_logs(broker: &Broker, logs: &Path) {
    for index in 0..broker.nodes() {
        // What cannot be kept is only missed.
        let _ = std::fs::copy(
            broker.folder(index).join("kafka.log"),
            logs.join(format!("broker-{}.log", index + 1)),
        );
    }
}

struct Course<'a> {
    rig: &'a Rig,
    mode: Mode,
    began: Instant,
    end: Instant,
    now: Mutex<String>,
    injections: Mutex<Vec<Injection>>,
}

impl Course<'_> {
    fn injections(&self) -> Vec<Injection> {
        let mut all = self.injections.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.sort_by_key(|one| one.number);
        all
    }

    fn play(&self, seed: u64, kinds: Vec<Kind>) -> Result<()> {
        std::thread::scope(|scope| {
            let nemesis = scope.spawn(|| {
                self.rig.recovered(self.began).context("before any fault")?;
                match self.mode {
                    Mode::Settle => self.one_by_one(Plan::new(seed, kinds)),
                    Mode::Overlap => self.side_by_side(Plan::new(seed, kinds)),
                }
            });
            let mut shown: Option<Instant> = None;
            while !nemesis.is_finished() {
                if let Err(error) = self.rig.fleet.supervise().and_then(|()| self.rig.feed.check()) {
                    // The nemesis ends at its next pause.
                    self.rig.broken.store(true, Ordering::SeqCst);
                    let _ = nemesis.join();
                    return Err(error);
                }
                if shown.is_none_or(|at| at.elapsed() > PROGRESS) {
                    shown = Some(Instant::now());
                    self.show();
                }
                wait::pause_for(Duration::from_millis(50));
            }
            nemesis.join().map_err(|_| anyhow!("the nemesis panicked"))?
        })
    }

    fn show(&self) {
        let seen = self.rig.watch.seen();
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner).clone();
        println!(
            "{:>5.0} s {:>9} produced {:>9} answered {:>7} dead-lettered   {now}",
            self.began.elapsed().as_secs_f64(),
            self.rig.feed.sent(),
            seen.answers,
            seen.dead_letters
        );
    }

    fn say(&self, what: String) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    fn one_by_one(&self, mut plan: Plan) -> Result<()> {
        while let Some((fault, pause)) = plan.next() {
            self.say("quiet".into());
            self.rig.pause(pause)?;
            if Instant::now() >= self.end {
                break;
            }
            self.one(&fault, true)?;
        }
        Ok(())
    }

    fn side_by_side(&self, mut plan: Plan) -> Result<()> {
        let failed: Mutex<Option<anyhow::Error>> = Mutex::default();
        let unreached = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            while let Some((fault, pause)) = plan.next() {
                self.rig.pause(pause * 2)?;
                if Instant::now() >= self.end || failed.lock().is_ok_and(|failed| failed.is_some()) {
                    break;
                }
                let failed = &failed;
                let unreached = &unreached;
                scope.spawn(move || {
                    let Err(error) = self.one(&fault, false) else { return };
                    // Other faults may stand in the way of one; of many, something else does.
                    self.rig.fleet.note(format!("fault {} was not carried through: {error:#}", fault.number));
                    if unreached.fetch_add(1, Ordering::Relaxed) >= UNREACHED {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                });
            }
            anyhow::Ok(())
        })?;
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        self.say("all faults are over; waiting for recovery".into());
        self.rig.recovered(Instant::now()).map(|_| ())
    }

    /// One fault from its injection to the recovery, or only to its remedy where nobody waits.
    fn one(&self, fault: &Fault, settles: bool) -> Result<()> {
        let name = fault.kind.name();
        self.say(format!("fault {}: {name}", fault.number));
        let at = self.began.elapsed();
        let result = self.rig.inject(fault).with_context(|| format!("fault {} ({name})", fault.number));
        let injected = match result {
            Err(error) if error.is::<Busy>() => {
                println!("{:>5.0} s fault {}: {name} left out, {error:#}", at.as_secs_f64(), fault.number);
                return Ok(());
            }
            result => result?,
        };
        let recovery = if settles {
            self.say(format!("fault {}: {name}, waiting for recovery", fault.number));
            let flows = self.rig.flows(injected.remedied);
            let recovered = flows.and_then(|flows| Ok((flows, self.rig.recovered(injected.remedied)?)));
            let detail = &injected.detail;
            Some(recovered.with_context(|| format!("fault {} ({name}: {detail})", fault.number))?)
        } else {
            self.rig.pause(injected.pause)?;
            None
        };
        let took = recovery.map_or(String::new(), |(flows, caught_up)| {
            let [flows, caught_up] = [flows, caught_up].map(|time| time.as_secs_f64());
            format!(", answers flow after {flows:.1} s, the backlog is answered after {caught_up:.1} s")
        });
        println!("{:>5.0} s fault {}: {name} {}{took}", at.as_secs_f64(), fault.number, injected.detail);
        // A process is back when it answers what came after it; brokers are when answers flow.
        let bounded =
            recovery.map(|(flows, caught_up)| if fault.kind.is_of_brokers() { flows } else { caught_up });
        let injection = Injection {
            number: fault.number,
            kind: fault.kind,
            at,
            detail: injected.detail,
            recovery: bounded,
            caught_up: recovery.map(|(_, caught_up)| caught_up),
        };
        self.injections.lock().unwrap_or_else(PoisonError::into_inner).push(injection);
        (injected.after)().with_context(|| format!("after fault {} ({name})", fault.number))?;
        if settles {
            self.rig.recovered(Instant::now())?;
        }
        Ok(())
    }
}
