//! The count of a run, by reason, and of what was left, by why.

use std::{collections::BTreeMap, fmt};

use twinlane_record::Reason;

use super::guard::Left;

/// What was counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Dead letters that were listed or sent, by reason.
    pub(crate) taken: BTreeMap<Reason, u64>,
    /// Dead letters that the filter takes and that are not sent.
    pub(crate) left: BTreeMap<Left, u64>,
    /// Records on the topic that are no dead letters.
    pub(crate) strangers: u64,
}

impl Tally {
    pub(crate) fn take(&mut self, reason: Reason) {
        *self.taken.entry(reason).or_default() += 1;
    }

    pub(crate) fn leave(&mut self, why: Left) {
        *self.left.entry(why).or_default() += 1;
    }

    /// All that were listed or sent.
    pub(crate) fn total(&self) -> u64 {
        self.taken.values().sum()
    }
}

/// Most frequent first, one a line, indented; then what was left.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut by_count: Vec<_> = self.taken.iter().collect();
        by_count.sort_by_key(|&(reason, count)| (std::cmp::Reverse(*count), *reason));
        for (reason, count) in by_count {
            write!(f, "\n  {count:>8}  {reason}")?;
        }
        if !self.left.is_empty() {
            write!(f, "\nleft:")?;
        }
        for (why, count) in &self.left {
            write!(f, "\n  {count:>8}  {why}")?;
        }
        if self.strangers > 0 {
            write!(f, "\n{} records on the topic are no dead letters", self.strangers)?;
        }
        Ok(())
    }
}

/// `1 dead letter`, `2 dead letters`.
pub(crate) fn counted(count: u64) -> String {
    if count == 1 { "1 dead letter".to_owned() } else { format!("{count} dead letters") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_reason_comes_first_and_what_was_left_says_why() {
        let mut tally = Tally::default();
        tally.take(Reason::NoRoute);
        tally.take(Reason::WrongType);
        tally.take(Reason::WrongType);
        tally.leave(Left::DiedTooOften);
        let text = tally.to_string();
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert_eq!(lines[1..4], ["2  wrong_type", "1  no_route", "left:"]);
        assert!(lines[4].starts_with("1  died too often"), "{text}");
        assert_eq!(tally.total(), 3);
    }
}
