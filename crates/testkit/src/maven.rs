//! Maven, as what fetches from Maven Central: with its checksums, into a cache that it keeps, and with nobody's help.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Error, Result, cache};

/// The plugin that copies and unpacks.
const DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// Runs a goal of the dependency plugin in `folder`; `downloaded` is called once per jar that Maven fetched.
pub(crate) fn dependency(
    folder: &Path,
    goal: &str,
    arguments: &[String],
    what: &str,
    mut downloaded: impl FnMut(),
) -> Result<()> {
    let mut maven = Command::new("mvn")
        .current_dir(folder)
        .args(["--batch-mode", "--strict-checksums"])
        .arg(format!("{DEPENDENCY_PLUGIN}:{goal}"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|_| Error::Missing {
            program: "mvn",
            remedy: "apt-get install maven (or: brew install maven)",
        })?;
    let output = maven.stdout.take().expect("the standard output was piped above");
    let mut tail = Vec::new();
    for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
        if line.contains("Downloaded from") && line.contains(".jar") {
            downloaded();
        }
        tail.push(line);
        if tail.len() > 15 {
            tail.remove(0);
        }
    }
    let status = maven.wait().map_err(Error::io("waiting for Maven"))?;
    if !status.success() {
        return Err(Error::Fetch { what: what.to_owned(), output: tail.join("\n") });
    }
    Ok(())
}

/// Fills a folder of the cache under another name and renames it, so that a folder that exists is complete.
pub(crate) fn once(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<std::path::PathBuf> {
    let parent = cache::folder();
    let target = parent.join(name);
    if target.is_dir() {
        return Ok(target);
    }
    std::fs::create_dir_all(&parent).map_err(Error::io(format!("creating {}", parent.display())))?;
    let work = tempfile::tempdir_in(&parent).map_err(Error::io("creating a folder for the download"))?;
    fill(work.path())?;
    match std::fs::rename(work.path().join("filled"), &target) {
        // Somebody else fetched it meanwhile: theirs is as good.
        Err(_) if target.is_dir() => Ok(target),
        other => other.map(|()| target).map_err(Error::io(format!("moving {name} into the cache"))),
    }
}
