//! What both targets share: the input is a script of what the victim does and of what another process writes meanwhile.

#![deny(missing_docs)]

use ringpost::{MultiSender, Receiver, Ring, Sender, SenderKind, Untrusted};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::{fs::File, os::fd::OwnedFd, os::unix::fs::FileExt, sync::OnceLock, time::Duration};

/// Bytes of a header, of which the last eight are the checksum.
const HEADER: usize = 128;

// Where things lie: see `docs/LAYOUT.md`.
const CAPACITY: u64 = 24;
const CONTROL_LENGTH: u64 = 32;
const KEY: u64 = 56;
const RECEIVER_AREA: u64 = 4096;
const SENDERS_AREA: u64 = 8192;
const SLOTS: u64 = 8704;

/// The words of both areas and of the first slots that mean something.
const WORDS: [u64; 16] = [
    RECEIVER_AREA,
    RECEIVER_AREA + 128,
    RECEIVER_AREA + 136,
    RECEIVER_AREA + 144,
    RECEIVER_AREA + 256,
    RECEIVER_AREA + 264,
    RECEIVER_AREA + 1024,
    SENDERS_AREA,
    SENDERS_AREA + 128,
    SENDERS_AREA + 136,
    SENDERS_AREA + 144,
    SLOTS,
    SLOTS + 8,
    SLOTS + 16,
    SLOTS + 24,
    SLOTS + 128,
];

/// The rest of the input.
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// The whole of it.
    pub fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// The next byte; `None` at the end.
    pub fn byte(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    /// A number of so many bytes, at most eight.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(self.0.split_off(..bytes)?);
        Some(u64::from_le_bytes(number))
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
}

/// A sealed memfd of this content and length.
pub fn segment(content: &[u8], length: usize) -> OwnedFd {
    let fd = memfd_create("fuzz", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&fd, length as u64).unwrap();
    let file = File::from(fd);
    file.write_all_at(&content[..content.len().min(length)], 0).unwrap();
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW).unwrap();
    file.into()
}

/// The header of a ring that this process can use: for one sender, or for three.
pub fn sound(many: bool) -> [u8; HEADER] {
    static HEADERS: OnceLock<[[u8; HEADER]; 2]> = OnceLock::new();
    let header = |many| {
        let builder = ringpost::unnamed().capacity(4096);
        let builder = if many { builder.many_senders(3) } else { builder };
        let ring = builder.memfd().unwrap();
        let mut header = [0; HEADER];
        File::from(ring.fd().unwrap().try_clone_to_owned().unwrap()).read_exact_at(&mut header, 0).unwrap();
        header
    };
    HEADERS.get_or_init(|| [header(false), header(true)])[usize::from(many)]
}

/// The header with some fields changed by the script, and the length of the segment that it claims.
pub fn forged(mut header: [u8; HEADER], script: &mut Script<'_>) -> Option<([u8; HEADER], usize)> {
    for _ in 0..script.byte()? % 4 {
        let (at, change) = (usize::from(script.byte()?) % (HEADER - 12), script.number(4)? as u32);
        (0..4).for_each(|byte| header[at + byte] ^= change.to_le_bytes()[byte]);
    }
    let sum = header[..HEADER - 8].iter().fold(0xcbf2_9ce4_8422_2325u64, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    header[HEADER - 8..].copy_from_slice(&sum.to_ne_bytes());
    let word = |at: u64| u64::from_ne_bytes(header[at as usize..][..8].try_into().unwrap());
    let length = (word(CONTROL_LENGTH) as u32 as usize).saturating_add(word(CAPACITY) as usize);
    Some((header, length))
}

/// The words of a ring, as another process has them.
pub struct Words(File);

impl Words {
    /// Of the ring in this segment.
    pub fn of(fd: OwnedFd) -> Self {
        Self(fd.into())
    }

    /// What lies at byte `at`; 0 behind the end.
    fn read(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        let _ = self.0.read_exact_at(&mut word, at);
        u64::from_ne_bytes(word)
    }

    /// One write of another process: anything anywhere, or something that nearly fits.
    pub fn disturb(&self, script: &mut Script<'_>) -> Option<()> {
        let what = script.byte()?;
        let (head, tail) = (self.read(RECEIVER_AREA), self.read(SENDERS_AREA));
        let (capacity, control) = (self.read(CAPACITY) % (1 << 20), self.read(CONTROL_LENGTH) % (1 << 20));
        let units = (capacity / 8).max(1);
        let known = WORDS[usize::from(what >> 4)];
        let (at, value) = match what & 7 {
            // A word with a meaning.
            0 => (known, script.number(8)?),
            1 => (known, self.read(known) ^ 1 << (script.byte()? % 64)),
            2 => (known, self.read(known).wrapping_add_signed(i64::from(script.byte()? as i8))),
            // A position near the receiver's, or near the tail.
            3 => {
                let near = script.byte()? as i8;
                (known, head.wrapping_add_signed(near.into()) << if what & 8 == 0 { 0 } else { 8 })
            }
            // A valid tag near the receiver's position, and an info word behind it.
            4 | 5 => {
                let at = head.wrapping_add(script.byte()?.into());
                let (state, info) = (1 + script.byte()? % 3, script.number(8)?);
                let info = if what & 8 == 0 { info } else { info % (2 * capacity.max(1)) << 32 | info >> 48 };
                let tag = self.read(KEY) ^ (at << 8 | u64::from(state));
                self.write(control + (at.wrapping_add(1) % units) * 8, info)?;
                (control + at % units * 8, tag)
            }
            // Anything in the data area.
            6 => (control + script.number(2)? % units * 8, script.number(8)?),
            // Anything anywhere, also in the header.
            _ => (script.number(2)? * 8, tail ^ script.number(8)?),
        };
        self.write(at, value)
    }

    fn write(&self, at: u64, value: u64) -> Option<()> {
        // Behind the end there is nothing to write to: the size is sealed.
        let _ = self.0.write_all_at(&value.to_ne_bytes(), at);
        Some(())
    }
}

/// A process that does not trust the ring.
pub struct Victim {
    ring: Ring,
    sender: Option<Sender>,
    many: Vec<MultiSender>,
    receiver: Option<Receiver>,
}

/// A wait that does not wait.
const AT_ONCE: Duration = Duration::ZERO;

impl Victim {
    /// With no handle yet.
    pub fn new(ring: Ring) -> Self {
        Self { ring, sender: None, many: Vec::new(), receiver: None }
    }

    /// One operation, as the script says.
    pub fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        let what = script.byte()?;
        match what & 15 {
            0 if what & 16 == 0 => self.sender = None,
            0 => drop(self.many.pop()),
            1 => self.receiver = None,
            2 => {
                let _ = self.ring.statistics().pending_messages();
                let _ = (self.ring.info(), self.ring.statistics().high_water_bytes());
            }
            3..8 => {
                if self.ring.info().many_senders.is_none() {
                    self.sender = self.sender.take().or_else(|| self.ring.sender().ok());
                    self.sender.as_mut().map(|sender| send(sender, script));
                } else {
                    if self.many.len() < 3 {
                        self.many.extend(self.ring.multi_sender());
                    }
                    let count = self.many.len().max(1);
                    self.many.get_mut(usize::from(what >> 4) % count).map(|sender| send(sender, script));
                }
            }
            _ => {
                self.receiver = self.receiver.take().or_else(|| self.ring.receiver().ok());
                self.receiver.as_mut().map(|receiver| receive(receiver, script));
            }
        }
        Some(())
    }
}

fn send<K: SenderKind>(sender: &mut Sender<Untrusted, K>, script: &mut Script<'_>) -> Option<()> {
    let (what, length) = (script.byte()?, script.number(2)? as usize);
    let message = vec![what; length];
    match what % 6 {
        0 => drop(sender.try_send(&message)),
        1 => drop(sender.send_timeout(&message, AT_ONCE)),
        2 => {
            if let Ok(mut reservation) = sender.try_reserve(length) {
                reservation.write_at(0, &message);
                reservation.truncate(usize::from(what));
                reservation.commit();
            }
        }
        3 => drop(sender.try_reserve(length)),
        4 => std::mem::forget(sender.try_reserve(length)),
        _ => {
            if let Ok(mut batch) = sender.try_batch(length) {
                while batch.push(what.into(), &message[..length.min(usize::from(what))]).is_ok() {}
                batch.commit();
            }
        }
    }
    let _ = sender.is_disconnected();
    Some(())
}

fn receive(receiver: &mut Receiver, script: &mut Script<'_>) -> Option<()> {
    let what = script.byte()?;
    match what % 7 {
        0 => drop(receiver.try_recv().map(|message| (message.to_vec(), message.sender()))),
        1 => drop(receiver.recv_timeout(AT_ONCE).map(std::mem::forget)),
        2 => {
            let mut buffer = vec![0; usize::from(what) * 16];
            // It must not wait.
            if !receiver.is_empty() {
                let _ = receiver.recv_into(&mut buffer);
            }
        }
        3 => {
            if let Ok(messages) = receiver.try_recv_many(usize::from(what)) {
                for _ in 0..2 {
                    let count = messages.iter().map(|message| message.to_vec()).count();
                    assert!(count <= usize::from(what).max(1));
                }
            }
        }
        4 => {
            receiver.reopen();
            let _ = (receiver.next_death(), receiver.stalled());
        }
        5 => drop(receiver.try_iter().take(usize::from(what)).last()),
        _ => drop(receiver.recv_timeout(AT_ONCE).map(|message| message.len())),
    }
    Some(())
}
