//! Sending from a signal handler.
//!
//! A handler comes at any instruction of its thread: in the allocator, under a lock, in the middle of another send. So all that
//! it needs is there before it, and what is left are atomics, one wake, and one fence for all processes. A plain [`Sender`] is not
//! `Sync`, so no handler reaches one without `unsafe`.

use super::{
    reservation::Reservation,
    sender::{Many, OneReceiver, Sender},
    trust::{Trust, Untrusted},
};
use crate::{
    error::{OpenError, SendError},
    header::mismatch,
    ring::reserve::{Need, Produce},
    sync::{AtomicU32, Ordering::*},
    sys::{errno, fork::Generation},
};
use std::{cell::UnsafeCell, fmt};

/// A sending end for signal handlers. It can lie in a `static`, and any number of handlers and threads may try at once: one of
/// them sends, the others are told [`SendError::Busy`].
///
/// Made from a [`Sender`] or a [`MultiSender`](crate::MultiSender), of any ring but an elastic one, whose sender asks the system
/// for memory. The other senders of the process have slots of their own and go on as they are, also where the signal
/// interrupts them.
///
/// What lies in a `static` is never dropped: [`take`](SignalSender::take) it out before the process ends, or its end is that of
/// one that was killed. The handler must not `longjmp` out of a send: the turn would never end.
///
/// ```
/// use ringpost::SignalSender;
/// use std::sync::OnceLock;
///
/// static ALARM: OnceLock<SignalSender> = OnceLock::new();
///
/// extern "C" fn on_signal(signal: i32) {
///     if let Some(alarm) = ALARM.get() {
///         let _ = alarm.try_send(signal as u16, b"came");
///     }
/// }
///
/// let ring = ringpost::unnamed().many_senders(2).memfd()?;
/// let mut receiver = ring.receiver()?;
/// ALARM.set(SignalSender::new(ring.multi_sender()?)?).unwrap();
/// // Here the program would set `on_signal` as a handler. In its stead:
/// on_signal(10);
/// assert_eq!(receiver.recv()?.kind(), 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SignalSender<P: Trust = Untrusted, K: OneReceiver = Many> {
    /// `None` once it was taken out. For the holder of the turn alone.
    sender: UnsafeCell<Option<Sender<P, K>>>,
    /// 1 while somebody has the turn.
    busy: AtomicU32,
    /// Of the sender. Here because a forked child may have been born in the middle of a turn, which never ends there.
    generation: Generation,
}

// SAFETY: the sender, which may go from thread to thread, is reached through a `Turn` only, and there is one at a time.
unsafe impl<P: Trust, K: OneReceiver> Sync for SignalSender<P, K> where Sender<P, K>: Send {}

/// The right to use the sender.
struct Turn<'a, P: Trust, K: OneReceiver>(&'a SignalSender<P, K>);

impl<P: Trust, K: OneReceiver> Turn<'_, P, K> {
    fn sender(&mut self) -> &mut Option<Sender<P, K>> {
        // SAFETY: there is one turn at a time (`SignalSender::turn`), and this borrows it.
        unsafe { &mut *self.0.sender.get() }
    }
}

impl<P: Trust, K: OneReceiver> Drop for Turn<'_, P, K> {
    fn drop(&mut self) {
        // ORDERING: Release, of one process; pairs with the Acquire in `SignalSender::turn`: the next one finds the sender as this
        // one has left it.
        self.0.busy.store(0, Release);
    }
}

impl<P: Trust, K: OneReceiver> SignalSender<P, K> {
    /// Makes `sender` one for signal handlers, and takes its slot if it has none yet. Not to be called in a handler.
    ///
    /// # Errors
    /// [`OpenError::Mismatch`] when the ring is elastic; [`OpenError::TooManySenders`] when the sender was cloned and there is no
    /// slot left for it. The sender is closed then.
    pub fn new(mut sender: Sender<P, K>) -> Result<Self, OpenError> {
        let header = &sender.inner().header;
        if header.elastic {
            return Err(mismatch("memory", "elastic", "all there from the start"));
        }
        let most = header.slots();
        let generation = sender.generation;
        if generation.lasts() && !sender.producer.has_slot() && sender.join().is_err() {
            return Err(OpenError::TooManySenders { most });
        }
        Ok(Self { sender: UnsafeCell::new(Some(sender)), busy: AtomicU32::new(0), generation })
    }

    /// Sends a copy of `message`, with the user's `kind`, if there is room now.
    ///
    /// Async-signal-safe: never blocks, takes no lock, allocates nothing, leaves `errno` as it is, and makes one system call at
    /// most, which wakes the receiver if it sleeps; and a `membarrier` for each loan of the tail that it
    /// calls back: when another sender has sent many messages in a row.
    ///
    /// # Errors
    /// [`SendError::Busy`] when this has interrupted another call, or another thread is in one: that one goes on.
    /// [`SendError::Full`], also when the receiver has died (a plain sender can tell); [`SendError::TooLong`];
    /// [`SendError::Disconnected`] when the receiver has closed, or the sender was taken out; [`SendError::Forked`].
    pub fn try_send(&self, kind: u16, message: &[u8]) -> Result<(), SendError> {
        let _kept = errno::Kept::now();
        if !self.generation.lasts() {
            return Err(SendError::Forked);
        }
        let mut turn = self.turn().ok_or(SendError::Busy)?;
        let sender = turn.sender().as_mut().ok_or(SendError::Disconnected)?;
        let length = sender.check_length(message.len())?;
        sender.discard_leaked();
        if sender.is_disconnected() {
            return Err(SendError::Disconnected);
        }
        let Ok(reserved) = sender.producer.reserve(Need::Record((length + sender.trailer).into())) else {
            if let Some(counts) = K::counts(sender.memory(), sender.producer.slot()) {
                counts.refused.add(1);
            }
            sender.attachment.inner.remind(&mut sender.producer);
            return Err(SendError::Full);
        };
        let mut reservation = Reservation::new(sender, reserved);
        reservation.write_at(0, message);
        reservation.set_kind(kind);
        reservation.commit();
        Ok(())
    }

    /// Takes the sender out, to be dropped or used otherwise. `None` when it was taken out already, or somebody sends just
    /// now. Never blocks; but dropping what it gives is not for a handler.
    pub fn take(&self) -> Option<Sender<P, K>> {
        self.turn()?.sender().take()
    }

    /// The turn, unless somebody has it.
    fn turn(&self) -> Option<Turn<'_, P, K>> {
        // ORDERING: Acquire, of one process; pairs with the Release in the drop of the turn before.
        let free = self.busy.compare_exchange(0, 1, Acquire, Relaxed).is_ok();
        free.then(|| Turn(self))
    }
}

impl<P: Trust, K: OneReceiver> fmt::Debug for SignalSender<P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the turn: whoever prints it keeps nobody from sending.
        // ORDERING: Relaxed; only told.
        let busy = self.busy.load(Relaxed) != 0;
        f.debug_struct("SignalSender").field("busy", &busy).finish_non_exhaustive()
    }
}
