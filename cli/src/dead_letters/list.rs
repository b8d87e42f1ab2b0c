//! `twinlane dead-letters list`: one line each as they are read, so that a topic of any size can be listed, and a count
//! by reason at the end.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use serde_json::{Value as Json, json};
use twinlane_service::Failure;

use super::{
    Desk,
    arguments::List,
    letter::Letter,
    redriven::{Entry, Redriven},
    tally::{Tally, counted},
};
use crate::{printed, tail::line, text};

pub(crate) fn list(arguments: &List) -> Result<ExitCode, Failure> {
    let desk = Desk::open(&arguments.pipeline, &arguments.cluster)?;
    let redriven = desk.redriven()?;
    let mut reader = desk.span()?.read(&desk.connection, super::CLIENT)?;
    let table = Table::of(&desk);
    let filter = arguments.selection.filter();
    let limit = arguments.selection.limit.map_or(u64::MAX, std::num::NonZero::get);
    let mut tally = Tally::default();
    let mut sent_before = 0_u64;
    if !arguments.json && say(&table.head())? {
        return Ok(ExitCode::SUCCESS);
    }
    while tally.total() < limit
        && let Some(record) = reader.next_record()?
    {
        let Some(letter) = Letter::read(desk.plan(), &record) else {
            tally.strangers += 1;
            continue;
        };
        if !filter.takes(&letter) {
            continue;
        }
        tally.take(letter.dead.reason);
        let entry = redriven.of(&letter);
        sent_before += u64::from(entry.is_some());
        let shown =
            if arguments.json { json_of(&letter, entry).to_string() } else { table.row(&letter, &redriven) };
        if say(&shown)? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    if arguments.json {
        return Ok(ExitCode::SUCCESS);
    }
    let total = counted(tally.total());
    printed(|out| writeln!(out, "\n{total}, {sent_before} of them redriven{tally}"))
}

/// Prints a line; true when the reader has seen enough (`| head`).
fn say(line: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}") {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(Failure::Other(error.into())),
    }
}

/// One dead letter, whole.
pub(crate) fn json_of(letter: &Letter<'_>, entry: Option<&Entry>) -> Json {
    let mut json = line::dead_letter_json(&letter.dead, letter.record);
    json["at"] = json!(letter.record.at.to_string());
    let dead = &mut json["dead_letter"];
    dead["route"] = json!(letter.route);
    dead["task"] = json!(letter.task);
    dead["truncated"] = json!(letter.is_truncated);
    dead["redriven"] = entry.map_or(Json::Null, |entry| json!({ "to": entry.to, "time": entry.time_ms }));
    json
}

/// Columns as wide as the names of this pipeline need.
struct Table {
    at: usize,
    source: usize,
}

/// Room for `/partition/offset`.
const NUMBERS: usize = 10;
/// Details beyond this are for `show`.
const LONGEST: usize = 100;

impl Table {
    fn of(desk: &Desk) -> Self {
        let sources = desk.plan().sources.iter().map(|source| source.topic.len()).max();
        Self { at: desk.plan().dead_letters.name.len() + NUMBERS, source: sources.unwrap_or(0) + NUMBERS }
    }

    fn head(&self) -> String {
        let (at, source) = (self.at, self.source);
        format!(
            "{:<at$}  {:<source$}  {:<20}  {:<18}  {:>6}  {:<20}  {:<8}  detail",
            "dead letter", "source", "reason", "stage", "deaths", "died (UTC)", "redriven"
        )
    }

    fn row(&self, letter: &Letter<'_>, redriven: &Redriven) -> String {
        let (at, source, dead) = (self.at, self.source, &letter.dead);
        let state = match redriven.of(letter) {
            Some(_) => "yes",
            None if letter.is_truncated => "cannot",
            None => "no",
        };
        format!(
            "{:<at$}  {:<source$}  {:<20}  {:<18}  {:>6}  {:<20}  {state:<8}  {}",
            letter.record.at.to_string(),
            dead.source.to_string(),
            dead.reason.as_str(),
            &*dead.stage,
            dead.deaths,
            text::time(dead.time_ms),
            text::one_line(&dead.detail, LONGEST)
        )
    }
}
