//! Reads a value under another version of its schema, by the rules of the Avro specification ("Schema
//! resolution"): fields match by name or alias, added ones take their default, removed ones go, numbers are
//! promoted.

use std::sync::Arc;

use crate::{
    Value,
    shape::{Node, Shape, instant},
};

impl Shape {
    /// `value`, written under an older or newer version, as this shape has it.
    pub(crate) fn resolve(&self, value: Value) -> Result<Value, String> {
        self.fit(&self.root, value)
    }

    fn fit(&self, node: &Node, value: Value) -> Result<Value, String> {
        Ok(match (node, value) {
            (Node::Named(at), value) => self.fit(&self.named[*at], value)?,
            (Node::Null, Value::Null) => Value::Null,
            (Node::Bool, value @ Value::Bool(_)) => value,
            (Node::Long, value @ Value::Int(_)) => value,
            (Node::Float | Node::Double, Value::Int(int)) => Value::Float(int as f64),
            (Node::Float | Node::Double | Node::Decimal { .. }, value @ Value::Float(_)) => value,
            (Node::Text, value @ Value::Text(_)) => value,
            (Node::Text, Value::Bytes(bytes)) => {
                Value::Text(std::str::from_utf8(&bytes).map_err(|_| "bytes are not UTF-8")?.into())
            }
            (Node::Bytes, Value::Text(text)) => Value::Bytes(bytes::Bytes::copy_from_slice(text.as_bytes())),
            (Node::Bytes | Node::Decimal { .. }, value @ Value::Bytes(_)) => value,
            (Node::Fixed(size), Value::Bytes(bytes)) if bytes.len() == *size => Value::Bytes(bytes),
            (Node::Enum { symbols, default }, Value::Text(symbol)) => {
                if symbols.contains(&symbol) {
                    Value::Text(symbol)
                } else {
                    Value::Text(default.clone().ok_or_else(|| format!("symbol `{symbol}` is not known"))?)
                }
            }
            (Node::Instant(_), value @ Value::Timestamp(_)) => value,
            (Node::Instant(unit), Value::Int(count)) => instant(count, *unit),
            (Node::List(items), Value::List(list)) => {
                Value::List(list.into_iter().map(|v| self.fit(items, v)).collect::<Result<_, _>>()?)
            }
            (Node::Map(values), Value::Record(fields)) => {
                let fitted = fields.into_iter().map(|(name, v)| Ok((name, self.fit(values, v)?)));
                Value::Record(fitted.collect::<Result<_, String>>()?)
            }
            (Node::Record(wanted), Value::Record(mut fields)) => {
                let mut fitted = Vec::with_capacity(wanted.len());
                for field in wanted {
                    let at = fields.iter().position(|(name, _)| {
                        **name == *field.name || field.aliases.iter().any(|alias| alias.as_str() == &**name)
                    });
                    let value = match (at, &field.default) {
                        (Some(at), _) => self.fit(&field.node, fields.swap_remove(at).1),
                        (None, Some(default)) => self.default(&field.node, default),
                        (None, None) => Err("is not written and has no default".into()),
                    };
                    let value = value.map_err(|why| format!("field `{}`: {why}", field.name))?;
                    fitted.push((field.name.clone(), value));
                }
                Value::Record(fitted)
            }
            (Node::Union(variants), value) => variants
                .iter()
                .find_map(|variant| self.fit(variant, value.clone()).ok())
                .ok_or_else(|| format!("{} fits no branch of the union", value.kind()))?,
            (_, value) => return Err(format!("{} was written where another type is read", value.kind())),
        })
    }

    /// A field's default, which the schema gives as JSON.
    fn default(&self, node: &Node, json: &serde_json::Value) -> Result<Value, String> {
        use serde_json::Value as Json;
        Ok(match (node, json) {
            (Node::Named(at), json) => self.default(&self.named[*at], json)?,
            (Node::Union(variants), json) => variants
                .iter()
                .find_map(|variant| self.default(variant, json).ok())
                .ok_or("the default fits no branch of the union")?,
            (Node::Null, Json::Null) => Value::Null,
            (Node::Bool, Json::Bool(b)) => Value::Bool(*b),
            (Node::Long, Json::Number(n)) if n.is_i64() => Value::Int(n.as_i64().unwrap_or_default()),
            (Node::Instant(unit), Json::Number(n)) if n.is_i64() => {
                instant(n.as_i64().unwrap_or_default(), *unit)
            }
            (Node::Float | Node::Double, Json::Number(n)) => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
            (Node::Text | Node::Enum { .. }, Json::String(text)) => Value::Text(text.as_str().into()),
            // Each character stands for one byte.
            (Node::Bytes | Node::Fixed(_), Json::String(text)) => {
                Value::Bytes(text.chars().map(|c| c as u8).collect::<Vec<_>>().into())
            }
            (Node::List(items), Json::Array(list)) => {
                Value::List(list.iter().map(|v| self.default(items, v)).collect::<Result<_, _>>()?)
            }
            (Node::Map(values), Json::Object(entries)) => {
                let fitted =
                    entries.iter().map(|(name, v)| Ok((Arc::from(&**name), self.default(values, v)?)));
                Value::Record(fitted.collect::<Result<_, String>>()?)
            }
            (Node::Record(fields), Json::Object(entries)) => {
                let fitted = fields.iter().map(|field| {
                    let json = entries.get(&*field.name).or(field.default.as_ref());
                    let json = json.ok_or_else(|| format!("the default lacks `{}`", field.name))?;
                    Ok((field.name.clone(), self.default(&field.node, json)?))
                });
                Value::Record(fitted.collect::<Result<_, String>>()?)
            }
            _ => return Err("the default does not fit its type".into()),
        })
    }
}
