//! What a client can rely on when a server dies.

use std::fmt;

/// How often a call is done when the server may die at any instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Semantics {
    /// Never sent again: a lost server gives [`CallError::Lost`](crate::CallError::Lost), which says whether the call may have
    /// been done.
    #[default]
    AtMostOnce,
    /// Sent again to the server's successor until it is answered: it may be done more than once. For methods that may.
    AtLeastOnce,
    /// Sent again as well, but done once: the service is [`Durable`](crate::Durable), and remembers what it has answered.
    ExactlyOnce,
}

impl fmt::Display for Semantics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtMostOnce => "at-most-once",
            Self::AtLeastOnce => "at-least-once",
            Self::ExactlyOnce => "exactly-once",
        })
    }
}
