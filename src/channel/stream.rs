//! Rings as streams of bytes: what the standard library reads and writes.

use super::{
    Message, Receiver, Sender,
    patience::Patience,
    sender::{SenderKind, Single},
    trust::{Trust, Untrusted},
};
use crate::{error::RecvError, ring::record::Info};
use std::{
    io::{self, BufRead, Read, Write},
    mem,
};

/// Bytes that are copied at a time for [`BufRead`].
const WINDOW: usize = 8 << 10;

/// Reads what the messages of a ring hold, one after the other, as one stream of bytes. The boundaries between messages, and
/// their kinds, are not seen.
///
/// A read waits until there is a byte, and gives what the front message still has; a message leaves the ring when its last
/// byte was read. The stream ends (a read gives 0) when all senders have closed. When the last one died instead, a read
/// gives an error, [`ConnectionAborted`](io::ErrorKind::ConnectionAborted), once all that was committed is read: what came
/// may not be all. In a ring [with checksums](crate::Builder::checksummed) a message is verified before its first byte is read,
/// and one that is damaged is an error, behind which the next one is read.
///
/// When this process dies, or drops the reader, with a message partly read, the next receiver gets that message whole.
///
/// ```
/// use std::io::{BufRead, Write};
/// let ring = ringpost::unnamed().memfd()?;
/// let mut writer = ringpost::ByteWriter::new(ring.sender()?);
/// let reader = ringpost::ByteReader::new(ring.receiver()?);
/// writeln!(writer, "first {}", 1)?;
/// writeln!(writer, "second")?;
/// drop(writer);
/// let lines: Vec<String> = reader.lines().collect::<Result<_, _>>()?;
/// assert_eq!(lines, ["first 1", "second"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ByteReader<P: Trust = Untrusted> {
    receiver: Receiver<P>,
    /// The front message, once it was looked at.
    front: Option<Info>,
    /// Bytes of it that are read.
    taken: usize,
    /// A copy of some of those behind, and how many of these are consumed.
    window: Vec<u8>,
    consumed: usize,
}

impl<P: Trust> ByteReader<P> {
    /// Reads what this receiver receives.
    pub fn new(receiver: Receiver<P>) -> Self {
        Self { receiver, front: None, taken: 0, window: Vec::new(), consumed: 0 }
    }

    /// The receiver. A message that is partly read is its next, whole.
    pub fn into_inner(self) -> Receiver<P> {
        self.receiver
    }

    /// Waits for a message with bytes that are not taken yet, and has some of them copied, which begin at a given byte; takes
    /// none. Gives how many; 0 at the end of the stream.
    fn look(&mut self, copy: impl FnOnce(&Message<'_, P>, usize) -> usize) -> io::Result<usize> {
        loop {
            let info = match self.front()? {
                Some(info) => info,
                None => return Ok(0),
            };
            let message = Message::new(&mut self.receiver, info);
            if message.is_empty() {
                self.front = None;
                continue;
            }
            let count = copy(&message, self.taken);
            // It stays in the ring, as the next message.
            mem::forget(message);
            return Ok(count);
        }
    }

    /// The front message; waits for it. It is looked at once, however often it is read from.
    fn front(&mut self) -> io::Result<Option<Info>> {
        if !self.receiver.is_own() {
            return Err(RecvError::Forked.into());
        }
        if self.front.is_none() {
            self.front = match self.receiver.next(&Patience::Endless) {
                Ok(record) => Some(record.info),
                Err(RecvError::Disconnected) => None,
                Err(error) => return Err(error.into()),
            };
        }
        Ok(self.front)
    }

    /// So many more bytes of the front message are read; it leaves the ring with its last.
    fn take(&mut self, count: usize) {
        self.taken += count;
        if let Some(info) = self.front.filter(|info| self.taken >= info.length() as usize) {
            drop(Message::new(&mut self.receiver, info));
            (self.front, self.taken) = (None, 0);
        }
    }
}

impl<P: Trust> Read for ByteReader<P> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if to.is_empty() {
            return Ok(0);
        }
        let mut copied = &self.window[self.consumed..];
        if !copied.is_empty() {
            let count = copied.read(to)?;
            self.consume(count);
            return Ok(count);
        }
        let count = self.look(|message, start| {
            let count = to.len().min(message.len() - start);
            message.read_at(start, &mut to[..count]);
            count
        })?;
        self.take(count);
        Ok(count)
    }
}

impl<P: Trust> BufRead for ByteReader<P> {
    /// A copy of some of the bytes that come next; they leave the ring when they are consumed.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.window.is_empty() {
            let mut window = mem::take(&mut self.window);
            let looked = self.look(|message, start| {
                window.resize(WINDOW.min(message.len() - start), 0);
                message.read_at(start, &mut window);
                window.len()
            });
            self.window = window;
            looked?;
        }
        Ok(&self.window[self.consumed..])
    }

    fn consume(&mut self, count: usize) {
        self.consumed += count;
        assert!(self.consumed <= self.window.len(), "more was consumed than there is");
        if self.consumed > 0 && self.consumed == self.window.len() {
            self.take(self.consumed);
            self.window.clear();
            self.consumed = 0;
        }
    }
}

/// Writes a stream of bytes into a ring. Each write is published at once, as one message: a prefix of what is given, as
/// long as fits into a message of a quarter of the ring, so that the reader can empty one part while this fills another. To
/// write many small things, put a [`BufWriter`](io::BufWriter) around it.
///
/// A write waits while the ring is full. It gives [`BrokenPipe`](io::ErrorKind::BrokenPipe) when the receiver has closed; and
/// when it has died, once the ring is full. [`flush`](Write::flush) has nothing to do. Dropping the writer closes it: that
/// is the end of the stream. Of several writers, what each writes at once stays together.
#[derive(Debug)]
pub struct ByteWriter<P: Trust = Untrusted, K: SenderKind = Single> {
    sender: Sender<P, K>,
    /// Bytes of a message.
    most: usize,
}

impl<P: Trust, K: SenderKind> ByteWriter<P, K> {
    /// Writes to the ring of this sender.
    pub fn new(sender: Sender<P, K>) -> Self {
        let quarter = usize::try_from(sender.capacity() / 4).unwrap_or(usize::MAX);
        Self { most: sender.longest_message().min(quarter), sender }
    }

    /// The sender.
    pub fn into_inner(self) -> Sender<P, K> {
        self.sender
    }
}

impl<P: Trust, K: SenderKind> Write for ByteWriter<P, K> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.most);
        if count > 0 {
            self.sender.send(&bytes[..count])?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
