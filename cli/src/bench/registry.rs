//! All mechanisms, in the order in which they are measured and named.

use std::sync::OnceLock;

use anyhow::Result;

use super::link::Mechanism;
use super::mechanism::{
    eventfd, limits, mailbox, pipe, posix_mq, rendezvous, ring, semaphore, socket, stream, sysv, turns,
};
use super::shape::{Offer, Variant, Wait};

/// A mechanism before it is made.
pub struct Entry {
    /// As in `--mechanisms` and in the result.
    pub name: &'static str,
    /// The series that it is measured in.
    pub offers: &'static [Offer],
    /// Makes it, before the measuring processes are forked. When that fails, its rows say why.
    pub make: fn() -> Result<Box<dyn Mechanism>>,
}

/// Polling and sleeping, latency and throughput, of what copies in and out.
const COPYING: &[Offer] = &kinds(Variant::Copy);
/// The same of what is written and read where it lies.
const IN_PLACE: &[Offer] = &kinds(Variant::InPlace);

/// A rendezvous holds no messages: it has no throughput that a round trip does not say.
const MEETING: &[Offer] =
    &[Offer::latency(Variant::Copy, Wait::Spin), Offer::latency(Variant::Copy, Wait::Sleep)];

/// The ring: a batch of one is a message in place, so batches have no latency of their own.
const RING: &[Offer] = &[
    Offer::latency(Variant::Copy, Wait::Spin),
    Offer::latency(Variant::Copy, Wait::Sleep),
    Offer::latency(Variant::InPlace, Wait::Spin),
    Offer::latency(Variant::InPlace, Wait::Sleep),
    Offer::throughput(Variant::Copy, Wait::Spin),
    Offer::throughput(Variant::Copy, Wait::Sleep),
    Offer::throughput(Variant::InPlace, Wait::Spin),
    Offer::throughput(Variant::InPlace, Wait::Sleep),
    Offer::throughput(Variant::Batch, Wait::Spin),
    Offer::throughput(Variant::Batch, Wait::Sleep),
];

const fn kinds(variant: Variant) -> [Offer; 4] {
    [
        Offer::latency(variant, Wait::Spin),
        Offer::latency(variant, Wait::Sleep),
        Offer::throughput(variant, Wait::Spin),
        Offer::throughput(variant, Wait::Sleep),
    ]
}

/// What others have to offer, beside [`OWN`].
static PEERS: OnceLock<&'static [Entry]> = OnceLock::new();

/// Adds mechanisms behind the own ones. Once, before anything is measured.
pub fn add(peers: &'static [Entry]) {
    assert!(PEERS.set(peers).is_ok(), "peers are added once");
}

/// Every mechanism, limits first. Its place here stands for it between the processes of a run.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    OWN.iter().chain(PEERS.get().copied().unwrap_or_default())
}

/// The mechanism at this place.
pub fn entry(index: usize) -> &'static Entry {
    OWN.get(index).unwrap_or_else(|| &PEERS.get().copied().unwrap_or_default()[index - OWN.len()])
}

/// Those of this crate.
const OWN: &[Entry] = &[
    Entry { name: "line", offers: &[Offer::limit(Some(Wait::Spin), &[8])], make: limits::line },
    Entry { name: "futex", offers: &[Offer::limit(Some(Wait::Sleep), &[4])], make: limits::futex },
    Entry { name: "syscall", offers: &[Offer::limit(None, &[0])], make: limits::syscall },
    Entry { name: "fence", offers: &[Offer::limit(None, &[0])], make: limits::full_fences },
    Entry { name: "copy", offers: &[Offer::limit(None, &[limits::COPIED])], make: limits::copy },
    Entry { name: "memcpy", offers: &[Offer::limit(Some(Wait::Spin), stream::CHUNKS)], make: stream::memcpy },
    Entry { name: "ring-spsc", offers: RING, make: ring::spsc },
    Entry { name: "ring-mpsc", offers: RING, make: ring::mpsc },
    Entry { name: "mailbox", offers: IN_PLACE, make: mailbox::mailbox },
    Entry { name: "rendezvous", offers: MEETING, make: rendezvous::rendezvous },
    Entry { name: "pipe", offers: COPYING, make: pipe::pipe },
    Entry { name: "fifo", offers: COPYING, make: pipe::fifo },
    Entry { name: "sysv", offers: COPYING, make: sysv::sysv },
    Entry { name: "posix-mq", offers: COPYING, make: posix_mq::posix_mq },
    Entry { name: "unix-stream", offers: COPYING, make: socket::unix_stream },
    Entry { name: "unix-seqpacket", offers: COPYING, make: socket::unix_seqpacket },
    Entry { name: "unix-dgram", offers: COPYING, make: socket::unix_dgram },
    Entry { name: "tcp", offers: COPYING, make: socket::tcp },
    Entry { name: "eventfd-shm", offers: IN_PLACE, make: eventfd::eventfd_shm },
    Entry { name: "sem-shm", offers: IN_PLACE, make: semaphore::sem_shm },
    Entry { name: "futex-shm", offers: IN_PLACE, make: turns::futex_shm },
];

/// Where `name` stands in [`entries`]; the error lists what there is.
pub fn find(name: &str) -> Result<usize, String> {
    entries().position(|entry| entry.name == name).ok_or_else(|| {
        let names: Vec<_> = entries().map(|entry| entry.name).collect();
        format!("no such mechanism; there are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mechanism_can_be_made_and_names_are_unique() {
        for (index, entry) in entries().enumerate() {
            assert_eq!(find(entry.name), Ok(index));
            assert!((entry.make)().is_ok(), "{}", entry.name);
        }
        super::sysv::remove_queues();
        assert!(find("pigeon").unwrap_err().contains("sem-shm"));
    }
}
