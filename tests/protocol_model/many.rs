//! The ring with many senders: what is shared, who takes part, and what must hold (docs/PROTOCOL.md, "Many
//! senders" to "Slots"). The steps are in [`super::sender`], [`super::loan`] and [`super::receiver`].

use super::loan::Loan;
use super::receiver::{Receiver, Receiving};
use super::search::{Broken, Model, Steps};
use super::sender::{Sender, Sending};
use super::words::{BIRTH, CAPACITY, Memory, Op, Reservation, Scribe, nothing_missing};

pub const SLOTS: usize = 3;
pub const SENDERS: usize = 4;
const NOBODY: u8 = 7;

/// `tail`: the position, and the slot of whoever reserved last. Or it is `lent` to that slot, since this position.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tail {
    pub position: u8,
    pub slot: u8,
    pub lent: bool,
}

impl Tail {
    pub fn at(position: u8, slot: u8) -> Tail {
        Tail { position, slot, lent: false }
    }
}

/// What a sender says before it reserves: the tail word it saw, and how far its reservation reaches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Intent {
    pub tail: Tail,
    pub reach: u8,
}

/// What `reach` holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    Length,
    /// The position behind the reservation. Never before the end of anything that the slot has reserved.
    End,
}

impl Intent {
    pub fn end(&self, reach: Reach) -> u8 {
        match reach {
            Reach::Length => self.tail.position.wrapping_add(self.reach),
            Reach::End => self.reach,
        }
    }
}

/// A slot's claim: the process (never the same again, thanks to its start time), ATTACHED or CLOSED. A slot
/// that was NEVER taken is not modelled: taking it has no condition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Claim {
    pub process: u8,
    pub closed: bool,
    /// Counts how often the slot was taken, so that a claim never comes back as it was.
    pub takes: u8,
}

/// One handle that sends. Handles of one process die together.
#[derive(Clone, Copy)]
pub struct Actor {
    pub process: u8,
    /// Attached to this slot from the beginning; otherwise takes one over.
    pub slot: Option<u8>,
    pub ops: &'static [Op],
}

/// What the protocol does not do; each must be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    // senders
    IntentAfterCas,
    NoSpaceCheck,
    TagBeforePayload,
    HeadersFirstToLast,
    InnerHeadersNameTheTail,
    // ownership
    AnyDeadSenderAtHead,
    NoRuleA,
    RuleAIgnoresTheSlot,
    NoRuleB,
    NoRuleC,
    EmptyIntentsCount,
    UnwrittenIntentsAreZero,
    FillerHasAPrevious,
    IntentsBeforeTail,
    HeadersBeforeIntents,
    LengthBeforeTailWord,
    ClaimBeforeTail,
    NoLookAgain,
    NoSecondIntent,
    NoLastLook,
    SkipAfterTimeOut,
    ReleaseBeforeDelivery,
    DeathDoesNotRing,
    CommitDoesNotRing,
    // slots
    ReuseAlways,
    ReuseOnlyBehindIntent,
    ReuseBehindStart,
    ReuseTornLength,
    ReuseTailBeforeProof,
    TakesNotCounted,
    // the loan of the tail
    LoanIsNotChecked,
    BorrowerStoresTheEndFirst,
    BorrowerBelievesItself,
    EndBeforeRecall,
    ReturnedWithoutCas,
    RecalledCountsAsLent,
    LoanIsReadOnce,
    FullBorrowerDoesNotLook,
    RecalledIsEmpty,
    NewcomerDoesNotRecall,
    NewcomerDoesNotRing,
    FullDoesNotRing,
}

/// A ring and its scenario.
#[derive(Clone, Copy)]
pub struct Many<'a> {
    pub actors: &'a [Actor],
    pub reach: Reach,
    /// Whether a sender may take the tail as a loan, with any of its reservations.
    pub lends: bool,
    pub sender_kills: u8,
    pub receiver_kills: u8,
    pub mutants: &'a [Mutant],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    pub memory: Memory,
    pub tail: Tail,
    /// The receiver's position: written by it alone.
    pub position: u8,
    pub intents: [Intent; SLOTS],
    pub loans: [Loan; SLOTS],
    pub claims: [Claim; SLOTS],
    pub senders: [Sender; SENDERS],
    pub receiver: Receiver,
    /// Processes that are dead, a bit each.
    pub dead: u8,
    pub sender_kills: u8,
    pub receiver_kills: u8,
    /// What was delivered, a bit for each record of each sender: known to the search only.
    pub delivered: [u8; SENDERS],
}

impl State {
    pub fn is_dead(&self, process: u8) -> bool {
        self.dead >> process & 1 == 1
    }

    /// Where the tail is. While it is called back from a loan: where it may be at most.
    pub fn tail_position(&self) -> u8 {
        let slot = usize::from(self.tail.slot);
        match self.loans[slot] {
            _ if !self.tail.lent => self.tail.position,
            Loan::Returned { end } => end,
            Loan::Never | Loan::Lent { .. } | Loan::Recalled { .. } => self.intents[slot].reach,
        }
    }
}

impl Many<'_> {
    pub fn has(&self, mutant: Mutant) -> bool {
        self.mutants.contains(&mutant)
    }

    /// The intent of a slot that never was taken: at the position of birth, and empty.
    pub fn unwritten(&self) -> Intent {
        let birth = Tail::at(BIRTH, 0);
        match self.reach {
            _ if self.has(Mutant::UnwrittenIntentsAreZero) => Intent { tail: Tail::at(0, 0), reach: 0 },
            Reach::Length => Intent { tail: birth, reach: 0 },
            Reach::End => Intent { tail: birth, reach: BIRTH },
        }
    }

    pub fn op(&self, sender: usize, state: &State) -> Op {
        self.actors[sender].ops[usize::from(state.senders[sender].op)]
    }

    pub fn scribe(&self) -> Scribe {
        Scribe {
            tag_before_payload: self.has(Mutant::TagBeforePayload),
            headers_first_to_last: self.has(Mutant::HeadersFirstToLast),
            inner_headers_name_the_tail: self.has(Mutant::InnerHeadersNameTheTail),
        }
    }

    /// The reservation that this sender holds after its CAS on the tail word `seen`.
    pub fn reservation(&self, sender: usize, state: &State, seen: Tail) -> Reservation {
        let Sender { slot, op: number, .. } = state.senders[sender];
        let op = self.op(sender, state);
        Reservation { op, at: seen.position, slot, previous: seen.slot, sender: sender as u8, number }
    }

    /// Whether a dead sender's unfinished reservation is exactly this one.
    pub fn is_abandoned(&self, state: &State, at: u8, end: u8) -> bool {
        (0..self.actors.len()).any(|sender| {
            let Sender { slot, doing, .. } = state.senders[sender];
            let (seen, owned) = match doing {
                Sending::Write { seen, .. } => (seen, true),
                // It had the tail as a loan, and had not heard yet that this has ended; or whether its end counts.
                Sending::CheckLoan { seen, claimed: true } | Sending::Settle { seen, claimed: true, .. } => {
                    let owned = match state.loans[usize::from(slot)] {
                        Loan::Never => false,
                        Loan::Lent { .. } => true,
                        Loan::Recalled { known: counts, .. } | Loan::Returned { end: counts } => {
                            counts == end
                        }
                    };
                    (seen, owned)
                }
                _ => return false,
            };
            let units = || self.op(sender, state).units();
            owned
                && state.is_dead(self.actors[sender].process)
                && seen.position == at
                && at.wrapping_add(units()) == end
        })
    }

    fn kill_sender(&self, state: &State, process: u8) -> State {
        let mut next = *state;
        next.sender_kills -= 1;
        next.dead |= 1 << process;
        next.receiver.rung |= !self.has(Mutant::DeathDoesNotRing);
        for (sender, actor) in self.actors.iter().enumerate() {
            let doing = &mut next.senders[sender].doing;
            let may_hold =
                matches!(doing, Sending::Write { .. } | Sending::CheckLoan { .. } | Sending::Settle { .. });
            if actor.process == process && !may_hold {
                *doing = Sending::Gone;
            }
        }
        next
    }

    /// Nothing is reserved; or only, perhaps, by one who died while the tail was called back from it.
    fn is_empty(&self, state: &State) -> bool {
        let nothing_there = || state.memory.tag(state.position).is_none();
        state.tail_position() == state.position || self.is_recalled(state) && nothing_there()
    }

    /// The tail is lent, and called back.
    pub fn is_recalled(&self, state: &State) -> bool {
        state.tail.lent && matches!(state.loans[usize::from(state.tail.slot)], Loan::Recalled { .. })
    }

    /// A receiver dies and its successor begins: nothing but `position` is left of it.
    fn kill_receiver(&self, state: &State) -> State {
        let mut next = *state;
        next.receiver_kills -= 1;
        next.receiver = Receiver::NEW;
        next
    }
}

impl Model for Many<'_> {
    type State = State;

    fn initial(&self) -> State {
        let birth = Tail::at(BIRTH, 0);
        let mut state = State {
            memory: Memory::default(),
            tail: birth,
            position: BIRTH,
            intents: [self.unwritten(); SLOTS],
            loans: [Loan::Never; SLOTS],
            claims: [Claim { process: NOBODY, closed: false, takes: 0 }; SLOTS],
            senders: [Sender {
                slot: 0,
                attached: false,
                op: 0,
                gave_up: 0,
                borrows: false,
                doing: Sending::Gone,
            }; SENDERS],
            receiver: Receiver::NEW,
            dead: 0,
            sender_kills: self.sender_kills,
            receiver_kills: self.receiver_kills,
            delivered: [0; SENDERS],
        };
        for (sender, actor) in self.actors.iter().enumerate() {
            let doing = match actor.slot {
                Some(slot) => {
                    state.claims[usize::from(slot)] =
                        Claim { process: actor.process, closed: false, takes: 0 };
                    state.senders[sender].slot = slot;
                    state.senders[sender].attached = true;
                    Sending::LoadTail
                }
                None => Sending::FindSlot { early: None },
            };
            state.senders[sender].doing = doing;
        }
        state
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        for (sender, actor) in self.actors.iter().enumerate() {
            if !state.is_dead(actor.process) {
                self.sender_steps(sender, state, steps);
            }
        }
        self.receiver_step(state, steps);
        if state.sender_kills > 0 {
            let mut seen = state.dead;
            for (sender, actor) in self.actors.iter().enumerate() {
                let runs = !matches!(state.senders[sender].doing, Sending::Gone | Sending::FindSlot { .. });
                if runs && seen >> actor.process & 1 == 0 {
                    seen |= 1 << actor.process;
                    let next = self.kill_sender(state, actor.process);
                    steps.fault(("process", actor.process, "KILLED"), Ok(next));
                }
            }
        }
        if state.receiver_kills > 0 && state.receiver.doing != Receiving::Look {
            steps.fault(("receiver", 0, "KILLED, another begins"), Ok(self.kill_receiver(state)));
        }
    }

    /// Every sender closed or dead, the ring empty, the receiver looks in vain: then nothing may be missing.
    fn ended(&self, state: &State) -> Result<bool, Broken> {
        let finished = (0..self.actors.len()).all(|sender| {
            state.senders[sender].doing == Sending::Gone || state.is_dead(self.actors[sender].process)
        });
        let idle =
            matches!(state.receiver.doing, Receiving::Look | Receiving::Asleep) && self.is_empty(state);
        if !finished || !idle {
            return Ok(false);
        }
        for (sender, actor) in self.actors.iter().enumerate() {
            let Sender { op: done, gave_up, .. } = state.senders[sender];
            nothing_missing(&actor.ops[..usize::from(done)], gave_up, state.delivered[sender])?;
        }
        Ok(true)
    }
}

/// No word of the data area is written before it is released, or after it was passed.
pub fn writable(state: &State, position: u8) -> Result<(), Broken> {
    if position.wrapping_sub(state.position) < CAPACITY {
        Ok(())
    } else {
        Err("a sender writes over memory that is not its own")
    }
}
