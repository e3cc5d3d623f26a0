//! Receiving, sending and receipts as futures. Who is at the other end is another process.
//!
//! The executor here is a thread that parks; a few lines below.

mod common;

use common::{
    Child, FAR, Line,
    rings::{Attach, Shared, Way, child_at, open, small_rings},
};
use ringpost::{
    Many, NotTaken, Pick, Receipt, Receiver, RecvError, SendError, Sender, Single, Source, WaitStrategy,
};
use static_assertions::assert_impl_all;
use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Condvar, Mutex},
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

assert_impl_all!(ringpost::Receiving<'static, Receiver>: Send, Unpin, std::fmt::Debug);
assert_impl_all!(ringpost::Reserving<'static>: Send, Unpin, std::fmt::Debug);
assert_impl_all!(ringpost::Taking: Send, Unpin, std::fmt::Debug);

#[test]
fn child_process() {
    let Some((words, line)) = common::role() else { return };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        // Says each number on the ring, until there are no more.
        ["one", ring] => say_all::<Single>(ring, &line),
        ["many", ring] => say_all::<Many>(ring, &line),
        ["publish", ring] => {
            let mut publisher = open(ring, &line).publisher().unwrap();
            line.tell(0);
            while let Some(number) = line.next() {
                publisher.send(&number.to_ne_bytes()).unwrap();
            }
        }
        // Takes a message for each number that it hears, and tells what it is.
        ["take", ring] => {
            let mut receiver = open(ring, &line).receiver().unwrap();
            line.tell(0);
            while line.next().is_some() {
                line.tell(number_of(&receiver.recv_timeout(FAR).unwrap().to_vec()));
            }
        }
        ["take-mail", ring] => {
            let mut mailbox = open(ring, &line).mailbox().unwrap();
            mailbox.set_wait(WaitStrategy::Sleep);
            line.tell(0);
            line.tell(number_of(&mailbox.recv(Pick::Any).unwrap().to_vec()));
        }
        ["fork", ring] => fork_while_waiting(open(ring, &line).receiver().unwrap(), &line),
        ["no-thread", ring] => {
            let mut receiver = open(ring, &line).receiver().unwrap();
            // No more threads than there are.
            limit_threads();
            let (alarm, waker) = Alarm::new();
            let mut receiving = receiver.received();
            assert_waits(Pin::new(&mut receiving), &waker);
            assert_eq!(*alarm.woken.lock().unwrap(), 1, "it asks to be polled again");
            line.tell(0);
            line.tell(number_of(&block_on(receiving).unwrap().to_vec()));
        }
        _ => panic!("no such role: {words:?}"),
    }
}

fn say_all<K: Attach>(ring: &str, line: &Line) {
    let mut sender: Sender<_, K> = K::attach(&open(ring, line)).unwrap();
    line.tell(0);
    while let Some(number) = line.next() {
        sender.send(&number.to_ne_bytes()).unwrap();
    }
}

fn number_of(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes[..8].try_into().unwrap())
}

/// How often a task was woken.
#[derive(Default)]
struct Alarm {
    woken: Mutex<u64>,
    changed: Condvar,
}

impl Alarm {
    fn new() -> (Arc<Self>, Waker) {
        let alarm = Arc::new(Self::default());
        (Arc::clone(&alarm), alarm.into())
    }

    /// Sleeps until there was a wake more than `seen`; gives how many there were.
    #[track_caller]
    fn wait(&self, seen: u64) -> u64 {
        let woken = self.woken.lock().unwrap();
        let (woken, late) = self.changed.wait_timeout_while(woken, FAR, |woken| *woken == seen).unwrap();
        assert!(!late.timed_out(), "nobody has woken it");
        *woken
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() += 1;
        self.changed.notify_all();
    }
}

/// Runs a future to its end.
#[track_caller]
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let (alarm, waker) = Alarm::new();
    let mut seen = 0;
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => seen = alarm.wait(seen),
        }
    }
}

fn poll<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// Polls once, in vain.
#[track_caller]
fn assert_waits<F: Future>(future: Pin<&mut F>, waker: &Waker) {
    assert!(poll(future, waker).is_pending());
}

fn started(ring: &Shared, role: &str) -> Child {
    let child = child_at(ring, role, "");
    child.hear();
    child
}

/// Sends numbered messages until one more does not go, whichever future of a send that is; gives how many went.
fn fill<K: Attach>(sender: &mut Sender<ringpost::Untrusted, K>) -> u64 {
    let mut sent = 0;
    loop {
        let message = numbered(sent);
        let mut sending = pin!(sender.sent(&message));
        match poll(sending.as_mut(), Waker::noop()) {
            Poll::Ready(result) => result.unwrap(),
            Poll::Pending => return sent,
        }
        sent += 1;
    }
}

/// Of a thousand bytes, so that a small ring takes many.
fn numbered(number: u64) -> [u8; 1000] {
    let mut message = [0; 1000];
    message[..8].copy_from_slice(&number.to_ne_bytes());
    message
}

#[test]
fn a_message_of_another_process_completes_the_future_that_waited_for_it() {
    for (ring, kind) in small_rings() {
        let child = started(&ring, kind);
        let mut receiver = ring.ring.receiver().unwrap();
        let (alarm, waker) = Alarm::new();
        let mut seen = 0;
        for number in 1..100 {
            let mut receiving = receiver.received();
            assert_waits(Pin::new(&mut receiving), &waker);
            child.tell(number);
            let message = loop {
                seen = alarm.wait(seen);
                if let Poll::Ready(message) = poll(Pin::new(&mut receiving), &waker) {
                    break message.unwrap();
                }
            };
            assert_eq!(number_of(&message.to_vec()), number);
        }
    }
}

#[test]
fn the_end_comes_as_an_error_after_the_last_message() {
    for (ring, kind) in small_rings() {
        let child = started(&ring, kind);
        let mut receiver = ring.ring.receiver().unwrap();
        let (alarm, waker) = Alarm::new();
        assert_waits(Pin::new(&mut receiver.received()), &waker);
        child.tell(7);
        child.hang_up();
        assert_eq!(number_of(&block_on(receiver.received()).unwrap().to_vec()), 7);
        assert_eq!(block_on(receiver.received()).unwrap_err(), RecvError::Disconnected);
        child.finish();
        drop(alarm);
    }
}

#[test]
fn a_death_completes_the_future_that_waits_and_is_named() {
    for (ring, kind) in small_rings() {
        let mut child = started(&ring, kind);
        let mut receiver = ring.ring.receiver().unwrap();
        let (alarm, waker) = Alarm::new();
        let mut receiving = receiver.received();
        assert_waits(Pin::new(&mut receiving), &waker);
        let pid = child.id();
        child.kill();
        alarm.wait(0);
        assert_eq!(block_on(receiving).unwrap_err(), RecvError::PeerDied { pid, unfinished: 0 });
    }
}

#[test]
fn a_sender_sleeps_in_its_future_while_the_ring_is_full_and_goes_on_with_the_first_room() {
    for (ring, kind) in small_rings() {
        if kind == "one" { room_comes::<Single>(&ring) } else { room_comes::<Many>(&ring) }
    }
}

fn room_comes<K: Attach>(ring: &Shared) {
    let child = started(ring, "take");
    let mut sender: Sender<_, K> = K::attach(&ring.ring).unwrap();
    let count = fill(&mut sender);
    assert!(count > 4);
    let (alarm, waker) = Alarm::new();
    let (message, mut seen) = (numbered(count), 0);
    {
        let mut sending = pin!(sender.sent(&message));
        assert_waits(sending.as_mut(), &waker);
        // Far from half of the ring.
        child.tell(0);
        assert_eq!(child.hear(), 0);
        loop {
            seen = alarm.wait(seen);
            if poll(sending.as_mut(), &waker).is_ready() {
                break;
            }
        }
    }
    assert_eq!(fill(&mut sender), 0, "there was room for one");
    for number in 1..=count {
        child.tell(0);
        assert_eq!(child.hear(), number);
    }
}

#[test]
fn who_sends_in_a_future_learns_that_the_receiver_has_closed_or_died() {
    for (ring, kind) in small_rings().filter(|(_, kind)| *kind == "one") {
        assert_eq!(kind, "one");
        for dies in [false, true] {
            let mut child = started(&ring, "take");
            let mut sender = ring.ring.sender().unwrap();
            while fill(&mut sender) > 0 {}
            let (alarm, waker) = Alarm::new();
            let mut reserving = sender.reserved(1000);
            assert_waits(Pin::new(&mut reserving), &waker);
            let pid = child.id();
            if dies {
                child.kill()
            } else {
                child.hang_up()
            }
            alarm.wait(0);
            match block_on(reserving).unwrap_err() {
                SendError::PeerDied { pid: dead, .. } if dies => assert_eq!(dead, pid),
                SendError::Disconnected if !dies => {}
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_message_that_is_too_long_is_an_error_at_once() {
    let ring = ringpost::unnamed().capacity(4096).memfd().unwrap();
    let mut sender = ring.sender().unwrap();
    let longest = sender.longest_message();
    let error = SendError::TooLong { length: longest + 1, longest };
    assert_eq!(block_on(sender.sent(&vec![0; longest + 1])), Err(error));
    assert_eq!(block_on(sender.reserved(longest)).unwrap().len(), longest);
}

#[test]
fn a_receipt_is_a_future_of_the_release_and_of_the_receivers_death() {
    for (ring, kind) in small_rings() {
        let mut child = started(&ring, "take");
        let receipts =
            if kind == "one" { acknowledged::<Single>(&ring) } else { acknowledged::<Many>(&ring) };
        let (alarm, waker) = Alarm::new();
        let mut taken: Vec<_> = receipts.iter().map(Receipt::taken).collect();
        for taking in &mut taken {
            assert_waits(Pin::new(taking), &waker);
        }
        let mut seen = 0;
        for taking in &mut taken[..2] {
            child.tell(0);
            child.hear();
            while poll(Pin::new(&mut *taking), &waker).is_pending() {
                seen = alarm.wait(seen);
            }
        }
        assert_waits(Pin::new(&mut taken[2]), &waker);
        assert_eq!(block_on(receipts[0].taken()), Ok(()));
        let pid = child.id();
        child.kill();
        assert_eq!(block_on(&mut taken[2]), Err(NotTaken::PeerDied { pid }));
    }
}

#[test]
fn a_receipt_is_woken_by_the_release_of_its_message_however_full_the_ring_stays() {
    let ring = ringpost::unnamed().capacity(1 << 14).in_process().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let first = block_on(sender.sent_acknowledged(b"first")).unwrap();
    while sender.try_send(&numbered(0)).is_ok() {}
    let (alarm, waker) = Alarm::new();
    let mut taking = first.taken();
    assert_waits(Pin::new(&mut taking), &waker);
    drop(receiver.recv().unwrap());
    alarm.wait(0);
    assert_eq!(block_on(taking), Ok(()));
}

/// Receipts of three messages.
fn acknowledged<K: Attach + ringpost::OneReceiver>(ring: &Shared) -> Vec<Receipt> {
    let mut sender: Sender<_, K> = K::attach(&ring.ring).unwrap();
    (0..3).map(|number| block_on(sender.sent_acknowledged(&numbered(number))).unwrap()).collect()
}

#[test]
fn a_future_that_is_dropped_has_consumed_nothing_whether_it_was_called_or_not() {
    for (ring, kind) in small_rings() {
        let child = started(&ring, kind);
        let mut receiver = ring.ring.receiver().unwrap();
        let (alarm, waker) = Alarm::new();
        for called in [false, true] {
            let mut receiving = receiver.received();
            assert_waits(Pin::new(&mut receiving), &waker);
            if called {
                child.tell(1);
                alarm.wait(0);
            }
            drop(receiving);
        }
        child.tell(2);
        // One that nobody has polled.
        drop(receiver.received());
        for number in [1, 2] {
            assert_eq!(number_of(&block_on(receiver.received()).unwrap().to_vec()), number);
        }
    }
}

#[test]
fn a_send_that_is_dropped_has_sent_nothing_and_holds_no_room() {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(1 << 14).many_senders(4));
    let child = started(&ring, "take");
    let mut sender = ring.ring.multi_sender().unwrap();
    let count = fill(&mut sender);
    let (alarm, waker) = Alarm::new();
    {
        let message = numbered(99);
        let mut sending = pin!(sender.sent(&message));
        assert_waits(sending.as_mut(), &waker);
        child.tell(0);
        child.hear();
        alarm.wait(0);
        // There is room now, and it was woken for it.
    }
    block_on(sender.sent(&numbered(count))).unwrap();
    for number in 1..=count {
        child.tell(0);
        assert_eq!(child.hear(), number);
    }
}

#[test]
fn readers_and_publishers_of_a_broadcast_wait_in_futures_too() {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(1 << 14).broadcast(3));
    let child = started(&ring, "publish");
    let (mut one, mut other) = (ring.ring.subscriber().unwrap(), ring.ring.subscriber().unwrap());
    let (alarm, waker) = Alarm::new();
    assert_waits(Pin::new(&mut one.received()), &waker);
    let mut receiving = other.received();
    assert_waits(Pin::new(&mut receiving), &waker);
    child.tell(5);
    alarm.wait(0);
    assert_eq!(number_of(&block_on(receiving).unwrap().to_vec()), 5);
    assert_eq!(number_of(&block_on(one.received()).unwrap().to_vec()), 5);
    child.hang_up();
    child.finish();

    let mut publisher = ring.ring.publisher().unwrap();
    let mut count = 0;
    while poll(Pin::new(&mut publisher.reserved(1000)), Waker::noop()).is_ready() {
        publisher.send(&numbered(count)).unwrap();
        count += 1;
    }
    let message = numbered(count);
    thread::scope(|threads| {
        threads.spawn(|| block_on(publisher.sent(&message)).unwrap());
        // They begin behind the end of the one before.
        for reader in [&mut one, &mut other] {
            for number in 0..count {
                let message = loop {
                    match block_on(reader.received()) {
                        Ok(message) => break message,
                        Err(end) => assert_eq!(end, RecvError::Disconnected),
                    }
                };
                assert_eq!(number_of(&message.to_vec()), number);
            }
        }
    });
    assert_eq!(number_of(&block_on(one.received()).unwrap().to_vec()), count);
}

#[test]
fn a_future_of_a_mailbox_that_is_dropped_after_its_call_leaves_the_message_to_another_process() {
    let ring = Shared::new(Way::Inherit, |builder| builder.mailbox(8));
    // Seats in this order: who sends wakes the next one.
    let (mut sender, mut called) = (ring.ring.mailbox().unwrap(), ring.ring.mailbox().unwrap());
    let (alarm, waker) = Alarm::new();
    let mut receiving = called.received();
    let child = started(&ring, "take-mail");
    while ring.ring.statistics().readers.iter().all(|reader| reader.slot != 3 || reader.sleeps == 0) {
        thread::sleep(Duration::from_millis(1));
    }
    assert_waits(Pin::new(&mut receiving), &waker);
    sender.send(1, &numbered(5)).unwrap();
    alarm.wait(0);
    drop(receiving);
    assert_eq!(child.hear_before_the_end(), Some(5));
    child.finish();
}

#[test]
fn a_mailbox_gives_what_was_picked_and_its_end() {
    let ring = ringpost::unnamed().mailbox(8).memfd().unwrap();
    let (mut sender, mailbox) = (ring.mailbox().unwrap(), ring.mailbox().unwrap());
    let mut picking = mailbox.picking(Pick::Kind(2));
    sender.send(1, b"other").unwrap();
    let (alarm, waker) = Alarm::new();
    let mut receiving = picking.received();
    assert_waits(Pin::new(&mut receiving), &waker);
    sender.send(2, b"picked").unwrap();
    alarm.wait(0);
    assert_eq!(block_on(receiving).unwrap().to_vec(), b"picked");
    sender.close_for_all();
    assert_eq!(block_on(picking.received()).unwrap_err(), RecvError::Disconnected);
    assert_eq!(block_on(picking.mailbox.received()).unwrap().to_vec(), b"other");
}

#[test]
fn hundreds_wait_at_once_for_one_task_and_each_is_called() {
    const MANY: usize = 300;
    let rings: Vec<_> = (0..MANY).map(|_| ringpost::unnamed().capacity(1).in_process().unwrap()).collect();
    let mut receivers: Vec<_> = rings.iter().map(|ring| ring.receiver().unwrap()).collect();
    let mut senders: Vec<_> = rings.iter().map(|ring| ring.sender().unwrap()).collect();
    let (alarm, waker) = Alarm::new();
    let mut waiting: Vec<_> = receivers.iter_mut().map(|receiver| Some(receiver.received())).collect();
    for receiving in waiting.iter_mut().flatten() {
        assert_waits(Pin::new(receiving), &waker);
    }
    thread::scope(|threads| {
        threads.spawn(|| {
            for (number, sender) in senders.iter_mut().enumerate().rev() {
                sender.send(&number.to_ne_bytes()).unwrap();
            }
        });
        let (mut seen, mut left) = (0, MANY);
        while left > 0 {
            seen = alarm.wait(seen);
            for (number, waits) in waiting.iter_mut().enumerate() {
                let Some(receiving) = waits else { continue };
                if let Poll::Ready(message) = poll(Pin::new(receiving), &waker) {
                    assert_eq!(number_of(&message.unwrap()), number as u64);
                    (*waits, left) = (None, left - 1);
                }
            }
        }
    });
}

#[test]
fn the_task_that_has_polled_last_is_woken() {
    let ring = ringpost::unnamed().memfd().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let ((first, before), (second, after)) = (Alarm::new(), Alarm::new());
    let mut receiving = receiver.received();
    assert_waits(Pin::new(&mut receiving), &before);
    assert_waits(Pin::new(&mut receiving), &after);
    sender.send(b"hi").unwrap();
    second.wait(0);
    assert_eq!(*first.woken.lock().unwrap(), 0);
    assert_eq!(block_on(receiving).unwrap().to_vec(), b"hi");
}

/// A waker that drops a future.
struct Dropper(Mutex<Option<ringpost::Taking>>, Arc<Alarm>);

impl Wake for Dropper {
    fn wake(self: Arc<Self>) {
        let taken = self.0.lock().unwrap().take();
        drop(taken);
        Arc::clone(&self.1).wake();
    }
}

/// A waker that fails.
struct Careless(Arc<Alarm>);

impl Wake for Careless {
    fn wake(self: Arc<Self>) {
        Arc::clone(&self.0).wake();
        panic!("a waker that panics");
    }
}

#[test]
fn a_waker_that_drops_another_future_or_panics_holds_up_nobody() {
    let ring = ringpost::unnamed().memfd().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let other = ringpost::unnamed().memfd().unwrap();
    let (mut far, _holder) = (other.sender().unwrap(), other.receiver().unwrap());
    let mut taking = far.send_acknowledged(b"nobody takes it").unwrap().taken();
    assert_waits(Pin::new(&mut taking), Waker::noop());

    let (alarm, _) = Alarm::new();
    let dropper = Waker::from(Arc::new(Dropper(Mutex::new(Some(taking)), Arc::clone(&alarm))));
    let careless = Waker::from(Arc::new(Careless(Arc::clone(&alarm))));
    for (seen, waker) in [dropper, careless].iter().enumerate() {
        let mut receiving = receiver.received();
        assert_waits(Pin::new(&mut receiving), waker);
        sender.send(b"hi").unwrap();
        alarm.wait(seen as u64);
        drop(block_on(receiving).unwrap());
    }
    let (alarm, waker) = Alarm::new();
    let mut receiving = receiver.received();
    assert_waits(Pin::new(&mut receiving), &waker);
    sender.send(b"still there").unwrap();
    alarm.wait(0);
    assert_eq!(block_on(receiving).unwrap().to_vec(), b"still there");
}

#[test]
fn where_no_thread_is_to_be_had_the_future_is_completed_all_the_same() {
    let ring = Shared::new(Way::Inherit, |builder| builder);
    let child = started(&ring, "no-thread");
    ring.ring.sender().unwrap().send(&numbered(3)).unwrap();
    assert_eq!(child.hear_before_the_end(), Some(3));
    child.finish();
}

/// From now on this process gets no thread more.
fn limit_threads() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Who may do everything is not limited by the number of processes: but no stack fits into the addresses.
    let addresses = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = addresses.split_whitespace().next().unwrap().parse().unwrap();
    let bytes = pages * rustix::param::page_size() as u64 + (64 << 10);
    setrlimit(Resource::As, Rlimit { current: Some(bytes), maximum: None }).unwrap();
}

#[test]
fn a_forked_child_is_refused_and_its_parents_future_goes_on() {
    let ring = Shared::new(Way::Inherit, |builder| builder);
    let child = started(&ring, "fork");
    ring.ring.sender().unwrap().send(&numbered(9)).unwrap();
    child.tell(0);
    assert_eq!(child.hear_before_the_end(), Some(9));
    child.finish();
}

fn fork_while_waiting(mut receiver: Receiver, line: &Line) {
    let (alarm, waker) = Alarm::new();
    let mut receiving = receiver.received();
    assert_waits(Pin::new(&mut receiving), &waker);
    // SAFETY: the child ends without returning.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused =
            matches!(poll(Pin::new(&mut receiving), Waker::noop()), Poll::Ready(Err(RecvError::Forked)));
        drop(receiving);
        // SAFETY: ends this process without any clean-up that is the parent's.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let child = rustix::process::Pid::from_raw(child).unwrap();
    let (_, status) =
        rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0));
    line.tell(0);
    line.hear();
    alarm.wait(0);
    line.tell(number_of(&block_on(receiving).unwrap().to_vec()));
}
