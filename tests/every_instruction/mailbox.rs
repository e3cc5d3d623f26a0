//! Mailboxes: what other processes find when a sender, a receiver, or who puts in order what a dead one has left, is killed at
//! each instruction.

use super::{
    common::{self, Line},
    judge::{self, Dead, MANY, Shared},
    study::{Study, study},
    victim::{OWN, kind, message, serve_each, stepped},
};
use ringpost::{Blank, Envelope, Letter, Mailbox, Pick, RecvError, Ring, SendError};
use std::{ops::ControlFlow, time::Duration};

/// Messages that the mailbox holds.
const CELLS: u32 = 4;
const LONGEST: usize = 40;
const PRIORITIES: u8 = 2;

/// Message that each victim sends which sends with priority 0; the next one is that of priority 1.
const LOW: u64 = OWN;
const HIGH: u64 = OWN + 1;

/// What the victim does between its marks, at a seat that it has taken before, unless it says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    /// Takes a seat, after it has put in order what the dead have left.
    Attach,
    Leave,
    /// Leaves with two messages in hand, and then gives them up.
    LeaveHolding,
    SendLow,
    SendHigh,
    /// Takes a cell.
    Reserve,
    /// Commits what it has reserved before the first mark.
    Commit,
    /// Drops what it has reserved before the first mark.
    Abandon,
    /// Receives, and keeps it.
    Take,
    /// Receives and releases.
    Receive,
    /// The same, of the last message by its kind.
    Pick,
    /// Releases what it has received before the first mark.
    Release,
    /// Gives back what it has received before the first mark.
    GiveBack,
    /// Releases two that it has received before the first mark, the second one first.
    OutOfOrder,
    /// Deletes the last message.
    Delete,
    /// Waits for a message that does not come, and goes to sleep.
    Sleep,
    /// Says that it alone receives.
    Alone,
    /// Closes the mailbox for all.
    Close,
    /// Sends with priority 0, also where others may close the mailbox, and tells whether it has.
    SendOrNot,
}

impl Act {
    const ALL: [Self; 19] = [
        Self::Attach,
        Self::Leave,
        Self::LeaveHolding,
        Self::SendLow,
        Self::SendHigh,
        Self::Reserve,
        Self::Commit,
        Self::Abandon,
        Self::Take,
        Self::Receive,
        Self::Pick,
        Self::Release,
        Self::GiveBack,
        Self::OutOfOrder,
        Self::Delete,
        Self::Sleep,
        Self::Alone,
        Self::Close,
        Self::SendOrNot,
    ];

    fn code(self) -> u64 {
        Self::ALL.iter().position(|&act| act == self).unwrap() as u64
    }

    /// The message that it sends.
    fn sends(self) -> Option<u64> {
        match self {
            Self::SendLow | Self::SendOrNot => Some(LOW),
            Self::SendHigh | Self::Commit => Some(HIGH),
            _ => None,
        }
    }

    /// Which it is done with in the end, one after the other, of the messages that the victim can receive.
    fn releases(self, all: &[u64]) -> Vec<u64> {
        match self {
            Self::Receive | Self::Release => all[..1].to_vec(),
            Self::OutOfOrder => vec![all[1], all[0]],
            Self::LeaveHolding => all[..2].to_vec(),
            Self::Pick | Self::Delete => all[all.len() - 1..].to_vec(),
            _ => Vec::new(),
        }
    }

    /// Which it may have had in hand, and lost with its life.
    fn holds(self, all: &[u64]) -> Vec<u64> {
        match self {
            Self::Take | Self::GiveBack => all[..1].to_vec(),
            _ => self.releases(all),
        }
    }
}

fn bytes_of(number: u64) -> Vec<u8> {
    message(number, (number * 7) as usize % (LONGEST + 1))
}

fn envelope(number: u64) -> Envelope {
    Envelope { kind: kind(number), priority: priority(number) }
}

fn priority(number: u64) -> u8 {
    (number % u64::from(PRIORITIES)) as u8
}

fn put(mailbox: &mut Mailbox, numbers: &[u64]) {
    for &number in numbers {
        mailbox.try_send(envelope(number), &bytes_of(number)).unwrap();
    }
}

/// The victim.
pub fn serve(line: &Line) {
    serve_each(line, |code, ring| {
        let act = Act::ALL[code as usize];
        match act {
            Act::Attach => {
                let mailbox = stepped(line, || ring.mailbox());
                drop(mailbox);
            }
            Act::SendOrNot => {
                let (mut mailbox, bytes) = (ring.mailbox().unwrap(), bytes_of(LOW));
                let sent = stepped(line, || mailbox.try_send(envelope(LOW), &bytes));
                assert!(matches!(sent, Ok(_) | Err(SendError::Disconnected)), "{sent:?}");
                return u64::from(sent.is_ok());
            }
            _ => play(act, ring.mailbox().unwrap(), line),
        }
        0
    });
}

fn play(act: Act, mut mailbox: Mailbox, line: &Line) {
    match act {
        Act::SendLow | Act::SendHigh => {
            let number = act.sends().unwrap();
            let (envelope, bytes) = (envelope(number), bytes_of(number));
            stepped(line, || mailbox.try_send(envelope, &bytes)).unwrap();
        }
        Act::Reserve => drop(stepped(line, || mailbox.try_reserve(LONGEST))),
        Act::Commit => {
            let bytes = bytes_of(HIGH);
            let mut blank = mailbox.try_reserve(LONGEST).unwrap();
            stepped(line, || {
                blank.truncate(bytes.len());
                blank.write_at(0, &bytes);
                mailbox.commit(envelope(HIGH), blank).unwrap();
            });
        }
        Act::Abandon => {
            let blank = mailbox.try_reserve(LONGEST).unwrap();
            stepped(line, || drop(blank));
        }
        Act::Take => drop(stepped(line, || mailbox.try_recv(Pick::Any))),
        Act::Receive => stepped(line, || drop(mailbox.try_recv(Pick::Any).map(|letter| letter.to_vec()))),
        Act::Pick => {
            let last = last_of(&mut mailbox).envelope.kind;
            stepped(line, || drop(mailbox.try_recv(Pick::Kind(last))));
        }
        Act::Release | Act::GiveBack => {
            let letter = mailbox.try_recv(Pick::Any).unwrap();
            stepped(line, || if act == Act::Release { drop(letter) } else { letter.give_back() });
        }
        Act::OutOfOrder | Act::LeaveHolding => {
            let [first, second] = [(); 2].map(|()| mailbox.try_recv(Pick::Any).unwrap());
            let out_of_order = act == Act::OutOfOrder;
            let stays = stepped(line, || {
                let stays = out_of_order.then_some(mailbox);
                let (first, second) = if out_of_order { (second, first) } else { (first, second) };
                drop(first);
                drop(second);
                stays
            });
            drop(stays);
        }
        Act::Delete => {
            let last = last_of(&mut mailbox).id;
            stepped(line, || assert!(mailbox.delete(&last)));
        }
        Act::Sleep => stepped(line, || drop(mailbox.recv_timeout(Pick::Any, Duration::from_micros(300)))),
        Act::Alone => stepped(line, || mailbox.receive_alone().unwrap()),
        Act::Close => stepped(line, || mailbox.close_for_all()),
        Act::Attach | Act::Leave | Act::SendOrNot => stepped(line, || drop(mailbox)),
    }
}

fn last_of(mailbox: &mut Mailbox) -> ringpost::Mail {
    mailbox.browse(Pick::Any).pop().unwrap()
}

/// What there is in a mailbox, and what the victim does with it.
#[derive(Clone, Debug)]
struct Scene {
    act: Act,
    /// Messages there, in the order in which they were sent.
    before: Vec<u64>,
    /// How many of them a process holds that lives.
    held: usize,
    /// Whether that process has left.
    has_left: bool,
    /// How many of the others a process held that has died, and had a cell to fill as well; `None` when nobody has.
    fallen: Option<usize>,
    /// How many were sent and received before.
    past: u64,
    /// Whether they were received from behind the first of those that are there.
    behind_the_first: bool,
}

impl Scene {
    fn new(act: Act, before: &[u64]) -> Self {
        let before = before.to_vec();
        Self { act, before, held: 0, has_left: false, fallen: None, past: 0, behind_the_first: false }
    }

    /// Messages in the order in which they are received.
    fn all(&self) -> Vec<u64> {
        in_order(&self.before)
    }

    /// Those that the victim can receive.
    fn for_the_victim(&self) -> Vec<u64> {
        self.all().split_off(self.held)
    }

    /// Those that processes held which are dead for sure, if everybody but the tester is.
    fn lost(&self) -> Vec<u64> {
        self.for_the_victim()[..self.fallen.unwrap_or(0)].to_vec()
    }
}

fn in_order(numbers: &[u64]) -> Vec<u64> {
    let mut numbers = numbers.to_vec();
    numbers.sort_by_key(|&number| u8::MAX - priority(number));
    numbers
}

/// The tester's own part in a scene.
struct Cast {
    ring: Ring,
    _others: Vec<Mailbox>,
    _letters: Vec<Letter>,
    _blanks: Vec<Blank>,
}

impl Cast {
    fn new(scene: &Scene, dead: &Dead) -> Self {
        let builder = ringpost::unnamed().mailbox(CELLS).priorities(PRIORITIES).seats(MANY);
        let ring = builder.longest_message(LONGEST as u64).memfd().unwrap();
        let mut other = ring.mailbox().unwrap();
        let (first, rest) = scene.before.split_at(usize::from(scene.behind_the_first));
        put(&mut other, first);
        for number in 0..scene.past {
            // All in one order, so that it gets full.
            let number = 500 + 2 * number;
            put(&mut other, &[number]);
            assert_eq!(other.try_recv(Pick::Kind(kind(number))).unwrap().to_vec(), bytes_of(number));
        }
        put(&mut other, rest);
        let take = |from: &mut Mailbox, count| {
            (0..count).map(|_| from.try_recv(Pick::Any).unwrap()).collect::<Vec<_>>()
        };
        let (mut letters, mut blanks) = (take(&mut other, scene.held), Vec::new());
        let mut others = vec![other];
        if let Some(count) = scene.fallen {
            let mut fallen = ring.mailbox().unwrap();
            letters.extend(take(&mut fallen, count));
            blanks.push(fallen.try_reserve(LONGEST).unwrap());
            Shared::of(&ring).bury(2, dead);
            others.push(fallen);
        }
        if scene.has_left {
            others.remove(0);
        }
        Self { ring, _others: others, _letters: letters, _blanks: blanks }
    }
}

/// How far the act was, as of the last instruction that was looked at.
#[derive(Clone, Default)]
struct Progress {
    sent: bool,
    released: usize,
    closed: bool,
}

/// Kills the victim where it stands, and everybody else too if `all`; lets successors go on with these bytes.
fn judge(scene: &Scene, bytes: &[u8], victim: u32, dead: &Dead, all: bool, progress: &mut Progress) {
    let ring = judge::ring_without(victim, all, bytes, dead);
    let living = usize::from(!all && !scene.has_left);
    // Before anybody has put in order what the victim has left.
    let pending = ring.statistics().pending_messages();
    let mut seats = judge::successors(|| ring.mailbox());
    assert_eq!(seats.len(), usize::from(MANY) - living, "each seat of the dead can be taken");

    let held = if all { 0 } else { scene.held };
    let found = seats[0].occupancy();
    let (letters, end) = all_letters(&mut seats);
    assert_eq!((found.waiting as usize, found.held as usize), (letters.len(), held), "{found:?}");
    assert_eq!(pending as usize, letters.len() + held, "{scene:?}");
    assert_eq!(found.processes.len(), usize::from(MANY));
    let numbers: Vec<u64> = letters.iter().map(|letter| number_of(scene, letter)).collect();

    let reachable = scene.for_the_victim();
    let releases = scene.act.releases(&reachable);
    let released = releases.iter().filter(|number| !numbers.contains(number)).count();
    assert!(released >= progress.released, "what was released is there again");
    progress.released = released;
    let own = scene.act.sends().filter(|own| numbers.contains(own));
    assert!(own.is_some() || !progress.sent, "what was sent is gone");
    progress.sent = own.is_some();
    let mut expected = scene.all().split_off(held);
    expected.extend(own);
    expected.retain(|number| !releases[..released].contains(number));
    assert_eq!(numbers, in_order(&expected), "{scene:?}");

    let (lost, holds) = (scene.lost(), scene.act.holds(&reachable));
    for (letter, number) in letters.iter().zip(&numbers) {
        let was_held = lost.contains(number) || all && scene.all()[..scene.held].contains(number);
        let may_have_been = was_held || holds.contains(number);
        let tries = u8::from(was_held)..=u8::from(may_have_been);
        assert!(tries.contains(&letter.tries()), "{number} came {} times before", letter.tries());
    }
    // In another order than they came.
    drop(letters);
    match end {
        RecvError::Empty => assert!(!progress.closed),
        RecvError::Disconnected => {
            progress.closed = true;
            assert_eq!(seats[0].try_send(0, b""), Err(SendError::Disconnected));
        }
        error => panic!("{error}"),
    }
    if !progress.closed {
        use_it(&mut seats, CELLS as usize - held);
    }
    let left = seats[0].occupancy();
    assert_eq!((left.waiting, left.held as usize), (0, held));
}

/// All messages that can be had, each by the next one of the seats; and why there are no more.
fn all_letters(seats: &mut [Mailbox]) -> (Vec<Letter>, RecvError) {
    let mut letters = Vec::new();
    let turns = (0..seats.len()).cycle();
    let end = turns.into_iter().try_for_each(|seat| match seats[seat].try_recv(Pick::Any) {
        Ok(letter) => {
            letters.push(letter);
            ControlFlow::Continue(())
        }
        Err(error) => ControlFlow::Break(error),
    });
    let ControlFlow::Break(error) = end else { unreachable!("an endless iterator") };
    (letters, error)
}

/// The number of a message, each byte of which is checked.
fn number_of(scene: &Scene, letter: &Letter) -> u64 {
    let own = scene.act.sends();
    let found = |&&number: &&u64| {
        let is_same = (kind(number), priority(number)) == (letter.kind(), letter.priority());
        is_same && letter.to_vec() == bytes_of(number)
    };
    *scene.before.iter().chain(&own).find(found).expect("a message that nobody has sent")
}

/// Fills the mailbox to the brim and drains it, some laps of its orders long: so many cells are free, and all arrives, in order.
fn use_it(seats: &mut [Mailbox], free: usize) {
    for lap in 0..5 {
        let numbers: Vec<u64> = (0..free as u64).map(|number| 2000 + 10 * lap + number * 3).collect();
        for (turn, &number) in numbers.iter().enumerate() {
            let seat = (lap as usize + turn) % seats.len();
            seats[seat].try_send(envelope(number), &bytes_of(number)).expect("each other cell is free");
        }
        assert_eq!(seats[0].try_send(0, b""), Err(SendError::Full));
        let (letters, end) = all_letters(seats);
        assert_eq!(end, RecvError::Empty);
        let received = letters.iter().map(|letter| (letter.kind(), letter.tries(), letter.to_vec()));
        let sent = in_order(&numbers).into_iter().map(|number| (kind(number), 0, bytes_of(number)));
        assert!(received.eq(sent), "lap {lap}");
    }
}

impl Study {
    /// Steps the victim through its act. Gives the bytes as a kill would leave them just before the message is sent, or just
    /// before the first one is released, or else in the end.
    fn mail(&mut self, scene: &Scene) -> Vec<u8> {
        let cast = Cast::new(scene, &self.dead);
        self.mail_at(scene, &cast.ring)
    }

    fn mail_at(&mut self, scene: &Scene, ring: &Ring) -> Vec<u8> {
        let mut half_done = Vec::new();
        let name = format!("{:?}", scene.act);
        let judge = |bytes: &[u8], victim, dead: &_, all, progress: &mut Progress| {
            judge(scene, bytes, victim, dead, all, progress);
            if all && !progress.sent && progress.released == 0 {
                half_done = bytes.to_vec();
                judge::kill(&mut half_done, victim, dead);
            }
        };
        let [end, _] = self.watch_for_two(&name, scene.act.code(), ring, Some(|| {}), judge);
        assert_eq!(end.sent, scene.act.sends().is_some(), "{scene:?}");
        assert_eq!(end.released, scene.act.releases(&scene.for_the_victim()).len(), "{scene:?}");
        assert_eq!(end.closed, scene.act == Act::Close);
        half_done
    }
}

#[test]
fn a_sender_to_a_mailbox_is_killed_at_every_instruction() {
    study("mail senders", "mailbox", 1, |study, chance| {
        for act in [Act::SendLow, Act::SendHigh, Act::Reserve, Act::Commit, Act::Abandon, Act::Leave] {
            study.mail(&Scene { held: 1, past: chance % 16, ..Scene::new(act, &[2, 3]) });
            if common::long() {
                study.mail(&Scene { past: chance % 9, ..Scene::new(act, &[]) });
                study.mail(&Scene { held: 2, ..Scene::new(act, &[2, 3, 4]) });
            }
        }
        // The order is full: the message at its head is laid aside.
        study.mail(&Scene { past: 7, behind_the_first: true, ..Scene::new(Act::SendLow, &[2]) });
        study.mail(&Scene { past: 8, behind_the_first: true, ..Scene::new(Act::SendLow, &[2, 5]) });
    });
}

#[test]
fn a_receiver_of_a_mailbox_is_killed_at_every_instruction() {
    study("mail receivers", "mailbox", 1, |study, chance| {
        let acts = [
            Act::Take,
            Act::Receive,
            Act::Pick,
            Act::Release,
            Act::GiveBack,
            Act::OutOfOrder,
            Act::LeaveHolding,
            Act::Delete,
            Act::Alone,
            Act::Close,
        ];
        for act in acts {
            study.mail(&Scene { held: 1, past: chance % 16, ..Scene::new(act, &[2, 3, 4, 5]) });
            if common::long() {
                study.mail(&Scene { past: chance % 9, ..Scene::new(act, &[3, 5, 2]) });
                study.mail(&Scene { past: 8, behind_the_first: true, ..Scene::new(act, &[2, 4, 5]) });
            }
        }
        study.mail(&Scene { held: 2, ..Scene::new(Act::Sleep, &[2, 3]) });
    });
}

#[test]
fn who_puts_a_mailbox_in_order_is_killed_at_every_instruction() {
    study("mail recovery", "mailbox", 1, |study, chance| {
        // It takes long to find out that a process lives.
        let has_left = !common::long() || chance % 2 == 0;
        let held = if has_left { 0 } else { 1 };
        let scene = |act| Scene { held, has_left, past: chance % 16, ..Scene::new(act, &[2, 3, 4]) };
        study.mail(&Scene { fallen: Some(1), ..scene(Act::Attach) });
        // A sender that was killed when only the entry was missing, or just before.
        let acts: &[_] = match common::long() {
            true => &[Act::SendLow, Act::SendHigh, Act::Commit, Act::Reserve],
            false => &[Act::SendLow],
        };
        for &act in acts {
            let half_done = study.mail(&scene(act));
            study.mail_at(&scene(Act::Attach), &judge::ring_of(&half_done));
        }
    });
}

#[test]
fn who_sends_beside_a_close_is_told_what_became_of_the_message_wherever_it_stands() {
    let mut study = Study::new("mailbox");
    let stride = if common::long() { 1 } else { 40 };
    let (mut sent, mut refused) = (0, 0);
    // How many changes of the mailbox the sender has made, and how many instructions it has executed since.
    let (mut nth, mut beyond) = (0, 0);
    loop {
        let cast = Cast::new(&Scene::new(Act::SendOrNot, &[2, 3]), &study.dead);
        let mut other = cast.ring.mailbox().unwrap();
        let is_stopped = study.stop_at(nth, Act::SendOrNot.code(), &cast.ring);
        let is_between = is_stopped && study.step_on(beyond, &cast.ring);
        other.close_for_all();
        let was_sent = study.finish() == 1;
        *(if was_sent { &mut sent } else { &mut refused }) += 1;

        let expected: Vec<_> = [2, 3].into_iter().chain(was_sent.then_some(LOW)).collect();
        assert_eq!(cast.ring.statistics().sent(), expected.len() as u64, "behind {nth} changes and {beyond}");
        let (letters, end) = all_letters(std::slice::from_mut(&mut other));
        let numbers = letters.iter().map(|letter| number_of(&Scene::new(Act::SendOrNot, &[2, 3]), letter));
        assert!(numbers.eq(in_order(&expected)), "behind {nth} changes and {beyond}");
        assert_eq!(end, RecvError::Disconnected);
        drop(letters);
        let left = other.occupancy();
        assert_eq!((left.waiting, left.held), (0, 0));
        if !is_stopped {
            break;
        }
        (nth, beyond) = if is_between { (nth, beyond + stride) } else { (nth + 1, 0) };
    }
    assert!(sent > 0 && refused > 0, "{sent} were sent, {refused} were not");
}
