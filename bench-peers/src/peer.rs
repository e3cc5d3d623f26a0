//! The peers, one file each.

mod boost;
mod crossbeam;
mod iceoryx2;
mod ipc_channel;
mod kanal;
mod nng;
mod rtrb;
mod shmring;
mod zeromq;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ringpost_cli::bench::{
    registry::Entry,
    shape::{Offer, Variant, Wait},
};

/// Mechanisms of ringpost's own benchmark that are measured along with the peers.
pub const COMPARED: &[&str] =
    &["line", "futex", "syscall", "fence", "copy", "memcpy", "ring-spsc", "ring-mpsc", "pipe"];

/// Bytes that each peer may hold, as the ring's default capacity.
pub const CAPACITY: usize = 4 << 20;

const fn of(variant: Variant) -> [Offer; 4] {
    [
        Offer::latency(variant, Wait::Spin),
        Offer::latency(variant, Wait::Sleep),
        Offer::throughput(variant, Wait::Spin),
        Offer::throughput(variant, Wait::Sleep),
    ]
}

const IN_PLACE: &[Offer] = &of(Variant::InPlace);
const COPYING: &[Offer] = &of(Variant::Copy);
const SPINNING: &[Offer] =
    &[Offer::latency(Variant::InPlace, Wait::Spin), Offer::throughput(Variant::InPlace, Wait::Spin)];
const SLEEPING: &[Offer] =
    &[Offer::latency(Variant::InPlace, Wait::Sleep), Offer::throughput(Variant::InPlace, Wait::Sleep)];

/// Every peer.
pub const ENTRIES: &[Entry] = &[
    Entry { name: "iceoryx2", offers: IN_PLACE, make: iceoryx2::with_event },
    Entry { name: "iceoryx2-waitset", offers: SLEEPING, make: iceoryx2::with_waitset },
    Entry { name: "ipc-channel", offers: COPYING, make: ipc_channel::make },
    Entry { name: "shmring", offers: COPYING, make: shmring::make },
    Entry { name: "boost-mq", offers: COPYING, make: boost::make },
    Entry { name: "zeromq", offers: COPYING, make: zeromq::make },
    Entry { name: "nng", offers: COPYING, make: nng::make },
    Entry { name: "rtrb-threads", offers: SPINNING, make: rtrb::make },
    Entry { name: "crossbeam-threads", offers: COPYING, make: crossbeam::make },
    Entry { name: "kanal-threads", offers: COPYING, make: kanal::make },
];

/// How many messages of `size` bytes a channel between threads may hold: as many bytes as the ring.
fn equal_messages(size: usize) -> usize {
    (CAPACITY / size).max(2)
}

/// The same for a peer that takes memory and time to set up for each of them.
fn messages_of(size: usize) -> usize {
    equal_messages(size).min(4096)
}

/// A name that nothing else on this machine has.
fn unique(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("bench-peers-{}-{what}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed))
}
