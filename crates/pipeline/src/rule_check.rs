//! Compiles a rule, and refuses one that uses a name which nothing has: CEL would find out only at the first event.

use std::sync::Arc;

use cel::{
    Context, Env, Program,
    common::ast::{Expr, LiteralValue, operators::EQUALS},
};
use twinlane_record::Format;

use crate::{
    Error, plan::Rule, rule_budget, rule_names::Names, rule_simple::Simple, rules::Condition,
    schema_fields::Schema, similar::hint,
};

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

/// A list of all countries fits. Even to drop an expression takes some stack for each part in its longest chain, and
/// the shortest parts, as in `a.b.c`, have two characters.
const MAX_CHARACTERS: usize = 4000;
/// Parts of an expression within each other, of which `1 + 2 + 3` has three. CEL's parser bounds parentheses, not chains;
/// what evaluates them needs some kilobytes of stack for each, and a thread has two mebibytes.
const MAX_DEPTH: usize = 150;

/// Compiles a rule. `known` are the schemas of its source, of which JSON has none.
pub(crate) fn condition(
    env: &Arc<Env>,
    rule: &Rule,
    format: Format,
    known: &[Schema<'_>],
) -> Result<Condition, Error> {
    let refuse = |message: String| Err(Error::of(&rule.place, message));
    let long = rule.text.chars().count();
    if long > MAX_CHARACTERS {
        return refuse(format!(
            "a rule of {long} characters; at most {MAX_CHARACTERS}, split it into several routes"
        ));
    }
    let program = match env.compile(&rule.text) {
        Ok(program) => program,
        Err(error) => {
            let why = error.to_string().replace('\n', " ");
            return refuse(format!("`{}` is not valid CEL: {why}", rule.text));
        }
    };
    if rule_budget::deeper_than(MAX_DEPTH, program.expression()) {
        return refuse(format!(
            "a rule with more than {MAX_DEPTH} operators and calls in one chain; split it into several routes"
        ));
    }
    let names = Names::of(program.expression());
    if format == Format::Json && names.variables.contains("schema") {
        return refuse("a JSON event has no `schema`; ask for one of its fields".to_owned());
    }
    for name in &names.schemas {
        if !known.iter().any(|schema| **schema.name == **name) {
            let known = hint(name, known.iter().map(|schema| &**schema.name));
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
        if !known.is_empty() && !known.iter().any(|schema| schema.has(field)) {
            let fields = known.iter().flat_map(|schema| schema.fields.iter().flatten());
            let known = hint(field, fields.map(String::as_str));
            return refuse(format!("no schema of this source has a field `{field}`{known}"));
        }
    }
    let mut expression = Box::new(program.expression().clone());
    let loops = rule_budget::bound(&mut expression);
    let simple = Simple::of(program.expression());
    Ok(Condition::Cel { expression, loops, names: Box::new(names), simple, text: rule.text.clone() })
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
