//! A link as a transport of the [`tarpc`](https://docs.rs/tarpc) crate, so that its services can move over.
//!
//! The messages are tarpc's, written by postcard within the bounds of all calls (128 levels); so deadlines, cancellation and concurrency are tarpc's as well. Each
//! direction has a thread, which sleeps while there is nothing to do: it does not wake before something comes, or the transport
//! is dropped. (Before Linux 5.16 the one that receives looks every millisecond.)

use crate::{bounded, error::Malformed};
use futures_core::Stream;
use futures_sink::Sink;
use ringpost::{Dispatcher, Duplex, Message, Receiver, RecvError, Sender, Stop};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    cell::Cell,
    fmt, io,
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as std_mpsc},
    task::{Context, Poll, Waker, ready},
    thread,
};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

/// Messages between a thread and the tasks.
const MOST_WAITING: usize = 64;

/// Both directions of a link: a stream of what the other end sends, a sink for what goes there.
///
/// The stream ends when the other end has closed, and gives one error before when it died
/// ([`io::ErrorKind::ConnectionAborted`]). All that was sent before is received. What was flushed has left this process; when the
/// transport is dropped, what else the sink has taken is still sent, as long as this process lives.
pub struct Transport<Item, SinkItem> {
    incoming: mpsc::Receiver<io::Result<Item>>,
    outgoing: PollSender<Vec<u8>>,
    unsent: Arc<Unsent>,
    longest: usize,
    /// Ends the thread that receives.
    stop: Option<Stop>,
    sent: PhantomData<fn(SinkItem)>,
}

/// A transport over this link, whose both ends are transports.
///
/// # Errors
/// When there is no thread to be had.
pub fn transport<Item, SinkItem>(link: Duplex) -> io::Result<Transport<Item, SinkItem>>
where
    Item: DeserializeOwned + Send + 'static,
{
    let (sender, receiver) = link.split();
    let longest = sender.longest_message();
    let (received, incoming) = mpsc::channel(MOST_WAITING);
    let (outgoing, to_send) = mpsc::channel(MOST_WAITING);
    let unsent = Arc::new(Unsent::default());
    let sending = Arc::clone(&unsent);
    let thread = |name: &str| thread::Builder::new().name(name.into());
    thread("ringpost-send").spawn(move || send_all(sender, to_send, &sending))?;
    let (tell, told) = std_mpsc::channel();
    thread("ringpost-recv").spawn(move || receive_all(receiver, &received, tell))?;
    // It says so as soon as it runs; if it can't, it has said why.
    let stop = told.recv().ok();
    Ok(Transport { incoming, outgoing: PollSender::new(outgoing), unsent, longest, stop, sent: PhantomData })
}

fn send_all(mut sender: Sender, mut to_send: mpsc::Receiver<Vec<u8>>, unsent: &Unsent) {
    while let Some(message) = to_send.blocking_recv() {
        let sent = sender.send(&message);
        unsent.tell(sent.is_ok());
        if sent.is_err() {
            // The other thread tells why.
            return;
        }
    }
}

/// What the sink has taken, and the ring has not.
#[derive(Default)]
struct Unsent(Mutex<Backlog>);

#[derive(Default)]
struct Backlog {
    messages: usize,
    /// The other end takes no more.
    is_lost: bool,
    /// Who waits until all are sent.
    flushing: Option<Waker>,
}

impl Unsent {
    fn lock(&self) -> MutexGuard<'_, Backlog> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next of them was sent, or could not be: then nothing will be.
    fn tell(&self, is_sent: bool) {
        let mut backlog = self.lock();
        backlog.messages -= usize::from(is_sent);
        backlog.is_lost |= !is_sent;
        let is_over = backlog.messages == 0 || backlog.is_lost;
        let flushing = if is_over { backlog.flushing.take() } else { None };
        drop(backlog);
        if let Some(task) = flushing {
            task.wake();
        }
    }

    /// Whether all are sent; who asks is woken then.
    fn poll_none(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let mut backlog = self.lock();
        if backlog.messages == 0 {
            return Poll::Ready(Ok(()));
        }
        if backlog.is_lost {
            return Poll::Ready(Err(closed()));
        }
        let before = backlog.flushing.replace(context.waker().clone());
        // It may be the last of its task: nothing is locked when that goes.
        drop(backlog);
        drop(before);
        Poll::Pending
    }
}

/// Until the other end is gone, or the transport is: nobody takes what comes then, or the stop that was told is used.
fn receive_all<Item: DeserializeOwned>(
    receiver: Receiver,
    received: &mpsc::Sender<io::Result<Item>>,
    tell: std_mpsc::Sender<Stop>,
) {
    let is_wanted = Cell::new(true);
    let give = |item| is_wanted.set(received.blocking_send(item).is_ok());
    let read = |message: Message<'_>| {
        let bytes = message.to_vec();
        drop(message);
        give(
            bounded::read(&bytes)
                .map(|(item, _)| item)
                .map_err(|error| invalid(io::ErrorKind::InvalidData, error)),
        );
    };
    let end = |_: Receiver, error| match error {
        RecvError::Disconnected => {}
        error => give(Err(error.into())),
    };
    let mut dispatcher = match Dispatcher::new().on_with_end(receiver, read, end) {
        Ok(dispatcher) => dispatcher,
        Err(error) => return give(Err(error.into())),
    };
    let _ = tell.send(dispatcher.stop());
    while is_wanted.get() {
        match dispatcher.turn() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return give(Err(error.into())),
        }
    }
}

fn invalid(kind: io::ErrorKind, error: Malformed) -> io::Error {
    io::Error::new(kind, error)
}

fn closed() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl<Item, SinkItem> Stream for Transport<Item, SinkItem> {
    type Item = io::Result<Item>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().incoming.poll_recv(context)
    }
}

impl<Item, SinkItem: Serialize> Sink<SinkItem> for Transport<Item, SinkItem> {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let reserved = ready!(self.get_mut().outgoing.poll_reserve(context));
        Poll::Ready(reserved.map_err(|_| closed()))
    }

    fn start_send(self: Pin<&mut Self>, item: SinkItem) -> io::Result<()> {
        let transport = self.get_mut();
        let message = bounded::write(&item, Vec::new());
        let message = message.map_err(|error| invalid(io::ErrorKind::InvalidInput, error))?;
        if message.len() > transport.longest {
            let why = format!("{} bytes, and the link takes up to {}", message.len(), transport.longest);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        transport.unsent.lock().messages += 1;
        transport.outgoing.send_item(message).map_err(|_| closed())
    }

    /// Ready when all that was taken lies in the ring, where it stays whatever becomes of this process, and there is room: tarpc asks
    /// for room, and flushes while there is none, in a loop without end. (Also while tokio only wants the task to let others go on.)
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let transport = self.get_mut();
        ready!(transport.unsent.poll_none(context))?;
        if transport.outgoing.is_closed() {
            return Poll::Ready(Ok(()));
        }
        transport.outgoing.poll_reserve(context).map_err(|_| closed())
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let transport = self.get_mut();
        transport.outgoing.close();
        transport.unsent.poll_none(context)
    }
}

impl<Item, SinkItem> Drop for Transport<Item, SinkItem> {
    fn drop(&mut self) {
        if let Some(stop) = &self.stop {
            stop.stop();
        }
    }
}

impl<Item, SinkItem> fmt::Debug for Transport<Item, SinkItem> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("longest", &self.longest).finish()
    }
}
