//! What `recv` writes, and how much of it has arrived.

use std::io::{self, ErrorKind};

use crate::framing::Envelope;
use crate::input::CHUNK;

/// Where the bytes go.
pub trait Target {
    /// Most bytes that it can be given at a time.
    fn at_once(&self) -> usize;

    /// Writes some of the bytes, and says how many. `begun` says that they are not the beginning of a message.
    fn write(&mut self, bytes: &[u8], begun: bool) -> io::Result<usize>;
}

/// Bytes that stand around a message at most.
const LONGEST_ENVELOPE: usize = 4;

/// A buffered output that knows which messages were written to their last byte.
pub struct Delivery<T> {
    target: T,
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer that are written.
    gone: usize,
    /// Bytes written since [`begin`](Delivery::begin).
    written: usize,
    /// For each message since then, how many bytes must be written until it is.
    ends: Vec<usize>,
}

impl<T: Target> Delivery<T> {
    pub fn new(target: T) -> Self {
        Self { target, buffer: Vec::with_capacity(CHUNK), gone: 0, written: 0, ends: Vec::new() }
    }

    pub fn target(&self) -> &T {
        &self.target
    }

    /// Counts from here.
    pub fn begin(&mut self) {
        self.buffer.clear();
        self.ends.clear();
        (self.gone, self.written) = (0, 0);
    }

    /// Puts a message of `length` bytes, which `read` copies from an offset, into its envelope.
    pub fn put(
        &mut self,
        length: usize,
        envelope: Envelope,
        read: impl Fn(usize, &mut [u8]),
    ) -> io::Result<()> {
        if self.buffer.len() + LONGEST_ENVELOPE + length > CHUNK {
            // So that the end of the buffer parts no message that fits into it.
            self.flush()?;
        }
        if envelope == Envelope::Length {
            let length =
                u32::try_from(length).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            self.buffer.extend(length.to_le_bytes());
        }
        let mut offset = 0;
        while offset < length {
            self.make_room()?;
            let start = self.buffer.len();
            let count = (length - offset).min(CHUNK - start);
            self.buffer.resize(start + count, 0);
            read(offset, &mut self.buffer[start..]);
            offset += count;
        }
        if let Envelope::Behind(delimiter) = envelope {
            self.buffer.push(delimiter);
        }
        self.ends.push(self.written + self.buffer.len() - self.gone);
        Ok(())
    }

    /// Writes what is in the buffer. What an error leaves is still there.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.gone < self.buffer.len() {
            let piece = self.gone..self.gone + self.piece();
            let begun = self.written > 0 && self.ends.binary_search(&self.written).is_err();
            match self.target.write(&self.buffer[piece], begun)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                count => {
                    self.written += count;
                    self.gone += count;
                }
            }
        }
        self.buffer.clear();
        self.gone = 0;
        Ok(())
    }

    /// Bytes to be written next: whole messages, unless one is longer than can be given at a time.
    fn piece(&self) -> usize {
        let most = (self.buffer.len() - self.gone).min(self.target.at_once());
        let whole = self.ends.partition_point(|&end| end <= self.written + most);
        match self.ends[..whole].last() {
            Some(&end) if end > self.written => end - self.written,
            _ => most,
        }
    }

    /// How many of the messages are written to their last byte.
    pub fn complete(&self) -> usize {
        self.ends.partition_point(|&end| end <= self.written)
    }

    fn make_room(&mut self) -> io::Result<()> {
        if self.buffer.len() >= CHUNK { self.flush() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, so many at once, and then no more.
    struct Limited {
        bytes: Vec<u8>,
        limit: usize,
        at_once: usize,
        /// How long each piece was that it was given, and whether it was not the beginning of a message.
        pieces: Vec<(usize, bool)>,
    }

    impl Target for Limited {
        fn at_once(&self) -> usize {
            self.at_once
        }

        fn write(&mut self, bytes: &[u8], begun: bool) -> io::Result<usize> {
            self.pieces.push((bytes.len(), begun));
            let count = bytes.len().min(self.limit - self.bytes.len());
            self.bytes.extend(&bytes[..count]);
            if count == 0 { Err(ErrorKind::BrokenPipe.into()) } else { Ok(count) }
        }
    }

    fn limited(limit: usize) -> Delivery<Limited> {
        let mut delivery =
            Delivery::new(Limited { bytes: Vec::new(), limit, at_once: 7, pieces: Vec::new() });
        delivery.begin();
        delivery
    }

    fn put(delivery: &mut Delivery<Limited>, message: &[u8], envelope: Envelope) -> io::Result<()> {
        delivery.put(message.len(), envelope, |offset, to| {
            to.copy_from_slice(&message[offset..offset + to.len()])
        })
    }

    #[test]
    fn each_message_stands_in_its_envelope() {
        let mut delivery = limited(99);
        put(&mut delivery, b"line", Envelope::Behind(b'\n')).unwrap();
        put(&mut delivery, b"", Envelope::Behind(0)).unwrap();
        put(&mut delivery, b"abc", Envelope::Length).unwrap();
        put(&mut delivery, b"bare", Envelope::Bare).unwrap();
        delivery.flush().unwrap();
        assert_eq!(delivery.target.bytes, b"line\n\0\x03\0\0\0abcbare");
        assert_eq!(delivery.complete(), 4);
    }

    #[test]
    fn a_message_longer_than_the_buffer_passes_through() {
        let long: Vec<u8> = (0..3 * CHUNK + 5).map(|n| (n % 251) as u8).collect();
        let mut delivery = limited(usize::MAX);
        put(&mut delivery, b"before", Envelope::Bare).unwrap();
        put(&mut delivery, &long, Envelope::Bare).unwrap();
        delivery.flush().unwrap();
        assert_eq!(delivery.target.bytes, [b"before".as_slice(), &long].concat());
        assert!(delivery.buffer.capacity() <= 2 * CHUNK);
    }

    #[test]
    fn only_what_was_written_to_the_last_byte_is_complete() {
        for (limit, complete) in [(0, 0), (2, 0), (3, 1), (5, 1), (6, 2), (8, 2)] {
            let mut delivery = limited(limit);
            for message in [b"ab", b"cd", b"ef"] {
                put(&mut delivery, message, Envelope::Behind(b'\n')).unwrap();
            }
            assert_eq!(delivery.flush().unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert_eq!(delivery.complete(), complete, "after {limit} bytes");
        }
    }

    #[test]
    fn short_messages_are_given_whole_and_a_long_one_in_pieces() {
        let mut delivery = limited(99);
        for message in [b"ab".as_slice(), b"cd", b"ef", &[b'x'; 16], b"gh"] {
            put(&mut delivery, message, Envelope::Behind(b'\n')).unwrap();
        }
        delivery.flush().unwrap();
        let pieces = [(6, false), (3, false), (7, false), (7, true), (6, true)];
        assert_eq!(delivery.target.pieces, pieces);
    }

    #[test]
    fn no_message_that_fits_is_parted_where_the_buffer_ends() {
        for length in [99, 1000, 4095] {
            let mut delivery = limited(usize::MAX);
            delivery.target.at_once = 4096;
            for _ in 0..3 * CHUNK / length {
                put(&mut delivery, &vec![b'x'; length], Envelope::Behind(b'\n')).unwrap();
            }
            delivery.flush().unwrap();
            assert!(delivery.target.pieces.iter().all(|&(piece, begun)| piece % (length + 1) == 0 && !begun));
        }
    }
}
