//! From the file as written to a plan, or to the first thing that is wrong with it.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use serde_saphyr::{Location, Spanned};
use twinlane_record::Format;

use crate::{
    Error,
    check_tasks::task,
    check_topics::Places,
    place::Place,
    plan::{
        BelowStart, DeadLetterLimit, Device, InFlight, Lane, LaneName, Plan, Source, Tombstones, Topic,
        Variant,
    },
    raw,
};

const DEFAULT_PARTITIONS: i32 = 6;
const DEFAULT_RUN_DEADLINE: Duration = Duration::from_secs(30);
const DEFAULT_DEAD_LETTER_LIMIT: DeadLetterLimit =
    DeadLetterLimit { consecutive: NonZeroUsize::new(1000).unwrap(), ratio: 0.5 };
const DEFAULT_IN_FLIGHT: InFlight = InFlight { records: 30_000, bytes: 64 << 20 };

/// What a duration of the file may be.
struct Span {
    what: &'static str,
    shortest: Duration,
    longest: Duration,
    example: &'static str,
}

const WINDOW: Span =
    Span { what: "window", shortest: Duration::ZERO, longest: Duration::from_secs(5), example: "5ms" };
const RUN_DEADLINE: Span = Span {
    what: "run deadline",
    shortest: Duration::from_millis(100),
    longest: Duration::from_secs(600),
    example: "30s",
};

const DEADLINE: Span = Span {
    what: "deadline",
    shortest: Duration::from_millis(10),
    longest: Duration::from_secs(24 * 60 * 60),
    example: "2s",
};

/// What a check needs to speak of a place.
pub(crate) struct Checker<'a> {
    pub(crate) file: &'a str,
}

impl Plan {
    /// Parses and checks a pipeline file. `file` is its name for refusals; nothing is read from disk.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        // YAML 1.2: `NO` is a country and `y` a field, not booleans.
        let options = serde_saphyr::options! { strict_booleans: true };
        let raw: raw::Pipeline =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| unreadable(&error, file))?;
        Checker { file }.plan(raw)
    }
}

/// The parser's own words, without the excerpt it draws.
fn unreadable(error: &serde_saphyr::Error, file: &str) -> Error {
    let place = error.location().unwrap_or(Location::UNKNOWN);
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or_default();
    let message = first.split(" at line ").next().unwrap_or(first).trim_start_matches("error: ");
    let place_first = message.strip_prefix(&format!("line {} column {}: ", place.line(), place.column()));
    let message = place_first.unwrap_or(message);
    // The parser names Rust's types.
    let message = match message.strip_prefix("invalid ") {
        Some(kind) if kind.starts_with(['u', 'i']) && kind[1..].parse::<u8>().is_ok() => {
            "a whole number is due here"
        }
        Some("f32" | "f64") => "a number is due here",
        Some("bool" | "boolean") => "true or false is due here",
        _ => message,
    };
    Error::at(file, place, message)
}

impl Checker<'_> {
    pub(crate) fn refuse<T>(&self, place: Location, message: impl Into<String>) -> Result<T, Error> {
        Err(Error::at(self.file, place, message))
    }

    /// A place to keep in the plan.
    pub(crate) fn place(&self, at: Location) -> Place {
        Place { file: self.file.into(), line: at.line(), column: at.column() }
    }

    fn plan(&self, raw: raw::Pipeline) -> Result<Plan, Error> {
        let pipeline = self.name(&raw.pipeline.value, "pipeline", raw.pipeline.defined)?;
        let Some(dead_letters) = raw.dead_letters else {
            return self.refuse(
                raw.pipeline.defined,
                format!("no `dead_letters`: nothing may be silently discarded; add `dead_letters: {{ topic: {pipeline}.dead-letters }}`"),
            );
        };
        let mut places =
            Places { dead_letters: dead_letters.defined, sources: Vec::new(), tasks: Vec::new() };
        let raw_letters = dead_letters.value;
        let dead_letters = self.topic(&raw_letters.topic, raw_letters.partitions, places.dead_letters)?;
        let dead_letter_limit = self.dead_letter_limit(raw_letters.limit, places.dead_letters)?;
        let mut sources = Vec::new();
        for (name, source) in raw.sources {
            places.sources.push(source.defined);
            sources.push(self.source(&name, source)?);
        }
        let mut tasks = Vec::new();
        for (name, raw) in raw.tasks {
            places.tasks.push(raw.defined);
            tasks.push(task(self, &name, raw)?);
        }
        let mut lanes = Vec::new();
        let written =
            [(LaneName::Precision, raw.lanes.precision), (LaneName::Throughput, raw.lanes.throughput)];
        for (name, lane) in written {
            if let Some(lane) = lane {
                lanes.push(self.lane(name, &lane)?);
            }
        }
        let routes = self.routes(raw.routes, &sources, &tasks, &mut lanes)?;
        let mut plan = Plan { pipeline, sources, routes, tasks, lanes, dead_letters, dead_letter_limit };
        self.whole(&mut plan, &places)?;
        Ok(plan)
    }

    fn source(&self, name: &str, raw: Spanned<raw::Source>) -> Result<Source, Error> {
        let (place, raw) = (raw.defined, raw.value);
        if raw.format == Format::Avro && raw.schemas.is_empty() {
            return self.refuse(
                place,
                format!("source `{name}` is Avro and names no `schemas`; list the subjects that it carries"),
            );
        }
        if raw.format == Format::Json && !raw.schemas.is_empty() {
            return self.refuse(
                place,
                format!("source `{name}` is JSON, which carries no schema; remove `schemas`, or say `format: avro`"),
            );
        }
        Ok(Source {
            name: self.name(name, "source", place)?,
            topic: self.topic(&raw.topic, None, place)?.name,
            format: raw.format,
            schemas_at: self.place(raw.schemas.first().map_or(place, |first| first.defined)),
            schemas: raw.schemas.iter().map(|s| s.value.as_str().into()).collect(),
            tombstones: match raw.tombstones {
                raw::Tombstones::Skip => Tombstones::Skip,
                raw::Tombstones::DeadLetter => Tombstones::DeadLetter,
            },
            when_below_start: match raw.when_below_start {
                raw::BelowStart::Stop => BelowStart::Stop,
                raw::BelowStart::Earliest => BelowStart::Earliest,
            },
            direct: None,
        })
    }

    fn lane(&self, name: LaneName, raw: &Spanned<raw::Lane>) -> Result<Lane, Error> {
        let (place, raw) = (raw.defined, &raw.value);
        let at_least_one = |what: &str, number: usize| match NonZeroUsize::new(number) {
            Some(number) => Ok(number),
            None => {
                self.refuse(place, format!("`{what}` of lane {} is 0; it must be at least 1", name.as_str()))
            }
        };
        if raw.device.is_empty() {
            return self.refuse(
                place,
                format!("lane {} lists no device; write [cpu] or [cuda, cpu]", name.as_str()),
            );
        }
        let limits = raw.in_flight.unwrap_or(raw::InFlight { records: None, mib: None });
        let bytes = limits.mib.map_or(Some(DEFAULT_IN_FLIGHT.bytes), |mib| mib.checked_mul(1 << 20));
        let records = limits.records.unwrap_or(DEFAULT_IN_FLIGHT.records);
        let Some(bytes @ 1..) = bytes.filter(|_| records >= 8) else {
            return self.refuse(
                place,
                "`in_flight` must allow at least 8 records and 1 mib, and no more than memory has",
            );
        };
        let in_flight = InFlight { records, bytes };
        Ok(Lane {
            name,
            variant: match raw.model {
                raw::Variant::Full => Variant::Full,
                raw::Variant::Distilled => Variant::Distilled,
            },
            devices: raw
                .device
                .iter()
                .map(|d| match d {
                    raw::Device::Cpu => Device::Cpu,
                    raw::Device::Cuda => Device::Cuda,
                })
                .collect(),
            max_batch: at_least_one("max_batch", raw.max_batch)?,
            window: match (&raw.window, name) {
                (Some(text), _) => self.duration(text, &WINDOW, place)?,
                (None, LaneName::Precision) => Duration::from_millis(5),
                (None, LaneName::Throughput) => Duration::from_millis(50),
            },
            run_deadline: match &raw.run_deadline {
                Some(text) => self.duration(text, &RUN_DEADLINE, place)?,
                None => DEFAULT_RUN_DEADLINE,
            },
            partitions: self.partitions(raw.partitions, place)?,
            direct: raw.direct,
            parity: match raw.parity {
                Some(share) if !(share > 0.0 && share <= 1.0) => {
                    return self.refuse(
                        place,
                        format!("`parity` is {share}; it must be above 0 and at most 1, such as 0.01"),
                    );
                }
                parity => parity,
            },
            model_threads: raw.model_threads.map(|n| at_least_one("model_threads", n)).transpose()?,
            in_flight,
            tasks: Vec::new(),
        })
    }

    /// How old an event of a task may become.
    pub(crate) fn deadline(&self, text: &Spanned<String>) -> Result<Duration, Error> {
        self.duration(&text.value, &DEADLINE, text.defined)
    }

    pub(crate) fn name(&self, name: &str, what: &str, place: Location) -> Result<Arc<str>, Error> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 60 || !name.chars().all(fits) {
            return self.refuse(
                place,
                format!("the {what} name `{name}` must be 1 to 60 lower-case letters, digits and dashes"),
            );
        }
        Ok(name.into())
    }

    pub(crate) fn topic(&self, name: &str, partitions: Option<i32>, place: Location) -> Result<Topic, Error> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 200 || !name.chars().all(fits) || name == "." || name == ".." {
            return self
                .refuse(place, format!("`{name}` is no topic name; use letters, digits, `.`, `_` and `-`"));
        }
        Ok(Topic { name: name.into(), partitions: self.partitions(partitions, place)? })
    }

    fn partitions(&self, number: Option<i32>, place: Location) -> Result<i32, Error> {
        match number.unwrap_or(DEFAULT_PARTITIONS) {
            number @ 1..=10_000 => Ok(number),
            other => self.refuse(place, format!("`partitions` is {other}; it must be 1 to 10000")),
        }
    }

    fn dead_letter_limit(
        &self,
        raw: raw::DeadLetterLimit,
        place: Location,
    ) -> Result<DeadLetterLimit, Error> {
        let default = DEFAULT_DEAD_LETTER_LIMIT;
        let ratio = raw.ratio.unwrap_or(default.ratio);
        if !(0.0..=1.0).contains(&ratio) {
            return self.refuse(
                place,
                format!("the `ratio` of dead letters is {ratio}; it must be 0 to 1, such as 0.5"),
            );
        }
        match raw.consecutive.map_or(Some(default.consecutive), NonZeroUsize::new) {
            Some(consecutive) => Ok(DeadLetterLimit { consecutive, ratio }),
            None => self.refuse(place, "`consecutive` dead letters is 0; it must be at least 1"),
        }
    }

    fn duration(&self, text: &str, of: &Span, place: Location) -> Result<Duration, Error> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit: Option<u64> = match text[digits.len()..].trim() {
            "ms" => Some(1),
            "s" => Some(1000),
            _ => None,
        };
        let millis = digits.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
        match millis.map(Duration::from_millis) {
            Some(duration) if (of.shortest..=of.longest).contains(&duration) => Ok(duration),
            _ => self.refuse(
                place,
                format!(
                    "`{text}` is no {}; write {:?} to {:?} in milliseconds or seconds, such as `{}`",
                    of.what, of.shortest, of.longest, of.example
                ),
            ),
        }
    }
}
