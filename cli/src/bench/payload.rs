//! The payload: real bytes of a file, the same rule for every mechanism.
//!
//! The sender writes every byte of a message: a piece of the input, its first word xor the sequence number. The
//! receiver reads one word a cache line of what arrived and folds them; the result must be the one that the input
//! gives for that piece, so a wrong byte in a word that is read, a wrong order, a loss or a repetition shows.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::slice::{self, ChunksExact};

use anyhow::{Context, Result, bail, ensure};

/// Smallest message: it holds the sequence number.
pub const SMALLEST: usize = 8;
/// Largest message.
pub const LARGEST: usize = 1 << 20;
/// Of a longer input file, this much is used.
const INPUT_LIMIT: u64 = 64 << 20;
/// Pieces are taken from this many bytes a sample, so that the source stays in the sender's cache.
const WINDOW: usize = 256 << 10;
/// At most so many different pieces a sample.
const PIECES: usize = 1024;
const LINE: usize = 64;

/// The input file's bytes.
pub struct Input {
    bytes: Vec<u8>,
    /// Where they come from.
    pub path: PathBuf,
}

impl Input {
    /// Reads `path`, or the program's own executable.
    pub fn read(path: Option<&Path>) -> Result<Self> {
        let path = match path {
            Some(path) => path.to_path_buf(),
            None => std::env::current_exe()
                .context("cannot find the program's own executable: name a file with --input")?,
        };
        let named = || format!("cannot read the input file {}", path.display());
        let mut bytes = Vec::new();
        let file = File::open(&path).with_context(named)?;
        file.take(INPUT_LIMIT).read_to_end(&mut bytes).with_context(named)?;
        ensure!(!bytes.is_empty(), "the input file {} is empty: messages are taken from it", path.display());
        Ok(Self { bytes, path })
    }

    /// These bytes, of no file.
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), path: PathBuf::new() }
    }
}

/// The pieces of the input that one sample sends, and what the receiver has to find in each.
#[derive(Clone, Default)]
pub struct Window {
    size: usize,
    bytes: Vec<u8>,
    digests: Vec<u64>,
}

impl Window {
    /// Takes pieces of `size` bytes; the `turn`th window starts where the one before it ended, and the input wraps.
    pub fn load(&mut self, input: &Input, turn: u64, size: usize) {
        assert!((SMALLEST..=LARGEST).contains(&size), "sizes are checked when they are parsed");
        let pieces = (WINDOW / size).clamp(1, PIECES);
        let start = (turn as u128 * (pieces * size) as u128 % input.bytes.len() as u128) as usize;
        self.size = size;
        self.bytes.clear();
        let (mut rest, mut from) = (pieces * size, start);
        while rest > 0 {
            let step = rest.min(input.bytes.len() - from);
            self.bytes.extend_from_slice(&input.bytes[from..from + step]);
            rest -= step;
            from = (from + step) % input.bytes.len();
        }
        self.digests.clear();
        self.digests.extend(self.bytes.chunks_exact(size).map(fold));
    }

    /// Writes the messages of this window, one after the other.
    pub fn filler(&self) -> Filler<'_> {
        Filler { window: self, sequence: 0, pieces: self.pieces() }
    }

    /// Checks the messages of this window, one after the other.
    pub fn checker(&self) -> Checker<'_> {
        // The first word is the first to be folded, so the sequence number ends up rotated as far as the digest is.
        let turns = ROTATION.wrapping_mul(lines(self.size) as u32 - 1) % 64;
        Checker { window: self, sequence: 0, turns, digests: self.digests.iter() }
    }

    fn pieces(&self) -> ChunksExact<'_, u8> {
        self.bytes.chunks_exact(self.size)
    }
}

/// See [`Window::filler`].
pub struct Filler<'a> {
    window: &'a Window,
    sequence: u64,
    /// Those that come before the first one is used again.
    pieces: ChunksExact<'a, u8>,
}

impl Filler<'_> {
    /// Writes the next message into `message`.
    #[inline]
    pub fn fill(&mut self, message: &mut [u8]) {
        let from = self.pieces.next().unwrap_or_else(|| {
            self.pieces = self.window.pieces();
            self.pieces.next().expect("a window has a piece")
        });
        let first = word(from) ^ self.sequence;
        match (<&mut [u8; LINE]>::try_from(&mut *message), <&[u8; LINE]>::try_from(from)) {
            // Of a length that the compiler knows: a call would be a good part of what is measured. From the end, as is best
            // for a ring's short messages.
            (Ok(line), Ok(from)) => {
                let (to, from) = (line.as_chunks_mut::<16>().0, from.as_chunks::<16>().0);
                to.iter_mut().zip(from).rev().for_each(|(to, from)| *to = *from);
            }
            _ if from.len() == SMALLEST => {}
            _ => message.copy_from_slice(from),
        }
        message[..8].copy_from_slice(&first.to_ne_bytes());
        self.sequence += 1;
    }
}

/// See [`Window::checker`].
pub struct Checker<'a> {
    window: &'a Window,
    sequence: u64,
    /// How far its bits are rotated in a digest.
    turns: u32,
    /// Of the pieces that come before the first one is used again.
    digests: slice::Iter<'a, u64>,
}

impl Checker<'_> {
    /// Compares the next message with what the input says that it is.
    #[inline]
    pub fn check(&mut self, message: &[u8]) -> Result<()> {
        let mut digests = self.digests.clone();
        let digest = digests.next().unwrap_or_else(|| {
            digests = self.window.digests.iter();
            digests.next().expect("a window has a piece")
        });
        if message.len() != self.window.size
            || fold(message) != digest ^ self.sequence.rotate_left(self.turns)
        {
            return self.complain(message);
        }
        self.digests = digests;
        self.sequence += 1;
        Ok(())
    }

    #[cold]
    fn complain(&self, message: &[u8]) -> Result<()> {
        let (size, sequence) = (self.window.size, self.sequence);
        if message.len() != size {
            bail!(
                "verification failed: message {sequence} came with {} bytes instead of {size}",
                message.len()
            );
        }
        let piece = sequence as usize % self.window.digests.len();
        let sent = self.window.pieces().nth(piece).expect("a window has a piece");
        let came = word(message) ^ word(sent);
        if came == sequence {
            bail!("verification failed: the content of message {sequence} ({size} bytes) is not the input's");
        }
        bail!("verification failed: instead of message {sequence} ({size} bytes) came something else")
    }
}

const ROTATION: u32 = 7;

/// Words that are read of a message of `size` bytes: one a cache line, and the last line only when a word fits.
fn lines(size: usize) -> usize {
    size / LINE + usize::from(size % LINE >= 8)
}

/// Folds one word a cache line.
#[inline]
fn fold(message: &[u8]) -> u64 {
    let mut lines = message.chunks_exact(LINE);
    let mut folded = 0u64;
    for line in &mut lines {
        folded = folded.rotate_left(ROTATION) ^ word(line);
    }
    let rest = lines.remainder();
    if rest.len() >= 8 { folded.rotate_left(ROTATION) ^ word(rest) } else { folded }
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes[..8].try_into().expect("eight bytes are eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(size: usize, turn: u64) -> Window {
        let input = Input::of(&(0..10_000u32).map(|i| (i * 7 + i / 251) as u8).collect::<Vec<_>>());
        let mut window = Window::default();
        window.load(&input, turn, size);
        window
    }

    #[test]
    fn what_was_filled_passes_at_every_size() {
        for size in [8, 9, 15, 63, 64, 65, 71, 72, 100, 512, 4096, 65536, LARGEST] {
            let window = window(size, 3);
            let (mut filler, mut checker) = (window.filler(), window.checker());
            let mut message = vec![0; size];
            for _ in 0..(2 * window.digests.len() + 3).min(50) {
                filler.fill(&mut message);
                checker.check(&message).unwrap();
            }
        }
    }

    #[test]
    fn loss_repetition_length_and_content_are_caught() {
        for size in [8, 64, 4096] {
            let window = window(size, 0);
            let mut filler = window.filler();
            let mut messages = vec![vec![0; size]; 3];
            messages.iter_mut().for_each(|message| filler.fill(message));
            let mut checker = window.checker();
            checker.check(&messages[0]).unwrap();
            assert!(checker.check(&messages[0]).unwrap_err().to_string().contains("instead of message 1"));
            assert!(checker.check(&messages[2]).is_err());
            assert!(
                checker.check(&messages[1][..size - 1]).unwrap_err().to_string().contains("bytes instead of")
            );
            let mut wrong = messages[1].clone();
            *wrong.get_mut(size / 128 * 64 + 1).unwrap() ^= 0x10;
            assert!(checker.check(&wrong).is_err());
            checker.check(&messages[1]).unwrap();
        }
    }

    #[test]
    fn windows_walk_through_the_input_and_wrap() {
        assert_eq!(window(4096, 0).bytes[4096 * 3..][..10], window(4096, 0).bytes[2288..][..10]);
        assert_ne!(window(4096, 0).bytes[..64], window(4096, 1).bytes[..64]);
        let mut tiny = Window::default();
        tiny.load(&Input::of(b"x"), 9, 64);
        assert!(tiny.bytes.iter().all(|byte| *byte == b'x'));
    }

    #[test]
    fn input_that_is_missing_or_empty_is_named() {
        let missing = Input::read(Some(Path::new("/nonexistent/input"))).err().unwrap();
        assert!(format!("{missing:#}").contains("/nonexistent/input"));
        let empty = Input::read(Some(Path::new("/dev/null"))).err().unwrap();
        assert!(format!("{empty:#}").contains("is empty"));
    }
}
