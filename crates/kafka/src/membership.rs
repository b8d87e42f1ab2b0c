//! The consumer's membership in its group, as a transaction must prove it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::{
    bindings as ffi,
    consumer::{Consumer as _, ConsumerGroupMetadata},
};

use twinlane_delivery::{TopicPartition, Window};

use crate::{Outgoing, consumer::Client};

/// The client that reads. It is built anew when the group has fenced it.
#[derive(Clone)]
pub(crate) struct Current(Arc<Mutex<Arc<Client>>>);

impl Current {
    pub(crate) fn new(client: Arc<Client>) -> Self {
        Self(Arc::new(Mutex::new(client)))
    }

    pub(crate) fn get(&self) -> Arc<Client> {
        self.lock().clone()
    }

    pub(crate) fn replace(&self, client: Arc<Client>) {
        *self.lock() = client;
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Client>> {
        // A handle is whole whatever panicked while it was locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives group metadata to the transaction thread.
#[derive(Clone)]
pub struct Membership(pub(crate) Current);

impl Membership {
    /// This window's offsets were committed, for certain.
    pub(crate) fn note_committed(&self, window: &Window<Outgoing>) {
        let offsets = window.runs.iter().map(|run| (&run.partition, run.next_offset()));
        self.0.get().context().note_committed(offsets);
    }

    /// Up to where this process has committed, by itself and for certain.
    pub(crate) fn committed(&self, partition: &TopicPartition) -> Option<i64> {
        self.0.get().context().committed(partition)
    }

    /// Name of the group.
    pub(crate) fn group(&self) -> String {
        self.0.get().context().group().to_owned()
    }

    /// Group metadata of a valid member, the one as which the assigned partitions are held; else `None`.
    ///
    /// librdkafka holds an empty member id and generation −1 before the first join and after it was told that
    /// the member is unknown, and the broker's fence lets exactly these through: they must never vouch for a
    /// window. Nor must those of a member that came after the one which was given the partitions: librdkafka joins anew
    /// before it says that they were lost, and a static member's it never says, while another may have had them.
    ///
    /// rdkafka hides the fields, so they are read through C on both sides of the safe call; since a generation only
    /// grows and a member id changes with it, equal readings enclose an equal value.
    pub(crate) fn metadata(&self) -> Option<ConsumerGroupMetadata> {
        let client = self.0.get();
        let before = Member::of(&client)?;
        if client.context().holds_as().as_ref() != Some(&before.id) {
            return None;
        }
        let metadata = client.group_metadata()?;
        (Member::of(&client)? == before).then_some(metadata)
    }
}

/// A place in a group that is or was valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Of the group, when this member joined it last.
    generation: i32,
    /// Given by the broker. Whoever is expelled comes back under another one.
    pub(crate) id: Vec<u8>,
}

impl Member {
    /// As which this client is in its group, unless it is in none.
    #[expect(unsafe_code, reason = "rdkafka has no getter for member id and generation")]
    pub(crate) fn of(client: &Client) -> Option<Self> {
        let client = client.client().native_ptr();
        // SAFETY: `client` is a live consumer handle, borrowed for the whole call. The metadata object is owned by
        // us until destroyed below, and the member id is copied before that.
        unsafe {
            let metadata = ffi::rd_kafka_consumer_group_metadata(client);
            if metadata.is_null() {
                return None;
            }
            let generation = ffi::rd_kafka_consumer_group_metadata_generation_id(metadata);
            let id = ffi::rd_kafka_consumer_group_metadata_member_id(metadata);
            let id = if id.is_null() { Vec::new() } else { std::ffi::CStr::from_ptr(id).to_bytes().to_vec() };
            ffi::rd_kafka_consumer_group_metadata_destroy(metadata);
            (generation >= 0 && !id.is_empty()).then_some(Self { generation, id })
        }
    }
}
