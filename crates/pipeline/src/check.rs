//! From the file as written to a plan, or to the first thing that is wrong with it.

use std::{collections::HashSet, num::NonZeroUsize, sync::Arc, time::Duration};

use serde_saphyr::{Location, Spanned};
use twinlane_record::Format;

use crate::{
    Error,
    check_tasks::task,
    plan::{
        Action, BelowStart, Device, InFlight, Lane, LaneName, Plan, Route, Rule, Source, Task, Tombstones,
        Topic, Variant,
    },
    raw,
    similar::hint,
};

const DEFAULT_PARTITIONS: i32 = 6;
const DEFAULT_IN_FLIGHT: InFlight = InFlight { records: 20_000, bytes: 64 << 20 };

/// What a check needs to speak of a place.
pub(crate) struct Checker<'a> {
    pub(crate) file: &'a str,
}

/// Where the parts of the file begin, for what is found out later.
struct Places {
    dead_letters: Location,
    sources: Vec<Location>,
    tasks: Vec<Location>,
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

    fn plan(&self, raw: raw::Pipeline) -> Result<Plan, Error> {
        let pipeline = self.name(&raw.pipeline.value, "pipeline", raw.pipeline.defined)?;
        let Some(dead_letters) = raw.dead_letters else {
            return self.refuse(
                Location::UNKNOWN,
                format!("no `dead_letters`: nothing may be silently discarded; add `dead_letters: {{ topic: {pipeline}.dead-letters }}`"),
            );
        };
        let dead_letters_place = dead_letters.defined;
        let place = dead_letters_place;
        let dead_letters = self.topic(&dead_letters.value.topic, dead_letters.value.partitions, place)?;
        let mut sources = Vec::new();
        let mut source_places = Vec::new();
        for (name, source) in raw.sources {
            source_places.push(source.defined);
            sources.push(self.source(&name, source)?);
        }
        let mut tasks = Vec::new();
        let mut task_places = Vec::new();
        for (name, raw) in raw.tasks {
            task_places.push(raw.defined);
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
        let mut plan = Plan { pipeline, sources, routes, tasks, lanes, dead_letters };
        let places = Places { dead_letters: dead_letters_place, sources: source_places, tasks: task_places };
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
            schemas: raw.schemas.iter().map(|s| s.as_str().into()).collect(),
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
        let in_flight = raw.in_flight.map_or(DEFAULT_IN_FLIGHT, |raw| InFlight {
            records: raw.records.unwrap_or(DEFAULT_IN_FLIGHT.records),
            bytes: raw.mib.map_or(DEFAULT_IN_FLIGHT.bytes, |mib| mib << 20),
        });
        if in_flight.records < 8 || in_flight.bytes == 0 {
            return self.refuse(place, "`in_flight` must allow at least 8 records and 1 mib");
        }
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
                (Some(text), _) => self.duration(text, place)?,
                (None, LaneName::Precision) => Duration::from_millis(5),
                (None, LaneName::Throughput) => Duration::from_millis(50),
            },
            partitions: self.partitions(raw.partitions, place)?,
            model_threads: raw.model_threads.map(|n| at_least_one("model_threads", n)).transpose()?,
            in_flight,
            tasks: Vec::new(),
        })
    }

    fn routes(
        &self,
        raw: Vec<Spanned<raw::Route>>,
        sources: &[Source],
        tasks: &[Task],
        lanes: &mut [Lane],
    ) -> Result<Vec<Route>, Error> {
        let mut routes: Vec<Route> = Vec::new();
        let mut names = HashSet::new();
        let mut caught: HashSet<usize> = HashSet::new();
        for raw in raw {
            let (place, raw) = (raw.defined, raw.value);
            let from = &raw.from.value;
            let Some(source) = sources.iter().position(|s| *s.name == **from) else {
                let known = hint(from, sources.iter().map(|s| &*s.name));
                return self.refuse(raw.from.defined, format!("no source is called `{from}`{known}"));
            };
            if caught.contains(&source) {
                return self.refuse(place, format!("an earlier route without `when` takes every event of `{from}`, so this one never matches; put it before"));
            }
            if raw.when.is_none() {
                caught.insert(source);
            }
            let action = self.action(&raw, place, tasks, lanes)?;
            let goes = match &action {
                Action::Skip { .. } => "skip",
                Action::Score { task, .. } => &tasks[*task].name,
            };
            let base = match &raw.name {
                Some(name) => self.name(name, "route", place)?.to_string(),
                None => format!("{from}-{goes}"),
            };
            let mut name = base.clone();
            let mut nth = 2;
            while !names.insert(name.clone()) {
                if raw.name.is_some() {
                    return self.refuse(place, format!("two routes are called `{name}`"));
                }
                name = format!("{base}-{nth}");
                nth += 1;
            }
            let when = raw.when.map(|when| Rule {
                text: when.value,
                file: self.file.to_owned(),
                place: when.defined,
            });
            routes.push(Route { name: name.into(), source, when, action });
        }
        Ok(routes)
    }

    fn action(
        &self,
        raw: &raw::Route,
        place: Location,
        tasks: &[Task],
        lanes: &mut [Lane],
    ) -> Result<Action, Error> {
        let (task, lane) = match (&raw.skip, &raw.task, &raw.lane) {
            (Some(why), None, None) => return Ok(Action::Skip { why: why.as_str().into() }),
            (None, Some(task), Some(lane)) => (task, lane),
            (Some(_), _, _) => {
                return self
                    .refuse(place, "a route either skips or scores; remove `skip`, or `task` and `lane`");
            }
            _ => return self.refuse(place, "a route needs `task` and `lane`, or `skip` with the reason"),
        };
        let Some(index) = tasks.iter().position(|t| *t.name == *task.value) else {
            let known = hint(&task.value, tasks.iter().map(|t| &*t.name));
            return self.refuse(task.defined, format!("no task is called `{}`{known}", task.value));
        };
        let Some(to) = LaneName::ALL.into_iter().find(|l| l.as_str() == lane.value) else {
            let known = hint(&lane.value, LaneName::ALL.map(LaneName::as_str));
            return self.refuse(lane.defined, format!("no lane is called `{}`{known}", lane.value));
        };
        let Some(lane) = lanes.iter_mut().find(|l| l.name == to) else {
            return self.refuse(
                lane.defined,
                format!("`lanes` does not say how the lane {} runs; add it", to.as_str()),
            );
        };
        if tasks[index].models.get(lane.variant).is_none() {
            let variant = lane.variant.as_str();
            return self.refuse(task.defined, format!("the lane {} runs {variant} models, and task `{}` has none; add `models.{variant}`, or set the lane's `model`", to.as_str(), task.value));
        }
        if !lane.tasks.contains(&index) {
            lane.tasks.push(index);
            lane.tasks.sort_unstable();
        }
        Ok(Action::Score { task: index, lane: to })
    }

    /// What only the whole file shows.
    fn whole(&self, plan: &mut Plan, places: &Places) -> Result<(), Error> {
        for (index, source) in plan.sources.iter().enumerate() {
            if !plan.routes.iter().any(|r| r.source == index) {
                return self.refuse(
                    places.sources[index],
                    format!(
                        "source `{}` has no route; every event of it would be a dead letter",
                        source.name
                    ),
                );
            }
        }
        for (index, task) in plan.tasks.iter().enumerate() {
            if !plan.lanes.iter().any(|l| l.tasks.contains(&index)) {
                return self.refuse(
                    places.tasks[index],
                    format!("no route leads to task `{}`; add one, or remove the task", task.name),
                );
            }
        }
        for index in 0..plan.sources.len() {
            let mut of_it = plan.routes.iter().enumerate().filter(|(_, r)| r.source == index);
            let first = of_it.next();
            let only = of_it.next().is_none();
            plan.sources[index].direct = first
                .filter(|(_, r)| only && r.when.is_none() && matches!(r.action, Action::Score { .. }))
                .map(|(at, _)| at);
        }
        let mut topics: HashSet<Arc<str>> = HashSet::new();
        for (source, place) in plan.sources.iter().zip(&places.sources) {
            if !topics.insert(source.topic.clone()) {
                return self.refuse(
                    *place,
                    format!(
                        "topic `{}` is read by two sources; make it one with several routes",
                        source.topic
                    ),
                );
            }
        }
        self.written(plan, places)
    }

    /// Topics that Twinlane writes: none is read by the pipeline too, and whoever shares one agrees on it.
    fn written(&self, plan: &Plan, places: &Places) -> Result<(), Error> {
        let lane_topics: HashSet<String> = plan
            .lanes
            .iter()
            .flat_map(|lane| lane.tasks.iter().map(|&task| plan.lane_topic(lane.name, task)))
            .collect();
        let published = plan.tasks.iter().map(|task| &task.publish.topic).zip(&places.tasks);
        for (topic, &place) in std::iter::once((&plan.dead_letters, &places.dead_letters)).chain(published) {
            let name = &topic.name;
            if plan.sources.iter().any(|source| source.topic == *name) {
                return self
                    .refuse(place, format!("topic `{name}` is both read and written; that would be a loop"));
            }
            if lane_topics.contains(&**name) {
                return self.refuse(
                    place,
                    format!("topic `{name}` is the way from the router to a worker; answers need another"),
                );
            }
        }
        for (at, task) in plan.tasks.iter().enumerate() {
            let (mine, place) = (&task.publish, places.tasks[at]);
            if mine.topic.name == plan.dead_letters.name {
                let name = &mine.topic.name;
                return self.refuse(
                    place,
                    format!("`{name}` is the dead-letter topic and a task's; give them topics of their own"),
                );
            }
            let same = |other: &&Task| other.publish.topic.name == mine.topic.name;
            let Some(other) = plan.tasks[..at].iter().find(same).map(|task| &task.publish) else { continue };
            if other.topic.partitions != mine.topic.partitions {
                return self.refuse(
                    place,
                    format!(
                        "topic `{}` is given {} and {} partitions",
                        mine.topic.name, other.topic.partitions, mine.topic.partitions
                    ),
                );
            }
            if other.format != mine.format {
                let name = &mine.topic.name;
                return self.refuse(
                    place,
                    format!("topic `{name}` is given two formats; its readers could not tell them apart"),
                );
            }
        }
        Ok(())
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

    fn duration(&self, text: &str, place: Location) -> Result<Duration, Error> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let parsed = digits.parse::<u64>().ok().zip(match text[digits.len()..].trim() {
            "ms" => Some(1),
            "s" => Some(1000),
            _ => None,
        });
        match parsed {
            Some((number, unit)) if number * unit <= 5000 => Ok(Duration::from_millis(number * unit)),
            _ => self.refuse(
                place,
                format!("`{text}` is no window; write milliseconds or seconds up to 5s, such as `5ms`"),
            ),
        }
    }
}
