//! `twinlane tail`: follows what comes out of a pipeline, as any careful consumer would see it.

pub(crate) mod line;

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::Arc,
};

use serde_json::Value as Json;
use twinlane_kafka::{Begin, Next, Reader, Topics};
use twinlane_pipeline::Plan;
use twinlane_record::{DeadLetter, Envelope, Format, ScoredEventCodec};
use twinlane_service::Failure;

use crate::{
    arguments::Tail,
    locate::{self, Located},
};

pub(crate) fn tail(arguments: &Tail) -> Result<ExitCode, Failure> {
    let located = locate::pipeline(&arguments.pipeline, Some(&arguments.cluster), None)?;
    let show = Show::new(&located, arguments)?;
    let names: Vec<_> = show.topics.keys().cloned().collect();
    let connection = located.settings.connection()?;
    let facts = Topics::connect(&connection)?.describe(&names)?;
    let partitions: Vec<_> = facts.iter().map(|(name, facts)| (name.clone(), facts.partitions)).collect();
    let begin = if arguments.from_beginning { Begin::Oldest } else { Begin::Now };
    let reader = Reader::follow(&connection, "twinlane-tail", &partitions, begin)?;
    if io::stderr().is_terminal() {
        let mut names: Vec<_> = names.iter().map(|name| &**name).collect();
        names.sort_unstable();
        let from = if arguments.from_beginning { "the beginning" } else { "now on" };
        eprintln!("following {} from {from}; Ctrl-C ends", names.join(", "));
    }
    follow(&reader, &show, arguments.count.map(|count| count.get()))
}

fn follow(reader: &Reader, show: &Show, count: Option<u64>) -> Result<ExitCode, Failure> {
    let mut left = count;
    while left != Some(0) {
        let shown = match reader.next()? {
            Next::Record(record) => show.line(&record),
            Next::Nothing => continue,
            Next::Waiting(why) => {
                eprintln!("twinlane: {why}; still trying");
                continue;
            }
        };
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

    fn line(&self, record: &Envelope) -> String {
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
    fn stranger(&self, record: &Envelope, why: &str) -> String {
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
