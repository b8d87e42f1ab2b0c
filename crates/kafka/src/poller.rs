//! The consumer thread: polls, hands over what comes, and moves the position when the stage asks for it. Rebalances
//! run inside of its polls, in [`Context`](crate::context).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList, consumer::Consumer as _, error::KafkaError,
    message::BorrowedMessage, types::RDKafkaErrorCode,
};
use twinlane_delivery::TopicPartition;
use twinlane_record::{Blocks, Envelope};

use crate::{
    Error, Inbound,
    complaints::Complaints,
    consumer::{Client, Command, join, listed, named},
    context::{ASK_AGAIN, Intake, SETTLE},
    error::{is_authorisation, is_missing},
    membership::Current,
    message, pause,
    start::Starts,
};

/// Records handed over at once at most: enough to amortise the channel, few enough to keep latency low.
const GULP: usize = 1024;
/// Bytes handed over at once, but for the record that passes it. With the capacity it bounds what waits
/// outside of the stage's budget.
const GULP_BYTES: usize = 1 << 20;
const POLL: Duration = Duration::from_millis(50);
/// While the stage wants no records: between two questions whether that has lasted. It says at once when it wants some again.
const HELD: Duration = Duration::from_millis(20);
/// Between two questions for a topic that is missing, and how long each may take.
const MISSING_ASK: Duration = Duration::from_secs(1);

/// Two processes under one id take the place from each other every few seconds. One coordinator's death takes it once, and
/// coordinators do not die three times within this time.
const RIVALS_MEET: Duration = Duration::from_secs(30);
/// So often within that time means that there is another one.
const RIVAL: usize = 3;

/// What the thread owns.
pub(crate) struct Poller {
    client: Arc<Client>,
    /// The same, for all who use it.
    current: Current,
    /// For building it anew.
    config: ClientConfig,
    /// When somebody else took its place lately, and no absence of the brokers explains that.
    fenced_at: Vec<Instant>,
    /// All brokers were away since the client was built.
    cut_off: bool,
    inbound: Sender<Inbound>,
    orders: Receiver<Command>,
    /// One allocation per topic name instead of one per record.
    topics: Vec<Arc<str>>,
    blocks: Blocks,
    complaints: Complaints,
    /// How long a topic may be missing before that is believed.
    missing_grace: Duration,
    /// Since when the brokers have said that a topic is not there.
    missing_since: Option<Instant>,
    asked_at: Option<Instant>,
}

impl Poller {
    pub(crate) fn new(
        current: Current,
        config: ClientConfig,
        inbound: Sender<Inbound>,
        orders: Receiver<Command>,
        missing_grace: Duration,
    ) -> Self {
        Self {
            client: current.get(),
            current,
            config,
            fenced_at: Vec::new(),
            cut_off: false,
            inbound,
            orders,
            topics: Vec::new(),
            blocks: Blocks::default(),
            complaints: Complaints::default(),
            missing_grace,
            missing_since: None,
            asked_at: None,
        }
    }

    /// Until the stage stops it or is gone.
    pub(crate) fn run(mut self) {
        loop {
            let holds_off = self.client.context().holds_off(&self.client);
            match self.order(holds_off) {
                Some(Command::Rewind(partitions)) => self.rewind(partitions),
                Some(Command::Stop) => break,
                None if holds_off => continue,
                Some(Command::Look) | None => {}
            }
            self.halt_remade();
            let missing = self.missing_topic().map(|topic| Inbound::Failed(Error::MissingTopic(topic)));
            if missing.is_some_and(|failed| self.inbound.send(failed).is_err()) || !self.gulp() {
                break;
            }
            if self.client.context().is_stuck() {
                tracing::warn!(
                    stage = self.client.context().stage,
                    "the client does not get its committed offsets; joining with a new one"
                );
                let failed = self.renew().err().map(Inbound::Failed);
                if failed.is_some_and(|failed| self.inbound.send(failed).is_err()) {
                    break;
                }
            }
        }
        self.leave();
        let _ = self.inbound.send(Inbound::Closed);
    }

    /// What the stage wants next; one that is gone wants it to stop.
    fn order(&self, holds_off: bool) -> Option<Command> {
        // To wait for no time would yield to other threads before it looks a last time.
        let order = if holds_off {
            self.orders.recv_timeout(HELD).map_err(|none| none.is_disconnected())
        } else {
            self.orders.try_recv().map_err(|none| none.is_disconnected())
        };
        order.map_or_else(|is_gone| is_gone.then_some(Command::Stop), Some)
    }

    /// Polls until there is nothing or enough, and hands it over. False: the stage is gone.
    fn gulp(&mut self) -> bool {
        let client = self.client.clone();
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut patience = POLL;
        while records.len() < GULP && bytes < GULP_BYTES {
            match client.poll(patience) {
                Some(Ok(message)) => {
                    let record = self.envelope(&message);
                    bytes += record.size();
                    records.push(record);
                    patience = Duration::ZERO;
                }
                Some(Err(error)) => {
                    if let Some(event) = self.classify(error) {
                        return self.inbound.send(event).is_ok();
                    }
                    break;
                }
                // Also after a rebalance was served, so this does not mean that the topics are empty.
                None => break,
            }
        }
        // What was fetched from a topic that was made anew comes after its first records.
        let remade = client.context().remade.topics();
        records.retain(|record| remade.is_empty() || !remade.contains(&*record.at.topic));
        drop(remade);
        records.is_empty() || self.inbound.send(Inbound::Records(records)).is_ok()
    }

    fn envelope(&mut self, message: &BorrowedMessage<'_>) -> Envelope {
        let name = message.topic();
        let known = self.topics.iter().find(|topic| ***topic == *name).cloned();
        let topic = known.unwrap_or_else(|| {
            let topic: Arc<str> = name.into();
            self.topics.push(topic.clone());
            topic
        });
        message::copied(message, topic, &mut self.blocks)
    }

    /// An event for the stage, or `None` for what heals by itself.
    fn classify(&mut self, error: KafkaError) -> Option<Inbound> {
        use RDKafkaErrorCode as E;
        if let Some(refused) = self.client.context().heard.failure(&self.config) {
            return Some(Inbound::Failed(refused));
        }
        let is_fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        match error.rdkafka_error_code() {
            Some(code) if is_authorisation(code) => {
                Some(Inbound::Failed(self.client.context().not_allowed(code)))
            }
            Some(E::AutoOffsetReset | E::OffsetOutOfRange) => Some(Inbound::Reread),
            Some(E::FencedInstanceId) if self.client.context().instance_id.is_some() => {
                self.join_anew().err().map(Inbound::Failed)
            }
            // The code of a fatal error is what caused it.
            code if is_fatal || code == Some(E::Fatal) => {
                Some(Inbound::Failed(Error::Client { what: "consume".into(), source: error }))
            }
            code => {
                self.cut_off |= code == Some(E::AllBrokersDown);
                if code.is_some_and(is_missing) {
                    self.missing_since.get_or_insert_with(Instant::now);
                }
                self.complaints.tell("consuming goes on when this heals", &error, "");
                None
            }
        }
    }

    /// Somebody else has this member's place in the group. That may have been this very client, where the answer to a
    /// JoinGroup came too late, as it may be whenever a coordinator dies; so a new one takes the place back. When it is
    /// taken again and again, another process runs under the same id, and this one yields; but brokers that all went and
    /// came back explain it each time.
    fn join_anew(&mut self) -> Result<(), Error> {
        let context = self.client.context();
        if !self.cut_off {
            self.fenced_at.retain(|at| at.elapsed() < RIVALS_MEET);
            self.fenced_at.push(Instant::now());
            if self.fenced_at.len() >= RIVAL {
                return Err(Error::Fenced(context.instance_id.clone().unwrap_or_default()));
            }
        }
        tracing::warn!(stage = context.stage, "fenced by another member of the same name; joining anew");
        self.renew()
    }

    /// Puts a new client in the place of this one. What the stage holds of it is lost.
    fn renew(&mut self) -> Result<(), Error> {
        let context = self.client.context();
        let held = context.held().clone();
        if !held.is_empty() {
            context.revoke(held, true);
        }
        let client = join(&self.config, context.anew())?;
        self.current.replace(client.clone());
        let former = std::mem::replace(&mut self.client, client);
        self.cut_off = false;
        // Ending takes it a while, so that happens here, and not where somebody lets go of it last.
        let end = move || {
            while Arc::strong_count(&former) > 1 {
                pause(ASK_AGAIN);
            }
            drop(former);
        };
        let ends = std::thread::Builder::new().name("kafka-farewell".into()).spawn(end);
        ends.expect("the system can start a thread");
        Ok(())
    }

    /// Stops the partitions of topics that were made anew while they were read.
    fn halt_remade(&self) {
        let context = self.client.context();
        let remade = std::mem::take(&mut *context.remade.topics());
        if remade.is_empty() {
            return;
        }
        let assigned = self.client.assignment().map(|all| named(&all)).unwrap_or_default();
        for partition in assigned.into_iter().filter(|partition| remade.contains(&*partition.topic)) {
            if let Err(error) = self.client.pause(&listed(std::slice::from_ref(&partition))) {
                tracing::warn!(%error, %partition, "the ledger refuses its records");
            }
            let position = self.client.position().ok();
            let position = position
                .and_then(|all| all.find_partition(&partition.topic, partition.partition)?.offset().to_raw());
            tracing::error!(
                stage = context.stage, %partition, position,
                "the topic was deleted and made anew while it was read; stopping the partition. A restart reads it \
                 from its committed offset, which the brokers forget with the old topic, or else from its beginning"
            );
            context.count_out_of_log("stopped");
            let _ = self.inbound.send(Inbound::Halted(partition));
        }
    }

    /// A topic that the brokers have missed for longer than they need to agree that it is there: it was
    /// deleted, and does not come back by itself. librdkafka says so once, so it is asked again here.
    fn missing_topic(&mut self) -> Option<String> {
        let since = self.missing_since?;
        if self.asked_at.is_some_and(|at| at.elapsed() < MISSING_ASK) {
            return None;
        }
        self.asked_at = Some(Instant::now());
        let mut missing = None;
        for topic in self.client.context().topics() {
            // Brokers that are away can come back.
            let metadata = self.client.fetch_metadata(Some(topic), MISSING_ASK).ok()?;
            if metadata.topics().iter().any(|found| found.error().is_some_and(|code| is_missing(code.into())))
            {
                missing = Some(topic.to_owned());
            }
        }
        if missing.is_none() {
            self.missing_since = None;
        }
        missing.filter(|_| since.elapsed() >= self.missing_grace)
    }

    fn rewind(&mut self, partitions: Vec<TopicPartition>) {
        let context = self.client.context().clone();
        // A rebalance may have come between the wish and now; what is gone is its next owner's to read.
        let partitions = self.still_assigned(partitions);
        let Some(starts) = context.resolve(&self.client, &partitions) else { return };
        let Starts { offsets, read, halted } = Starts::of(starts);
        let _ = self.client.pause(&listed(&halted));
        for partition in halted {
            let _ = self.inbound.send(Inbound::Halted(partition));
        }
        if read.is_empty() {
            return;
        }
        let event = match self.read_from(offsets) {
            Ok(()) => Inbound::Rewound(read),
            Err(error) => {
                tracing::warn!(%error, "could not move to the committed offsets; trying again");
                pause(SETTLE / 20);
                // The stage still refuses these partitions' records, so asking it again loses nothing.
                Inbound::Reread
            }
        };
        let _ = self.inbound.send(event);
    }

    fn still_assigned(&self, mut partitions: Vec<TopicPartition>) -> Vec<TopicPartition> {
        // That cannot be asked only of a client that is broken, and then polling says so.
        let assigned = self.client.assignment().map(|all| named(&all)).unwrap_or_default();
        partitions.retain(|partition| assigned.contains(partition));
        partitions
    }

    /// Moves the consumer. A partition whose position fell out of its log is not fetched any more and cannot
    /// be sought either; such a one is given back and taken again.
    fn read_from(&self, list: TopicPartitionList) -> Result<(), KafkaError> {
        let sought = self.client.seek_partitions(list.clone(), Duration::from_secs(10))?;
        let mut again = TopicPartitionList::new();
        for element in sought.elements().iter().filter(|element| element.error().is_err()) {
            let wanted = list.find_partition(element.topic(), element.partition());
            let offset = wanted.map_or(Offset::Beginning, |wanted| wanted.offset());
            again.add_partition_offset(element.topic(), element.partition(), offset)?;
        }
        if again.count() > 0 {
            self.client.incremental_unassign(&again)?;
            self.client.incremental_assign(&again)?;
            let context = self.client.context();
            let intake = context.intake();
            if *intake == Intake::Paused {
                self.client.pause(&again)?;
            }
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.client.unsubscribe();
        let deadline = Instant::now() + Duration::from_secs(10);
        let client = self.client.clone();
        // Serves the last revoke. Records that still come are not handed over: their owner is the next one.
        while client.assignment().is_ok_and(|a| a.count() > 0) && Instant::now() < deadline {
            let _ = client.poll(POLL);
        }
    }
}
