//! Brokers that answer with errors, scripted through librdkafka's mock cluster: what heals is tried again, and what
//! does not heal ends the stage with one sentence.

mod consumers;
mod support;
mod transactions;
