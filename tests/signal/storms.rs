//! Signals at every moment of a thread that works, and in a ring that is full.

use super::*;

/// Allocates, locks, sends and receives while a storm of signals goes over it, until the handlers have sent enough.
pub fn work(mut sender: MultiSender, mut receiver: Receiver, line: &Line, form: &str) {
    let nested = form == "nested";
    let handler = if nested { send_ticket } else { send_next };
    handle(libc::SIGUSR1, handler, 0);
    handle(libc::SIGUSR2, if nested { handler } else { ignore }, 0);
    let enough = if common::long() { 20_000 } else { 3_000 };
    line.tell(this_thread() as u64);
    let (mut own, mut got) = (0_u64, Got { nested, ..Got::default() });
    while SENT.load(SeqCst) < enough {
        let text = format!("{own} {:?}", vec![own; own as usize % 50]);
        write!(std::io::stdout().lock(), "{text}").unwrap();
        match sender.try_send(&own.to_ne_bytes()) {
            Ok(()) => own += 1,
            // Only now: so handlers find a full ring, too.
            Err(SendError::Full) => got.all(&mut receiver),
            Err(error) => panic!("{error}"),
        }
    }
    line.tell(0);
    line.hear();
    // The storm is over; what is pending is handled with the next system call.
    got.all(&mut receiver);
    let [sent, full, busy, _] = answers();
    assert_eq!((got.own, got.handlers), (own, sent), "sent by the thread and by its handlers, and received");
    if nested {
        let answered = |ticket: &u64| ANSWERED[*ticket as usize].load(SeqCst) == 1;
        let tickets = TICKETS.load(SeqCst).min(MOST_TICKETS as u64);
        assert!((0..tickets).filter(answered).eq(got.tickets.iter().copied()));
        assert_eq!(tickets, sent + full + busy);
    } else {
        assert_eq!(busy, 0, "nothing interrupts such a handler");
    }
    eprintln!("{form}: {own} sent by the thread; by handlers {sent}, full {full}, busy {busy}");
}

extern "C" fn ignore(_: libc::c_int) {}

/// What was received.
#[derive(Default)]
struct Got {
    nested: bool,
    own: u64,
    handlers: u64,
    tickets: BTreeSet<u64>,
}

impl Got {
    fn all(&mut self, receiver: &mut Receiver) {
        loop {
            match receiver.try_recv() {
                Ok(message) if message.kind() == BY_HANDLER => {
                    let number = number(&message.to_vec());
                    if self.nested {
                        assert!(self.tickets.insert(number), "ticket {number} came twice");
                    } else {
                        assert_eq!(number, self.handlers, "of the handlers, in their order");
                    }
                    self.handlers += 1;
                }
                Ok(message) => {
                    assert_eq!(number(&message.to_vec()), self.own, "of the thread, in its order");
                    self.own += 1;
                }
                Err(RecvError::Empty) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Sends in handlers until the ring is full, and goes on when there is room.
pub fn fill(mut receiver: Receiver) {
    handle(libc::SIGUSR1, send_next, 0);
    while FULL.load(SeqCst) == 0 {
        raise(libc::SIGUSR1);
    }
    let [sent, ..] = answers();
    raise(libc::SIGUSR1);
    assert_eq!(answers(), [sent, 2, 0, 0]);
    for number in 0..sent {
        assert_eq!(receiver.recv().unwrap().to_vec(), number.to_ne_bytes());
    }
    raise(libc::SIGUSR1);
    assert_eq!(answers(), [sent + 1, 2, 0, 0]);
    assert_eq!(receiver.recv().unwrap().to_vec(), sent.to_ne_bytes());
    // An ended sender is told in the handler, too, and what is too long.
    let too_long = Err(SendError::TooLong { length: 65, longest: 64 });
    as_handler(|| assert_eq!(SENDER.get().unwrap().try_send(0, &[0; 65]), too_long));
    drop(receiver);
    as_handler(|| assert_eq!(SENDER.get().unwrap().try_send(0, b"to nobody"), Err(SendError::Disconnected)));
}

/// A child at work while signals storm its thread. Gives how it ended.
#[track_caller]
fn storm(form: &str, signals: &[libc::c_int]) {
    let shared = ring();
    let child = child_at(&shared, "work", form);
    let thread = child.hear();
    let over = AtomicBool::new(false);
    thread::scope(|threads| {
        for &number in signals {
            let (child, over) = (&child, &over);
            threads.spawn(move || {
                while !over.load(SeqCst) {
                    signal(child.id(), thread, number);
                    // The work goes on between two handlers, also with one processor.
                    thread::yield_now();
                }
            });
        }
        let heard = child.hear_before_the_end();
        over.store(true, SeqCst);
        assert_eq!(heard, Some(0));
    });
    child.tell(0);
    child.finish();
}

#[test]
fn signals_at_every_moment_of_a_busy_thread_lose_nothing_and_keep_each_order() {
    storm("alone", &[libc::SIGUSR1]);
}

#[test]
fn signals_within_signals_are_sent_once_or_told_why_not() {
    storm("nested", &[libc::SIGUSR1, libc::SIGUSR2]);
}

#[test]
fn a_full_ring_an_end_and_a_long_message_are_told_in_the_handler() {
    child_at(&ring(), "fill", "").finish();
}
