//! Which core does what. A service that drains a topic has one core to itself, and brokers, producers and readers share the
//! others; in everything else all share all cores.

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// The cores of this machine, divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cores {
    /// For what is measured.
    pub(crate) measured: usize,
    /// For everything else.
    pub(crate) others: Vec<usize>,
}

impl Cores {
    /// The last core is measured on: the first one handles most interrupts.
    pub(crate) fn of_this_machine() -> Result<Self> {
        let count = std::thread::available_parallelism().context("asking for the number of cores")?.get();
        ensure!(count >= 2, "there is one core only; a broker and what is measured need one each");
        Ok(Self { measured: count - 1, others: (0..count - 1).collect() })
    }

    /// Moves all threads of a process to the cores that are not measured on. What it starts inherits that.
    pub(crate) fn put_aside(&self, process: u32) -> Result<()> {
        move_to(process, &self.others)
    }

    /// Gives a process all cores back.
    pub(crate) fn share(&self, process: u32) -> Result<()> {
        move_to(process, &[&self.others[..], &[self.measured]].concat())
    }

    /// The beginning of a command line that runs a program on the measured core.
    pub(crate) fn pinned(&self) -> [String; 3] {
        ["taskset".into(), "--cpu-list".into(), self.measured.to_string()]
    }
}

fn move_to(process: u32, cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cores.iter().try_for_each(|&core| set.set(core)).context("naming the cores")?;
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).context("listing threads")?;
    for thread in threads {
        let name = thread.context("listing threads")?.file_name();
        let id = name.to_str().and_then(|name| name.parse().ok()).context("a thread has a number")?;
        // One that has ended meanwhile needs no core.
        let _ = sched_setaffinity(Pid::from_raw(id), &set);
    }
    Ok(())
}
