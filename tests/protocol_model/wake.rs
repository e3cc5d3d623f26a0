//! Sleeping and waking, both ways: senders that wait for space, a receiver that waits for messages, and the
//! closing of either side (docs/PROTOCOL.md, "Sleeping and waking"). A message is a count here; how it gets
//! into the ring is the other models' matter.

use super::search::{Broken, Model, Steps};

pub const SENDERS: usize = 3;

/// Numbers of sleeps start just below their wrap.
const FIRST: u8 = 254;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    ReceiverDoesNotLookAgain,
    SenderDoesNotLookAgain,
    AnnounceAfterLook,
    /// Neither looks at `granted` again nor uses a CAS: it takes back what another sender has announced.
    PlainStoreOfWanted,
    /// The CAS on `granted` starts from what was read, and not from the number before: the first version.
    GrantFromWhatItRead,
    GrantWithoutCas,
    /// The receiver does not say that it has not come back: whoever finds its number granted does not wake it.
    NoMark,
    /// The receiver that has come back does not say so.
    MarkStays,
    /// A waker does not remember whom it has woken.
    ForgetsWhomItWoke,
    WakeOne,
    WaitIgnoresTheValue,
    CheckBeforePublish,
    CheckBeforeRelease,
    NeverEager,
    NoLookAfterEager,
    SenderClosesAfterItsWake,
    ReceiverClosesAfterItsWake,
    ClosingHeedsHalf,
    DeathIsSilent,
}

#[derive(Clone, Copy)]
pub struct Wake<'a> {
    /// Messages that each sender sends.
    pub senders: &'a [u8],
    pub capacity: u8,
    /// The receiver closes when it has received so many.
    pub receiver_closes_after: Option<u8>,
    /// The receiver does something else for ever when it has received so many.
    pub receiver_pauses_after: Option<u8>,
    pub sender_kills: u8,
    pub receiver_kills: u8,
    /// Senders that are stopped between a grant and its wake, while another one has something to send, and never
    /// continued.
    pub stops: u8,
    pub mutants: &'a [Mutant],
}

/// What one side has in its own page; the other only reads it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Page {
    attention: Attention,
    granted: u8,
}

/// One word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Attention {
    wanted: u8,
    /// Of senders: wake at the next release. Of the receiver: it has not come back since it announced its sleep.
    flag: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    published: u8,
    released: u8,
    senders_page: Page,
    receiver_page: Page,
    receiver_closed: bool,
    /// A bit for each sender: CLOSED, or dead.
    closed: u8,
    stopped: u8,
    sent: [u8; SENDERS],
    /// The senders, and last the receiver.
    doing: [Doing; SENDERS + 1],
    /// A death that this process has not noticed: ends its sleep.
    death: u8,
    sender_kills: u8,
    receiver_kills: u8,
    stops: u8,
    /// The attention word in which nobody slept, or sleeps any more: what each waker remembers.
    quiet: [Option<Attention>; SENDERS + 1],
    /// A bit for each waker that has issued a wake for what is announced now: known to the search only.
    woken: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Doing {
    /// Sends or receives if it can.
    Work,
    // the sleeper
    ReadGranted {
        eager: bool,
    },
    ReadAttention {
        granted: u8,
        eager: bool,
    },
    ReadGrantedAgain {
        granted: u8,
        eager: bool,
        seen: Attention,
    },
    Announce {
        granted: u8,
        eager: bool,
        seen: Attention,
    },
    LookAgain {
        granted: u8,
        eager: bool,
    },
    Wait {
        granted: u8,
        eager: bool,
    },
    Asleep {
        eager: bool,
    },
    /// The receiver has found something after it had announced its sleep.
    ComeBack,
    // the waker
    Publish {
        then: Then,
    },
    ReadWanted {
        then: Then,
    },
    ReadOwnGranted {
        then: Then,
        seen: Attention,
    },
    Grant {
        then: Then,
        seen: Attention,
        granted: u8,
    },
    WakeUp {
        then: Then,
        seen: Attention,
    },
    /// Sets its closed flag.
    Close {
        then: Then,
    },
    Gone,
}

/// What follows after a wake.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Then {
    Work,
    Gone,
    /// Mutants: the publication, or the closed flag.
    PublishLate,
    CloseLate,
}

const RECEIVER: usize = SENDERS;

impl Wake<'_> {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutants.contains(&mutant)
    }

    /// Whether this process can go on: space or an end for a sender, a message or the end for the receiver.
    fn may_work(&self, state: &State, who: usize) -> bool {
        let used = state.published - state.released;
        if who == RECEIVER {
            used > 0 || usize::from(state.closed) == (1 << self.senders.len()) - 1
        } else {
            used < self.capacity || state.receiver_closed
        }
    }

    fn done(&self, state: &State, who: usize) -> bool {
        if who == RECEIVER {
            self.receiver_closes_after == Some(state.released)
        } else {
            state.sent[who] == self.senders[who] || state.receiver_closed
        }
    }

    fn closing(&self, who: usize) -> Doing {
        let late = if who == RECEIVER {
            self.has(Mutant::ReceiverClosesAfterItsWake)
        } else {
            self.has(Mutant::SenderClosesAfterItsWake)
        };
        if late { Doing::ReadWanted { then: Then::CloseLate } } else { Doing::Close { then: Then::Gone } }
    }

    fn work(&self, state: &State, who: usize) -> (&'static str, State) {
        let mut next = *state;
        let used = state.published - state.released;
        let what = if who == RECEIVER && self.receiver_pauses_after == Some(state.released) {
            next.doing[who] = Doing::Gone;
            "pauses"
        } else if self.done(state, who) {
            next.doing[who] = self.closing(who);
            "done"
        } else if !self.may_work(state, who) {
            next.doing[who] = Doing::ReadGranted { eager: false };
            if who == RECEIVER { "nothing there" } else { "no space" }
        } else if who == RECEIVER && used == 0 {
            next.doing[who] = Doing::Gone;
            "learns that all senders are gone"
        } else {
            let early = if who == RECEIVER { Mutant::CheckBeforeRelease } else { Mutant::CheckBeforePublish };
            next.doing[who] = if self.has(early) {
                Doing::ReadWanted { then: Then::PublishLate }
            } else {
                Doing::Publish { then: Then::Work }
            };
            if who == RECEIVER { "a message" } else { "space" }
        };
        (what, next)
    }

    /// What who has slept does next: it looks, and says that it has come back when it finds something.
    fn woken(&self, state: &State, who: usize) -> Doing {
        let finds = who == RECEIVER && self.may_work(state, who) && !self.has(Mutant::MarkStays);
        if finds { Doing::ComeBack } else { Doing::Work }
    }

    /// One step of a process that is not asleep, or is asleep and can wake; more than one where time passes.
    fn process(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let name = if who == RECEIVER { "receiver" } else { "sender" };
        let mut step = |what, next| steps.push((name, who as u8, what), next);
        let to = |doing| {
            let mut next = *state;
            next.doing[who] = doing;
            next
        };
        let (own, peer) = if who == RECEIVER {
            (&state.receiver_page, &state.senders_page)
        } else {
            (&state.senders_page, &state.receiver_page)
        };
        let set_own = |mut next: State, page: Page| {
            *(if who == RECEIVER { &mut next.receiver_page } else { &mut next.senders_page }) = page;
            next
        };
        let unnoticed = state.death >> who & 1 == 1;
        let noticed = || {
            let mut next = to(Doing::Work);
            next.death &= !(1 << who);
            next
        };
        match state.doing[who] {
            Doing::Work => {
                let (what, next) = self.work(state, who);
                step(what, Ok(next));
            }

            Doing::ReadGranted { eager } => {
                let granted = peer.granted;
                let next = if self.has(Mutant::AnnounceAfterLook) && !eager {
                    Doing::LookAgain { granted, eager }
                } else {
                    Doing::ReadAttention { granted, eager }
                };
                step("read granted", Ok(to(next)));
            }
            Doing::ReadAttention { granted, eager } => {
                let seen = own.attention;
                let other = seen.wanted != granted.wrapping_add(1) && !self.has(Mutant::PlainStoreOfWanted);
                let next = match other {
                    true => Doing::ReadGrantedAgain { granted, eager, seen },
                    false => Doing::Announce { granted, eager, seen },
                };
                step("read attention", Ok(to(next)));
            }
            Doing::ReadGrantedAgain { granted, eager, seen } => {
                let same = peer.granted == granted;
                let next = if same { Doing::Announce { granted, eager, seen } } else { Doing::Work };
                step("read granted again", Ok(to(next)));
            }
            Doing::Announce { granted, eager, seen } => {
                if own.attention != seen && !self.has(Mutant::PlainStoreOfWanted) {
                    return step("somebody else announces", Ok(to(Doing::Work)));
                }
                let blind = if who == RECEIVER {
                    self.has(Mutant::ReceiverDoesNotLookAgain)
                } else if eager {
                    self.has(Mutant::NoLookAfterEager)
                } else {
                    self.has(Mutant::SenderDoesNotLookAgain)
                };
                let next = match blind || self.has(Mutant::AnnounceAfterLook) {
                    true => Doing::Wait { granted, eager },
                    false => Doing::LookAgain { granted, eager },
                };
                let wanted = granted.wrapping_add(1);
                let kept = seen.wanted == wanted && seen.flag;
                let flag = kept || if who == RECEIVER { !self.has(Mutant::NoMark) } else { eager };
                let attention = Attention { wanted, flag };
                let mut next = set_own(to(next), Page { attention, ..*own });
                for waker in if who == RECEIVER { 0..RECEIVER } else { RECEIVER..RECEIVER + 1 } {
                    next.woken &= !(1 << waker);
                    // An older number is never announced again.
                    next.quiet[waker] = next.quiet[waker].filter(|quiet| quiet.wanted == wanted);
                }
                step("announce", Ok(next));
            }
            Doing::LookAgain { .. } if self.may_work(state, who) => {
                let marks = who == RECEIVER && !self.has(Mutant::MarkStays);
                let next = if marks { Doing::ComeBack } else { Doing::Work };
                step("look again: go on", Ok(to(next)));
            }
            Doing::LookAgain { granted, eager: false } if self.has(Mutant::AnnounceAfterLook) => {
                step("look again", Ok(to(Doing::ReadAttention { granted, eager: true })));
            }
            Doing::LookAgain { granted, eager } => step("look again", Ok(to(Doing::Wait { granted, eager }))),
            Doing::Wait { .. } if unnoticed => step("notices a death", Ok(noticed())),
            Doing::Wait { granted, eager } => {
                let sleeps = peer.granted == granted || self.has(Mutant::WaitIgnoresTheValue);
                let next = if sleeps { Doing::Asleep { eager } } else { self.woken(state, who) };
                step("futex wait", Ok(to(next)));
            }
            Doing::Asleep { eager } => {
                if unnoticed {
                    step("is woken by a death", Ok(noticed()));
                }
                if who != RECEIVER && !eager && !self.has(Mutant::NeverEager) {
                    step("has waited a while", Ok(to(Doing::ReadGranted { eager: true })));
                }
            }
            Doing::ComeBack => {
                let attention = Attention { flag: false, ..own.attention };
                step("comes back", Ok(set_own(to(Doing::Work), Page { attention, ..*own })));
            }

            Doing::Publish { then } => {
                // Another sender was faster: the reservation failed.
                if !self.may_work(state, who) || who != RECEIVER && state.receiver_closed {
                    return step("somebody was faster", Ok(to(Doing::Work)));
                }
                let mut next = to(match then {
                    Then::PublishLate => Doing::Work,
                    then => Doing::ReadWanted { then },
                });
                if who == RECEIVER {
                    next.released += 1;
                    step("release", Ok(next));
                } else {
                    next.published += 1;
                    next.sent[who] += 1;
                    step("publish", Ok(next));
                }
            }
            Doing::ReadWanted { then } => {
                let seen = peer.attention;
                let roomy = (state.published - state.released) * 2 <= self.capacity;
                let closing =
                    matches!(then, Then::Gone | Then::CloseLate) && !self.has(Mutant::ClosingHeedsHalf);
                let heeds = who != RECEIVER || seen.flag || roomy || closing;
                let known = state.quiet[who] == Some(seen) && !self.has(Mutant::ForgetsWhomItWoke);
                let next = match heeds && !known {
                    true => Doing::ReadOwnGranted { then, seen },
                    false => after(then),
                };
                step("read wanted", Ok(to(next)));
            }
            Doing::ReadOwnGranted { then, seen } => {
                let granted = own.granted;
                let comes_back = who == RECEIVER || !seen.flag;
                if granted == seen.wanted && comes_back {
                    let mut next = to(after(then));
                    next.quiet[who] = Some(seen);
                    return step("granted already", Ok(next));
                }
                step("compare with granted", Ok(to(Doing::Grant { then, seen, granted })));
            }
            Doing::Grant { then, seen, granted } => {
                let wanted = seen.wanted;
                let expected =
                    if self.has(Mutant::GrantFromWhatItRead) { granted } else { wanted.wrapping_sub(1) };
                let mut next = to(Doing::WakeUp { then, seen });
                next.quiet[who] = Some(seen);
                if own.granted == expected || self.has(Mutant::GrantWithoutCas) {
                    next = set_own(next, Page { granted: wanted, ..*own });
                }
                step("grant", Ok(next));
            }
            Doing::WakeUp { then, seen } => {
                let mut next = to(after(then));
                // Who has read the word before another announcement makes one call too many.
                if peer.attention == seen {
                    if state.woken >> who & 1 == 1 {
                        return step("futex wake", Err("two wakes by one process for one announcement"));
                    }
                    next.woken |= 1 << who;
                }
                let sleepers = if who == RECEIVER { 0..self.senders.len() } else { RECEIVER..RECEIVER + 1 };
                for sleeper in sleepers {
                    if let Doing::Asleep { .. } = next.doing[sleeper] {
                        next.doing[sleeper] = self.woken(state, sleeper);
                        if self.has(Mutant::WakeOne) {
                            break;
                        }
                    }
                }
                step("futex wake", Ok(next));
            }

            Doing::Close { then } => {
                let mut next = to(match then {
                    Then::CloseLate => Doing::Gone,
                    then => Doing::ReadWanted { then },
                });
                if who == RECEIVER {
                    next.receiver_closed = true;
                } else {
                    next.closed |= 1 << who;
                }
                step("close", Ok(next));
            }
            Doing::Gone => {}
        }
    }

    fn kill(&self, state: &State, who: usize) -> State {
        let mut next = *state;
        if !self.has(Mutant::DeathIsSilent) {
            next.death = (1 << (SENDERS + 1)) - 1;
        }
        if who == RECEIVER {
            next.receiver_kills -= 1;
            next.doing[who] = Doing::Work;
            next.quiet[who] = None;
            next.woken &= !(1 << who);
        } else {
            next.sender_kills -= 1;
            next.doing[who] = Doing::Gone;
            next.closed |= 1 << who;
        }
        next
    }
}

fn after(then: Then) -> Doing {
    match then {
        Then::Work => Doing::Work,
        Then::Gone => Doing::Gone,
        Then::PublishLate => Doing::Publish { then: Then::PublishLate },
        Then::CloseLate => Doing::Close { then: Then::CloseLate },
    }
}

impl Model for Wake<'_> {
    type State = State;

    fn initial(&self) -> State {
        let page = Page { attention: Attention { wanted: FIRST, flag: false }, granted: FIRST };
        let mut doing = [Doing::Gone; SENDERS + 1];
        doing[..self.senders.len()].fill(Doing::Work);
        doing[RECEIVER] = Doing::Work;
        State {
            published: 0,
            released: 0,
            senders_page: page,
            receiver_page: page,
            receiver_closed: false,
            closed: 0,
            stopped: 0,
            sent: [0; SENDERS],
            doing,
            death: 0,
            sender_kills: self.sender_kills,
            receiver_kills: self.receiver_kills,
            stops: self.stops,
            quiet: [None; SENDERS + 1],
            woken: 0,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        for who in (0..self.senders.len()).chain([RECEIVER]) {
            let gone = state.doing[who] == Doing::Gone;
            if gone || state.stopped >> who & 1 == 1 {
                continue;
            }
            self.process(state, who, steps);
            if who == RECEIVER && state.receiver_kills > 0 && state.doing[who] != Doing::Work {
                steps.fault(("receiver", 0, "KILLED, another begins"), Ok(self.kill(state, who)));
            }
            if who != RECEIVER && state.sender_kills > 0 {
                steps.fault(("sender", who as u8, "KILLED"), Ok(self.kill(state, who)));
            }
            let others_send = |state: &State| {
                (0..self.senders.len()).any(|other| other != who && state.sent[other] < self.senders[other])
            };
            let grants = matches!(state.doing[who], Doing::WakeUp { .. });
            if who != RECEIVER && state.stops > 0 && grants && others_send(state) {
                let mut next = *state;
                next.stops -= 1;
                next.stopped |= 1 << who;
                steps.fault(("sender", who as u8, "STOPPED for ever"), Ok(next));
            }
        }
    }

    /// All have finished; a receiver may wait for those that are stopped, but not for messages that are
    /// there.
    fn ended(&self, state: &State) -> Result<bool, Broken> {
        let finished = (0..self.senders.len())
            .all(|sender| state.doing[sender] == Doing::Gone || state.stopped >> sender & 1 == 1);
        let received =
            state.doing[RECEIVER] == Doing::Gone || state.stopped != 0 && state.published == state.released;
        Ok(finished && received)
    }
}
