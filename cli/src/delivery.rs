//! What `recv` writes, and how much of it has arrived.

use std::fs::File;
use std::io::{self, ErrorKind, Write};

use crate::framing::Envelope;
use crate::input::CHUNK;
use crate::output;

/// A buffered output that knows which messages were written to their last byte.
pub struct Delivery<W> {
    target: W,
    buffer: Vec<u8>,
    /// Bytes written since [`begin`](Delivery::begin).
    written: usize,
    /// For each message since then, how many bytes must be written until it is.
    ends: Vec<usize>,
}

impl Delivery<File> {
    /// To standard output, past the buffer of the standard library.
    pub fn to_stdout() -> io::Result<Self> {
        Ok(Self::new(output::open()?))
    }
}

impl<W: Write> Delivery<W> {
    fn new(target: W) -> Self {
        Self { target, buffer: Vec::with_capacity(CHUNK), written: 0, ends: Vec::new() }
    }

    /// Counts from here.
    pub fn begin(&mut self) {
        self.written = 0;
        self.buffer.clear();
        self.ends.clear();
    }

    /// Puts a message of `length` bytes, which `read` copies from an offset, into its envelope.
    pub fn put(
        &mut self,
        length: usize,
        envelope: Envelope,
        read: impl Fn(usize, &mut [u8]),
    ) -> io::Result<()> {
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
        self.ends.push(self.written + self.buffer.len());
        Ok(())
    }

    /// Writes what is in the buffer. What an error leaves is still there.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.buffer.is_empty() {
            match self.target.write(&self.buffer) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count;
                    self.buffer.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
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

    /// Takes so many bytes and then no more.
    struct Limited(Vec<u8>, usize);

    impl Write for Limited {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.1 - self.0.len()).min(7);
            self.0.extend(&bytes[..count]);
            if count == 0 { Err(ErrorKind::BrokenPipe.into()) } else { Ok(count) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn put(delivery: &mut Delivery<Limited>, message: &[u8], envelope: Envelope) -> io::Result<()> {
        delivery.put(message.len(), envelope, |offset, to| {
            to.copy_from_slice(&message[offset..offset + to.len()])
        })
    }

    #[test]
    fn each_message_stands_in_its_envelope() {
        let mut delivery = Delivery::new(Limited(Vec::new(), 99));
        delivery.begin();
        put(&mut delivery, b"line", Envelope::Behind(b'\n')).unwrap();
        put(&mut delivery, b"", Envelope::Behind(0)).unwrap();
        put(&mut delivery, b"abc", Envelope::Length).unwrap();
        put(&mut delivery, b"bare", Envelope::Bare).unwrap();
        delivery.flush().unwrap();
        assert_eq!(delivery.target.0, b"line\n\0\x03\0\0\0abcbare");
        assert_eq!(delivery.complete(), 4);
    }

    #[test]
    fn a_message_longer_than_the_buffer_passes_through() {
        let long: Vec<u8> = (0..3 * CHUNK + 5).map(|n| (n % 251) as u8).collect();
        let mut delivery = Delivery::new(Limited(Vec::new(), usize::MAX));
        delivery.begin();
        put(&mut delivery, b"before", Envelope::Bare).unwrap();
        put(&mut delivery, &long, Envelope::Bare).unwrap();
        delivery.flush().unwrap();
        assert_eq!(delivery.target.0, [b"before".as_slice(), &long].concat());
        assert!(delivery.buffer.capacity() <= 2 * CHUNK);
    }

    #[test]
    fn only_what_was_written_to_the_last_byte_is_complete() {
        for (limit, complete) in [(0, 0), (2, 0), (3, 1), (5, 1), (6, 2), (8, 2)] {
            let mut delivery = Delivery::new(Limited(Vec::new(), limit));
            delivery.begin();
            for message in [b"ab", b"cd", b"ef"] {
                put(&mut delivery, message, Envelope::Behind(b'\n')).unwrap();
            }
            assert_eq!(delivery.flush().unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert_eq!(delivery.complete(), complete, "after {limit} bytes");
        }
    }
}
