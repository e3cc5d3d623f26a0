//! Which task is woken, by which thread, and what a bad waker or a fork may not do.

use super::*;

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

/// A waker that fails when it goes.
struct Brittle;

impl Wake for Brittle {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Brittle {
    fn drop(&mut self) {
        panic!("a waker that panics when it is dropped");
    }
}

#[test]
fn a_waker_that_panics_when_it_is_dropped_does_so_where_its_future_is_dropped_and_holds_up_nobody() {
    let (ring, other) = (ringpost::unnamed().memfd().unwrap(), ringpost::unnamed().memfd().unwrap());
    let (_sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let (mut sender, mut beside) = (other.sender().unwrap(), other.receiver().unwrap());
    let mut receiving = receiver.received();
    assert_waits(Pin::new(&mut receiving), &Waker::from(Arc::new(Brittle)));
    let mut is_called = || {
        let (alarm, waker) = Alarm::new();
        let mut receiving = beside.received();
        assert_waits(Pin::new(&mut receiving), &waker);
        sender.send(b"hi").unwrap();
        alarm.wait(0);
        drop(block_on(receiving).unwrap());
    };
    // By then the thread that sleeps for futures sleeps for the first one, too.
    is_called();
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(receiving)));
    is_called();
    assert!(dropped.is_err());
}

/// A waker that holds up who calls it, until the door is opened.
struct Doorkeeper {
    arrives: mpsc::Sender<()>,
    door: Mutex<mpsc::Receiver<()>>,
}

impl Wake for Doorkeeper {
    fn wake(self: Arc<Self>) {
        self.arrives.send(()).unwrap();
        self.door.lock().unwrap().recv().unwrap();
    }
}

#[test]
fn a_future_that_was_leaked_while_it_waited_takes_no_wake_from_its_handle() {
    is_called_although_a_future_was_leaked("leak");
}

#[test]
fn a_future_that_was_leaked_while_it_waited_takes_no_wake_from_who_has_its_handles_seat_now() {
    is_called_although_a_future_was_leaked("leak-and-leave");
}

fn is_called_although_a_future_was_leaked(role: &str) {
    let ring = Shared::new(Way::Inherit, |builder| builder.mailbox(4));
    let child = started(&ring, role);
    let mut mailbox = ring.ring.mailbox().unwrap();
    for number in [1, 2] {
        assert_eq!(child.hear_before_the_end(), Some(0));
        mailbox.send(0, &numbered(number)).unwrap();
    }
    assert_eq!(child.hear_before_the_end(), Some(2));
    child.finish();
}

/// Sleeps for a second message while the sleep of a future that was leaked ends by the first one, which comes late: the thread that
/// sleeps for futures is held up meanwhile.
///
/// `leaves`: the handle is dropped after the leak, and another one takes its seat.
pub fn leak_while_waiting(ring: &Ring, line: &Line, leaves: bool) {
    let mut mailbox = ring.mailbox().unwrap();
    line.tell(0);
    let (first, last) = (ringpost::unnamed().memfd().unwrap(), ringpost::unnamed().memfd().unwrap());
    let (mut before, mut behind) = (first.receiver().unwrap(), last.receiver().unwrap());
    let (mut to_before, mut to_behind) = (first.sender().unwrap(), last.sender().unwrap());

    let (arrives, has_arrived) = mpsc::channel();
    let (open, door) = mpsc::channel();
    let doorkeeper = Waker::from(Arc::new(Doorkeeper { arrives, door: Mutex::new(door) }));
    let mut held_up = before.received();
    assert_waits(Pin::new(&mut held_up), &doorkeeper);
    let mut leaked = Box::pin(mailbox.received());
    assert_waits(leaked.as_mut(), Waker::noop());
    mem::forget(leaked);
    if leaves {
        drop(mailbox);
        mailbox = ring.mailbox().unwrap();
    }
    let (alarm, waker) = Alarm::new();
    let mut behind = behind.received();
    assert_waits(Pin::new(&mut behind), &waker);

    to_before.send(b"come").unwrap();
    has_arrived.recv().unwrap();
    to_behind.send(b"come").unwrap();
    line.tell(0);
    assert_eq!(number_of(&mailbox.recv_timeout(Pick::Any, FAR).unwrap().to_vec()), 1);
    let sleeps = || ring.statistics().readers.iter().map(|reader| reader.sleeps).sum::<u64>();
    let slept = sleeps();
    thread::scope(|threads| {
        threads.spawn(|| {
            while sleeps() == slept {
                thread::yield_now();
            }
            open.send(()).unwrap();
            // Then it has seen the end of the leaked one's sleep, too.
            alarm.wait(0);
            line.tell(0);
        });
        // Without a time-out, at which it would look once more.
        line.tell(number_of(&mailbox.recv(Pick::Any).unwrap().to_vec()));
    });
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
pub fn limit_threads() {
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

pub fn fork_while_waiting(mut receiver: Receiver, line: &Line) {
    let (alarm, waker) = Alarm::new();
    let mut receiving = Some(receiver.received());
    assert_waits(Pin::new(receiving.as_mut().unwrap()), &waker);
    assert_in_fork(|| {
        let mut theirs = receiving.take().unwrap();
        matches!(poll(Pin::new(&mut theirs), Waker::noop()), Poll::Ready(Err(RecvError::Forked)))
    });
    line.tell(0);
    line.hear();
    alarm.wait(0);
    line.tell(number_of(&block_on(receiving.unwrap()).unwrap().to_vec()));
}
