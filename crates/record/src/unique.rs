//! Finds a key that stands twice, without comparing every key of a large object with every other.

use std::{collections::HashSet, sync::Arc};

use crate::Value;

/// Up to here looking at all of them is quicker than hashing.
const FEW: usize = 16;

/// The keys of one object or map so far.
#[derive(Default)]
pub(crate) struct Unique(HashSet<Arc<str>>);

impl Unique {
    /// Whether `key` is new; `before` are the entries so far.
    pub(crate) fn is_new(&mut self, key: &Arc<str>, before: &[(Arc<str>, Value)]) -> bool {
        if before.len() < FEW {
            return before.iter().all(|(other, _)| other != key);
        }
        if self.0.is_empty() {
            self.0.extend(before.iter().map(|(key, _)| key.clone()));
        }
        self.0.insert(key.clone())
    }
}
