//! Knowing that a message was taken.
//!
//! It was when the receiver's position has passed its end: no word of the ring is needed for that.

use super::{
    attach::{self, Before, has_closed},
    patience::Patience,
    ring::Inner,
    select::Berth,
    sender::{OneReceiver, Sender, SenderKind},
    trust::Trust,
    vigil::{LOOK_AFTER, Looks},
};
use crate::{
    error::{NotTaken, SendError},
    layout::Counts,
    ring::{
        claim::{self, Claim},
        position::Position,
        reserve::Produce,
    },
    sync::{AtomicU32, Ordering::*},
    sys::{clock::Deadline, fork::Generation, futex::Scope},
    wait::{CLOSED, Look, News, Sleeper},
};
use std::{
    fmt, io, mem,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Tells whether the receiver has taken a message: it has released it, by dropping it or by receiving a copy, so whatever it did
/// with it before is done. From [`Sender::send_acknowledged`].
///
/// A receipt is good for as long as it is kept, also after its sender has closed, and in any thread. It keeps the ring mapped.
/// Dropping it changes nothing.
///
/// ```
/// # use ringpost::{NotTaken, unnamed};
/// # use std::time::Duration;
/// let ring = unnamed().memfd()?;
/// let (mut sender, mut receiver) = (ring.sender()?, ring.receiver()?);
/// let receipt = sender.send_acknowledged(b"hi")?;
///
/// let message = receiver.recv()?;
/// assert!(!receipt.is_taken(), "it is being looked at");
/// drop(message);
/// receipt.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Receipt {
    inner: Arc<Inner>,
    /// Behind the message.
    end: Position,
    /// The receiver's place when the sender came.
    before: Before,
    generation: Generation,
}

impl Receipt {
    pub(super) fn new<P: Trust, K: SenderKind>(sender: &Sender<P, K>, end: Position) -> Self {
        let inner = Arc::clone(&sender.attachment.inner);
        Self { inner, end, before: sender.before, generation: sender.generation }
    }

    /// Whether the receiver has released the message. Never blocks.
    pub fn is_taken(&self) -> bool {
        self.inner.memory.head().has_reached(self.end)
    }

    /// Waits until the receiver has released the message, whether one is there yet or not.
    ///
    /// # Errors
    /// [`NotTaken::Disconnected`] or [`NotTaken::PeerDied`] when the receiver has gone before that; a death is noticed within a
    /// tenth of a second. The message is still in the ring: a successor gets it, and another wait waits for that one.
    pub fn wait(&self) -> Result<(), NotTaken> {
        self.wait_until(None)
    }

    /// Waits until the receiver has released the message, at most `timeout`.
    ///
    /// # Errors
    /// [`NotTaken::TimedOut`], and those of [`wait`](Receipt::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), NotTaken> {
        self.wait_until(Some(Deadline::after(timeout)))
    }

    /// Waits until the receiver has released the message, until `deadline` at most.
    ///
    /// # Errors
    /// [`NotTaken::TimedOut`], and those of [`wait`](Receipt::wait).
    pub fn wait_deadline(&self, deadline: Instant) -> Result<(), NotTaken> {
        self.wait_until(Some(Deadline::at(deadline)))
    }

    fn wait_until(&self, deadline: Option<Deadline>) -> Result<(), NotTaken> {
        if !self.is_own() {
            return Err(NotTaken::Forked);
        }
        // The sender, which watches for deaths, may sleep at the same time in another thread, or have gone: so this looks
        // itself from time to time, and counts for itself.
        let (news, counts, inner) = (&News::default(), &Counts::default(), &*self.inner);
        let slice = (inner.scope == Scope::Shared).then_some(LOOK_AFTER);
        let sleeper =
            Sleeper { call: inner.bell_of_senders().into(), news, counts, eager_after: None, slice };
        let mut looks = Looks::after(LOOK_AFTER / 2);
        let mut spin = inner.spin_of_receipts();
        let found = sleeper.until_release(&mut spin, deadline, |look| {
            self.look(if looks.is_due(look) { Look::Idle } else { look })
        });
        inner.keep_spin_of_receipts(spin);
        // Whoever asks again and again, and never waits for long, learns of a death, too.
        found.or_else(|| self.look(Look::Idle)).unwrap_or(Err(NotTaken::TimedOut))
    }

    /// What has become of the message, if it is known.
    pub(super) fn look(&self, why: Look) -> Option<Result<(), NotTaken>> {
        let gone = match why {
            Look::Spinning => None,
            Look::BeforeSleep => gone(&self.inner, self.before),
            Look::Idle => gone(&self.inner, self.before).or_else(|| died(&self.inner)),
        };
        // After the look at who has gone: what that one has released counts.
        if self.is_taken() { Some(Ok(())) } else { gone.map(Err) }
    }

    /// Where a task sleeps that waits for it.
    pub(super) fn berth(&self) -> Berth {
        let scope = self.inner.scope;
        Berth::of_release(&self.inner.memory, scope, (scope == Scope::Shared).then_some(LOOK_AFTER))
    }

    /// Whether this process has sent the message, and not the one from which it was forked.
    pub(super) fn is_own(&self) -> bool {
        self.generation.lasts()
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("end", &self.end.units()).field("taken", &self.is_taken()).finish()
    }
}

/// Whether a receiver has closed, other than one that had done so `before`.
fn gone(inner: &Inner, before: Before) -> Option<NotTaken> {
    let receiver = inner.memory.receiver();
    let closed = inner.bell_of_receiver().attention() & CLOSED != 0 && has_closed(receiver, before);
    closed.then_some(NotTaken::Disconnected)
}

/// Whether the receiver is dead, by proof. Asks the kernel.
fn died(inner: &Inner) -> Option<NotTaken> {
    let dead = match &inner.peer {
        Some(peer) => Some(peer.owner).filter(|_| peer.process.is_dead()),
        None => match claim::read(&inner.memory.receiver().claim) {
            Claim::Attached(owner) if inner.scope == Scope::Shared && attach::is_dead(owner) => Some(owner),
            _ => None,
        },
    };
    dead.map(|owner| NotTaken::PeerDied { pid: owner.pid() })
}

impl<P: Trust, K: OneReceiver> Sender<P, K> {
    /// Sends a copy of `message`, and gives a receipt that tells when the receiver has taken it; waits while the ring is full,
    /// not for the receiver. [`Reservation::commit_acknowledged`](crate::Reservation::commit_acknowledged) and
    /// [`Batch::commit_acknowledged`](crate::Batch::commit_acknowledged) do the same in place.
    ///
    /// # Errors
    /// As for [`send`](Sender::send).
    pub fn send_acknowledged(&mut self, message: &[u8]) -> Result<Receipt, SendError> {
        self.send_acknowledged_within(message, Patience::Endless)
    }

    /// As [`send_acknowledged`](Sender::send_acknowledged), if there is room now. Never blocks.
    ///
    /// # Errors
    /// [`SendError::Full`], and those of [`send`](Sender::send).
    pub fn try_send_acknowledged(&mut self, message: &[u8]) -> Result<Receipt, SendError> {
        self.send_acknowledged_within(message, Patience::None)
    }

    fn send_acknowledged_within(&mut self, message: &[u8], patience: Patience) -> Result<Receipt, SendError> {
        let mut reservation = self.reserve_within(message.len(), &patience)?;
        reservation.write_at(0, message);
        Ok(reservation.commit_acknowledged())
    }

    /// Waits until the receiver has released everything before `end`.
    pub(super) fn wait_until_taken(
        &mut self,
        end: Position,
        deadline: Option<Deadline>,
    ) -> Result<(), NotTaken> {
        let (vigil, inner, before) = (&self.attachment.vigil, &self.attachment.inner, self.before);
        let Some(counts) = K::counts(&inner.memory, self.producer.slot()) else {
            return Err(NotTaken::Disconnected);
        };
        let receiver = &inner.memory.receiver().claim;
        let sleeper = vigil.sleeper(inner.bell_of_senders(), counts);
        let found = sleeper.until_release(&mut self.spin, deadline, |look| {
            let died = || vigil.died_in(receiver).map(|dead| NotTaken::PeerDied { pid: dead.pid() });
            let gone = if look == Look::Spinning { None } else { gone(inner, before).or_else(died) };
            // After the look at who has gone: what that one has released counts.
            if inner.memory.head().has_reached(end) { Some(Ok(())) } else { gone.map(Err) }
        });
        K::bury(&inner.memory, vigil);
        found.unwrap_or(Err(NotTaken::TimedOut))
    }
}

/// What is done with a receipt once it is known what became of it.
type Callback = Box<dyn FnOnce(Result<(), NotTaken>) + Send>;

/// Calls back when messages were taken, one after the other, from a thread of its own.
///
/// Meant for the receipts of one ring, whose messages are taken in order: each callback is called when all before it were. So
/// receipts of different rings wait for each other; give each ring its own. Of rings for many senders, all senders' receipts
/// can go to one, in the order in which they were sent or not.
///
/// Dropping it waits for the thread, which no longer waits for the receiver: what is not taken by then is called back with
/// [`NotTaken::TimedOut`]. A callback may drop it, too: those behind it are called once that one has returned.
///
/// A forked child has no such thread: what is given to this there is called back at once, with [`NotTaken::Forked`], and dropping
/// it there does nothing.
///
/// ```
/// # use ringpost::{Callbacks, unnamed};
/// # let ring = unnamed().memfd()?;
/// # let (mut sender, mut receiver) = (ring.sender()?, ring.receiver()?);
/// let callbacks = Callbacks::new()?;
/// let (tell, told) = std::sync::mpsc::channel();
/// callbacks.when_taken(sender.send_acknowledged(b"hi")?, move |taken| tell.send(taken).unwrap());
/// drop(receiver.recv()?);
/// assert_eq!(told.recv()?, Ok(()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Callbacks {
    /// `None` while it is dropped.
    queue: Option<mpsc::Sender<(Receipt, Callback)>>,
    /// 1 when nobody waits any more.
    over: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
    /// That of the thread.
    generation: Generation,
}

impl Callbacks {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new() -> io::Result<Self> {
        let (queue, receipts) = mpsc::channel::<(Receipt, Callback)>();
        let over = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&over);
        let call = move || {
            for (receipt, callback) in receipts {
                let outcome = wait_unless(&seen, &receipt);
                // The next ones are called all the same; the panic was reported where it happened.
                let _ = panic::catch_unwind(AssertUnwindSafe(|| callback(outcome)));
            }
        };
        let thread = thread::Builder::new().name("ringpost-callbacks".into()).spawn(call)?;
        Ok(Self { queue: Some(queue), over, thread: Some(thread), generation: Generation::current() })
    }

    /// Calls `callback` when the message was taken, or when its receiver has gone before, behind the callbacks that were given
    /// earlier. Never blocks. A callback that takes long holds up those behind it.
    pub fn when_taken(&self, receipt: Receipt, callback: impl FnOnce(Result<(), NotTaken>) + Send + 'static) {
        if !self.generation.lasts() {
            callback(Err(NotTaken::Forked));
        } else if let Some(queue) = &self.queue {
            // The thread is there as long as this is.
            let _ = queue.send((receipt, Box::new(callback)));
        }
    }
}

/// What becomes of the message, until nobody waits any more.
fn wait_unless(over: &AtomicU32, receipt: &Receipt) -> Result<(), NotTaken> {
    loop {
        let outcome = receipt.wait_timeout(LOOK_AFTER);
        // ORDERING: Relaxed, of one process; nothing is read through it.
        if outcome != Err(NotTaken::TimedOut) || over.load(Relaxed) != 0 {
            return outcome;
        }
    }
}

impl Drop for Callbacks {
    fn drop(&mut self) {
        let (queue, thread) = (self.queue.take(), self.thread.take());
        if !self.generation.lasts() {
            // A forked child has neither the thread nor its callbacks, and the queue may be locked for ever.
            mem::forget((queue, thread));
            return;
        }
        // ORDERING: Relaxed, of one process; nothing is read through it.
        self.over.store(1, Relaxed);
        drop(queue);
        // A callback does not wait for itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            // It ends well: callbacks that panic are caught.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::channel::builder;

    #[test]
    fn a_receipt_waits_for_no_lock_that_a_fork_has_left_taken() {
        let ring = builder::unnamed().memfd().unwrap();
        let receipt = ring.sender().unwrap().send_acknowledged(b"hi").unwrap();
        let inner = Arc::clone(&receipt.inner);
        // As it is in the child for ever.
        let _held = inner.spin_of_receipts.lock().unwrap();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || tell.send(receipt.wait_timeout(Duration::ZERO)));
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(Err(NotTaken::TimedOut)));
    }
}
