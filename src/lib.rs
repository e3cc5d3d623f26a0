//! Message passing between processes of one machine through a ring in shared memory: in place, without a system call
//! while nobody sleeps, asleep when idle.
//!
//! ```no_run
//! // In one process:
//! let mut sender = ringpost::sender("demo")?;
//! sender.send(b"hi")?;
//!
//! // In another; either may start first:
//! for message in ringpost::receiver("demo")? {
//!     println!("{message:?}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A ring has one receiver, and one sender ([`Sender`]) or many ([`MultiSender`]); or one sender ([`Publisher`]) and many readers,
//! each of which gets every message ([`Subscriber`], [`Watcher`]). It lives in a named segment, in a
//! sealed memfd, in memory of this process, or in a segment of the `shared_memory` crate: see [`Builder`]. Or in a *link*, made
//! over a Unix socket ([`listen`], [`connect`]): then no process can write what the other writes. [`Lanes`] receives from
//! many rings at once; [`SignalSender`] sends from a signal handler; [`Select`] waits for rings and descriptors, [`Dispatcher`] calls a handler for each, [`Readiness`]
//! is a descriptor for anybody's event loop, and [`Source::received`] and [`Sender::sent`] are futures for any runtime. Each message
//! of a [`Mailbox`] goes to one of many receivers; [`SharedMemory`] is what all this is built on, for synchronisation of one's own.
//!
//! * **In place**: [`Sender::reserve`] gives room in the ring, [`Reservation::commit`] publishes it;
//!   [`Receiver::recv`] gives the message where it lies, dropping it releases it.
//! * **Trust**: a message is a `&[u8]` only when all peers were declared trusted ([`Ring::trust_peers`], once, `unsafe`).
//!   Otherwise it is read by copying, and whatever another process writes, this crate has no undefined behaviour.
//! * **Order**: all messages of a ring in one total order, which is the order of each sender.
//! * **Loss**: none. A full ring makes the sender wait, or gives it an error, as asked. Only a [`Watcher`] can miss messages, and is
//!   told how many.
//! * **Death**: what was committed is received, also after a kill at any instruction; what was not is not.
//!
//! `docs/PROTOCOL.md` in the repository says how and why it works.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "ringpost needs Linux: its sleep, its fences and its segments are futex, membarrier and tmpfs"
);

#[cfg(not(target_pointer_width = "64"))]
compile_error!("ringpost needs 64-bit addresses: its positions and its largest rings do not fit into less");

mod channel;
mod error;
mod header;
mod layout;
mod ring;
mod sync;
mod sys;
mod wait;

/// The programs in the README compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use channel::*;
pub use error::{LinkError, NotTaken, OpenError, RecvError, RegionError, SegmentError, SendError};
pub use sys::{poll::Interest, socket::PeerCredentials};
pub use wait::WaitStrategy;

/// Attaches as the only sender of the ring `name`, which is made when it does not exist.
///
/// # Errors
/// As [`Builder::open_or_create`] and [`Ring::sender`].
pub fn sender(name: &str) -> Result<Sender, OpenError> {
    builder(name).open_or_create()?.sender()
}

/// Attaches as the receiver of the ring `name`, which is made (for one sender) when it does not exist.
///
/// # Errors
/// As [`Builder::open_or_create`] and [`Ring::receiver`].
pub fn receiver(name: &str) -> Result<Receiver, OpenError> {
    builder(name).open_or_create()?.receiver()
}
