//! Damage to the memory of a ring, bit by bit.

use std::{fs::File, os::unix::fs::FileExt};

use ringpost::{Receiver, Ring};

/// The file of a ring.
pub struct Bytes {
    file: File,
    data: u64,
    capacity: u64,
}

impl Bytes {
    pub fn of(ring: &Ring) -> Self {
        let file = File::from(ring.fd().unwrap().try_clone_to_owned().unwrap());
        let mut length = [0; 4];
        file.read_exact_at(&mut length, 32).unwrap();
        Self { file, data: u32::from_ne_bytes(length).into(), capacity: ring.info().capacity }
    }

    /// The first bytes of the record at `sequence`.
    pub fn read_record(&self, sequence: u64, to: &mut [u8]) {
        self.file.read_exact_at(to, self.data + sequence * 8 % self.capacity).unwrap();
    }

    /// The flags of the header.
    pub fn flags(&self) -> u32 {
        let mut flags = [0; 4];
        self.file.read_exact_at(&mut flags, 20).unwrap();
        u32::from_le_bytes(flags)
    }

    /// Changes one bit of the record at `sequence`, which begins with the two words of its header.
    pub fn flip(&self, sequence: u64, bit: u64) {
        let at = self.data + (sequence * 8 + bit / 8) % self.capacity;
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, at).unwrap();
        self.file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], at).unwrap();
    }
}

/// Bits of a record's header.
pub const HEADER_BITS: u64 = 128;

/// The sequence number of the next message.
pub fn next_of(receiver: &mut Receiver) -> u64 {
    let debug = format!("{receiver:?}");
    debug.trim_end_matches(" }").rsplit(' ').next().unwrap().parse().unwrap()
}
