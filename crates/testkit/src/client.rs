//! The Kafka client side of tests: topics, producing with an account of what was confirmed, and reading to the end.

mod change;
mod produce;
mod read;
mod topics;

pub use change::{add_partitions, commit_offset, committed_offset, delete_records, delete_topic};
pub use produce::{Delivered, Outgoing, Producer};
pub use read::{
    Ends, Follower, Record, check_and_visit_topics, check_topics, committed_lag, read_to_end,
    wait_until_settled,
};
pub use topics::{create_topic, partitions, takes_writes, topics, unique, wait_until_in_sync};

use rdkafka::ClientConfig;

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("log_level", "3");
    config
}
