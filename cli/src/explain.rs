//! `twinlane explain`: what became of one event, from its source topic to its answer or dead letter.
//!
//! `search` looks through topics, `story` is what was found and how it is told: a value. Where an event's answer may
//! stand is known beforehand: each hop's partition follows from the partition before it, and outputs carry the event's
//! own time.

mod search;
mod story;

use std::{collections::BTreeSet, io::Write as _, process::ExitCode, sync::Arc};

use serde_json::Value as Json;
use twinlane_kafka::{Span, committed};
use twinlane_pipeline::{Action, Lane, Plan};
use twinlane_record::{Coordinates, Envelope, ScoredEventCodec, headers};
use twinlane_service::Failure;

use self::{
    search::{Found, Search},
    story::{Answer, Letter, Outcome, Reader, Record, Routing, Story},
};
use crate::{
    arguments::Explain,
    dead_letters::{self, Desk},
    printed,
};

const CLIENT: &str = "twinlane-explain";

pub(crate) fn explain(arguments: &Explain) -> Result<ExitCode, Failure> {
    let desk = Desk::open(&arguments.pipeline, &arguments.cluster)?;
    let event = event(&desk, &arguments.coordinates)?;
    let story = tell(&desk, &event)?;
    if arguments.json {
        printed(|out| writeln!(out, "{}", story.to_json()))?;
    } else {
        printed(|out| write!(out, "{story}"))?;
    }
    Ok(if story.outcome == Outcome::Unknown { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The event that is meant: what stands at the coordinates, or what that came from.
fn event(desk: &Desk, at: &Coordinates) -> Result<Coordinates, Failure> {
    let plan = desk.plan();
    if plan.sources.iter().any(|source| source.topic == at.topic) {
        return Ok(at.clone());
    }
    if !plan.topics().iter().any(|topic| topic.name == at.topic) {
        let sources: Vec<_> = plan.sources.iter().map(|source| &*source.topic).collect();
        return Err(Failure::Invalid(format!(
            "pipeline `{}` neither reads nor writes the topic `{}`; its events stand on {}",
            plan.pipeline,
            at.topic,
            sources.join(", ")
        )));
    }
    let record = read(desk, at)?;
    record.as_ref().and_then(|record| headers::source(&record.headers)).ok_or_else(|| {
        Failure::Invalid(format!(
            "there is no record of Twinlane's at {at}, so it cannot say which event it came from"
        ))
    })
}

/// The record at these coordinates, if there is one.
fn read(desk: &Desk, at: &Coordinates) -> Result<Option<Envelope>, Failure> {
    let facts = desk.topics.describe(std::slice::from_ref(&at.topic))?;
    let partitions = facts.get(&at.topic).map_or(0, |facts| facts.partitions);
    if !(0..partitions).contains(&at.partition) {
        return Err(Failure::Invalid(format!(
            "`{}` has no partition {}; it has {partitions}, from 0 on",
            at.topic, at.partition
        )));
    }
    let record = Span::one(at).read(&desk.connection, CLIENT)?.next_record()?;
    Ok(record.filter(|record| record.at == *at))
}

fn tell(desk: &Desk, event: &Coordinates) -> Result<Story, Failure> {
    let plan = desk.plan();
    let index = plan.sources.iter().position(|source| source.topic == event.topic);
    let index =
        index.ok_or_else(|| Failure::Invalid(format!("`{}` is no source of this pipeline", event.topic)))?;
    let record = match read(desk, event)? {
        Some(record) => Record::There(record),
        None => absent(desk, event)?,
    };
    let routing = record.envelope().map(|record| routing(desk, record)).transpose()?;
    let moment = record.envelope().and_then(|record| record.timestamp_ms);
    // A service makes its topics when it starts; before that nothing is in them.
    let written: Vec<_> = plan.topics().into_iter().map(|topic| topic.name).collect();
    let partitions = desk.topics.partitions(&written)?;
    let search = Search { connection: &desk.connection, client_id: CLIENT, event, moment, partitions };

    let ways = ways(plan, index, routing.as_ref());
    let mut hop = None;
    let mut answer = None;
    // A worker's dead letters go by the partition that it read.
    let mut dead = BTreeSet::from([event.partition]);
    for way in &ways {
        let themselves = plan.reads_itself(way.lane.name, index);
        let read = if themselves { event.partition } else { event.partition % way.lane.partitions.max(1) };
        dead.insert(read);
        if !themselves && hop.is_none() {
            hop = search.first(&plan.lane_topic(way.lane.name, way.task).into(), read)?;
        }
        let publish = &plan.tasks[way.task].publish;
        if answer.is_none()
            && let Some(found) = search.first(&publish.topic.name, read % publish.topic.partitions.max(1))?
        {
            let codec = ScoredEventCodec::new(publish.format, &desk.located.loaded.schemas);
            let codec = codec.map_err(|error| Failure::Invalid(error.to_string()))?;
            answer = Some(scored(found, &codec));
        }
    }
    let letters = letters(desk, &search, &dead)?;
    let readers = match answer.is_some() || !letters.is_empty() {
        true => Vec::new(),
        false => readers(desk, index, event, hop.as_ref(), &ways)?,
    };
    Ok(Story::new(event.clone(), record, routing, hop, answer, letters, readers))
}

/// Why there is no record.
fn absent(desk: &Desk, event: &Coordinates) -> Result<Record, Failure> {
    let all = Span::since(&desk.connection, CLIENT, &event.topic, event.partition, None)?;
    Ok(match all.bounds(event.partition) {
        Some((oldest, _)) if event.offset < oldest => Record::Deleted { oldest },
        Some((_, end)) if event.offset >= end => Record::NotYet { end },
        _ => Record::Hole,
    })
}

/// What the pipeline file says of the event.
fn routing(desk: &Desk, record: &Envelope) -> Result<Routing, Failure> {
    let plan = desk.plan();
    Ok(match desk.located.loaded.sources()?.route(record) {
        Err(rejection) => Routing::Refused(rejection),
        Ok(None) => Routing::Tombstone,
        Ok(Some(route)) => {
            let index = route;
            let route = &plan.routes[route];
            let rule = route.when.as_ref().map(|rule| rule.text.clone());
            let (skip, task, lane) = match &route.action {
                Action::Skip { why } => (Some(why.clone()), None, None),
                Action::Score { task, lane } => (None, Some(plan.tasks[*task].name.clone()), Some(*lane)),
            };
            Routing::Route { index, name: route.name.clone(), rule, skip, task, lane }
        }
    })
}

/// A task and a lane that events of a source may be answered by.
struct Way<'p> {
    route: usize,
    task: usize,
    lane: &'p Lane,
}

/// All of a source's, the one that the file names for this event first: it may have been routed by a former file.
fn ways<'p>(plan: &'p Plan, source: usize, routing: Option<&Routing>) -> Vec<Way<'p>> {
    let mut ways: Vec<Way<'p>> = Vec::new();
    for (index, route) in plan.routes.iter().enumerate().filter(|(_, route)| route.source == source) {
        if let Action::Score { task, lane } = route.action
            && let Some(lane) = plan.lane(lane)
            && !ways.iter().any(|way| way.task == task && way.lane.name == lane.name)
        {
            ways.push(Way { route: index, task, lane });
        }
    }
    if let Some(Routing::Route { index, .. }) = routing {
        ways.sort_by_key(|way| way.route != *index);
    }
    ways
}

fn scored(found: Found, codec: &ScoredEventCodec) -> Answer {
    let value = found.record.value.as_deref().unwrap_or_default();
    let event = codec.read(value).unwrap_or_else(|why| Json::from(format!("unreadable: {}", why.detail)));
    Answer { found, event }
}

fn letters(desk: &Desk, search: &Search<'_>, read: &BTreeSet<i32>) -> Result<Vec<Letter>, Failure> {
    let topic = &desk.plan().dead_letters;
    let partitions: BTreeSet<_> = read.iter().map(|partition| partition % topic.partitions.max(1)).collect();
    let mut found = Vec::new();
    for partition in partitions {
        found.extend(search.all(&topic.name, partition)?);
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let redriven = desk.redriven()?;
    let letter = |found: &Found| {
        let letter = dead_letters::Letter::read(desk.plan(), &found.record)?;
        let entry = redriven.of(&letter).cloned();
        let json = dead_letters::json_of(&letter, entry.as_ref());
        Some(Letter { at: found.record.at.clone(), dead: letter.dead, redriven: entry, json })
    };
    let mut letters: Vec<_> = found.iter().filter_map(letter).collect();
    letters.sort_by_key(|letter| letter.dead.time_ms);
    Ok(letters)
}

/// How far those are that have to read the event, or the record that it was routed to.
fn readers(
    desk: &Desk,
    source: usize,
    event: &Coordinates,
    hop: Option<&Found>,
    ways: &[Way<'_>],
) -> Result<Vec<Reader>, Failure> {
    let plan = desk.plan();
    let (at, groups): (&Coordinates, BTreeSet<String>) = match hop {
        Some(hop) => {
            let of = |way: &&Way<'_>| plan.lane_topic(way.lane.name, way.task) == *hop.record.at.topic;
            (&hop.record.at, ways.iter().filter(of).map(|way| plan.lane_group(way.lane.name)).collect())
        }
        // Each lane's stage reads every event of a mixed source; the last one's settles what belongs to no lane.
        None => {
            let routed = |lane: &Lane| plan.sources[source].direct.is_none() && !lane.direct;
            let group = |lane: &Lane| match plan.reads_itself(lane.name, source) {
                true => Some(plan.lane_group(lane.name)),
                false => routed(lane).then(|| plan.router_group(lane.name)),
            };
            (event, plan.lanes.iter().filter_map(group).collect())
        }
    };
    let reader = |group: String| {
        let committed = committed(&desk.connection, &group, &at.topic, at.partition)?;
        Ok(Reader { group: Arc::from(group), at: at.clone(), committed })
    };
    groups.into_iter().map(reader).collect()
}
