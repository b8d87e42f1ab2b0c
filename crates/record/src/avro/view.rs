//! A schema taken apart into what stands in the bytes and what it means, so that resolution compares two
//! small enums instead of thirty kinds of schema.

use std::fmt;

use apache_avro::{
    Schema,
    schema::{
        EnumSchema, InnerDecimalSchema, NamesRef, RecordSchema, ResolvedSchema, UnionSchema, UuidSchema,
    },
};

use super::fault::Fault;

/// How a value is written.
#[derive(Clone, Copy)]
pub(super) enum Wire<'s> {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed { name: &'s str, size: usize },
    Enum(&'s EnumSchema),
    Array(&'s Schema),
    Map(&'s Schema),
    Union(&'s UnionSchema),
    Record(&'s RecordSchema),
}

/// What a value means beyond its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Plain,
    Instant(Unit),
    TimeOfDay(Unit),
    Decimal { scale: i64 },
    BigDecimal,
    Uuid,
    Duration,
}

/// Unit of an instant or a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Days,
    Millis,
    Micros,
    Nanos,
}

/// Looks schemas up by the name under which a schema file refers to them.
#[derive(Clone)]
pub(super) struct Names<'s>(NamesRef<'s>);

impl<'s> Names<'s> {
    pub(super) fn of(schema: &'s Schema) -> Result<Self, Fault> {
        let resolved = ResolvedSchema::new(schema).map_err(|e| Fault::incompatible(e.to_string()))?;
        Ok(Self(resolved.get_names().clone()))
    }

    pub(super) fn view(&self, schema: &'s Schema) -> Result<(Wire<'s>, Meaning), Fault> {
        use Meaning::{Instant, Plain, TimeOfDay};
        Ok(match schema {
            Schema::Null => (Wire::Null, Plain),
            Schema::Boolean => (Wire::Boolean, Plain),
            Schema::Int => (Wire::Int, Plain),
            Schema::Long => (Wire::Long, Plain),
            Schema::Float => (Wire::Float, Plain),
            Schema::Double => (Wire::Double, Plain),
            Schema::Bytes => (Wire::Bytes, Plain),
            Schema::String => (Wire::Text, Plain),
            Schema::Array(array) => (Wire::Array(&array.items), Plain),
            Schema::Map(map) => (Wire::Map(&map.types), Plain),
            Schema::Union(union) => (Wire::Union(union), Plain),
            Schema::Record(record) => (Wire::Record(record), Plain),
            Schema::Enum(symbols) => (Wire::Enum(symbols), Plain),
            Schema::Fixed(fixed) => (Wire::Fixed { name: fixed.name.name(), size: fixed.size }, Plain),
            Schema::Decimal(decimal) => {
                let meaning = Meaning::Decimal { scale: decimal.scale as i64 };
                match &decimal.inner {
                    InnerDecimalSchema::Bytes => (Wire::Bytes, meaning),
                    InnerDecimalSchema::Fixed(fixed) => {
                        (Wire::Fixed { name: fixed.name.name(), size: fixed.size }, meaning)
                    }
                }
            }
            Schema::BigDecimal => (Wire::Bytes, Meaning::BigDecimal),
            Schema::Uuid(UuidSchema::String) => (Wire::Text, Meaning::Uuid),
            Schema::Uuid(UuidSchema::Bytes) => (Wire::Bytes, Meaning::Uuid),
            Schema::Uuid(UuidSchema::Fixed(fixed)) => {
                (Wire::Fixed { name: fixed.name.name(), size: fixed.size }, Meaning::Uuid)
            }
            Schema::Duration(fixed) => {
                (Wire::Fixed { name: fixed.name.name(), size: fixed.size }, Meaning::Duration)
            }
            Schema::Date => (Wire::Int, Instant(Unit::Days)),
            Schema::TimeMillis => (Wire::Int, TimeOfDay(Unit::Millis)),
            Schema::TimeMicros => (Wire::Long, TimeOfDay(Unit::Micros)),
            // A local timestamp names no zone; it is read as if it stood in UTC.
            Schema::TimestampMillis | Schema::LocalTimestampMillis => (Wire::Long, Instant(Unit::Millis)),
            Schema::TimestampMicros | Schema::LocalTimestampMicros => (Wire::Long, Instant(Unit::Micros)),
            Schema::TimestampNanos | Schema::LocalTimestampNanos => (Wire::Long, Instant(Unit::Nanos)),
            Schema::Ref { name } => {
                let named = self.0.get(name).copied();
                let named = named.filter(|s| !matches!(s, Schema::Ref { .. }));
                self.view(named.ok_or_else(|| Fault::incompatible(format!("`{name}` is not defined")))?)?
            }
        })
    }
}

/// As a schema file would call it.
impl fmt::Display for Wire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wire::Null => f.write_str("null"),
            Wire::Boolean => f.write_str("boolean"),
            Wire::Int => f.write_str("int"),
            Wire::Long => f.write_str("long"),
            Wire::Float => f.write_str("float"),
            Wire::Double => f.write_str("double"),
            Wire::Bytes => f.write_str("bytes"),
            Wire::Text => f.write_str("string"),
            Wire::Fixed { name, size } => write!(f, "fixed `{name}` of {size} bytes"),
            Wire::Enum(symbols) => write!(f, "enum `{}`", symbols.name.name()),
            Wire::Array(_) => f.write_str("array"),
            Wire::Map(_) => f.write_str("map"),
            Wire::Union(union) => write!(f, "union of {}", union.variants().len()),
            Wire::Record(record) => write!(f, "record `{}`", record.name.name()),
        }
    }
}
