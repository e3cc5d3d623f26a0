//! A round trip of 64 bytes between two processes that both sleep on one processor: by what one of them is woken.

use crate::{
    SIZE, message, number,
    other::{self, Other},
    print_table, take_turns, taken,
};
use ringpost::{Builder, Interest, Readiness, Receiver, Select, Sender, Source, WaitStrategy, unnamed};
use rustix::event::{PollFd, PollFlags, poll};
use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Instant,
};

const ROUND_TRIPS: u64 = 20_000;
const WARM_UP: u64 = 1_000;

/// What completes futures: the thread sleeps until it is woken.
pub struct Sleepy(Waker);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Sleepy {
    pub fn new() -> Self {
        Self(Arc::new(Unpark(thread::current())).into())
    }

    #[inline]
    pub fn complete<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&self.0)) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    }
}

fn builder() -> Builder {
    unnamed().wait(WaitStrategy::Sleep)
}

/// A way to wait for the answer.
struct Way {
    name: &'static str,
    round_trips: fn(Sender, Receiver) -> f64,
}

const WAYS: &[Way] = &[
    Way { name: "`recv_into`", round_trips: by_receiving },
    Way { name: "`Select`, one ring", round_trips: by_select },
    Way { name: "`Select`, one ring and one descriptor", round_trips: by_select_with_descriptor },
    Way { name: "`Readiness` and `poll`", round_trips: by_readiness },
    Way { name: "a future, woken by a thread", round_trips: by_future },
    Way { name: "a receipt instead of an answer", round_trips: by_receipt },
];

/// Microseconds of a round trip.
fn measure(mut round_trip: impl FnMut(&[u8; SIZE])) -> f64 {
    (0..WARM_UP).for_each(|number| round_trip(&message(number)));
    let start = Instant::now();
    (WARM_UP..WARM_UP + ROUND_TRIPS).for_each(|number| round_trip(&message(number)));
    start.elapsed().as_secs_f64() * 1e6 / ROUND_TRIPS as f64
}

fn by_receiving(mut sender: Sender, mut receiver: Receiver) -> f64 {
    let mut answer = [0; SIZE];
    measure(|message| {
        sender.send(message).unwrap();
        receiver.recv_into(&mut answer).unwrap();
        assert_eq!(number(&answer), number(message));
    })
}

fn by_select(sender: Sender, receiver: Receiver) -> f64 {
    by_selecting(Select::new(), sender, receiver)
}

/// The descriptor never has anything.
fn by_select_with_descriptor(sender: Sender, receiver: Receiver) -> f64 {
    let (silent, _open) = std::io::pipe().unwrap();
    let mut select = Select::new();
    select.add_fd(silent, Interest::Readable).unwrap();
    by_selecting(select, sender, receiver)
}

fn by_selecting(mut select: Select, mut sender: Sender, receiver: Receiver) -> f64 {
    select.set_wait(WaitStrategy::Sleep);
    let key = select.add(receiver).unwrap();
    measure(|message| {
        sender.send(message).unwrap();
        let answer = loop {
            match taken(select[key].try_recv()) {
                Some(answer) => break answer,
                None => assert_eq!(select.wait().unwrap(), key),
            }
        };
        assert_eq!(answer, number(message));
    })
}

fn by_readiness(mut sender: Sender, receiver: Receiver) -> f64 {
    let mut receiver = Readiness::new(receiver).unwrap();
    measure(|message| {
        sender.send(message).unwrap();
        let answer = loop {
            if let Some(answer) = taken(receiver.try_recv()) {
                break answer;
            }
            if !receiver.arm().unwrap() {
                poll(&mut [PollFd::new(&receiver, PollFlags::IN)], None).unwrap();
            }
        };
        assert_eq!(answer, number(message));
    })
}

fn by_future(mut sender: Sender, mut receiver: Receiver) -> f64 {
    let sleepy = Sleepy::new();
    measure(|message| {
        sender.send(message).unwrap();
        assert_eq!(taken(sleepy.complete(receiver.received())), Some(number(message)));
    })
}

fn by_receipt(mut sender: Sender, receiver: Receiver) -> f64 {
    // The other side's `send` finds nobody who would read the answer.
    drop(receiver);
    measure(|message| sender.send_acknowledged(message).unwrap().wait().unwrap())
}

/// In the other process.
pub fn answer(role: &[String]) {
    other::pin(0);
    let [questions, answers] = [&role[0], &role[1]].map(|descriptor| other::open(&builder(), descriptor));
    let (mut receiver, mut sender) = (questions.receiver().unwrap(), answers.sender().unwrap());
    other::await_begin();
    let mut message = [0; SIZE];
    while receiver.recv_into(&mut message).is_ok() {
        // Who waits for a receipt has gone from the other ring.
        let _ = sender.send(&message);
    }
}

pub fn compare() {
    other::pin(0);
    let measured = take_turns(WAYS, |way| {
        let (questions, asked) = other::make(&builder());
        let (answers, answered) = other::make(&builder());
        let mut other = Other::start(format!("waking {} {}", other::name(&asked), other::name(&answered)));
        let (sender, receiver) = (questions.sender().unwrap(), answers.receiver().unwrap());
        other.begin();
        (way.round_trips)(sender, receiver)
    });
    print_table("a round trip asleep, one processor, us", WAYS.iter().map(|way| way.name).zip(measured));
}
