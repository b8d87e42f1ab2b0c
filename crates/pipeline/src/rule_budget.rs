//! Bounds what a rule takes: the stack, by its depth, and for its macros the time and memory on one event. `all`, `exists`, `map` and the like are the loops of CEL: within each
//! other they multiply, and one after the other they can double what they hold. So every list that a macro is about to
//! walk through is weighed first, on a budget that the whole rule shares; a rule that is beyond it fails on that event,
//! which is then a dead letter, instead of keeping its lane from all others.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use cel::{
    Context, ExecutionError, Value as Cel,
    common::ast::{CallExpr, EntryExpr, Expr, IdedExpr},
};

/// The items, and the eight bytes of text, that one rule may walk through for one event. The longest list that fits
/// into a record is some tens of thousands of items; this many take some tenths of a second.
const UNITS: usize = 50_000;

/// What weighs a list. No rule can call it, as it is no name in CEL.
const WEIGH: &str = "@weigh";

/// Whether more than `limit` parts of an expression are within each other. Told without recursion, which is the point.
pub(crate) fn deeper_than(limit: usize, expression: &IdedExpr) -> bool {
    let mut open = vec![(expression, 1)];
    while let Some((expression, depth)) = open.pop() {
        if depth > limit {
            return true;
        }
        open.extend(parts(&expression.expr).into_iter().map(|part| (part, depth + 1)));
    }
    false
}

fn parts(expression: &Expr) -> Vec<&IdedExpr> {
    match expression {
        Expr::Call(call) => call.target.iter().map(|target| &**target).chain(&call.args).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Struct(of) => of.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Comprehension(all) => {
            vec![&all.iter_range, &all.accu_init, &all.loop_cond, &all.loop_step, &all.result]
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}

/// The parts of an entry of a map or struct.
pub(crate) fn of_entry(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// Puts the weighing before each loop; whether there is any.
pub(crate) fn bound(expression: &mut IdedExpr) -> bool {
    match &mut expression.expr {
        Expr::Call(call) => {
            let target = call.target.iter_mut().map(|target| &mut **target);
            any(target.chain(&mut call.args))
        }
        Expr::Select(select) => bound(&mut select.operand),
        Expr::List(list) => any(list.elements.iter_mut()),
        Expr::Map(map) => any(map.entries.iter_mut().flat_map(|entry| in_entry(&mut entry.expr))),
        Expr::Struct(of) => any(of.entries.iter_mut().flat_map(|entry| in_entry(&mut entry.expr))),
        Expr::Comprehension(all) => {
            let of = &mut **all;
            let mut parts =
                [&mut of.iter_range, &mut of.accu_init, &mut of.loop_cond, &mut of.loop_step, &mut of.result];
            parts.iter_mut().for_each(|part| {
                bound(part);
            });
            let range = std::mem::take(&mut of.iter_range);
            let weigh = CallExpr { func_name: WEIGH.to_owned(), target: None, args: vec![range] };
            of.iter_range = IdedExpr { id: expression.id, expr: Expr::Call(weigh) };
            true
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => false,
    }
}

/// All of them, not only up to the first.
fn any<'e>(parts: impl Iterator<Item = &'e mut IdedExpr>) -> bool {
    parts.map(bound).fold(false, |all, one| all | one)
}

fn in_entry(entry: &mut EntryExpr) -> Vec<&mut IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&mut field.value],
        EntryExpr::MapEntry(entry) => vec![&mut entry.key, &mut entry.value],
    }
}

/// Gives one evaluation its budget.
pub(crate) fn provide(context: &mut Context<'_, '_>) {
    let left = Arc::new(AtomicUsize::new(UNITS));
    let weigh = move |range: Cel| -> Result<Cel, ExecutionError> {
        let mut rest = left.load(Ordering::Relaxed);
        let fits = take(&range, &mut rest);
        left.store(if fits { rest } else { 0 }, Ordering::Relaxed);
        if fits { Ok(range) } else { Err(ExecutionError::function_error("the rule", TOO_MUCH)) }
    };
    context.add_function(WEIGH, weigh).expect("CEL has no function of that name");
}

const TOO_MUCH: &str =
    "it walks through more than 50000 items; look at fewer, or keep shorter lists in the event";

/// Takes what a value weighs off the rest; a part that is shared counts wherever it stands, as it is walked through there.
fn take(value: &Cel, rest: &mut usize) -> bool {
    let own = match value {
        Cel::String(text) => text.len() / 8,
        Cel::Bytes(bytes) => bytes.len() / 8,
        _ => 0,
    };
    let Some(left) = rest.checked_sub(1 + own) else { return false };
    *rest = left;
    match value {
        Cel::List(items) => items.iter().all(|item| take(item, rest)),
        Cel::Map(map) => map.map.values().all(|item| take(item, rest)),
        _ => true,
    }
}
