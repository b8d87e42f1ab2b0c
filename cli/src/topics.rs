//! `twinlane topics create`: makes what a pipeline needs and a cluster lacks.

use std::{collections::HashSet, io::Write as _, process::ExitCode, sync::Arc};

use twinlane_kafka::Topics;
use twinlane_service::Failure;

use crate::{arguments::TopicsCreate, dead_letters, locate, printed};

pub(crate) fn create(arguments: &TopicsCreate) -> Result<ExitCode, Failure> {
    let located = locate::pipeline(&arguments.pipeline, Some(&arguments.cluster), None)?;
    let plan = &located.loaded.plan;
    let topics = Topics::connect(&located.settings.connection()?)?;
    let sources: Vec<_> =
        plan.sources.iter().map(|s| (s.topic.clone(), arguments.source_partitions)).collect();
    let mut created: HashSet<Arc<str>> = topics.create_missing(&sources, &[])?.into_iter().collect();
    created.extend(located.loaded.create_topics(&topics)?);
    let redriven = dead_letters::redriven_topic(plan)?;
    if dead_letters::create_redriven(&topics, &redriven)? {
        created.insert(redriven.clone());
    }
    let written = plan.topics().into_iter().map(|topic| (topic.name, topic.partitions));
    let all: Vec<_> = sources.into_iter().chain(written).chain([(redriven, 1)]).collect();
    printed(|out| {
        for (name, partitions) in &all {
            if created.contains(name) {
                writeln!(out, "created  {name} ({partitions} partitions)")?;
            } else {
                writeln!(out, "exists   {name}")?;
            }
        }
        Ok(())
    })
}
