//! How many dead letters a partition may divert before it is held. One bad record is a dead letter; a stage that fails
//! for everything is a broken stage, and must not empty a topic into the dead letters.
//!
//! ```text
//!              over the limit                      backoff is over, read again
//!  Counting ───────────────────► Held (1 s … 60 s) ─────────────────────────────► Probing
//!     ▲                            ▲                 the first record is bad         │
//!     │                            └─────────────────────────────────────────────────┤
//!     └──────────────────────────────────────────────────────────────────────────────┘
//!                                    the first record is good
//! ```
//!
//! Verdicts are counted in order of arrival, when a window takes them, so what the limit lets out does not depend on
//! which batch came back first.

use std::time::Duration;

/// What a record's answer says of whether its stage works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It does.
    Good,
    /// It makes a dead letter of it.
    Dead,
    /// Nothing: the record is another stage's. However many of those there are between dead letters, they excuse none.
    None,
}

/// The most dead letters that one partition may divert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeadLetterLimit {
    /// One after another.
    pub consecutive: usize,
    /// Of about the last [`DeadLetterLimit::SAMPLE`] records, between 0 and 1; 1 means that any number may be bad.
    pub ratio: f64,
}

impl DeadLetterLimit {
    /// Fewer records than this say nothing about a ratio.
    pub const SAMPLE: usize = 1000;
}

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(60);

/// What one partition's records came to lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Diversion {
    consecutive: usize,
    good: usize,
    dead: usize,
    /// Held so many times without a good record since.
    trips: u32,
}

impl Diversion {
    /// Whether a record with this sign may leave, and if so counts it. One that may not is over the limit.
    pub(crate) fn admit(&mut self, sign: Sign, limit: &DeadLetterLimit) -> bool {
        match sign {
            Sign::Good => self.good_one(),
            Sign::Dead => return self.dead_one(limit),
            Sign::None => {}
        }
        true
    }

    fn good_one(&mut self) {
        if self.trips > 0 {
            *self = Self::default();
        }
        self.consecutive = 0;
        self.good += 1;
        self.forget_half();
    }

    fn dead_one(&mut self, limit: &DeadLetterLimit) -> bool {
        let sample = self.good + self.dead + 1;
        let many = sample >= DeadLetterLimit::SAMPLE
            && limit.ratio < 1.0
            && (self.dead + 1) as f64 > limit.ratio * sample as f64;
        if self.trips > 0 || self.consecutive >= limit.consecutive || many {
            return false;
        }
        self.consecutive += 1;
        self.dead += 1;
        self.forget_half();
        true
    }

    /// The partition is held; gives the time until it is tried again.
    pub(crate) fn trip(&mut self) -> Duration {
        self.trips += 1;
        FIRST_BACKOFF.saturating_mul(1 << (self.trips - 1).min(6)).min(LAST_BACKOFF)
    }

    /// Old records weigh less and less.
    fn forget_half(&mut self) {
        if self.good + self.dead >= 2 * DeadLetterLimit::SAMPLE {
            self.good /= 2;
            self.dead /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: DeadLetterLimit = DeadLetterLimit { consecutive: 3, ratio: 0.5 };

    fn admitted(diversion: &mut Diversion, verdicts: impl IntoIterator<Item = bool>) -> usize {
        let sign = |dead| if dead { Sign::Dead } else { Sign::Good };
        verdicts.into_iter().take_while(|&dead| diversion.admit(sign(dead), &LIMIT)).count()
    }

    #[test]
    fn what_is_another_stages_neither_excuses_dead_letters_nor_forgives_them() {
        let mut diversion = Diversion::default();
        // A tenth is this stage's own, and all of it dies.
        let own = |number: usize| if number.is_multiple_of(10) { Sign::Dead } else { Sign::None };
        let left = (0..).map(own).take_while(|&sign| diversion.admit(sign, &LIMIT));
        assert_eq!(left.filter(|&sign| sign == Sign::Dead).count(), 3, "the fourth in a row");
        diversion.trip();
        assert!(diversion.admit(Sign::None, &LIMIT));
        assert!(!diversion.admit(Sign::Dead, &LIMIT), "nothing good has come since");
    }

    #[test]
    fn a_few_in_a_row_leave_and_a_good_one_starts_the_count_anew() {
        let mut diversion = Diversion::default();
        assert_eq!(admitted(&mut diversion, [true, true, true, false, true, true, true]), 7);
        assert_eq!(admitted(&mut diversion, [true]), 0, "the fourth in a row");
    }

    #[test]
    fn more_than_the_ratio_is_too_many_once_there_are_enough_to_tell() {
        let two_of_three = (0..).map(|n| n % 3 != 0);
        let admitted = admitted(&mut Diversion::default(), two_of_three);
        assert!((999..=1001).contains(&admitted), "{admitted}");
        let one_of_three = (0..100_000).map(|n| n % 3 == 0);
        assert_eq!(self::admitted(&mut Diversion::default(), one_of_three), 100_000);
    }

    #[test]
    fn a_good_past_does_not_hide_a_bad_present() {
        let mut diversion = Diversion::default();
        admitted(&mut diversion, (0..1_000_000).map(|_| false));
        let admitted = admitted(&mut diversion, (0..).map(|n| n % 3 != 0));
        assert!(admitted < 10 * DeadLetterLimit::SAMPLE, "{admitted}");
    }

    #[test]
    fn after_it_was_held_one_bad_record_is_enough_and_one_good_one_forgives() {
        let mut diversion = Diversion::default();
        assert_eq!(diversion.trip(), Duration::from_secs(1));
        assert_eq!(admitted(&mut diversion, [true]), 0);
        assert_eq!(diversion.trip(), Duration::from_secs(2));
        assert_eq!(admitted(&mut diversion, [false, true, true, true]), 4);
        assert_eq!(diversion.trip(), Duration::from_secs(1), "the backoff starts anew too");
        assert_eq!((0..20).map(|_| diversion.trip()).max(), Some(LAST_BACKOFF));
    }
}
