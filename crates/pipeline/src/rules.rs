//! Routing rules: CEL, compiled once. A rule sees `event` (its fields), `schema`, `topic` and `key`; only the
//! fields that it names are handed over, and a payload is decoded only when some rule looks into it.

use std::{collections::HashMap, sync::Arc};

use cel::{
    Context, Env, Program, Value as Cel,
    common::ast::{Expr, LiteralValue, operators::EQUALS},
    objects::{Key, Map},
};
use twinlane_record::{Format, Reason, Rejection, Value};

use crate::{
    Error,
    plan::{Plan, Rule},
    rule_names::Names,
    similar::hint,
};

/// The rules of one source, in order.
pub struct RuleSet {
    topic: Arc<str>,
    env: Arc<Env>,
    rules: Vec<(usize, Condition)>,
}

enum Condition {
    Always,
    /// `schema == "…"`, by far the most common rule, needs neither CEL nor the payload.
    SchemaIs(String),
    Cel {
        program: Program,
        names: Box<Names>,
        text: String,
    },
}

const VARIABLES: [&str; 4] = ["event", "schema", "topic", "key"];
/// The functions that rules use most, for hints.
const FUNCTIONS: [&str; 12] = [
    "contains",
    "double",
    "duration",
    "endsWith",
    "has",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "timestamp",
    "type",
];
/// CEL's names of types, for `type(event.x) == int`.
const TYPES: [&str; 9] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "uint"];

impl RuleSet {
    /// Compiles the rules of one source. `fields` gives the top-level fields of a schema, where they are
    /// known; a rule that uses another name is refused.
    pub fn compile(
        plan: &Plan,
        source: usize,
        fields: &dyn Fn(&str) -> Option<Vec<String>>,
    ) -> Result<Self, Error> {
        let env = Arc::new(Env::stdlib());
        let topic = plan.sources[source].topic.clone();
        let schemas = &plan.sources[source].schemas;
        // What may still arrive at the rule at hand, and the fields that it is known to have.
        let mut open: Vec<Known<'_>> =
            schemas.iter().map(|schema| Known { schema, fields: fields(schema) }).collect();
        let mut rules = Vec::new();
        for (index, route) in plan.routes.iter().enumerate().filter(|(_, r)| r.source == source) {
            let condition = match &route.when {
                None => Condition::Always,
                Some(rule) => {
                    let condition = condition(&env, rule, plan.sources[source].format, schemas, &open)?;
                    held_to_schemas(&env, rule, &condition, &topic, &mut open)?;
                    condition
                }
            };
            rules.push((index, condition));
        }
        Ok(Self { topic, env, rules })
    }

    /// Whether some rule looks into the payload.
    pub fn needs_fields(&self) -> bool {
        self.rules
            .iter()
            .any(|(_, c)| matches!(c, Condition::Cel { names, .. } if names.variables.contains("event")))
    }

    /// The first route that matches. `decode` is called at most once, and only if a rule needs the fields.
    pub fn route(
        &self,
        schema: Option<&str>,
        decode: &mut dyn FnMut() -> Result<Value, Rejection>,
        key: Option<&[u8]>,
    ) -> Result<usize, Rejection> {
        let mut event: Option<Value> = None;
        for (route, condition) in &self.rules {
            let matches = match condition {
                Condition::Always => true,
                Condition::SchemaIs(name) => schema == Some(name),
                Condition::Cel { program, names, text } => {
                    let mut context = context(&self.env, names, schema, &self.topic);
                    if names.variables.contains("event") {
                        let event = match &event {
                            Some(event) => event,
                            None => event.insert(decode()?),
                        };
                        context.add_variable_from_value("event", project(event, names));
                    }
                    if names.variables.contains("key") {
                        let key = key.and_then(|k| std::str::from_utf8(k).ok());
                        context.add_variable_from_value("key", text_or_null(key));
                    }
                    match program.execute(&context) {
                        Ok(Cel::Bool(matches)) => matches,
                        Ok(other) => {
                            return Err(failed(text, &format!("gave {other:?} instead of true or false")));
                        }
                        Err(error) => return Err(failed(text, &error.to_string())),
                    }
                }
            };
            if matches {
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

fn failed(text: &str, why: &str) -> Rejection {
    Rejection::new(Reason::RuleFailed, format!("rule `{text}`: {why}"))
}

/// A schema of the source, and its fields where they are known.
struct Known<'s> {
    schema: &'s Arc<str>,
    fields: Option<Vec<String>>,
}

impl Known<'_> {
    fn has(&self, field: &str) -> bool {
        self.fields.as_ref().is_none_or(|known| known.iter().any(|name| name == field))
    }
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

/// Refuses a rule that fails on every event of a schema, because that lacks a field that the rule looks at, and
/// takes from `open` the schemas of which no later rule sees an event. Both are found by asking the rule about
/// an event without fields: where its answer does not need them, it gives one.
fn held_to_schemas(
    env: &Arc<Env>,
    rule: &Rule,
    condition: &Condition,
    topic: &str,
    open: &mut Vec<Known<'_>>,
) -> Result<(), Error> {
    let (program, names) = match condition {
        Condition::Always => return Ok(()),
        Condition::SchemaIs(name) => {
            open.retain(|known| **known.schema != **name);
            return Ok(());
        }
        Condition::Cel { program, names, .. } => (program, names),
    };
    let answer = |schema: &str| {
        let mut context = context(env, names, Some(schema), topic);
        context.add_variable_from_value("event", record(std::iter::empty()));
        context.add_variable_from_value("key", Cel::Null);
        program.execute(&context)
    };
    for known in &*open {
        let lacking = names.fields.iter().find(|field| !known.has(field));
        if let Some(field) = lacking
            && answer(known.schema).is_err()
        {
            let schema = known.schema;
            let message = format!(
                "schema `{schema}` has no field `{field}`, so this rule fails on its events; put `schema != \"{schema}\" &&` before it, or ask `has(event.{field}) &&` first"
            );
            return Err(Error::at(&rule.file, rule.place, message));
        }
    }
    open.retain(|known| !matches!(answer(known.schema), Ok(Cel::Bool(true))));
    Ok(())
}

fn condition(
    env: &Arc<Env>,
    rule: &Rule,
    format: Format,
    schemas: &[Arc<str>],
    open: &[Known<'_>],
) -> Result<Condition, Error> {
    let refuse = |message: String| Err(Error::at(&rule.file, rule.place, message));
    let program = match env.compile(&rule.text) {
        Ok(program) => program,
        Err(error) => {
            let why = error.to_string().replace('\n', " ");
            return refuse(format!("`{}` is not valid CEL: {why}", rule.text));
        }
    };
    let names = Names::of(program.expression());
    if format == Format::Json && names.variables.contains("schema") {
        return refuse("a JSON event has no `schema`; ask for one of its fields".to_owned());
    }
    for name in &names.schemas {
        if !schemas.iter().any(|s| **s == **name) {
            let known = hint(name, schemas.iter().map(|s| &**s));
            return refuse(format!("the source carries no schema `{name}`{known}"));
        }
    }
    if let Some(name) = schema_is(&program) {
        return Ok(Condition::SchemaIs(name));
    }
    for name in &names.variables {
        if !VARIABLES.contains(&name.as_str()) && !TYPES.contains(&name.as_str()) {
            return refuse(format!("a rule knows no `{name}`{}", hint(name, VARIABLES)));
        }
    }
    for name in &names.functions {
        // Only this tells whether CEL's own functions include one: ours may not take the name.
        if Context::with_env(env.clone()).add_function(name, |number: i64| number).is_ok() {
            let known = hint(name, FUNCTIONS);
            return refuse(format!("CEL has no function `{name}`{known}"));
        }
    }
    for field in &names.fields {
        if !open.is_empty() && !open.iter().any(|known| known.has(field)) {
            let fields = open.iter().flat_map(|known| known.fields.iter().flatten());
            let known = hint(field, fields.map(String::as_str));
            return refuse(format!("no schema of this source has a field `{field}`{known}"));
        }
    }
    Ok(Condition::Cel { program, names: Box::new(names), text: rule.text.clone() })
}

/// The name, if the rule is `schema == "name"`.
fn schema_is(program: &Program) -> Option<String> {
    let Expr::Call(call) = &program.expression().expr else { return None };
    if call.func_name != EQUALS || call.args.len() != 2 {
        return None;
    }
    match (&call.args[0].expr, &call.args[1].expr) {
        (Expr::Ident(name), Expr::Literal(LiteralValue::String(text)))
        | (Expr::Literal(LiteralValue::String(text)), Expr::Ident(name))
            if name == "schema" =>
        {
            Some(text.inner().to_owned())
        }
        _ => None,
    }
}

fn text_or_null(text: Option<&str>) -> Cel {
    text.map_or(Cel::Null, |t| Cel::String(Arc::new(t.to_owned())))
}

fn project(event: &Value, names: &Names) -> Cel {
    match event {
        Value::Record(fields) if !names.whole_event => {
            record(fields.iter().filter(|(name, _)| names.fields.contains(&**name)))
        }
        other => to_cel(other),
    }
}

fn record<'v>(fields: impl Iterator<Item = &'v (Arc<str>, Value)>) -> Cel {
    let map: HashMap<Key, Cel> =
        fields.map(|(name, value)| (Key::String(Arc::new(name.to_string())), to_cel(value))).collect();
    Cel::Map(Map { map: Arc::new(map) })
}

fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(b) => Cel::Bool(*b),
        Value::Int(i) => Cel::Int(*i),
        Value::Float(f) => Cel::Float(*f),
        Value::Text(text) => Cel::String(Arc::new(text.to_string())),
        Value::Bytes(bytes) => Cel::Bytes(Arc::new(bytes.to_vec())),
        Value::Timestamp(micros) => chrono::DateTime::from_timestamp_micros(*micros)
            .map_or(Cel::Null, |at| Cel::Timestamp(at.fixed_offset())),
        Value::List(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Record(fields) => record(fields.iter()),
    }
}
