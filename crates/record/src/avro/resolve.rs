//! Schema resolution as the Avro specification has it: fields by name, promotions, defaults, unions branch by
//! branch. Two rules go beyond it, because our values are richer than Avro's: an instant keeps the unit it was
//! written in when the reader uses another one, and a decimal its scale.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use apache_avro::{
    Schema,
    schema::{Aliases, EnumSchema, Name, RecordField, RecordSchema},
};

use super::{
    default::Defaults,
    fault::Fault,
    plan::{Node, Number, Plan, Record, Step},
    view::{Meaning, Names, Unit, Wire},
};

/// Compiles a plan.
pub(super) fn plan(writer: &Schema, reader: &Schema) -> Result<Plan, Fault> {
    let mut resolver = Resolver {
        writer: Names::of(writer)?,
        reader: Names::of(reader)?,
        records: Vec::new(),
        places: HashMap::new(),
        refused: HashMap::new(),
        kept: HashMap::new(),
        defaults: Defaults::default(),
        depth: 0,
        interned: HashSet::new(),
    };
    let root = resolver.node(writer, reader)?;
    Ok(Plan { root, records: resolver.records, wanted: None })
}

/// Schemas within each other, names followed. No event is that deep, its own limit being lower; the stack of a thread
/// is.
const MAX_DEPTH: usize = 256;

/// Full names of the writer's and of the reader's record.
type Pair = (String, String);

struct Resolver<'s> {
    writer: Names<'s>,
    reader: Names<'s>,
    records: Vec<Record>,
    /// Pairs of records that have a place already, by full name: where recursion ends.
    places: HashMap<Pair, usize>,
    /// Pairs that do not fit: asked again, as every union in their way does, they would take twice as long each time.
    /// What stands above them was taken to fit, so no other way to them changes the answer.
    refused: HashMap<Pair, Fault>,
    /// The places of the writer's records that are read and dropped.
    kept: HashMap<Pair, usize>,
    defaults: Defaults,
    depth: usize,
    /// One allocation per name instead of one per record.
    interned: HashSet<Arc<str>>,
}

impl<'s> Resolver<'s> {
    fn node(&mut self, writer: &'s Schema, reader: &'s Schema) -> Result<Node, Fault> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::incompatible(format!("more than {MAX_DEPTH} schemas within each other")));
        }
        self.depth += 1;
        let node = self.one(writer, reader);
        self.depth -= 1;
        node
    }

    fn one(&mut self, writer: &'s Schema, reader: &'s Schema) -> Result<Node, Fault> {
        let (w, written) = self.writer.view(writer)?;
        let (r, read) = self.reader.view(reader)?;
        Ok(match (w, r) {
            (Wire::Union(union), _) => {
                let branches: Vec<_> = union.variants().iter().map(|b| self.node(b, reader)).collect();
                if let Some(Err(fault)) = branches.first()
                    && branches.iter().all(Result::is_err)
                {
                    return Err(fault.clone());
                }
                Node::Union(branches.into_iter().map(|b| b.unwrap_or_else(Node::Refused)).collect())
            }
            (_, Wire::Union(union)) => self.branch(writer, union.variants())?,
            (Wire::Null, Wire::Null) => Node::Null,
            (Wire::Boolean, Wire::Boolean) => Node::Boolean,
            (Wire::Float, Wire::Float | Wire::Double) => Node::Float,
            (Wire::Double, Wire::Double) => Node::Double,
            (Wire::Int, Wire::Int | Wire::Long | Wire::Float | Wire::Double) => {
                Node::Int(number(r, written, read)?)
            }
            (Wire::Long, Wire::Long | Wire::Float | Wire::Double) => Node::Long(number(r, written, read)?),
            (Wire::Bytes | Wire::Text, Wire::Bytes | Wire::Text) => blob(w, r, written, read)?,
            (Wire::Fixed { name: from, size }, Wire::Fixed { name: to, size: expected }) => {
                if from != to || size != expected {
                    return Err(Fault::incompatible(format!("{w} cannot be read as {r}")));
                }
                fixed(size, written, read)?
            }
            (Wire::Enum(from), Wire::Enum(to)) => self.symbols(from, to)?,
            (Wire::Array(from), Wire::Array(to)) => {
                Node::Array(Box::new(self.node(from, to).map_err(|fault| fault.in_item(""))?))
            }
            (Wire::Map(from), Wire::Map(to)) => {
                Node::Map(Box::new(self.node(from, to).map_err(|fault| fault.in_item(""))?))
            }
            (Wire::Record(from), Wire::Record(to)) => self.record(from, to)?,
            _ => return Err(Fault::incompatible(format!("{w} cannot be read as {r}"))),
        })
    }

    /// The reader's branch for a value that is not written as a union: the same type if there is one, else
    /// the first that can take it.
    fn branch(&mut self, writer: &'s Schema, readers: &'s [Schema]) -> Result<Node, Fault> {
        let (w, written) = self.writer.view(writer)?;
        let mut first = None;
        for same in [true, false] {
            for reader in readers {
                let (r, read) = self.reader.view(reader)?;
                if same != (alike(w, r) && written == read) {
                    continue;
                }
                match self.node(writer, reader) {
                    Ok(node) => return Ok(node),
                    // What stands in the way of the same type says more than the other branches do.
                    Err(fault) if same => first = first.or(Some(fault)),
                    Err(_) => {}
                }
            }
        }
        Err(first.unwrap_or_else(|| {
            Fault::incompatible(format!("{w} is no branch of the newest version's union"))
        }))
    }

    fn symbols(&mut self, from: &EnumSchema, to: &EnumSchema) -> Result<Node, Fault> {
        same_name(&from.name, &to.name, &to.aliases)?;
        let symbols = from.symbols.iter().map(|symbol| {
            let known = to.symbols.contains(symbol).then_some(symbol);
            known.or(to.default.as_ref()).map(|symbol| self.intern(symbol))
        });
        Ok(Node::Enum(symbols.collect()))
    }

    fn record(&mut self, from: &'s RecordSchema, to: &'s RecordSchema) -> Result<Node, Fault> {
        same_name(&from.name, &to.name, &to.aliases)?;
        let key = (from.name.fullname(None), to.name.fullname(None));
        if let Some(&place) = self.places.get(&key) {
            return Ok(Node::Record(place));
        }
        if let Some(fault) = self.refused.get(&key) {
            return Err(fault.clone());
        }
        let place = self.records.len();
        self.records.push(Record::Unfinished);
        self.places.insert(key.clone(), place);
        match self.fields(from, to) {
            Ok(record) => {
                self.records[place] = record;
                Ok(Node::Record(place))
            }
            Err(fault) => {
                self.places.remove(&key);
                self.refused.insert(key, fault.clone());
                Err(fault)
            }
        }
    }

    fn fields(&mut self, from: &'s RecordSchema, to: &'s RecordSchema) -> Result<Record, Fault> {
        let mut sources = vec![false; to.fields.len()];
        let mut steps = Vec::with_capacity(from.fields.len());
        for field in &from.fields {
            let slot = slot(field, from, to).filter(|&slot| !std::mem::replace(&mut sources[slot], true));
            let node = match slot {
                Some(slot) => self.node(&field.schema, &to.fields[slot].schema),
                None => self.skipped(&field.schema),
            };
            let node = node.map_err(|fault| fault.in_field(&field.name))?;
            steps.push(Step { name: self.intern(&field.name), node, slot });
        }
        let before = self.defaults.values();
        let mut template = Vec::with_capacity(to.fields.len());
        for (field, written) in to.fields.iter().zip(&sources) {
            let value = match (&field.default, written) {
                (_, true) => crate::Value::Null,
                (Some(default), false) => {
                    let value = self.defaults.value(&self.reader, &field.schema, default);
                    value.map_err(|fault| fault.in_field(&field.name))?
                }
                (None, false) => {
                    let why = "it is not in the writer's version and has no default";
                    return Err(Fault::incompatible(why).in_field(&field.name));
                }
            };
            template.push((self.intern(&field.name), value));
        }
        // Only then do the steps' names, which are the writer's, name the reader's fields as well.
        let straight = steps.len() == template.len()
            && steps
                .iter()
                .zip(&template)
                .enumerate()
                .all(|(at, (s, (name, _)))| s.slot == Some(at) && s.name == *name);
        let defaults = self.defaults.values() - before;
        let numbers: Option<Vec<_>> = steps.iter().map(|step| step.node.plain()).collect();
        let numbers = numbers.filter(|numbers| straight && !numbers.is_empty());
        Ok(Record::Ready { steps, template, defaults, straight, numbers })
    }

    /// A field that the reader does not have is read as itself and dropped.
    fn skipped(&mut self, schema: &'s Schema) -> Result<Node, Fault> {
        // Its names are the writer's on both sides, and so are its records' places.
        let mut alone = Resolver {
            writer: self.writer.clone(),
            reader: self.writer.clone(),
            records: std::mem::take(&mut self.records),
            places: std::mem::take(&mut self.kept),
            refused: HashMap::new(),
            kept: HashMap::new(),
            defaults: Defaults::default(),
            depth: self.depth,
            interned: std::mem::take(&mut self.interned),
        };
        let node = alone.node(schema, schema);
        self.records = alone.records;
        self.kept = alone.places;
        self.interned = alone.interned;
        node
    }

    fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.interned.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.interned.insert(name.clone());
        name
    }
}

/// The reader's field of that name, else the one that lists it as an alias.
fn slot(field: &RecordField, from: &RecordSchema, to: &RecordSchema) -> Option<usize> {
    let named = to.fields.iter().position(|f| f.name == field.name);
    named.or_else(|| {
        to.fields.iter().position(|f| {
            f.aliases.contains(&field.name) && !from.fields.iter().any(|other| other.name == f.name)
        })
    })
}

fn same_name(from: &Name, to: &Name, aliases: &Aliases) -> Result<(), Fault> {
    let aliased = aliases.iter().flatten().any(|alias| alias.name() == from.name());
    if from.name() == to.name() || aliased {
        return Ok(());
    }
    let (from, to) = (from.name(), to.name());
    Err(Fault::incompatible(format!("`{from}` is not `{to}`, which would need an alias")))
}

/// The same type, promotions left aside.
fn alike(w: Wire<'_>, r: Wire<'_>) -> bool {
    match (w, r) {
        (Wire::Record(from), Wire::Record(to)) => same_name(&from.name, &to.name, &to.aliases).is_ok(),
        (Wire::Enum(from), Wire::Enum(to)) => same_name(&from.name, &to.name, &to.aliases).is_ok(),
        (Wire::Fixed { name: from, .. }, Wire::Fixed { name: to, .. }) => from == to,
        _ => std::mem::discriminant(&w) == std::mem::discriminant(&r),
    }
}

/// What an `int` or `long` becomes under the reader's type.
fn number(r: Wire<'_>, written: Meaning, read: Meaning) -> Result<Number, Fault> {
    use Meaning::{Instant, Plain, TimeOfDay};
    Ok(match (written, read) {
        (Instant(unit), Instant(_)) | (Plain, Instant(unit)) => instant(unit),
        (TimeOfDay(from), TimeOfDay(to)) if from != to => {
            return Err(Fault::incompatible("a time of day changed its unit"));
        }
        (Instant(_), TimeOfDay(_)) | (TimeOfDay(_), Instant(_)) => {
            return Err(Fault::incompatible("a time of day is not an instant"));
        }
        _ => match r {
            Wire::Float => Number::Single,
            Wire::Double => Number::Double,
            _ => Number::Int,
        },
    })
}

pub(super) fn instant(unit: Unit) -> Number {
    match unit {
        Unit::Days => Number::Instant(86_400_000_000),
        Unit::Millis => Number::Instant(1000),
        Unit::Micros => Number::Instant(1),
        Unit::Nanos => Number::InstantNanos,
    }
}

/// `bytes` and `string` are written alike and promote to each other.
fn blob(w: Wire<'_>, r: Wire<'_>, written: Meaning, read: Meaning) -> Result<Node, Fault> {
    let bytes = matches!(w, Wire::Bytes);
    Ok(match (written, read) {
        (Meaning::Decimal { scale }, Meaning::Decimal { .. })
        | (Meaning::Plain, Meaning::Decimal { scale })
            if bytes =>
        {
            Node::Decimal { size: None, scale }
        }
        (Meaning::BigDecimal | Meaning::Plain, Meaning::BigDecimal) if bytes => Node::BigDecimal,
        (Meaning::Uuid, _) | (Meaning::Plain, Meaning::Uuid) if bytes => Node::Uuid { fixed: false },
        (_, Meaning::Decimal { .. } | Meaning::BigDecimal) => {
            return Err(Fault::incompatible("it became a decimal of another kind"));
        }
        _ if matches!(r, Wire::Text) => Node::Text,
        _ => Node::Bytes,
    })
}

fn fixed(size: usize, written: Meaning, read: Meaning) -> Result<Node, Fault> {
    Ok(match (written, read) {
        (Meaning::Decimal { scale }, Meaning::Decimal { .. })
        | (Meaning::Plain, Meaning::Decimal { scale }) => Node::Decimal { size: Some(size), scale },
        (_, Meaning::Uuid) if size == 16 => Node::Uuid { fixed: true },
        (_, Meaning::Duration) if size == 12 => Node::Duration,
        (_, Meaning::Plain) => Node::Fixed(size),
        _ => return Err(Fault::incompatible("its bytes changed their meaning")),
    })
}
