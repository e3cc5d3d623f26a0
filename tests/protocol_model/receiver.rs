//! The receiver of the ring with many senders, and how it resolves who owns the head.

use super::loan::Loan;
use super::many::{Intent, Many, Mutant, SLOTS, State, Tail};
use super::search::{Broken, Steps};
use super::words::{CAPACITY, Id, Tag, hand_over, reached};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Receiver {
    pub doing: Receiving,
    /// It has delivered nothing yet: its first message may be its predecessor's last.
    pub fresh: bool,
    /// Somebody committed, closed or died since the receiver last announced that it will sleep. How this
    /// comes about without a lost wake is the subject of [`super::wake`].
    pub rung: bool,
}

impl Receiver {
    pub const NEW: Receiver = Receiver { doing: Receiving::Look, fresh: true, rung: true };
}

/// What the receiver saw on its way: tail, then intents (and, in a mutant, the headers behind the head).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Seen {
    tail: Tail,
    intents: [Intent; SLOTS],
    /// Mutant: for each position behind the head, the valid header's `previous` plus one.
    headers: [u8; CAPACITY as usize],
    /// Mutant: the processes behind the claims.
    dead: u8,
}

/// What the receiver does next; each variant is one access to shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Receiving {
    Look,
    Deliver,
    Release,
    /// A mutant has copied and released the message before it hands it on.
    HandOn {
        sender: u8,
        op: u8,
        record: u8,
    },
    /// Discarded or filler.
    Pass,
    ReadClaims,
    ReadTail {
        dead: u8,
    },
    /// The tail is lent: to whom, since when, and up to where.
    ReadLoan {
        seen: Seen,
    },
    ReadEnd {
        seen: Seen,
        at: u8,
    },
    LoanAgain {
        seen: Seen,
        at: u8,
        end: u8,
    },
    TailAgain {
        seen: Seen,
        end: u8,
    },
    ReadHeaders {
        seen: Seen,
    },
    ReadIntent {
        seen: Seen,
        slot: u8,
    },
    ReadReach {
        seen: Seen,
        slot: u8,
    },
    /// Mutant: the tail after the intents.
    ReadTailLate {
        seen: Seen,
    },
    LookAgain {
        seen: Seen,
    },
    /// Rule c for this slot.
    ReadHeader {
        seen: Seen,
        slot: u8,
    },
    Prove {
        slot: u8,
        end: u8,
        dead: u8,
    },
    IntentAgain {
        slot: u8,
        end: u8,
    },
    LastLook {
        end: u8,
    },
    Skip {
        end: u8,
    },
    Asleep,
}

impl Many<'_> {
    pub fn receiver_step(&self, state: &State, steps: &mut Steps<State>) {
        let (what, next) = self.receive(state);
        if next != Ok(*state) {
            steps.push(("receiver", 0, what), next);
        }
    }

    fn receive(&self, state: &State) -> (&'static str, Result<State, Broken>) {
        let head = state.position;
        let to = |doing| {
            let mut next = *state;
            next.receiver.doing = doing;
            Ok(next)
        };
        // Nothing to do: sleep, unless something happened during this look. It was announced before it.
        let rest = || {
            let mut next = *state;
            next.receiver.doing = if state.receiver.rung { Receiving::Look } else { Receiving::Asleep };
            next.receiver.rung = false;
            Ok(next)
        };
        match state.receiver.doing {
            Receiving::Asleep if state.receiver.rung => ("wake", rest()),
            Receiving::Asleep => ("asleep", Ok(*state)),
            Receiving::Look => match state.memory.tag(head) {
                Some(Tag::Committed) if self.has(Mutant::ReleaseBeforeDelivery) => {
                    ("look: committed", to(Receiving::Release))
                }
                Some(Tag::Committed) => ("look: committed", to(Receiving::Deliver)),
                Some(_) => ("look: nothing to deliver", to(Receiving::Pass)),
                None if self.has(Mutant::ClaimBeforeTail) => ("look: nothing", to(Receiving::ReadClaims)),
                None => ("look: nothing", to(Receiving::ReadTail { dead: 0 })),
            },
            Receiving::Deliver => ("deliver", self.deliver(state)),
            Receiving::Release => ("release", self.release(state)),
            Receiving::HandOn { sender, op, record } => {
                let mut next = *state;
                next.delivered[usize::from(sender)] |= 1 << Id { sender, op, record }.bit();
                next.receiver.doing = Receiving::Look;
                ("hand on", Ok(next))
            }
            Receiving::Pass => ("pass", self.pass(state)),

            Receiving::ReadClaims => {
                let dead = (0..SLOTS as u8).filter(|slot| self.proven(state, *slot)).map(|slot| 1 << slot);
                ("read claims", to(Receiving::ReadTail { dead: dead.sum() }))
            }
            Receiving::ReadTail { dead } => {
                let tail = state.tail;
                let seen =
                    Seen { tail, intents: [self.unwritten(); SLOTS], headers: [0; CAPACITY as usize], dead };
                if tail.lent {
                    ("read tail: lent", to(Receiving::ReadLoan { seen }))
                } else {
                    self.after_tail(head, seen)
                        .map_or_else(|| ("read tail: empty", rest()), |next| ("read tail", to(next)))
                }
            }
            Receiving::ReadLoan { seen } => match state.loans[usize::from(seen.tail.slot)] {
                Loan::Lent { at } => ("read the loan: lent", to(Receiving::ReadEnd { seen, at })),
                Loan::Recalled { at, .. } if self.has(Mutant::RecalledCountsAsLent) => {
                    ("read the loan: recalled", to(Receiving::ReadEnd { seen, at }))
                }
                // Behind where it was lent only the borrower can have reserved anything.
                Loan::Recalled { at, .. } if reached(head, at) || self.has(Mutant::RecalledIsEmpty) => {
                    ("read the loan: recalled", rest())
                }
                Loan::Recalled { at, .. } => {
                    let tail = Tail::at(at, seen.tail.slot);
                    (
                        "read the loan: recalled",
                        to(self.after_tail(head, Seen { tail, ..seen }).unwrap_or(Receiving::Look)),
                    )
                }
                Loan::Returned { end } => ("read the loan: returned", to(Receiving::TailAgain { seen, end })),
                Loan::Never => ("read the loan: none", to(Receiving::Look)),
            },
            Receiving::ReadEnd { seen, at } => {
                let end = state.intents[usize::from(seen.tail.slot)].reach;
                let once = self.has(Mutant::LoanIsReadOnce) || self.has(Mutant::RecalledCountsAsLent);
                let next = if once {
                    Receiving::TailAgain { seen, end }
                } else {
                    Receiving::LoanAgain { seen, at, end }
                };
                ("read the end of the loan", to(next))
            }
            Receiving::LoanAgain { seen, at, end } => {
                if state.loans[usize::from(seen.tail.slot)] == (Loan::Lent { at }) {
                    ("still lent", to(Receiving::TailAgain { seen, end }))
                } else {
                    ("no longer lent", to(Receiving::Look))
                }
            }
            Receiving::TailAgain { mut seen, end } => {
                if state.tail == seen.tail {
                    seen.tail = Tail::at(end, seen.tail.slot);
                    self.after_tail(head, seen)
                        .map_or_else(|| ("tail again: empty", rest()), |next| ("tail again", to(next)))
                } else {
                    ("tail again: another", to(Receiving::Look))
                }
            }
            Receiving::ReadHeaders { mut seen } => {
                for distance in 2..CAPACITY {
                    let at = head.wrapping_add(distance);
                    if let (Some(Tag::Committed | Tag::Discarded), Ok(info)) =
                        (state.memory.tag(at), state.memory.info(at))
                    {
                        seen.headers[usize::from(distance)] = info.previous + 1;
                    }
                }
                ("read headers", to(Receiving::ReadIntent { seen, slot: 0 }))
            }
            Receiving::ReadIntent { mut seen, slot } => {
                seen.intents[usize::from(slot)].tail = state.intents[usize::from(slot)].tail;
                let next = if self.has(Mutant::LengthBeforeTailWord) {
                    self.after_intent(head, seen, slot)
                } else {
                    Receiving::ReadReach { seen, slot }
                };
                ("read intent", to(next))
            }
            Receiving::ReadReach { mut seen, slot } => {
                seen.intents[usize::from(slot)].reach = state.intents[usize::from(slot)].reach;
                let next = if self.has(Mutant::LengthBeforeTailWord) {
                    Receiving::ReadIntent { seen, slot }
                } else {
                    self.after_intent(head, seen, slot)
                };
                ("read reach", to(next))
            }
            Receiving::ReadTailLate { mut seen } => {
                seen.tail = state.tail;
                ("read tail", to(Receiving::LookAgain { seen }))
            }
            Receiving::LookAgain { seen } => match state.memory.tag(head) {
                Some(_) => ("look again: there", to(Receiving::Look)),
                None => ("look again: nothing", self.resolve(&seen, head, 0).map_or_else(rest, to)),
            },
            Receiving::ReadHeader { seen, slot } => {
                let named = match self.previous(state, &seen, slot) {
                    Ok(previous) => previous == Some(slot),
                    Err(broken) => return ("read header", Err(broken)),
                };
                let next = if named {
                    let end = seen.intents[usize::from(slot)].end(self.reach);
                    Some(Receiving::Prove { slot, end, dead: seen.dead })
                } else {
                    self.resolve(&seen, head, slot + 1)
                };
                ("read header", next.map_or_else(rest, to))
            }
            Receiving::Prove { slot, end, dead } => {
                let proven = if self.has(Mutant::ClaimBeforeTail) {
                    dead >> slot & 1 == 1
                } else {
                    self.proven(state, slot) || self.has(Mutant::SkipAfterTimeOut)
                };
                match proven {
                    false => ("owner is alive", rest()),
                    true if self.has(Mutant::NoSecondIntent) => {
                        ("owner is dead", to(Receiving::LastLook { end }))
                    }
                    true => ("owner is dead", to(Receiving::IntentAgain { slot, end })),
                }
            }
            Receiving::IntentAgain { slot, end } => {
                let next = match state.intents[usize::from(slot)].tail.position == head {
                    false => Receiving::Look,
                    true if self.has(Mutant::NoLastLook) => Receiving::Skip { end },
                    true => Receiving::LastLook { end },
                };
                ("read the dead one's intent", to(next))
            }
            Receiving::LastLook { end } => match state.memory.tag(head) {
                Some(_) => ("last look: there", to(Receiving::Look)),
                None => ("last look: nothing", to(Receiving::Skip { end })),
            },
            Receiving::Skip { end } => {
                let next = if self.is_abandoned(state, head, end) {
                    moved(state, end)
                } else {
                    Err("the receiver skips what is not a dead sender's unfinished reservation")
                };
                ("skip", next)
            }
        }
    }

    /// `None` when nothing is reserved.
    fn after_tail(&self, head: u8, seen: Seen) -> Option<Receiving> {
        if seen.tail.position == head {
            None
        } else if self.has(Mutant::HeadersBeforeIntents) {
            Some(Receiving::ReadHeaders { seen })
        } else if self.has(Mutant::LengthBeforeTailWord) {
            Some(Receiving::ReadReach { seen, slot: 0 })
        } else {
            Some(Receiving::ReadIntent { seen, slot: 0 })
        }
    }

    fn after_intent(&self, head: u8, seen: Seen, slot: u8) -> Receiving {
        let slots = self.actors.iter().filter(|actor| actor.slot.is_some()).count();
        if usize::from(slot) + 1 < slots {
            if self.has(Mutant::LengthBeforeTailWord) {
                Receiving::ReadReach { seen, slot: slot + 1 }
            } else {
                Receiving::ReadIntent { seen, slot: slot + 1 }
            }
        } else if self.has(Mutant::IntentsBeforeTail) {
            Receiving::ReadTailLate { seen }
        } else if self.has(Mutant::NoLookAgain) {
            self.resolve(&seen, head, 0).unwrap_or(Receiving::Look)
        } else {
            Receiving::LookAgain { seen }
        }
    }

    /// Who owns the head? Rules a and b, from `slot` on; rule c takes another look at memory.
    fn resolve(&self, seen: &Seen, head: u8, slot: u8) -> Option<Receiving> {
        for slot in slot..SLOTS as u8 {
            let intent = seen.intents[usize::from(slot)];
            let end = intent.end(self.reach);
            if intent.tail.position != head || end == head && !self.has(Mutant::EmptyIntentsCount) {
                continue;
            }
            let named = Tail::at(end, slot);
            let a = seen.tail == named && !self.has(Mutant::NoRuleA)
                || self.has(Mutant::RuleAIgnoresTheSlot) && seen.tail.position == named.position;
            let b = seen.intents.iter().any(|other| other.tail == named) && !self.has(Mutant::NoRuleB);
            if a || b || self.has(Mutant::AnyDeadSenderAtHead) {
                return Some(Receiving::Prove { slot, end, dead: seen.dead });
            }
            if !self.has(Mutant::NoRuleC) {
                return Some(Receiving::ReadHeader { seen: *seen, slot });
            }
        }
        None
    }

    /// `previous` of the valid header behind this slot's intent.
    fn previous(&self, state: &State, seen: &Seen, slot: u8) -> Result<Option<u8>, Broken> {
        let end = seen.intents[usize::from(slot)].end(self.reach);
        if self.has(Mutant::HeadersBeforeIntents) {
            let distance = usize::from(end.wrapping_sub(state.position));
            return Ok(seen.headers.get(distance).and_then(|previous| previous.checked_sub(1)));
        }
        match state.memory.tag(end) {
            Some(Tag::Committed | Tag::Discarded) => Ok(Some(state.memory.info(end)?.previous)),
            // A filler is a tag alone: what follows it is anything.
            Some(Tag::Filler) if self.has(Mutant::FillerHasAPrevious) => Ok(Some(slot)),
            _ => Ok(None),
        }
    }

    /// No process with the id and start time of the claim exists any more.
    fn proven(&self, state: &State, slot: u8) -> bool {
        state.is_dead(state.claims[usize::from(slot)].process)
    }

    /// The record at the head is a committed message of the process that its slot's claim names.
    fn message(&self, state: &State) -> Result<(Id, u8), Broken> {
        let info = state.memory.info(state.position)?;
        let Id { sender, op, record } = info.id;
        let actor = &self.actors[usize::from(sender)];
        if state.senders[usize::from(sender)].op <= op {
            return Err("a message is delivered that is not committed, or a batch before it is whole");
        }
        if actor.ops[usize::from(op)].messages().nth(usize::from(record)) != Some(info.units)
            || !state.memory.payload_is(state.position, info.id, info.units)
        {
            return Err("a message is torn");
        }
        if state.claims[usize::from(info.slot)].process != actor.process {
            return Err("a message names a slot that is no longer its sender's");
        }
        Ok((info.id, info.units))
    }

    fn deliver(&self, state: &State) -> Result<State, Broken> {
        let (id, _) = self.message(state)?;
        let mut next = *state;
        hand_over(&mut next.delivered[usize::from(id.sender)], id, state.receiver.fresh)?;
        next.receiver = Receiver { doing: Receiving::Release, fresh: false, rung: true };
        Ok(next)
    }

    fn release(&self, state: &State) -> Result<State, Broken> {
        let (Id { sender, op, record }, units) = self.message(state)?;
        let mut next = moved(state, state.position.wrapping_add(units))?;
        if self.has(Mutant::ReleaseBeforeDelivery) {
            next.receiver.doing = Receiving::HandOn { sender, op, record };
        }
        Ok(next)
    }

    fn pass(&self, state: &State) -> Result<State, Broken> {
        let units = match state.memory.tag(state.position) {
            Some(Tag::Filler) => 1,
            _ => state.memory.info(state.position)?.units,
        };
        moved(state, state.position.wrapping_add(units))
    }
}

/// The receiver's position moves, never beyond the tail.
fn moved(state: &State, position: u8) -> Result<State, Broken> {
    if !reached(state.tail_position(), position) {
        return Err("the position goes beyond the tail");
    }
    let mut next = *state;
    next.position = position;
    next.receiver.doing = Receiving::Look;
    next.receiver.rung = true;
    Ok(next)
}
