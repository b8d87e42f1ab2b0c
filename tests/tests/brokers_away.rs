//! Brokers that are away for ten minutes, longer than every time-out of a client but those for metadata and retention,
//! cost the lag that they cost: services live on, and every event is answered once.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;
use twinlane_testkit::{
    broker::Coordinated,
    checker::{Checker, Expected},
    client,
    process::http_get,
    wait,
};
use twinlane_tests::{Event, PARTITIONS, Shop, lone_broker};

const AWAY: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(60);
/// While nobody answers, a service tries a few times a second.
const MOST_CPU: Duration = Duration::from_secs(30);

fn event(number: u32) -> Event {
    let (source, value) = match number % 3 {
        0 => ("events", json!({ "kind": "order", "id": number, "recent": [{ "amount": 1.5, "age_s": 2 }] })),
        1 => ("events", json!({ "kind": "click", "id": number, "a": number % 5, "b": 1.5, "c": -2 })),
        _ => (
            "reviews",
            json!({ "id": number, "stars": number % 6, "helpful": true, "at": "2026-01-31T12:00:00Z" }),
        ),
    };
    Event {
        id: number,
        source,
        partition: number as i32 % PARTITIONS,
        key: None,
        value: Some(value.to_string().into_bytes()),
        expected: Expected::Answer,
        reason: None,
    }
}

#[test]
#[ignore = "takes eleven minutes; `cargo xtask test` runs it beside the others"]
fn brokers_that_are_away_for_ten_minutes_cost_nothing_but_time() {
    let mut broker = lone_broker();
    let shop = Shop::open_at(broker.bootstrap());
    let mut admins = Vec::new();
    let mut services = ["router", "precision-worker", "throughput-worker"].map(|name| {
        let (service, admin) = shop.start_with(name, 0, "");
        admins.push(admin);
        service
    });
    // The body alone, of whatever status.
    let say = |text: &str| {
        let says =
            |&admin: &SocketAddr| http_get(admin, "/health/ready").is_ok_and(|said| said.contains(text));
        admins.iter().all(says).then_some(())
    };
    let mut account = Checker::new();
    // Enough to be in the middle of it when the broker dies.
    shop.produce(&(0..60_000).map(event).collect::<Vec<_>>(), &mut account);
    wait::until(PATIENCE, || (shop.committed("scores.orders") > 0).then_some(())).expect("it flows");
    broker.kill_node(0);
    let before = services.each_mut().map(|service| service.process().cpu_time().expect("it runs"));
    let back = Instant::now() + AWAY;
    while Instant::now() < back {
        wait::pause_for(Duration::from_secs(5).min(back.saturating_duration_since(Instant::now())));
        for service in &mut services {
            service.check_running().unwrap_or_else(|e| panic!("{e}\n{}", service.output()));
        }
    }
    wait::until(PATIENCE, || say("no Kafka broker answers")).expect("health says so");
    for (service, before) in services.iter_mut().zip(before) {
        let spent = service.process().cpu_time().expect("it runs") - before;
        assert!(spent < MOST_CPU, "{spent:?} of CPU while nobody answered");
    }

    broker.restart_missing().expect("the broker comes back");
    let group = shop.topic("precision");
    broker.wait_for_coordinators(&[Coordinated::Group(&group)], PATIENCE).expect("a coordinator");
    let returned = Instant::now();
    // A partition's leader may come later than the coordinator.
    let answered = || {
        let mut count = 0;
        let read = client::read_to_end(shop.bootstrap(), &shop.topic("scores.orders"), |_| count += 1);
        read.ok().map(|()| count)
    };
    let before = wait::until(PATIENCE, answered).expect("the topic can be read");
    wait::until(PATIENCE, || (answered()? > before).then_some(())).expect("answers flow again");
    println!("answers flow {:.1} s after the broker is back", returned.elapsed().as_secs_f64());
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}");
    wait::until(PATIENCE, || say("ready\n")).expect("they are ready again");
    for service in &mut services {
        service.check_running().unwrap_or_else(|e| panic!("{e}\n{}", service.output()));
        assert_eq!(service.stop(Duration::from_secs(5)), Some(0), "{}", service.output());
    }
}
