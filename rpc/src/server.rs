//! The side that answers.

mod engine;

use crate::{
    clock::Deadline,
    codec::Frame,
    context::{Context, Session},
    durable::Durable,
    ending::{Ending, LOOK_AFTER, Stop},
    error::{BindError, Refusal},
    interface::{Description, Service},
    owner::Owner,
    registry,
    wire::{self, Again, AnswerHeader, CallHeader, Hello, Luggage, Unclaimed},
};
use engine::{Engine, Exact, Undone, Volatile};
use ringpost::{
    Duplex, Incoming, LinkError, Listener, Message, OpenError, PeerCredentials, Receiver, RecvError, Region,
    RegionError, SendError, Sender, WaitStrategy,
};
use std::{
    cell::Cell,
    convert::Infallible,
    fmt, slice,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, TryFromBytes};

/// Before a listener that could not accept is asked again: it may have no descriptor left.
const PAUSE: Duration = Duration::from_millis(10);

/// What a server sees happen, in the order in which it does for each call: for logs, for statistics, for tests.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Somebody has connected and could not be accepted.
    NotAccepted(&'a OpenError),
    /// A client has bound.
    Bound {
        /// Its session.
        session: Session,
        /// Its process.
        peer: PeerCredentials,
    },
    /// A message has come, and still lies in the ring.
    Arrived,
    /// The message was taken out of the ring.
    Received,
    /// The deadline had passed: the call was not done, and the client is told so.
    TooLate {
        /// Of the call.
        session: Session,
        /// Of the call in its session.
        number: u64,
    },
    /// The client is gone: the call was not done.
    Cancelled {
        /// Of the call.
        session: Session,
        /// Of the call in its session.
        number: u64,
    },
    /// The method has returned, and its answer is written. In a durable service, what it did is not committed.
    Executed,
    /// What the method did, and its answer, are committed; in a durable service only.
    Committed,
    /// The call was done before, and gets the answer that it got then; in a durable service only.
    Replayed,
    /// The answer is under way.
    Answered,
    /// A client is gone.
    Gone {
        /// Its session.
        session: Session,
    },
}

/// Bytes of a state whose copies fit into any stack.
const SMALL_STATE: usize = 64 << 10;
/// More copies of a state than one call has on its stack: ten were seen, without optimisation.
const COPIES: usize = 16;
/// Bytes of stack for all but copies of the state, as the standard library has them.
const STACK: usize = 2 << 20;

type Observe = dyn Fn(&Event<'_>) + Send + Sync;

/// Whom the events are told, if anybody wants to hear them.
#[derive(Clone, Default)]
struct Observer(Option<Arc<Observe>>);

impl Observer {
    #[inline]
    fn tell(&self, event: &Event<'_>) {
        if let Some(observer) = &self.0 {
            observer(event);
        }
    }
}

/// Answers calls: each client has a thread here, from when it connects; so none waits for another.
///
/// It ends with its process, or in order when somebody says so:
///
/// ```no_run
/// # #[ringpost_rpc::interface]
/// # pub trait Counter {
/// #     fn add(&mut self, by: u64) -> u64;
/// # }
/// # #[derive(Clone)]
/// # struct Sum(u64);
/// # impl Counter for Sum {
/// #     fn add(&mut self, by: u64) -> u64 {
/// #         by
/// #     }
/// # }
/// # fn wait_for_a_signal() {}
/// let (server, stop) = ringpost_rpc::Server::bind("counter")?.with_stop();
/// std::thread::spawn(move || {
///     wait_for_a_signal(); // or whatever the program ends by
///     stop.stop();
/// });
/// server.serve(CounterServer(Sum(0))); // comes back when the calls that it was in are answered
/// # Ok::<(), ringpost_rpc::BindError>(())
/// ```
pub struct Server {
    listener: Arc<Listener>,
    wait: WaitStrategy,
    observer: Observer,
    /// `None` where nobody can say that it is to end.
    ending: Option<Arc<Ending>>,
}

impl Server {
    /// A server of this name in the [`registry`]: others of this user can bind to it. Waits while another one begins to listen
    /// there, a second at most.
    ///
    /// # Errors
    /// [`BindError::Name`], [`BindError::Registry`]; [`BindError::Open`] when another server has the name.
    pub fn bind(name: &str) -> Result<Self, BindError> {
        Ok(Self::on(ringpost::listen(registry::path(name)?)?))
    }

    /// A server with this listener, which says where it is and how large messages can be.
    pub fn on(listener: Listener) -> Self {
        let listener = Arc::new(listener);
        Self { listener, wait: WaitStrategy::default(), observer: Observer::default(), ending: None }
    }

    /// How its threads wait for calls.
    pub fn wait(self, strategy: WaitStrategy) -> Self {
        Self { wait: strategy, ..self }
    }

    /// Calls `observer` with each event, in the thread where it happens.
    pub fn observe(self, observer: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        Self { observer: Observer(Some(Arc::new(observer))), ..self }
    }

    /// With what ends it: then [`serve`](Self::serve) comes back as soon as the calls that it is in are answered, each client's
    /// thread has ended, and the state of a durable service is free for a successor; who takes no answers is waited for 200 ms at
    /// most. It does not serve again. Costs a look every 100 ms in each client's thread while that waits.
    pub fn with_stop(self) -> (Self, Stop) {
        let ending = self.ending.unwrap_or_else(|| Arc::new(Ending::new()));
        let stop = Stop::of(&ending, &self.listener);
        (Self { ending: Some(ending), ..self }, stop)
    }

    /// Answers calls until somebody says [stop](Self::with_stop), or for ever; at most once or at least once each. Each client gets its
    /// own clone of the service; what they share is behind an [`Arc`]. After a panic of a method, its client gets a new clone.
    ///
    /// # Panics
    /// In a child that was forked after the listener began to listen: it is its parent's.
    pub fn serve<S: Service + Clone + Send + 'static>(&self, service: S) {
        self.accept(|| Volatile { service: service.clone(), initial: service.clone() });
    }

    /// As [`serve`](Self::serve), exactly once each: one call after the other, each on a copy of the state that is committed
    /// together with the answer.
    ///
    /// # Panics
    /// In a child that was forked after the state was opened, or the listener began to listen: they are its parent's.
    pub fn serve_exactly_once<S>(&self, durable: Durable<S::Implementation>)
    where
        S: Service + 'static,
        S::Implementation: TryFromBytes + IntoBytes + Immutable + Send + 'static,
    {
        assert!(durable.is_ours(), "the state belongs to the parent of this process");
        let presence = durable.presence();
        let durable = Arc::new(Mutex::new(durable));
        self.accept(|| Exact::<S> {
            durable: Arc::clone(&durable),
            presence: Arc::clone(&presence),
            attendance: None,
            owner: Owner::default(),
        })
    }

    fn accept<E: Engine + 'static>(&self, engine: impl Fn() -> E) {
        let interface = Arc::new(Description::of::<<E::Service as Service>::Interface>());
        // Each thread of a client has a clone, and nothing is ever sent: who receives learns when the last one has ended.
        let (attendance, attended) = mpsc::channel::<Infallible>();
        while let Some(incoming) = self.incoming() {
            match incoming {
                Ok(incoming) => {
                    let (interface, observer, wait, ending) =
                        (Arc::clone(&interface), self.observer.clone(), self.wait, self.ending.clone());
                    let (engine, attendance) = (engine(), attendance.clone());
                    let converse = move || {
                        // Whoever waits for this thread finds that the service is gone as well: the last one is dropped first.
                        let (_attendance, engine) = (attendance, engine);
                        match incoming.accept_duplex() {
                            Ok(mut link) => {
                                link.sender.set_wait(wait);
                                link.receiver.set_wait(wait);
                                Conversation { link, engine, observer, ending }.hold(&interface);
                            }
                            Err(error) => observer.tell(&Event::NotAccepted(&error)),
                        }
                    };
                    // Without a thread for it the client learns that it was lost.
                    let _ = thread_for(E::STATE_BYTES).spawn(converse);
                }
                Err(OpenError::Link(LinkError::Forked)) => {
                    panic!("the listener belongs to the parent of this process")
                }
                Err(error) => {
                    self.observer.tell(&Event::NotAccepted(&error));
                    thread::sleep(PAUSE);
                }
            }
        }
        drop(attendance);
        let _ = attended.recv();
    }

    /// The next client; `None` when the server is to end.
    fn incoming(&self) -> Option<Result<Incoming, OpenError>> {
        match &self.ending {
            None => Some(self.listener.incoming()),
            Some(ending) => ending.incoming(&self.listener),
        }
    }
}

/// A thread whose stack has room for the copies of a state that one call makes.
fn thread_for(state_bytes: usize) -> thread::Builder {
    let thread = thread::Builder::new().name("ringpost-rpc".into());
    if state_bytes <= SMALL_STATE {
        return thread;
    }
    thread.stack_size(state_bytes.saturating_mul(COPIES).saturating_add(STACK))
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("path", &self.listener.path()).finish()
    }
}

/// One client and its link.
struct Conversation<E> {
    link: Duplex,
    engine: E,
    observer: Observer,
    ending: Option<Arc<Ending>>,
}

impl<E: Engine> Conversation<E> {
    fn hold(&mut self, interface: &Description) {
        let Some(session) = self.greet(interface) else { return };
        let _ = self.answer_all(session);
        self.observer.tell(&Event::Gone { session });
    }

    fn is_to_end(&self) -> bool {
        self.ending.as_deref().is_some_and(Ending::is_said)
    }

    /// Hears what the client wants; `None` when they can't agree.
    fn greet(&mut self, interface: &Description) -> Option<Session> {
        let (kind, hello) = loop {
            if self.is_to_end() {
                return None;
            }
            if let Some(message) = next(&mut self.link.receiver, self.ending.as_deref())? {
                break (message.kind(), message.to_vec());
            }
        };
        if kind != wire::HELLO {
            return None;
        }
        let (version, _) = u32::read_from_prefix(&hello).ok()?;
        if version != wire::VERSION {
            let _ = self.link.sender.send_kind(wire::OTHER_VERSION, wire::VERSION.as_bytes());
            return None;
        }
        let hello = Hello::read_from_bytes(&hello).ok()?;
        let asked = hello.asks_for()?;
        let (kind, words) = if hello.interface != interface.hash() {
            (wire::OTHER_INTERFACE, interface.text())
        } else if !E::PROMISES.contains(&asked) {
            (wire::NO_SUCH_PROMISE, "")
        } else {
            (wire::WELCOME, "")
        };
        let words = &words.as_bytes()[..words.len().min(self.link.sender.longest_message())];
        if kind != wire::WELCOME {
            let _ = self.link.sender.send_kind(kind, words);
            return None;
        }
        let (session, peer) = (Session(hello.session), self.link.peer());
        self.engine.welcome(session, peer);
        self.observer.tell(&Event::Bound { session, peer });
        // If it is gone already, that is found in the next step.
        let _ = self.link.sender.send_kind(kind, words);
        Some(session)
    }

    /// Answers until the client is gone.
    fn answer_all(&mut self, session: Session) -> Option<()> {
        let Self { link, engine, observer, ending } = self;
        let ending = ending.as_deref();
        let (mut arguments, mut answer) = (Frame::default(), Frame::default());
        let (mut luggage, mut again) = (Luggage::default(), None);
        let gone = Cell::new(false);
        loop {
            let is_to_end = || ending.is_some_and(Ending::is_said);
            let message = match next(&mut link.receiver, ending)? {
                Some(message) if message.kind() == wire::GOODBYE => {
                    engine.goodbye(session);
                    return None;
                }
                // What was received just now, or comes yet, is not begun.
                _ if is_to_end() => return say_closing(&mut link.sender),
                Some(message) => message,
                None => continue,
            };
            let kind = message.kind();
            if kind == Region::KIND {
                luggage.take(&message)?;
                continue;
            }
            if kind == wire::AGAIN {
                again = Some(read::<Again>(&message)?);
                continue;
            }
            observer.tell(&Event::Arrived);
            let header: CallHeader = wire::open(&message, &mut arguments.bytes)?;
            drop(message);
            let is_complete = match luggage.claim(header.regions, &mut arguments.regions) {
                Ok(()) => true,
                Err(Unclaimed::Shortage(_)) => false,
                Err(Unclaimed::Nonsense) => return None,
            };
            observer.tell(&Event::Received);
            let number = header.number;
            let again = again.take().filter(|again: &Again| again.number == number);
            let context = Context::new(link, &gone, header.deadline(), session, number);
            let may_begin = || {
                if context.client_is_gone() {
                    Err(Undone::Cancelled)
                } else if header.deadline().passed() {
                    Err(Undone::TooLate)
                } else if is_to_end() {
                    Err(Undone::Closing)
                } else {
                    Ok(())
                }
            };
            let is_forgotten = |engine: &E| again.is_some_and(|again| !engine.remembers(session, &again));
            let arguments_of_call = is_complete.then_some(&mut arguments);
            let done = may_begin().and_then(|()| match is_forgotten(engine) {
                true => Err(Refusal::Forgotten.into()),
                false => engine.answer(kind, &context, may_begin, arguments_of_call, &mut answer, observer),
            });
            let outcome = match done {
                Ok(()) => wire::DONE,
                Err(Undone::Refused(refusal)) => refusal.code(),
                Err(Undone::TooLate) => {
                    observer.tell(&Event::TooLate { session, number });
                    wire::TOO_LATE
                }
                Err(Undone::Cancelled) => {
                    observer.tell(&Event::Cancelled { session, number });
                    continue;
                }
                Err(Undone::Closing) => return say_closing(&mut link.sender),
            };
            if outcome != wire::DONE {
                answer.clear();
            }
            arguments.regions.clear();
            reply(link, number, outcome, &answer, ending).ok()?;
            answer.clear();
            observer.tell(&Event::Answered);
        }
    }
}

/// The next message; after a while none, where the server may be to end; `None` when the client is gone.
#[inline]
fn next<'a>(receiver: &'a mut Receiver, ending: Option<&Ending>) -> Option<Option<Message<'a>>> {
    match ending {
        None => receiver.recv().map(Some).ok(),
        Some(_) => match receiver.recv_timeout(LOOK_AFTER) {
            Err(RecvError::TimedOut) => Some(None),
            received => received.map(Some).ok(),
        },
    }
}

/// Tells the client that nothing more is begun. Who has no room for that for so long does not listen.
#[cold]
fn say_closing(sender: &mut Sender) -> Option<()> {
    if let Ok(mut room) = sender.reserve_timeout(0, LOOK_AFTER) {
        room.set_kind(wire::CLOSING);
        room.commit();
    }
    None
}

#[cold]
fn read<T: FromBytes>(message: &Message<'_>) -> Option<T> {
    T::read_from_bytes(&message.to_vec()).ok()
}

/// Waits while the client takes no answers; when the server is to end, a moment.
#[inline]
fn reply(
    link: &mut Duplex,
    number: u64,
    kind: u16,
    answer: &Frame,
    ending: Option<&Ending>,
) -> Result<(), SendError> {
    let header = AnswerHeader { number, regions: answer.regions.len() as u64 };
    let length = size_of::<AnswerHeader>() + answer.bytes.len();
    let refuse =
        |link: &mut Duplex, refusal: Refusal| reply(link, number, refusal.code(), &Frame::default(), ending);
    if length > link.sender.longest_message() {
        return refuse(link, Refusal::AnswerTooLong);
    }
    for region in &answer.regions {
        let is_late = |error: &RegionError| matches!(error, RegionError::Send(SendError::TimedOut));
        let sent = Ending::persist(ending, is_late, |timeout| {
            wire::send_regions(&mut link.sender, slice::from_ref(region), Deadline::after(timeout))
        });
        match sent {
            Err(error) if wire::is_shortage(&error) => return refuse(link, Refusal::Shortage),
            sent => sent.map_err(wire::as_message)?,
        }
    }
    let is_late = |error: &SendError| *error == SendError::TimedOut;
    Ending::persist(ending, is_late, |timeout| {
        let mut room = match timeout {
            None => link.sender.reserve(length)?,
            Some(timeout) => link.sender.reserve_timeout(length, timeout)?,
        };
        // From the end: the header lies in the line that the client polls.
        room.write_at(size_of::<AnswerHeader>(), &answer.bytes);
        room.write_at(0, header.as_bytes());
        room.set_kind(kind);
        room.commit();
        Ok(())
    })
}
