//! A sender of the ring with many: attaching to a slot, reserving, writing, closing. With the tail as a loan:
//! [`super::loan`].

use super::loan::Loan;
use super::many::{Claim, Intent, Many, Mutant, Reach, State, Tail, writable};
use super::search::Steps;
use super::words::{CAPACITY, Op, reached};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Sender {
    pub slot: u8,
    /// It has a slot.
    pub attached: bool,
    /// Number of the operation it is at.
    pub op: u8,
    /// The operations it gave up, a bit each.
    pub gave_up: u8,
    /// It has the tail as a loan, as far as it knows.
    pub borrows: bool,
    pub doing: Sending,
}

/// What a sender does next; each variant is one access to shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sending {
    /// Reads claims until one is CLOSED, or its process is dead by proof. (`early`: a mutant's tail)
    FindSlot {
        early: Option<Tail>,
    },
    ReadIntent {
        slot: u8,
        claim: Claim,
        early: Option<Tail>,
    },
    ReadReach {
        slot: u8,
        claim: Claim,
        at: u8,
        early: Option<Tail>,
    },
    ReadTail {
        slot: u8,
        claim: Claim,
        at: u8,
        end: u8,
    },
    ReadHead {
        slot: u8,
        claim: Claim,
        at: u8,
        end: u8,
        /// `None` while it is called back.
        tail: Option<u8>,
    },
    TakeSlot {
        slot: u8,
        claim: Claim,
    },
    LoadTail,
    CheckSpace {
        seen: Tail,
    },
    StoreReach {
        seen: Tail,
    },
    StoreIntent {
        seen: Tail,
    },
    SwingTail {
        seen: Tail,
    },
    /// The same, and takes the tail as a loan.
    StoreLoan {
        seen: Tail,
    },
    Borrow {
        seen: Tail,
    },
    /// The borrower: its own end is the tail.
    CheckOwnSpace {
        seen: Tail,
    },
    StoreOwnIntent {
        seen: Tail,
    },
    StoreOwnReach {
        seen: Tail,
    },
    CheckLoan {
        seen: Tail,
        /// Whether it has stored an end that counts if nobody else has decided; or has found no space.
        claimed: bool,
    },
    Settle {
        seen: Tail,
        claimed: bool,
        loan: Loan,
    },
    /// Somebody else: calls the tail back.
    ReadLoan {
        lent: Tail,
    },
    Recall {
        lent: Tail,
        at: u8,
    },
    ReadEnd {
        lent: Tail,
        at: u8,
    },
    Return {
        lent: Tail,
        at: u8,
        end: u8,
    },
    Restore {
        lent: Tail,
        end: u8,
    },
    Write {
        seen: Tail,
        done: u8,
    },
    Close,
    /// Closed; or dead without a reservation.
    Gone,
}

impl Many<'_> {
    pub fn sender_steps(&self, sender: usize, state: &State, steps: &mut Steps<State>) {
        let me = state.senders[sender];
        let mut step = |what, next| steps.push(("sender", sender as u8, what), Ok(next));
        let to = |doing| {
            let mut next = *state;
            next.senders[sender].doing = doing;
            next
        };
        match me.doing {
            Sending::FindSlot { early: None } if self.has(Mutant::ReuseTailBeforeProof) => {
                step("read tail", to(Sending::FindSlot { early: Some(state.tail) }));
            }
            Sending::FindSlot { early } => {
                let slots = self.actors.iter().filter_map(|actor| actor.slot);
                for slot in slots {
                    let claim = state.claims[usize::from(slot)];
                    if claim.closed || state.is_dead(claim.process) {
                        step("found a slot", to(Sending::ReadIntent { slot, claim, early }));
                    }
                }
            }
            Sending::ReadIntent { slot, claim, early } => {
                let at = state.intents[usize::from(slot)].tail.position;
                step("read its intent", to(Sending::ReadReach { slot, claim, at, early }));
            }
            Sending::ReadReach { slot, claim, at, early } => {
                let Intent { tail, reach } = state.intents[usize::from(slot)];
                let end = Intent { tail: Tail { position: at, ..tail }, reach }.end(self.reach);
                let next = match early {
                    Some(tail) => Sending::ReadHead { slot, claim, at, end, tail: Some(tail.position) },
                    None => Sending::ReadTail { slot, claim, at, end },
                };
                step("read its reach", to(next));
            }
            Sending::ReadTail { .. }
                if self.is_recalled(state) && !self.has(Mutant::NewcomerDoesNotRecall) =>
            {
                step("read tail: called back", to(Sending::ReadLoan { lent: state.tail }));
            }
            Sending::ReadTail { slot, claim, at, end } => {
                let tail = self.tail_for_reuse(state);
                step("read tail", to(Sending::ReadHead { slot, claim, at, end, tail }));
            }
            Sending::ReadHead { slot, claim, at, end, tail } => {
                if self.may_reuse(state.position, at, end, tail) {
                    step("read head: free", to(Sending::TakeSlot { slot, claim }));
                } else {
                    let mut next = to(Sending::FindSlot { early: None });
                    next.receiver.rung |= self.lends && !self.has(Mutant::NewcomerDoesNotRing);
                    step("read head: not free", next);
                }
            }
            Sending::TakeSlot { slot, claim } => {
                if state.claims[usize::from(slot)] == claim {
                    let mut next = to(Sending::LoadTail);
                    next.senders[sender].slot = slot;
                    next.senders[sender].attached = true;
                    let process = self.actors[sender].process;
                    let takes = if self.has(Mutant::TakesNotCounted) { 0 } else { claim.takes + 1 };
                    next.claims[usize::from(slot)] = Claim { process, closed: false, takes };
                    step("claimed the slot", next);
                } else {
                    step("slot is gone", to(Sending::FindSlot { early: None }));
                }
            }

            Sending::LoadTail => {
                let seen = state.tail;
                let next =
                    if seen.lent { Sending::ReadLoan { lent: seen } } else { Sending::CheckSpace { seen } };
                step("load tail", to(next));
            }
            Sending::CheckSpace { seen } => {
                let end = seen.position.wrapping_add(self.op(sender, state).units());
                if end.wrapping_sub(state.position) <= CAPACITY || self.has(Mutant::NoSpaceCheck) {
                    step("space", to(self.after_space(seen)));
                } else {
                    let mut next = to(Sending::LoadTail);
                    next.receiver.rung |= self.lends && !self.has(Mutant::FullDoesNotRing);
                    step("no space", next);
                    self.give_up(sender, state, &mut step);
                }
            }
            Sending::StoreReach { seen } => {
                let mut next = to(Sending::StoreIntent { seen });
                let units = self.op(sender, state).units();
                next.intents[usize::from(me.slot)].reach = match self.reach {
                    Reach::Length => units,
                    Reach::End => seen.position.wrapping_add(units),
                };
                step("store reach", next);
            }
            Sending::StoreIntent { seen } => {
                let mut next = to(if self.has(Mutant::IntentAfterCas) {
                    Sending::Write { seen, done: 0 }
                } else {
                    Sending::SwingTail { seen }
                });
                next.intents[usize::from(me.slot)].tail = seen;
                step("store intent", next);
                if self.lends {
                    next.senders[sender].doing = Sending::StoreLoan { seen };
                    step("store intent, to borrow", next);
                }
            }
            Sending::SwingTail { seen } if state.tail == seen => {
                let mut next = to(if self.has(Mutant::IntentAfterCas) {
                    Sending::StoreReach { seen }
                } else {
                    Sending::Write { seen, done: 0 }
                });
                let end = seen.position.wrapping_add(self.op(sender, state).units());
                next.tail = Tail::at(end, me.slot);
                steps.push(
                    ("sender", sender as u8, "reserved"),
                    writable(state, end.wrapping_sub(1)).map(|()| next),
                );
            }
            Sending::SwingTail { .. } => {
                step("somebody was faster", to(Sending::LoadTail));
                self.give_up(sender, state, &mut step);
            }

            Sending::StoreLoan { .. }
            | Sending::Borrow { .. }
            | Sending::CheckOwnSpace { .. }
            | Sending::StoreOwnIntent { .. }
            | Sending::StoreOwnReach { .. }
            | Sending::CheckLoan { .. }
            | Sending::Settle { .. } => self.borrower_steps(sender, state, steps),
            Sending::ReadLoan { .. }
            | Sending::Recall { .. }
            | Sending::ReadEnd { .. }
            | Sending::Return { .. }
            | Sending::Restore { .. } => self.recall_steps(sender, state, steps),

            Sending::Write { seen, done } => {
                let stores = self.reservation(sender, state, seen).stores(self.scribe());
                let (position, word) = stores.get(done);
                let last = done + 1 == stores.count;
                let mut next = to(Sending::Write { seen, done: done + 1 });
                if last {
                    next = self.next_op(sender, next);
                    next.receiver.rung |= !self.has(Mutant::CommitDoesNotRing);
                }
                next.memory.store(position, word);
                let what = if last { "store the last tag" } else { "store a word" };
                steps.push(("sender", sender as u8, what), writable(state, position).map(|()| next));
            }
            Sending::Close => {
                let mut next = to(Sending::Gone);
                next.claims[usize::from(me.slot)].closed = true;
                next.receiver.rung |= !self.has(Mutant::CommitDoesNotRing);
                step("close", next);
            }
            Sending::Gone => {}
        }
    }

    /// Taken together as one step where it is lent: the receiver reads it word by word.
    fn tail_for_reuse(&self, state: &State) -> Option<u8> {
        (!self.is_recalled(state)).then(|| state.tail_position())
    }

    /// Where it goes on that has called the tail back.
    pub fn after_recall(&self, sender: usize, state: &State) -> Sending {
        if state.senders[sender].attached { Sending::LoadTail } else { Sending::FindSlot { early: None } }
    }

    fn after_space(&self, seen: Tail) -> Sending {
        if self.has(Mutant::IntentAfterCas) {
            Sending::SwingTail { seen }
        } else {
            Sending::StoreReach { seen }
        }
    }

    fn next_op(&self, sender: usize, mut state: State) -> State {
        let me = &mut state.senders[sender];
        me.op += 1;
        let done = usize::from(me.op) == self.actors[sender].ops.len();
        me.doing = if done {
            Sending::Close
        } else if me.borrows {
            Sending::CheckOwnSpace { seen: Tail::at(state.intents[usize::from(me.slot)].reach, me.slot) }
        } else {
            Sending::LoadTail
        };
        state
    }

    pub fn give_up(&self, sender: usize, state: &State, step: &mut impl FnMut(&'static str, State)) {
        if matches!(self.op(sender, state), Op::Try(_)) {
            let mut next = *state;
            next.senders[sender].gave_up |= 1 << state.senders[sender].op;
            step("gives up", self.next_op(sender, next));
        }
    }

    /// Whether nothing remains in the ring of the slot's former owner, whose last intent was `at..end`. The
    /// tail was read after the proof, the head after the tail.
    fn may_reuse(&self, head: u8, at: u8, end: u8, tail: Option<u8>) -> bool {
        let at_tail = tail.is_some_and(|tail| reached(head, tail));
        if self.has(Mutant::ReuseAlways) {
            true
        } else if self.has(Mutant::ReuseBehindStart) {
            head != at && reached(head, at) || head == at && Some(at) == tail
        } else if self.has(Mutant::ReuseOnlyBehindIntent) {
            reached(head, end) && head != at
        } else if self.reach == Reach::Length && !self.has(Mutant::ReuseTornLength) {
            at_tail
        } else {
            reached(head, end) || at_tail
        }
    }
}
