//! The consumer's membership in its group, as a transaction must prove it.

use std::sync::Arc;

use rdkafka::{
    bindings as ffi,
    consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata},
};

use crate::consumer::Context;

/// Gives group metadata to the transaction thread.
#[derive(Clone)]
pub struct Membership(pub(crate) Arc<BaseConsumer<Context>>);

impl Membership {
    /// Name of the group.
    pub(crate) fn group(&self) -> &str {
        self.0.context().group()
    }

    /// Group metadata of a valid member, or `None`.
    ///
    /// librdkafka holds an empty member id and generation −1 before the first join and after it was told that
    /// the member is unknown, and the broker's fence lets exactly these through: they must never vouch for a
    /// window. rdkafka hides the fields, so they are read through C on both sides of the safe call; since a
    /// generation only grows and a member id changes with it, equal readings enclose an equal value.
    pub(crate) fn metadata(&self) -> Option<ConsumerGroupMetadata> {
        let before = self.generation()?;
        let metadata = self.0.group_metadata()?;
        (self.generation()? == before).then_some(metadata)
    }

    /// Generation and member id, when both are valid.
    #[expect(unsafe_code, reason = "rdkafka has no getter for member id and generation")]
    fn generation(&self) -> Option<(i32, Vec<u8>)> {
        let client = self.0.client().native_ptr();
        // SAFETY: `client` is a live consumer handle, kept alive by the Arc. The metadata object is owned by
        // us until destroyed below, and the member id is copied before that.
        unsafe {
            let metadata = ffi::rd_kafka_consumer_group_metadata(client);
            if metadata.is_null() {
                return None;
            }
            let generation = ffi::rd_kafka_consumer_group_metadata_generation_id(metadata);
            let member = ffi::rd_kafka_consumer_group_metadata_member_id(metadata);
            let member = if member.is_null() {
                Vec::new()
            } else {
                std::ffi::CStr::from_ptr(member).to_bytes().to_vec()
            };
            ffi::rd_kafka_consumer_group_metadata_destroy(metadata);
            (generation >= 0 && !member.is_empty()).then_some((generation, member))
        }
    }
}
