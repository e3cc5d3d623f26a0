//! `mq_notify` is exact: one notice, when a message comes to an empty queue and nobody receives. Who is told is another process.

mod common;

use common::{Child, FAR, Line, Name};
use ringpost::{
    Pick, Ring, Source, builder,
    posix::{
        Mqd, O_CREAT, O_RDWR, SigEvent, mq_getattr, mq_notify, mq_open, mq_send, mq_timedreceive, mq_unlink,
    },
};
use std::{
    fs::File,
    future::Future,
    io::ErrorKind,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
    thread,
    time::{Duration, Instant},
};

const DONE: u64 = 100;
const BUSY: u64 = 101;
/// And how many messages there were.
const TOLD: u64 = 200;

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        // Registers as often as it hears something, and says whether it was registered already; says what it is told.
        ["be-told", name] => {
            let mut queue = mq_open(name, O_RDWR, 0, None).unwrap();
            let line = Arc::new(line);
            while line.next().is_some() {
                line.tell(register(&mut queue, name, &line));
            }
        }
        // Receives, and holds the message until it is killed.
        ["hold", name] => {
            let ring = builder(format!("mq.{}", &name[1..])).open().unwrap();
            let mut mailbox = ring.mailbox().unwrap();
            let letter = mailbox.recv(Pick::Any).unwrap();
            line.tell(letter.to_vec()[0].into());
            line.next();
        }
        ["receive", name, times] => {
            let mut queue = mq_open(name, O_RDWR, 0, None).unwrap();
            line.tell(0);
            (0..times.parse().unwrap()).for_each(|_| {
                receive(&mut queue);
            });
            line.tell(0);
        }
        ["send", name, times] => {
            let mut queue = mq_open(name, O_RDWR, 0, None).unwrap();
            line.tell(0);
            (0..times.parse().unwrap()).for_each(|_| mq_send(&mut queue, &[9], 0).unwrap());
            line.tell(0);
        }
        _ => panic!("no such role: {words:?}"),
    });
}

fn register(queue: &mut Mqd, name: &str, line: &Arc<Line>) -> u64 {
    let (line, name) = (Arc::clone(line), name.to_owned());
    let tell = move || {
        let queue = mq_open(&name, O_RDWR, 0, None).unwrap();
        line.tell(TOLD + u64::from(mq_getattr(&queue).mq_curmsgs));
    };
    match mq_notify(queue, Some(SigEvent::Thread(Box::new(tell)))).map_err(|error| error.kind()) {
        Ok(()) => DONE,
        Err(ErrorKind::ResourceBusy) => BUSY,
        Err(other) => panic!("{other}"),
    }
}

fn receive(queue: &mut Mqd) -> u8 {
    let mut text = [0; 8192];
    mq_timedreceive(queue, &mut text, FAR).unwrap();
    text[0]
}

/// A queue, and who is to be told.
struct Scene {
    name: String,
    queue: Mqd,
    told: Child,
}

impl Scene {
    fn new() -> Self {
        let name = format!("/{}", &*Name::new());
        let queue = mq_open(&name, O_RDWR | O_CREAT, 0o600, None).unwrap();
        let told = Child::start(&format!("be-told {name}"));
        Self { name, queue, told }
    }

    fn send(&mut self, numbers: &[u8]) {
        numbers.iter().for_each(|&number| mq_send(&mut self.queue, &[number], 0).unwrap());
    }

    fn receive(&mut self, numbers: &[u8]) {
        numbers.iter().for_each(|&number| assert_eq!(receive(&mut self.queue), number));
    }

    #[track_caller]
    fn register(&self) -> u64 {
        self.told.tell(0);
        self.hear()
    }

    #[track_caller]
    fn hear(&self) -> u64 {
        self.told.hear_before_the_end().unwrap()
    }

    fn ring(&self) -> Ring {
        builder(format!("mq.{}", &self.name[1..])).open().unwrap()
    }

    fn path(&self) -> String {
        format!("/dev/shm/ringpost.mq.{}", &self.name[1..])
    }

    /// Waits until the one at this seat has gone to sleep: as a receiver, or to be told.
    fn sleeps_at(&self, seat: u8) {
        let ring = self.ring();
        let asleep = || ring.statistics().readers.iter().any(|one| one.slot == seat && one.sleeps > 0);
        while !asleep() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Message 1 calls a receiver, in the fourth seat, that was stopped in its sleep.
    #[track_caller]
    fn call_one_who_stands_still(&mut self) -> Child {
        self.sleeps_at(3);
        let receiver = Child::start(&format!("receive {} 1", self.name));
        receiver.hear();
        self.sleeps_at(4);
        receiver.stop();
        self.send(&[1]);
        self.expect_nothing();
        receiver
    }

    /// It stays registered, however long nobody does anything.
    #[track_caller]
    fn expect_nothing(&self) {
        for _ in 0..30 {
            assert_eq!(self.register(), BUSY);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = mq_unlink(&self.name);
    }
}

#[test]
fn a_queue_that_was_never_empty_is_not_told_of_although_all_that_were_there_have_gone() {
    let mut scene = Scene::new();
    scene.send(&[1]);
    assert_eq!(scene.register(), DONE);
    scene.send(&[2, 3]);
    scene.receive(&[1]);
    scene.expect_nothing();
    scene.send(&[4]);
    scene.receive(&[2, 3]);
    scene.expect_nothing();
    scene.receive(&[4]);
    scene.expect_nothing();
    scene.send(&[5]);
    assert_eq!(scene.hear(), TOLD + 1);
}

#[test]
fn a_message_is_told_of_that_was_received_before_who_is_told_has_looked() {
    let mut scene = Scene::new();
    assert_eq!(scene.register(), DONE);
    for number in 0..50 {
        scene.send(&[number]);
        scene.receive(&[number]);
        // It can be registered anew at once, whether it was told yet or not.
        scene.told.tell(0);
        let mut heard = [scene.hear(), scene.hear()];
        heard.sort_unstable();
        assert!(heard[0] == DONE && [TOLD, TOLD + 1].contains(&heard[1]), "{heard:?}");
    }
}

#[test]
fn a_message_that_is_held_in_place_is_still_there_and_again_when_its_holder_dies() {
    let mut scene = Scene::new();
    scene.send(&[1]);
    assert_eq!(scene.register(), DONE);
    let mut holder = Child::start(&format!("hold {}", scene.name));
    assert_eq!(holder.hear(), 1);
    scene.send(&[2]);
    scene.expect_nothing();
    holder.kill();
    // Its death may become known before the next message is received, or after.
    let first = receive(&mut scene.queue);
    scene.expect_nothing();
    assert_eq!(first + receive(&mut scene.queue), 3);
    scene.send(&[3]);
    assert_eq!(scene.hear(), TOLD + 1);
}

#[test]
fn a_message_is_told_of_when_the_receiver_that_was_called_for_it_is_killed_before_it_is_awake() {
    let mut scene = Scene::new();
    assert_eq!(scene.register(), DONE);
    let mut receiver = scene.call_one_who_stands_still();
    receiver.kill();
    assert_eq!(scene.hear(), TOLD + 1);
    scene.receive(&[1]);
}

/// Its time had run out: it sleeps no more, and has not called anybody in its stead yet.
#[test]
fn a_message_is_told_of_when_the_receiver_that_was_called_for_it_is_killed_as_it_leaves() {
    let mut scene = Scene::new();
    assert_eq!(scene.register(), DONE);
    let mut receiver = scene.call_one_who_stands_still();
    // The first thing that it does: it takes its bit out of those who sleep for a message, the first word of the data area.
    let file = File::options().read(true).write(true).open(scene.path()).unwrap();
    let word = |at| {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, at).unwrap();
        u64::from_ne_bytes(word)
    };
    let data = word(32) & 0xffff_ffff;
    assert_eq!(word(data), 1 << 3 | 1 << 4);
    file.write_all_at(&(1_u64 << 3).to_ne_bytes(), data).unwrap();
    receiver.kill();
    assert_eq!(scene.hear(), TOLD + 1);
    scene.receive(&[1]);
}

/// Whoever frees a cell would look at all cells for it.
#[test]
fn who_is_killed_while_it_is_registered_is_not_registered_any_more() {
    let mut scene = Scene::new();
    assert_eq!(scene.register(), DONE);
    let file = File::open(scene.path()).unwrap();
    // The lowest bits of the word of the third seat, as `docs/LAYOUT.md` has it.
    let step = || {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, 8704 + 2 * 256 + 64).unwrap();
        u64::from_ne_bytes(word) & 3
    };
    assert_eq!(step(), 2);
    scene.told.kill();
    let begun = Instant::now();
    while step() != 0 {
        mq_getattr(&scene.queue);
        assert!(begun.elapsed() < FAR);
    }
}

#[test]
fn a_message_is_told_of_although_somebody_comes_before_the_death_of_who_was_called_is_known() {
    let mut scene = Scene::new();
    assert_eq!(scene.register(), DONE);
    let mut receiver = scene.call_one_who_stands_still();
    // Nobody hears of it but who comes now, and closes the seat of the dead.
    scene.told.stop();
    receiver.kill();
    drop(scene.ring().mailbox().unwrap());
    scene.told.resume();
    assert_eq!(scene.hear(), TOLD + 1);
    scene.receive(&[1]);
}

#[test]
fn a_message_is_told_of_when_the_future_that_was_called_for_it_is_dropped() {
    let mut scene = Scene::new();
    assert_eq!(scene.register(), DONE);
    let mut mailbox = scene.ring().mailbox().unwrap();
    let mut receiving = mailbox.received();
    let context = &mut Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut receiving).poll(context).is_pending());
    scene.send(&[1]);
    scene.expect_nothing();
    drop(receiving);
    assert_eq!(scene.hear(), TOLD + 1);
}

/// However their steps fall together: when a queue is empty, the next message is told of once, and nobody is told before.
#[test]
fn after_a_throng_who_is_registered_is_told_of_the_next_message_to_the_empty_queue() {
    let rounds = if std::env::var_os("RINGPOST_LONG").is_some() { 500 } else { 10 };
    for _ in 0..rounds {
        let mut scene = Scene::new();
        // It is there from the first to the last: the queue is never empty.
        mq_send(&mut scene.queue, &[1], 0).unwrap();
        let held = scene.ring().mailbox().unwrap().recv(Pick::Any).unwrap();
        assert_eq!(scene.register(), DONE);
        let throng: Vec<_> = ["send", "receive", "send", "receive"]
            .map(|role| Child::start(&format!("{role} {} 200", scene.name)))
            .into_iter()
            .collect();
        throng.iter().for_each(|child| assert_eq!(child.hear(), 0));
        throng.iter().for_each(|child| assert_eq!(child.hear(), 0));
        assert_eq!(scene.register(), BUSY, "something was there all the time");
        drop(held);
        assert_eq!(scene.register(), BUSY);
        scene.send(&[2]);
        assert_eq!(scene.hear(), TOLD + 1);
        throng.into_iter().for_each(Child::finish);
    }
}
