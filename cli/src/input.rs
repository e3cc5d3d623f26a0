//! The input of `send`, cut into messages.

use std::io::{ErrorKind, Read, Result as IoResult};

use anyhow::{Result, bail};
use ringpost::{SendError, record_size};

use crate::framing::{Framing, Kind};

/// Read at a time, unless messages are longer.
pub const CHUNK: usize = 64 << 10;

/// How the messages of a ring may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the longest message.
    pub longest: usize,
    /// Whether a longer line may go as several messages: only where no other sender's can come in between.
    pub divisible: bool,
    /// Whether each message must be as long as the longest: all have one type.
    pub uniform: bool,
}

/// One message, as it lies in the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece<'a> {
    /// What it was in the input.
    pub kind: Kind,
    /// The message.
    pub bytes: &'a [u8],
}

impl Piece<'_> {
    /// Bytes of the ring that it takes at most: with the four of a checksum, which the ring may have.
    pub fn room(&self) -> usize {
        record_size(self.bytes.len() + 4)
    }
}

/// The first pieces of what was read, and how many bytes of it they take.
pub struct Pieces<'a> {
    pub pieces: Vec<Piece<'a>>,
    pub taken: usize,
}

/// A source of bytes that is cut into messages.
pub struct Input<R> {
    source: R,
    framing: Framing,
    limits: Limits,
    /// Read and not taken yet: `start..end` of the buffer.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of it that hold no delimiter.
    searched: usize,
    ended: bool,
}

impl<R: Read> Input<R> {
    /// Nothing is read before [`fill`](Input::fill). At most `chunk` bytes are read at a time while messages are shorter;
    /// in a raw stream that is the longest message.
    pub fn new(source: R, framing: Framing, limits: Limits, chunk: usize) -> Self {
        Self { source, framing, limits, buffer: vec![0; chunk], start: 0, end: 0, searched: 0, ended: false }
    }

    /// Reads what is there; waits while nothing is. False when the input has ended.
    pub fn fill(&mut self) -> IoResult<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(2 * self.end, 0);
        }
        let count = loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.end += count;
        self.ended = count == 0;
        Ok(true)
    }

    /// The messages that are complete: at most `most`, which take at most `room` bytes of the ring unless it is one. What
    /// is wrong with the input is an error once everything before it is taken.
    pub fn pieces(&mut self, most: u64, room: usize) -> Result<Pieces<'_>> {
        let (mut pieces, mut taken, mut used) = (Vec::new(), 0, 0);
        while (pieces.len() as u64) < most {
            let rest = &self.buffer[self.start + taken..self.end];
            let searched = if taken == 0 { self.searched } else { 0 };
            match cut(self.framing, self.limits, rest, searched, self.ended) {
                Ok(Some((piece, length))) => {
                    used += piece.room();
                    if used > room && taken > 0 {
                        break;
                    }
                    pieces.push(piece);
                    taken += length;
                }
                Ok(None) => {
                    if taken == 0 {
                        self.searched = rest.len();
                    }
                    break;
                }
                Err(_) if taken > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Pieces { pieces, taken })
    }

    /// The first `count` bytes are sent.
    pub fn take(&mut self, count: usize) {
        self.start += count;
        self.searched = 0;
    }
}

/// The first message of `rest`, and how many bytes of it the message takes; `None` when it is not complete. The first
/// `searched` bytes hold no delimiter. Behind `rest` the input has `ended`, or more may come.
fn cut(
    framing: Framing,
    limits: Limits,
    rest: &[u8],
    searched: usize,
    ended: bool,
) -> Result<Option<(Piece<'_>, usize)>> {
    if rest.is_empty() {
        return Ok(None);
    }
    let found = match framing {
        Framing::Raw => Some((Piece { kind: Kind::Chunk, bytes: rest }, rest.len())),
        Framing::Lines => delimited(b'\n', Kind::Line, limits, rest, searched, ended)?,
        Framing::Null => delimited(0, Kind::Record, limits, rest, searched, ended)?,
        Framing::LengthPrefixed => prefixed(limits, rest, ended)?,
    };
    match found {
        Some((piece, _)) if limits.uniform && piece.bytes.len() != limits.longest => match framing {
            Framing::Raw if !ended => Ok(None),
            _ => Err(SendError::WrongLength { length: piece.bytes.len(), only: limits.longest }.into()),
        },
        found => Ok(found),
    }
}

fn delimited(
    delimiter: u8,
    kind: Kind,
    Limits { longest, divisible, .. }: Limits,
    rest: &[u8],
    searched: usize,
    ended: bool,
) -> Result<Option<(Piece<'_>, usize)>> {
    let window = &rest[..rest.len().min(longest.saturating_add(1))];
    let found = memchr::memchr(delimiter, &window[searched.min(window.len())..]);
    Ok(match found {
        Some(at) => {
            let length = searched + at;
            Some((Piece { kind, bytes: &rest[..length] }, length + 1))
        }
        None if rest.len() <= longest && ended => {
            Some((Piece { kind: Kind::Unended, bytes: rest }, rest.len()))
        }
        None if rest.len() <= longest => None,
        None if divisible && longest > 0 => {
            Some((Piece { kind: Kind::Part, bytes: &rest[..longest] }, longest))
        }
        None => bail!(
            "a line is longer than the longest message of this ring, {longest} bytes, and can't be divided between those \
             of other senders: make the ring larger, or send --raw"
        ),
    })
}

fn prefixed(limits: Limits, rest: &[u8], ended: bool) -> Result<Option<(Piece<'_>, usize)>> {
    let message =
        rest.split_first_chunk().map(|(prefix, message)| (u32::from_le_bytes(*prefix) as usize, message));
    match message {
        Some((length, _)) if length > limits.longest => {
            Err(SendError::TooLong { length, longest: limits.longest }.into())
        }
        Some((length, message)) if length <= message.len() => {
            Ok(Some((Piece { kind: Kind::Prefixed, bytes: &message[..length] }, 4 + length)))
        }
        Some((length, message)) if ended => {
            bail!("the input ends in a message of {length} bytes, of which it has {}", message.len())
        }
        None if ended => {
            bail!("the input ends in the length of a message, of which it has {} of 4 bytes", rest.len())
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Kind::*;

    /// Gives its bytes in portions of a given size.
    struct Portions<'a>(&'a [u8], usize);

    impl Read for Portions<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> IoResult<usize> {
            let portion = self.1.min(buffer.len());
            (&mut self.0).take(portion as u64).read(buffer)
        }
    }

    /// All messages, and how it ended.
    fn all(
        bytes: &[u8],
        portion: usize,
        framing: Framing,
        longest: usize,
        divisible: bool,
    ) -> (Vec<(Kind, Vec<u8>)>, Result<()>) {
        let limits = Limits { longest, divisible, uniform: false };
        all_within(bytes, portion, framing, limits)
    }

    fn all_within(
        bytes: &[u8],
        portion: usize,
        framing: Framing,
        limits: Limits,
    ) -> (Vec<(Kind, Vec<u8>)>, Result<()>) {
        let mut input = Input::new(Portions(bytes, portion), framing, limits, 4);
        let mut messages = Vec::new();
        while input.fill().unwrap() {
            loop {
                let taken = match input.pieces(2, 1 << 20) {
                    Ok(Pieces { pieces, taken }) => {
                        messages.extend(pieces.iter().map(|piece| (piece.kind, piece.bytes.to_vec())));
                        taken
                    }
                    Err(error) => return (messages, Err(error)),
                };
                if taken == 0 {
                    break;
                }
                input.take(taken);
            }
        }
        (messages, Ok(()))
    }

    fn check(bytes: &[u8], framing: Framing, longest: usize, expected: &[(Kind, &[u8])]) {
        for portion in 1..10 {
            let (messages, end) = all(bytes, portion, framing, longest, true);
            let found: Vec<_> = messages.iter().map(|(kind, bytes)| (*kind, bytes.as_slice())).collect();
            assert_eq!(found, expected, "in portions of {portion}");
            end.unwrap();
        }
    }

    #[test]
    fn lines_are_cut_alike_however_they_arrive() {
        check(b"", Framing::Lines, 9, &[]);
        check(b"\n", Framing::Lines, 9, &[(Line, b"")]);
        check(b"one\n\ntwo\0\n", Framing::Lines, 9, &[(Line, b"one"), (Line, b""), (Line, b"two\0")]);
        check(b"a\nlast", Framing::Lines, 9, &[(Line, b"a"), (Unended, b"last")]);
        check(b"a\n\0b\0", Framing::Null, 9, &[(Record, b"a\n"), (Record, b"b")]);
    }

    #[test]
    fn a_line_of_the_longest_length_is_one_message_and_a_longer_one_is_parted() {
        check(b"12345\n", Framing::Lines, 5, &[(Line, b"12345")]);
        check(b"12345", Framing::Lines, 5, &[(Unended, b"12345")]);
        check(b"123456\n", Framing::Lines, 5, &[(Part, b"12345"), (Line, b"6")]);
        check(b"1234567890\n", Framing::Lines, 5, &[(Part, b"12345"), (Line, b"67890")]);
        check(b"12345678901", Framing::Lines, 5, &[(Part, b"12345"), (Part, b"67890"), (Unended, b"1")]);
    }

    #[test]
    fn a_line_that_may_not_be_parted_is_an_error_after_what_comes_before() {
        for (bytes, longest) in [(b"ab\n123456\n".as_slice(), 5), (b"ab\n123456", 5)] {
            let (messages, end) = all(bytes, 9, Framing::Lines, longest, false);
            assert_eq!(messages, [(Line, b"ab".to_vec())]);
            assert!(end.unwrap_err().to_string().contains("5 bytes"));
        }
        assert!(all(b"x", 1, Framing::Lines, 0, true).1.is_err(), "nothing fits, in however many parts");
    }

    #[test]
    fn prefixed_messages_need_all_their_bytes() {
        let two = b"\x03\0\0\0abc\0\0\0\0";
        check(two, Framing::LengthPrefixed, 3, &[(Prefixed, b"abc"), (Prefixed, b"")]);
        for (bytes, complaint) in [
            (&two[..9], "2 of 4 bytes"),
            (&two[..6], "of 3 bytes, of which it has 2"),
            (b"\x04\0\0\0", "3 are taken at most"),
        ] {
            let (_, end) = all(bytes, 4, Framing::LengthPrefixed, 3, true);
            let text = end.unwrap_err().to_string();
            assert!(text.contains(complaint), "{text}");
        }
    }

    #[test]
    fn a_raw_stream_is_cut_where_it_pauses_and_at_the_chunk() {
        let (messages, _) = all(b"12345678", 3, Framing::Raw, 9, true);
        assert_eq!(messages, [(Chunk, b"123".to_vec()), (Chunk, b"456".to_vec()), (Chunk, b"78".to_vec())]);
        let (messages, _) = all(b"12345678", 9, Framing::Raw, 9, true);
        assert_eq!(messages, [(Chunk, b"1234".to_vec()), (Chunk, b"5678".to_vec())]);
    }

    #[test]
    fn a_batch_stops_at_its_room_and_has_one_message_at_least() {
        let limits = Limits { longest: 100, divisible: true, uniform: false };
        let mut input = Input::new(b"a\nb\nc\n".as_slice(), Framing::Lines, limits, 64);
        input.fill().unwrap();
        assert_eq!(input.pieces(9, 48).unwrap().pieces.len(), 2);
        assert_eq!(input.pieces(9, 1).unwrap().pieces.len(), 1);
        assert_eq!(input.pieces(3, 999).unwrap().taken, 6);
        assert_eq!(input.pieces(0, 999).unwrap().taken, 0);
    }

    #[test]
    fn where_all_messages_have_one_length_no_other_is_cut() {
        let limits = Limits { longest: 4, divisible: false, uniform: true };
        for portion in 1..6 {
            let (messages, end) = all_within(b"onceonlyx", portion, Framing::Raw, limits);
            assert_eq!(messages, [(Chunk, b"once".to_vec()), (Chunk, b"only".to_vec())]);
            assert!(end.unwrap_err().to_string().contains("each of its messages has 4"));
            let (messages, end) = all_within(b"once\nfor\n", portion, Framing::Lines, limits);
            assert_eq!(messages, [(Line, b"once".to_vec())]);
            end.unwrap_err();
        }
    }
}
