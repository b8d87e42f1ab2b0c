//! A task's fields, held to the schemas of the events that are sent to it. A misspelt `carry` would answer null for
//! years, and a misspelt column make a dead letter of every event. Checked is the first part of a path, at the top of
//! an event; what the items of a list have is not.

use std::sync::Arc;

use crate::{
    Error,
    place::Place,
    plan::{Action, Input, Plan, Task},
    similar::hint,
};

/// A schema of a source, and its top-level fields where they are known.
pub(crate) struct Schema<'s> {
    pub(crate) name: &'s Arc<str>,
    pub(crate) fields: Option<Vec<String>>,
}

impl<'s> Schema<'s> {
    /// The schemas of a source; JSON has none.
    pub(crate) fn all(
        plan: &'s Plan,
        source: usize,
        fields: &dyn Fn(&str) -> Option<Vec<String>>,
    ) -> Vec<Self> {
        plan.sources[source].schemas.iter().map(|name| Self { name, fields: fields(name) }).collect()
    }

    /// Where the fields are not known it has every one.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.fields.as_ref().is_none_or(|known| known.iter().any(|name| name == field))
    }
}

/// A schema of which events are sent to a task.
pub(crate) struct Sent<'s> {
    pub(crate) schema: &'s Schema<'s>,
    pub(crate) route: &'s str,
    /// All that arrive at the route, as opposed to those that a rule picks by their fields.
    pub(crate) always: bool,
}

/// Refuses a field that nothing sent to the task has, and one without which each event of a schema is a dead letter.
pub(crate) fn held_to(
    plan: &Plan,
    task: usize,
    source: usize,
    sent: &[Sent<'_>],
    fields: &dyn Fn(&str) -> Option<Vec<String>>,
) -> Result<(), Error> {
    // Another source may have what this one lacks.
    let others: Vec<usize> = plan
        .routes
        .iter()
        .filter(|route| matches!(route.action, Action::Score { task: to, .. } if to == task))
        .map(|route| route.source)
        .filter(|&other| other != source)
        .collect();
    if others.iter().any(|&other| plan.sources[other].schemas.is_empty()) {
        return Ok(());
    }
    let others: Vec<Schema<'_>> = others.iter().flat_map(|&other| Schema::all(plan, other, fields)).collect();
    let known = || sent.iter().map(|sent| sent.schema).chain(&others);
    let task = &plan.tasks[task];
    for (path, needed, place) in named(task) {
        let field = path.split('.').next().unwrap_or(path);
        if !known().any(|schema| schema.has(field)) {
            let hint =
                hint(field, known().flat_map(|schema| schema.fields.iter().flatten()).map(String::as_str));
            let message =
                format!("no event that is sent to task `{}` has a field `{field}`{hint}", task.name);
            return Err(Error::of(place, message));
        }
        let lacks = |sent: &&Sent<'_>| sent.always && !sent.schema.has(field);
        if let (true, Some(Sent { schema, route, .. })) = (needed, sent.iter().find(lacks)) {
            let message = format!(
                "schema `{}` has no field `{field}`, and route `{route}` sends all its events to task `{}`; give the field a `missing`, or the schema another route",
                schema.name, task.name
            );
            return Err(Error::of(place, message));
        }
    }
    Ok(())
}

/// The paths at the top of an event that a task names: whether an event without it is a dead letter, and where.
fn named(task: &Task) -> Vec<(&str, bool, &Place)> {
    let mut named = Vec::new();
    for input in &task.inputs {
        match input {
            Input::Scalar { column, .. } => {
                named.push((&*column.field, column.missing.is_none(), &column.place))
            }
            Input::Matrix { columns, .. } => {
                named.extend(columns.iter().map(|c| (&*c.field, c.missing.is_none(), &c.place)));
            }
            Input::Sequence { tensor, each, .. } => {
                named.extend(task.places.inputs.get(tensor).map(|place| (&**each, false, place)));
            }
            Input::Text { field, place, .. } => named.push((field, true, place)),
        }
    }
    named.extend(
        task.publish.carry.iter().zip(&task.places.carry).map(|(path, place)| (&**path, false, place)),
    );
    named
}
