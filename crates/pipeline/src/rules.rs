//! Routing rules: CEL, compiled once. A rule sees `event` (its fields), `schema`, `topic` and `key`; only the
//! fields that it names are handed over, and a payload is decoded only when some rule looks into it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, LazyLock},
};

use cel::{
    Context, Env, Value as Cel,
    common::ast::IdedExpr,
    objects::{Key, Map},
};
use twinlane_record::{Reason, Rejection, Value};

use crate::{
    Error,
    plan::{Action, Plan},
    rule_budget, rule_check,
    rule_names::Names,
    rule_outcome::{self, Outcome},
    rule_simple::Simple,
    schema_fields::{self, Schema, Sent},
};

/// CEL's own functions and macros, which every rule has and none adds to.
static STDLIB: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// The rules of one source, in order.
pub struct RuleSet {
    topic: Arc<str>,
    env: Arc<Env>,
    rules: Vec<(usize, Condition)>,
    /// For each schema, which of the rules may match its events: the schema alone tells that of most.
    by_schema: Vec<(Arc<str>, Vec<usize>)>,
}

pub(crate) enum Condition {
    Always,
    /// `schema == "…"`, by far the most common rule, needs neither CEL nor the payload.
    SchemaIs(String),
    Cel {
        expression: Box<IdedExpr>,
        /// It has macros, which need their budget.
        loops: bool,
        names: Box<Names>,
        /// The same, where it is simple enough to be answered without CEL.
        simple: Option<Simple>,
        text: String,
    },
}

impl RuleSet {
    /// Compiles the rules of one source. `fields` gives the top-level fields of a schema, where they are known.
    /// Refused is a rule that uses a name that nothing has, or that fails on a schema's events because they lack
    /// a field that it looks at; and a task that needs a field which what is sent to it lacks.
    pub fn compile(
        plan: &Plan,
        source: usize,
        fields: &dyn Fn(&str) -> Option<Vec<String>>,
    ) -> Result<Self, Error> {
        let env = STDLIB.clone();
        let topic = plan.sources[source].topic.clone();
        let known = Schema::all(plan, source, fields);
        // Which of them may still arrive at the rule at hand.
        let mut open: Vec<&Schema<'_>> = known.iter().collect();
        let mut sent: BTreeMap<usize, Vec<Sent<'_>>> = BTreeMap::new();
        let mut rules = Vec::new();
        let mut by_schema: Vec<(Arc<str>, Vec<usize>)> =
            known.iter().map(|schema| (schema.name.clone(), Vec::new())).collect();
        for (index, route) in plan.routes.iter().enumerate().filter(|(_, r)| r.source == source) {
            let condition = match &route.when {
                None => Condition::Always,
                Some(rule) => rule_check::condition(&env, rule, plan.sources[source].format, &known)?,
            };
            let mut left = Vec::new();
            for schema in open {
                let outcome = condition.outcome(&env, &topic, schema);
                if let (Outcome::Lacks(field), Some(rule)) = (&outcome, &route.when) {
                    let name = schema.name;
                    let message = format!(
                        "schema `{name}` has no field `{field}`, and this rule would fail on its events; put `schema != \"{name}\" &&` before it, or ask `has(event.{field}) &&` first"
                    );
                    return Err(Error::of(&rule.place, message));
                }
                if let (Action::Score { task, .. }, true) = (&route.action, outcome != Outcome::False) {
                    let always = outcome == Outcome::True;
                    sent.entry(*task).or_default().push(Sent { schema, route: &route.name, always });
                }
                if outcome != Outcome::False {
                    let candidates = by_schema.iter_mut().filter(|(name, _)| name == schema.name);
                    candidates.for_each(|(_, candidates)| candidates.push(rules.len()));
                }
                if outcome != Outcome::True {
                    left.push(schema);
                }
            }
            open = left;
            rules.push((index, condition));
        }
        for (&task, sent) in &sent {
            schema_fields::held_to(plan, task, source, sent, fields)?;
        }
        Ok(Self { topic, env, rules, by_schema })
    }

    /// The top-level fields that the rules look at; `None` where a rule uses the event as a whole.
    pub fn fields(&self) -> Option<BTreeSet<&str>> {
        let mut fields = BTreeSet::new();
        for (_, condition) in &self.rules {
            if let Condition::Cel { names, .. } = condition {
                if names.whole_event {
                    return None;
                }
                fields.extend(names.fields.iter().map(String::as_str));
            }
        }
        Some(fields)
    }

    /// The first route that matches. `decode` is called at most once, and only if a rule needs the fields; what it
    /// gives needs no more than [`RuleSet::fields`].
    pub fn route(
        &self,
        schema: Option<&str>,
        decode: &mut dyn FnMut() -> Result<Value, Rejection>,
        key: Option<&[u8]>,
    ) -> Result<usize, Rejection> {
        let mut subject = Subject { schema, topic: &self.topic, key, decode, event: None };
        let known = schema.and_then(|schema| self.by_schema.iter().find(|(name, _)| **name == *schema));
        let mut candidates = known.map(|(_, candidates)| candidates.iter().copied());
        let mut all = 0..self.rules.len();
        while let Some(rule) = candidates.as_mut().map_or_else(|| all.next(), Iterator::next) {
            let (route, condition) = &self.rules[rule];
            if condition.matches(&self.env, &mut subject)? {
                return Ok(*route);
            }
        }
        let what = schema.map_or_else(String::new, |s| format!(" of schema `{s}`"));
        Err(Rejection::new(
            Reason::NoRoute,
            format!("no route matches this event{what} of topic {}", self.topic),
        ))
    }
}

/// What rules are asked about.
struct Subject<'e> {
    schema: Option<&'e str>,
    topic: &'e Arc<str>,
    key: Option<&'e [u8]>,
    decode: &'e mut dyn FnMut() -> Result<Value, Rejection>,
    event: Option<Value>,
}

impl Subject<'_> {
    fn event(&mut self) -> Result<&Value, Rejection> {
        Ok(match &mut self.event {
            Some(event) => event,
            none => none.insert((self.decode)()?),
        })
    }
}

impl Condition {
    fn matches(&self, env: &Arc<Env>, subject: &mut Subject<'_>) -> Result<bool, Rejection> {
        let (expression, loops, names, simple, text) = match self {
            Condition::Always => return Ok(true),
            Condition::SchemaIs(name) => return Ok(subject.schema == Some(name)),
            Condition::Cel { expression, loops, names, simple, text } => {
                (expression, loops, names, simple, text)
            }
        };
        let looks_inside = names.variables.contains("event");
        if let Some(simple) = simple {
            if looks_inside {
                subject.event()?;
            }
            if let Some(answer) = simple.answer(subject.schema, subject.event.as_ref()) {
                return Ok(answer);
            }
        }
        let mut context = context(env, names, subject.schema, subject.topic);
        if *loops {
            rule_budget::provide(&mut context);
        }
        if looks_inside {
            context.add_variable_from_value("event", project(subject.event()?, names)?);
        }
        if names.variables.contains("key") {
            let key = subject.key.and_then(|k| std::str::from_utf8(k).ok());
            context.add_variable_from_value("key", text_or_null(key));
        }
        match Cel::resolve(expression, &context) {
            Ok(Cel::Bool(matches)) => Ok(matches),
            Ok(other) => Err(failed(text, &format!("gave {other:?} instead of true or false"))),
            Err(error) => Err(failed(text, &error.to_string())),
        }
    }
}

impl Condition {
    /// What it answers for the events of a schema.
    fn outcome(&self, env: &Arc<Env>, topic: &str, schema: &Schema<'_>) -> Outcome {
        match self {
            Condition::Always => Outcome::True,
            Condition::SchemaIs(name) => Outcome::of(**schema.name == **name),
            Condition::Cel { expression, names, .. } => {
                let mut context = context(env, names, Some(schema.name), topic);
                rule_budget::provide(&mut context);
                rule_outcome::outcome(expression, &context, schema)
            }
        }
    }
}

fn failed(text: &str, why: &str) -> Rejection {
    Rejection::new(Reason::RuleFailed, format!("rule `{text}`: {why}"))
}

fn context<'c>(env: &Arc<Env>, names: &Names, schema: Option<&str>, topic: &str) -> Context<'c, 'c> {
    let mut context = Context::with_env(env.clone());
    if names.variables.contains("schema") {
        context.add_variable_from_value("schema", text_or_null(schema));
    }
    if names.variables.contains("topic") {
        context.add_variable_from_value("topic", text_or_null(Some(topic)));
    }
    context
}

fn text_or_null(text: Option<&str>) -> Cel {
    text.map_or(Cel::Null, |t| Cel::String(Arc::new(t.to_owned())))
}

fn project(event: &Value, names: &Names) -> Result<Cel, Rejection> {
    match event {
        Value::Record(fields) if !names.whole_event => {
            record(fields.iter().filter(|(name, _)| names.fields.contains(&**name)))
        }
        other => to_cel(other),
    }
}

fn record<'v>(fields: impl Iterator<Item = &'v (Arc<str>, Value)>) -> Result<Cel, Rejection> {
    let entry =
        |(name, value): &(Arc<str>, Value)| Ok((Key::String(Arc::new(name.to_string())), to_cel(value)?));
    let map: HashMap<Key, Cel> = fields.map(entry).collect::<Result<_, Rejection>>()?;
    Ok(Cel::Map(Map { map: Arc::new(map) }))
}

pub(crate) fn to_cel(value: &Value) -> Result<Cel, Rejection> {
    Ok(match value {
        Value::Null => Cel::Null,
        Value::Bool(b) => Cel::Bool(*b),
        Value::Int(i) => Cel::Int(*i),
        Value::Float(f) => Cel::Float(*f),
        Value::Text(text) => Cel::String(Arc::new(text.to_string())),
        Value::Bytes(bytes) => Cel::Bytes(Arc::new(bytes.to_vec())),
        Value::Timestamp(micros) => match chrono::DateTime::from_timestamp_micros(*micros) {
            Some(at) => Cel::Timestamp(at.fixed_offset()),
            // As null it could pass for a missing one.
            None => {
                let detail = format!("{micros} microseconds since 1970 are no year that a rule can compare");
                return Err(Rejection::new(Reason::InvalidTimestamp, detail));
            }
        },
        Value::List(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect::<Result<_, _>>()?)),
        Value::Record(fields) => record(fields.iter())?,
    })
}
