//! What a process uses, from `/proc`.

use std::path::Path;
use std::time::Duration;

use crate::{Error, Result};

/// Linux counts a process's CPU time in hundredths of a second, on every platform.
const MS_PER_TICK: u64 = 10;

/// A process at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time that its threads have spent on a CPU, in user and kernel mode.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Its threads.
    pub threads: u64,
    /// Open file descriptors.
    pub files: u64,
}

impl Usage {
    /// Of the process with this id.
    ///
    /// # Errors
    /// When it has ended, or the operating system has no `/proc`.
    pub fn of(process: u32) -> Result<Self> {
        let folder = format!("/proc/{process}");
        let read = |name: &str| {
            let file = Path::new(&folder).join(name);
            std::fs::read_to_string(&file).map_err(Error::io(format!("reading {}", file.display())))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        let files = std::fs::read_dir(Path::new(&folder).join("fd")).map_or(0, Iterator::count) as u64;
        let strange = || Error::io(format!("reading {folder}/stat"))(std::io::Error::other(stat.clone()));
        let cpu = cpu(&stat).ok_or_else(strange)?;
        let resident = line(&status, "VmRSS:").unwrap_or(0) * 1024;
        Ok(Self { cpu, resident, threads: line(&status, "Threads:").unwrap_or(0), files })
    }
}

/// The second field is the name in parentheses, which may hold spaces; the times are fields 14 and 15.
fn cpu(stat: &str) -> Option<Duration> {
    let fields: Vec<_> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks(14)? + ticks(15)?) * MS_PER_TICK))
}

fn line(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 12345 1000 200";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
    }

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let usage = Usage::of(std::process::id()).expect("we run");
        assert!(usage.resident > 1 << 20 && usage.threads >= 1 && usage.files >= 3, "{usage:?}");
    }
}
