//! Receiving, sending and receipts as futures, for any runtime.
//!
//! A task that would wait leaves its sleep to the thread that sleeps for event loops (`sys/porter.rs`), and is woken by it. The
//! handshake is the same: the sleep is announced, then a last look, and only then does the thread sleep; so no wake is lost.

use super::{
    patience::Patience,
    receipt::Receipt,
    reservation::Reservation,
    select::{Berth, Insider, Post, Source},
    sender::{OneReceiver, PATIENCE, Sender, SenderKind, Single},
    trust::{Trust, Untrusted},
};
use crate::{
    error::{NotTaken, RecvError, SendError},
    sys::{
        clock::Deadline,
        porter::{self, Armed, Signal},
    },
    wait::{self, Look, Sleeper},
};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

/// The task that waits, until it was called.
struct Task(Mutex<Option<Waker>>);

impl Task {
    /// From now on this is the one to be woken; false when there was a call before.
    fn still_waits(&self, waker: &Waker) -> bool {
        let mut waiting = self.lock();
        let waits = waiting.is_some();
        let before = if waits { waiting.replace(waker.clone()) } else { None };
        // It may be the last of its task: nothing is locked when that goes.
        drop(waiting);
        drop(before);
        waits
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signal for Task {
    fn raise(&self) -> Option<Waker> {
        self.lock().take()
    }

    fn clear(&self) {}
}

/// The sleep of a task, while there is one. Dropping it ends it.
#[derive(Default)]
struct Sleep(Option<(Armed, Arc<Task>)>);

impl Sleep {
    /// Whether it lasts since an earlier poll, which has looked, and wakes the task at the next call.
    fn lasts(&self, context: &Context<'_>) -> bool {
        self.0.as_ref().is_some_and(|(armed, task)| armed.is_own() && task.still_waits(context.waker()))
    }

    #[inline]
    fn end(&mut self) {
        if let Some((armed, task)) = self.0.take() {
            Self::leave(armed, &task);
        }
    }

    #[cold]
    fn leave(armed: Armed, task: &Task) {
        // A forked child drops nothing of its parent's executor.
        let is_own = armed.is_own();
        drop(armed);
        if is_own {
            // Its waker goes here: whatever that does, it does not do it in the thread that sleeps for all, which still has the task.
            drop(task.raise());
        }
    }

    /// Looks, and if there is nothing has the task woken as soon as it is worth looking again. `eager_after` is as of a
    /// [`Sleeper`]. Where the system refuses the thread, the task is to be polled again at once.
    #[cold]
    fn begin<T>(
        &mut self,
        context: &Context<'_>,
        berth: Berth,
        eager_after: Option<Duration>,
        mut look: impl FnMut(Look) -> Option<T>,
    ) -> Poll<T> {
        self.end();
        let berth = Arc::new(berth.lent());
        let sleeper = Sleeper { eager_after, ..berth.sleeper() };
        let mut found = None;
        let ticket = wait::arm(&sleeper, |why| {
            found = look(why);
            found.is_some()
        });
        match (found, ticket) {
            (Some(found), _) => return Poll::Ready(found),
            (None, Some(ticket)) => {
                let task = Arc::new(Task(Mutex::new(Some(context.waker().clone()))));
                let pause = eager_after.filter(|pause| !pause.is_zero());
                let until = pause.into_iter().chain(sleeper.slice).min().map(Deadline::after);
                let post = Post { berth: Arc::clone(&berth), ticket };
                self.0 = porter::watch(vec![Box::new(post)], until, &task).ok().map(|armed| (armed, task));
            }
            (None, None) => {}
        }
        if self.0.is_none() {
            sleeper.is_back();
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.end();
    }
}

/// The next thing that a source gives: a message, or why there will be none. From [`Source::received`].
///
/// ```
/// use ringpost::Source;
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     let mut future = std::pin::pin!(future);
/// #     let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// #     loop {
/// #         if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut context) { return done; }
/// #     }
/// # }
/// let ring = ringpost::unnamed().memfd()?;
/// let (mut sender, mut receiver) = (ring.sender()?, ring.receiver()?);
/// # block_on(async {
/// sender.sent(b"hi").await?;
/// let message = receiver.received().await?;
/// assert_eq!(message.to_vec(), b"hi");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropping it consumes nothing: until it is ready it has only looked, and what it has found it gives at once. So it can be
/// dropped for a timer, or for another future that was faster. The message itself is released, as ever, when it is dropped.
/// Leaked ([`mem::forget`](std::mem::forget)) while it waits, it takes no wake from its source, which goes on; at a mailbox it may
/// have been called, and nobody is called in its stead until that handle is used again or dropped.
///
/// It needs no runtime and no descriptor: the thread of [`Readiness`](crate::Readiness) sleeps for all futures of the process.
/// It never blocks and never polls; where the system refuses that thread, it asks to be polled again and again.
///
/// # Errors
/// [`RecvError`]: those of the blocking form, but neither `Empty` nor `TimedOut`.
///
/// # Panics
/// When it is polled after it was ready.
#[must_use = "a future does nothing until it is awaited"]
pub struct Receiving<'a, S: Source> {
    /// Before the source: what is slept on is of no use any more when that has gone.
    sleep: Sleep,
    /// `None` once it is ready.
    source: Option<&'a mut S>,
}

impl<'a, S: Source> Receiving<'a, S> {
    pub(super) fn new(source: &'a mut S) -> Self {
        Self { sleep: Sleep::default(), source: Some(source) }
    }
}

impl<'a, S: Source> Future for Receiving<'a, S> {
    type Output = Result<S::Given<'a>, RecvError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { sleep, source } = &mut *self;
        let ready = source.as_mut().expect(READY);
        if sleep.lasts(context) && !ready.is_ready(Look::Spinning) {
            return Poll::Pending;
        }
        loop {
            // It takes nothing while it sleeps: at a mailbox it would be called for what comes next, and be gone.
            sleep.end();
            if let Some(found) = find(*ready) {
                let source = source.take().expect(READY);
                return Poll::Ready(found.map(|found| source.give(found)));
            }
            let (berth, look) = (ready.berth(), |why| ready.is_ready(why).then_some(()));
            if sleep.begin(context, berth, None, look).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

const READY: &str = "it was ready before";

fn find<S: Source>(source: &mut S) -> Option<Result<S::Found, RecvError>> {
    Some(source.find(Insider(()))).filter(|found| !matches!(found, Err(RecvError::Empty)))
}

impl<S: Source> Drop for Receiving<'_, S> {
    fn drop(&mut self) {
        self.sleep.end();
        if let Some(source) = &mut self.source {
            source.leave();
        }
    }
}

impl<S: Source + fmt::Debug> fmt::Debug for Receiving<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiving").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Room for one message, in place in the ring. From [`Sender::reserved`].
///
/// Dropping it reserves nothing: until it is ready it holds no room, and what it has got it gives at once.
///
/// # Errors
/// [`SendError`]: those of the blocking form, but neither `Full` nor `TimedOut`.
///
/// # Panics
/// When it is polled after it was ready.
#[must_use = "a future does nothing until it is awaited"]
pub struct Reserving<'a, P: Trust = Untrusted, K: SenderKind = Single> {
    /// Before the sender, as in [`Receiving`].
    sleep: Sleep,
    /// `None` once it is ready.
    sender: Option<&'a mut Sender<P, K>>,
    /// Bytes.
    length: usize,
    /// Whether it has slept for much room, and now wants any.
    eager: bool,
}

impl<'a, P: Trust, K: SenderKind> Future for Reserving<'a, P, K> {
    type Output = Result<Reservation<'a, P, K>, SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { sleep, sender, length, eager } = &mut *self;
        let ready = sender.as_mut().expect(READY);
        let length = match ready.check_length(*length) {
            Ok(length) => length,
            Err(error) => {
                *sender = None;
                return Poll::Ready(Err(error));
            }
        };
        let mut found = reserve_now(ready, length);
        if found.is_none() && !sleep.lasts(context) {
            let eager_after = if std::mem::replace(eager, true) { Duration::ZERO } else { PATIENCE };
            let berth = Berth::of(&ready.attachment, ready.generation);
            found = match sleep.begin(context, berth, Some(eager_after), |_| reserve_now(ready, length)) {
                Poll::Ready(found) => Some(found),
                Poll::Pending => None,
            };
        }
        let Some(found) = found else { return Poll::Pending };
        sleep.end();
        let sender = sender.take().expect(READY);
        Poll::Ready(found.map(|()| {
            let reserved = sender.open();
            Reservation::new(sender, reserved)
        }))
    }
}

/// Reserves room if there is any now, or says why there will be none. What is reserved is asked of the sender: it travels in registers so.
#[inline]
fn reserve_now<P: Trust, K: SenderKind>(
    sender: &mut Sender<P, K>,
    length: u32,
) -> Option<Result<(), SendError>> {
    match sender.room_for(length, &Patience::None) {
        Ok(_) => Some(Ok(())),
        Err(SendError::Full | SendError::AtCeiling { .. }) => None,
        Err(error) => Some(Err(error)),
    }
}

impl<P: Trust, K: SenderKind> fmt::Debug for Reserving<'_, P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserving").field("length", &self.length).finish_non_exhaustive()
    }
}

impl<P: Trust, K: SenderKind> Sender<P, K> {
    /// Room for a message of `length` bytes, as a future of whatever runtime.
    pub fn reserved(&mut self, length: usize) -> Reserving<'_, P, K> {
        Reserving { sleep: Sleep::default(), sender: Some(self), length, eager: false }
    }

    /// Sends a copy of `message`, as a future of whatever runtime: it is ready as soon as there was room. Dropping it before that
    /// sends nothing.
    ///
    /// # Errors
    /// As for [`send`](Sender::send).
    pub async fn sent(&mut self, message: &[u8]) -> Result<(), SendError> {
        let mut reservation = self.reserved(message.len()).await?;
        reservation.write_at(0, message);
        reservation.commit();
        Ok(())
    }
}

impl<P: Trust, K: OneReceiver> Sender<P, K> {
    /// As [`sent`](Sender::sent), and gives a receipt, whose [`taken`](Receipt::taken) is a future of its own.
    ///
    /// # Errors
    /// As for [`send`](Sender::send).
    pub async fn sent_acknowledged(&mut self, message: &[u8]) -> Result<Receipt, SendError> {
        let mut reservation = self.reserved(message.len()).await?;
        reservation.write_at(0, message);
        Ok(reservation.commit_acknowledged())
    }
}

/// Ready when the receiver has released a message, or has gone without. From [`Receipt::taken`]. Dropping it changes nothing.
///
/// # Errors
/// [`NotTaken`]: those of [`Receipt::wait`].
///
/// It may be polled again after it was ready, and says then what has become of the message by now.
#[must_use = "a future does nothing until it is awaited"]
pub struct Taking {
    sleep: Sleep,
    receipt: Receipt,
}

impl Receipt {
    /// Whether the receiver has released the message, or has gone without, as a future of whatever runtime.
    pub fn taken(&self) -> Taking {
        Taking { sleep: Sleep::default(), receipt: self.clone() }
    }
}

impl Future for Taking {
    type Output = Result<(), NotTaken>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { sleep, receipt } = &mut *self;
        if !receipt.is_own() {
            return Poll::Ready(Err(NotTaken::Forked));
        }
        if let Some(known) = receipt.look(Look::BeforeSleep) {
            sleep.end();
            return Poll::Ready(known);
        }
        if sleep.lasts(context) {
            return Poll::Pending;
        }
        // It is woken at each release.
        sleep.begin(context, receipt.berth(), Some(Duration::ZERO), |why| receipt.look(why))
    }
}

impl fmt::Debug for Taking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taking").field("receipt", &self.receipt).finish_non_exhaustive()
    }
}
