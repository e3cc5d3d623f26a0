//! A handler for each source.

use super::{Key, Select, SourceId, berth::Flag, error::SelectError, source::Source};
use crate::{error::RecvError, sys::poll::Interest};
use std::{collections::BTreeMap, fmt, ops::ControlFlow, os::fd::AsFd, sync::Arc};

/// Calls a handler for each message of many rings, and for descriptors: what [`Select`] tells of, in its order.
///
/// The handlers are called one at a time, by the thread that runs this. A handler that panics ends [`run`](Dispatcher::run) with
/// that panic; its message is released, and another `run` goes on with the next. So does a message that was damaged, which no
/// handler gets: [`SelectError::Damaged`] names it.
///
/// ```
/// use ringpost::Dispatcher;
///
/// let ring = ringpost::unnamed().in_process()?;
/// let mut heard = Vec::new();
/// let mut dispatcher = Dispatcher::new().on(ring.receiver()?, |message| heard.push(message.to_vec()))?;
/// std::thread::scope(|threads| {
///     threads.spawn(|| ring.sender().unwrap().send(b"hi").unwrap()); // and closes
///     dispatcher.run() // until the last source has ended, or somebody says stop
/// })?;
/// drop(dispatcher);
/// assert_eq!(heard, [b"hi"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Dispatcher<'h> {
    select: Select,
    handlers: BTreeMap<SourceId, Handler<'h>>,
    flag: Arc<Flag>,
    stop: SourceId,
}

/// Serves a source that is ready, once.
type Handler<'h> = Box<dyn FnMut(&mut Select) -> Result<Served, SelectError> + 'h>;

/// What has become of a source that was served.
enum Served {
    GoesOn,
    /// It was taken out.
    Ended,
}

impl<'h> Dispatcher<'h> {
    /// No sources yet.
    pub fn new() -> Self {
        let (mut select, flag) = (Select::new(), Arc::new(Flag::default()));
        let stop = select.add_ring(Arc::clone(&flag)).expect("there is room for the first").id();
        Self { select, handlers: BTreeMap::new(), flag, stop }
    }

    /// Calls `handler` for each message of the source, until it has ended; at most 126 such sources at a time.
    ///
    /// # Errors
    /// As [`Select::add`].
    pub fn on<S: Source>(
        self,
        source: S,
        handler: impl for<'a> FnMut(S::Given<'a>) + 'h,
    ) -> Result<Self, SelectError> {
        self.on_with_end(source, handler, |_, _| {})
    }

    /// As [`on`](Dispatcher::on), and calls `end` when the source has ended, with the source, which is no more of this value, and
    /// why.
    ///
    /// # Errors
    /// As [`Select::add`].
    pub fn on_with_end<S: Source>(
        mut self,
        source: S,
        handler: impl for<'a> FnMut(S::Given<'a>) + 'h,
        end: impl FnOnce(S, RecvError) + 'h,
    ) -> Result<Self, SelectError> {
        self.add(source, handler, end)?;
        Ok(self)
    }

    /// As [`on_with_end`](Dispatcher::on_with_end), between two turns.
    ///
    /// # Errors
    /// As [`Select::add`].
    pub fn add<S: Source>(
        &mut self,
        source: S,
        mut handler: impl for<'a> FnMut(S::Given<'a>) + 'h,
        end: impl FnOnce(S, RecvError) + 'h,
    ) -> Result<Key<S>, SelectError> {
        let key = self.select.add(source).map_err(beside_stop)?;
        let mut end = Some(end);
        let serve = move |select: &mut Select| {
            let Some(source) = select.get_mut(key) else { return Ok(Served::Ended) };
            let error = match source.try_next() {
                Ok(given) => {
                    handler(given);
                    return Ok(Served::GoesOn);
                }
                // A false alarm.
                Err(RecvError::Empty) => return Ok(Served::GoesOn),
                Err(RecvError::Damaged { sequence }) => {
                    return Err(SelectError::Damaged { source: key.id(), sequence });
                }
                Err(error) => error,
            };
            if let (Some(end), Some(source)) = (end.take(), select.remove(key)) {
                end(source, error);
            }
            Ok(Served::Ended)
        };
        self.handlers.insert(key.id(), Box::new(serve));
        Ok(key)
    }

    /// Calls `handler` whenever the descriptor is ready, until it breaks: then the descriptor is dropped. It must read, or write,
    /// what there is, or is called again at once.
    ///
    /// # Errors
    /// As [`Select::add_fd`].
    pub fn on_fd<F: AsFd + Send + 'static>(
        mut self,
        fd: F,
        interest: Interest,
        handler: impl FnMut(&mut F) -> ControlFlow<()> + 'h,
    ) -> Result<Self, SelectError> {
        self.add_fd(fd, interest, handler)?;
        Ok(self)
    }

    /// As [`on_fd`](Dispatcher::on_fd), between two turns.
    ///
    /// # Errors
    /// As [`Select::add_fd`].
    pub fn add_fd<F: AsFd + Send + 'static>(
        &mut self,
        fd: F,
        interest: Interest,
        mut handler: impl FnMut(&mut F) -> ControlFlow<()> + 'h,
    ) -> Result<Key<F>, SelectError> {
        let key = self.select.add_fd(fd, interest)?;
        let serve = move |select: &mut Select| {
            let going_on = select.get_mut(key).map_or(ControlFlow::Break(()), &mut handler);
            if going_on.is_continue() {
                return Ok(Served::GoesOn);
            }
            select.remove(key);
            Ok(Served::Ended)
        };
        self.handlers.insert(key.id(), Box::new(serve));
        Ok(key)
    }

    /// Takes a source out, with its handlers; `None` when it has ended.
    pub fn remove<S: 'static>(&mut self, key: Key<S>) -> Option<S> {
        let source = self.select.remove(key)?;
        self.handlers.remove(&key.id());
        Some(source)
    }

    /// What ends [`run`](Dispatcher::run), from a handler or another thread.
    pub fn stop(&self) -> Stop {
        Stop { flag: Arc::clone(&self.flag) }
    }

    /// Calls handlers until the last source has ended, or somebody says stop. Waits while there is nothing to do.
    ///
    /// # Errors
    /// As [`Select::wait`]; and [`SelectError::Damaged`], after which another `run` goes on with the next message.
    pub fn run(&mut self) -> Result<(), SelectError> {
        while self.turn()? {}
        Ok(())
    }

    /// Calls one handler; waits for the next source that is ready. False when the last source has ended, or somebody has
    /// said stop; that counts once, and the next call goes on.
    ///
    /// # Errors
    /// As for [`run`](Dispatcher::run).
    pub fn turn(&mut self) -> Result<bool, SelectError> {
        if self.flag.is_raised() || self.select.len() == 1 {
            self.flag.lower();
            return Ok(false);
        }
        let ready = self.select.wait()?;
        if ready == self.stop {
            self.flag.lower();
            return Ok(false);
        }
        if let Some(handler) = self.handlers.get_mut(&ready)
            && let Served::Ended = handler(&mut self.select)?
        {
            self.handlers.remove(&ready);
        }
        Ok(true)
    }
}

/// What refuses a source, which counts the flag that stops as one.
fn beside_stop(error: SelectError) -> SelectError {
    match error {
        SelectError::TooMany { most } => SelectError::TooMany { most: most - 1 },
        other => other,
    }
}

impl Default for Dispatcher<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Dispatcher<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").field("sources", &self.handlers.keys()).finish()
    }
}

/// Ends [`Dispatcher::run`]. From [`Dispatcher::stop`].
#[derive(Clone)]
pub struct Stop {
    flag: Arc<Flag>,
}

impl Stop {
    /// The dispatcher calls no handler after the one that it is in. Never blocks.
    pub fn stop(&self) {
        self.flag.raise();
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop").field("said", &self.flag.is_raised()).finish()
    }
}
