//! Exhaustive search over all interleavings of the protocol in docs/PROTOCOL.md, with kills at every step.
//!
//! Four models, sequentially consistent, one access to shared memory a step (weak memory is checked
//! elsewhere):
//!
//! | model | what runs | what is proven about it |
//! |---|---|---|
//! | `many` | senders, a receiver and its successors, senders that take over slots, the loan of the tail | see below |
//! | `one` | senders one after the other, a receiver and its successors | the same |
//! | `wake` | senders wait for space, a receiver for messages | no lost wake, one wake a sleep |
//! | `end` | senders that attach, send and close | the end is reported once, after all messages |
//!
//! Safety: each committed message is delivered, in order, once to each receiver (a successor may get the
//! first one that was not released again), whole, and under its true sender's name; nothing else is
//! delivered; no live sender's reservation is skipped; no memory is written that is not released. Liveness:
//! from every state that can be reached the end can be reached too, with nobody killed any more. A process
//! that is stopped is one that takes no step.
//!
//! Taken together as one step: the reading of a record below its valid tag with the claim of its sender
//! (every store is checked against the receiver's position, so nobody writes there), the reading of a claim
//! with the proof of death (death is final), a successor's look at a tag with its erasing (nobody else writes
//! there), the tail as who looks for a slot reads it where it is lent; in `wake` the words that say whether there is a message or space, and in `end` those that say
//! whether the ring is empty.
//!
//! Mutants lack one check or order each, and the search must find what is lost by that; those that the
//! protocol survives have tests of their own. `RINGPOST_MODEL=long` explores more senders and kills. Figures:
//! `docs/RELIABILITY.md`, and of each model `cargo test --test protocol_model -- --nocapture`.

#[path = "protocol_model/mod.rs"]
mod model;

use model::end::{self, End};
use model::many::{Actor, Many, Mutant, Reach};
use model::one::{self, One};
use model::search::{Model, Verdict, explore};
use model::wake::{self, Wake};
use model::words::Op::{self, Batch, Discard, Send, Truncate, Try};

/// States; bounds memory, at about 150 bytes a state.
const LIMIT: usize = 60_000_000;

fn long() -> bool {
    std::env::var("RINGPOST_MODEL").is_ok_and(|bounds| bounds == "long")
}

fn holds<M: Model>(name: &str, model: &M) {
    let report = explore(model, LIMIT);
    println!("{name:<34} {report}");
    assert!(matches!(report.verdict, Verdict::Holds), "{name}: {report}{}", report.told());
}

fn is_found<M: Model>(name: &str, model: &M) {
    let report = explore(model, LIMIT);
    println!("{name:<34} {report}");
    assert!(matches!(report.verdict, Verdict::Broken(..) | Verdict::Stuck(_)), "{name}: {report}");
}

/// A sender that is attached from the beginning. Each is a process of its own here.
const fn sender(slot: u8, ops: &'static [Op]) -> Actor {
    Actor { process: slot, slot: Some(slot), ops }
}

/// A sender that takes over a slot.
const fn newcomer(process: u8, ops: &'static [Op]) -> Actor {
    Actor { process, slot: None, ops }
}

const PAIR: &[Actor] = &[sender(0, &[Send(0)]), sender(1, &[Send(1)])];
const FULL: &[Actor] = &[sender(0, &[Send(0), Send(1)]), sender(1, &[Send(1), Send(0)])];
const GIVES_UP: &[Actor] = &[sender(0, &[Try(2), Send(0), Send(0)]), sender(1, &[Send(0)])];
const BATCHES: &[Actor] = &[sender(0, &[Batch(0, 1)]), sender(1, &[Send(0), Batch(0, 0)])];
const BATCH_BEHIND: &[Actor] = &[sender(0, &[Send(0), Send(0)]), sender(1, &[Batch(0, 0)])];
const BATCH_RETRIES: &[Actor] = &[sender(0, &[Batch(0, 0)]), sender(1, &[Send(0)])];
const FILLER: &[Actor] = &[sender(0, &[Send(0)]), sender(1, &[Truncate { reserved: 1, kept: 0 }])];
const TRUNCATED: &[Actor] = &[
    sender(0, &[Truncate { reserved: 2, kept: 0 }, Discard(0)]),
    sender(1, &[Try(1), Truncate { reserved: 1, kept: 0 }]),
];
const SLOTS: &[Actor] = &[sender(0, &[Send(0)]), sender(1, &[Send(1)]), newcomer(2, &[Send(0), Send(0)])];
const SLOT_OF_BATCH: &[Actor] =
    &[sender(0, &[Batch(0, 0), Send(0)]), sender(1, &[Send(1)]), newcomer(2, &[Send(0)])];
/// One process opens a second handle while another one takes the slot of its first.
const SLOT_TWICE: &[Actor] = &[sender(0, &[Send(0)]), newcomer(0, &[Send(0)]), newcomer(1, &[Send(0)])];
const THREE: &[Actor] = &[sender(0, &[Send(0)]), sender(1, &[Send(1)]), sender(2, &[Send(0)])];
const THREE_GIVE_UP: &[Actor] =
    &[sender(0, &[Try(2), Send(0)]), sender(1, &[Send(0)]), sender(2, &[Send(0)])];

fn many<'a>(actors: &'a [Actor], reach: Reach, kills: (u8, u8), mutants: &'a [Mutant]) -> Many<'a> {
    Many { actors, reach, lends: false, sender_kills: kills.0, receiver_kills: kills.1, mutants }
}

/// With the tail as a loan.
fn lending<'a>(actors: &'a [Actor], kills: (u8, u8), mutants: &'a [Mutant]) -> Many<'a> {
    Many { lends: true, ..many(actors, Reach::End, kills, mutants) }
}

#[test]
fn many_senders_lose_nothing_and_stick_nowhere() {
    let both = &[Reach::Length, Reach::End][..];
    let scenarios = [
        ("2 senders", PAIR, (2, 2), both),
        ("2 senders, full ring", FULL, (1, 1), both),
        ("gives up", GIVES_UP, (1, 1), both),
        ("batches", BATCHES, (1, 1), both),
        ("batch behind another", BATCH_BEHIND, (1, 1), both),
        ("batch retries", BATCH_RETRIES, (2, 1), both),
        ("filler", FILLER, (1, 1), both),
        ("truncated", TRUNCATED, (1, 1), both),
        ("slot taken over", SLOTS, (1, 1), &[Reach::End]),
        ("slot of a batch taken over", SLOT_OF_BATCH, (1, 1), &[Reach::Length]),
        ("slot taken twice", SLOT_TWICE, (1, 1), both),
    ];
    for (name, actors, kills, reaches) in scenarios {
        for &reach in reaches {
            holds(&format!("{name}, {reach:?}"), &many(actors, reach, kills, &[]));
        }
    }
    if long() {
        for (name, actors, ..) in scenarios {
            for reach in [Reach::Length, Reach::End] {
                holds(&format!("long: {name}, {reach:?}"), &many(actors, reach, (2, 2), &[]));
            }
        }
        for (name, actors) in [("3 senders", THREE), ("3 senders, one gives up", THREE_GIVE_UP)] {
            for reach in [Reach::Length, Reach::End] {
                holds(&format!("long: {name}, {reach:?}"), &many(actors, reach, (1, 1), &[]));
            }
        }
    }
}

#[test]
fn every_mutant_of_many_senders_is_found() {
    use Mutant::*;
    use Reach::{End, Length};
    for (mutant, actors, reach) in [
        (IntentAfterCas, PAIR, End),
        (NoSpaceCheck, BATCHES, End),
        (TagBeforePayload, PAIR, End),
        (HeadersFirstToLast, BATCHES, End),
        (InnerHeadersNameTheTail, BATCH_BEHIND, End),
        (InnerHeadersNameTheTail, BATCH_BEHIND, Length),
        (AnyDeadSenderAtHead, PAIR, End),
        (NoRuleA, PAIR, End),
        (RuleAIgnoresTheSlot, GIVES_UP, End),
        (NoRuleB, PAIR, End),
        (NoRuleC, BATCH_BEHIND, End),
        (EmptyIntentsCount, PAIR, End),
        (EmptyIntentsCount, PAIR, Length),
        (UnwrittenIntentsAreZero, GIVES_UP, End),
        (UnwrittenIntentsAreZero, GIVES_UP, Length),
        (FillerHasAPrevious, FILLER, End),
        (LengthBeforeTailWord, BATCHES, End),
        (ClaimBeforeTail, SLOT_TWICE, End),
        (NoSecondIntent, GIVES_UP, Length),
        (NoSecondIntent, BATCH_RETRIES, Length),
        (NoSecondIntent, GIVES_UP, End),
        (NoLastLook, PAIR, End),
        (SkipAfterTimeOut, PAIR, End),
        (ReleaseBeforeDelivery, PAIR, End),
        (DeathDoesNotRing, PAIR, End),
        (CommitDoesNotRing, PAIR, End),
        (ReuseAlways, SLOT_TWICE, End),
        (ReuseOnlyBehindIntent, SLOT_TWICE, End),
        (ReuseBehindStart, SLOT_OF_BATCH, Length),
        (ReuseBehindStart, SLOT_OF_BATCH, End),
        (ReuseTornLength, SLOT_OF_BATCH, Length),
        (ReuseTailBeforeProof, SLOT_TWICE, End),
        (TakesNotCounted, SLOT_TWICE, End),
    ] {
        is_found(&format!("{mutant:?}, {reach:?}"), &many(actors, reach, (2, 1), &[mutant]));
    }
}

const LENT: &[Actor] = &[sender(0, &[Send(0), Send(1)]), sender(1, &[Send(1)])];
const LENT_FULL: &[Actor] = &[sender(0, &[Send(0), Send(1), Send(0)]), sender(1, &[Send(1)])];
const LENT_GIVES_UP: &[Actor] = &[sender(0, &[Send(0), Try(2), Send(0)]), sender(1, &[Send(0)])];
const LENT_BATCHES: &[Actor] = &[sender(0, &[Send(0), Batch(0, 0)]), sender(1, &[Send(0)])];
const LENT_SLOTS: &[Actor] =
    &[sender(0, &[Send(0), Send(0)]), newcomer(1, &[Send(1)]), newcomer(2, &[Send(0)])];
/// The second can die with an intent that comes to nothing and ends behind the first one's message.
const LENT_BOTH_SLOTS: &[Actor] =
    &[sender(0, &[Send(0), Send(0)]), sender(1, &[Send(1)]), newcomer(2, &[Send(0)])];
/// The first may be stopped with a record before the loan.
const LENT_BEHIND: &[Actor] = &[sender(0, &[Send(0)]), sender(1, &[Send(0)]), sender(2, &[Send(0)])];
/// What is left unfinished leaves no room for the other.
const LENT_LARGE: &[Actor] = &[sender(0, &[Send(0), Send(3)]), sender(1, &[Send(3)])];

#[test]
fn a_tail_that_is_lent_and_called_back_loses_nothing() {
    for (name, actors, kills) in
        [("2 senders", LENT, (1, 0)), ("batches", LENT_BATCHES, (1, 0)), ("slots", LENT_SLOTS, (1, 0))]
    {
        holds(&format!("lent: {name}"), &lending(actors, kills, &[]));
    }
    if long() {
        for (name, actors, kills) in [
            ("2 senders", LENT, (2, 2)),
            ("2 senders, full ring", LENT_FULL, (2, 1)),
            ("gives up", LENT_GIVES_UP, (2, 1)),
            ("batches", LENT_BATCHES, (2, 1)),
            ("slots", LENT_SLOTS, (2, 1)),
            ("no room for another", LENT_LARGE, (2, 1)),
            ("both slots", LENT_BOTH_SLOTS, (2, 0)),
            ("a record before it", LENT_BEHIND, (1, 0)),
        ] {
            holds(&format!("long: lent: {name}"), &lending(actors, kills, &[]));
        }
    }
}

#[test]
fn every_mutant_of_the_loan_is_found() {
    use Mutant::*;
    for (mutant, actors, kills) in [
        (LoanIsNotChecked, LENT, 0),
        (BorrowerStoresTheEndFirst, LENT_BATCHES, 1),
        (BorrowerBelievesItself, LENT, 0),
        (EndBeforeRecall, LENT, 0),
        (ReturnedWithoutCas, LENT, 0),
        (RecalledCountsAsLent, LENT, 1),
        (LoanIsReadOnce, LENT, 1),
        (FullBorrowerDoesNotLook, LENT_FULL, 0),
        (FullDoesNotRing, LENT_LARGE, 1),
        (RecalledIsEmpty, LENT_BEHIND, 2),
    ] {
        is_found(&format!("lent: {mutant:?}"), &lending(actors, (kills, 0), &[mutant]));
    }
    if long() {
        for mutant in [NewcomerDoesNotRecall, NewcomerDoesNotRing] {
            is_found(&format!("long: lent: {mutant:?}"), &lending(LENT_BOTH_SLOTS, (2, 0), &[mutant]));
        }
    }
}

/// What the second reading of the dead sender's intent makes unnecessary: the order of tail, intents and
/// headers, and the look at the head between them. Without it the tail must come before the intents.
#[test]
fn the_second_intent_frees_the_order_of_the_first() {
    use Mutant::*;
    let any_order = [IntentsBeforeTail, HeadersBeforeIntents, NoLookAgain];
    for (name, actors) in [("2 senders", PAIR), ("batches", BATCHES), ("batch behind", BATCH_BEHIND)] {
        for reach in [Reach::Length, Reach::End] {
            holds(&format!("any order: {name}, {reach:?}"), &many(actors, reach, (1, 1), &any_order));
        }
    }
    let length_first = [LengthBeforeTailWord];
    holds("length before tail word", &many(GIVES_UP, Reach::Length, (1, 1), &length_first));
    let without = [NoSecondIntent, IntentsBeforeTail];
    is_found("intents before tail, read once", &many(BATCH_BEHIND, Reach::Length, (1, 1), &without));
}

const PLAIN: &[&[Op]] = &[&[Send(0), Send(1), Send(2)], &[Send(1), Send(0), Send(1)]];
const ONE_BATCHES: &[&[Op]] =
    &[&[Send(0), Batch(0, 1), Send(0)], &[Send(0), Batch(1, 0)], &[Send(1), Send(0)]];
const DISCARDS: &[&[Op]] = &[
    &[Discard(2), Batch(0, 0), Truncate { reserved: 3, kept: 0 }],
    &[Discard(1), Send(0), Batch(0, 0)],
    &[Send(0), Send(1)],
];

#[test]
fn one_sender_after_the_other_loses_nothing() {
    let kills = if long() { (2, 9) } else { (2, 2) };
    for (name, senders) in [("plain", PLAIN), ("batches", ONE_BATCHES), ("discards", DISCARDS)] {
        let model = One { senders, sender_kills: kills.0, receiver_kills: kills.1, mutants: &[] };
        holds(&format!("one sender: {name}"), &model);
    }
}

#[test]
fn every_mutant_of_one_sender_is_found() {
    use one::Mutant::*;
    for (mutant, senders) in [
        (TagsBehindTailStay, ONE_BATCHES),
        (TagsBehindTailStay, DISCARDS),
        (TagBeforePayload, PLAIN),
        (HeadersFirstToLast, ONE_BATCHES),
        (SuccessorWithoutProof, PLAIN),
        (TailIsThePosition, PLAIN),
        (NoSpaceCheck, PLAIN),
        (ReleaseBeforeDelivery, PLAIN),
    ] {
        let model = One { senders, sender_kills: 2, receiver_kills: 1, mutants: &[mutant] };
        is_found(&format!("one sender: {mutant:?}"), &model);
    }
}

const CALM: Wake = Wake {
    senders: &[1, 1],
    capacity: 2,
    receiver_closes_after: None,
    receiver_pauses_after: None,
    sender_kills: 0,
    receiver_kills: 0,
    stops: 0,
    mutants: &[],
};
const MESSAGES: Wake = Wake { sender_kills: 1, receiver_kills: 1, ..CALM };
const SPACE: Wake = Wake { senders: &[2, 1], capacity: 1, ..CALM };
const ONE_WAITS: Wake = Wake { senders: &[3], capacity: 1, ..MESSAGES };
const PAUSE: Wake = Wake { senders: &[6], capacity: 4, receiver_pauses_after: Some(2), ..CALM };
const PAUSE_SHARED: Wake = Wake { senders: &[3, 2], capacity: 4, receiver_pauses_after: Some(1), ..CALM };
const RECEIVER_CLOSES: Wake = Wake { receiver_closes_after: Some(1), ..ONE_WAITS };
const RECEIVER_CLOSES_TWO: Wake = Wake { senders: &[2, 1], receiver_closes_after: Some(1), ..MESSAGES };

#[test]
fn no_wake_is_lost_and_none_is_doubled() {
    for (name, model) in [
        ("messages", MESSAGES),
        ("space", SPACE),
        ("one waits", ONE_WAITS),
        ("pause", PAUSE),
        ("pause, two senders", PAUSE_SHARED),
        ("receiver closes", RECEIVER_CLOSES),
        ("receiver closes, two senders", RECEIVER_CLOSES_TWO),
    ] {
        holds(&format!("wake: {name}"), &model);
    }
    if long() {
        holds("wake, long: space, a sender killed", &Wake { sender_kills: 1, ..SPACE });
        holds("wake, long: space, the receiver killed", &Wake { receiver_kills: 1, ..SPACE });
    }
}

#[test]
fn every_mutant_of_sleeping_and_waking_is_found() {
    use wake::Mutant::*;
    for (mutant, model) in [
        (ReceiverDoesNotLookAgain, MESSAGES),
        (AnnounceAfterLook, MESSAGES),
        (PlainStoreOfWanted, SPACE),
        (GrantFromWhatItRead, MESSAGES),
        (GrantWithoutCas, MESSAGES),
        (ForgetsWhomItWoke, PAUSE),
        (WakeOne, SPACE),
        (WaitIgnoresTheValue, MESSAGES),
        (CheckBeforePublish, ONE_WAITS),
        (CheckBeforeRelease, ONE_WAITS),
        (NeverEager, PAUSE),
        (NoLookAfterEager, PAUSE),
        (SenderClosesAfterItsWake, MESSAGES),
        (ReceiverClosesAfterItsWake, RECEIVER_CLOSES),
        (DeathIsSilent, MESSAGES),
    ] {
        is_found(&format!("wake: {mutant:?}"), &Wake { mutants: &[mutant], ..model });
    }
}

/// A sender's first sleep ends after a while, and it looks again: two mutants only cost that time.
#[test]
fn the_end_of_the_first_sleep_hides_a_lost_wake_of_a_sender() {
    use wake::Mutant::*;
    holds("wake: SenderDoesNotLookAgain", &Wake { mutants: &[SenderDoesNotLookAgain], ..ONE_WAITS });
    holds("wake: ClosingHeedsHalf", &Wake { mutants: &[ClosingHeedsHalf], ..RECEIVER_CLOSES });
}

/// The receiver's mark says that it has not come back: so the next sender wakes it for the one that was stopped.
#[test]
fn a_waker_that_is_stopped_holds_up_nobody_who_sends_later() {
    let stop = Wake { stops: 1, ..CALM };
    holds("wake: a stop", &stop);
    is_found("wake: a stop, NoMark", &Wake { mutants: &[wake::Mutant::NoMark], ..stop });
    // One that is not taken back costs system calls.
    holds("wake: MarkStays", &Wake { mutants: &[wake::Mutant::MarkStays], ..stop });
}

const CLOSINGS: End =
    End { senders: &[(0, 1), (1, 1), (0, 1)], sender_kills: 1, receiver_kills: 0, mutants: &[] };

#[test]
fn the_end_is_reported_once_and_after_all_messages() {
    holds("end", &CLOSINGS);
    holds("end: receiver killed", &End { receiver_kills: 1, ..CLOSINGS });
}

#[test]
fn every_mutant_of_the_end_is_found() {
    use end::Mutant::*;
    for (mutant, receiver_kills) in [
        (ClosedBeforeCounted, 0),
        (RingBeforeClaims, 0),
        (ClosingsAfterTheRing, 0),
        (NotesTheLatestNumber, 0),
        (NotesBeforeItReports, 1),
        (WakeBeforeClosed, 0),
    ] {
        is_found(&format!("end: {mutant:?}"), &End { receiver_kills, mutants: &[mutant], ..CLOSINGS });
    }
}
