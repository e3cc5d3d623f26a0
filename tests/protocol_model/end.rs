//! The orderly end: what a receiver is told when its senders close (docs/PROTOCOL.md, "The orderly end").

use super::search::{Broken, Model, Steps};

pub const SENDERS: usize = 3;
const SLOTS: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    ClosedBeforeCounted,
    RingBeforeClaims,
    ClosingsAfterTheRing,
    NotesTheLatestNumber,
    NotesBeforeItReports,
    WakeBeforeClosed,
}

#[derive(Clone, Copy)]
pub struct End<'a> {
    /// Each sender's slot and how many messages it sends; it waits until the slot is free.
    pub senders: &'a [(u8, u8)],
    pub sender_kills: u8,
    pub receiver_kills: u8,
    pub mutants: &'a [Mutant],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Claim {
    Never,
    Attached { sender: u8 },
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Sending {
    Attach,
    Send,
    Count,
    Close,
    Wake,
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Receiving {
    Look,
    ReadClosings { empty: bool },
    ReadClaim { closings: u8, slot: u8, empty: bool },
    LookAgain { closings: u8 },
    Report { closings: u8 },
    Note { closings: u8 },
    Asleep,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    sent: u8,
    received: u8,
    claims: [Claim; SLOTS],
    closings: u8,
    /// In the receiver's page: survives it.
    closings_seen: u8,
    senders: [(Sending, u8); SENDERS],
    dead: u8,
    receiver: Receiving,
    rung: bool,
    sender_kills: u8,
    receiver_kills: u8,
    /// Known to the search only: what was sent when a closing was counted, and the last that was reported.
    sent_before: [u8; SENDERS + 1],
    reported: u8,
}

impl End<'_> {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutants.contains(&mutant)
    }

    fn is_dead(&self, state: &State, sender: u8) -> bool {
        state.dead >> sender & 1 == 1
    }

    fn send(&self, state: &State, sender: usize) -> Option<(&'static str, State)> {
        let mut next = *state;
        let (slot, messages) = self.senders[sender];
        let (doing, sent) = &mut next.senders[sender];
        let claim = &mut next.claims[usize::from(slot)];
        let what = match *doing {
            Sending::Attach => {
                match *claim {
                    Claim::Attached { sender } if !self.is_dead(state, sender) => return None,
                    _ => *claim = Claim::Attached { sender: sender as u8 },
                }
                *doing = Sending::Send;
                "attach"
            }
            Sending::Send if *sent < messages => {
                *sent += 1;
                next.sent += 1;
                next.rung = true;
                "send"
            }
            Sending::Send => {
                let closed_first = self.has(Mutant::ClosedBeforeCounted);
                *doing = if closed_first { Sending::Close } else { Sending::Count };
                "done"
            }
            Sending::Count => {
                let wakes = self.has(Mutant::ClosedBeforeCounted);
                *doing = if wakes { Sending::Wake } else { Sending::Close };
                if self.has(Mutant::WakeBeforeClosed) {
                    next.rung = true;
                }
                next.closings += 1;
                next.sent_before[usize::from(next.closings)] = next.sent;
                "count up"
            }
            Sending::Close => {
                let counts = self.has(Mutant::ClosedBeforeCounted);
                *doing = match counts {
                    true => Sending::Count,
                    false if self.has(Mutant::WakeBeforeClosed) => Sending::Gone,
                    false => Sending::Wake,
                };
                *claim = Claim::Closed;
                "close"
            }
            Sending::Wake => {
                *doing = Sending::Gone;
                next.rung = true;
                "wake"
            }
            Sending::Gone => return None,
        };
        Some((what, next))
    }

    fn receive(&self, state: &State) -> (&'static str, Result<State, Broken>) {
        let mut next = *state;
        let empty = state.sent == state.received;
        let rest = if state.rung { Receiving::Look } else { Receiving::Asleep };
        let what = match state.receiver {
            Receiving::Look if empty => {
                next.receiver = if self.has(Mutant::ClosingsAfterTheRing) {
                    Receiving::ReadClaim { closings: 0, slot: 0, empty }
                } else {
                    Receiving::ReadClosings { empty }
                };
                "empty"
            }
            Receiving::Look => {
                next.received += 1;
                next.rung = true;
                "receive"
            }
            Receiving::ReadClosings { empty } => {
                let closings = state.closings;
                next.receiver = if self.has(Mutant::ClosingsAfterTheRing) {
                    self.decide(state, closings, rest)
                } else {
                    Receiving::ReadClaim { closings, slot: 0, empty }
                };
                "read closings"
            }
            Receiving::ReadClaim { closings, slot, empty } => {
                let attached = matches!(state.claims[usize::from(slot)], Claim::Attached { .. });
                let last = usize::from(slot) + 1 == SLOTS;
                next.receiver = match attached {
                    true => rest,
                    false if !last => Receiving::ReadClaim { closings, slot: slot + 1, empty },
                    false if self.has(Mutant::RingBeforeClaims) => self.decide(state, closings, rest),
                    false => Receiving::LookAgain { closings },
                };
                "read a claim"
            }
            Receiving::LookAgain { .. } if !empty => {
                next.receiver = Receiving::Look;
                "look again: a message"
            }
            Receiving::LookAgain { closings } => {
                next.receiver = if self.has(Mutant::ClosingsAfterTheRing) {
                    Receiving::ReadClosings { empty }
                } else {
                    self.decide(state, closings, rest)
                };
                "look again: empty"
            }
            Receiving::Report { closings } if state.reported != closings || self.receiver_kills > 0 => {
                if state.sent_before[usize::from(closings)] > state.received {
                    return ("report", Err("the end is reported before what was sent before it"));
                }
                next.reported = closings;
                next.receiver = match self.has(Mutant::NotesBeforeItReports) {
                    true => rest,
                    false => Receiving::Note { closings },
                };
                "report the end"
            }
            Receiving::Report { .. } => return ("report", Err("the same end is reported twice")),
            Receiving::Note { closings } => {
                let latest = self.has(Mutant::NotesTheLatestNumber);
                next.closings_seen = if latest { state.closings } else { closings };
                next.receiver = match self.has(Mutant::NotesBeforeItReports) {
                    true => Receiving::Report { closings },
                    false => Receiving::Look,
                };
                "note the number"
            }
            Receiving::Asleep if state.rung => {
                next.receiver = Receiving::Look;
                "wake"
            }
            Receiving::Asleep => return ("asleep", Ok(next)),
        };
        // A sleep is announced at the start of a look: what rings during it leads to another.
        let begins = next.receiver == Receiving::Look && state.receiver != Receiving::Look;
        let sleeps = next.receiver == Receiving::Asleep;
        if begins || sleeps {
            next.rung = false;
        }
        (what, Ok(next))
    }

    fn decide(&self, state: &State, closings: u8, rest: Receiving) -> Receiving {
        if closings == state.closings_seen {
            rest
        } else if self.has(Mutant::NotesBeforeItReports) {
            Receiving::Note { closings }
        } else {
            Receiving::Report { closings }
        }
    }
}

impl Model for End<'_> {
    type State = State;

    fn initial(&self) -> State {
        State {
            sent: 0,
            received: 0,
            claims: [Claim::Never; SLOTS],
            closings: 0,
            closings_seen: 0,
            senders: [(Sending::Attach, 0); SENDERS],
            dead: 0,
            receiver: Receiving::Look,
            rung: false,
            sender_kills: self.sender_kills,
            receiver_kills: self.receiver_kills,
            sent_before: [0; SENDERS + 1],
            reported: 0,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        for sender in 0..self.senders.len() {
            let number = sender as u8;
            if self.is_dead(state, number) {
                continue;
            }
            if let Some((what, next)) = self.send(state, sender) {
                steps.push(("sender", number, what), Ok(next));
            }
            let runs = !matches!(state.senders[sender].0, Sending::Attach | Sending::Gone);
            if state.sender_kills > 0 && runs {
                let mut next = *state;
                next.sender_kills -= 1;
                next.dead |= 1 << sender;
                next.rung = true;
                steps.fault(("sender", number, "KILLED"), Ok(next));
            }
        }
        let (what, next) = self.receive(state);
        if next != Ok(*state) {
            steps.push(("receiver", 0, what), next);
        }
        if state.receiver_kills > 0 && state.receiver != Receiving::Look {
            let mut next = *state;
            next.receiver_kills -= 1;
            next.receiver = Receiving::Look;
            next.rung = false;
            steps.fault(("receiver", 0, "KILLED, another begins"), Ok(next));
        }
    }

    /// All closed or dead, and everything received: then the last end was reported, unless a dead sender's
    /// claim still stands (its death is what is reported then).
    fn ended(&self, state: &State) -> Result<bool, Broken> {
        let finished = (0..self.senders.len())
            .all(|sender| state.senders[sender].0 == Sending::Gone || self.is_dead(state, sender as u8));
        let stands = state.claims.iter().any(|claim| matches!(claim, Claim::Attached { .. }));
        let last = usize::from(state.closings);
        let told = stands || state.reported == state.closings && state.sent_before[last] == state.sent;
        let idle = matches!(state.receiver, Receiving::Asleep);
        Ok(finished && state.sent == state.received && told && idle)
    }
}
