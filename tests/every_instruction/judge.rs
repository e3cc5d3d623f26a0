//! What the successors find when everything that a victim leaves is as it was at one instruction.

use super::{
    Scene,
    common::FAR,
    loan,
    victim::{OWN, kind, message, put_all},
};
use ringpost::{OpenError, Receiver, RecvError, Ring, SendError, Sender, SenderKind, Untrusted};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::{
    fs::File,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt, MetadataExt},
    },
    process::Command,
    time::Instant,
};

const RECEIVER_CLAIM: u64 = 4096 + 256;
const RECEIVER_COMING: u64 = 4096 + 320;
const RECEIVER_ALARMS: u64 = 4096 + 1024;
pub const SLOTS: u64 = 8704;
pub const SLOT: u64 = 256;
const ALARM: u64 = 24;
const COMING: u64 = 40;
/// Set by the kernel in the alarm of a process that has died.
const OWNER_DIED: u32 = 1 << 30;

/// Units of the data area of each ring here.
pub const CAPACITY: u64 = 512;
/// Slots of the rings for many senders.
pub const MANY: u8 = 3;

/// The bytes of a ring.
pub struct Shared(File);

impl Shared {
    pub fn of(ring: &Ring) -> Self {
        Self(ring.fd().unwrap().try_clone_to_owned().unwrap().into())
    }

    pub fn copy_to(&self, bytes: &mut Vec<u8>) {
        bytes.resize(self.0.metadata().unwrap().size() as usize, 0);
        self.0.read_exact_at(bytes, 0).unwrap();
    }

    pub fn word(&self, offset: u64) -> u64 {
        let mut word = [0; 8];
        self.0.read_exact_at(&mut word, offset).unwrap();
        u64::from_ne_bytes(word)
    }

    pub fn set(&self, offset: u64, word: u64) {
        self.0.write_all_at(&word.to_ne_bytes(), offset).unwrap();
    }

    /// Gives a slot to the dead, with its alarm as the kernel leaves it.
    pub fn bury(&self, slot: u64, dead: &Dead) {
        let offset = SLOTS + SLOT * (slot - 1);
        self.give(offset, dead);
        self.0.write_all_at(&OWNER_DIED.to_ne_bytes(), offset + ALARM).unwrap();
    }

    /// Gives the place of which there is one to the dead. Its alarms are those of nobody.
    pub fn bury_the_one(&self, dead: &Dead) {
        self.give(RECEIVER_CLAIM, dead);
        for number in 0..u64::from(MANY) {
            self.0.write_all_at(&OWNER_DIED.to_ne_bytes(), RECEIVER_ALARMS + 8 * number).unwrap();
        }
    }

    fn give(&self, offset: u64, dead: &Dead) {
        let mut claim = [0; 8];
        self.0.read_exact_at(&mut claim, offset).unwrap();
        self.0.write_all_at(&dead.instead_of(claim), offset).unwrap();
    }
}

/// A process that is dead for certain, as claims name it: `start time : 34 | pid : 22`.
pub struct Dead {
    pub pid: u32,
    start: u64,
}

impl Dead {
    pub fn new() -> Self {
        let mut child = Command::new("true").spawn().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let start = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
        child.wait().unwrap();
        Self { pid: child.id(), start }
    }

    /// The claim, held by this process instead.
    pub fn instead_of(&self, claim: [u8; 8]) -> [u8; 8] {
        let owner = self.start << 22 | u64::from(self.pid);
        (owner << 8 | u64::from(claim[0])).to_ne_bytes()
    }
}

/// Makes the process `pid` in these bytes the dead one, with its alarms as the kernel leaves them. True when it held a
/// sender's slot.
pub fn kill(bytes: &mut [u8], pid: u32, dead: &Dead) -> bool {
    let slots = (0..u64::from(MANY)).map(|number| {
        let slot = SLOTS + SLOT * number;
        (slot, slot + COMING, vec![slot + ALARM])
    });
    let alarms = (0..255).map(|number| RECEIVER_ALARMS + 8 * number).collect();
    let receiver = (RECEIVER_CLAIM, RECEIVER_COMING, alarms);
    let mut bury = |claim: u64| {
        let claim: &mut [u8; 8] = (&mut bytes[claim as usize..][..8]).try_into().unwrap();
        let value = u64::from_ne_bytes(*claim);
        let its_own = value & 3 == 1 && value >> 8 & ((1 << 22) - 1) == u64::from(pid);
        if its_own {
            *claim = dead.instead_of(*claim);
        }
        its_own
    };
    let held: Vec<_> = slots
        .chain([receiver])
        .filter(|&(claim, coming, _)| {
            bury(coming);
            bury(claim)
        })
        .collect();
    for alarm in held.iter().flat_map(|(_, _, alarms)| alarms) {
        let alarm = &mut bytes[*alarm as usize..][..4];
        if alarm != [0; 4] {
            alarm.copy_from_slice(&OWNER_DIED.to_ne_bytes());
        }
    }
    held.iter().any(|&(claim, ..)| claim != RECEIVER_CLAIM)
}

/// A ring of these bytes.
pub fn ring_of(bytes: &[u8]) -> Ring {
    let fd: OwnedFd = memfd_create("copy", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let file = File::from(fd);
    file.write_all_at(bytes, 0).unwrap();
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
    ringpost::unnamed().from_fd(file.into()).unwrap()
}

/// A ring of these bytes, with the process `victim` dead, and everybody else too if `all`.
pub fn ring_without(victim: u32, all: bool, bytes: &[u8], dead: &Dead) -> Ring {
    let mut bytes = bytes.to_vec();
    kill(&mut bytes, victim, dead);
    if all {
        kill(&mut bytes, std::process::id(), dead);
    }
    ring_of(&bytes)
}

/// Takes all places that can be had.
pub fn successors<T>(take: impl Fn() -> Result<T, OpenError>) -> Vec<T> {
    let mut places = Vec::new();
    loop {
        match take() {
            Ok(place) => places.push(place),
            Err(
                OpenError::TooManySenders { .. }
                | OpenError::TooManyReaders { .. }
                | OpenError::TooManySeats { .. },
            ) => return places,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Numbers of what `next` gives, kind and bytes, until there is no more. Each must be one of the messages `known`, and whole.
pub fn numbers_of(
    known: &[(u64, usize)],
    mut next: impl FnMut() -> Result<(u16, Vec<u8>), RecvError>,
) -> (Vec<u64>, RecvError) {
    let mut numbers = Vec::new();
    loop {
        match next() {
            Ok(found) => {
                let is_same = |&&(number, length): &&_| found == (kind(number), message(number, length));
                let &(number, _) = known.iter().find(is_same).expect("a message that nobody has sent");
                numbers.push(number);
            }
            Err(error) => return (numbers, error),
        }
    }
}

/// What a receiver of these bytes gets: numbers of messages, each of which is checked.
fn received(
    receiver: &mut Receiver,
    lengths: &[(u64, usize)],
    last: &mut Option<u64>,
) -> (Vec<u64>, RecvError) {
    numbers_of(lengths, || {
        let message = receiver.try_recv()?;
        assert!(last.is_none_or(|last| last < message.sequence() || message.sequence() < 1 << 20));
        *last = Some(message.sequence());
        Ok((message.kind(), message.to_vec()))
    })
}

/// How far the operation was, as of the last instruction that was looked at.
#[derive(Default)]
pub struct Progress {
    /// Whether its messages are there.
    pub sent: bool,
    /// How many messages it has released.
    pub released: usize,
}

/// Kills the victim where it stands, and everybody else too if `all`; lets successors go on with these bytes.
pub fn judge(
    scene: &Scene,
    mut bytes: Vec<u8>,
    victim: u32,
    dead: &Dead,
    all: bool,
    progress: &mut Progress,
) {
    let waits_for_news = kill(&mut bytes, victim, dead);
    let others_held = if all { kill(&mut bytes, std::process::id(), dead) } else { false };
    let is_called_back = loan::is_called_back(&bytes);
    let ring = ring_of(&bytes);
    let mut receiver = ring.receiver().expect("the place of a dead receiver can be taken");
    if waits_for_news || others_held || scene.fallen {
        let start = Instant::now();
        while receiver.next_death().is_none() {
            assert!(start.elapsed() < FAR, "nobody told of the death: {scene:?}");
            std::thread::yield_now();
        }
    }
    let own = scene.operation.sends();
    let lengths: Vec<_> = scene.before.iter().chain(&own).chain(&scene.behind).copied().collect();
    let mut last = None;
    let (numbers, error) = received(&mut receiver, &lengths, &mut last);
    assert!(
        matches!(error, RecvError::Empty | RecvError::Disconnected | RecvError::PeerDied { .. }),
        "{error}"
    );

    let before: Vec<u64> = scene.before.iter().map(|&(number, _)| number).collect();
    let behind = scene.behind.iter().map(|&(number, _)| number);
    let released = before.len() - numbers.iter().filter(|&&number| number < OWN).count();
    assert!((progress.released..=scene.releases).contains(&released), "{released} released");
    progress.released = released;
    let sent = numbers.iter().any(|number| own.iter().any(|(own, _)| own == number));
    assert!(sent || !progress.sent, "what was there is gone");
    progress.sent = sent;
    let mut expected = before[released..].to_vec();
    if scene.open && !all {
        // The sender in between lives, so nothing behind its reservation can be had, and it is named.
        assert_eq!(numbers, expected);
        // While the tail is called back there seems to be nothing: until somebody has something behind it.
        let behind = is_called_back.then(|| ring.multi_sender().unwrap());
        behind.into_iter().for_each(|mut sender| put_all(&mut sender, &[(1900, 0)]));
        assert!(receiver.recv_timeout(std::time::Duration::ZERO).is_err());
        assert_eq!(receiver.stalled().map(|stall| stall.sender.pid), Some(std::process::id()));
        return;
    }
    if sent {
        expected.extend(own.iter().map(|&(number, _)| number));
    }
    expected.extend(behind);
    if scene.open_behind && !all {
        assert_eq!(numbers, expected[..expected.len() - scene.behind.len()]);
        return;
    }
    assert_eq!(numbers, expected);
    let living = if all || !scene.many { 0 } else { scene.living };
    match ring.info().many_senders {
        None => use_it(
            scene,
            &mut receiver,
            ring.sender().expect("the place of a dead sender can be taken"),
            last,
        ),
        Some(_) => {
            let mut senders = successors(|| ring.multi_sender());
            if is_called_back {
                // What the dead borrower had reserved is known only now, and whoever found no slot has told the receiver.
                assert_eq!(receiver.try_recv().err(), Some(RecvError::Empty));
                senders.extend(successors(|| ring.multi_sender()));
            }
            assert_eq!(senders.len(), usize::from(MANY) - living, "each slot of the dead can be taken");
            use_it(scene, &mut receiver, senders.pop().unwrap(), last);
        }
    }
}

/// Sends one message as long as the victim's, and receives that and nothing behind it. Then fills the ring to the brim and
/// drains it, three times: all its room is there, and everything arrives.
fn use_it<K: SenderKind>(
    scene: &Scene,
    receiver: &mut Receiver,
    mut sender: Sender<Untrusted, K>,
    mut last: Option<u64>,
) {
    const LENGTH: usize = 100;
    let most = CAPACITY / (ringpost::record_size(LENGTH) as u64 / 8);
    let probe = scene.operation.sends().first().map(|&(_, length)| vec![(1900, length)]);
    let laps = (0..3).map(|lap| (0..most).map(|number| (2000 + 100 * lap + number, LENGTH)).collect());
    for messages in probe.into_iter().chain(laps) {
        put_all(&mut sender, &messages);
        if messages.len() as u64 == most {
            assert_eq!(sender.try_send(&[0; LENGTH]), Err(SendError::Full));
        }
        let (received, _) = received(receiver, &messages, &mut last);
        assert!(received.into_iter().eq(messages.into_iter().map(|(number, _)| number)));
    }
}
