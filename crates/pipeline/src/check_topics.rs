//! What only the whole file shows: that everything is used, and that no topic closes a loop or has two meanings.

use std::collections::HashSet;

use serde_saphyr::Location;

use crate::{
    Error,
    check::Checker,
    plan::{Action, Plan, Topic},
};

/// Where the parts of the file begin.
pub(crate) struct Places {
    pub(crate) dead_letters: Location,
    pub(crate) sources: Vec<Location>,
    pub(crate) tasks: Vec<Location>,
}

impl Checker<'_> {
    /// What only the whole file shows.
    pub(crate) fn whole(&self, plan: &mut Plan, places: &Places) -> Result<(), Error> {
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
        self.read(plan, places)?;
        self.written(plan, places)
    }

    /// Topics that are read: each once, and none is our own.
    fn read(&self, plan: &Plan, places: &Places) -> Result<(), Error> {
        let between = lane_topics(plan);
        let mut read: HashSet<&str> = HashSet::new();
        for (source, &place) in plan.sources.iter().zip(&places.sources) {
            let name = &*source.topic;
            if !read.insert(name) {
                return self.refuse(
                    place,
                    format!("topic `{name}` is read by two sources; make it one with several routes"),
                );
            }
            if between.contains(name) {
                return self.refuse(
                    place,
                    format!("topic `{name}` is the way from the router to a worker; that would be a loop"),
                );
            }
        }
        Ok(())
    }

    /// Topics that Twinlane writes: none is read by the pipeline too, and whoever shares one agrees on it.
    fn written(&self, plan: &Plan, places: &Places) -> Result<(), Error> {
        let between = lane_topics(plan);
        let dead_letters = (&plan.dead_letters, self.place(places.dead_letters));
        let published = plan.tasks.iter().map(|task| (&task.publish.topic, task.places.publish.clone()));
        for (Topic { name, .. }, place) in std::iter::once(dead_letters).chain(published) {
            if plan.sources.iter().any(|source| source.topic == *name) {
                let message = format!("topic `{name}` is both read and written; that would be a loop");
                return Err(Error::of(&place, message));
            }
            if between.contains(&**name) {
                let message =
                    format!("topic `{name}` is the way from the router to a worker; answers need another");
                return Err(Error::of(&place, message));
            }
        }
        for (at, task) in plan.tasks.iter().enumerate() {
            let mine = &task.publish;
            let name = &mine.topic.name;
            let refuse = |message: String| Err(Error::of(&task.places.publish, message));
            if *name == plan.dead_letters.name {
                return refuse(format!(
                    "`{name}` is the dead-letter topic and a task's; give them topics of their own"
                ));
            }
            let Some(other) = plan.tasks[..at].iter().map(|t| &t.publish).find(|p| p.topic.name == *name)
            else {
                continue;
            };
            if other.topic.partitions != mine.topic.partitions {
                return refuse(format!(
                    "topic `{name}` is given {} and {} partitions",
                    other.topic.partitions, mine.topic.partitions
                ));
            }
            if other.format != mine.format {
                return refuse(format!(
                    "topic `{name}` is given two formats; its readers could not tell them apart"
                ));
            }
        }
        Ok(())
    }
}

/// Topics between the router and the workers.
fn lane_topics(plan: &Plan) -> HashSet<String> {
    let tasks = plan.lanes.iter().flat_map(|lane| lane.tasks.iter().map(move |&task| (lane.name, task)));
    tasks.map(|(lane, task)| plan.lane_topic(lane, task)).collect()
}
