//! Ends a process group when this process goes away, however it goes away.
//!
//! Drop code does not run after SIGKILL, and the parent-death signal of Linux follows the *thread* that started the
//! child, which in a test binary ends with the test. So a shell holds the other end of a pipe: when the last writer is
//! gone it reads the end of the file, kills the group and removes what the group left on disk.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use std::os::unix::process::CommandExt;

use crate::{Error, Result};

const WATCH: &str = r#"read -r _; kill -s KILL -- "-$1" 2>/dev/null; [ -n "$2" ] && rm -rf -- "$2"; exit 0"#;

/// Holds a process group; the group does not outlive this process.
#[derive(Debug)]
pub struct Leash {
    shell: Child,
}

impl Leash {
    /// Watches over the process group `group`, and removes `folder` when it had to end it.
    ///
    /// # Errors
    /// When no shell can be started.
    pub fn on(group: u32, folder: Option<&Path>) -> Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", WATCH, "leash"])
            .arg(group.to_string())
            .arg(folder.unwrap_or(Path::new("")))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("starting the shell that ends a process with its parent"))?;
        Ok(Self { shell })
    }
}

impl Drop for Leash {
    /// Lets go: from here on the owner ends the group itself.
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_process_ends_when_its_holder_goes_away() {
        // Closing our end of the pipe is all that the end of this process would do.
        let mut sleeper = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let mut leash = Leash::on(sleeper.id(), None).unwrap();
        drop(leash.shell.stdin.take());
        let ended = crate::wait::until(Duration::from_secs(10), || sleeper.try_wait().unwrap());
        assert!(ended.is_some_and(|status| !status.success()), "the sleeper still runs");
    }

    #[test]
    fn a_process_that_is_let_go_keeps_running() {
        let mut sleeper = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        drop(Leash::on(sleeper.id(), None).unwrap());
        assert!(sleeper.try_wait().unwrap().is_none());
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}
