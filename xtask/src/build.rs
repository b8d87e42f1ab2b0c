//! Runs cargo for the tasks that build: its lines and its progress stay visible.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use twinlane_testkit::broker::SHARED_BROKER;
use twinlane_testkit::process::Process;

use crate::interrupt::Interrupt;
use crate::scratch::Scratch;
use crate::selection::{Selection, before_dashes};
use crate::{Demo, Load, Torture, progress, start_kafka};

const SERVICES: [&str; 3] = ["twinlane-router", "twinlane-precision-worker", "twinlane-throughput-worker"];
const COMMAND: &str = "twinlane-cli";
const DEMO: &str = "twinlane-demo";
const TORTURE: &str = "twinlane-torture";
const LOAD: &str = "twinlane-load";
/// The tests that start the binaries of other packages, which `cargo test` alone would not build.
const WHOLE_SERVICE_TESTS: &str = "twinlane-tests";

/// The test that waits for ten minutes; see its file.
const LONG_TEST: &str = "brokers_away";

/// Builds all tests, starts the Kafka that they share, and runs them. Where all are asked for, so is the one that takes
/// eleven minutes: most of them it waits, so it runs beside the others.
pub(crate) fn test(arguments: &[String], runtime: &Path, interrupt: &Interrupt) -> Result<ExitCode> {
    let selection = Selection::of(arguments);

    progress::say("building all tests (several minutes the first time, seconds after that)");
    if selection.includes(WHOLE_SERVICE_TESTS) {
        let mut binaries = cargo();
        binaries.arg("build").args(selection.profile());
        SERVICES.iter().chain(&[COMMAND, DEMO, TORTURE]).for_each(|package| {
            binaries.args(["--package", package]);
        });
        if let Some(failed) = run("cargo build", binaries, None, interrupt)? {
            return Ok(failed);
        }
    }
    let mut build = cargo();
    build.arg("test").args(selection.scope()).arg("--no-run").args(before_dashes(arguments));
    if let Some(failed) = run("cargo test --no-run", build, None, interrupt)? {
        return Ok(failed);
    }
    // Only now, so that no test meets a Kafka that compilers have kept from running.
    let mut kafka = start_kafka()?;
    let scratch = Scratch::new()?;
    let bootstrap = kafka.bootstrap().to_owned();
    let tests = || {
        let mut tests = cargo();
        tests.arg("test").args(selection.scope());
        tests.env(SHARED_BROKER, &bootstrap).env("ORT_DYLIB_PATH", runtime);
        tests.env("TMPDIR", scratch.path());
        tests
    };
    let long = if arguments.is_empty() { Some(LongTest::start(tests(), scratch.path())?) } else { None };
    let mut asked = tests();
    asked.args(arguments);
    let failed = run("cargo test", asked, Some(scratch.path()), interrupt)?;
    if failed.is_some() {
        // The tests could only say that nobody answered.
        kafka.check_running()?;
    }
    kafka.stop();
    match (failed, long) {
        (Some(failed), _) => Ok(failed),
        (None, Some(long)) => long.wait(interrupt),
        (None, None) => Ok(ExitCode::SUCCESS),
    }
}

/// A test that runs beside the others. When this is dropped, it ends.
struct LongTest {
    process: Process,
    log: PathBuf,
}

impl LongTest {
    fn start(mut tests: Command, folder: &Path) -> Result<Self> {
        progress::say(&format!("the test `{LONG_TEST}` takes eleven minutes; it runs beside the others"));
        tests.args(["--test", LONG_TEST, "--", "--ignored", "--nocapture"]);
        let log = folder.join(format!("{LONG_TEST}.log"));
        Ok(Self { process: Process::start(LONG_TEST, tests, &log, None)?, log })
    }

    /// Waits for it, and shows what it said.
    fn wait(mut self, interrupt: &Interrupt) -> Result<ExitCode> {
        if self.process.ended().is_none() {
            progress::say(&format!("all others have passed; waiting for `{LONG_TEST}`"));
        }
        if interrupt.or(|| self.process.ended()).is_none() {
            bail!("interrupted");
        }
        let status = self.process.wait()?;
        let said = std::fs::read_to_string(&self.log).context("reading what the long test said")?;
        print!("{said}");
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Builds the services and the demo, and becomes the demo.
pub(crate) fn demo(demo: &Demo, runtime: &Path, interrupt: &Interrupt) -> Result<ExitCode> {
    let mut arguments: Vec<OsString> = vec!["--events".into(), demo.events.to_string().into()];
    arguments.extend(demo.json.iter().flat_map(|file| ["--json".into(), file.into()]));
    become_tool(DEMO, &arguments, runtime, interrupt)
}

/// Builds the services and the load tests, and becomes the load tests.
pub(crate) fn load(load: &Load, runtime: &Path, interrupt: &Interrupt) -> Result<ExitCode> {
    become_tool(LOAD, &load.arguments(), runtime, interrupt)
}

/// Builds the services and a program that starts them, and becomes that program, in the repository's folder.
fn become_tool(
    package: &str,
    arguments: &[OsString],
    runtime: &Path,
    interrupt: &Interrupt,
) -> Result<ExitCode> {
    progress::say("building the services (several minutes the first time, seconds after that)");
    let target = target_folder()?;
    let mut build = cargo();
    build.args(["build", "--release", "--target-dir"]).arg(&target);
    SERVICES.iter().chain(&[package]).for_each(|package| {
        build.args(["--package", package]);
    });
    if let Some(failed) = run("cargo build", build, None, interrupt)? {
        return Ok(failed);
    }
    let binaries = target.join("release");
    let name = package.trim_start_matches("twinlane-");
    let mut command = Command::new(binaries.join(name));
    command.arg("--binaries").arg(&binaries).args(arguments);
    ensure!(!interrupt.asked(), "interrupted");
    let error = command.env("ORT_DYLIB_PATH", runtime).current_dir(repository()).exec();
    Err(error).with_context(|| format!("starting {name}"))
}

/// Builds the services twice, with and without fail points, and the rig, and becomes the rig.
pub(crate) fn torture(torture: &Torture, runtime: &Path, interrupt: &Interrupt) -> Result<ExitCode> {
    progress::say("building the services, with fail points and without (several minutes the first time)");
    let target = target_folder()?;
    let binaries = target.join("release");
    let armed = target.join("torture");
    std::fs::create_dir_all(&armed).with_context(|| format!("creating {}", armed.display()))?;
    // The plain ones come last, so that what lies in the release folder afterwards is what it always is.
    for fail_points in [true, false] {
        let mut build = cargo();
        build.args(["build", "--release", "--target-dir"]).arg(&target);
        for package in SERVICES {
            build.args(["--package", package]);
            if fail_points {
                build.args(["--features", &format!("{package}/fail-points")]);
            }
        }
        if !fail_points {
            build.args(["--package", TORTURE]);
        }
        if let Some(failed) = run("cargo build", build, None, interrupt)? {
            return Ok(failed);
        }
        for name in
            SERVICES.iter().filter(|_| fail_points).map(|package| package.trim_start_matches("twinlane-"))
        {
            let copied = std::fs::copy(binaries.join(name), armed.join(name));
            copied.with_context(|| format!("copying {name} into {}", armed.display()))?;
        }
    }
    let mut command = Command::new(binaries.join("torture"));
    command.arg("--binaries").arg(&binaries).arg("--armed").arg(&armed).args(torture.arguments());
    ensure!(!interrupt.asked(), "interrupted");
    let error = command.env("ORT_DYLIB_PATH", runtime).current_dir(repository()).exec();
    Err(error).context("starting the rig")
}

/// Runs a command in a process group of its own; gives its exit code unless it succeeded. When this program is killed,
/// so is the group, and `folder` is removed.
pub(crate) fn run(
    name: &str,
    command: Command,
    folder: Option<&Path>,
    interrupt: &Interrupt,
) -> Result<Option<ExitCode>> {
    let mut process = Process::start_attached(name, command, folder)?;
    if interrupt.or(|| process.ended()).is_none() {
        bail!("interrupted");
    }
    let status = process.wait()?;
    if status.success() {
        return Ok(None);
    }
    Ok(Some(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))))
}

/// Cargo, in the repository.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(repository());
    command
}

/// The repository's folder.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

/// The folder that cargo builds into: this program lies in `<target>/<profile>/`.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("asking where this program lies")?;
    let folder = program.parent().and_then(Path::parent);
    Ok(folder.context("this program does not lie in a cargo target folder")?.to_owned())
}
