//! Rules that need no CEL to be answered: comparisons of fields, or of the schema, with literals, joined by `&&`. Most
//! rules are of this kind, and a router tries every event against all of them.
//!
//! There is one meaning of a rule, and it is CEL's. Whatever such a rule meets that is not plain — a field that is absent
//! or null, a type that the literal does not have, NaN — gives no answer here and is left to CEL, error and all. The test
//! below holds both against each other.

use std::cmp::Ordering;

use cel::common::ast::{
    CallExpr, Expr, IdedExpr, LiteralValue,
    operators::{
        EQUALS, GREATER, GREATER_EQUALS, LESS, LESS_EQUALS, LOGICAL_AND, LOGICAL_NOT, NEGATE, NOT_EQUALS,
    },
};
use twinlane_record::Value;

/// A rule of this kind.
#[derive(Debug)]
pub(crate) struct Simple(Vec<Term>);

#[derive(Debug)]
struct Term {
    of: Operand,
    is: Comparison,
    literal: Literal,
}

#[derive(Debug)]
enum Operand {
    Schema,
    Field(String),
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug)]
enum Literal {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// Up to here a double holds every integer, so that the two compare as numbers do.
const EXACT: u64 = 1 << 53;

impl Simple {
    /// The rule, if it is of this kind.
    pub(crate) fn of(expression: &IdedExpr) -> Option<Self> {
        let mut terms = Vec::new();
        collect(expression, &mut terms)?;
        Some(Self(terms))
    }

    /// What it answers for an event; `None`: ask CEL.
    pub(crate) fn answer(&self, schema: Option<&str>, event: Option<&Value>) -> Option<bool> {
        for term in &self.0 {
            if !term.answer(schema, event)? {
                return Some(false);
            }
        }
        Some(true)
    }
}

fn collect(expression: &IdedExpr, terms: &mut Vec<Term>) -> Option<()> {
    if let Expr::Call(call) = &expression.expr
        && let (LOGICAL_AND, [left, right]) = (call.func_name.as_str(), &call.args[..])
    {
        collect(left, terms)?;
        return collect(right, terms);
    }
    terms.push(term(expression)?);
    Some(())
}

fn term(expression: &IdedExpr) -> Option<Term> {
    let flag = |of, flag| Some(Term { of, is: Comparison::Equal, literal: Literal::Bool(flag) });
    let Expr::Call(call) = &expression.expr else { return flag(field(expression)?, true) };
    match (call.func_name.as_str(), &call.args[..]) {
        (LOGICAL_NOT, [inner]) => flag(field(inner)?, false),
        (name, [left, right]) => {
            let is = Comparison::of(name)?;
            match (operand(left), operand(right)) {
                (Some(of), None) => Some(Term { of, is, literal: literal(right)? }),
                (None, Some(of)) => Some(Term { of, is: is.mirrored(), literal: literal(left)? }),
                _ => None,
            }
        }
        _ => None,
    }
}

fn operand(expression: &IdedExpr) -> Option<Operand> {
    match &expression.expr {
        Expr::Ident(name) if name == "schema" => Some(Operand::Schema),
        _ => field(expression),
    }
}

/// `event.field`, which is not `has(event.field)`.
fn field(expression: &IdedExpr) -> Option<Operand> {
    let Expr::Select(select) = &expression.expr else { return None };
    let is_event = matches!(&select.operand.expr, Expr::Ident(name) if name == "event");
    (is_event && !select.test).then(|| Operand::Field(select.field.clone()))
}

fn literal(expression: &IdedExpr) -> Option<Literal> {
    match &expression.expr {
        Expr::Literal(LiteralValue::Boolean(flag)) => Some(Literal::Bool(*flag.inner())),
        Expr::Literal(LiteralValue::Int(number)) => Some(Literal::Int(*number.inner())),
        Expr::Literal(LiteralValue::Double(number)) => Some(Literal::Float(*number.inner())),
        Expr::Literal(LiteralValue::String(text)) => Some(Literal::Text(text.inner().to_owned())),
        Expr::Call(CallExpr { func_name, args, .. }) if func_name == NEGATE => {
            match literal(args.first()?)? {
                Literal::Int(number) => Some(Literal::Int(number.checked_neg()?)),
                Literal::Float(number) => Some(Literal::Float(-number)),
                _ => None,
            }
        }
        _ => None,
    }
}

impl Comparison {
    fn of(operator: &str) -> Option<Self> {
        Some(match operator {
            EQUALS => Self::Equal,
            NOT_EQUALS => Self::NotEqual,
            LESS => Self::Less,
            LESS_EQUALS => Self::LessOrEqual,
            GREATER => Self::Greater,
            GREATER_EQUALS => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    /// The same with its sides exchanged.
    fn mirrored(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            same => same,
        }
    }

    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

impl Term {
    fn answer(&self, schema: Option<&str>, event: Option<&Value>) -> Option<bool> {
        let ordering = match &self.of {
            Operand::Schema => match &self.literal {
                Literal::Text(text) => schema?.cmp(text),
                _ => return None,
            },
            Operand::Field(name) => compare(event?.get(name)?, &self.literal)?,
        };
        Some(self.is.holds(ordering))
    }
}

/// None where the two are not of a kind, and for NaN.
fn compare(value: &Value, literal: &Literal) -> Option<Ordering> {
    let mixed = |int: i64, float: f64| match int.unsigned_abs() <= EXACT {
        true => (int as f64).partial_cmp(&float),
        false => None,
    };
    match (value, literal) {
        (Value::Bool(value), Literal::Bool(literal)) => Some(value.cmp(literal)),
        (Value::Int(value), Literal::Int(literal)) => Some(value.cmp(literal)),
        (Value::Float(value), Literal::Float(literal)) => value.partial_cmp(literal),
        (Value::Int(value), Literal::Float(literal)) => mixed(*value, *literal),
        (Value::Float(value), Literal::Int(literal)) => mixed(*literal, *value).map(Ordering::reverse),
        (Value::Text(value), Literal::Text(literal)) => Some((**value).cmp(literal.as_str())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cel::{Context, Env, Value as Cel};

    use super::*;
    use crate::rules::to_cel;

    const LITERALS: [&str; 17] = [
        "true",
        "false",
        "0",
        "5",
        "-5",
        "9007199254740993",
        "9223372036854775807",
        "0.0",
        "-0.0",
        "4.5",
        "-4.5",
        "9007199254740992.0",
        "1e300",
        "\"\"",
        "\"NO\"",
        "null",
        "5u",
    ];

    fn values() -> Vec<Value> {
        let ints = [0, 5, -5, 1 << 53, (1 << 53) + 1, i64::MAX, i64::MIN].map(Value::Int);
        let floats = [0.0, -0.0, 4.5, 5.0, -4.5, 9_007_199_254_740_992.0, f64::NAN, f64::INFINITY, -1e300];
        let texts = ["", "NO", "NP", "order"].map(|text| Value::Text(text.into()));
        let others =
            [Value::Null, Value::Bool(true), Value::Bool(false), Value::Timestamp(5), Value::List(vec![])];
        ints.into_iter().chain(floats.map(Value::Float)).chain(texts).chain(others).collect()
    }

    /// What CEL says, an error as `None`.
    fn by_cel(rule: &str, event: &Value) -> Option<bool> {
        let env = Arc::new(Env::stdlib());
        let program = env.compile(rule).expect("sound");
        let mut context = Context::with_env(env.clone());
        context.add_variable_from_value("schema", Cel::String(Arc::new("order".to_owned())));
        context.add_variable_from_value("event", to_cel(event).expect("in range"));
        match Cel::resolve(program.expression(), &context) {
            Ok(Cel::Bool(answer)) => Some(answer),
            _ => None,
        }
    }

    fn simple(rule: &str) -> Option<Simple> {
        let program = Arc::new(Env::stdlib()).compile(rule).expect("sound");
        Simple::of(program.expression())
    }

    fn event(value: Value) -> Value {
        Value::Record(vec![("x".into(), value)])
    }

    #[test]
    fn whatever_is_answered_without_cel_is_what_cel_answers() {
        let mut answered = 0;
        for literal in LITERALS {
            for operator in ["==", "!=", "<", "<=", ">", ">="] {
                for rule in [format!("event.x {operator} {literal}"), format!("{literal} {operator} event.x")]
                {
                    let Some(simple) = simple(&rule) else { continue };
                    for value in values() {
                        let event = event(value);
                        let Some(answer) = simple.answer(Some("order"), Some(&event)) else { continue };
                        assert_eq!(by_cel(&rule, &event), Some(answer), "{rule} of {event:?}");
                        answered += 1;
                    }
                }
            }
        }
        assert!(answered > 1000, "only {answered} were answered: the comparison compares nothing");
    }

    #[test]
    fn parts_that_are_joined_and_flags_are_answered_as_cel_does() {
        let rules = [
            "schema == \"order\" && event.x > 4",
            "event.x",
            "!event.x && schema != \"order\"",
            "\"order\" == schema && event.x != \"NO\" && event.x != \"\"",
            "schema == \"other\" && event.y > 1",
            "event.y > 1 && schema == \"other\"",
            "schema > \"a\" && event.x < 100.5",
        ];
        for rule in rules {
            let simple = simple(rule).expect(rule);
            for value in values() {
                let event = event(value);
                if let Some(answer) = simple.answer(Some("order"), Some(&event)) {
                    assert_eq!(by_cel(rule, &event), Some(answer), "{rule} of {event:?}");
                }
            }
        }
        let order = event(Value::Int(5));
        let answer = |rule| simple(rule).and_then(|simple| simple.answer(Some("order"), Some(&order)));
        assert_eq!(answer("schema == \"order\" && event.x > 4"), Some(true));
        assert_eq!(answer("schema == \"other\" && event.y > 1"), Some(false));
        assert_eq!(answer("event.y > 1 && schema == \"other\""), None, "an absent field is CEL's to judge");
    }

    #[test]
    fn what_is_not_a_plain_comparison_is_left_to_cel() {
        for rule in [
            "has(event.x)",
            "event.x == null",
            "event.x in [1, 2]",
            "event.x > 1 || event.x < 0",
            "event.x.y == 1",
            "event.x == event.y",
            "event.x + 1 > 2",
            "key == \"a\"",
            "event == 1",
        ] {
            assert!(simple(rule).is_none(), "{rule}");
        }
    }
}
