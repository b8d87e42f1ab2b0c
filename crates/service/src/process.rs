//! The life of a service process: read settings, check, warm up, run stages, stop on a signal.

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use twinlane_kafka::{Connection, Pulse, Topics};
use twinlane_pipeline::LaneName;
use twinlane_runtime::{Stage, StageState, StopHandle, Work};

use crate::{
    Failure, Flags, LoadedPipeline, Role, Settings, admin, health,
    reload::{self, Reload},
    telemetry,
};

#[derive(Parser)]
#[command(
    version,
    after_help = "Every flag may also stand in a settings file (--settings) or in the environment \
    as TWINLANE_<NAME>.\nExit codes: 0 stopped cleanly, 2 invalid input, 3 not authorised, 4 missing or misshapen \
    topic, 5 fenced by another process with the same ordinal, 6 model, 7 no broker answered, 8 a model run that hangs, 9 a \
    Kafka client that hangs, 1 anything else."
)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// Run nothing: ask the service that runs with these settings on this machine whether it is ready. Exits with 0 if it
    /// is, else with 1
    #[arg(long)]
    check_health: bool,
    /// Run nothing: print the settings that would apply as a settings file, without passwords and the like
    #[arg(long)]
    dump_config: bool,
}

/// Every flag of a service.
pub(crate) fn command() -> clap::Command {
    Arguments::command()
}

/// A clean stop commits what is settled and leaves the group; this is its limit.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// The whole of a service's `main`.
pub fn main(role: Role) -> ExitCode {
    twinlane_inference::without_telemetry();
    let about = match role {
        Role::Router => "Routes events of a pipeline's mixed topics to its lanes, exactly once.",
        Role::Worker(LaneName::Precision) => "Scores a pipeline's precision lane, exactly once.",
        Role::Worker(LaneName::Throughput) => "Scores a pipeline's throughput lane, exactly once.",
    };
    let command = command().name(role.as_str()).about(about);
    let arguments = match Arguments::from_arg_matches(&command.get_matches()) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    if arguments.check_health {
        return check_health(&arguments.flags);
    }
    let ended =
        if arguments.dump_config { dump_config(&arguments.flags) } else { run(role, &arguments.flags) };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}: {failure}", role.as_str());
            failure.code()
        }
    }
}

/// What an image's HEALTHCHECK runs; Docker wants 0 or 1 and nothing else.
fn check_health(flags: &Flags) -> ExitCode {
    let said = Settings::load(flags)
        .map_err(anyhow::Error::from)
        .and_then(|settings| health::ask(settings.admin_host, settings.admin_port));
    match said {
        Ok(body) => {
            print!("{body}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dump_config(flags: &Flags) -> Result<(), Failure> {
    let settings = Settings::load(flags)?;
    print!("{}", settings.dump().map_err(|error| Failure::Other(error.into()))?);
    Ok(())
}

fn run(role: Role, flags: &Flags) -> Result<(), Failure> {
    let settings = Settings::load(flags)?;
    let connection = settings.connection()?;
    telemetry::logs(settings.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| Failure::Other(e.into()))?;
    let metrics = telemetry::metrics()?;
    let settings = Arc::new(settings);
    let mut sending = None;
    let ended = runtime.block_on(async {
        // Brokers or a registry that are away and models that load are waited for on another thread: a stop does not wait.
        let mut signals = Signals::listen().map_err(|e| Failure::Other(e.into()))?;
        let loading = {
            let settings = settings.clone();
            // Not within the runtime, either: what sends traces blocks.
            on_a_thread("load", move || {
                let loaded = LoadedPipeline::load_patiently(&settings)?;
                let replica = settings.replica();
                let sending = settings.traces.start(role.as_str(), &loaded.plan.pipeline, replica)?;
                Ok((Arc::new(loaded), sending))
            })
        };
        let Some((loaded, traces)) = unless_stopped(loading, &mut signals).await? else { return Ok(()) };
        sending = Some(traces);
        telemetry::runs(role.as_str(), &loaded.plan.pipeline);
        tracing::info!(
            service = role.as_str(), pipeline = %loaded.plan.pipeline, brokers = settings.kafka.brokers,
            replica = settings.replica(), "starting"
        );
        let facts = Arc::new(admin::Facts {
            metrics,
            about: json!({ "service": role.as_str(), "pipeline": &*loaded.plan.pipeline, "version": env!("CARGO_PKG_VERSION") }),
            plan: loaded.plan.to_string().lines().map(str::to_owned).collect(),
            registry: loaded.registry().map(|registry| registry.state().clone()),
            running: OnceLock::new(),
        });
        let address = SocketAddr::new(settings.admin_host, settings.admin_port);
        let bound = admin::serve(address, facts.clone()).await?;
        tracing::info!(admin = %bound, "metrics and health are served");
        let preparing = on_a_thread("start", move || prepare(role, &settings, &connection, &loaded));
        let Some(stages) = unless_stopped(preparing, &mut signals).await? else { return Ok(()) };
        listen_for_hangups(stages.reload.clone()).map_err(|e| Failure::Other(e.into()))?;
        // Nobody else sets it.
        let _ = facts.running.set(admin::Running { stages: stages.states.clone(), reload: stages.reload.clone() });
        stages.run(signals).await
    });
    // The last traces leave when nothing runs any more.
    drop(sending);
    ended
}

/// What a thread of the start gives; none after a signal.
async fn unless_stopped<T>(
    starting: oneshot::Receiver<Result<T, Failure>>,
    signals: &mut Signals,
) -> Result<Option<T>, Failure> {
    tokio::select! {
        started = starting => {
            started.unwrap_or_else(|_| Err(Failure::Other(anyhow::anyhow!("the start panicked")))).map(Some)
        }
        name = signals.next() => {
            tracing::info!(signal = name, "stopped before anything was read; there is nothing to commit");
            Ok(None)
        }
    }
}

/// Runs it on a thread that nobody waits for when the process ends.
fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.into())
        // The receiver is gone when the process was asked to stop meanwhile.
        .spawn(move || drop(done.send(work())))
        .expect("the system can start a thread");
    result
}

/// Everything before the first stage starts: topics are there and as planned, models are loaded and warm.
fn prepare(
    role: Role,
    settings: &Arc<Settings>,
    connection: &Connection,
    loaded: &Arc<LoadedPipeline>,
) -> Result<Stages, Failure> {
    let lookup = loaded.registry().map(|registry| registry.start(&loaded.schemas));
    let topics = Topics::connect(connection)?;
    if settings.create_topics {
        for topic in loaded.create_topics(&topics)? {
            tracing::info!(%topic, "created");
        }
    }
    let mut stages = Stages::default();
    match role {
        Role::Router => {
            if !loaded.plan.needs_router() {
                return Err(Failure::Invalid(
                    "no source of this pipeline needs the router; the workers read them all directly".into(),
                ));
            }
            for lane in loaded.plan.routed_lanes() {
                let (options, work) = loaded.router(settings, &topics, lane.name, lookup.clone())?;
                stages.add(connection, options, work);
            }
        }
        Role::Worker(lane) => {
            let (options, work, serving) = loaded.worker(settings, &topics, lane, lookup)?;
            stages.add(connection, options, work);
            stages.reload = Some(reload::watch(loaded.clone(), settings.clone(), lane, serving)?);
        }
    }
    Ok(stages)
}

/// A stage that is ready to run on a thread of its own.
type Ready = Box<dyn FnOnce() -> Result<(), twinlane_runtime::Error> + Send>;

#[derive(Default)]
struct Stages {
    ready: Vec<(String, Ready)>,
    stops: Vec<StopHandle>,
    states: Vec<(String, Arc<StageState>)>,
    /// Where models run.
    reload: Option<Arc<Reload>>,
}

impl Stages {
    fn add<W: Work + 'static>(
        &mut self,
        connection: &Connection,
        options: twinlane_runtime::StageOptions,
        work: W,
    ) {
        let name = options.stage.clone();
        let (stage, stop, state) = Stage::new(connection.clone(), options, work);
        self.ready.push((name.clone(), Box::new(move || stage.run())));
        self.stops.push(stop);
        self.states.push((name, state));
    }

    /// Runs every stage until a signal, or until one ends; then stops the others.
    async fn run(self, mut signals: Signals) -> Result<(), Failure> {
        let (ended, mut endings) = mpsc::unbounded_channel();
        let mut running = self.ready.len();
        for (name, stage) in self.ready {
            let ended = ended.clone();
            std::thread::Builder::new()
                .name(format!("stage-{name}"))
                .spawn(move || {
                    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(stage));
                    // The receiver lives until every stage has reported.
                    let _ = ended.send(result.unwrap_or(Err(twinlane_runtime::Error::ThreadDied("stage"))));
                })
                .expect("the system can start a thread");
        }
        let mut outcome = Ok(());
        tokio::select! {
            ending = endings.recv() => {
                running -= 1;
                outcome = ending.unwrap_or(Ok(()));
            }
            name = first_to_hang(&self.states) => {
                // Its threads wait for the client for ever, and so for them nobody waits.
                running -= 1;
                outcome = Err(twinlane_kafka::Error::Hung(name).into());
            }
            name = signals.next() => tracing::info!(signal = name, "stopping"),
        }
        for (_, state) in &self.states {
            state.joined.store(false, Ordering::Release);
        }
        for stop in &self.stops {
            stop.stop();
        }
        let rest = async {
            while running > 0 {
                running -= 1;
                let ending = endings.recv().await.unwrap_or(Ok(()));
                if outcome.is_ok() {
                    outcome = ending;
                }
            }
        };
        tokio::select! {
            () = rest => {}
            () = tokio::time::sleep(STOP_LIMIT) => return Err(Failure::SlowStop),
            name = signals.next() => {
                tracing::warn!(signal = name, "asked twice; not waiting");
                return Err(Failure::SlowStop);
            }
        }
        tracing::info!("stopped");
        Ok(outcome?)
    }
}

/// Waits until the client of a stage has not answered for [`SILENT`] beats, and names the stage.
async fn first_to_hang(states: &[(String, Arc<StageState>)]) -> String {
    let mut hearts = vec![Heart::default(); states.len()];
    let mut every = tokio::time::interval(Pulse::EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        for ((name, state), heart) in states.iter().zip(&mut hearts) {
            if heart.has_stopped(state.pulse.beats()) {
                return name.clone();
            }
        }
    }
}

/// A client that takes longer to answer a question about itself will not answer any more. Counted in beats and not by the
/// clock, so that a process that was stopped (SIGSTOP) does not take its own absence for the client's.
const SILENT: u32 = 10;

/// What was heard of a client.
#[derive(Clone, Copy, Debug, Default)]
struct Heart {
    beats: u64,
    silent: u32,
}

impl Heart {
    /// Whether it has beaten before, and now not for too long.
    fn has_stopped(&mut self, beats: u64) -> bool {
        match beats == 0 || beats != self.beats {
            true => *self = Self { beats, silent: 0 },
            false => self.silent += 1,
        }
        self.silent >= SILENT
    }
}

/// SIGHUP has a worker look at its model files; without a handler it would end the process.
fn listen_for_hangups(reload: Option<Arc<Reload>>) -> std::io::Result<()> {
    let mut hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            match &reload {
                Some(reload) => reload.ask(),
                None => tracing::info!("SIGHUP: a router has no models to look at"),
            }
        }
    });
    Ok(())
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_hangs_once_its_pulse_has_stopped_for_long_enough_and_not_before_it_began() {
        let mut heart = Heart::default();
        let mut listen = |beats: u64, times: u32| (0..times).any(|_| heart.has_stopped(beats));
        assert!(!listen(0, 100), "it has not begun");
        assert!(!listen(1, SILENT) && !listen(2, SILENT), "slow, and there");
        assert!(listen(2, 1));
    }
}
