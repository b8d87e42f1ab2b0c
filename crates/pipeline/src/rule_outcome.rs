//! What a rule answers for the events of one schema, told from the schema alone. A three-valued reading of the
//! rule, as in Kleene's logic, with one value more: that it fails, because the schema lacks a field. `false &&` and
//! `true ||` keep a failure away on either side, as CEL's own do.

use cel::{
    Context, Value,
    common::ast::{
        CallExpr, EntryExpr, Expr, IdedExpr,
        operators::{CONDITIONAL, LOGICAL_AND, LOGICAL_NOT, LOGICAL_OR, NOT_STRICTLY_FALSE},
    },
};

use crate::{
    rule_budget::of_entry,
    rule_names::{Names, field_by_index},
    schema_fields::Schema,
};

/// What a rule, or a part of it, answers for every event of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    True,
    False,
    /// It depends on the event.
    Open,
    /// On some event at least it fails for want of this field.
    Lacks(String),
}

use Outcome::{False, Lacks, Open, True};

impl Outcome {
    pub(crate) fn of(answer: bool) -> Self {
        if answer { True } else { False }
    }

    fn not(self) -> Self {
        match self {
            True => False,
            False => True,
            other => other,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (False, _) | (_, False) => False,
            (Lacks(field), _) | (_, Lacks(field)) => Lacks(field),
            (True, True) => True,
            _ => Open,
        }
    }

    fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }
}

/// `context` has what is known without an event: `schema` and `topic`, and neither `event` nor `key`.
pub(crate) fn outcome(expression: &IdedExpr, context: &Context<'_, '_>, schema: &Schema<'_>) -> Outcome {
    let part = |part: &IdedExpr| outcome(part, context, schema);
    let uses = Names::of(expression).variables;
    if !uses.contains("event") && !uses.contains("key") {
        return match Value::resolve(expression, context) {
            Ok(Value::Bool(answer)) => Outcome::of(answer),
            _ => Open,
        };
    }
    match &expression.expr {
        Expr::Select(select) if matches!(&select.operand.expr, Expr::Ident(name) if name == "event") => {
            match (schema.has(&select.field), select.test) {
                // `has(event.field)`: an event is read with the newest schema, so it has all of its fields.
                (has, true) if schema.fields.is_some() => Outcome::of(has),
                (true, _) => Open,
                (false, _) => Lacks(select.field.clone()),
            }
        }
        Expr::Call(call) => match (call.func_name.as_str(), &call.args[..]) {
            (LOGICAL_AND, [left, right]) => part(left).and(part(right)),
            (LOGICAL_OR, [left, right]) => part(left).or(part(right)),
            (LOGICAL_NOT, [of]) => part(of).not(),
            (NOT_STRICTLY_FALSE, _) => Open,
            (CONDITIONAL, [condition, yes, no]) => match part(condition) {
                True => part(yes),
                False => part(no),
                Open => first_lack([yes, no].into_iter().map(part)),
                lacks => lacks,
            },
            _ => match field_by_index(call) {
                Some((_, optional)) if optional => Open,
                Some((field, _)) if !schema.has(&field) => Lacks(field),
                _ => first_lack(operands(call).map(part)),
            },
        },
        Expr::Select(select) => first_lack([part(&select.operand)].into_iter()),
        Expr::List(list) => first_lack(list.elements.iter().map(part)),
        Expr::Map(map) => first_lack(entries(map.entries.iter().map(|entry| &entry.expr)).map(part)),
        Expr::Struct(of) => first_lack(entries(of.entries.iter().map(|entry| &entry.expr)).map(part)),
        Expr::Comprehension(all) => {
            first_lack([&all.iter_range, &all.loop_step, &all.result].into_iter().map(part))
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Open,
    }
}

/// Something computed from parts: it fails where one does.
fn first_lack(mut parts: impl Iterator<Item = Outcome>) -> Outcome {
    parts.find(|part| matches!(part, Lacks(_))).unwrap_or(Open)
}

fn operands(call: &CallExpr) -> impl Iterator<Item = &IdedExpr> {
    call.target.iter().map(|target| &**target).chain(&call.args)
}

fn entries<'e>(entries: impl Iterator<Item = &'e EntryExpr>) -> impl Iterator<Item = &'e IdedExpr> {
    entries.flat_map(of_entry)
}
