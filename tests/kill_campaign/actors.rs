//! Senders and receivers that go on until they are killed.

use super::*;

/// Where an actor stops itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    Attached,
    Reserved,
    Written,
    Committed,
    InBatch,
    BatchCommitted,
    Holding,
    HoldingMany,
    Noted,
    Released,
}

pub const OF_SENDERS: [Point; 6] = [
    Point::Attached,
    Point::Reserved,
    Point::Written,
    Point::Committed,
    Point::InBatch,
    Point::BatchCommitted,
];
pub const OF_RECEIVERS: [Point; 5] =
    [Point::Attached, Point::Holding, Point::HoldingMany, Point::Noted, Point::Released];

/// Where an actor is to stop, and how often it passes there before.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub point: Option<Point>,
    pub passes: u64,
}

impl Plan {
    pub fn reach(&mut self, point: Point) {
        if self.point != Some(point) {
            return;
        }
        if self.passes == 0 || point == Point::Attached {
            self.point = None;
            raise(Signal::SIGSTOP).unwrap();
        } else {
            self.passes -= 1;
        }
    }
}

/// Messages of a batch.
pub const BATCH: u64 = 4;

/// The tail of a ring, if it is lent (`docs/LAYOUT.md`).
fn lent_tail(ring: &Ring) -> Option<u64> {
    let mut tail = [0; 8];
    rustix::io::pread(ring.fd().unwrap(), &mut tail, 8192).unwrap();
    Some(u64::from_ne_bytes(tail)).filter(|tail| tail & 0xff == 0)
}

/// Messages of a row: more than after which the tail is lent.
const ROW: u64 = 150;

/// Sends for ever: or, if `in_rows`, many in a row and then nothing for a while, so that the tail is lent and called back.
pub fn act_as_sender<K: Attach>(ring: &Ring, ledger: &Ledger, id: u64, in_rows: bool, mut plan: Plan) {
    let account = ledger.account(id);
    account.pid.store(process::id().into(), Relaxed);
    let mut sender = attach_when_free::<K>(ring);
    plan.reach(Point::Attached);
    for next in 0.. {
        if in_rows && next % ROW == ROW - 1 {
            let has_borrowed = lent_tail(ring).is_some();
            ledger.borrowed.fetch_add(has_borrowed.into(), Relaxed);
            thread::sleep(Duration::from_micros(scatter(id << 20 ^ next) % 2000));
            let lent = lent_tail(ring);
            send_one(&mut sender, account, id, account.committed.load(Relaxed), &mut plan);
            let has_called_back = lent.is_some() && lent_tail(ring) != lent;
            ledger.called_back.fetch_add(has_called_back.into(), Relaxed);
        }
        let number = account.committed.load(Relaxed);
        match scatter(id << 20 ^ next) % 8 {
            0 | 1 => send_batch(&mut sender, account, id, number, &mut plan),
            2 => {
                // Discarded: the receiver passes over it.
                drop(sender.try_reserve(40));
            }
            _ => send_one(&mut sender, account, id, number, &mut plan),
        }
    }
}

/// What a sender asks for, as soon as there is somebody to receive it.
macro_rules! patiently {
    ($attempt:expr) => {
        loop {
            match $attempt {
                Ok(value) => break value,
                // Until the next receiver has come.
                Err(SendError::PeerDied { .. }) => thread::sleep(Duration::from_micros(20)),
                Err(error) => panic!("{error}"),
            }
        }
    };
}

fn send_one<K: SenderKind>(
    sender: &mut Sender<Untrusted, K>,
    account: &Account,
    id: u64,
    number: u64,
    plan: &mut Plan,
) {
    let letter = letter(id, number);
    account.about.store(number + 1, Release);
    let mut reservation = patiently!(sender.reserve(letter.len()));
    plan.reach(Point::Reserved);
    let half = letter.len() / 2;
    reservation.write_at(0, &letter[..half]);
    reservation.write_at(half, &letter[half..]);
    reservation.set_kind(number as u16);
    plan.reach(Point::Written);
    reservation.commit();
    plan.reach(Point::Committed);
    account.committed.store(number + 1, Release);
}

fn send_batch<K: SenderKind>(
    sender: &mut Sender<Untrusted, K>,
    account: &Account,
    id: u64,
    number: u64,
    plan: &mut Plan,
) {
    let letters = (number..number + BATCH).map(|number| letter(id, number)).collect::<Vec<_>>();
    let room = letters.iter().map(|letter| ringpost::record_size(letter.len())).sum();
    account.about.store(number + BATCH, Release);
    let mut batch = patiently!(sender.batch(room));
    for (index, letter) in (0..).zip(&letters) {
        batch.push((number + index) as u16, letter).unwrap();
        if index == 1 {
            plan.reach(Point::InBatch);
        }
    }
    batch.commit();
    plan.reach(Point::BatchCommitted);
    account.committed.store(number + BATCH, Release);
}

/// Receives for ever.
pub fn act_as_receiver(ring: &Ring, ledger: &Ledger, seed: u64, mut plan: Plan) {
    ledger.finish_noting();
    let mut receiver = ring.receiver().unwrap();
    plan.reach(Point::Attached);
    for next in 0.. {
        let finishing = ledger.finishing.load(Acquire) != 0;
        let result = match scatter(seed ^ next << 8) % 4 {
            0 => receive_many(&mut receiver, ledger, &mut plan),
            1 => receiver.recv_timeout(STUCK).map(|message| receive_one(message, ledger, &mut plan)),
            2 => match receiver.try_recv() {
                Err(RecvError::Empty) => Ok(()),
                other => other.map(|message| receive_one(message, ledger, &mut plan)),
            },
            _ => receiver.recv().map(|message| receive_one(message, ledger, &mut plan)),
        };
        match result {
            Ok(()) => {}
            Err(RecvError::PeerDied { .. }) if finishing => ledger.ended.store(1, Release),
            // Until the next sender has come.
            Err(RecvError::PeerDied { .. }) => thread::sleep(Duration::from_micros(20)),
            Err(error) => panic!("{error}"),
        }
    }
}

fn receive_one(message: Message<'_>, ledger: &Ledger, plan: &mut Plan) {
    plan.reach(Point::Holding);
    check(ledger, message.sequence(), message.kind(), message.sender().pid, &message.to_vec());
    plan.reach(Point::Noted);
    drop(message);
    plan.reach(Point::Released);
}

fn receive_many(receiver: &mut Receiver, ledger: &Ledger, plan: &mut Plan) -> Result<(), RecvError> {
    let messages = receiver.recv_many(5)?;
    for message in messages.iter() {
        check(ledger, message.sequence(), message.kind(), message.sender().pid, &message.to_vec());
        plan.reach(Point::HoldingMany);
    }
    drop(messages);
    Ok(())
}

/// A message is whole, the next one of its sender, and new; or it was received before.
fn check(ledger: &Ledger, sequence: u64, kind: u16, pid: u32, bytes: &[u8]) {
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    let (sender, number) = (word(0), word(8));
    assert!(bytes == letter(sender, number), "torn: message {number} of sender {sender}");
    let account = ledger.account(sender);
    assert_eq!(kind, number as u16, "of sender {sender}");
    if pid != 0 || ledger.names_senders.load(Relaxed) != 0 {
        assert_eq!(u64::from(pid), account.pid.load(Relaxed), "of sender {sender}");
    }
    let expected = account.received.load(Acquire);
    if ledger.note(sequence, sender, number) {
        assert_eq!(number, expected, "the next message of sender {sender}");
    } else {
        assert!(number < expected, "message {number} of sender {sender} has a number that was used");
    }
}

/// Forks an actor, which ends only when it is killed or fails.
pub fn begin(act: impl FnOnce()) -> Pid {
    let conductor = process::id();
    // SAFETY: the conductor has one thread, so that the child may do whatever its parent may.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
            if std::os::unix::process::parent_id() == conductor {
                let _ = catch_unwind(AssertUnwindSafe(act));
            }
            // SAFETY: ends the child without running what belongs to its parent.
            unsafe { libc::_exit(101) }
        }
    }
}
