//! `twinlane schemas register`: makes what a pipeline writes known to a schema registry, if the registry's rules allow it.

use std::{collections::BTreeMap, fmt, io::Write as _, process::ExitCode, sync::Arc};

use twinlane_pipeline::Plan;
use twinlane_record::{Format, ScoredEventCodec};
use twinlane_registry::{Client, value_subject};
use twinlane_service::{Failure, LoadedPipeline};

use crate::{arguments::SchemasRegister, locate, printed};

pub(crate) fn register(arguments: &SchemasRegister) -> Result<ExitCode, Failure> {
    let mut settings = locate::settings(&arguments.pipeline, None, None)?;
    let registry = &mut settings.registry;
    registry.url = arguments.registry.clone().or(registry.url.take());
    registry.user = arguments.user.clone().or(registry.user.take());
    if arguments.password_file.is_some() {
        registry.password_file.clone_from(&arguments.password_file);
        registry.password = None;
    }
    registry.ca_file = arguments.ca_file.clone().or(registry.ca_file.take());
    let client = registry
        .client()?
        .ok_or_else(|| Failure::Invalid("no schema registry; give --registry URL".into()))?;
    let loaded = LoadedPipeline::load(&settings)?;
    let mut rows = rows(&loaded.plan, &client)?;
    let refused = rows.iter().any(|row| matches!(row.state, State::Incompatible(_)));
    if !refused && !arguments.dry_run {
        for row in rows.iter_mut().filter(|row| row.state == State::New) {
            let id = client.register(&value_subject(&row.topic), ScoredEventCodec::SCHEMA)?;
            row.state = State::Registered(id);
        }
    }
    printed(|out| {
        rows.iter().try_for_each(|row| writeln!(out, "{:<48} {}", value_subject(&row.topic), row.state))
    })?;
    let reasons = rows.iter().filter_map(|row| match &row.state {
        State::Incompatible(why) => Some(format!("{}: {why}", value_subject(&row.topic))),
        _ => None,
    });
    let reasons: Vec<_> = reasons.collect();
    if reasons.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::Other(anyhow::anyhow!(
        "the registry at {} does not allow the schema of scored events, and nothing was registered: {}",
        client.url(),
        reasons.join("; ")
    )))
}

/// A topic that the pipeline writes for others.
struct Row {
    topic: Arc<str>,
    state: State,
}

#[derive(Debug, PartialEq)]
enum State {
    Exists(u32),
    New,
    Registered(u32),
    Incompatible(String),
    Json,
    DeadLetters,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Exists(id) => write!(f, "exists      id {id}"),
            State::New => f.write_str("compatible  not registered"),
            State::Registered(id) => write!(f, "registered  id {id}"),
            State::Incompatible(_) => f.write_str("incompatible"),
            State::Json => f.write_str("JSON        has no schema"),
            State::DeadLetters => {
                f.write_str("dead letters are their events' bytes, with no schema of their own")
            }
        }
    }
}

fn rows(plan: &Plan, client: &Client) -> Result<Vec<Row>, Failure> {
    let published: BTreeMap<_, _> =
        plan.tasks.iter().map(|task| (task.publish.topic.name.clone(), task.publish.format)).collect();
    let mut rows = Vec::new();
    for (topic, format) in published {
        let state = match format {
            Format::Json => State::Json,
            Format::Avro => state(client, &value_subject(&topic))?,
        };
        rows.push(Row { topic, state });
    }
    rows.push(Row { topic: plan.dead_letters.name.clone(), state: State::DeadLetters });
    Ok(rows)
}

fn state(client: &Client, subject: &str) -> Result<State, Failure> {
    if let Some(id) = client.id_of(subject, ScoredEventCodec::SCHEMA)? {
        return Ok(State::Exists(id));
    }
    Ok(match client.compatible(subject, ScoredEventCodec::SCHEMA)? {
        Ok(()) => State::New,
        Err(why) => State::Incompatible(why),
    })
}
