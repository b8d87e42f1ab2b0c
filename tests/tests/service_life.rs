//! The life of a service apart from records: what it costs while nothing comes, and how it ends while its brokers are
//! away.

use std::time::{Duration, Instant};

use twinlane_testkit::{process::free_port, wait};
use twinlane_tests::Shop;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn idle_services_use_almost_no_cpu() {
    const WATCHED: Duration = Duration::from_secs(5);
    let shop = Shop::open();
    let mut services = ["router", "precision-worker", "throughput-worker"].map(|name| shop.start(name, 0));
    // Whatever follows the start is over once a watch is quiet; a hot loop never is.
    for service in &mut services {
        let spent = wait::until(LIMIT, || {
            let before = service.process().cpu_time().expect("it runs");
            wait::pause_for(WATCHED);
            let spent = service.process().cpu_time().expect("it runs") - before;
            (spent < WATCHED / 50).then_some(spent)
        });
        assert!(spent.is_some(), "more than 2 % of a core while idle\n{}", service.output());
    }
}

#[test]
fn a_stop_while_brokers_are_away_at_start_is_clean_and_quick() {
    let shop = Shop::open();
    let nobody = free_port().expect("a free port").to_string();
    for name in ["router", "precision-worker"] {
        let (mut service, _) = shop.spawn(name, 0, &nobody, "");
        service
            .wait_for_line("no Kafka broker answers yet; waiting", LIMIT)
            .expect("it says what it waits for");
        let asked = Instant::now();
        assert_eq!(service.stop(Duration::from_secs(10)), Some(0), "{}", service.output());
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    }
}

#[test]
fn an_address_where_nobody_answers_ends_the_start_with_what_to_look_at() {
    let shop = Shop::open();
    let nobody = free_port().expect("a free port").to_string();
    let (mut service, _) = shop.spawn("precision-worker", 0, &nobody, "");
    let ended = wait::until(LIMIT, || service.process().ended());
    assert_eq!(ended.as_deref(), Some("exit status: 7"), "{}", service.output());
    assert!(service.output().contains("is the cluster up, and are the address"), "{}", service.output());
}
