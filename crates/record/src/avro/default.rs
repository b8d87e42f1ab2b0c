//! Defaults of fields that the writer does not have: JSON in the schema file, a value here. A record's default leaves
//! out fields that have defaults themselves, so that a few lines of schema can stand for a value of any size, or for one
//! that never ends; hence the two limits.

use std::sync::Arc;

use apache_avro::Schema;
use serde_json::Value as Json;

use super::{
    decimal,
    fault::Fault,
    plan::Number,
    read, resolve,
    view::{Meaning, Names, Wire},
};
use crate::{Value, value::MAX_DEPTH};

/// Values in all defaults of a schema. Each record that lacks its fields gets its own copy of them, so this is also
/// how much a byte of an event can become.
const MAX_VALUES: usize = 1000;

/// The defaults of one reader's schema.
#[derive(Default)]
pub(super) struct Defaults {
    values: usize,
    depth: usize,
}

impl Defaults {
    /// Values in all defaults so far.
    pub(super) fn values(&self) -> usize {
        self.values
    }

    /// The default `json` of a field with this schema.
    pub(super) fn value<'s>(
        &mut self,
        names: &Names<'s>,
        schema: &'s Schema,
        json: &Json,
    ) -> Result<Value, Fault> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(Fault::incompatible(format!("the defaults hold more than {MAX_VALUES} values")));
        }
        if self.depth == MAX_DEPTH {
            return Err(Fault::incompatible(format!(
                "its default has more than {MAX_DEPTH} records and lists within each other"
            )));
        }
        self.depth += 1;
        let value = value(self, names, schema, json);
        self.depth -= 1;
        value
    }
}

fn value<'s>(
    defaults: &mut Defaults,
    names: &Names<'s>,
    schema: &'s Schema,
    json: &Json,
) -> Result<Value, Fault> {
    let (wire, meaning) = names.view(schema)?;
    let unfit = || Fault::incompatible(format!("its default {json} is not a valid {wire}"));
    Ok(match (wire, json) {
        (Wire::Null, Json::Null) => Value::Null,
        (Wire::Boolean, Json::Bool(b)) => Value::Bool(*b),
        (Wire::Int | Wire::Long, Json::Number(n)) => {
            let into =
                if let Meaning::Instant(unit) = meaning { resolve::instant(unit) } else { Number::Int };
            read::number(n.as_i64().ok_or_else(unfit)?, into)?
        }
        (Wire::Float | Wire::Double, Json::Number(n)) => Value::Float(n.as_f64().ok_or_else(unfit)?),
        (Wire::Text, Json::String(text)) => Value::Text(text.as_str().into()),
        (Wire::Bytes | Wire::Fixed { .. }, Json::String(text)) => {
            // Each character is one byte, as the specification has it.
            let bytes: Result<Vec<u8>, _> = text.chars().map(|c| u8::try_from(u32::from(c))).collect();
            let bytes = bytes.map_err(|_| unfit())?;
            if matches!(wire, Wire::Fixed { size, .. } if size != bytes.len()) {
                return Err(unfit());
            }
            match meaning {
                Meaning::Plain => Value::Bytes(bytes.into()),
                Meaning::Decimal { scale } => Value::Float(decimal::to_f64(&bytes, scale)),
                Meaning::Uuid => read::uuid(&bytes)?,
                Meaning::Duration if bytes.len() == 12 => read::duration(&bytes),
                _ => return Err(unfit()),
            }
        }
        (Wire::Enum(symbols), Json::String(symbol)) if symbols.symbols.contains(symbol) => {
            Value::Text(symbol.as_str().into())
        }
        (Wire::Array(items), Json::Array(list)) => {
            let items = list.iter().map(|item| defaults.value(names, items, item));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        (Wire::Map(values), Json::Object(entries)) => {
            let entries = entries
                .iter()
                .map(|(key, v)| Ok((Arc::from(key.as_str()), defaults.value(names, values, v)?)));
            Value::Record(entries.collect::<Result<_, Fault>>()?)
        }
        // The first branch by the older specification, any by the newer.
        (Wire::Union(union), _) => {
            let mut branches = union.variants().iter();
            branches.find_map(|branch| defaults.value(names, branch, json).ok()).ok_or_else(unfit)?
        }
        (Wire::Record(record), Json::Object(given)) => {
            let fields = record.fields.iter().map(|field| {
                let json = given.get(&field.name).or(field.default.as_ref()).ok_or_else(unfit)?;
                Ok((Arc::from(field.name.as_str()), defaults.value(names, &field.schema, json)?))
            });
            Value::Record(fields.collect::<Result<_, Fault>>()?)
        }
        _ => return Err(unfit()),
    })
}
