//! What `twinlane check` prints of a plan.

use std::fmt;

use crate::plan::{Action, Plan};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "pipeline {}", self.pipeline)?;
        writeln!(f, "\nsources")?;
        for (index, source) in self.sources.iter().enumerate() {
            let themselves = self.lanes.iter().filter(|lane| self.reads_itself(lane.name, index));
            let directly =
                themselves.map(|lane| format!("read directly by the {} workers", lane.name.as_str()));
            let routed = source.direct.is_none() && self.needs_router();
            let readers: Vec<_> = directly.chain(routed.then(|| "read by the router".into())).collect();
            writeln!(f, "  {:<24} {}", source.topic, readers.join(", "))?;
        }
        writeln!(f, "\nroutes (the first that matches wins; no match is a dead letter)")?;
        for route in &self.routes {
            let when = route.when.as_ref().map_or("always", |rule| &rule.text);
            let to = match &route.action {
                Action::Skip { why } => format!("skip: {why}"),
                Action::Score { task, lane } => format!("{} → {}", lane.as_str(), self.tasks[*task].name),
            };
            writeln!(f, "  {:<32} {when:<28} {to}", route.name)?;
        }
        writeln!(f, "\nlanes")?;
        for lane in &self.lanes {
            let devices: Vec<_> = lane.devices.iter().map(|d| d.as_str()).collect();
            writeln!(
                f,
                "  {:<12} {} models on {}, batches up to {}, a transaction at most every {:?}, group {}",
                lane.name.as_str(),
                lane.variant.as_str(),
                devices.join(" else "),
                lane.max_batch,
                lane.window,
                self.lane_group(lane.name),
            )?;
            for &task in &lane.tasks {
                let task_plan = &self.tasks[task];
                let from = if self.routed_tasks(lane.name).contains(&task) {
                    self.lane_topic(lane.name, task)
                } else {
                    "its source".into()
                };
                write!(f, "    {from} → {} → {}", task_plan.name, task_plan.publish.topic.name)?;
                match task_plan.deadline {
                    Some(deadline) => writeln!(f, ", expired when older than {deadline:?}")?,
                    None => writeln!(f)?,
                }
            }
            if let Some(source) = self.reads_tasks_in_one_row(lane.name) {
                writeln!(
                    f,
                    "    note: the tasks of {} wait for each other; without `direct: true` the router keeps them apart",
                    source.topic
                )?;
            }
        }
        if self.needs_router() {
            let groups: Vec<_> = self.routed_lanes().map(|l| self.router_group(l.name)).collect();
            writeln!(f, "\nrouter: one stage per lane, groups {}", groups.join(", "))?;
        } else {
            writeln!(f, "\nrouter: not needed")?;
        }
        writeln!(f, "\ntopics that Twinlane writes")?;
        for topic in self.topics() {
            writeln!(f, "  {:<40} {} partitions", topic.name, topic.partitions)?;
        }
        Ok(())
    }
}
