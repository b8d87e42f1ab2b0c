//! What a consumer makes of it.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
    types::{
        RDKafkaApiKey as Api,
        RDKafkaRespErr::{self, *},
    },
};
use twinlane_delivery::{Answer, Ledger};
use twinlane_kafka::{Error, Inbound, Outcome, Pulse, Topics};

use crate::support::{Cluster, EVENTS, GROUP, LIMIT, outcome_of, partition, wait_for};

/// Puts one record on the topic that is read.
fn produce(cluster: &Cluster) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &cluster.connection.brokers)
        .create()
        .expect("the settings are fine");
    let record = BaseRecord::<(), _>::to(EVENTS).partition(0).payload("event");
    producer.send(record).map_err(|(error, _)| error).expect("queued");
    producer.flush(LIMIT).expect("delivered");
}

fn records(event: Inbound) -> Option<usize> {
    match event {
        Inbound::Records(records) => Some(records.len()),
        Inbound::Failed(error) => panic!("an error that heals ended it: {error}"),
        _ => None,
    }
}

#[track_caller]
fn assert_unauthorised(error: &Error, said: &str, case: &str) {
    assert!(matches!(error, Error::Unauthorised { .. }), "{case}: {error}");
    let sentence = error.to_string();
    assert!(sentence.contains(said) && sentence.contains("grant the principal access"), "{case}: {sentence}");
}

fn assert_shut_out(error: &Error) {
    assert!(matches!(error, Error::SignIn { .. }), "{error}");
    let sentence = error.to_string();
    assert!(sentence.contains("sasl.mechanism") && !sentence.contains("hunter2"), "{sentence}");
}

fn failure(event: Inbound) -> Option<Error> {
    match event {
        Inbound::Failed(error) => Some(error),
        _ => None,
    }
}

#[test]
fn errors_of_a_moment_heal_and_the_record_arrives() {
    let cases = [
        (Api::Metadata, RD_KAFKA_RESP_ERR__TRANSPORT),
        (Api::FindCoordinator, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE),
        (Api::FindCoordinator, RD_KAFKA_RESP_ERR__TRANSPORT),
        (Api::JoinGroup, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (Api::JoinGroup, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (Api::JoinGroup, RD_KAFKA_RESP_ERR__TRANSPORT),
        (Api::SyncGroup, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS),
        (Api::SyncGroup, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (Api::OffsetFetch, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (Api::OffsetFetch, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (Api::OffsetFetch, RD_KAFKA_RESP_ERR__TRANSPORT),
        (Api::Fetch, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION),
        (Api::Fetch, RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR),
        (Api::Fetch, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART),
        (Api::Fetch, RD_KAFKA_RESP_ERR__TRANSPORT),
        (Api::Heartbeat, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID),
        (Api::Heartbeat, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
    ];
    // Each of its own cluster, at once: joining a group takes the mock three seconds.
    std::thread::scope(|scope| {
        for (api, error) in cases {
            let case = move || {
                let cluster = Cluster::start();
                produce(&cluster);
                cluster.answer(api, &[error; 2]);
                let (_consumer, inbound) = cluster.consumer();
                assert_eq!(wait_for(&inbound, records), 1, "{api:?} answered {error:?}");
            };
            std::thread::Builder::new()
                .name(format!("{api:?}-{error:?}"))
                .spawn_scoped(scope, case)
                .expect("the system can start a thread");
        }
    });
}

#[test]
fn what_is_not_allowed_ends_the_stage_with_what_it_was() {
    const TOPIC: RDKafkaRespErr = RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    const OF_GROUP: RDKafkaRespErr = RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    let cases = [
        (Api::FindCoordinator, OF_GROUP, GROUP),
        (Api::JoinGroup, OF_GROUP, GROUP),
        (Api::OffsetFetch, OF_GROUP, GROUP),
        (Api::OffsetFetch, TOPIC, EVENTS),
        (Api::Fetch, TOPIC, EVENTS),
    ];
    std::thread::scope(|scope| {
        for (api, error, said) in cases {
            let case = move || {
                let cluster = Cluster::start();
                produce(&cluster);
                cluster.answer(api, &[error; 50]);
                let (_consumer, inbound) = cluster.consumer();
                let failed = wait_for(&inbound, failure);
                assert_unauthorised(&failed, said, &format!("{api:?} answered {error:?}"));
            };
            std::thread::Builder::new()
                .name(format!("{api:?}-{error:?}"))
                .spawn_scoped(scope, case)
                .expect("the system can start a thread");
        }
    });
}

#[test]
fn a_member_that_is_not_allowed_any_more_ends_its_stage_when_it_joins_again() {
    let cluster = Cluster::start();
    let (_consumer, inbound) = cluster.consumer();
    wait_for(&inbound, |event| matches!(event, Inbound::Assigned(_)).then_some(()));
    // librdkafka keeps the first of the two to itself and joins again.
    for api in [Api::Heartbeat, Api::JoinGroup] {
        cluster.answer(api, &[RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 50]);
    }
    assert_unauthorised(&wait_for(&inbound, failure), GROUP, "heartbeat, then join");
}

#[test]
fn a_topic_that_may_not_be_seen_ends_the_stage_with_its_name() {
    let cluster = Cluster::start();
    cluster.mock.topic_error(EVENTS, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).expect("scripted");
    let (_consumer, inbound) = cluster.consumer();
    assert_unauthorised(&wait_for(&inbound, failure), EVENTS, "metadata");
}

#[test]
fn a_topic_that_was_deleted_ends_the_stage_once_brokers_have_had_time_to_agree() {
    let mut cluster = Cluster::start();
    let mut set = |name: &str, value: &str| cluster.connection.common.insert(name.into(), value.into());
    set("topic.metadata.propagation.max.ms", "3000");
    set("topic.metadata.refresh.interval.ms", "500");
    produce(&cluster);
    let (_consumer, inbound) = cluster.consumer();
    assert_eq!(wait_for(&inbound, records), 1);
    let missing = |yes: bool| {
        let error = if yes { RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART } else { RD_KAFKA_RESP_ERR_NO_ERROR };
        cluster.mock.topic_error(EVENTS, error).expect("scripted");
    };
    // A broker that has not heard of it yet says the same, and that heals.
    missing(true);
    let revoked = wait_for(&inbound, |event| match event {
        Inbound::Revoked { partitions, .. } => Some(partitions.len()),
        other => failure(other).map(|error| panic!("too early: {error}")),
    });
    assert_eq!(revoked, 1);
    missing(false);
    wait_for(&inbound, |event| match event {
        Inbound::Assigned(all) => (!all.is_empty()).then_some(()),
        other => failure(other).map(|error| panic!("it had healed: {error}")),
    });
    missing(true);
    let error = wait_for(&inbound, failure);
    assert!(matches!(&error, Error::MissingTopic(topic) if topic == EVENTS), "{error}");
}

/// Waits until the consumer has the one partition.
fn assigned(inbound: &Receiver<Inbound>) {
    wait_for(inbound, |event| match event {
        Inbound::Assigned(all) => (!all.is_empty()).then_some(()),
        other => failure(other).map(|error| panic!("an error that heals ended it: {error}")),
    });
}

#[test]
fn a_member_whose_place_was_taken_joins_anew_twice_and_the_third_time_says_whose_it_is() {
    let mut cluster = Cluster::start();
    cluster.connection.consumer.insert("heartbeat.interval.ms".into(), "500".into());
    // The mock cluster gives a place to another client only when its former one has timed out.
    cluster.connection.consumer.insert("session.timeout.ms".into(), "3000".into());
    produce(&cluster);
    let (_consumer, inbound) = cluster.consumer_in_place(Some("shop.precision.0"));
    assert_eq!(wait_for(&inbound, records), 1);
    for _ in 0..2 {
        cluster.answer(Api::Heartbeat, &[RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID]);
        let lost = wait_for(&inbound, |event| match event {
            Inbound::Revoked { partitions, lost, .. } => Some((partitions.len(), lost)),
            other => failure(other).map(|error| panic!("it may have been this very client: {error}")),
        });
        assert_eq!(lost, (1, true));
        assigned(&inbound);
        assert_eq!(wait_for(&inbound, records), 1, "from the committed offset again");
    }
    cluster.answer(Api::Heartbeat, &[RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID]);
    let error = wait_for(&inbound, failure);
    assert!(matches!(&error, Error::Fenced(id) if id == "shop.precision.0"), "{error}");
}

#[test]
fn a_member_that_comes_back_as_another_drops_what_it_had_and_vouches_for_nothing_until_then() {
    let mut cluster = Cluster::start();
    cluster.connection.consumer.insert("heartbeat.interval.ms".into(), "500".into());
    produce(&cluster);
    let (consumer, inbound) = cluster.consumer_in_place(Some("shop.precision.0"));
    assert_eq!(wait_for(&inbound, records), 1);
    // It is asked to join again, and the group does not know it any more. librdkafka says nothing of that, for a member
    // with a place of its own, and keeps its partition.
    cluster.answer(Api::JoinGroup, &[RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
    cluster.answer(Api::Heartbeat, &[RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS]);
    let (partitions, done) = wait_for(&inbound, |event| match event {
        Inbound::Revoked { partitions, lost: true, done } => Some((partitions, done)),
        Inbound::Revoked { .. } => panic!("another member may have had them"),
        other => failure(other).map(|error| panic!("that heals: {error}")),
    });
    assert_eq!(partitions, [crate::support::partition()]);
    let transactor = cluster.transactor("another", &consumer);
    let mut ledger = Ledger::new();
    ledger.assign(partitions[0].clone());
    let ticket = ledger.arrive(&partitions[0], 0, 1).expect("assigned");
    ledger
        .settle(ticket, Answer { output: None, bytes: 1, sign: twinlane_delivery::Sign::Good })
        .expect("settled once");
    let outcome = outcome_of(&transactor, ledger.take_settled(usize::MAX, |_| true));
    assert!(matches!(outcome, Outcome::Aborted(_)), "{outcome:?}");
    drop(done);
    assigned(&inbound);
    wait_for(&inbound, |event| matches!(event, Inbound::Reread).then_some(()));
}

#[test]
fn a_client_that_answers_has_a_pulse() {
    let cluster = Cluster::start();
    let (consumer, _inbound) = cluster.consumer();
    let pulse = Pulse::default();
    assert_eq!(pulse.beats(), 0, "it has not begun");
    consumer.beat(pulse.clone());
    let until = Instant::now() + LIMIT;
    while pulse.beats() < 3 {
        assert!(Instant::now() < until, "{} beats", pulse.beats());
        let _ = crossbeam_channel::after(Duration::from_millis(20)).recv();
    }
}

#[test]
fn a_broken_client_ends_the_stage_whatever_broke_it() {
    let mut cluster = Cluster::start();
    cluster.connection.consumer.insert("group.instance.id".into(), "one of a kind".into());
    cluster.connection.consumer.insert("heartbeat.interval.ms".into(), "500".into());
    let (_consumer, inbound) = cluster.consumer();
    wait_for(&inbound, |event| matches!(event, Inbound::Assigned(_)).then_some(()));
    cluster.answer(Api::Heartbeat, &[RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID; 5]);
    let error = wait_for(&inbound, failure);
    assert!(matches!(&error, Error::Client { .. }), "{error}");
}

#[test]
fn a_stop_ends_what_waits_for_brokers_that_are_away() {
    let cluster = Cluster::start();
    cluster.mock.broker_down(-1).expect("scripted");
    let began = Instant::now();
    let (consumer, inbound) = cluster.consumer();
    let transactor = cluster.transactor("away", &consumer);
    consumer.stop();
    wait_for(&inbound, |event| matches!(event, Inbound::Closed).then_some(()));
    drop(transactor);
    drop(consumer);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_sign_in_that_is_refused_ends_the_stage_and_a_start() {
    let mut cluster = Cluster::start();
    // The mock knows no SASL, and hangs up on whoever tries.
    for (name, value) in [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "nobody"),
        ("sasl.password", "hunter2"),
    ] {
        cluster.connection.common.insert(name.into(), value.into());
    }
    let (_consumer, inbound) = cluster.consumer();
    assert_shut_out(&wait_for(&inbound, failure));

    let topics = Topics::connect(&cluster.connection).expect("the settings are fine");
    let error = topics.describe(&[EVENTS.into()]).expect_err("nobody is let in");
    assert_shut_out(&error);
}

/// Whether records come within this time.
fn records_within(inbound: &Receiver<Inbound>, time: Duration) -> Option<usize> {
    let until = Instant::now() + time;
    loop {
        match inbound.recv_deadline(until) {
            Ok(event) => match records(event) {
                Some(count) => return Some(count),
                None => continue,
            },
            Err(_) => return None,
        }
    }
}

#[test]
fn a_stage_that_wants_no_records_for_a_moment_gets_them_at_once_when_it_does() {
    let cluster = Cluster::start();
    produce(&cluster);
    let (consumer, inbound) = cluster.consumer();
    assert_eq!(wait_for(&inbound, records), 1);
    let mut took: Vec<_> = std::iter::repeat_with(|| {
        consumer.pause();
        produce(&cluster);
        assert_eq!(records_within(&inbound, Duration::from_millis(300)), None, "it wants none");
        let wanted = Instant::now();
        consumer.resume(&[]);
        assert_eq!(wait_for(&inbound, records), 1);
        wanted.elapsed()
    })
    .take(5)
    .collect();
    took.sort_unstable();
    // librdkafka would take up to a second to look at partitions that were paused, half of one on average. The median, since
    // a busy machine may hold up one of them.
    assert!(took[2] < Duration::from_millis(200), "they were fetched meanwhile: {took:?}");
}

#[test]
fn a_stage_that_wants_no_records_for_long_still_follows_its_group_and_gets_them_in_the_end() {
    let cluster = Cluster::start();
    produce(&cluster);
    let (consumer, inbound) = cluster.consumer();
    assert_eq!(wait_for(&inbound, records), 1);
    consumer.pause();
    let (second, _events) = cluster.consumer();
    // Another member has come: the group asks for what it shares, and somebody has to poll to hear that.
    wait_for(&inbound, |event| match event {
        Inbound::Records(_) => panic!("it wants none"),
        Inbound::Revoked { .. } | Inbound::Assigned(_) => Some(()),
        _ => None,
    });
    // With that one gone there is no doubt whose the partition is.
    drop(second);
    wait_for(&inbound, |event| matches!(event, Inbound::Assigned(_)).then_some(()));
    produce(&cluster);
    assert_eq!(records_within(&inbound, Duration::from_secs(1)), None, "it wants none still");
    consumer.resume(&[]);
    assert_eq!(wait_for(&inbound, records), 1, "now it does");
}

#[test]
fn a_partition_that_was_held_alone_is_read_again_whatever_pressure_there_was() {
    let cluster = Cluster::start();
    produce(&cluster);
    let (consumer, inbound) = cluster.consumer();
    assert_eq!(wait_for(&inbound, records), 1);
    consumer.hold(&partition());
    consumer.pause();
    produce(&cluster);
    consumer.resume(&[]);
    assert_eq!(wait_for(&inbound, records), 1, "it is held no more");
}
