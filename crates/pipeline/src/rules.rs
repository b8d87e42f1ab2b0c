//! Routing rules: CEL, compiled once. A rule sees `event` (its fields), `schema`, `topic` and `key`; only the
//! fields that it names are handed over, and a payload is decoded only when some rule looks into it.

use std::{collections::HashMap, sync::Arc};

use cel::{
    Context, Env, Program, Value as Cel,
    common::ast::{Expr, LiteralValue, operators::EQUALS},
    objects::{Key, Map},
};
use twinlane_record::{Reason, Rejection, Value};

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
        names: Names,
        text: String,
    },
}

const VARIABLES: [&str; 4] = ["event", "schema", "topic", "key"];

impl RuleSet {
    /// Compiles the rules of one source. `fields` gives the top-level fields of a schema, where they are
    /// known; a rule that uses another name is refused.
    pub fn compile(
        plan: &Plan,
        source: usize,
        fields: &dyn Fn(&str) -> Option<Vec<String>>,
    ) -> Result<Self, Error> {
        let env = Arc::new(Env::stdlib());
        let schemas = &plan.sources[source].schemas;
        let known: Option<Vec<String>> =
            schemas.iter().map(|s| fields(s)).collect::<Option<Vec<_>>>().map(|all| all.concat());
        let known = known.filter(|all| !all.is_empty());
        let mut rules = Vec::new();
        for (index, route) in plan.routes.iter().enumerate().filter(|(_, r)| r.source == source) {
            let condition = match &route.when {
                None => Condition::Always,
                Some(rule) => condition(&env, rule, schemas, known.as_deref())?,
            };
            rules.push((index, condition));
        }
        Ok(Self { topic: plan.sources[source].topic.clone(), env, rules })
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
                    let mut context = Context::with_env(self.env.clone());
                    if names.variables.contains("event") {
                        let event = match &event {
                            Some(event) => event,
                            None => event.insert(decode()?),
                        };
                        context.add_variable_from_value("event", project(event, names));
                    }
                    if names.variables.contains("schema") {
                        context.add_variable_from_value("schema", text_or_null(schema));
                    }
                    if names.variables.contains("topic") {
                        context.add_variable_from_value("topic", text_or_null(Some(&self.topic)));
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

fn condition(
    env: &Env,
    rule: &Rule,
    schemas: &[Arc<str>],
    known: Option<&[String]>,
) -> Result<Condition, Error> {
    let refuse = |message: String| Err(Error::at(&rule.file, rule.place, message));
    let program = match env.compile(&rule.text) {
        Ok(program) => program,
        Err(error) => {
            let why = error.to_string().replace('\n', " ");
            return refuse(format!("`{}` is not valid CEL: {why}", rule.text));
        }
    };
    if let Some(name) = schema_is(&program) {
        if !schemas.is_empty() && !schemas.iter().any(|s| **s == *name) {
            let known = hint(&name, schemas.iter().map(|s| &**s));
            return refuse(format!("the source carries no schema `{name}`{known}"));
        }
        return Ok(Condition::SchemaIs(name));
    }
    let names = Names::of(program.expression());
    for name in &names.variables {
        if !VARIABLES.contains(&name.as_str()) {
            return refuse(format!("a rule knows no `{name}`{}", hint(name, VARIABLES)));
        }
    }
    if let Some(known) = known {
        for field in &names.fields {
            if !known.contains(field) {
                let known = hint(field, known.iter().map(String::as_str));
                return refuse(format!("no schema of this source has a field `{field}`{known}"));
            }
        }
    }
    Ok(Condition::Cel { program, names, text: rule.text.clone() })
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
