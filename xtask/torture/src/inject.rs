//! Does to the rig what a fault says, up to the moment from which recovery counts. What is left to put right after the
//! recovery is handed back as [`Injected::after`].

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use twinlane_testkit::broker::Coordinated;
use twinlane_testkit::client;
use twinlane_testkit::proxy::{Weather, Whom};
use twinlane_testkit::random::Random;

use crate::fault::{Fault, Kind};
use crate::fleet::{Place, READY};
use crate::rig::Rig;
use crate::shop::{COORDINATED, ROLES, Role, SOURCES};

/// A fault that has happened.
pub(crate) struct Injected<'a> {
    /// Whom it hit and how, for readers.
    pub(crate) detail: String,
    /// The remedy was in place; recovery counts from here.
    pub(crate) remedied: Instant,
    /// What is to be put right once the system has recovered; or after the pause, where nobody waits for that.
    pub(crate) after: Box<dyn FnOnce() -> Result<()> + 'a>,
    pub(crate) pause: Duration,
}

/// Another fault, which goes on, holds what this one needs: it is left out.
#[derive(Debug)]
pub(crate) struct Busy;

impl std::fmt::Display for Busy {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("another fault holds what it needs")
    }
}

impl std::error::Error for Busy {}

/// Longer than a session and a transaction live, so that whoever was stopped so long is fenced.
const FENCED: (u64, u64) = (12_000, 15_000);
/// Somebody else's fault holds the place.
const BUSY: Duration = Duration::from_secs(60);
/// For a broker to find its coordinators, and for replicas to come into sync.
const BROKERS: Duration = Duration::from_secs(90);
/// As the cluster is set up (`min.insync.replicas`).
const MIN_IN_SYNC: usize = 2;
const MOST_PARTITIONS: i32 = 20;

impl Rig {
    /// Injects a fault.
    pub(crate) fn inject(&self, fault: &Fault) -> Result<Injected<'_>> {
        let mut random = fault.random.clone();
        match fault.kind {
            Kind::Kill(role) => self.kill(role, &mut random),
            Kind::Gone(role) => self.gone(role, &mut random),
            Kind::Terminate(role) => self.terminate(role, &mut random),
            Kind::Freeze(role) => self.freeze(role, &mut random),
            Kind::BrokerKill | Kind::GroupCoordinatorKill | Kind::TransactionCoordinatorKill => {
                self.kill_broker(fault.kind, &mut random)
            }
            Kind::BrokersAway => self.brokers_away(&mut random),
            Kind::NetworkCut | Kind::NetworkSlow => self.network(fault.kind, &mut random),
            Kind::Scale => self.scale(&mut random),
            Kind::RebalanceStorm => self.storm(&mut random),
            Kind::AddPartitions => self.add_partitions(&mut random),
            Kind::BeforeOffsets(role) => self.fail_point("before_offsets", role, &mut random),
            Kind::BeforeEnd(role) => self.fail_point("before_end", role, &mut random),
            Kind::InRevoke(role) => self.fail_point("in_revoke", role, &mut random),
        }
    }

    fn taken(&self, role: Role, random: &mut Random) -> Result<MutexGuard<'_, Place>> {
        let choice = random.next();
        Ok(self.until(BUSY, || self.fleet.taken(role, choice))?.ok_or(Busy)?)
    }

    /// The same once it is ready: before, a process has not even taken over SIGTERM.
    fn ready(&self, role: Role, random: &mut Random) -> Result<MutexGuard<'_, Place>> {
        let mut place = self.taken(role, random)?;
        if let Err(error) = place.wait_until_ready() {
            // Another fault may go on that keeps it from its brokers.
            self.fleet.note(format!("{} was to be stopped and is not ready: {error:#}", place.name()));
        }
        Ok(place)
    }

    fn kill(&self, role: Role, random: &mut Random) -> Result<Injected<'_>> {
        let mut place = self.taken(role, random)?;
        let down = millis(random, 0, 1500);
        place.kill();
        self.pause(down)?;
        place.spawn()?;
        let detail = format!("{}, down for {down:?}", place.name());
        Ok(done(detail, Instant::now(), place))
    }

    fn gone(&self, role: Role, random: &mut Random) -> Result<Injected<'_>> {
        let mut place = self.taken(role, random)?;
        place.kill();
        let (detail, remedied) = (place.name().to_owned(), Instant::now());
        let after = Box::new(move || {
            place.spawn()?;
            place.wait_until_ready()
        });
        Ok(Injected { detail, remedied, after, pause: millis(random, 5000, 15_000) })
    }

    fn terminate(&self, role: Role, random: &mut Random) -> Result<Injected<'_>> {
        let mut place = self.ready(role, random)?;
        let took = place.stop(&self.fleet);
        self.pause(millis(random, 0, 1500))?;
        place.spawn()?;
        let detail = format!("{}, which took {took:.1?} to stop", place.name());
        Ok(done(detail, Instant::now(), place))
    }

    fn freeze(&self, role: Role, random: &mut Random) -> Result<Injected<'_>> {
        let mut place = self.taken(role, random)?;
        let time = millis(random, FENCED.0, FENCED.1);
        place.freeze();
        self.pause(time)?;
        place.thaw();
        let remedied = Instant::now();
        let ends = self.restarted_if_it_ends(&mut place)?;
        let detail = format!("{} for {time:?}, which {ends}", place.name());
        Ok(done(detail, remedied, place))
    }

    /// What a supervisor does with a zombie that chose to exit; says what it chose.
    fn restarted_if_it_ends(&self, place: &mut Place) -> Result<String> {
        match self.until(Duration::from_secs(2), || place.ended())? {
            Some(status) => {
                place.spawn()?;
                Ok(format!("ended with {status} when it went on"))
            }
            None => Ok("went on".to_owned()),
        }
    }

    fn kill_broker(&self, kind: Kind, random: &mut Random) -> Result<Injected<'_>> {
        let mut broker = lock(&self.broker);
        let choice = random.below(broker.nodes() as u64) as usize;
        let role = *pick(&ROLES[1..], random);
        let index = match kind {
            Kind::GroupCoordinatorKill => {
                broker.coordinator(Coordinated::Group(&format!("torture.{}", role.name())))
            }
            Kind::TransactionCoordinatorKill => {
                broker.coordinator(Coordinated::Transactions(&format!("torture.{}.0", role.name())))
            }
            _ => None,
        };
        let index = index.unwrap_or(choice);
        broker.kill_node(index);
        let killed = Instant::now();
        broker.wait_for_coordinators(&COORDINATED, BROKERS)?;
        // Where it coordinated nothing, the cluster takes a session's time to see that it leads nothing any more either.
        self.wait_until_written_to(Some(index as i32 + 1))?;
        let remedied = Instant::now();
        let detail = format!("broker {}, the others took over after {:.1?}", index + 1, killed.elapsed());
        let after = Box::new(move || {
            broker.restart_node(index)?;
            Ok(client::wait_until_in_sync(broker.bootstrap(), BROKERS)?)
        });
        Ok(Injected { detail, remedied, after, pause: millis(random, 3000, 8000) })
    }

    /// Waits until the cluster takes writes again: without that no client can get anywhere, whatever coordinators it finds.
    fn wait_until_written_to(&self, dead: Option<i32>) -> Result<()> {
        let takes = || client::takes_writes(&self.bootstrap, dead, MIN_IN_SYNC).ok().filter(|takes| *takes);
        let taken = self.until(BROKERS, takes)?;
        taken.map(drop).context("some partitions have no leader, or too few replicas in sync")
    }

    fn brokers_away(&self, random: &mut Random) -> Result<Injected<'_>> {
        let mut broker = lock(&self.broker);
        let all: Vec<_> = (0..broker.nodes()).collect();
        let time = millis(random, 10_000, 20_000);
        all.iter().for_each(|&index| broker.kill_node(index));
        self.pause(time)?;
        broker.restart_nodes(&all)?;
        broker.wait_for_coordinators(&COORDINATED, BROKERS)?;
        self.wait_until_written_to(None)?;
        let remedied = Instant::now();
        let after = Box::new(move || Ok(client::wait_until_in_sync(broker.bootstrap(), BROKERS)?));
        Ok(Injected { detail: format!("for {time:?}"), remedied, after, pause: Duration::ZERO })
    }

    fn network(&self, kind: Kind, random: &mut Random) -> Result<Injected<'_>> {
        let (weather, time) = if kind == Kind::NetworkSlow {
            let latency = millis(random, 20, 150);
            let bytes_per_s = random.between(100_000, 1_000_000);
            (Weather::Slow { latency, bytes_per_s }, millis(random, 4000, 8000))
        } else {
            (*pick(&[Weather::Cut, Weather::Silent], random), millis(random, 2000, 15_000))
        };
        let one = random.below(self.proxies.len() as u64) as usize;
        let service = format!("{}-{}", pick(&ROLES, random).name(), random.below(2));
        let (proxies, whom, target) = match random.below(3) {
            0 => (&self.proxies[..], Whom::All, "all services and all brokers".to_owned()),
            1 => (&self.proxies[one..=one], Whom::All, format!("all services and broker {}", one + 1)),
            _ => (&self.proxies[..], Whom::Client(service.clone()), format!("{service} and all brokers")),
        };
        // One weather at a time: whoever holds the proxies' turn.
        static TURN: Mutex<()> = Mutex::new(());
        let turn = lock(&TURN);
        proxies.iter().for_each(|proxy| proxy.set(weather, whom.clone()));
        let paused = self.pause(time);
        proxies.iter().for_each(|proxy| proxy.heal());
        paused?;
        let detail = format!("between {target}, {weather:?} for {time:?}");
        Ok(done(detail, Instant::now(), turn))
    }

    fn scale(&self, random: &mut Random) -> Result<Injected<'_>> {
        let places = || {
            let mut places = self.fleet.spare(Role::Precision)?;
            places.push(self.fleet.place(Role::Precision, 1)?);
            Some(places)
        };
        let mut places = self.until(BUSY, places)?.ok_or(Busy)?;
        places.last_mut().expect("there are three").stop(&self.fleet);
        self.pause(millis(random, 500, 3000))?;
        places.iter_mut().try_for_each(|place| place.spawn())?;
        places.iter_mut().try_for_each(|place| place.wait_until_ready())?;
        self.pause(millis(random, 500, 3000))?;
        let slowest = places.iter_mut().map(|place| place.stop(&self.fleet)).max().unwrap_or_default();
        let detail = format!("precision workers 1, 4, 1; the slowest stop took {slowest:.1?}");
        let remedied = Instant::now();
        let after = Box::new(move || {
            let last = places.last_mut().expect("there are three");
            last.spawn()?;
            last.wait_until_ready()
        });
        Ok(Injected { detail, remedied, after, pause: Duration::from_secs(2) })
    }

    fn storm(&self, random: &mut Random) -> Result<Injected<'_>> {
        let role = *pick(&ROLES, random);
        let mut places = self.until(BUSY, || self.fleet.spare(role))?.ok_or(Busy)?;
        let rounds = random.between(3, 6);
        for _ in 0..rounds {
            for place in &mut places {
                place.spawn()?;
                self.pause(millis(random, 200, 1500))?;
            }
            for place in &mut places {
                match random.below(2) {
                    0 => place.kill(),
                    _ => place.dismiss(),
                }
                self.pause(millis(random, 0, 500))?;
            }
        }
        Ok(done(format!("{} times two more {} came and went", rounds, role.name()), Instant::now(), places))
    }

    fn add_partitions(&self, random: &mut Random) -> Result<Injected<'_>> {
        let source = *pick(&SOURCES, random);
        static TURN: Mutex<()> = Mutex::new(());
        let turn = lock(&TURN);
        let count = self.feed.partitions(source) + 1;
        if count > MOST_PARTITIONS {
            return Ok(done(format!("{} has enough", source.topic()), Instant::now(), turn));
        }
        client::add_partitions(&self.bootstrap, source.topic(), count)?;
        self.feed.set_partitions(source, count);
        Ok(done(format!("{} has {count}", source.topic()), Instant::now(), turn))
    }

    fn fail_point(&self, point: &str, role: Role, random: &mut Random) -> Result<Injected<'_>> {
        let armed = self.armed.as_ref().context("there are no binaries with fail points")?;
        let mut place = self.ready(role, random)?;
        let does = *pick(&["kill", "stop"], random);
        let (nth, time) = (
            random.between(1, if point == "in_revoke" { 2 } else { 20 }),
            millis(random, FENCED.0, FENCED.1),
        );
        place.stop(&self.fleet);
        place.spawn_as(armed.join(role.program()), &[("FAIL_POINT", &format!("{point}:{does}:{nth}"))])?;
        // It may come to its point before it is ready.
        self.until(READY, || (place.is_ready() || place.is_frozen() || place.has_ended()).then_some(()))?;
        let mut guests = Vec::new();
        if point == "in_revoke" {
            // Somebody who joins is given partitions, and somebody must give them.
            guests = self.until(BUSY, || self.fleet.spare(role))?.ok_or(Busy)?;
            guests.iter_mut().try_for_each(|guest| guest.spawn())?;
        }
        let mut by = "under load";
        if !self.reached(&mut place)? {
            by = "when asked to stop";
            place.ask_to_stop();
            if !self.reached(&mut place)? {
                bail!("{} never came to its fail point {point}", place.name());
            }
        }
        let is_zombie = place.is_frozen();
        let mut ends = String::new();
        let remedied;
        if is_zombie {
            self.pause(time)?;
            place.thaw();
            remedied = Instant::now();
            ends = format!(" for {time:?}, and {}", self.restarted_if_it_ends(&mut place)?);
        } else {
            place.spawn()?;
            remedied = Instant::now();
        }
        let detail = format!("{} ({does}) at passage {nth} {by}{ends}", place.name());
        let after = Box::new(move || {
            guests.iter_mut().for_each(|guest| guest.dismiss());
            if is_zombie {
                place.dismiss();
                place.spawn()?;
            }
            place.wait_until_ready()
        });
        Ok(Injected { detail, remedied, after, pause: Duration::from_secs(2) })
    }

    /// Whether the service comes to its fail point, where it dies or stops.
    fn reached(&self, place: &mut Place) -> Result<bool> {
        let hit =
            self.until(Duration::from_secs(20), || (place.is_frozen() || place.has_ended()).then_some(()))?;
        Ok(hit.is_some())
    }
}

/// Nothing is left to put right; `held` is let go once the system has recovered.
fn done<'a>(detail: String, remedied: Instant, held: impl Sized + 'a) -> Injected<'a> {
    let after = Box::new(move || {
        drop(held);
        Ok(())
    });
    Injected { detail, remedied, after, pause: Duration::ZERO }
}

fn millis(random: &mut Random, low: u64, high: u64) -> Duration {
    Duration::from_millis(random.between(low, high))
}

fn pick<'t, T>(from: &'t [T], random: &mut Random) -> &'t T {
    &from[random.below(from.len() as u64) as usize]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
