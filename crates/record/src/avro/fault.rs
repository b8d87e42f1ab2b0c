//! What is wrong with a datum or with a pair of schemas, and at which field. The path is put together while
//! the error unwinds, so that good records pay nothing for it.

use std::fmt;

use crate::{Reason, Rejection};

/// A reason, a path such as `recent[3].amount`, and why. Boxed: errors are rare, and results stay small.
#[derive(Debug, Clone)]
pub(super) struct Fault(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    reason: Reason,
    path: String,
    why: String,
}

impl Fault {
    /// The bytes are not what the writer's schema says.
    pub(super) fn malformed(why: impl Into<String>) -> Self {
        Self::new(Reason::MalformedPayload, why)
    }

    /// The reader's schema cannot take what the writer's schema allows.
    pub(super) fn incompatible(why: impl Into<String>) -> Self {
        Self::new(Reason::IncompatibleSchema, why)
    }

    fn new(reason: Reason, why: impl Into<String>) -> Self {
        Self(Box::new(Inner { reason, path: String::new(), why: why.into() }))
    }

    /// The same fault, seen from the record that holds the field `name`.
    pub(super) fn in_field(mut self, name: &str) -> Self {
        let dot = if self.0.path.is_empty() || self.0.path.starts_with('[') { "" } else { "." };
        self.0.path = format!("{name}{dot}{}", self.0.path);
        self
    }

    /// The same fault, seen from the list or map that holds it.
    pub(super) fn in_item(mut self, at: impl fmt::Display) -> Self {
        let dot = if self.0.path.is_empty() || self.0.path.starts_with('[') { "" } else { "." };
        self.0.path = format!("[{at}]{dot}{}", self.0.path);
        self
    }

    pub(super) fn reason(&self) -> Reason {
        self.0.reason
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.path.is_empty() {
            write!(f, "field `{}`: ", self.0.path)?;
        }
        f.write_str(&self.0.why)
    }
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        Rejection::new(fault.reason(), fault.to_string())
    }
}
