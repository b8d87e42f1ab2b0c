//! The services: four places for each role, of which two are taken while nothing happens. Whoever holds a place's lock
//! decides about it; what nobody holds is supervised: a process that ends by itself is started again, and noted.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use twinlane_testkit::Service;
use twinlane_testkit::process::{ServiceOptions, free_port};

use crate::shop::{ROLES, Role};

/// Places of each role.
const PLACES: u32 = 4;
/// How many of them are taken while nothing happens.
const TAKEN: u32 = 2;
/// Loading the models, joining the group, on a machine that is busy.
/// Other faults may keep brokers away meanwhile.
pub(crate) const READY: Duration = Duration::from_secs(240);
/// Within this time a service must have stopped that was asked to.
pub(crate) const STOP_BOUND: Duration = Duration::from_secs(5);
/// It is killed after this.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// All services.
pub(crate) struct Fleet {
    places: Vec<Mutex<Place>>,
    notes: Mutex<Vec<String>>,
}

/// Where one service runs, or may.
pub(crate) struct Place {
    pub(crate) ordinal: u32,
    options: ServiceOptions,
    running: Option<(Service, std::net::SocketAddr)>,
}

/// How the services are started.
#[derive(Debug, Clone)]
pub(crate) struct Start<'a> {
    pub(crate) binaries: &'a Path,
    pub(crate) pipeline: &'a Path,
    pub(crate) bootstrap: &'a str,
    pub(crate) folder: &'a Path,
    pub(crate) logs: &'a Path,
    /// Lines for `[kafka.common]` and `[kafka.producer]`.
    pub(crate) common: &'a [(&'a str, &'a str)],
    pub(crate) producer: &'a [(&'a str, &'a str)],
}

impl Fleet {
    /// Starts two of each role and waits until they are ready.
    pub(crate) fn start(how: &Start<'_>) -> Result<Self> {
        let mut places = Vec::new();
        for (role, ordinal) in ROLES.into_iter().flat_map(|role| (0..PLACES).map(move |n| (role, n))) {
            places.push(Mutex::new(Place::new(how, role, ordinal)?));
        }
        let fleet = Self { places, notes: Mutex::default() };
        for step in [Place::spawn, Place::wait_until_ready] {
            for place in &fleet.places {
                let mut place = lock(place);
                if place.is_taken_at_rest() {
                    step(&mut place)?;
                }
            }
        }
        Ok(fleet)
    }

    /// A place of this role that is taken at rest, chosen by `choice` among those that nobody holds.
    pub(crate) fn taken(&self, role: Role, choice: u64) -> Option<MutexGuard<'_, Place>> {
        let first = (choice % u64::from(TAKEN)) as u32;
        (0..TAKEN).find_map(|step| self.place(role, (first + step) % TAKEN))
    }

    /// This place, unless somebody holds it.
    pub(crate) fn place(&self, role: Role, ordinal: u32) -> Option<MutexGuard<'_, Place>> {
        let index = ROLES.iter().position(|&known| known == role)? as u32 * PLACES + ordinal;
        match self.places[index as usize].try_lock() {
            Ok(place) => Some(place),
            Err(TryLockError::Poisoned(place)) => Some(place.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The places beyond those that are taken at rest; none when somebody holds one of them.
    pub(crate) fn spare(&self, role: Role) -> Option<Vec<MutexGuard<'_, Place>>> {
        (TAKEN..PLACES).map(|ordinal| self.place(role, ordinal)).collect()
    }

    /// Starts what ended by itself again, as whatever supervises services does.
    pub(crate) fn supervise(&self) -> Result<()> {
        for place in &self.places {
            let Ok(mut place) = place.try_lock() else { continue };
            if let Some(status) = place.ended() {
                self.note(format!("{} ended by itself with {status}", place.name()));
            }
            if place.is_taken_at_rest() && !place.is_running() {
                place.spawn()?;
            }
        }
        Ok(())
    }

    /// Keeps something that a reader of the report should know.
    pub(crate) fn note(&self, note: String) {
        lock(&self.notes).push(note);
    }

    /// What was noted.
    pub(crate) fn notes(&self) -> Vec<String> {
        lock(&self.notes).clone()
    }

    /// Asks all to stop, and notes those that did not do so cleanly.
    pub(crate) fn stop(&self) -> Vec<Duration> {
        let mut places: Vec<_> = self.places.iter().map(lock).collect();
        for place in &mut places {
            if let Some((service, _)) = &mut place.running {
                service.process().ask_to_stop();
            }
        }
        let running = places.iter_mut().filter(|place| place.is_running());
        running.map(|place| place.stop(self)).collect()
    }
}

impl Place {
    fn new(how: &Start<'_>, role: Role, ordinal: u32) -> Result<Self> {
        let name = format!("{}-{ordinal}", role.name());
        let settings = how.folder.join(format!("{name}.toml"));
        // Its own client id, so that the network can be cut for it alone.
        let mut text = format!("[kafka.common]\n\"client.id\" = \"{name}\"\n");
        let lines = |of: &[(&str, &str)]| -> String {
            of.iter().map(|(name, value)| format!("\"{name}\" = \"{value}\"\n")).collect()
        };
        text.push_str(&lines(how.common));
        text.push_str("[kafka.producer]\n");
        text.push_str(&lines(how.producer));
        std::fs::write(&settings, text).context("writing a settings file")?;
        let program = how.binaries.join(role.program());
        ensure!(program.exists(), "{} is not there; `cargo xtask torture` builds it", program.display());
        let arguments = [
            ["--settings", &settings.to_string_lossy()],
            ["--pipeline", &how.pipeline.to_string_lossy()],
            ["--brokers", how.bootstrap],
            ["--ordinal", &ordinal.to_string()],
        ];
        let arguments = arguments.iter().flatten().map(|argument| (*argument).to_owned()).collect();
        let options =
            ServiceOptions { name, program, arguments, logs: how.logs.to_owned(), ..Default::default() };
        Ok(Self { ordinal, options, running: None })
    }

    fn is_taken_at_rest(&self) -> bool {
        self.ordinal < TAKEN
    }

    pub(crate) fn name(&self) -> &str {
        &self.options.name
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// How it ended, if it did so by itself.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let ended = self.running.as_mut()?.0.process().ended();
        if ended.is_some() {
            self.running = None;
        }
        ended
    }

    /// Starts it and does not wait.
    pub(crate) fn spawn(&mut self) -> Result<()> {
        self.spawn_as(self.options.program.clone(), &[])
    }

    /// Starts another binary in this place, with this in its environment.
    pub(crate) fn spawn_as(&mut self, program: PathBuf, environment: &[(&str, &str)]) -> Result<()> {
        let admin = free_port()?;
        let mut options = ServiceOptions { program, ..self.options.clone() };
        options.arguments.extend(["--admin-port".to_owned(), admin.port().to_string()]);
        let own = environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        options.environment.extend(own);
        self.running = Some((Service::spawn(&options)?, admin));
        Ok(())
    }

    /// Waits until it has joined its groups.
    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        let (service, admin) = self.running.as_mut().context("it does not run")?;
        Ok(service.wait_for_http(*admin, "/health/ready", READY)?)
    }

    /// Whether it has joined its groups by now.
    pub(crate) fn is_ready(&mut self) -> bool {
        let Some((service, admin)) = self.running.as_mut() else { return false };
        service.wait_for_http(*admin, "/health/ready", Duration::ZERO).is_ok()
    }

    /// Whether it has ended, now or when somebody looked before.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.ended().is_some() || self.running.is_none()
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) fn kill(&mut self) {
        self.running = None;
    }

    /// Sends SIGSTOP.
    pub(crate) fn freeze(&mut self) {
        if let Some((service, _)) = &mut self.running {
            service.process().freeze();
        }
    }

    /// Sends SIGCONT.
    pub(crate) fn thaw(&mut self) {
        if let Some((service, _)) = &mut self.running {
            service.process().thaw();
        }
    }

    /// Sends SIGTERM and does not wait.
    pub(crate) fn ask_to_stop(&mut self) {
        if let Some((service, _)) = &mut self.running {
            service.process().ask_to_stop();
        }
    }

    /// Whether it is stopped by a signal; Linux says so in `/proc`.
    pub(crate) fn is_frozen(&mut self) -> bool {
        let Some((service, _)) = &mut self.running else { return false };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", service.process().id()));
        stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
    }

    /// Sends SIGTERM, and notes it when the service does not stop cleanly and in time.
    pub(crate) fn stop(&mut self, fleet: &Fleet) -> Duration {
        let began = Instant::now();
        let Some((mut service, _)) = self.running.take() else { return Duration::ZERO };
        let code = service.stop(STOP_LIMIT);
        let took = began.elapsed();
        if code != Some(0) {
            fleet.note(format!(
                "{} ended with {code:?} instead of 0 after SIGTERM and {took:.1?}",
                self.name()
            ));
        } else if took > STOP_BOUND {
            fleet.note(format!("{} took {took:.1?} to stop", self.name()));
        }
        took
    }

    /// Sends SIGTERM to a service that may not even have begun; how it ends does not matter.
    pub(crate) fn dismiss(&mut self) {
        if let Some((mut service, _)) = self.running.take() {
            service.stop(STOP_LIMIT);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
