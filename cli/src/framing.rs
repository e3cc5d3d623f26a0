//! How a stream of bytes is cut into messages, and how the messages become the same bytes again.
//!
//! `send` says with the kind of each message what it was in its input. So `recv`, unless it is told otherwise, gives back
//! the same bytes, however they were cut.

use anyhow::{Result, bail};
use clap::Args;

/// What a message of `send` was in its input; the number is its kind in the ring. A message of any other kind comes from
/// a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Kind {
    /// Some bytes of a stream, cut anywhere.
    Chunk = 0x7200,
    /// A line, without its newline.
    Line = 0x7201,
    /// A record, without its zero byte.
    Record = 0x7202,
    /// A message whose length stood before it.
    Prefixed = 0x7203,
    /// The beginning or the middle of a line or record that is too long for one message; the next one goes on with it.
    Part = 0x7204,
    /// The last line or record of an input that ends without a newline or zero byte.
    Unended = 0x7205,
    /// The message of a program.
    Foreign = 0,
}

impl Kind {
    /// What the kind of a message says.
    pub fn of(number: u16) -> Self {
        let known = [Self::Chunk, Self::Line, Self::Record, Self::Prefixed, Self::Part, Self::Unended];
        known.into_iter().find(|&kind| kind as u16 == number).unwrap_or(Self::Foreign)
    }

    /// Whether the next message goes on with this one.
    pub fn continues(self) -> bool {
        self == Self::Part
    }
}

/// Where messages begin and end in a stream of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// Behind each is a newline.
    Lines,
    /// Behind each is a zero byte.
    Null,
    /// Before each is its length: 4 bytes, little endian.
    LengthPrefixed,
    /// Nowhere.
    Raw,
}

/// The flags.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub struct FramingArguments {
    /// A message a line, the newline left out
    #[arg(long)]
    lines: bool,

    /// A message a record, which ends with a zero byte, left out
    #[arg(short = '0', long)]
    null: bool,

    /// Each message stands behind its length: 4 bytes, little endian
    #[arg(long)]
    length_prefixed: bool,

    /// Messages are chunks of a stream, with nothing between them
    #[arg(long)]
    raw: bool,
}

impl FramingArguments {
    /// What was asked for, if anything was.
    pub fn chosen(&self) -> Option<Framing> {
        let flags = [
            (self.lines, Framing::Lines),
            (self.null, Framing::Null),
            (self.length_prefixed, Framing::LengthPrefixed),
            (self.raw, Framing::Raw),
        ];
        flags.into_iter().find(|(given, _)| *given).map(|(_, framing)| framing)
    }
}

/// What stands around a message in the output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Envelope {
    /// Nothing.
    Bare,
    /// A byte behind it.
    Behind(u8),
    /// Its length before it.
    Length,
}

impl Envelope {
    /// Around a message of this kind: as the receiver wants it, else as the sender had it. The message of a program is a
    /// line.
    pub fn new(kind: Kind, wanted: Option<Framing>) -> Result<Self> {
        Ok(match (wanted, kind) {
            (Some(Framing::LengthPrefixed), Kind::Part) => bail!(
                "a line that is longer than any message of this ring can't be given a length: receive it with --raw"
            ),
            (Some(Framing::Raw), _) | (None, Kind::Chunk | Kind::Unended) | (_, Kind::Part) => Self::Bare,
            (Some(Framing::Lines), _) | (None, Kind::Line | Kind::Foreign) => Self::Behind(b'\n'),
            (Some(Framing::Null), _) | (None, Kind::Record) => Self::Behind(0),
            (Some(Framing::LengthPrefixed), _) | (None, Kind::Prefixed) => Self::Length,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_survives_the_ring_and_every_other_number_is_a_programs() {
        for kind in [Kind::Chunk, Kind::Line, Kind::Record, Kind::Prefixed, Kind::Part, Kind::Unended] {
            assert_eq!(Kind::of(kind as u16), kind);
        }
        for foreign in [0, 1, 0x71ff, 0x7206, u16::MAX] {
            assert_eq!(Kind::of(foreign), Kind::Foreign);
        }
    }

    #[test]
    fn the_parts_of_a_line_are_joined_whatever_the_receiver_wants() {
        for wanted in [None, Some(Framing::Raw), Some(Framing::Lines), Some(Framing::Null)] {
            assert_eq!(Envelope::new(Kind::Part, wanted).unwrap(), Envelope::Bare);
        }
        assert!(Envelope::new(Kind::Part, Some(Framing::LengthPrefixed)).is_err());
    }

    #[test]
    fn what_the_receiver_wants_counts_more_than_what_the_sender_had() {
        for kind in [Kind::Chunk, Kind::Line, Kind::Record, Kind::Prefixed, Kind::Unended, Kind::Foreign] {
            assert_eq!(Envelope::new(kind, Some(Framing::Lines)).unwrap(), Envelope::Behind(b'\n'));
            assert_eq!(Envelope::new(kind, Some(Framing::LengthPrefixed)).unwrap(), Envelope::Length);
            assert_eq!(Envelope::new(kind, Some(Framing::Raw)).unwrap(), Envelope::Bare);
        }
    }
}
