//! `twinlane tail`: follows what comes out of a pipeline, as any careful consumer would see it.

mod committed;
mod line;

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::Arc,
};

use serde_json::Value as Json;
use twinlane_kafka::Topics;
use twinlane_pipeline::Plan;
use twinlane_record::{DeadLetter, Format, ScoredEventCodec};
use twinlane_service::Failure;

use self::committed::{Committed, Record};
use crate::{
    arguments::Tail,
    locate::{self, Located},
};

pub(crate) fn tail(arguments: &Tail) -> Result<ExitCode, Failure> {
    let located = locate::pipeline(&arguments.pipeline, Some(&arguments.cluster), None)?;
    let show = Show::new(&located, arguments)?;
    let names: Vec<_> = show.topics.keys().cloned().collect();
    let facts = Topics::connect(&located.settings.connection())?.describe(&names)?;
    let partitions: Vec<_> = facts.iter().map(|(name, facts)| (name.clone(), facts.partitions)).collect();
    let reader = Committed::open(&located.settings.kafka, &partitions, arguments.from_beginning)?;
    if io::stderr().is_terminal() {
        let mut names: Vec<_> = names.iter().map(|name| &**name).collect();
        names.sort_unstable();
        let from = if arguments.from_beginning { "the beginning" } else { "now on" };
        eprintln!("following {} from {from}; Ctrl-C ends", names.join(", "));
    }
    follow(&reader, &show, arguments.count.map(|count| count.get()))
}

fn follow(reader: &Committed, show: &Show, count: Option<u64>) -> Result<ExitCode, Failure> {
    let mut left = count;
    while left != Some(0) {
        let Some(shown) = reader.next(|record| show.line(record))? else { continue };
        left = left.map(|left| left - 1);
        let mut out = io::stdout().lock();
        match writeln!(out, "{shown}").and_then(|()| out.flush()) {
            Ok(()) => {}
            // `| head` has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => return Err(Failure::Other(error.into())),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a topic holds.
enum Holds {
    Scored(ScoredEventCodec),
    DeadLetters,
}

/// Turns records into lines.
struct Show {
    topics: HashMap<Arc<str>, Holds>,
    json: bool,
}

impl Show {
    fn new(located: &Located, arguments: &Tail) -> Result<Self, Failure> {
        let plan = &located.loaded.plan;
        let mut topics = HashMap::from([(plan.dead_letters.name.clone(), Holds::DeadLetters)]);
        if !arguments.dead_letters {
            for (topic, format) in published(plan) {
                let codec = ScoredEventCodec::new(format, &located.loaded.schemas)
                    .map_err(|error| Failure::Invalid(error.to_string()))?;
                topics.insert(topic, Holds::Scored(codec));
            }
        }
        Ok(Self { topics, json: arguments.json })
    }

    fn line(&self, record: &Record) -> String {
        match self.topics.get(&*record.at.topic) {
            Some(Holds::Scored(codec)) => match codec.read(record.value.as_deref().unwrap_or_default()) {
                Ok(event) if self.json => event.to_string(),
                Ok(event) => line::scored(&event),
                Err(why) => self.stranger(record, &format!("no scored event: {}", why.detail)),
            },
            _ => match DeadLetter::from_headers(&record.headers) {
                Some(letter) if self.json => line::dead_letter_json(&letter, record).to_string(),
                Some(letter) => line::dead_letter(&letter),
                None => self.stranger(record, "no dead letter: Twinlane's headers are missing"),
            },
        }
    }

    /// A record that somebody else put there.
    fn stranger(&self, record: &Record, why: &str) -> String {
        if self.json {
            let at = record.at.to_string();
            Json::from_iter([("unreadable", Json::from(why)), ("at", Json::from(at))]).to_string()
        } else {
            format!("{} is {why}", record.at)
        }
    }
}

fn published(plan: &Plan) -> impl Iterator<Item = (Arc<str>, Format)> {
    plan.tasks.iter().map(|task| (task.publish.topic.name.clone(), task.publish.format))
}
