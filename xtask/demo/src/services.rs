//! The three services, each a process of its own, as they would run on three machines.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use twinlane_testkit::Service;
use twinlane_testkit::process::{ServiceOptions, free_port};

use crate::commerce::Pipeline;

const NAMES: [&str; 3] = ["router", "precision-worker", "throughput-worker"];
const PRECISION: usize = 1;
/// Loading and warming up the models, and joining the group.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// The running services.
pub(crate) struct Services {
    options: Vec<ServiceOptions>,
    running: Vec<(Service, std::net::SocketAddr)>,
}

impl Services {
    /// Starts all three and waits until they are ready.
    pub(crate) fn start(
        binaries: &Path,
        pipeline: &Pipeline,
        bootstrap: &str,
        logs: PathBuf,
    ) -> Result<Self> {
        let options: Vec<_> = NAMES
            .iter()
            .map(|name| ServiceOptions {
                name: (*name).into(),
                program: binaries.join(name),
                arguments: [
                    ["--pipeline", &pipeline.file.to_string_lossy()],
                    ["--schemas", "schemas"],
                    ["--brokers", bootstrap],
                    ["--ordinal", "0"],
                ]
                .iter()
                .flatten()
                .map(|argument| (*argument).to_owned())
                .collect(),
                logs: logs.clone(),
                ..ServiceOptions::default()
            })
            .collect();
        let mut running = Vec::new();
        for options in &options {
            if !options.program.exists() {
                bail!("{} is not there; `cargo xtask demo` builds it", options.program.display());
            }
            running.push(spawn(options)?);
        }
        let mut services = Self { options, running };
        for (service, admin) in &mut services.running {
            service.wait_for_http(*admin, "/health/ready", READY_LIMIT)?;
        }
        Ok(services)
    }

    /// Kills the precision worker with SIGKILL.
    pub(crate) fn kill_precision_worker(&mut self) -> Instant {
        self.running[PRECISION].0.kill();
        Instant::now()
    }

    /// Starts the precision worker again, as whatever supervises it would, and does not wait.
    pub(crate) fn restart_precision_worker(&mut self) -> Result<()> {
        self.running[PRECISION] = spawn(&self.options[PRECISION])?;
        Ok(())
    }

    /// Fails when one has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.running.iter_mut().try_for_each(|(service, _)| Ok(service.check_running()?))
    }

    /// Asks all to stop, and gives the names of those that did not end cleanly.
    pub(crate) fn stop(mut self) -> Vec<&'static str> {
        for (service, _) in &mut self.running {
            service.process().ask_to_stop();
        }
        let ended = self.running.iter_mut().map(|(service, _)| service.stop(Duration::from_secs(20)));
        NAMES.into_iter().zip(ended).filter(|(_, code)| *code != Some(0)).map(|(name, _)| name).collect()
    }
}

fn spawn(options: &ServiceOptions) -> Result<(Service, std::net::SocketAddr)> {
    let admin = free_port()?;
    let mut options = options.clone();
    options.arguments.extend(["--admin-port".to_owned(), admin.port().to_string()]);
    let service = Service::spawn(&options).with_context(|| format!("starting {}", options.name))?;
    Ok((service, admin))
}
