//! One transaction from its beginning to an end that is known. Which request comes next follows from what was answered to
//! the last one; the transaction thread only asks.
//!
//! ```text
//!          Produce                 SendOffsets                  End
//!  begin ─────────────► Produced ─────────────► OffsetsSent ─────────► Committed
//!     │                    │                        │
//!     │ must abort,        │ must abort, cancelled, │ must abort: the client never asked for the end
//!     │ cancelled          │ no valid member        │
//!     └──────────► Abort ◄─┴────────────────────────┘
//!                    │ done                 anything that cannot be aborted
//!                    ▼                                   │
//!                 Aborted                              Broken: a new producer resolves what was pending
//! ```

/// What to ask next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Send every output and wait until the brokers have them.
    Produce,
    /// Send the offsets, as a valid member of the group.
    SendOffsets,
    /// End the transaction: from here on it is not aborted by us.
    End,
    /// Abort it.
    Abort,
}

/// What came back in the end; whoever asks may have asked the same several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// It is done.
    Done,
    /// The transaction must be aborted, or we want that it be.
    MustAbort,
    /// This producer is of no use any more.
    Broken,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// Another request.
    Ask(Request),
    /// Outputs are visible, offsets committed.
    Committed,
    /// Nothing of it is visible.
    Aborted,
    /// Only a new producer can know: `init_transactions` resolves what was pending.
    Lost,
}

impl Request {
    /// The first request.
    pub const FIRST: Request = Request::Produce;

    /// What follows a reply to this request.
    pub fn after(self, reply: Reply) -> Next {
        use Request::{Abort, End, Produce, SendOffsets};
        match (self, reply) {
            (_, Reply::Broken) => Next::Lost,
            (Produce, Reply::Done) => Next::Ask(SendOffsets),
            (SendOffsets, Reply::Done) => Next::Ask(End),
            (End, Reply::Done) => Next::Committed,
            (Abort, Reply::Done) => Next::Aborted,
            (Produce | SendOffsets | End, Reply::MustAbort) => Next::Ask(Abort),
            // An abort that must be aborted makes no sense: the producer is in a state that we do not know.
            (Abort, Reply::MustAbort) => Next::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply() -> impl Strategy<Value = Reply> {
        prop_oneof![
            4 => Just(Reply::Done), 1 => Just(Reply::MustAbort), 1 => Just(Reply::Broken)
        ]
    }

    proptest! {
        #[test]
        fn it_ends_as_what_was_last_done_and_commits_only_after_all_three(replies in prop::collection::vec(reply(), 0..40)) {
            let mut request = Request::FIRST;
            let mut done = Vec::new();
            for reply in replies {
                if reply == Reply::Done {
                    done.push(request);
                }
                match request.after(reply) {
                    Next::Ask(next) => {
                        prop_assert!(!done.contains(&Request::End), "asked something after its end");
                        prop_assert!(next == Request::Abort || !done.contains(&next), "asked twice");
                        request = next;
                    }
                    Next::Committed => {
                        prop_assert_eq!(done, [Request::Produce, Request::SendOffsets, Request::End]);
                        return Ok(());
                    }
                    Next::Aborted => {
                        prop_assert_eq!(done.last(), Some(&Request::Abort));
                        prop_assert!(!done.contains(&Request::End));
                        return Ok(());
                    }
                    Next::Lost => return Ok(()),
                }
            }
        }
    }
}
