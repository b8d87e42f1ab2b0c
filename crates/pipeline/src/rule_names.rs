//! Which names a CEL expression uses: its variables, and the paths under `event`.

use std::collections::BTreeSet;

use cel::common::ast::{
    CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue,
    operators::{EQUALS, IN, INDEX, NOT_EQUALS, OPT_INDEX, OPT_SELECT},
};

/// Names that an expression uses.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Free variables, `event` included.
    pub(crate) variables: BTreeSet<String>,
    /// Top-level fields under `event`.
    pub(crate) fields: BTreeSet<String>,
    /// Functions and methods, operators excluded.
    pub(crate) functions: BTreeSet<String>,
    /// Names that `schema` is compared with.
    pub(crate) schemas: BTreeSet<String>,
    /// `event` is used as a whole, so all of it must be there.
    pub(crate) whole_event: bool,
}

impl Names {
    pub(crate) fn of(expression: &IdedExpr) -> Self {
        let mut names = Self::default();
        names.visit(expression, &mut Vec::new());
        names
    }

    fn visit(&mut self, expression: &IdedExpr, bound: &mut Vec<String>) {
        match &expression.expr {
            Expr::Ident(name) if !bound.contains(name) => {
                self.whole_event |= name == "event";
                self.variables.insert(name.clone());
            }
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(name) if name == "event" && !bound.contains(name) => {
                    self.variables.insert(name.clone());
                    self.fields.insert(select.field.clone());
                }
                _ => self.visit(&select.operand, bound),
            },
            Expr::Call(call) => {
                // Operators are called `_==_`, `@in`, `!_`.
                if call.func_name.starts_with(|c: char| c.is_ascii_alphabetic()) {
                    self.functions.insert(call.func_name.clone());
                }
                if !bound.iter().any(|name| name == "schema") {
                    self.compared(call);
                }
                if let Some((field, _)) = field_by_index(call)
                    && !bound.iter().any(|name| name == "event")
                {
                    self.variables.insert("event".to_owned());
                    self.fields.insert(field);
                    return;
                }
                if let Some(target) = &call.target {
                    self.visit(target, bound);
                }
                call.args.iter().for_each(|arg| self.visit(arg, bound));
            }
            Expr::List(list) => list.elements.iter().for_each(|item| self.visit(item, bound)),
            Expr::Map(map) => self.entries(map.entries.iter().map(|e| &e.expr), bound),
            Expr::Struct(of) => self.entries(of.entries.iter().map(|e| &e.expr), bound),
            Expr::Comprehension(all) => {
                self.visit(&all.iter_range, bound);
                self.visit(&all.accu_init, bound);
                let depth = bound.len();
                bound.extend([all.iter_var.clone(), all.accu_var.clone()]);
                bound.extend(all.iter_var2.clone());
                self.visit(&all.loop_cond, bound);
                self.visit(&all.loop_step, bound);
                self.visit(&all.result, bound);
                bound.truncate(depth);
            }
            Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
        }
    }

    fn compared(&mut self, call: &CallExpr) {
        let [left, right] = &call.args[..] else { return };
        let is_schema = |side: &IdedExpr| matches!(&side.expr, Expr::Ident(name) if name == "schema");
        let literals: Vec<&IdedExpr> = match (call.func_name.as_str(), &right.expr) {
            (EQUALS | NOT_EQUALS, _) if is_schema(left) => vec![right],
            (EQUALS | NOT_EQUALS, _) if is_schema(right) => vec![left],
            (IN, Expr::List(list)) if is_schema(left) => list.elements.iter().collect(),
            _ => return,
        };
        self.schemas.extend(literals.into_iter().filter_map(|side| text(&side.expr)));
    }

    fn entries<'e>(&mut self, entries: impl Iterator<Item = &'e EntryExpr>, bound: &mut Vec<String>) {
        for entry in entries {
            match entry {
                EntryExpr::StructField(field) => self.visit(&field.value, bound),
                EntryExpr::MapEntry(entry) => {
                    self.visit(&entry.key, bound);
                    self.visit(&entry.value, bound);
                }
            }
        }
    }
}

/// The field of `event["field"]` and `event.?field`, and whether it may be absent.
pub(crate) fn field_by_index(call: &CallExpr) -> Option<(String, bool)> {
    let [Expr::Ident(name), key] = [&call.args.first()?.expr, &call.args.get(1)?.expr] else { return None };
    let optional = match call.func_name.as_str() {
        INDEX => false,
        OPT_INDEX | OPT_SELECT => true,
        _ => return None,
    };
    Some((text(key).filter(|_| name == "event")?, optional))
}

fn text(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner().to_owned()),
        _ => None,
    }
}
