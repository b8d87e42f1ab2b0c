//! The folder for temporary files of tests. A test binary that is killed, as Ctrl-C does, cannot remove its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use twinlane_testkit::wait;

/// What a killed test had started is killed by shells that may need a moment, and writes files until then.
const LIMIT: Duration = Duration::from_secs(5);

/// A folder that is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("twinlane-tests-").tempdir();
        Ok(Self(folder.context("creating a folder for temporary files of tests")?))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        wait::until(LIMIT, || {
            let _ = std::fs::remove_dir_all(self.path());
            (!self.path().exists()).then_some(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_leave_behind_goes_with_the_folder() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        std::fs::create_dir_all(path.join(".tmpXYZ/data")).unwrap();
        std::fs::write(path.join(".tmpXYZ/data/file"), "left").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
