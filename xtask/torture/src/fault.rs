//! The faults by name, and the plan: which comes when, on whom, with what parameters. All of it follows from the seed,
//! so a run's plan is the same every time.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, bail};
use twinlane_testkit::random::{Random, mix};

use crate::shop::{ROLES, Role};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// SIGKILL, and started again in its place.
    Kill(Role),
    /// SIGKILL, and only the others take over.
    Gone(Role),
    /// SIGTERM, and started again.
    Terminate(Role),
    /// SIGSTOP until it is fenced, then SIGCONT.
    Freeze(Role),
    /// A broker is killed and started again later.
    BrokerKill,
    /// The same for the one that coordinates the precision workers' group.
    GroupCoordinatorKill,
    /// The same for the one that coordinates a worker's transactions.
    TransactionCoordinatorKill,
    /// All brokers are killed and started again later.
    BrokersAway,
    /// Services and brokers do not reach each other.
    NetworkCut,
    /// They reach each other slowly.
    NetworkSlow,
    /// Precision workers: one, four, one.
    Scale,
    /// Members join and leave before the group has settled.
    RebalanceStorm,
    /// A source topic grows.
    AddPartitions,
    /// Dies or hangs with outputs produced and offsets not sent.
    BeforeOffsets(Role),
    /// Dies or hangs with offsets sent and the transaction's end not asked for.
    BeforeEnd(Role),
    /// Dies or hangs inside a revoke.
    InRevoke(Role),
}

impl Kind {
    /// Every kind there is.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        let by_role: [fn(Role) -> Self; 4] = [Self::Kill, Self::Gone, Self::Terminate, Self::Freeze];
        let fail_points: [fn(Role) -> Self; 3] = [Self::BeforeOffsets, Self::BeforeEnd, Self::InRevoke];
        for kind in by_role.iter().chain(&fail_points) {
            all.extend(ROLES.map(kind));
        }
        all.extend([
            Self::BrokerKill,
            Self::GroupCoordinatorKill,
            Self::TransactionCoordinatorKill,
            Self::BrokersAway,
            Self::NetworkCut,
            Self::NetworkSlow,
            Self::Scale,
            Self::RebalanceStorm,
            Self::AddPartitions,
        ]);
        all
    }

    /// Whether it needs the binaries with fail points.
    pub(crate) fn needs_fail_points(self) -> bool {
        matches!(self, Self::BeforeOffsets(_) | Self::BeforeEnd(_) | Self::InRevoke(_))
    }

    /// What it is called on the command line and in reports.
    pub(crate) fn name(self) -> String {
        let (what, role) = match self {
            Self::Kill(role) => ("kill", Some(role)),
            Self::Gone(role) => ("gone", Some(role)),
            Self::Terminate(role) => ("terminate", Some(role)),
            Self::Freeze(role) => ("freeze", Some(role)),
            Self::BeforeOffsets(role) => ("before-offsets", Some(role)),
            Self::BeforeEnd(role) => ("before-end", Some(role)),
            Self::InRevoke(role) => ("in-revoke", Some(role)),
            Self::BrokerKill => ("broker-kill", None),
            Self::GroupCoordinatorKill => ("group-coordinator-kill", None),
            Self::TransactionCoordinatorKill => ("transaction-coordinator-kill", None),
            Self::BrokersAway => ("brokers-away", None),
            Self::NetworkCut => ("network-cut", None),
            Self::NetworkSlow => ("network-slow", None),
            Self::Scale => ("scale", None),
            Self::RebalanceStorm => ("rebalance-storm", None),
            Self::AddPartitions => ("add-partitions", None),
        };
        role.map_or_else(|| what.to_owned(), |role| format!("{what}-{}", role.name()))
    }

    /// Whether brokers die of it.
    pub(crate) fn is_of_brokers(self) -> bool {
        matches!(
            self,
            Self::BrokerKill
                | Self::GroupCoordinatorKill
                | Self::TransactionCoordinatorKill
                | Self::BrokersAway
        )
    }

    /// How long recovery may take at most, where the promise says so.
    pub(crate) fn bound(self) -> Option<Duration> {
        let seconds = match self {
            Self::Kill(_)
            | Self::Terminate(_)
            | Self::BeforeOffsets(_)
            | Self::BeforeEnd(_)
            | Self::InRevoke(_) => 10,
            // Session time-out, transaction time-out, the broker's sweep, and three.
            Self::Gone(_) => 10 + 5 + 1 + 3,
            _ if self.is_of_brokers() => 5,
            _ => return None,
        };
        Some(Duration::from_secs(seconds))
    }

    /// The kinds that a list of names selects: whole names, or their beginnings up to a dash.
    pub(crate) fn select(names: &[String]) -> Result<Vec<Self>> {
        let mut selected = Vec::new();
        for name in names {
            let name = name.replace('_', "-");
            let begins = format!("{name}-");
            let found: Vec<_> = Self::all()
                .into_iter()
                .filter(|kind| kind.name() == name || kind.name().starts_with(&begins))
                .collect();
            if found.is_empty() {
                let known: Vec<_> = Self::all().into_iter().map(Self::name).collect();
                bail!("there is no fault `{name}`; known are {}", known.join(", "));
            }
            selected.extend(found);
        }
        Ok(selected)
    }
}

/// One fault of the plan.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    /// Where its parameters come from.
    pub(crate) random: Random,
}

/// The faults in their order, without end: every kind once in a random order, then again.
#[derive(Debug)]
pub(crate) struct Plan {
    kinds: Vec<Kind>,
    coming: VecDeque<Kind>,
    random: Random,
    seed: u64,
    number: u64,
}

impl Plan {
    pub(crate) fn new(seed: u64, kinds: Vec<Kind>) -> Self {
        Self { kinds, coming: VecDeque::new(), random: Random::new(seed), seed, number: 0 }
    }

    /// The next fault, and the pause before it.
    pub(crate) fn next(&mut self) -> Option<(Fault, Duration)> {
        if self.coming.is_empty() {
            let mut round = self.kinds.clone();
            self.random.shuffle(&mut round);
            self.coming.extend(round);
        }
        let kind = self.coming.pop_front()?;
        self.number += 1;
        let pause = Duration::from_millis(self.random.between(500, 3000));
        let random = Random::new(mix(self.seed ^ mix(self.number)));
        Some((Fault { number: self.number, kind, random }, pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(seed: u64, count: usize) -> Vec<String> {
        let mut plan = Plan::new(seed, Kind::all());
        let next = |_| {
            let (mut fault, pause) = plan.next().expect("plans do not end");
            format!("{} {pause:?} {}", fault.kind.name(), fault.random.next())
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn a_seed_gives_the_same_plan_every_time() {
        assert_eq!(names(5, 100), names(5, 100));
        assert_ne!(names(5, 100), names(6, 100));
    }

    #[test]
    fn every_kind_comes_once_before_one_comes_again() {
        let mut plan = Plan::new(3, Kind::all());
        let mut round: Vec<_> =
            (0..Kind::all().len()).map(|_| plan.next().expect("plans do not end").0.kind).collect();
        round.sort();
        round.dedup();
        assert_eq!(round.len(), Kind::all().len());
    }

    #[test]
    fn kinds_are_selected_by_name_or_by_its_beginning() {
        let select =
            |names: &[&str]| Kind::select(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(select(&["kill"]).expect("known"), ROLES.map(Kind::Kill));
        assert_eq!(select(&["network_cut"]).expect("known"), [Kind::NetworkCut]);
        assert!(select(&["earthquake"]).expect_err("unknown").to_string().contains("broker-kill"));
    }
}
