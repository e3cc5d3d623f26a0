//! `mq_notify`: being told, once, that a message has come to an empty queue. Who is told is another process.

mod common;

use common::{Child, FAR, Line, Name};
use ringpost::{
    Ring, builder,
    posix::{
        Mqd, O_CREAT, O_RDWR, SigEvent, mq_getattr, mq_notify, mq_open, mq_receive, mq_send, mq_timedreceive,
        mq_unlink,
    },
};
use std::{
    io::ErrorKind,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

#[test]
fn child_process() {
    common::play_role(act);
}

fn act(words: &[&str], line: Line) {
    let mut queue = mq_open(words[1], O_RDWR, 0, None).unwrap();
    match words[0] {
        // Registers, takes it back, or says whether it is registered, as it is told; says what it is told.
        "be-told" => {
            let line = Arc::new(line);
            while let Some(order) = line.next() {
                let answer = match order {
                    REGISTER => register(&mut queue, words[1], &line),
                    SIGNAL => {
                        catch_signals();
                        mq_notify(&mut queue, Some(SigEvent::Signal(libc::SIGUSR1)))
                    }
                    _ => mq_notify(&mut queue, None),
                };
                line.tell(match answer.map_err(|error| error.kind()) {
                    Ok(()) => DONE,
                    Err(ErrorKind::ResourceBusy) => BUSY,
                    Err(other) => panic!("{other}"),
                });
            }
        }
        "receive" => {
            line.tell(0);
            while line.next().is_some() {
                let mut text = [0; 8192];
                mq_receive(&mut queue, &mut text).unwrap();
                line.tell(text[0].into());
            }
        }
        _ => panic!("no such role: {words:?}"),
    }
}

const REGISTER: u64 = 1;
const TAKE_BACK: u64 = 2;
const SIGNAL: u64 = 3;

const DONE: u64 = 100;
const BUSY: u64 = 101;
/// And how many messages there were.
const TOLD: u64 = 200;
const SIGNALLED: u64 = 300;

fn register(queue: &mut Mqd, name: &str, line: &Arc<Line>) -> std::io::Result<()> {
    let (line, name) = (Arc::clone(line), name.to_owned());
    let tell = move || {
        let queue = mq_open(&name, O_RDWR, 0, None).unwrap();
        line.tell(TOLD + u64::from(mq_getattr(&queue).mq_curmsgs));
    };
    mq_notify(queue, Some(SigEvent::Thread(Box::new(tell))))
}

extern "C" fn tell_of_signal(_: libc::c_int) {
    let number = SIGNALLED.to_ne_bytes();
    // SAFETY: async-signal-safe; the bytes are there. The line is the standard input of a child.
    unsafe { libc::write(0, number.as_ptr().cast(), number.len()) };
}

fn catch_signals() {
    // SAFETY: the handler does what a handler may.
    unsafe { libc::signal(libc::SIGUSR1, tell_of_signal as *const () as libc::sighandler_t) };
}

/// A queue, and the handle of the test, which has the first seat.
struct Queue {
    name: String,
    queue: Mqd,
}

impl Queue {
    fn new() -> Self {
        let name = format!("/{}", &*Name::new());
        let queue = mq_open(&name, O_RDWR | O_CREAT, 0o600, None).unwrap();
        Self { name, queue }
    }

    fn child(&self, role: &str) -> Child {
        Child::start(&format!("{role} {}", self.name))
    }

    fn send(&mut self, number: u8) {
        mq_send(&mut self.queue, &[number], 0).unwrap();
    }

    fn receive(&mut self) -> u8 {
        let mut text = [0; 8192];
        mq_timedreceive(&mut self.queue, &mut text, FAR).unwrap();
        text[0]
    }

    fn ring(&self) -> Ring {
        builder(format!("mq.{}", &self.name[1..])).open().unwrap()
    }

    /// Waits until the one at this seat has gone to sleep, so many times at least.
    fn sleeps_at(&self, seat: u8, times: u64) {
        let asleep = |ring: &Ring| {
            ring.statistics().readers.iter().any(|reader| reader.slot == seat && reader.sleeps >= times)
        };
        while !asleep(&self.ring()) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let _ = mq_unlink(&self.name);
    }
}

#[track_caller]
fn order(child: &Child, order: u64) -> u64 {
    child.tell(order);
    child.hear_before_the_end().unwrap()
}

#[test]
fn a_message_that_comes_to_an_empty_queue_is_told_once_and_then_after_it_was_empty_again() {
    let mut queue = Queue::new();
    let child = queue.child("be-told");
    assert_eq!(order(&child, REGISTER), DONE);
    assert_eq!(order(&child, REGISTER), BUSY);
    queue.send(1);
    assert_eq!(child.hear_before_the_end(), Some(TOLD + 1));
    // Nobody is registered any more.
    queue.send(2);
    assert_eq!(order(&child, REGISTER), DONE);
    // It is not empty.
    queue.send(3);
    assert_eq!(order(&child, REGISTER), BUSY);
    for number in 1..=3 {
        assert_eq!(queue.receive(), number);
    }
    assert_eq!(order(&child, REGISTER), BUSY);
    queue.send(4);
    assert_eq!(child.hear_before_the_end(), Some(TOLD + 1), "when there was one");
    child.hang_up();
    child.finish();
}

#[test]
fn a_queue_that_is_empty_for_a_moment_only_is_told_of_as_well() {
    let mut queue = Queue::new();
    let child = queue.child("be-told");
    for _ in 0..50 {
        queue.send(1);
        assert_eq!(order(&child, REGISTER), DONE);
        assert_eq!(queue.receive(), 1);
        queue.send(2);
        assert_eq!(child.hear_before_the_end(), Some(TOLD + 1));
        assert_eq!(queue.receive(), 2);
    }
    child.hang_up();
    child.finish();
}

#[test]
fn who_receives_gets_the_message_and_nobody_is_told() {
    let mut queue = Queue::new();
    let told = queue.child("be-told");
    assert_eq!(order(&told, REGISTER), DONE);
    // The seats: this one, the child, who is to be told, who receives. Who sends calls the next one that sleeps.
    queue.sleeps_at(3, 1);
    let receiver = queue.child("receive");
    receiver.hear();
    for number in 1..20 {
        receiver.tell(0);
        queue.sleeps_at(4, number.into());
        queue.send(number);
        assert_eq!(receiver.hear_before_the_end(), Some(number.into()));
        assert_eq!(order(&told, REGISTER), BUSY, "it waits still");
    }
    queue.send(99);
    assert_eq!(told.hear_before_the_end(), Some(TOLD + 1));
    assert_eq!(queue.receive(), 99);
}

/// They sleep where receivers do, and must not take each other for one.
#[test]
fn of_two_who_are_registered_one_is_told() {
    let mut queue = Queue::new();
    for number in 1..6 {
        let (told, tell) = mpsc::channel();
        let mut others: Vec<_> = (0..2).map(|_| mq_open(&queue.name, O_RDWR, 0, None).unwrap()).collect();
        for other in &mut others {
            let told = told.clone();
            let event = SigEvent::Thread(Box::new(move || told.send(()).unwrap_or_default()));
            mq_notify(other, Some(event)).unwrap();
        }
        queue.send(number);
        assert_eq!(tell.recv_timeout(FAR), Ok(()), "message {number}");
        assert_eq!(queue.receive(), number);
    }
}

#[test]
fn a_registration_that_was_taken_back_is_told_nothing_and_its_seat_is_free() {
    let mut queue = Queue::new();
    let child = queue.child("be-told");
    for number in 0..100 {
        assert_eq!(order(&child, REGISTER), DONE);
        assert_eq!(order(&child, TAKE_BACK), DONE);
        queue.send(number);
        assert_eq!(order(&child, TAKE_BACK), DONE, "that is what it says first");
        assert_eq!(queue.receive(), number);
    }
    while queue.ring().statistics().readers.iter().filter(|reader| reader.attached).count() > 2 {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(order(&child, REGISTER), DONE);
    queue.send(7);
    assert_eq!(child.hear_before_the_end(), Some(TOLD + 1));
}

#[test]
fn a_signal_tells_as_well_as_a_thread() {
    let mut queue = Queue::new();
    let child = queue.child("be-told");
    for number in 0..3 {
        assert_eq!(order(&child, SIGNAL), DONE);
        queue.send(number);
        assert_eq!(child.hear_before_the_end(), Some(SIGNALLED));
        assert_eq!(queue.receive(), number);
    }
    let wrong = mq_notify(&mut queue.queue, Some(SigEvent::Signal(0)));
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn who_dies_while_it_is_registered_keeps_no_message_from_others() {
    let mut queue = Queue::new();
    let mut dies = queue.child("be-told");
    assert_eq!(order(&dies, REGISTER), DONE);
    queue.sleeps_at(3, 1);
    let receiver = queue.child("receive");
    receiver.hear();
    receiver.tell(0);
    queue.sleeps_at(4, 1);
    dies.stop();
    // It is called, and stopped: nobody but the news of its death calls the other.
    queue.send(5);
    dies.kill();
    assert_eq!(receiver.hear_before_the_end(), Some(5));
}
