//! The mock cluster, with a consumer that has joined its group. It answers as scripted, but does not keep transactions
//! apart: what readers see is proved against the real Kafka, and here only what the client does.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use twinlane_delivery::{Answer, Ledger, TopicPartition, Window};
use twinlane_kafka::{
    BelowStart, Connection, Consumer, ConsumerOptions, Inbound, Outcome, Outgoing, Transactor,
    TransactorOptions,
};

/// What is read.
pub(crate) const EVENTS: &str = "events";
/// What is written.
pub(crate) const ANSWERS: &str = "answers";
/// The consumer's group.
pub(crate) const GROUP: &str = "workers";
/// More than any of these takes on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The cluster and how to reach it.
pub(crate) struct Cluster {
    pub(crate) mock: MockCluster<'static, DefaultProducerContext>,
    pub(crate) connection: Connection,
}

impl Cluster {
    /// One broker with both topics, of one partition each.
    pub(crate) fn start() -> Self {
        let mock = MockCluster::new(1).expect("a mock cluster");
        for topic in [EVENTS, ANSWERS] {
            mock.create_topic(topic, 1, 1).expect("created");
        }
        let connection = Connection::new(mock.bootstrap_servers());
        Self { mock, connection }
    }

    /// The next requests of this kind are answered with these errors, one each.
    pub(crate) fn answer(&self, api: RDKafkaApiKey, errors: &[RDKafkaRespErr]) {
        self.mock.request_errors(api, errors);
    }

    pub(crate) fn consumer(&self) -> (Consumer, Receiver<Inbound>) {
        self.consumer_in_place(None)
    }

    /// A consumer that has a place of its own in the group.
    pub(crate) fn consumer_in_place(&self, instance_id: Option<&str>) -> (Consumer, Receiver<Inbound>) {
        let options = ConsumerOptions {
            client_id: "stage".into(),
            group: GROUP.into(),
            instance_id: instance_id.map(str::to_owned),
            topics: vec![(EVENTS.into(), BelowStart::Stop)],
        };
        Consumer::start(&self.connection, options).expect("the settings are fine")
    }

    pub(crate) fn transactor(&self, id: &str, consumer: &Consumer) -> Transactor {
        let options = TransactorOptions {
            stage: "stage".into(),
            transactional_id: id.into(),
            max_batch_bytes: 1_000_000,
            timings: false,
        };
        Transactor::start(&self.connection, options, consumer.membership()).expect("the settings are fine")
    }
}

/// A member of the group with the one partition, and a ledger that makes windows.
pub(crate) struct Member {
    ledger: Ledger<Outgoing>,
    next_offset: i64,
    pub(crate) consumer: Consumer,
    _inbound: Receiver<Inbound>,
    pub(crate) cluster: Cluster,
}

impl Member {
    /// Waits until it has joined.
    pub(crate) fn join() -> Self {
        Self::join_with(|_| {})
    }

    /// As [`Member::join`], with other settings.
    pub(crate) fn join_with(settings: impl FnOnce(&mut Connection)) -> Self {
        let mut cluster = Cluster::start();
        settings(&mut cluster.connection);
        let (consumer, inbound) = cluster.consumer();
        wait_for(&inbound, |event| matches!(event, Inbound::Assigned(all) if !all.is_empty()).then_some(()));
        let mut member = Self { ledger: Ledger::new(), next_offset: 0, consumer, _inbound: inbound, cluster };
        member.ledger.assign(partition());
        member
    }

    pub(crate) fn transactor(&self, id: &str) -> Transactor {
        self.cluster.transactor(id, &self.consumer)
    }

    /// A window of records with one answer each.
    pub(crate) fn window(&mut self, records: usize) -> Window<Outgoing> {
        for _ in 0..records {
            let ticket = self.ledger.arrive(&partition(), self.next_offset, 1).expect("assigned");
            self.ledger
                .settle(
                    ticket,
                    Answer { output: Some(answer()), bytes: 1, sign: twinlane_delivery::Sign::Good },
                )
                .expect("settled once");
            self.next_offset += 1;
        }
        self.ledger.take_settled(usize::MAX, |_| true)
    }

    /// What becomes of a window of one record.
    pub(crate) fn outcome(&mut self, transactor: &Transactor) -> Outcome {
        let window = self.window(1);
        outcome_of(transactor, window)
    }

    /// What becomes of a window in the end, with how often it was aborted before: each time it is handed over
    /// again, as a stage does.
    pub(crate) fn outcome_at_last(&mut self, transactor: &Transactor) -> (usize, Outcome) {
        let mut window = self.window(1);
        for aborts in 0..20 {
            match outcome_of(transactor, window) {
                Outcome::Aborted(back) => window = back,
                other => return (aborts, other),
            }
        }
        panic!("aborted for ever");
    }
}

pub(crate) fn outcome_of(transactor: &Transactor, window: Window<Outgoing>) -> Outcome {
    transactor.submit(window);
    next_outcome(transactor)
}

pub(crate) fn next_outcome(transactor: &Transactor) -> Outcome {
    transactor.outcomes().recv_timeout(LIMIT).expect("an outcome in time")
}

/// Waits for the event that `wanted` picks; others are dropped, which lets revokes go on.
pub(crate) fn wait_for<T>(inbound: &Receiver<Inbound>, mut wanted: impl FnMut(Inbound) -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        let event = inbound.recv_deadline(deadline).expect("the event in time");
        if let Some(found) = wanted(event) {
            return found;
        }
    }
}

pub(crate) fn partition() -> TopicPartition {
    TopicPartition { topic: EVENTS.into(), partition: 0 }
}

fn answer() -> Outgoing {
    Outgoing {
        topic: ANSWERS.into(),
        partition: 0,
        key: None,
        value: Some("answer".into()),
        headers: twinlane_record::Headers::default(),
        timestamp_ms: None,
    }
}
