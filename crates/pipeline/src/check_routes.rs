//! Checks of routes: that sources, tasks and lanes exist, that a lane's variant does, and that each can match.

use std::collections::{HashMap, HashSet};

use serde_saphyr::{Location, Spanned};

use crate::{
    Error,
    check::Checker,
    plan::{Action, Lane, LaneName, Route, Rule, Source, Task},
    raw,
    similar::hint,
};

impl Checker<'_> {
    pub(crate) fn routes(
        &self,
        raw: Vec<Spanned<raw::Route>>,
        sources: &[Source],
        tasks: &[Task],
        lanes: &mut [Lane],
    ) -> Result<Vec<Route>, Error> {
        let mut routes: Vec<Route> = Vec::new();
        let mut names = HashSet::new();
        // Where to go on counting: from 2 again, thousands of routes of one name would take minutes.
        let mut nths: HashMap<String, usize> = HashMap::new();
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
            let nth = nths.entry(base.clone()).or_insert(2);
            while !names.insert(name.clone()) {
                if raw.name.is_some() {
                    return self.refuse(place, format!("two routes are called `{name}`"));
                }
                name = format!("{base}-{nth}");
                *nth += 1;
            }
            let when = raw.when.map(|when| Rule { text: when.value, place: self.place(when.defined) });
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
}
