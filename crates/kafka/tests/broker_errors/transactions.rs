//! What becomes of a window.

use rdkafka::types::{
    RDKafkaApiKey as Api,
    RDKafkaRespErr::{self, *},
};
use twinlane_kafka::{Error, Outcome};

use crate::support::{self, ANSWERS, Cluster, GROUP, Member, next_outcome, outcome_of};

#[track_caller]
fn assert_committed(outcome: &Outcome, case: &str) {
    assert!(matches!(outcome, Outcome::Committed(_)), "{case}: {outcome:?}");
}

#[test]
fn a_full_disk_heals_and_the_window_is_committed_after_all() {
    let mut member = Member::join();
    let transactor = member.transactor("disk");
    let full = [RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR; 5];
    member.cluster.answer(Api::Produce, &full);
    let outcome = member.outcome(&transactor);
    assert_committed(&outcome, "a full disk, without an abort");

    let gone = [RD_KAFKA_RESP_ERR_LOG_DIR_NOT_FOUND; 2];
    member.cluster.answer(Api::Produce, &gone);
    let (aborts, outcome) = member.outcome_at_last(&transactor);
    assert_committed(&outcome, "a log folder that is gone");
    assert!(aborts >= 2, "librdkafka does not try this one again by itself: {aborts}");
}

#[test]
fn errors_of_a_moment_heal_wherever_they_are_met() {
    let mut member = Member::join();
    let transactor = member.transactor("moment");
    let outcome = member.outcome(&transactor);
    assert_committed(&outcome, "no error");
    for (api, error) in [
        (Api::AddPartitionsToTxn, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (Api::AddPartitionsToTxn, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (Api::AddPartitionsToTxn, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS),
        (Api::AddPartitionsToTxn, RD_KAFKA_RESP_ERR__TRANSPORT),
        (Api::Produce, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION),
        (Api::Produce, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS),
        (Api::Produce, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND),
        (Api::Produce, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT),
        (Api::Produce, RD_KAFKA_RESP_ERR_INVALID_MSG),
        (Api::Produce, RD_KAFKA_RESP_ERR__TRANSPORT),
        (Api::AddOffsetsToTxn, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (Api::AddOffsetsToTxn, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (Api::AddOffsetsToTxn, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS),
        (Api::AddOffsetsToTxn, RD_KAFKA_RESP_ERR__TRANSPORT),
        (Api::TxnOffsetCommit, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (Api::TxnOffsetCommit, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (Api::TxnOffsetCommit, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS),
        (Api::TxnOffsetCommit, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT),
        (Api::TxnOffsetCommit, RD_KAFKA_RESP_ERR__TRANSPORT),
        (Api::EndTxn, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (Api::EndTxn, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (Api::EndTxn, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS),
        (Api::EndTxn, RD_KAFKA_RESP_ERR__TRANSPORT),
    ] {
        member.cluster.answer(api, &[error; 2]);
        let (aborts, outcome) = member.outcome_at_last(&transactor);
        assert_committed(&outcome, &format!("{api:?} answered {error:?}, {aborts} aborts"));
        member.cluster.mock.clear_request_errors(api);
    }
}

#[test]
fn a_producer_that_begins_waits_for_its_coordinator() {
    let mut member = Member::join();
    for (api, error) in [
        (Api::FindCoordinator, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE),
        (Api::FindCoordinator, RD_KAFKA_RESP_ERR__TRANSPORT),
        (Api::InitProducerId, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (Api::InitProducerId, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (Api::InitProducerId, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS),
        (Api::InitProducerId, RD_KAFKA_RESP_ERR__TRANSPORT),
    ] {
        member.cluster.answer(api, &[error; 2]);
        let transactor = member.transactor(&format!("{api:?}-{error:?}"));
        let outcome = member.outcome(&transactor);
        assert_committed(&outcome, &format!("{api:?} answered {error:?}"));
        member.cluster.mock.clear_request_errors(api);
    }
}

#[test]
fn what_is_not_allowed_ends_the_stage_with_what_it_was_and_is_not_tried_for_ever() {
    const ID: RDKafkaRespErr = RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    const CLUSTER: RDKafkaRespErr = RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    const TOPIC: RDKafkaRespErr = RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    const OF_GROUP: RDKafkaRespErr = RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    let mut member = Member::join();
    for (api, error, said) in [
        (Api::AddPartitionsToTxn, TOPIC, ANSWERS),
        (Api::AddPartitionsToTxn, ID, "transactional id"),
        (Api::Produce, TOPIC, ANSWERS),
        (Api::Produce, CLUSTER, "not authorised"),
        (Api::AddOffsetsToTxn, OF_GROUP, GROUP),
        (Api::AddOffsetsToTxn, ID, "transactional id"),
        (Api::TxnOffsetCommit, OF_GROUP, GROUP),
        (Api::TxnOffsetCommit, TOPIC, support::EVENTS),
        (Api::TxnOffsetCommit, ID, "transactional id"),
        (Api::EndTxn, ID, "transactional id"),
    ] {
        let case = format!("{api:?} answered {error:?}");
        let transactor = member.transactor(&format!("{api:?}-{error:?}"));
        let outcome = member.outcome(&transactor);
        assert_committed(&outcome, "before the access is revoked");
        member.cluster.answer(api, &[error; 3]);
        let outcome = member.outcome(&transactor);
        assert_unauthorised(&outcome, said, &case);
        member.cluster.mock.clear_request_errors(api);
    }
    for (api, error) in [
        (Api::FindCoordinator, ID),
        (Api::FindCoordinator, CLUSTER),
        (Api::InitProducerId, ID),
        (Api::InitProducerId, CLUSTER),
    ] {
        member.cluster.answer(api, &[error; 3]);
        let transactor = member.transactor(&format!("{api:?}-{error:?}"));
        let outcome = next_outcome(&transactor);
        assert_unauthorised(&outcome, "transactional id", &format!("{api:?} answered {error:?}"));
        member.cluster.mock.clear_request_errors(api);
    }
}

#[track_caller]
fn assert_unauthorised(outcome: &Outcome, said: &str, case: &str) {
    let Outcome::Failed(error @ Error::Unauthorised { .. }) = outcome else { panic!("{case}: {outcome:?}") };
    let sentence = error.to_string();
    assert!(sentence.contains(said) && sentence.contains("grant the principal access"), "{case}: {sentence}");
}

#[test]
fn a_record_that_a_broker_refuses_for_good_ends_the_stage_with_its_topic() {
    let mut member = Member::join();
    for error in [RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, RD_KAFKA_RESP_ERR_INVALID_RECORD] {
        let transactor = member.transactor(&format!("{error:?}"));
        member.cluster.answer(Api::Produce, &[error; 3]);
        let outcome = member.outcome(&transactor);
        let is_refused =
            matches!(&outcome, Outcome::Failed(Error::Refused { topic, .. }) if topic == ANSWERS);
        assert!(is_refused, "{error:?}: {outcome:?}");
        member.cluster.mock.clear_request_errors(Api::Produce);
    }
}

#[test]
fn a_fenced_producer_is_built_anew_once_and_the_second_time_the_stage_yields() {
    let mut member = Member::join();
    for (api, error) in [
        (Api::AddPartitionsToTxn, RD_KAFKA_RESP_ERR_PRODUCER_FENCED),
        (Api::Produce, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH),
        (Api::TxnOffsetCommit, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH),
        (Api::EndTxn, RD_KAFKA_RESP_ERR_PRODUCER_FENCED),
    ] {
        let case = format!("{api:?} answered {error:?}");
        let transactor = member.transactor(&case);
        member.cluster.answer(api, &[error]);
        let outcome = member.outcome(&transactor);
        assert!(matches!(outcome, Outcome::Lost), "{case}: {outcome:?}");
        let outcome = member.outcome(&transactor);
        assert_committed(&outcome, &format!("after {case}"));
        member.cluster.answer(api, &[error]);
        let outcome = member.outcome(&transactor);
        assert!(matches!(&outcome, Outcome::Failed(Error::Fenced(id)) if *id == case), "{case}: {outcome:?}");
    }
}

#[test]
fn a_producer_that_is_fenced_while_it_begins_begins_again_but_not_for_ever() {
    let mut member = Member::join();
    let fenced = RD_KAFKA_RESP_ERR_PRODUCER_FENCED;
    member.cluster.answer(Api::InitProducerId, &[fenced; 2]);
    let transactor = member.transactor("now and then");
    assert_committed(&member.outcome(&transactor), "fenced twice while it began");
    member.cluster.answer(Api::InitProducerId, &[fenced; 20]);
    let outcome = next_outcome(&member.transactor("always"));
    assert!(matches!(&outcome, Outcome::Failed(Error::Fenced(id)) if id == "always"), "{outcome:?}");
}

#[test]
fn a_new_producer_first_aborts_what_the_group_may_take_for_open() {
    let mut member = Member::join();
    let transactor = member.transactor("new");
    // The first offsets that it sends are those of the transaction that is aborted: what they are answered is no window's.
    member.cluster.answer(Api::TxnOffsetCommit, &[RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION]);
    assert_committed(&member.outcome(&transactor), "the first window");
    member.cluster.answer(Api::TxnOffsetCommit, &[RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION]);
    let outcome = member.outcome(&transactor);
    assert!(matches!(outcome, Outcome::Aborted(_)), "{outcome:?}");
    // Asked for, it does it again, and goes on.
    transactor.clear(support::partition());
    assert_committed(&member.outcome(&transactor), "the next window");
}

#[test]
fn offsets_that_a_member_of_the_past_sends_abort_the_window_and_it_comes_back_whole() {
    let mut member = Member::join();
    let transactor = member.transactor("past");
    assert_committed(&member.outcome(&transactor), "the first window");
    for error in [
        RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID,
    ] {
        member.cluster.answer(Api::TxnOffsetCommit, &[error]);
        let window = member.window(3);
        let Outcome::Aborted(back) = outcome_of(&transactor, window.clone()) else { panic!("{error:?}") };
        assert_eq!((back.records(), back.outputs().count()), (3, 3), "{error:?}");
        assert_committed(&outcome_of(&transactor, back), "once more, as a member");
    }
}

#[test]
fn without_a_valid_membership_nothing_is_committed() {
    let cluster = Cluster::start();
    // The consumer never gets into its group.
    cluster.answer(Api::JoinGroup, &[RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE; 200]);
    let (consumer, _inbound) = cluster.consumer();
    let transactor = cluster.transactor("nobody", &consumer);
    let mut ledger = twinlane_delivery::Ledger::new();
    ledger.assign(support::partition());
    let ticket = ledger.arrive(&support::partition(), 0, 1).expect("assigned");
    ledger
        .settle(
            ticket,
            twinlane_delivery::Answer { output: None, bytes: 0, sign: twinlane_delivery::Sign::Good },
        )
        .expect("settled once");
    let mut window = ledger.take_settled(usize::MAX, |_| true);
    for _ in 0..3 {
        match outcome_of(&transactor, window) {
            Outcome::Aborted(back) => window = back,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_full_local_queue_pushes_back_and_the_whole_window_is_committed() {
    let mut member = Member::join_with(|connection| {
        connection.producer.insert("queue.buffering.max.messages".into(), "10".into());
    });
    let transactor = member.transactor("queue");
    let window = member.window(1000);
    assert_committed(&outcome_of(&transactor, window), "a hundred times what the queue holds");
}

#[test]
fn a_topic_that_was_deleted_ends_the_stage_once_brokers_have_had_time_to_agree() {
    let mut member = Member::join_with(|connection| {
        connection.common.insert("topic.metadata.propagation.max.ms".into(), "3000".into());
        connection.producer.insert("topic.metadata.refresh.interval.ms".into(), "500".into());
    });
    let transactor = member.transactor("deleted");
    let outcome = member.outcome(&transactor);
    assert_committed(&outcome, "while the topic is there");
    member.cluster.mock.topic_error(ANSWERS, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).expect("scripted");
    let mut window = member.window(1);
    let mut aborts = 0;
    let error = loop {
        match outcome_of(&transactor, window) {
            Outcome::Aborted(back) => (window, aborts) = (back, aborts + 1),
            Outcome::Failed(error) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert!(aborts > 0, "a topic may be missing for a moment");
    assert!(matches!(&error, Error::MissingTopic(topic) if topic == ANSWERS), "{error}");
}
