//! The compiled form of a writer's and a reader's schema: a tree of what stands next in the bytes and what it
//! becomes. Records stand in a list of their own, because a schema may refer to itself.

use std::sync::Arc;

use apache_avro::Schema;

use super::{bytes::Bytes, fault::Fault, read, resolve};
use crate::{Rejection, Value};

/// How to read what one writer wrote as what one reader expects.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(super) root: Node,
    pub(super) records: Vec<Record>,
    /// Which fields of the outermost record are wanted; all, if nothing is said.
    pub(super) wanted: Option<Wanted>,
}

/// What is to be read of a record.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// For each of its steps, where that stands among the wanted fields.
    pub(super) slots: Vec<Option<usize>>,
    /// Of its template.
    pub(super) fields: Vec<(Arc<str>, Value)>,
}

/// One value in the bytes.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Null,
    Boolean,
    /// `int` on the wire: more than 32 bits are malformed.
    Int(Number),
    Long(Number),
    Float,
    /// `float` on the wire under a reader's `double` is the same: a value holds doubles.
    Double,
    /// `string`, or `bytes` under a reader's `string`.
    Text,
    /// `bytes`, or `string` under a reader's `bytes`.
    Bytes,
    Fixed(usize),
    /// `None`: `bytes` on the wire, else `fixed` of that size.
    Decimal {
        size: Option<usize>,
        scale: i64,
    },
    BigDecimal,
    /// Sixteen bytes, as `bytes` or as `fixed`.
    Uuid {
        fixed: bool,
    },
    Duration,
    Enum(Vec<Option<Arc<str>>>),
    Array(Box<Node>),
    Map(Box<Node>),
    Union(Vec<Node>),
    /// Position in [`Plan::records`].
    Record(usize),
    /// A branch that the writer may write and the reader cannot take.
    Refused(Fault),
}

/// What a whole number becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Int,
    /// Promoted to `float`, whose precision it then has.
    Single,
    /// Promoted to `double`.
    Double,
    /// An instant, with this many microseconds a unit.
    Instant(i64),
    /// An instant in nanoseconds.
    InstantNanos,
}

#[derive(Clone, Debug)]
pub(super) enum Record {
    /// Being compiled, or found to be incompatible on the way.
    Unfinished,
    Ready {
        /// In the writer's order.
        steps: Vec<Step>,
        /// In the reader's order, with the defaults of what the writer does not have.
        template: Vec<(Arc<str>, Value)>,
        /// How many values those defaults hold.
        defaults: usize,
        /// The writer writes exactly the reader's fields in their order.
        straight: bool,
        /// How to pass it by without a look at each field, where all of them are numbers.
        numbers: Option<Vec<Plain>>,
    },
}

/// A number that is passed by without a look at what it says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plain {
    /// Any that ends within so many bytes is valid; a longer one has to be looked at.
    Within(usize),
    /// It takes so many bytes.
    Fixed(usize),
}

impl Node {
    /// How to pass it by, if it is a number.
    pub(super) fn plain(&self) -> Option<Plain> {
        match self {
            // Some instants in a coarse unit have no place in microseconds; 49 bits of milliseconds do.
            Self::Int(Number::Instant(1001..)) | Self::Long(Number::Instant(1001..)) => None,
            Self::Int(_) => Some(Plain::Within(4)),
            Self::Long(Number::Instant(_)) => Some(Plain::Within(7)),
            Self::Long(_) => Some(Plain::Within(9)),
            Self::Float => Some(Plain::Fixed(4)),
            Self::Double => Some(Plain::Fixed(8)),
            _ => None,
        }
    }
}

impl Record {
    /// See [`Record::Ready`].
    pub(super) fn numbers(&self) -> Option<&[Plain]> {
        match self {
            Self::Ready { numbers, .. } => numbers.as_deref(),
            Self::Unfinished => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The writer's name of the field.
    pub(super) name: Arc<str>,
    pub(super) node: Node,
    /// Where it stands among the reader's fields; `None`: the reader does not have it.
    pub(super) slot: Option<usize>,
}

impl Plan {
    /// A plan, or which field stands in the way and why.
    pub(crate) fn new(writer: &Schema, reader: &Schema) -> Result<Self, Rejection> {
        Ok(resolve::plan(writer, reader)?)
    }

    /// The same plan, which gives only those of the event's own fields that are wanted. The others are checked as if
    /// they were read, so that a datum is accepted or refused alike.
    pub(crate) fn only(mut self, is_wanted: &dyn Fn(&str) -> bool) -> Self {
        if let Node::Record(at) = self.root
            && let Record::Ready { steps, template, .. } = &self.records[at]
        {
            let fields: Vec<_> = template.iter().filter(|(name, _)| is_wanted(name)).cloned().collect();
            let slot = |step: &Step| {
                let (name, _) = &template[step.slot?];
                fields.iter().position(|(wanted, _)| wanted == name)
            };
            let slots = steps.iter().map(slot).collect();
            self.wanted = Some(Wanted { slots, fields });
        }
        self
    }

    /// Reads one datum, which must take all of the bytes. Never panics and never allocates more than a small
    /// multiple of the datum, whatever the bytes.
    pub(crate) fn read(&self, datum: &[u8]) -> Result<Value, Rejection> {
        let mut bytes = Bytes(datum);
        let value = read::Reading::new(self).event(&mut bytes)?;
        match bytes.0.len() {
            0 => Ok(value),
            left => Err(Fault::malformed(format!("{left} bytes are left over after the record")).into()),
        }
    }
}
