//! What the two processes of a link say to each other: each message 32 bytes, in this order.
//!
//! ```text
//! connecting side                         listening side
//! HELLO    which ways, may it go bare  ->
//!                                      <-    OFFER    with the first half
//! JOIN     with the second half        ->
//!                                      <-    WELCOME
//! and if it is to be both ways:
//! OFFER    with the first half         ->
//!                                      <-    JOIN     with the second half
//! WELCOME                              ->
//!                                      <-    WELCOME
//! ```
//!
//! The listening side has the last word in either case: so who connects has a link that the other side has not given up.
//!
//! Instead of its next message either side may say REFUSAL, with the reason. Where it is both ways the connection stays
//! open, and each side may say REGION, with a descriptor.

use crate::{
    error::{LinkError, OpenError},
    header::{self, mismatch},
    sys::{clock::Deadline, socket::Connection},
};
use std::os::fd::{BorrowedFd, OwnedFd};

const MAGIC: [u8; 8] = *b"RINGLINK";
/// Changes with every change of what is said here.
const VERSION: u32 = 1;
const LENGTH: usize = 32;

/// Which message it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Hello = 1,
    Offer = 2,
    Join = 3,
    Welcome = 4,
    Refusal = 5,
    /// After the handshake: a region's descriptor.
    Region = 6,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Hello => "its greeting",
            Self::Offer => "its offer",
            Self::Join => "its memory",
            Self::Welcome => "its welcome",
            Self::Refusal => "its refusal",
            Self::Region => "a region",
        }
    }
}

/// In a HELLO: the process has registered for `membarrier`.
pub(super) const MAY_GO_BARE: u32 = 1;
/// In a HELLO: the connecting side sends.
const SENDS: u32 = 2;
/// In a HELLO: the connecting side receives.
const RECEIVES: u32 = 4;

/// In which directions messages go over a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Ways {
    /// From who connects to who listens.
    One,
    Both,
}

impl Ways {
    pub(super) fn flags(self) -> u32 {
        match self {
            Self::One => SENDS,
            Self::Both => SENDS | RECEIVES,
        }
    }

    /// Whether the other side asks for the same.
    pub(super) fn check(self, flags: u32) -> Result<(), LinkError> {
        match [Self::One, Self::Both].into_iter().find(|ways| ways.flags() == flags) {
            Some(asked) if asked == self => Ok(()),
            Some(Self::One) => Err(LinkError::OneWay),
            Some(Self::Both) => Err(LinkError::BothWays),
            None => Err(LinkError::Malformed { why: "its greeting asks for what this version does not do" }),
        }
    }
}

/// Why the other side is refused, as a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    Version = 1,
    User = 2,
    Malformed = 3,
    Memory = 4,
    Resources = 5,
    OneWay = 6,
    BothWays = 7,
    TooSlow = 8,
}

impl Reason {
    /// What a listener that makes links of so many ways says.
    pub(super) fn of(error: &OpenError, ways: Ways) -> Self {
        use crate::error::SegmentError;
        match error {
            OpenError::Link(LinkError::OneWay | LinkError::BothWays) => match ways {
                Ways::One => Self::OneWay,
                Ways::Both => Self::BothWays,
            },
            OpenError::Mismatch { what, .. } if *what == LINK_VERSION || *what == LAYOUT_VERSION => {
                Self::Version
            }
            OpenError::Link(LinkError::NotAccepted { .. }) => Self::User,
            OpenError::Link(LinkError::Malformed { .. }) => Self::Malformed,
            OpenError::Link(LinkError::TimedOut { .. }) => Self::TooSlow,
            OpenError::Segment(
                SegmentError::NotSealed { .. }
                | SegmentError::NotRegular { .. }
                | SegmentError::TooShort { .. }
                | SegmentError::TooLong { .. }
                | SegmentError::Holes { .. },
            ) => Self::Memory,
            _ => Self::Resources,
        }
    }

    /// What it means to who is refused.
    fn error(number: u32) -> LinkError {
        let why = match number {
            1 => "it is of another version",
            2 => "it does not accept this user",
            3 => "it did not understand",
            4 => "the memory that was passed is not a link's half",
            5 => "it lacks memory, descriptors or the kernel's help",
            6 => return LinkError::OneWay,
            7 => return LinkError::BothWays,
            8 => return LinkError::TooSlow,
            _ => "for a reason that this version does not know",
        };
        LinkError::Refused { why }
    }
}

const LINK_VERSION: &str = "version of the handshake";
const LAYOUT_VERSION: &str = "layout version";

/// Says one message.
pub(super) fn say(
    to: &Connection,
    step: Step,
    detail: u32,
    fd: Option<BorrowedFd<'_>>,
    deadline: Deadline,
) -> Result<(), OpenError> {
    let mut bytes = [0; LENGTH];
    bytes[..8].copy_from_slice(&MAGIC);
    for (at, number) in [VERSION, header::VERSION, step as u32, detail].into_iter().enumerate() {
        bytes[8 + 4 * at..][..4].copy_from_slice(&number.to_ne_bytes());
    }
    Ok(to.say(&bytes, fd, deadline)?)
}

/// What came with a message.
pub(in super::super) struct Heard {
    pub(super) detail: u32,
    fds: Vec<OwnedFd>,
}

impl Heard {
    /// The one descriptor that came with it.
    pub(super) fn fd(self) -> Result<OwnedFd, OpenError> {
        let malformed = |why| OpenError::Link(LinkError::Malformed { why });
        match <[OwnedFd; 1]>::try_from(self.fds) {
            Ok([fd]) => Ok(fd),
            Err(none) if none.is_empty() => Err(malformed("a descriptor is missing")),
            Err(_) => Err(malformed("there are too many descriptors")),
        }
    }
}

/// Hears the next message, which must be `step`.
pub(super) fn hear(from: &Connection, step: Step, deadline: Deadline) -> Result<Heard, OpenError> {
    // One byte more, so that a longer message of a later version is seen to be one.
    let mut bytes = [0; LENGTH + 1];
    let (length, fds) = from.hear(&mut bytes, step.name(), deadline)?;
    let detail = check(&bytes[..length], step)?;
    Ok(Heard { detail, fds })
}

/// Says a message and hears the answer: also the refusal of who has hung up before it heard the message.
pub(super) fn ask(
    at: &Connection,
    (step, detail, fd): (Step, u32, Option<BorrowedFd<'_>>),
    answer: Step,
    deadline: Deadline,
) -> Result<Heard, OpenError> {
    match say(at, step, detail, fd, deadline) {
        Ok(()) | Err(OpenError::Link(LinkError::HungUp { .. })) => hear(at, answer, deadline),
        Err(error) => Err(error),
    }
}

/// Checks a message; gives its detail.
fn check(bytes: &[u8], step: Step) -> Result<u32, OpenError> {
    let malformed = |why| Err(OpenError::Link(LinkError::Malformed { why }));
    let number =
        |at: usize| bytes.get(at..at + 4).and_then(|four| Some(u32::from_ne_bytes(four.try_into().ok()?)));
    if !bytes.starts_with(&MAGIC) {
        return malformed("a message does not begin with RINGLINK");
    }
    let (Some(version), Some(layout)) = (number(8), number(12)) else {
        return malformed("a message is too short");
    };
    if version != VERSION {
        return Err(mismatch(LINK_VERSION, version, VERSION));
    }
    if layout != header::VERSION {
        return Err(mismatch(LAYOUT_VERSION, layout, header::VERSION));
    }
    let (LENGTH, Some(found), Some(detail)) = (bytes.len(), number(16), number(20)) else {
        return malformed("a message has the wrong length");
    };
    if found == Step::Refusal as u32 {
        return Err(Reason::error(detail).into());
    }
    if found != step as u32 {
        return malformed("a message is out of turn");
    }
    if bytes[24..].iter().any(|&byte| byte != 0) {
        return malformed("a message is not zero at its end");
    }
    Ok(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(numbers: [u32; 6]) -> Vec<u8> {
        MAGIC.into_iter().chain(numbers.into_iter().flat_map(u32::to_ne_bytes)).collect()
    }

    #[test]
    fn a_message_of_this_version_is_understood() {
        let hello = bytes([VERSION, header::VERSION, 1, 3, 0, 0]);
        assert_eq!(check(&hello, Step::Hello).unwrap(), 3);
    }

    #[test]
    fn another_version_prints_both_whatever_follows() {
        for numbers in [[7, header::VERSION, 1, 0, 0, 0], [VERSION, 7, 1, 0, 0, 0], [7, 7, 99, 9, 9, 9]] {
            for length in [16, 32] {
                let error = check(&bytes(numbers)[..length], Step::Hello).unwrap_err().to_string();
                assert!(error.contains('7') && error.contains('1'), "{error}");
            }
        }
    }

    #[test]
    fn whatever_else_is_said_is_malformed() {
        let good = bytes([VERSION, header::VERSION, 1, 0, 0, 0]);
        let mut longer = good.clone();
        longer.push(0);
        let samples = [
            &[][..],
            b"R",
            b"GET / HTTP/1.1\r\n",
            &good[..15],
            &good[..31],
            &longer,
            &bytes([VERSION, header::VERSION, 2, 0, 0, 0]),
            &bytes([VERSION, header::VERSION, 7, 0, 0, 0]),
            &bytes([VERSION, header::VERSION, 1, 0, 0, 1]),
        ];
        for sample in samples {
            let error = check(sample, Step::Hello);
            assert!(matches!(error, Err(OpenError::Link(LinkError::Malformed { .. }))), "{sample:?}");
        }
    }

    #[test]
    fn a_refusal_says_why() {
        let refusal = bytes([VERSION, header::VERSION, 5, Reason::User as u32, 0, 0]);
        let error = check(&refusal, Step::Offer).unwrap_err();
        assert!(error.to_string().contains("does not accept this user"), "{error}");
    }
}
