//! One dead letter as it lies on its topic, with what the plan says of its event.

use std::sync::Arc;

use twinlane_pipeline::{Action, Plan};
use twinlane_record::{DeadLetter, Envelope, headers};

/// A dead letter.
#[derive(Clone, Debug)]
pub(crate) struct Letter<'r> {
    pub(crate) record: &'r Envelope,
    pub(crate) dead: DeadLetter,
    /// The route that its event took, if it came so far.
    pub(crate) route: Option<Arc<str>>,
    /// The task of that route, if the pipeline still has it.
    pub(crate) task: Option<Arc<str>>,
    /// Its value, and perhaps more, did not fit the dead-letter topic.
    pub(crate) is_truncated: bool,
}

impl<'r> Letter<'r> {
    /// `None`: the record is no dead letter.
    pub(crate) fn read(plan: &Plan, record: &'r Envelope) -> Option<Self> {
        let dead = DeadLetter::from_headers(&record.headers)?;
        // Where every event of a source takes one route, it is known whatever the event died of.
        let source = plan.sources.iter().find(|source| source.topic == dead.source.topic);
        let only = source.and_then(|source| source.direct).map(|route| plan.routes[route].name.clone());
        let route = dead.route.clone().or(only);
        let task = plan.routes.iter().find(|known| Some(&known.name) == route.as_ref());
        let task = task.and_then(|route| match route.action {
            Action::Score { task, .. } => Some(plan.tasks[task].name.clone()),
            Action::Skip { .. } => None,
        });
        let is_truncated = record.headers.get(headers::DEAD_TRUNCATED).is_some();
        Some(Self { record, dead, route, task, is_truncated })
    }
}
