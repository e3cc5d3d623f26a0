//! The process that uses the ring all the while, and ends itself when a call does not return.

use super::*;

/// What the victim does now, as its watchdog sees it: the number of the operation, and whether it may block.
static OPERATION: AtomicU64 = AtomicU64::new(0);
const MAY_BLOCK: u64 = 1 << 63;

/// Longest time that anything which may not block takes. Only an endless loop comes so far.
const ENDLESS: Duration = Duration::from_secs(30);

pub struct Victim {
    pub ring: Ring,
    pub noise: Noise,
    pub operations: u64,
    pub tally: Tally,
}

/// What came of the operations.
#[derive(Default)]
pub struct Tally {
    pub done: u64,
    pub refused: u64,
    pub corrupt: u64,
}

impl Tally {
    pub fn note<T, E: Debug>(&mut self, result: Result<T, E>) -> Option<T> {
        match &result {
            Ok(_) => self.done += 1,
            Err(error) if format!("{error:?}").starts_with("Corrupt") => self.corrupt += 1,
            Err(_) => self.refused += 1,
        }
        result.ok()
    }
}

impl Victim {
    pub fn new(ring: Ring, seed: u64, operations: u64) -> Self {
        // Also of the threads whose panics nobody would see.
        std::panic::set_hook(Box::new(|info| {
            eprintln!("{info}\n{}", std::backtrace::Backtrace::force_capture());
            process::abort();
        }));
        let segment = Segment::of(&ring);
        thread::spawn(move || watch_over(&segment));
        Self { ring, noise: Noise(seed), operations, tally: Tally::default() }
    }

    /// All operations while the other process lies, and some when it is dead and its lies are still there.
    pub fn suffer(&mut self, kind: &str, side: &str, line: &Line) {
        line.tell(0);
        line.hear();
        self.operate(kind, side);
        let Tally { done, refused, corrupt } = self.tally;
        [done, refused, corrupt].into_iter().for_each(|count| line.tell(count));
        line.hear();
        self.operations /= 10;
        self.operate(kind, side);
    }

    pub fn operate(&mut self, kind: &str, side: &str) {
        let mut left = self.operations;
        while left > 0 {
            // As long as one handle is used.
            let some = self.noise.one_of(&[1, 10, 100, 1000]).min(left);
            left -= some;
            match (kind, side) {
                ("typed", "sender") => self.send_values(some),
                ("typed", _) => self.receive_values(some),
                ("one", "sender") => self.send::<Single>(some),
                ("many", "sender") => self.send::<Many>(some),
                _ => self.receive(some),
            }
            let ring = &self.ring;
            let again = || ringpost::unnamed().from_fd(ring.fd().unwrap().try_clone_to_owned().unwrap());
            self.tally.note(step(0, again));
            let statistics = step(0, || self.ring.statistics());
            let _ = (statistics.pending_messages(), statistics.sent(), statistics.high_water_bytes());
            let _ = format!("{:?} {statistics:?}", self.ring);
        }
    }

    pub fn send<K: Attach>(&mut self, operations: u64) {
        let Self { ring, noise, tally, .. } = self;
        let Some(mut sender) = tally.note(step(0, || K::attach(ring))) else { return };
        for _ in 0..operations {
            send_once(&mut sender, noise, tally);
        }
        step(0, || drop(sender));
    }

    pub fn receive(&mut self, operations: u64) {
        let Self { ring, noise, tally, .. } = self;
        let Some(mut receiver) = tally.note(step(0, || ring.receiver())) else { return };
        for _ in 0..operations {
            if let Err(RecvError::Corrupt { .. }) = receive_once(&mut receiver, noise, tally) {
                break;
            }
        }
        step(0, || drop(receiver));
    }

    pub fn send_values(&mut self, operations: u64) {
        let Self { ring, noise, tally, .. } = self;
        let Some(sender) = tally.note(step(0, || ring.sender())) else { return };
        let mut sender: TypedSender<Value> = sender.typed().unwrap();
        for _ in 0..operations {
            let value = [noise.number(), 2, 3];
            tally.note(match noise.below(40) {
                0 => step(MAY_BLOCK, || sender.send(&value)),
                1..10 => step(0, || sender.send_timeout(&value, MOMENT)),
                _ => step(0, || sender.try_send(&value)),
            });
        }
    }

    pub fn receive_values(&mut self, operations: u64) {
        let Self { ring, noise, tally, .. } = self;
        let Some(receiver) = tally.note(step(0, || ring.receiver())) else { return };
        let mut receiver: TypedReceiver<Value> = receiver.typed().unwrap();
        for _ in 0..operations {
            let received = match noise.below(40) {
                0 => step(MAY_BLOCK, || receiver.recv()),
                1..10 => step(0, || receiver.recv_timeout(MOMENT)),
                _ => step(0, || receiver.try_recv()),
            };
            let damaged = matches!(received, Err(RecvError::Corrupt { .. }));
            tally.note(received);
            if damaged {
                break;
            }
        }
    }
}

pub type Value = [u64; 3];

const MOMENT: Duration = Duration::from_micros(100);

/// One operation under the eyes of the watchdog.
pub fn step<T>(may_block: u64, operation: impl FnOnce() -> T) -> T {
    let number = (OPERATION.load(Relaxed) & !MAY_BLOCK) + 1;
    OPERATION.store(number | may_block, Relaxed);
    let result = operation();
    OPERATION.store(number, Relaxed);
    result
}

/// Ends the process when an operation does not end. One that may block is told that all others are dead.
fn watch_over(segment: &Segment) {
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        thread::sleep(Duration::from_millis(5));
        let now = OPERATION.load(Relaxed);
        if now != seen {
            (seen, since) = (now, Instant::now());
            segment.word(TRUCE).store(0, Relaxed);
        } else if since.elapsed() > ENDLESS && now != 0 {
            eprintln!("operation {} does not end (may block: {})", now & !MAY_BLOCK, now & MAY_BLOCK != 0);
            process::abort();
        } else if now & MAY_BLOCK != 0 {
            segment.kill_all();
        }
    }
}

fn send_once<K: SenderKind>(sender: &mut Sender<Untrusted, K>, noise: &mut Noise, tally: &mut Tally) {
    let most = sender.longest_message();
    let any = noise.below(most as u64) as usize;
    let length = noise.one_of(&[0, 1, 8, 100, most / 2, most, any]);
    let message = vec![7; length];
    match noise.below(80) {
        0 => drop(tally.note(step(MAY_BLOCK, || sender.send(&message)))),
        1 => drop(tally.note(step(MAY_BLOCK, || sender.send_kind(1, &message)))),
        2 => drop(tally.note(step(MAY_BLOCK, || sender.reserve(length).map(drop)))),
        3 => drop(tally.note(step(MAY_BLOCK, || sender.batch(length).map(drop)))),
        4..10 => drop(tally.note(step(0, || sender.send_timeout(&message, MOMENT)))),
        10..14 => drop(tally.note(step(0, || sender.send_deadline(&message, Instant::now() + MOMENT)))),
        14..20 => step(0, || {
            let Some(mut reservation) = tally.note(sender.reserve_timeout(length, MOMENT)) else { return };
            reservation.write_at(0, &message);
            reservation.truncate(length / 3);
            reservation.set_kind(3);
            reservation.commit();
        }),
        20..26 => step(0, || std::mem::forget(tally.note(sender.try_reserve(length)))),
        26..38 => step(0, || {
            let Some(mut batch) = tally.note(sender.try_batch(length)) else { return };
            while batch.push(1, &message[..length / 5]).is_ok() {}
            let _ = (batch.room(), format!("{batch:?}"));
            if length.is_multiple_of(2) {
                batch.commit();
            }
        }),
        38 => sender.set_wait(WaitStrategy::Spin),
        39 => sender.set_wait(WaitStrategy::Sleep),
        40 => drop((sender.is_disconnected(), format!("{sender:?}"))),
        _ => drop(tally.note(step(0, || sender.try_send(&message)))),
    }
}

fn receive_once(receiver: &mut Receiver, noise: &mut Noise, tally: &mut Tally) -> Result<(), RecvError> {
    let most = noise.one_of(&[0, 1, 2, 10, usize::MAX]);
    let blocks = noise.below(40) == 0;
    let may_block = if blocks { MAY_BLOCK } else { 0 };
    step(may_block, || {
        let received = match noise.below(9) {
            0 if blocks => receiver.recv().map(|message| drop(message.to_vec())),
            1 if blocks => receiver
                .recv_many(most)
                .map(|messages| drop((messages.iter().next(), format!("{messages:?}")))),
            2 if blocks => receiver.recv_into(&mut vec![0; 5000]).map(drop),
            3 if blocks => receiver.iter().next().map(drop).ok_or(RecvError::Empty),
            0 => {
                receiver.recv_timeout(MOMENT).map(|message| drop((message.sender(), format!("{message:?}"))))
            }
            1 => receiver.recv_deadline(Instant::now() + MOMENT).map(std::mem::forget),
            2 => receiver.try_iter().take(50).last().map(drop).ok_or(RecvError::Empty),
            3 => {
                receiver.reopen();
                let _ = (receiver.next_death(), receiver.stalled());
                receiver.set_wait(noise.one_of(&[
                    WaitStrategy::Spin,
                    WaitStrategy::Sleep,
                    WaitStrategy::default(),
                ]));
                Ok(())
            }
            4..7 => receiver.try_recv_many(most).map(|messages| {
                for _ in 0..2 {
                    let lengths = messages.iter().map(|message| (message.to_vec().len(), message.sender()));
                    assert!(lengths.count() <= most.max(1));
                }
            }),
            _ if receiver.is_empty() => Err(RecvError::Empty),
            _ => receiver.try_recv().map(|message| {
                let mut bytes = vec![0; message.len().min(64)];
                message.read_at(message.len() - bytes.len(), &mut bytes);
                let _ = (message.kind(), message.sequence(), message.slot(), message.sender());
            }),
        };
        tally.note(received);
        received
    })
}
