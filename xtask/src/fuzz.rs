//! Runs the fuzz targets under libFuzzer, one after the other. cargo-fuzz is fetched into the cache; what it needs beside
//! it is a nightly compiler, which is not ours to install.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use twinlane_testkit::cache;

use crate::build::{cargo, repository, run};
use crate::interrupt::Interrupt;
use crate::progress;

/// The cargo-fuzz that is tested.
const CARGO_FUZZ: &str = "0.13.1";
/// An input of a few kilobytes that takes longer, with a sanitizer and on a busy machine, hangs.
const HANGS_S: u64 = 20;
/// A target that holds more has been made to by its input.
const MEMORY_MIB: u64 = 2048;
/// Longer inputs find little more and take longer.
const MAX_LEN: u64 = 8192;

#[derive(Debug, Args)]
pub(crate) struct Fuzz {
    /// Target; without one, all of them. Their names are those of the files in fuzz/fuzz_targets.
    target: Option<String>,
    /// How long each target is fuzzed.
    #[arg(long, value_name = "M", default_value_t = 1, conflicts_with = "runs")]
    minutes: u64,
    /// How many inputs each target gets, instead of a time.
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
    /// Try this one input, such as a test or an earlier run has left, and nothing else.
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
}

/// Fuzzes what was asked for.
pub(crate) fn fuzz(fuzz: &Fuzz, interrupt: &Interrupt) -> Result<ExitCode> {
    let folder = repository().join("fuzz");
    let targets = chosen(fuzz.target.as_deref(), known(&folder)?)?;
    ensure!(
        nightly(),
        "fuzzing needs a nightly compiler, for its sanitizer; install one with `rustup toolchain install nightly --profile minimal`"
    );
    let program = cargo_fuzz(interrupt)?;
    let mut failed = Vec::new();
    for (at, target) in (1..).zip(&targets) {
        let what = match (&fuzz.input, fuzz.runs) {
            (Some(file), _) => format!("one input, {}", file.display()),
            (None, Some(runs)) => format!("{runs} inputs"),
            (None, None) => format!("{} minutes", fuzz.minutes),
        };
        progress::say(&format!("{target} ({at} of {}): {what}", targets.len()));
        let mut command = Command::new("rustup");
        // A toolchain of `cargo xtask` would be taken for the one that is asked for.
        command.env_remove("CARGO").current_dir(&folder);
        command.args(["run", "nightly"]).arg(&program).args(["fuzz", "run", target]);
        match &fuzz.input {
            Some(file) => {
                command.arg(std::path::absolute(file)?);
            }
            None => {
                command.args(corpora(&folder, target)?).arg("--").args(limits(fuzz, &folder, target));
            }
        }
        if run(target, command, None, interrupt)?.is_some() {
            failed.push(target.as_str());
        }
    }
    if failed.is_empty() {
        progress::say("nothing fell out");
        return Ok(ExitCode::SUCCESS);
    }
    bail!("{} failed; the inputs are in fuzz/artifacts", failed.join(", "))
}

/// The targets of the folder.
fn known(folder: &Path) -> Result<Vec<String>> {
    let files = folder.join("fuzz_targets").read_dir().context("reading fuzz/fuzz_targets")?;
    let mut names = Vec::new();
    for file in files {
        let path = file.context("reading fuzz/fuzz_targets")?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn chosen(target: Option<&str>, known: Vec<String>) -> Result<Vec<String>> {
    match target {
        None => Ok(known),
        Some(name) if known.iter().any(|other| other == name) => Ok(vec![name.to_owned()]),
        Some(name) => bail!("no fuzz target is called `{name}`; there are {}", known.join(", ")),
    }
}

fn nightly() -> bool {
    let mut rustc = Command::new("rustup");
    rustc.args(["run", "nightly", "rustc", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    rustc.status().is_ok_and(|status| status.success())
}

/// cargo-fuzz, installed into the cache if it is not there.
fn cargo_fuzz(interrupt: &Interrupt) -> Result<PathBuf> {
    let tools = cache::folder().join("tools").join(format!("cargo-fuzz-{CARGO_FUZZ}"));
    let program = tools.join("bin/cargo-fuzz");
    if !program.is_file() {
        progress::say(&format!("installing cargo-fuzz {CARGO_FUZZ} (about a minute, once)"));
        let built = cache::folder().join("target-tools");
        let mut install = cargo();
        install.args(["install", "--quiet", "--locked", "--version", CARGO_FUZZ, "cargo-fuzz", "--root"]);
        install.arg(&tools).env("CARGO_TARGET_DIR", &built);
        ensure!(
            run("cargo install", install, None, interrupt)?.is_none(),
            "cargo-fuzz could not be installed"
        );
        // Nothing needs it again.
        let _ = std::fs::remove_dir_all(built);
    }
    Ok(program)
}

/// Where libFuzzer puts what it finds worth keeping, in the cache, and then what it begins with, in the repository.
fn corpora(folder: &Path, target: &str) -> Result<[PathBuf; 2]> {
    let grown = cache::folder().join("fuzz-corpus").join(target);
    std::fs::create_dir_all(&grown).with_context(|| format!("creating {}", grown.display()))?;
    Ok([grown, folder.join("corpus").join(target)])
}

fn limits(fuzz: &Fuzz, folder: &Path, target: &str) -> Vec<String> {
    let mut limits = vec![
        format!("-timeout={HANGS_S}"),
        format!("-rss_limit_mb={MEMORY_MIB}"),
        format!("-max_len={MAX_LEN}"),
        "-print_final_stats=1".to_owned(),
        match fuzz.runs {
            Some(runs) => format!("-runs={runs}"),
            None => format!("-max_total_time={}", fuzz.minutes.saturating_mul(60)),
        },
    ];
    let words = folder.join("dictionaries").join(format!("{target}.dict"));
    if words.is_file() {
        limits.push(format!("-dict={}", words.display()));
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_one_of_the_folder() {
        let known = known(&repository().join("fuzz")).unwrap();
        assert!(known.len() >= 6 && known.contains(&"cel_rule".to_owned()), "{known:?}");
        assert_eq!(chosen(Some("headers"), known.clone()).unwrap(), ["headers"]);
        assert_eq!(chosen(None, known.clone()).unwrap(), known);
        let error = chosen(Some("header"), known).unwrap_err().to_string();
        assert!(error.contains("there are avro_payload, "), "{error}");
    }

    #[test]
    fn every_target_has_its_corpus() {
        let folder = repository().join("fuzz");
        for target in known(&folder).unwrap() {
            assert!(folder.join("corpus").join(&target).is_dir(), "{target}");
        }
    }
}
