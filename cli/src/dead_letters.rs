//! `twinlane dead-letters`: looks at what could not be answered, and sends it once more.
//!
//! `letter` reads a dead letter, `filter` says which are asked for, `guard` decides which of these are sent and as which
//! record, `redriven` knows what was sent before: all of them values. `redrive` carries it out.

pub(crate) mod arguments;
mod filter;
mod guard;
mod letter;
mod list;
mod redrive;
mod redriven;
mod show;
mod tally;

use std::{process::ExitCode, sync::Arc};

use twinlane_kafka::{Connection, Span, Topics};
use twinlane_pipeline::Plan;
use twinlane_service::Failure;

use self::{
    arguments::{DeadLetters, DeadLettersCommand},
    redriven::Redriven,
};
pub(crate) use self::{
    letter::Letter,
    list::json_of,
    redriven::{Entry, create as create_redriven, topic as redriven_topic},
};
use crate::{
    arguments::{Cluster, Pipeline},
    locate::{self, Located},
};

const CLIENT: &str = "twinlane-dead-letters";

pub(crate) fn dead_letters(arguments: &DeadLetters) -> Result<ExitCode, Failure> {
    match &arguments.command {
        DeadLettersCommand::List(arguments) => list::list(arguments),
        DeadLettersCommand::Show(arguments) => show::show(arguments),
        DeadLettersCommand::Redrive(arguments) => redrive::redrive(arguments),
    }
}

/// A pipeline and its cluster, as commands need them that look at what became of events.
pub(crate) struct Desk {
    pub(crate) located: Located,
    pub(crate) connection: Connection,
    pub(crate) topics: Topics,
    /// Where it is recorded what was sent again.
    redriven_topic: Arc<str>,
}

impl Desk {
    pub(crate) fn open(pipeline: &Pipeline, cluster: &Cluster) -> Result<Self, Failure> {
        let located = locate::pipeline(pipeline, Some(cluster), None)?;
        let redriven_topic = redriven::topic(&located.loaded.plan)?;
        let connection = located.settings.connection()?;
        let topics = Topics::connect(&connection)?;
        Ok(Self { located, connection, topics, redriven_topic })
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.located.loaded.plan
    }

    /// The dead letters that there are now.
    fn span(&self) -> Result<Span, Failure> {
        let name = &self.plan().dead_letters.name;
        let facts = self.topics.describe(std::slice::from_ref(name))?;
        let partitions = facts.get(name).map_or(0, |facts| facts.partitions);
        Ok(Span::of(&self.connection, CLIENT, name, partitions)?)
    }

    /// What was sent again until now.
    pub(crate) fn redriven(&self) -> Result<Redriven, Failure> {
        let dead_letters = &self.plan().dead_letters.name;
        Ok(Redriven::read(&self.connection, &self.topics, &self.redriven_topic, dead_letters)?)
    }
}
