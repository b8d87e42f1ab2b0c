//! `twinlane run`: the router, if a source needs it, and a worker per lane, as children of this process.
//!
//! ```text
//!  start ─► running ─ ended ─► pause (grows) ─► start …
//!             │          └─ for a reason that does not heal (wrong file, model, topic): stop all, same exit code
//!             └─ Ctrl-C: SIGTERM to all, wait; twice: SIGKILL
//! ```

mod backoff;
mod child;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use twinlane_kafka::Topics;
use twinlane_pipeline::Plan;
use twinlane_service::{Failure, LogFormat, Role, Settings};

use self::{
    backoff::Backoff,
    child::{Child, Program, say},
};
use crate::{arguments::Run, locate};

/// What is asked of the children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Wish {
    Run,
    Stop,
    StopNow,
}

pub(crate) fn run(arguments: &Run) -> Result<ExitCode, Failure> {
    let located = locate::pipeline(&arguments.pipeline, Some(&arguments.cluster), Some(&arguments.runtime))?;
    let plan = &located.loaded.plan;
    let folder = programs_folder()?;
    let flags = flags(arguments, &located.settings);
    let programs: Vec<_> = roles(plan)
        .into_iter()
        .map(|role| Program { name: role.as_str(), path: folder.join(role.as_str()), flags: flags.clone() })
        .collect();
    if let Some(missing) = programs.iter().find(|program| !program.path.is_file()) {
        return Err(not_built(&missing.path, &programs));
    }
    // The services make what they write. What they read is the user's: say now what is missing.
    let topics = Topics::connect(&located.settings.connection()?)?;
    topics.describe(&plan.sources.iter().map(|source| source.topic.clone()).collect::<Vec<_>>())?;
    drop(topics);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(error.into()))?;
    runtime.block_on(supervise(programs))
}

/// The services of a plan.
fn roles(plan: &Plan) -> Vec<Role> {
    let router = plan.needs_router().then_some(Role::Router);
    router.into_iter().chain(plan.lanes.iter().map(|lane| Role::Worker(lane.name))).collect()
}

/// What every service is started with. Each takes a free admin port and logs it.
fn flags(arguments: &Run, settings: &Settings) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    let mut flags = vec![
        ("--pipeline", path(&settings.pipeline)),
        ("--schemas", path(&settings.schemas)),
        ("--brokers", settings.kafka.brokers.clone()),
        ("--ordinal", arguments.ordinal.to_string()),
        ("--admin-port", "0".to_owned()),
    ];
    if let Some(library) = &settings.onnxruntime {
        flags.push(("--onnxruntime", path(library)));
    }
    if let Some(file) = &arguments.pipeline.settings {
        flags.push(("--settings", path(file)));
    }
    if let Some(format) = arguments.log_format {
        let format = match format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        flags.push(("--log-format", format.to_owned()));
    }
    flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}

/// The services are built and installed together with this program.
fn programs_folder() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::Other(error.into()))?;
    Ok(program.parent().map(Path::to_owned).unwrap_or_default())
}

fn not_built(missing: &Path, programs: &[Program]) -> Failure {
    let packages: String = programs.iter().map(|program| format!(" -p twinlane-{}", program.name)).collect();
    let profile =
        if missing.parent().is_some_and(|folder| folder.ends_with("release")) { " --release" } else { "" };
    Failure::Invalid(format!(
        "{} is not there, and the services are looked for beside this program; build them with `cargo build{profile}{packages}`",
        missing.display()
    ))
}

async fn supervise(programs: Vec<Program>) -> Result<ExitCode, Failure> {
    let other = |error: std::io::Error| Failure::Other(error.into());
    let mut terminate = signal(SignalKind::terminate()).map_err(other)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(other)?;
    let (wishes, wish) = watch::channel(Wish::Run);
    let width = programs.iter().map(|program| program.name.len()).max().unwrap_or(0);
    let mut services = JoinSet::new();
    for (at, program) in programs.into_iter().enumerate() {
        services.spawn(keep(program, child::Label::new(at, width), wish.clone()));
    }
    let mut outcome = ExitCode::SUCCESS;
    loop {
        tokio::select! {
            ended = services.join_next() => match ended {
                None => break,
                Some(Ok(code)) => {
                    if code != 0 && outcome == ExitCode::SUCCESS {
                        outcome = ExitCode::from(code);
                    }
                    wishes.send_if_modified(|wish| {
                        let first = *wish == Wish::Run;
                        if first {
                            *wish = Wish::Stop;
                        }
                        first
                    });
                }
                Some(Err(error)) => return Err(Failure::Other(error.into())),
            },
            _ = terminate.recv() => ask_to_stop(&wishes),
            _ = interrupt.recv() => ask_to_stop(&wishes),
        }
    }
    Ok(outcome)
}

/// Waits until at least so much is asked.
pub(crate) async fn wish_for(least: Wish, wish: &mut watch::Receiver<Wish>) {
    // A sender that is gone means that nobody supervises any more, which asks for a stop as well.
    let _ = wish.wait_for(|wish| *wish >= least).await;
}

fn ask_to_stop(wishes: &watch::Sender<Wish>) {
    wishes.send_modify(|wish| match *wish {
        Wish::Run => {
            say("stopping; once more stops at once");
            *wish = Wish::Stop;
        }
        Wish::Stop | Wish::StopNow => *wish = Wish::StopNow,
    });
}

/// Keeps one service running until all are to stop, or until it ends for a reason that does not heal. Gives the exit
/// code that stands for it.
async fn keep(program: Program, label: child::Label, mut wish: watch::Receiver<Wish>) -> u8 {
    let mut backoff = Backoff::default();
    loop {
        let mut child = match Child::start(&program, label) {
            Ok(child) => child,
            Err(error) => {
                say(&format!("{} cannot be started: {error}", program.path.display()));
                return 1;
            }
        };
        let since = Instant::now();
        let ended = tokio::select! {
            ended = child.ended() => ended,
            () = wish_for(Wish::Stop, &mut wish) => return child.stop(wish).await.code(),
        };
        if !ended.may_heal() {
            say(&format!("{} ended: {ended}; that does not heal by itself, so all stop", program.name));
            return ended.code();
        }
        let pause = backoff.pause_after(since.elapsed());
        say(&format!("{} ended: {ended}; starting it again in {pause:?}", program.name));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = wish_for(Wish::Stop, &mut wish) => return 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn plan(routes: &str, lanes: &str) -> Plan {
        let text = format!(
            "\
pipeline: shop
sources: {{ events: {{ topic: e, format: json }} }}
routes: [{routes}]
tasks:
  t:
    models: {{ full: m.onnx, distilled: m.onnx }}
    inputs: {{ x: {{ columns: [a] }} }}
    outputs: {{ y: {{ tensor: y, kind: number }} }}
    publish: {{ topic: s, format: json }}
lanes: {{ {lanes} }}
dead_letters: {{ topic: d }}
"
        );
        Plan::parse(&text, "pipeline.yaml").unwrap()
    }

    fn names(plan: &Plan) -> Vec<&'static str> {
        roles(plan).into_iter().map(Role::as_str).collect()
    }

    #[test]
    fn the_router_runs_only_where_a_source_needs_it() {
        let lane = "precision: { model: full, device: [cpu], max_batch: 1 }";
        let one = plan("{ from: events, task: t, lane: precision }", lane);
        assert_eq!(names(&one), ["precision-worker"]);
        let both = plan(
            "{ from: events, when: event.a > 1, task: t, lane: precision }, { from: events, task: t, lane: throughput }",
            &format!("{lane}, throughput: {{ model: distilled, device: [cpu], max_batch: 1 }}"),
        );
        assert_eq!(names(&both), ["router", "precision-worker", "throughput-worker"]);
    }

    #[test]
    fn services_get_what_was_typed_and_what_was_found() {
        let typed =
            ["twinlane", "run", "--ordinal", "3", "--log-format", "json", "--settings", "s.toml", "p.yaml"];
        let Command::Run(arguments) = Arguments::parse_from(typed).command else { panic!("not a run") };
        let settings = Settings {
            pipeline: "p.yaml".into(),
            schemas: "/s".into(),
            onnxruntime: Some("/ort.so".into()),
            ..Settings::default()
        };
        let flags = flags(&arguments, &settings).join(" ");
        assert_eq!(
            flags,
            "--pipeline p.yaml --schemas /s --brokers localhost:9092 --ordinal 3 --admin-port 0 \
             --onnxruntime /ort.so --settings s.toml --log-format json"
        );
    }

    #[test]
    fn a_service_that_is_not_built_is_named_with_the_command_that_builds_it() {
        let folder = Path::new("/t/release");
        let program = |name| Program { name, path: folder.join(name), flags: Vec::new() };
        let programs = [program("router"), program("precision-worker")];
        let said = not_built(&programs[0].path, &programs).to_string();
        assert!(
            said.contains("cargo build --release -p twinlane-router -p twinlane-precision-worker"),
            "{said}"
        );
    }
}
