//! Avro binary, read straight into [`Value`]s.
//!
//! Our own reader because the library's takes a truncated string for a null, builds a value of its own first,
//! and keeps per-call tables. It follows the Avro 1.12 specification, "Binary encoding", and is tested against
//! what the library writes.

use std::{collections::HashMap, sync::Arc};

use apache_avro::{
    Schema,
    schema::{InnerDecimalSchema, Name, UuidSchema},
};
use bytes::Bytes;

use crate::Value;

/// A schema compiled for reading: names resolved, field names shared.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) root: Node,
    pub(crate) named: Vec<Node>,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Null,
    Bool,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum {
        symbols: Vec<Arc<str>>,
        default: Option<Arc<str>>,
    },
    List(Box<Node>),
    Map(Box<Node>),
    Union(Vec<Node>),
    Record(Vec<Field>),
    /// Microseconds per unit; for nanoseconds, which are divided, 0.
    Instant(i64),
    Decimal {
        scale: u32,
        size: Option<usize>,
    },
    Named(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: Arc<str>,
    pub(crate) aliases: Vec<String>,
    pub(crate) default: Option<serde_json::Value>,
    pub(crate) node: Node,
}

/// Values in one datum: an array of nulls takes no bytes, so its length alone must not keep us busy.
const MAX_VALUES: usize = 1_000_000;
/// Nesting of a recursive schema, so that a datum cannot exhaust the stack.
const MAX_DEPTH: usize = 64;

impl Shape {
    /// Compiles a schema. An unknown reference is an error, in words.
    pub(crate) fn compile(schema: &Schema) -> Result<Self, String> {
        let mut compiler = Compiler { index: HashMap::new(), named: Vec::new() };
        let root = compiler.node(schema)?;
        Ok(Self { root, named: compiler.named })
    }

    /// Reads one datum and nothing else.
    pub(crate) fn read(&self, datum: &[u8]) -> Result<Value, String> {
        let mut reader = Reader { rest: datum, named: &self.named, values: 0 };
        let value = reader.value(&self.root, 0)?;
        match reader.rest.len() {
            0 => Ok(value),
            left => Err(format!("{left} bytes are left over after the record")),
        }
    }
}

struct Compiler {
    index: HashMap<Name, usize>,
    named: Vec<Node>,
}

impl Compiler {
    fn node(&mut self, schema: &Schema) -> Result<Node, String> {
        Ok(match schema {
            Schema::Null => Node::Null,
            Schema::Boolean => Node::Bool,
            Schema::Int | Schema::Long | Schema::TimeMillis | Schema::TimeMicros => Node::Long,
            Schema::Float => Node::Float,
            Schema::Double => Node::Double,
            Schema::Bytes | Schema::BigDecimal => Node::Bytes,
            Schema::String | Schema::Uuid(UuidSchema::String) => Node::Text,
            Schema::Uuid(UuidSchema::Bytes) => Node::Bytes,
            Schema::Uuid(UuidSchema::Fixed(fixed)) | Schema::Fixed(fixed) | Schema::Duration(fixed) => {
                self.define(&fixed.name, |_| Ok(Node::Fixed(fixed.size)))?
            }
            Schema::Date => Node::Instant(86_400_000_000),
            Schema::TimestampMillis | Schema::LocalTimestampMillis => Node::Instant(1000),
            Schema::TimestampMicros | Schema::LocalTimestampMicros => Node::Instant(1),
            Schema::TimestampNanos | Schema::LocalTimestampNanos => Node::Instant(0),
            Schema::Decimal(decimal) => {
                let scale = decimal.scale as u32;
                match &decimal.inner {
                    InnerDecimalSchema::Bytes => Node::Decimal { scale, size: None },
                    InnerDecimalSchema::Fixed(fixed) => {
                        self.define(&fixed.name, |_| Ok(Node::Decimal { scale, size: Some(fixed.size) }))?
                    }
                }
            }
            Schema::Array(array) => Node::List(Box::new(self.node(&array.items)?)),
            Schema::Map(map) => Node::Map(Box::new(self.node(&map.types)?)),
            Schema::Union(union) => {
                Node::Union(union.variants().iter().map(|s| self.node(s)).collect::<Result<_, _>>()?)
            }
            Schema::Enum(symbols) => {
                let node = Node::Enum {
                    symbols: symbols.symbols.iter().map(|s| s.as_str().into()).collect(),
                    default: symbols.default.as_deref().map(Into::into),
                };
                self.define(&symbols.name, |_| Ok(node))?
            }
            Schema::Record(record) => self.define(&record.name, |compiler| {
                let fields = record.fields.iter().map(|field| {
                    Ok(Field {
                        name: field.name.as_str().into(),
                        aliases: field.aliases.clone(),
                        default: field.default.clone(),
                        node: compiler.node(&field.schema)?,
                    })
                });
                Ok(Node::Record(fields.collect::<Result<_, String>>()?))
            })?,
            Schema::Ref { name } => {
                Node::Named(*self.index.get(name).ok_or_else(|| format!("type `{name}` is not defined"))?)
            }
        })
    }

    /// Registers a name before its definition is compiled, so that it may refer to itself.
    fn define(
        &mut self,
        name: &Name,
        build: impl FnOnce(&mut Self) -> Result<Node, String>,
    ) -> Result<Node, String> {
        let at = self.named.len();
        self.index.insert(name.clone(), at);
        self.named.push(Node::Null);
        self.named[at] = build(self)?;
        Ok(Node::Named(at))
    }
}

struct Reader<'s, 'b> {
    rest: &'b [u8],
    named: &'s [Node],
    values: usize,
}

impl<'b> Reader<'_, 'b> {
    fn value(&mut self, node: &Node, depth: usize) -> Result<Value, String> {
        self.values += 1;
        if self.values > MAX_VALUES || depth > MAX_DEPTH {
            return Err("the record is too large or nested too deeply".into());
        }
        Ok(match node {
            Node::Null => Value::Null,
            Node::Bool => match self.take(1)?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => return Err(format!("{other:#04x} is not a boolean")),
            },
            Node::Long => Value::Int(self.long()?),
            Node::Float => Value::Float(f32::from_le_bytes(self.array()?).into()),
            Node::Double => Value::Float(f64::from_le_bytes(self.array()?)),
            Node::Bytes => Value::Bytes(Bytes::copy_from_slice(self.sized()?)),
            Node::Text => Value::Text(self.text()?.into()),
            Node::Fixed(size) => Value::Bytes(Bytes::copy_from_slice(self.take(*size)?)),
            Node::Enum { symbols, .. } => {
                let at = self.long()?;
                let symbol = usize::try_from(at).ok().and_then(|at| symbols.get(at));
                Value::Text(symbol.ok_or_else(|| format!("enum has no symbol {at}"))?.clone())
            }
            Node::Union(variants) => {
                let at = self.long()?;
                let variant = usize::try_from(at).ok().and_then(|at| variants.get(at));
                self.value(variant.ok_or_else(|| format!("union has no branch {at}"))?, depth + 1)?
            }
            Node::List(items) => {
                let mut list = Vec::new();
                self.blocks(|reader| {
                    list.push(reader.value(items, depth + 1)?);
                    Ok(())
                })?;
                Value::List(list)
            }
            Node::Map(values) => {
                let mut fields = Vec::new();
                self.blocks(|reader| {
                    let name = reader.text()?.into();
                    fields.push((name, reader.value(values, depth + 1)?));
                    Ok(())
                })?;
                Value::Record(fields)
            }
            Node::Record(fields) => {
                let mut read = Vec::with_capacity(fields.len());
                for field in fields {
                    let value = self
                        .value(&field.node, depth + 1)
                        .map_err(|why| format!("field `{}`: {why}", field.name))?;
                    read.push((field.name.clone(), value));
                }
                Value::Record(read)
            }
            Node::Instant(unit) => instant(self.long()?, *unit),
            Node::Decimal { scale, size } => {
                let unscaled = match size {
                    Some(size) => self.take(*size)?,
                    None => self.sized()?,
                };
                decimal(unscaled, *scale)
            }
            Node::Named(at) => self.value(&self.named[*at], depth + 1)?,
        })
    }

    /// Arrays and maps come in blocks; a negative count is followed by the block's size in bytes.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        loop {
            let mut count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                count = count.checked_neg().ok_or("a block's count is out of range")?;
                self.long()?;
            }
            for _ in 0..count {
                item(self)?;
            }
        }
    }

    /// Zigzag, base 128, least significant first, ten bytes at most.
    fn long(&mut self) -> Result<i64, String> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        Err("a number is longer than ten bytes".into())
    }

    fn text(&mut self) -> Result<&'b str, String> {
        std::str::from_utf8(self.sized()?).map_err(|_| "a string is not UTF-8".into())
    }

    fn sized(&mut self) -> Result<&'b [u8], String> {
        let length = self.long()?;
        let length = usize::try_from(length).map_err(|_| format!("{length} is no length"))?;
        self.take(length)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("took exactly that many"))
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8], String> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| format!("{count} bytes are needed where {} are left", self.rest.len()))?;
        self.rest = rest;
        Ok(taken)
    }
}

/// `unit` is the number of microseconds of one; 0 stands for nanoseconds.
pub(crate) fn instant(count: i64, unit: i64) -> Value {
    Value::Timestamp(if unit == 0 { count.div_euclid(1000) } else { count.saturating_mul(unit) })
}

/// Big-endian two's complement. What does not fit 128 bits stays bytes.
fn decimal(unscaled: &[u8], scale: u32) -> Value {
    if unscaled.is_empty() || unscaled.len() > 16 {
        return Value::Bytes(Bytes::copy_from_slice(unscaled));
    }
    let sign = if unscaled[0] & 0x80 == 0 { 0 } else { 0xff };
    let mut wide = [sign; 16];
    wide[16 - unscaled.len()..].copy_from_slice(unscaled);
    Value::Float(i128::from_be_bytes(wide) as f64 / 10f64.powi(scale as i32))
}
