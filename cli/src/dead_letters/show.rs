//! `twinlane dead-letters show`: all of one dead letter.

use std::{io::Write as _, process::ExitCode};

use twinlane_kafka::Span;
use twinlane_service::Failure;

use super::{Desk, arguments::Show, letter::Letter, list::json_of, redriven::Entry};
use crate::{printed, text};

/// Characters of a header, and of key and value, that are shown.
const HEADER: usize = 200;
const PAYLOAD: usize = 4_000;

pub(crate) fn show(arguments: &Show) -> Result<ExitCode, Failure> {
    let at = &arguments.coordinates;
    let desk = Desk::open(&arguments.pipeline, &arguments.cluster)?;
    let topic = &desk.plan().dead_letters.name;
    let absent = |why: String| {
        Failure::Invalid(format!("{why}; `twinlane dead-letters list` prints the coordinates of all"))
    };
    if at.topic != *topic {
        return Err(absent(format!(
            "the dead letters of this pipeline stand on `{topic}`, not on `{}`",
            at.topic
        )));
    }
    let facts = desk.topics.describe(std::slice::from_ref(topic))?;
    if !facts.get(topic).is_some_and(|facts| (0..facts.partitions).contains(&at.partition)) {
        return Err(absent(format!("`{topic}` has no partition {}", at.partition)));
    }
    let record = Span::one(at).read(&desk.connection, super::CLIENT)?.next_record()?;
    let record = record.filter(|record| record.at == *at);
    let record = record.ok_or_else(|| absent(format!("there is no record at {at}")))?;
    let letter = Letter::read(desk.plan(), &record)
        .ok_or_else(|| absent(format!("the record at {at} is no dead letter")))?;
    let redriven = desk.redriven()?;
    let entry = redriven.of(&letter);
    if arguments.json {
        return printed(|out| writeln!(out, "{}", json_of(&letter, entry)));
    }
    printed(|out| write!(out, "{}", whole(&letter, entry)))
}

fn whole(letter: &Letter<'_>, entry: Option<&Entry>) -> String {
    let dead = &letter.dead;
    let none = || "–".to_owned();
    let route = match (&letter.route, &letter.task) {
        (Some(route), Some(task)) => format!("{route} (task {task})"),
        (Some(route), None) => format!("{route} (not in this pipeline any more)"),
        (None, _) => none(),
    };
    let redriven = match entry {
        Some(entry) => format!("{}, to {}", text::time(entry.time_ms), entry.to),
        None if letter.is_truncated => "cannot be: the value did not fit the dead-letter topic".to_owned(),
        None => "no".to_owned(),
    };
    let facts = [
        ("dead letter", letter.record.at.to_string()),
        ("source", dead.source.to_string()),
        ("reason", dead.reason.to_string()),
        ("detail", text::one_line(&dead.detail, usize::MAX)),
        ("stage", dead.stage.to_string()),
        ("route", route),
        ("model digest", dead.model_digest.as_deref().map_or_else(none, str::to_owned)),
        ("died", text::time(dead.time_ms)),
        ("deaths", dead.deaths.to_string()),
        ("redriven", redriven),
    ];
    let mut all: String = facts.iter().map(|(name, value)| format!("{name:<14}{value}\n")).collect();
    all.push_str("\nheaders\n");
    for header in &letter.record.headers.0 {
        let name = text::one_line(&header.name, HEADER);
        let value = text::bytes(header.value.as_deref(), HEADER).replace(['\n', '\t'], " ");
        all.push_str(&format!("  {name}: {value}\n"));
    }
    for (name, bytes) in [("key", &letter.record.key), ("value", &letter.record.value)] {
        let length = bytes.as_ref().map_or(0, |bytes| bytes.len());
        all.push_str(&format!("\n{name} ({length} bytes)\n{}\n", text::bytes(bytes.as_deref(), PAYLOAD)));
    }
    all
}
