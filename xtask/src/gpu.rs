//! A folder that checks Twinlane on a GPU host that has no network, no compiler and no Kafka, in pieces that are small
//! enough to be carried there one by one.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::build::{cargo, repository, run, target_folder};
use crate::downloads::{GPU_RUNTIME, digest_of};
use crate::interrupt::Interrupt;
use crate::{models, preflight, progress, setup};

/// No piece has more bytes.
const PIECE: u64 = 54_000_000;
/// What the check needs of the models' folder.
const MODELS: [&str; 4] =
    ["sentiment.full.f16.onnx", "sentiment.distilled.f16.onnx", "tokenizer.json", "events.jsonl"];

/// Puts the pieces into `out`.
pub(crate) fn bundle(out: &Path, interrupt: &Interrupt) -> Result<ExitCode> {
    preflight::check(preflight::Needs { kafka: preflight::Kafka::Never, ..preflight::Needs::everything() })?;
    let missing: Vec<_> = MODELS.iter().filter(|name| !models::folder().join(name).exists()).collect();
    ensure!(
        missing.is_empty(),
        "{} lacks {missing:?}: build them with `cargo xtask models reviews`",
        models::folder().display()
    );
    setup::wheels(&[GPU_RUNTIME], interrupt)?;
    progress::say("building gpu-check");
    let target = target_folder()?;
    let mut build = cargo();
    build.args(["build", "--release", "--package", "twinlane-gpu-check", "--target-dir"]).arg(&target);
    if let Some(failed) = run("cargo build", build, None, interrupt)? {
        return Ok(failed);
    }
    let work = tempfile::tempdir().context("creating a folder for the bundle")?;
    let folder = work.path().join("twinlane-gpu-check");
    assemble(&folder, &target.join("release/gpu-check"))?;
    let pieces = split(work.path(), out)?;
    let join = out.join("join.sh");
    std::fs::write(&join, JOIN).with_context(|| format!("writing {}", join.display()))?;
    progress::say(&format!(
        "{pieces} pieces are in {}: bring them and join.sh to the GPU host, then `sh join.sh && sh twinlane-gpu-check/check.sh`",
        out.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn assemble(folder: &Path, program: &Path) -> Result<()> {
    let mut files: Vec<(PathBuf, PathBuf)> = vec![
        (program.to_owned(), "gpu-check".into()),
        (repository().join("load-tests/gpu-check/check.sh"), "check.sh".into()),
        (repository().join("pipelines/reviews/pipeline.yaml"), "reviews/pipeline.yaml".into()),
    ];
    for name in MODELS {
        files.push((models::folder().join(name), Path::new("reviews/models").join(name)));
    }
    let runtime = std::fs::read_dir(GPU_RUNTIME.path()).context("looking for ONNX Runtime")?;
    for file in runtime {
        let file = file.context("looking for ONNX Runtime")?;
        files.push((file.path(), Path::new("lib").join(file.file_name())));
    }
    let mut manifest = String::new();
    for (from, name) in &files {
        let to = folder.join(name);
        let parent = to.parent().context("a file lies in a folder")?;
        std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        std::fs::copy(from, &to).with_context(|| format!("copying {}", from.display()))?;
        manifest += &format!("{}  {}\n", digest_of(&to)?, name.display());
    }
    std::fs::write(folder.join("MANIFEST.sha256"), manifest).context("writing the manifest")
}

/// Packs the folder and cuts the archive into pieces; gives how many.
fn split(work: &Path, out: &Path) -> Result<usize> {
    std::fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    for old in std::fs::read_dir(out)?
        .flatten()
        .filter(|old| old.file_name().to_string_lossy().starts_with("piece-"))
    {
        std::fs::remove_file(old.path()).context("removing an old piece")?;
    }
    progress::during("packing (about a minute)", || {
        let mut tar = Command::new("tar")
            .args(["--create", "--gzip", "--directory"])
            .arg(work)
            .arg("twinlane-gpu-check")
            .stdout(Stdio::piped())
            .spawn()
            .context("starting tar")?;
        let mut packed = tar.stdout.take().context("tar has an output")?;
        let mut pieces = 0;
        loop {
            let path = out.join(format!("piece-{pieces:02}"));
            let mut piece = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
            if io::copy(&mut (&mut packed).take(PIECE), &mut piece)? == 0 {
                std::fs::remove_file(&path).context("removing an empty piece")?;
                break;
            }
            piece.flush()?;
            pieces += 1;
        }
        if !tar.wait()?.success() {
            bail!("tar could not pack the bundle");
        }
        Ok(pieces)
    })
}

const JOIN: &str = "\
#!/bin/sh
# Joins the pieces beside this script into the folder twinlane-gpu-check, and checks that they are whole.
set -eu
cd \"$(dirname \"$0\")\"
cat piece-* | tar --extract --gzip
cd twinlane-gpu-check
sha256sum --quiet --check MANIFEST.sha256
echo \"whole; now: sh twinlane-gpu-check/check.sh\"
";
