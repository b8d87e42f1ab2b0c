//! Runs cargo for the tasks that build: its lines and its progress stay visible.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use twinlane_testkit::broker::SHARED_BROKER;
use twinlane_testkit::process::Process;

use crate::interrupt::Interrupt;
use crate::{progress, setup, start_kafka};

const SERVICES: [&str; 3] = ["twinlane-router", "twinlane-precision-worker", "twinlane-throughput-worker"];
/// The tests that start the services' binaries, which `cargo test` alone would not build.
const WHOLE_SERVICE_TESTS: &str = "twinlane-tests";

/// Builds all tests, starts the Kafka that they share, and runs them.
pub(crate) fn test(arguments: &[String], runtime: &Path, interrupt: &Interrupt) -> Result<ExitCode> {
    let with_package = arguments.iter().any(|argument| matches!(argument.as_str(), "-p" | "--package"));
    let scope: &[&str] = if with_package { &[] } else { &["--workspace"] };
    let before_dashes = || arguments.iter().take_while(|argument| *argument != "--");

    progress::say("building all tests (several minutes the first time, seconds after that)");
    if !with_package || arguments.iter().any(|argument| argument == WHOLE_SERVICE_TESTS) {
        let mut services = cargo()?;
        services.arg("build");
        SERVICES.iter().for_each(|package| {
            services.args(["--package", package]);
        });
        if let Some(failed) = run("cargo build", services, interrupt)? {
            return Ok(failed);
        }
    }
    let mut build = cargo()?;
    build.arg("test").args(scope).arg("--no-run").args(before_dashes());
    if let Some(failed) = run("cargo test --no-run", build, interrupt)? {
        return Ok(failed);
    }
    // Only now, so that no test meets a Kafka that compilers have kept from running.
    let kafka = start_kafka()?;
    let mut tests = cargo()?;
    tests.arg("test").args(scope).args(arguments);
    tests.env(SHARED_BROKER, kafka.bootstrap()).env("ORT_DYLIB_PATH", runtime);
    let failed = run("cargo test", tests, interrupt)?;
    kafka.stop();
    Ok(failed.unwrap_or(ExitCode::SUCCESS))
}

/// Builds the services and the demo, and becomes the demo.
pub(crate) fn demo(arguments: &[String]) -> Result<ExitCode> {
    let runtime = setup::all()?;
    progress::say("building the services (several minutes the first time, seconds after that)");
    let target = target_folder()?;
    let mut build = cargo()?;
    build.args(["build", "--release", "--target-dir"]).arg(&target);
    SERVICES.iter().chain(&["twinlane-demo"]).for_each(|package| {
        build.args(["--package", package]);
    });
    let status = build.status().context("starting cargo")?;
    if !status.success() {
        bail!("the services could not be built");
    }
    let binaries = target.join("release");
    let error = Command::new(binaries.join("demo"))
        .arg("--binaries")
        .arg(&binaries)
        .args(arguments)
        .env("ORT_DYLIB_PATH", runtime)
        .current_dir(repository())
        .exec();
    Err(error).context("starting the demo")
}

/// Says what the demo's arguments are; without the set-up, since that takes no longer than compiling the demo.
pub(crate) fn demo_help() -> Result<ExitCode> {
    let error = cargo()?.args(["run", "--quiet", "--package", "twinlane-demo", "--", "--help"]).exec();
    Err(error).context("starting cargo")
}

/// Runs a command in a process group of its own; gives its exit code unless it succeeded.
fn run(name: &str, command: Command, interrupt: &Interrupt) -> Result<Option<ExitCode>> {
    let mut process = Process::start_attached(name, command, None)?;
    if interrupt.or(|| process.ended()).is_none() {
        bail!("interrupted");
    }
    let status = process.wait()?;
    if status.success() {
        return Ok(None);
    }
    Ok(Some(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))))
}

fn cargo() -> Result<Command> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(repository());
    Ok(command)
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

/// The folder that cargo builds into: this program lies in `<target>/<profile>/`.
fn target_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("asking where this program lies")?;
    let folder = program.parent().and_then(Path::parent);
    Ok(folder.context("this program does not lie in a cargo target folder")?.to_owned())
}
