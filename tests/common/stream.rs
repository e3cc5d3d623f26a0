//! What a sender sends in the tests: message `n` of sender `s` is a pure function of both, so that the receiver can tell
//! each byte of it before it arrives. Stronger than a checksum, and it holds for messages too short to carry one.

use super::FAR;
use ringpost::{Receiver, Sender};

/// Bytes of the messages, mixed; `None` is the longest that the ring takes.
const LENGTHS: [Option<usize>; 7] = [Some(0), Some(1), Some(8), Some(64), Some(513), Some(4096), None];

/// One message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Letter<'a> {
    pub bytes: &'a [u8],
    pub kind: u16,
    /// A number that the message decides and that says nothing about it.
    pub chance: u64,
}

/// All messages of all senders of one ring.
pub struct Stream {
    /// Random bytes, of which each message is a stretch.
    bytes: Vec<u8>,
    longest: usize,
}

impl Stream {
    pub fn new(longest: usize) -> Self {
        let words = (0..(2 * longest + 4096) as u64 / 8).flat_map(|n| scatter(n).to_ne_bytes());
        Self { bytes: words.collect(), longest }
    }

    /// Message `number` of `sender`.
    pub fn letter(&self, sender: u64, number: u64) -> Letter<'_> {
        let chance = scatter(sender << 56 ^ number);
        let length = match chance % 512 {
            0 => LENGTHS[6],
            1..16 => LENGTHS[5],
            other => LENGTHS[other as usize % 5],
        };
        let length = length.unwrap_or(self.longest).min(self.longest);
        let start = (chance >> 16) as usize % (self.bytes.len() - length);
        Letter { bytes: &self.bytes[start..start + length], kind: number as u16, chance: chance >> 40 }
    }
}

/// Sends so many messages of a stream.
pub fn send_letters(sender: &mut Sender, messages: u64) {
    let stream = Stream::new(sender.longest_message());
    for number in 0..messages {
        let Letter { bytes, kind, .. } = stream.letter(0, number);
        sender.send_kind(kind, bytes).unwrap();
    }
}

/// Receives what [`send_letters`] has sent.
#[track_caller]
pub fn receive_letters(receiver: &mut Receiver, messages: u64) {
    let stream = Stream::new(receiver.longest_message());
    for number in 0..messages {
        let expected = stream.letter(0, number);
        let message = receiver.recv_timeout(FAR).unwrap();
        assert_eq!(message.kind(), expected.kind);
        assert!(message.to_vec() == expected.bytes, "message {number}");
    }
}

/// Spreads a number over 64 bits (the finaliser of splitmix64).
pub fn scatter(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
