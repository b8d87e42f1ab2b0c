//! The consumer's callbacks: they run inside of a poll on the [thread that polls](crate::poller), turn rebalances into
//! [`Inbound`] events, and wait there for the stage where a revoke needs that. Beside them stands what both threads must
//! know of the client: what the stage holds, whether it wants records, and whether the client is of use still.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::KafkaError,
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use twinlane_delivery::{Budget, TopicPartition};

use crate::{
    BelowStart, ConsumerOptions, Error, Inbound,
    consumer::{Client, listed, log, named, with_assignment},
    error::{is_authorisation, is_missing},
    fail_point,
    lag::Committed,
    membership::Member,
    metric_names, pause,
    remade::Remade,
    sign_in::Heard,
    start::{Start, Starts, add, resolve},
};

/// How long a committed offset may lie beyond its log's end before that is believed.
pub(crate) const SETTLE: Duration = Duration::from_secs(4);
/// Between two questions that the brokers could not answer.
pub(crate) const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How long the brokers may take to say where partitions stand, before the question is put again: twice as long each time.
const PATIENCE: Duration = Duration::from_millis(1500);
const MOST_PATIENCE: Duration = Duration::from_secs(6);
/// After so long without an answer, with brokers away or not, a new client is no worse off.
const STUCK: Duration = Duration::from_secs(8);
/// How long one look at a topic may take.
const LOOK: Duration = Duration::from_secs(1);

/// Whether the stage wants records. Mostly it is only for some milliseconds that it does not, and then the thread that
/// polls waits: a `pause` throws away what was fetched, and librdkafka 2.12 looks for partitions that may be fetched again
/// once a second only. But whoever does not poll serves no rebalance either, so past [`HOLD_OFF`] partitions are paused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Intake {
    #[default]
    Open,
    /// Nothing is polled, since then.
    Held(Instant),
    /// All partitions are paused, and polling goes on.
    Paused,
}

/// How long a rebalance may wait for a stage that wants no records.
const HOLD_OFF: Duration = Duration::from_millis(500);
// Else a budget would count on what was fetched after it is thrown away.
const _: () = assert!(Budget::BRIEFLY.as_millis() < HOLD_OFF.as_millis());

/// Runs rebalances: librdkafka calls it on the polling thread.
pub(crate) struct Context {
    inbound: Sender<Inbound>,
    /// Name for logs and metrics.
    pub(crate) stage: String,
    group: String,
    pub(crate) instance_id: Option<String>,
    below_start: HashMap<String, BelowStart>,
    stopping: Arc<AtomicBool>,
    /// Disconnected once the stage is gone. The channel of events does not tell: what waits in it lives on.
    stage_gone: Receiver<()>,
    /// Whether the stage wants records. librdkafka remembers per partition that it is paused, also over the time
    /// in which another member has it, so each that comes is set to what holds now. Locked around the calls,
    /// or a pause and an assignment that cross would leave a partition behind.
    intake: Arc<Mutex<Intake>>,
    /// A partition was held alone, and may be paused.
    pub(crate) some_held: AtomicBool,
    pub(crate) remade: Remade,
    /// Up to where this process has committed, by itself and for certain.
    passed: Arc<Mutex<HashMap<TopicPartition, i64>>>,
    /// Up to where the group has committed, whoever did it: for the lag.
    pub(crate) group_committed: Committed,
    /// What the stage holds: partitions that it was given and has not let go. The client does not say once it is fenced.
    held: Mutex<Vec<TopicPartition>>,
    /// The member as which they are held.
    holds_as: Mutex<Option<Vec<u8>>>,
    /// The client does not get its committed offsets any more, and another one should.
    stuck: AtomicBool,
    /// Another client has taken the place of this one: the stage has no use for what still comes of it.
    retired: AtomicBool,
    /// Of brokers that do not let the client in.
    pub(crate) heard: Heard,
}

impl ClientContext for Context {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        if let Some(topic) = self.remade.hear(message) {
            // Its offsets are another topic's.
            self.passed().retain(|partition, _| *partition.topic != *topic);
        }
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.hear("consumer", &error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, client: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = named(list);
        let mut dropped = self.drop_what_another_may_have_had(client);
        match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(client, partitions),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                if dropped.is_empty() {
                    self.revoke(partitions.clone(), client.assignment_lost());
                }
                if let Err(error) = client.incremental_unassign(list) {
                    tracing::warn!(%error, "unassign");
                }
                dropped.retain(|partition| !partitions.contains(partition));
            }
            other => tracing::error!(?other, "rebalance failed"),
        }
        if !dropped.is_empty() {
            self.held().extend(dropped.iter().cloned());
            // They are ours again, but where they stand only the committed offsets can say.
            self.tell(Inbound::Assigned(dropped));
            self.tell(Inbound::Reread);
        }
    }
}

impl Context {
    pub(crate) fn new(
        options: &ConsumerOptions,
        inbound: Sender<Inbound>,
        stopping: Arc<AtomicBool>,
        stage_gone: Receiver<()>,
    ) -> Self {
        Self {
            inbound,
            stage: options.client_id.clone(),
            group: options.group.clone(),
            instance_id: options.instance_id.clone(),
            below_start: options.topics.iter().map(|(topic, below)| (topic.to_string(), *below)).collect(),
            stopping,
            stage_gone,
            intake: Arc::default(),
            some_held: AtomicBool::new(false),
            remade: Remade::default(),
            passed: Arc::default(),
            group_committed: Committed::default(),
            held: Mutex::default(),
            holds_as: Mutex::default(),
            stuck: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            heard: Heard::default(),
        }
    }

    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    /// The same for a client that takes the place of this one, whose partitions are let go.
    pub(crate) fn anew(&self) -> Self {
        self.retired.store(true, Ordering::Release);
        Self {
            inbound: self.inbound.clone(),
            stage: self.stage.clone(),
            group: self.group.clone(),
            instance_id: self.instance_id.clone(),
            below_start: self.below_start.clone(),
            stopping: self.stopping.clone(),
            stage_gone: self.stage_gone.clone(),
            intake: self.intake.clone(),
            some_held: AtomicBool::new(false),
            remade: Remade::default(),
            passed: self.passed.clone(),
            group_committed: Committed::default(),
            held: Mutex::default(),
            holds_as: Mutex::default(),
            stuck: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            heard: Heard::default(),
        }
    }

    fn passed(&self) -> MutexGuard<'_, HashMap<TopicPartition, i64>> {
        // Each offset is whole whatever panicked while it was locked.
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to where this process has committed, by itself and for certain.
    pub(crate) fn committed(&self, partition: &TopicPartition) -> Option<i64> {
        self.passed().get(partition).copied()
    }

    /// These partitions' offsets were committed, for certain.
    pub(crate) fn note_committed<'p>(&self, offsets: impl Iterator<Item = (&'p TopicPartition, i64)>) {
        let mut passed = self.passed();
        for (partition, offset) in offsets {
            self.group_committed.moved(partition, offset);
            match passed.get_mut(partition) {
                Some(known) => *known = offset,
                None => drop(passed.insert(partition.clone(), offset)),
            }
        }
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, Vec<TopicPartition>> {
        // Each call changes it whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn holds_as(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        // An id is whole whatever panicked while it was locked.
        self.holds_as.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member that was expelled may come back as another without having been told: librdkafka joins anew when a
    /// JoinGroup is refused, and takes a static member's partitions for its own still. Whoever had them meanwhile has
    /// answered their records, so the stage drops all of them. Gives those that were dropped.
    fn drop_what_another_may_have_had(&self, client: &BaseConsumer<Self>) -> Vec<TopicPartition> {
        let member = Member::of(client).map(|member| member.id);
        let held = self.held().clone();
        if held.is_empty() || *self.holds_as() == member {
            *self.holds_as() = member;
            return Vec::new();
        }
        if !client.assignment_lost() {
            tracing::warn!(
                stage = self.stage,
                "the group had expelled this member and taken it in as another one; reading its partitions again"
            );
        }
        // Until the stage has dropped them, no metadata vouches for a window.
        self.revoke(held.clone(), true);
        *self.holds_as() = member;
        held
    }

    fn assign(&self, client: &BaseConsumer<Self>, partitions: Vec<TopicPartition>) {
        // A topic of which nothing was read starts at its committed offsets, whatever it was before.
        let read = client.assignment().map(|all| named(&all)).unwrap_or_default();
        self.remade.topics().retain(|topic| read.iter().any(|one| *one.topic == **topic));
        let Some(starts) = self.resolve(client, &partitions) else { return };
        let Starts { mut offsets, read, halted } = Starts::of(starts);
        // Assigned and paused: the group protocol wants them back from us at the next revoke. The ledger does not
        // know them, so a record that slips through is refused.
        halted.iter().for_each(|partition| add(&mut offsets, partition, Offset::Beginning));
        let (reading, not_read) = (listed(&read), listed(&halted));
        // The stage opens the epochs before the first record can arrive.
        self.held().extend(partitions);
        self.tell(Inbound::Assigned(read));
        let assigned = client.incremental_assign(&offsets).and_then(|()| {
            let intake = self.intake();
            client.pause(&not_read)?;
            if *intake == Intake::Paused { client.pause(&reading) } else { client.resume(&reading) }
        });
        if let Err(source) = assigned {
            self.tell(Inbound::Failed(Error::Client { what: "assign partitions".into(), source }));
        }
        for partition in halted {
            self.tell(Inbound::Halted(partition));
        }
    }

    pub(crate) fn intake(&self) -> MutexGuard<'_, Intake> {
        // It is whole whatever panicked while it was locked.
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is to be polled now; what lasts becomes a pause.
    pub(crate) fn holds_off(&self, client: &Client) -> bool {
        let mut intake = self.intake();
        match *intake {
            Intake::Open | Intake::Paused => false,
            Intake::Held(since) if since.elapsed() < HOLD_OFF => true,
            Intake::Held(_) => {
                *intake = Intake::Paused;
                with_assignment(client, "pause", |all| client.pause(all));
                false
            }
        }
    }

    /// Whether [`Context::resolve`] has given up.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Acquire)
    }

    /// Asks for the offsets until the brokers answer; heartbeats go on meanwhile. `None`: stopping, or stuck.
    pub(crate) fn resolve(
        &self,
        client: &BaseConsumer<Self>,
        partitions: &[TopicPartition],
    ) -> Option<Vec<(TopicPartition, Start)>> {
        let began = Instant::now();
        let mut patience = PATIENCE;
        loop {
            let policy = |topic: &str| self.below_start.get(topic).copied().unwrap_or(BelowStart::Stop);
            let passed = |partition: &TopicPartition| self.committed(partition);
            match resolve(client, partitions, patience, policy, passed) {
                // After a failover a log's end may lie behind what was committed, for a moment, and a group's offsets behind
                // themselves.
                Ok(starts)
                    if starts.iter().any(|(_, s)| s.is_beyond_end() || s.is_behind())
                        && began.elapsed() < SETTLE =>
                {
                    pause(SETTLE / 20);
                }
                Ok(starts) => {
                    self.account(&starts);
                    return Some(starts);
                }
                Err(error) => {
                    let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                    // A connection that broke while it was signed in heals, and nobody polls meanwhile to hear of another cause.
                    let shut_out = code == RDKafkaErrorCode::Authentication && began.elapsed() > STUCK;
                    if is_authorisation(code) || shut_out {
                        self.tell(Inbound::Failed(self.not_allowed(code)));
                        return None;
                    }
                    tracing::warn!(%error, "waiting for the committed offsets");
                    if code == RDKafkaErrorCode::OperationTimedOut {
                        patience = (patience * 2).min(MOST_PATIENCE);
                        if let Some(partition) = partitions.first() {
                            self.tell(Inbound::Unstable(partition.clone()));
                        }
                    }
                    // It may wait for a coordinator that is gone (librdkafka #5456), and then it waits for ever.
                    if code == RDKafkaErrorCode::OperationTimedOut && began.elapsed() > STUCK {
                        self.stuck.store(true, Ordering::Release);
                        return None;
                    }
                    if is_missing(code) {
                        look_again(client, partitions);
                    }
                    // Some errors come at once, for as long as a coordinator or a topic is away.
                    pause(ASK_AGAIN);
                }
            }
            if self.stopping.load(Ordering::Acquire) {
                return None;
            }
        }
    }

    /// Records that are gone are never passed over in silence.
    fn account(&self, starts: &[(TopicPartition, Start)]) {
        for (partition, start) in starts {
            self.group_committed.said(partition, start);
            let action = match start {
                Start::From(_) => continue,
                Start::Behind { committed, passed } => {
                    tracing::error!(
                        stage = self.stage, %partition, committed, passed,
                        "the group says an offset that this process has passed: its coordinator has forgotten. Going on from \
                         where this process had committed; to answer records again, stop all replicas before moving a \
                         committed offset back"
                    );
                    "went_back"
                }
                Start::Skipping { committed, first } => {
                    tracing::error!(
                        stage = self.stage, %partition, committed, log_start = first, gone = first - committed,
                        "records were deleted before they were answered; going on from the earliest, as the \
                         source's `when_below_start` says"
                    );
                    "skipped"
                }
                Start::Halted { committed, log } => {
                    // Beyond the end nobody can say how many: they were another topic's.
                    let gone = (log.0 - committed).max(0);
                    tracing::error!(
                        stage = self.stage, %partition, committed, log_start = log.0, log_end = log.1, gone,
                        "the committed offset lies outside the log, because records were deleted before they were answered or \
                         the topic was made anew; stopping the partition until its committed offset is moved. For deleted \
                         records, the source can say `when_below_start: earliest`"
                    );
                    "stopped"
                }
            };
            self.count_out_of_log(action);
        }
    }

    pub(crate) fn count_out_of_log(&self, action: &'static str) {
        metrics::counter!(
            metric_names::OFFSETS_OUT_OF_LOG, "stage" => self.stage.clone(), "action" => action
        )
        .increment(1);
    }

    /// What the brokers did not allow to this consumer.
    pub(crate) fn not_allowed(&self, code: RDKafkaErrorCode) -> Error {
        let what = match code {
            RDKafkaErrorCode::TopicAuthorizationFailed => {
                format!("read topic `{}`", self.topics().join("`, `"))
            }
            RDKafkaErrorCode::GroupAuthorizationFailed => format!("be a member of group `{}`", self.group),
            _ => "sign in to the brokers and consume".into(),
        };
        Error::Unauthorised { what, code }
    }

    pub(crate) fn topics(&self) -> Vec<&str> {
        let mut topics: Vec<_> = self.below_start.keys().map(String::as_str).collect();
        topics.sort_unstable();
        topics
    }

    pub(crate) fn revoke(&self, partitions: Vec<TopicPartition>, lost: bool) {
        self.held().retain(|held| !partitions.contains(held));
        let (done, resolved) = bounded(1);
        fail_point::pass("in_revoke");
        self.tell(Inbound::Revoked { partitions, lost, done });
        // Returning hands the partitions over, so this waits as long as it takes: until the transaction
        // thread has aborted or had its offsets accepted.
        select! {
            recv(resolved) -> _ => {}
            recv(self.stage_gone) -> _ => {}
        }
        fail_point::pass("in_revoke");
    }

    fn tell(&self, event: Inbound) {
        if !self.retired.load(Ordering::Acquire) {
            // Fails only when the stage is gone, and then nobody wants to know.
            let _ = self.inbound.send(event);
        }
    }
}

/// Has the client ask for these topics. Its picture of them may come from a broker that had just been started, and it would
/// keep that for some seconds: long enough to be waited for, and no reason to believe that a partition is gone.
fn look_again(client: &BaseConsumer<Context>, partitions: &[TopicPartition]) {
    let topics: BTreeSet<&str> = partitions.iter().map(|partition| &*partition.topic).collect();
    for topic in topics {
        // Brokers that do not answer are asked again with the offsets.
        let _ = client.fetch_metadata(Some(topic), LOOK);
    }
}
