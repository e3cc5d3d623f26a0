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

use std::{
    env, fs, process,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

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
    format!("{}{what}-{}", own_names(), NEXT.fetch_add(1, Relaxed))
}

/// How the names of this run begin.
fn own_names() -> String {
    format!("bench-peers-{}-", process::id())
}

/// Removes the shared memory and the sockets that peers have left: a measuring process that is ended in the middle of a sample
/// removes nothing. What iceoryx2 leaves it removes itself, the next time that it is used.
pub fn remove_leftovers() {
    for directory in ["/dev/shm".into(), env::temp_dir()] {
        let files = fs::read_dir(directory).into_iter().flatten().flatten();
        for file in files.filter(|file| file.file_name().to_string_lossy().starts_with(&own_names())) {
            let _ = fs::remove_file(file.path());
        }
    }
}
