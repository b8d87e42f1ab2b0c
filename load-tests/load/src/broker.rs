//! The broker that capacities, idle services and streams share, one after the other. It has run for a while before the first:
//! a JVM that has just started spends half again as much on a transaction as one that has compiled what it does, and that is
//! what anybody's broker has done.

use anyhow::Result;
use twinlane_testkit::{Broker, BrokerOptions};

use crate::arrivals::Arrivals;
use crate::progress::say;
use crate::report::Report;
use crate::saturate::Place;
use crate::stream::{self, Stream};
use crate::workload::Workload;

/// From then on orders took the same time in every second.
const RUN_IN_S: f64 = 90.0;
/// As many transactions as it will have to end, and time to compile beside them.
const EVENTS_PER_S: f64 = 2000.0;

/// Starts it.
pub(crate) fn start() -> Result<Broker> {
    Ok(Broker::start_own(&BrokerOptions { lives_long: true, ..Default::default() })?)
}

/// Lets a stream of both kinds of events pass through two lanes, and reports nothing of it.
pub(crate) fn run_in(place: &Place<'_>) -> Result<()> {
    say(&format!("running in the broker, {RUN_IN_S:.0} s"));
    let stream = Stream {
        name: "run-in".into(),
        workload: Workload::RoutedToTwoLanes,
        arrivals: Arrivals::Poisson(EVENTS_PER_S),
        times: None,
        seconds: RUN_IN_S,
        warm_up_seconds: 0.0,
        orders: Some(0.1),
        keys: None,
        padding: Vec::new(),
        breakdown: false,
        changes_every_s: None,
        from_nothing: false,
        seed: 0,
    };
    stream::run(&stream, place, &mut Report::default())
}
