//! Walks a plan along the bytes.

use std::sync::Arc;

use super::{
    bytes::Bytes,
    decimal,
    fault::Fault,
    plan::{Node, Number, Plan, Record, Wanted},
};
use crate::{Value, unique::Unique, value::MAX_DEPTH};

/// A null or an empty record takes no bytes, so the payload's size does not bound how many there are.
const MAX_WEIGHTLESS: usize = 4096;

/// Values that defaults add to one event, in all its records: some tens of megabytes. A record of one byte can stand for
/// a thousand, and an event for a million records.
const MAX_DEFAULTS: usize = 500_000;

/// One datum being read.
pub(super) struct Reading<'p> {
    plan: &'p Plan,
    depth: usize,
    weightless: usize,
    defaults: usize,
}

impl<'p> Reading<'p> {
    pub(super) fn new(plan: &'p Plan) -> Self {
        Self { plan, depth: 0, weightless: 0, defaults: 0 }
    }

    /// The event itself: of it alone some fields may not be wanted.
    pub(super) fn event(&mut self, bytes: &mut Bytes<'_>) -> Result<Value, Fault> {
        match (&self.plan.root, &self.plan.wanted) {
            (Node::Record(at), Some(wanted)) => {
                self.deeper(|this| this.part(&this.plan.records[*at], wanted, bytes))
            }
            (root, _) => self.value(root, bytes),
        }
    }

    fn part(&mut self, record: &'p Record, wanted: &Wanted, bytes: &mut Bytes<'_>) -> Result<Value, Fault> {
        let Record::Ready { steps, defaults, .. } = record else {
            return Err(Fault::incompatible("the versions of this record do not fit"));
        };
        self.take_defaults(*defaults)?;
        let mut fields = wanted.fields.clone();
        for (step, slot) in steps.iter().zip(&wanted.slots) {
            let in_field = |fault: Fault| fault.in_field(&step.name);
            match slot {
                None => self.skip(&step.node, bytes).map_err(in_field)?,
                Some(slot) => fields[*slot].1 = self.value(&step.node, bytes).map_err(in_field)?,
            }
        }
        Ok(Value::Record(fields))
    }

    /// Passes a value by, with all checks that reading it makes.
    fn skip(&mut self, node: &'p Node, bytes: &mut Bytes<'_>) -> Result<(), Fault> {
        match node {
            Node::Null => Ok(()),
            Node::Float => bytes.float().map(drop),
            Node::Double => bytes.double().map(drop),
            Node::Text => bytes.text().map(drop),
            Node::Bytes | Node::Decimal { size: None, .. } => bytes.blob().map(drop),
            Node::Fixed(size) | Node::Decimal { size: Some(size), .. } => bytes.take(*size).map(drop),
            Node::Union(branches) => self.skip(branch(branches, bytes)?, bytes),
            Node::Array(items) => self.deeper(|this| this.skip_array(items, bytes)),
            Node::Record(at) => self.deeper(|this| this.skip_record(&this.plan.records[*at], bytes)),
            // The keys of a map must be told apart, and the others are cheap.
            Node::Map(_)
            | Node::Boolean
            | Node::Int(_)
            | Node::Long(_)
            | Node::BigDecimal
            | Node::Uuid { .. }
            | Node::Duration
            | Node::Enum(_)
            | Node::Refused(_) => self.value(node, bytes).map(drop),
        }
    }

    fn skip_record(&mut self, record: &'p Record, bytes: &mut Bytes<'_>) -> Result<(), Fault> {
        let Record::Ready { steps, defaults, straight, .. } = record else {
            return Err(Fault::incompatible("the versions of this record do not fit"));
        };
        if !*straight {
            self.take_defaults(*defaults)?;
        }
        steps
            .iter()
            .try_for_each(|step| self.skip(&step.node, bytes).map_err(|fault| fault.in_field(&step.name)))
    }

    fn skip_array(&mut self, node: &'p Node, bytes: &mut Bytes<'_>) -> Result<(), Fault> {
        let numbers = match node {
            Node::Record(at) if self.depth < MAX_DEPTH => self.plan.records[*at].numbers(),
            _ => None,
        };
        let mut at = 0;
        loop {
            let count = bytes.block()?;
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                if numbers.is_some_and(|numbers| bytes.pass(numbers)) {
                    at += 1;
                    continue;
                }
                let before = bytes.0.len();
                self.skip(node, bytes).map_err(|fault| fault.in_item(at))?;
                self.weigh(before - bytes.0.len())?;
                at += 1;
            }
        }
    }

    fn take_defaults(&mut self, count: usize) -> Result<(), Fault> {
        self.defaults += count;
        if self.defaults > MAX_DEFAULTS {
            return Err(Fault::malformed(format!(
                "its records take more than {MAX_DEFAULTS} values from defaults"
            )));
        }
        Ok(())
    }

    pub(super) fn value(&mut self, node: &'p Node, bytes: &mut Bytes<'_>) -> Result<Value, Fault> {
        Ok(match node {
            Node::Null => Value::Null,
            Node::Boolean => Value::Bool(bytes.boolean()?),
            Node::Int(into) => number(bytes.int()?, *into)?,
            Node::Long(into) => number(bytes.long()?, *into)?,
            Node::Float => Value::Float(bytes.float()?.into()),
            Node::Double => Value::Float(bytes.double()?),
            Node::Text => Value::Text(bytes.text()?.into()),
            Node::Bytes => Value::Bytes(::bytes::Bytes::copy_from_slice(bytes.blob()?)),
            Node::Fixed(size) => Value::Bytes(::bytes::Bytes::copy_from_slice(bytes.take(*size)?)),
            Node::Decimal { size: None, scale } => Value::Float(decimal::to_f64(bytes.blob()?, *scale)),
            Node::Decimal { size: Some(size), scale } => {
                Value::Float(decimal::to_f64(bytes.take(*size)?, *scale))
            }
            Node::BigDecimal => {
                let mut inner = Bytes(bytes.blob()?);
                let unscaled = inner.blob()?;
                Value::Float(decimal::to_f64(unscaled, inner.long()?))
            }
            Node::Uuid { fixed: true } => uuid(bytes.take(16)?)?,
            Node::Uuid { fixed: false } => uuid(bytes.blob()?)?,
            Node::Duration => duration(bytes.take(12)?),
            Node::Enum(symbols) => Value::Text(symbol(symbols, bytes.position()?)?),
            Node::Union(branches) => self.value(branch(branches, bytes)?, bytes)?,
            Node::Array(items) => self.deeper(|this| this.array(items, bytes))?,
            Node::Map(values) => self.deeper(|this| this.map(values, bytes))?,
            Node::Record(at) => self.deeper(|this| this.record(&this.plan.records[*at], bytes))?,
            Node::Refused(fault) => return Err(fault.clone()),
        })
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::malformed(format!(
                "more than {MAX_DEPTH} records and lists within each other"
            )));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn record(&mut self, record: &'p Record, bytes: &mut Bytes<'_>) -> Result<Value, Fault> {
        let Record::Ready { steps, template, defaults, straight, .. } = record else {
            return Err(Fault::incompatible("the versions of this record do not fit"));
        };
        if *straight {
            let mut fields = Vec::with_capacity(steps.len());
            for step in steps {
                let value = self.value(&step.node, bytes).map_err(|fault| fault.in_field(&step.name))?;
                fields.push((step.name.clone(), value));
            }
            return Ok(Value::Record(fields));
        }
        self.take_defaults(*defaults)?;
        let mut fields = template.clone();
        for step in steps {
            let in_field = |fault: Fault| fault.in_field(&step.name);
            match step.slot {
                Some(slot) => fields[slot].1 = self.value(&step.node, bytes).map_err(in_field)?,
                None => self.skip(&step.node, bytes).map_err(in_field)?,
            }
        }
        Ok(Value::Record(fields))
    }

    fn array(&mut self, node: &'p Node, bytes: &mut Bytes<'_>) -> Result<Value, Fault> {
        let mut items = Vec::new();
        loop {
            let count = bytes.block()?;
            if count == 0 {
                return Ok(Value::List(items));
            }
            // A count that lies reserves no more than the bytes could hold at one byte an item, and not even
            // that at once.
            items.reserve(usize::try_from(count).unwrap_or(usize::MAX).min(bytes.0.len()).min(1024));
            for _ in 0..count {
                let before = bytes.0.len();
                let item = self.value(node, bytes).map_err(|fault| fault.in_item(items.len()))?;
                self.weigh(before - bytes.0.len())?;
                items.push(item);
            }
        }
    }

    fn map(&mut self, node: &'p Node, bytes: &mut Bytes<'_>) -> Result<Value, Fault> {
        let mut fields: Vec<(Arc<str>, Value)> = Vec::new();
        let mut unique = Unique::default();
        loop {
            let count = bytes.block()?;
            if count == 0 {
                return Ok(Value::Record(fields));
            }
            // Every entry takes at least the byte of its key's length.
            for _ in 0..count {
                let key: Arc<str> = bytes.text()?.into();
                let value = self.value(node, bytes).map_err(|fault| fault.in_item(&key))?;
                if !unique.is_new(&key, &fields) {
                    return Err(Fault::malformed("the key stands twice").in_item(&key));
                }
                fields.push((key, value));
            }
        }
    }

    fn weigh(&mut self, bytes: usize) -> Result<(), Fault> {
        self.weightless += usize::from(bytes == 0);
        if self.weightless > MAX_WEIGHTLESS {
            return Err(Fault::malformed(format!("more than {MAX_WEIGHTLESS} items that take no bytes")));
        }
        Ok(())
    }
}

pub(super) fn number(number: i64, into: Number) -> Result<Value, Fault> {
    Ok(match into {
        Number::Int => Value::Int(number),
        Number::Single => Value::Float((number as f32).into()),
        Number::Double => Value::Float(number as f64),
        Number::InstantNanos => Value::Timestamp(number.div_euclid(1000)),
        Number::Instant(micros) => match number.checked_mul(micros) {
            Some(at) => Value::Timestamp(at),
            None => return Err(Fault::malformed(format!("the timestamp {number} is out of range"))),
        },
    })
}

/// The branch of a union that comes next.
fn branch<'p>(branches: &'p [Node], bytes: &mut Bytes<'_>) -> Result<&'p Node, Fault> {
    let at = bytes.position()?;
    branches
        .get(at)
        .ok_or_else(|| Fault::malformed(format!("a union of {} has no branch {at}", branches.len())))
}

fn symbol(symbols: &[Option<Arc<str>>], at: usize) -> Result<Arc<str>, Fault> {
    match symbols.get(at) {
        Some(Some(symbol)) => Ok(symbol.clone()),
        Some(None) => Err(Fault::incompatible(format!(
            "the newest version lacks the writer's symbol number {at}, and its enum has no default"
        ))),
        None => Err(Fault::malformed(format!("an enum of {} symbols has none at {at}", symbols.len()))),
    }
}

pub(super) fn uuid(bytes: &[u8]) -> Result<Value, Fault> {
    if bytes.len() != 16 {
        return Err(Fault::malformed(format!("a UUID has 16 bytes, not {}", bytes.len())));
    }
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 0xf] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    Ok(Value::Text(text.into()))
}

/// Three little-endian numbers. None can be turned into another: months and days vary in length.
pub(super) fn duration(bytes: &[u8]) -> Value {
    let part = |at: usize| {
        let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        Value::Int(u32::from_le_bytes(bytes).into())
    };
    Value::Record(vec![("months".into(), part(0)), ("days".into(), part(4)), ("millis".into(), part(8))])
}
