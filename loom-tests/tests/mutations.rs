//! Each ordering of the protocol is weakened once, and each load-bearing step left out once: a model must fail.
//!
//! The mutants are made in a copy of the sources under the temporary directory; the sources themselves are never touched.
//! Each is compiled, which takes minutes for all of them. So by itself this tries the few of `SHORT`, and all with
//!
//!     RINGPOST_LONG=1 cargo test --package loom-tests --test mutations -- --nocapture
//!
//! or those alone whose model is named so, as `offer::`, with `RINGPOST_MUTANTS=offer::` instead.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

struct Mutation {
    /// Its label in `docs/ORDERING.md`, or what is left out.
    name: &'static str,
    /// From the root of the repository.
    file: &'static str,
    /// What stands there, once.
    from: &'static str,
    to: &'static str,
    /// The model that fails.
    model: &'static str,
}

const fn mutation(
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    model: &'static str,
) -> Mutation {
    Mutation { name, file, from, to, model }
}

const ANY: &str = "src/wait/any.rs";
const BROADCAST: &str = "src/ring/broadcast.rs";
const CLAIM: &str = "src/ring/claim.rs";
const ELASTIC: &str = "src/ring/elastic.rs";
const FLOOR: &str = "src/ring/floor.rs";
const LOAN: &str = "src/ring/loan.rs";
const AREA: &str = "src/ring/mailbox/area.rs";
const DOZE: &str = "src/wait/doze.rs";
const MAILBOX: &str = "src/ring/mailbox.rs";
const MEMORY: &str = "src/ring/memory.rs";
const MPSC: &str = "src/ring/mpsc.rs";
const NOTICE: &str = "src/ring/mailbox/notice.rs";
const OFFER: &str = "src/ring/offer.rs";
const ONLOOKER: &str = "src/ring/onlooker.rs";
const RECEIVE: &str = "src/ring/receive.rs";
const RECOVERY: &str = "src/ring/recovery.rs";
const RESERVE: &str = "src/ring/reserve.rs";
const SPSC: &str = "src/ring/spsc.rs";
const USHER: &str = "src/wait/usher.rs";
const WAIT: &str = "src/wait.rs";
/// In place of `src/channel`, which is not part of the models.
const RECEIVING: &str = "loom-tests/src/harness/receiver.rs";

#[rustfmt::skip]
const WEAKENED: &[Mutation] = &[
    mutation("P1", MEMORY, "store(record::tag(self.key, position, state), Release)", "store(record::tag(self.key, position, state), Relaxed)", "single::what_is_sent_is_received"),
    mutation("C1", MEMORY, "self.word(position).load(Acquire))", "self.word(position).load(Relaxed))", "single::what_is_sent_is_received"),
    mutation("C1, a message", MEMORY, "self.word(position).load(Acquire) ==", "self.word(position).load(Relaxed) ==", "single::what_is_sent_is_received"),
    mutation("R1", RECEIVE, "position.store(end.units(), Release)", "position.store(end.units(), Relaxed)", "single::the_third_message_overwrites_the_first_only_after_it_was_read"),
    mutation("S1", MEMORY, "position.load(Acquire))", "position.load(Relaxed))", "single::the_third_message_overwrites_the_first_only_after_it_was_read"),
    mutation("T1", MPSC, "compare_exchange_weak(seen, next, Release, Relaxed)", "compare_exchange_weak(seen, next, Relaxed, Relaxed)", "recovery::a_tail_behind_the_head_names_who_is_there"),
    mutation("T1", SPSC, "tail.store(self.tail.with_low_byte(SLOT), Release)", "tail.store(self.tail.with_low_byte(SLOT), Relaxed)", "single::what_is_before_a_shown_tail_is_there"),
    mutation("I2", RECOVERY, "let at = Position::split(slot.intent_tail.load(Acquire)).0;", "let at = Position::split(slot.intent_tail.load(Relaxed)).0;", "many::nothing_is_taken_for_hidden_that_is_only_not_there_yet"),
    mutation("I1", MPSC, "intent_tail.store(seen, Release)", "intent_tail.store(seen, Relaxed)", "recovery::a_dead_owner_is_known_by_the_record_behind_it"),
    mutation("I2", RECOVERY, "other.intent_tail.load(Acquire)", "other.intent_tail.load(Relaxed)", "recovery::a_dead_owner_is_known_by_the_record_behind_it"),
    mutation("K1", CLAIM, "Seen::CLOSED, Release)", "Seen::CLOSED, Relaxed)", "claims::a_successor_sees_all_that_the_closed_sender_sent"),
    mutation("K2", CLAIM, "Seen(claim.load(Acquire))", "Seen(claim.load(Relaxed))", "claims::a_slot_is_not_taken_while_a_message_of_its_last_owner_is_in_the_ring"),
    mutation("E2", RECEIVING, "closings.load(Acquire)", "closings.load(Relaxed)", "end::an_end_is_not_taken_for_reported_while_a_message_before_it_was_not_seen"),
    mutation("A1", WAIT, "(attention, announced, Release, Relaxed)", "(attention, announced, Relaxed, Relaxed)", "sleep::one_of_several::a_late_sleeper_does_not_take_back_what_another_has_announced"),
    mutation("A2", WAIT, "self.attention.load(Acquire)", "self.attention.load(Relaxed)", "sleep::one_of_several::a_late_sleeper_does_not_take_back_what_another_has_announced"),
    mutation("F1", WAIT, "`Dormitory::wake_one`.\n        fence(SeqCst);\n", "`Dormitory::wake_one`.\n", "sleep::either_the_waker_sees_the_sleeper_or_the_sleeper_sees_the_flag"),
    mutation("F1, membarrier", WAIT, "barrier::heavy();", "", "sleep::a_bare_waker_is_made_up_for_by_the_sleeper"),
    mutation("F1, all bells", ANY, "`Dormitory::wake_one`.\n    fence(SeqCst);\n", "`Dormitory::wake_one`.\n", "any::each_of_two_bells_wakes_who_sleeps_on_both"),
    mutation("F1, all bells, membarrier", ANY, "barrier::heavy();", "", "any::a_bare_waker_of_either_is_made_up_for"),
    mutation("F2", WAIT, "`Call::announce`.\n            fence(SeqCst);\n", "`Call::announce`.\n", "sleep::either_the_waker_sees_the_sleeper_or_the_sleeper_sees_the_flag"),
    mutation("F2, bare", WAIT, "barrier::light();", "", "sleep::a_bare_waker_is_made_up_for_by_the_sleeper"),
    mutation("F3", WAIT, "sees us counted.\n            fence(SeqCst);\n", "sees us counted.\n", "sleep::a_waker_that_goes_bare_meanwhile_is_seen_or_sees"),
    mutation("F4", WAIT, "made it sees the grant.\n        fence(SeqCst);\n", "made it sees the grant.\n", "sleep::one_of_several::an_eager_sleeper_is_woken_although_another_is_woken_first"),
    mutation("B1", WAIT, "self.bare.fetch_sub(1, Release)", "self.bare.fetch_sub(1, Relaxed)", "sleep::what_a_bare_waker_published_before_it_left_is_seen"),
    mutation("B2", WAIT, "self.bare.load(Acquire)", "self.bare.load(Relaxed)", "sleep::what_a_bare_waker_published_before_it_left_is_seen"),
    mutation("V1", ELASTIC, "freed.store(floor.units(), Release)", "freed.store(floor.units(), Relaxed)", "elastic::memory_is_taken_only_after_it_was_read_and_used_again_only_after_it_was_taken"),
    mutation("V2", MEMORY, "self.receiver().freed.load(Acquire)", "self.receiver().freed.load(Relaxed)", "elastic::memory_is_taken_only_after_it_was_read_and_used_again_only_after_it_was_taken"),
    mutation("V3", ELASTIC, "that had passed it.\n        fence(Acquire);\n", "that had passed it.\n", "elastic::a_sender_that_comes_while_memory_is_taken_goes_on_behind_the_last_message"),
    mutation("R1, many readers", BROADCAST, "slot.position.store(end.with_low_byte(self.takes), Release)", "slot.position.store(end.with_low_byte(self.takes), Relaxed)", "broadcast::a_record_is_written_over_only_after_every_reader_has_read_it"),
    mutation("S1, many readers", BROADCAST, "slot.position.load(Acquire)", "slot.position.load(Relaxed)", "broadcast::who_joins_gets_all_from_then_on"),
    mutation("J1, O1", BROADCAST, "written over.\n        fence(SeqCst);\n", "written over.\n", "broadcast::who_joins_gets_all_from_then_on"),
    mutation("O1, J1", BROADCAST, "written over.\n        fence(SeqCst);\n", "written over.\n", "broadcast::who_looks_on_gets_it_whole_or_is_told_exactly_what_it_missed"),
    mutation("J2, tail", BROADCAST, "writes over nothing behind it.\n        fence(SeqCst);\n", "writes over nothing behind it.\n", "broadcast::who_joins_gets_all_from_then_on"),
    mutation("J2, floor", BROADCAST, "how far it writes over records.\n            fence(SeqCst);\n", "how far it writes over records.\n", "broadcast::who_joins_at_the_oldest_gets_all_from_there_on"),
    mutation("L1", FLOOR, "words.index.store(index, Release)", "words.index.store(index, Relaxed)", "broadcast::the_floor_is_a_record_with_its_number"),
    mutation("L2", FLOOR, "words.index.load(Acquire)", "words.index.load(Relaxed)", "broadcast::the_floor_is_a_record_with_its_number"),
    mutation("O1", FLOOR, "        fence(Release);\n", "", "broadcast::the_floor_stands_while_a_sender_is_killed_at_every_access"),
    mutation("O2", FLOOR, "            fence(Acquire);\n", "", "broadcast::the_floor_is_a_record_with_its_number"),
    mutation("M1", AREA, "(from.0, to.0, AcqRel, Relaxed)", "(from.0, to.0, Relaxed, Relaxed)", "mailbox::a_cell_that_is_used_again_is_not_taken_for_what_it_held_before"),
    mutation("M2", AREA, "State(self.state.load(Acquire))", "State(self.state.load(Relaxed))", "mailbox::a_message_that_lies_aside_is_picked_by_its_own_kind"),
    mutation("M3", AREA, "(before.0, entry.0, Release, Relaxed)", "(before.0, entry.0, Relaxed, Relaxed)", "mailbox::a_cell_that_is_used_again_is_not_taken_for_what_it_held_before"),
    mutation("M4", AREA, "Entry(self.entry_word(level, ticket).load(Acquire))", "Entry(self.entry_word(level, ticket).load(Relaxed))", "mailbox::a_cell_that_is_used_again_is_not_taken_for_what_it_held_before"),
    mutation("M5", MAILBOX, "asides.fetch_add(ASIDE, Release)", "asides.fetch_add(ASIDE, Relaxed)", "mailbox::a_message_given_back_beside_a_look_is_found_by_the_next"),
    mutation("M6", MAILBOX, "area.common().asides.load(Acquire)", "area.common().asides.load(Relaxed)", "mailbox::a_message_given_back_beside_a_look_is_found_by_the_next"),
    mutation("M7", MAILBOX, "head.compare_exchange(head, to, Release, Relaxed)", "head.compare_exchange(head, to, Relaxed, Relaxed)", "mailbox::a_message_that_is_laid_aside_while_another_looks_is_found"),
    mutation("M8", MAILBOX, "let head = order.head.load(Acquire);", "let head = order.head.load(Relaxed);", "mailbox::a_message_that_is_laid_aside_while_another_looks_is_found"),
    mutation("H2", NOTICE, "Notice(word.load(Acquire))", "Notice(word.load(Relaxed))", "notice::a_late_look_of_a_sender_tells_of_nothing_that_has_gone_before_the_mailbox_was_empty"),
    mutation("H3", MAILBOX, "comes before it is counted.\n                let _ = level.tail.compare_exchange(ticket, ticket.wrapping_add(1), Release, Relaxed)", "comes before it is counted.\n                let _ = level.tail.compare_exchange(ticket, ticket.wrapping_add(1), Relaxed, Relaxed)", "notice::nobody_is_told_while_there_always_was_a_message"),
    mutation("H4", NOTICE, "let tail = area.level(level).tail.load(Acquire)", "let tail = area.level(level).tail.load(Relaxed)", "notice::nobody_is_told_while_there_always_was_a_message"),
    mutation("G1", NOTICE, "it, behind G2.\n    fence(SeqCst);\n", "it, behind G2.\n", "notice::who_registers_while_the_last_message_goes_is_told_of_the_next"),
    mutation("G1", NOTICE, "sees the message.\n    fence(SeqCst);\n", "sees the message.\n", "notice::a_message_that_comes_while_the_last_one_goes_is_told_of_or_the_next_is"),
    mutation("G1", WAIT, "`Dormitory::wake_one`.\n        fence(SeqCst);\n", "`Dormitory::wake_one`.\n", "mailbox::a_receiver_that_sleeps_is_woken_by_its_message"),
    mutation("G2", DOZE, "`Call::announce`.\n        fence(SeqCst);\n", "`Call::announce`.\n", "mailbox::a_receiver_that_sleeps_is_woken_by_its_message"),
    mutation("G3", DOZE, "fetch_or(self.bit, Release)", "fetch_or(self.bit, Relaxed)", "mailbox::a_message_wakes_the_one_that_wants_it"),
    mutation("G4", DOZE, "Ordered after the publication by G2.\n        let mask = self.mask.load(Acquire);", "Ordered after the publication by G2.\n        let mask = self.mask.load(Relaxed);", "mailbox::a_message_wakes_the_one_that_wants_it"),
    mutation("T2", LOAN, "let word = memory.senders().tail.load(Acquire);", "let word = memory.senders().tail.load(Relaxed);", "recovery::a_tail_behind_the_head_names_who_is_there"),
    mutation("T2", LOAN, "let word = memory.senders().tail.load(Acquire);", "let word = memory.senders().tail.load(Relaxed);", "recovery::a_dead_owner_is_known_by_who_reserves_behind_it"),
    mutation("T2", LOAN, "let word = memory.senders().tail.load(Acquire);", "let word = memory.senders().tail.load(Relaxed);", "single::what_is_before_a_shown_tail_is_there"),
    mutation("T2, again", LOAN, "let again = memory.senders().tail.load(Acquire);", "let again = memory.senders().tail.load(Relaxed);", "loan::a_tail_that_was_called_back_names_who_is_behind_it"),
    mutation("T2, recall", LOAN, "what has become of it.\n    fence(Acquire);\n", "what has become of it.\n", "loan::a_loan_that_has_just_begun_is_called_back"),
    mutation("T1, restored", LOAN, "compare_exchange(lent, end.with_low_byte(borrower), Release, Relaxed)", "compare_exchange(lent, end.with_low_byte(borrower), Relaxed, Relaxed)", "loan::a_tail_behind_the_head_shows_the_intent_of_whoever_is_there"),
    mutation("D1", LOAN, "compare_exchange(from.word(), to.word(), Release, Relaxed)", "compare_exchange(from.word(), to.word(), Relaxed, Relaxed)", "loan::a_tail_behind_the_head_shows_the_intent_of_whoever_is_there"),
    mutation("D1, lent", MPSC, "mine.loan.store(loan, Release)", "mine.loan.store(loan, Relaxed)", "loan::the_borrower_sends_while_another_calls_back"),
    mutation("I3", MPSC, "mine.intent_end.store(end.units(), Release)", "mine.intent_end.store(end.units(), Relaxed)", "loan::a_tail_behind_the_head_shows_the_intent_of_whoever_is_there"),
    mutation("I4", LOAN, "Position::new(slot.intent_end.load(Acquire))", "Position::new(slot.intent_end.load(Relaxed))", "loan::a_tail_behind_the_head_shows_the_intent_of_whoever_is_there"),
    mutation("I1, borrowed", MPSC, "intent_tail.store(tail.with_low_byte(self.slot), Release)", "intent_tail.store(tail.with_low_byte(self.slot), Relaxed)", "loan::what_a_borrower_committed_before_its_intent_is_not_taken_for_hidden"),
    mutation("F5", LOAN, "!barrier::heavy()", "false", "loan::the_borrower_sends_while_another_calls_back"),
    mutation("F6", MPSC, "barrier::light();", "", "loan::the_borrower_sends_while_another_calls_back"),
    mutation("F7", LOAN, "or the mark is seen.\n            fence(SeqCst);\n", "or the mark is seen.\n", "loan::the_tail_is_never_seen_where_it_was_not"),
];

#[rustfmt::skip]
const LEFT_OUT: &[Mutation] = &[
    mutation("no look after the announcement", WAIT, "look(if idle { Look::Idle } else { Look::BeforeSleep })", "None", "sleep::either_the_waker_sees_the_sleeper_or_the_sleeper_sees_the_flag"),
    mutation("a waker that comes second relies on the first", WAIT, "mark: ASLEEP,", "mark: 0,", "sleep::a_waker_that_is_killed_at_every_access_leaves_its_wake_to_the_next"),
    mutation("no look after all announcements", ANY, "look(if idle { Look::Idle } else { Look::BeforeSleep })", "None", "any::each_of_two_bells_wakes_who_sleeps_on_both"),
    mutation("no look before another sleeps for a handle", ANY, "if look(why) {", "if false {", "any::who_sleeps_for_a_handle_is_called_by_its_bell"),
    mutation("who sleeps for a handle does not hear of its news", ANY, " || self.news.unheard()", "", "any::who_sleeps_for_a_handle_is_called_by_its_news"),
    mutation("a handle for which another sleeps does not lie down", ANY, "ticket.filter(|_| sleeper.news.lie_down())", "ticket", "any::who_sleeps_for_a_handle_is_called_by_its_news"),
    mutation("only the first bell is asked for bare wakers", ANY, "sleepers.iter().any(|sleeper|", "sleepers.iter().take(1).any(|sleeper|", "any::a_bare_waker_of_either_is_made_up_for"),
    mutation("the granted number is not read again", WAIT, "if self.granted.load(Relaxed) != granted {", "if false {", "sleep::one_of_several::a_late_sleeper_does_not_take_back_what_another_has_announced"),
    mutation("room is counted from the receiver's position", MEMORY, "let Some(elastic) = &self.elastic else { return self.head() };", "let Some(elastic) = &self.elastic.as_ref().filter(|_| false) else { return self.head() };", "elastic::memory_is_taken_only_after_it_was_read_and_used_again_only_after_it_was_taken"),
    mutation("the header behind has no memory", ELASTIC, "let last = tail.plus(units);", "let last = tail.plus(units - 1);", "elastic::memory_is_there_for_each_of_two_senders_and_the_header_behind_them"),
    mutation("a successor believes zeros", ELASTIC, "if end.has_reached(head) {", "if true {", "elastic::a_sender_that_comes_while_memory_is_taken_goes_on_behind_the_last_message"),
    mutation("a successor takes no memory that is left", ELASTIC, "given_back.up_to(memory, head);", "", "elastic::a_receiver_that_is_killed_at_every_access_leaves_all_that_it_had_not_released"),
    mutation("who waits for a receipt waits as for room", WAIT, "self.wait(true, spin", "self.wait(false, spin", "offer::a_release_of_a_bare_receiver_wakes_who_waits_until_its_message_was_taken"),
    mutation("what was taken back is accepted", OFFER, "&& memory.change_state(position, State::Offered, State::Committed)", "&& (memory.change_state(position, State::Offered, State::Committed) || true)", "offer::what_is_on_offer_is_received_or_taken_back"),
    mutation("an offer is taken for accepted", OFFER, "&& memory.change_state(position, State::Offered, State::Committed)", "", "offer::what_is_on_offer_is_received_or_taken_back"),
    mutation("a successor does not see offers", RECEIVE, "|at| peek_at(memory, at)", "|at| look_at(memory, at)", "offer::the_successor_of_who_had_offered_goes_on_behind_it"),
    mutation("an offer that was accepted meanwhile is none", OFFER, "State::Offered | State::Withdrawn | State::Committed)", "State::Offered | State::Withdrawn)", "offer::the_successor_of_who_had_offered_goes_on_behind_it"),
    mutation("who waits for half of the ring is not looked at again", USHER, "waker.ask_again();", "", "sleep::many_releases_wake_a_sender_at_half_of_the_ring"),
    mutation("a bare receiver does not look whether half of the ring is free", USHER, "!enough && Bell", "Bell", "sleep::many_releases_of_a_bare_receiver_wake_a_sender_at_half_of_the_ring"),
    mutation("whoever is not bare leaves its fence out as well", WAIT, "waker.bare && self.attention", "self.attention", "sleep::either_the_waker_sees_the_sleeper_or_the_sleeper_sees_the_flag"),
    mutation("who is left asleep is not woken", WAIT, "waker.left_asleep && futex::wake_one(self.granted, self.scope)", "false", "sleep::one_of_several::who_is_left_asleep_is_woken_after_the_one_before"),
    mutation("only who has slept longest is woken", WAIT, "due == Due::One && attention & EAGER == 0 && !self.has_changed_since(attention)", "due == Due::One", "sleep::one_of_several::an_eager_sleeper_is_woken_although_another_is_woken_first"),
    mutation("whoever asked eagerly is overlooked behind a later announcement", WAIT, "self.attention.load(Relaxed) != attention", "self.attention.load(Relaxed) & EAGER != 0", "sleep::one_of_several::an_eager_sleeper_is_woken_although_another_has_announced_after_it"),
    mutation("nobody becomes eager", WAIT, "if eager { EAGER } else { 0 };", "0;", "sleep::after_a_while_one_release_wakes_a_sender"),
    mutation("no look at the room after the head was read", MPSC, "if used + units > capacity {", "if false {", "many::room_that_the_receiver_gives_back_is_given_to_one"),
    mutation("the intent comes after the reservation", MPSC, "mine.intent_tail.store(seen, Release);", "", "recovery::a_dead_owner_is_known_by_who_reserves_behind_it"),
    mutation("the first tag of a batch comes first", RESERVE, "if at != self.start {\n            memory.set_state", "{\n            memory.set_state", "single::a_batch_is_seen_whole_or_not_at_all"),
    mutation("nothing is wiped after a crash", SPSC, "None if crashed =>", "None if false =>", "single::a_killed_batch_leaves_no_tag_that_a_later_lap_takes_for_a_message"),
    mutation("a slot is always spent", CLAIM, "head.has_reached(end) || tail == Some(head)", "true", "claims::a_slot_is_not_taken_while_a_message_of_its_last_owner_is_in_the_ring"),
    mutation("no last look at the head", RECOVERY, " || memory.state(head).is_some()", "", "recovery::what_the_dead_had_committed_is_delivered"),
    mutation("nobody asks who is behind", RECOVERY, "other.intent_tail.load(Acquire) == named", "false", "recovery::a_dead_owner_is_known_by_who_reserves_behind_it"),
    mutation("the record behind is not asked", RECOVERY, "info.previous() == number)", "info.previous() == 0xff)", "recovery::a_dead_owner_is_known_by_the_record_behind_it"),
    mutation("a successor begins at the head", SPSC, "None => receive::end_of_records(&memory, head, first(head)),", "None => head,", "single::a_successor_goes_on_behind_the_last_message_while_the_receiver_runs"),
    mutation("what is dropped is not discarded", MPSC, "self.open.abandon(&self.memory);", "", "many::what_was_discarded_is_passed_over"),
    mutation("no look after the dead were passed over", RECEIVING, "let looked = self.consumer.look().unwrap();", "let looked = None;", "recovery::a_sleeping_receiver_gets_the_message_behind_a_dead_one"),
    mutation("room of the dead is not offered", RECEIVING, "        self.offer_room(true);\n        let ended", "        let ended", "recovery::a_sleeping_sender_gets_the_room_of_a_dead_one"),
    mutation("a watcher does not look at the floor", ONLOOKER, "match self.rise() {", "match None::<u64> {", "broadcast::who_looks_on_gets_it_whole_or_is_told_exactly_what_it_missed"),
    mutation("a slot speaks with its last owner's position", BROADCAST, "takes == seen.takes() && behind <= capacity", "behind <= capacity", "broadcast::a_slot_that_is_taken_again_does_not_speak_with_its_last_owners_position"),
    mutation("no second look at the readers", BROADCAST, "let behind = self.most_behind()?;", "let behind = least?;", "broadcast::who_joins_gets_all_from_then_on"),
    mutation("no second look at the floor", BROADCAST, "if Floor::read(&self.memory).position == floor {", "if true {", "broadcast::who_joins_at_the_oldest_gets_all_from_there_on"),
    mutation("nothing is wiped after a crash, many readers", BROADCAST, "true => tail.plus(capacity),", "true => tail,", "broadcast::a_sender_that_is_killed_at_every_access_leaves_what_it_had_sent"),
    mutation("nothing is wiped where a dead reader ends the room", BROADCAST, "if end != self.unclean && self.memory.state(end).is_some() {", "if false {", "broadcast::what_a_killed_batch_wrote_behind_a_dead_reader_is_not_seen_before_that_one_is_proven_dead"),
    mutation("nobody notes what is unclean", BROADCAST, "    word.store(unclean.units(), Relaxed);\n", "", "broadcast::what_a_killed_batch_left_is_cleaned_also_when_the_successor_closes_at_once"),
    mutation("the tail is not shown", BROADCAST, "self.memory.receiver().position.store(self.tail.units(), Release);", "", "broadcast::who_joins_gets_all_from_then_on"),
    mutation("a sender to many readers begins at the tail that was shown", BROADCAST, "let tail = receive::end_of_records(&memory, shown, shown);", "let tail = shown;", "broadcast::a_sender_that_is_killed_at_every_access_leaves_what_it_had_sent"),
    mutation("dead readers hold the sender up", BROADCAST, "fallen.push(seen);", "", "broadcast::a_reader_that_is_killed_at_every_access_of_its_joining_holds_nobody_up"),
    mutation("a waker of one seat relies on the one before", DOZE, "not_up = Some(slot);", "not_up = Some(slot).filter(|_| false);", "mailbox::a_waker_that_is_killed_at_every_access_leaves_its_wake_to_the_next"),
    mutation("a message wakes whoever sleeps", DOZE, "if !wants(slot.pick.load(Relaxed)) {", "if false {", "mailbox::a_message_wakes_the_one_that_wants_it"),
    mutation("a dead receiver keeps what it held", MAILBOX, "Phase::Taken => state.given_back(),", "Phase::Taken => break,", "mailbox::what_a_receiver_held_that_is_killed_at_every_access_comes_again_and_is_never_lost"),
    mutation("a dead sender keeps the cell that it filled", MAILBOX, "Phase::Filling => state.at(Phase::Free, dead),", "Phase::Filling => break,", "mailbox::a_sender_that_is_killed_at_every_access_loses_nothing_of_another"),
    mutation("what a dead sender had sent is freed", MAILBOX, "&& !is_sent(area, number, state)", "&& true", "mailbox::a_message_that_is_laid_aside_at_every_kill_is_found_and_stands_where_it_stood"),
    mutation("messages may come while it is looked whether there are any", NOTICE, "if arrivals(area) == before {", "if true {", "notice::nobody_is_told_while_there_always_was_a_message"),
    mutation("who has armed looks for no message", NOTICE, "fence(SeqCst);\n    first(area)", "fence(SeqCst);\n    None", "notice::a_message_that_comes_while_the_last_one_goes_is_told_of_or_the_next_is"),
    mutation("who sends late tells of what has gone", NOTICE, "Step::Armed if is_still(area, message) =>", "Step::Armed =>", "notice::a_late_look_of_a_sender_tells_of_nothing_that_has_gone_before_the_mailbox_was_empty"),
    mutation("who buries late ends the registration of who has the seat since", NOTICE, "Step::Over || !still_its() ||", "Step::Over ||", "notice::who_takes_the_seat_of_one_that_died_registered_is_told_although_that_one_is_buried_by_two"),
    mutation("recovery does not count what lies aside", MAILBOX, "not told of.\n    tell_of_asides(area);\n", "not told of.\n", "mailbox::the_death_of_a_holder_wakes_who_sleeps_for_what_it_held"),
    mutation("the head passes what lies aside and was not counted", MAILBOX, "found by its entry.\n            tell_of_asides(area);\n", "found by its entry.\n", "mailbox::a_message_that_is_laid_aside_while_another_looks_is_found"),
    mutation("who is overtaken takes that for the end of the order", MAILBOX, "if is_overtaken(area, level, ticket, entry) {", "if false {", "mailbox::a_message_is_found_although_a_stream_writes_over_the_entries_before_it_meanwhile"),
    mutation("who finds nothing aside takes back what was counted since", MAILBOX, "(asides, laid * ASIDE + laid, Relaxed, Relaxed)", "(asides, 0, Relaxed, Relaxed)", "mailbox::what_is_laid_aside_while_another_finds_nothing_there_is_found_by_who_has_passed_its_entry"),
    mutation("a borrower does not look whether its loan stands", MPSC, "if !self.is_lent(mine) {", "if false {", "loan::the_borrower_sends_while_another_calls_back"),
    mutation("a borrower says first where its intent ends", MPSC, "mine.intent_tail.store(tail.with_low_byte(self.slot), Release);", "mine.intent_end.store(end.units(), Release);\n        mine.intent_tail.store(tail.with_low_byte(self.slot), Release);", "loan::a_borrower_that_is_killed_at_every_access_leaves_what_others_send"),
    mutation("who calls back reads the end before its mark", LOAN, "Loan::Lent(start) => replace(slot, Loan::Lent(start), Loan::Recalled(start)),", "Loan::Lent(start) => {\n                let end = end(slot);\n                replace(slot, Loan::Lent(start), Loan::Recalled(start));\n                replace(slot, Loan::Recalled(start), Loan::Returned(end));\n            }", "loan::the_borrower_sends_while_another_calls_back"),
    mutation("who calls back does not ask whether it was returned already", LOAN, "replace(slot, Loan::Recalled(start), Loan::Returned(end(slot)));", "slot.loan.store(Loan::Returned(end(slot)).word(), Release);", "loan::the_borrower_sends_while_another_calls_back"),
    mutation("a borrower returns what was returned already", LOAN, "replace(slot, Loan::Recalled(start), Loan::Returned(end));\n    let", "slot.loan.store(Loan::Returned(end).word(), Release);\n    let", "loan::the_borrower_sends_while_another_calls_back"),
    mutation("a borrower believes that its last intent counts", MPSC, "let is_own = has_said && returned == Some(end);", "let is_own = has_said;", "loan::the_borrower_sends_while_another_calls_back"),
    mutation("a borrower that finds no room does not look whether its loan stands", MPSC, "if !has_said && self.memory.slot(self.slot).is_some_and(|mine| self.is_lent(mine)) {", "if !has_said {", "loan::who_calls_back_late_leaves_the_next_loan_alone"),
    mutation("no second look at the loan", LOAN, "let stands = read(slot) == loan;", "let stands = true;", "loan::the_tail_is_never_seen_where_it_was_not"),
    mutation("a loan that is called back counts as lent", LOAN, "Loan::Recalled(start) => return Self::Recalled(start.with_low_byte(number)),", "Loan::Recalled(_) => end(slot),", "loan::the_tail_is_never_seen_where_it_was_not"),
    mutation("a loan that is called back hides what is before it", RECOVERY, "Tail::Recalled(start) if head.has_reached(Position::split(start).0) =>", "Tail::Recalled(_) =>", "loan::a_record_before_a_loan_is_passed_over_whoever_calls_back_is_killed"),
    mutation("who finds a loan called back looks on and on", RECOVERY, "Tail::Recalled(start) if head.has_reached(Position::split(start).0) =>", "Tail::Recalled(start) if head.has_reached(Position::split(start).0) && false =>", "loan::who_calls_back_is_killed_at_every_access"),
    mutation("the record with which a loan began is nobody's", RECOVERY, "if let Tail::At(tail) | Tail::Recalled(tail) = Tail::of(memory)", "if let Tail::At(tail) = Tail::of(memory)", "loan::the_record_with_which_a_loan_began_is_passed_over_whoever_calls_back_is_killed"),
    mutation("who looks for a slot leaves a tail that is called back", CLAIM, "Tail::settled(memory)", "Tail::of(memory)", "loan::successors_come_and_send_wherever_two_have_died"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn all() -> impl Iterator<Item = &'static Mutation> {
    WEAKENED.iter().chain(LEFT_OUT)
}

#[test]
fn every_mutation_still_fits_its_source() {
    for Mutation { name, file, from, model, .. } in all() {
        let source = fs::read_to_string(root().join(file)).unwrap();
        assert_eq!(source.matches(from).count(), 1, "{name}: `{from}` in {file}");
        let (module, model) = model.rsplit_once("::").unwrap();
        let file = format!("loom-tests/src/models/{}.rs", module.replace("::", "/"));
        let models = fs::read_to_string(root().join(file)).unwrap();
        assert!(models.contains(&format!("fn {model}()")), "{name}: there is no model {module}::{model}");
    }
}

#[test]
fn the_table_of_orderings_names_the_model_of_each_label() {
    let table = fs::read_to_string(root().join("docs/ORDERING.md")).unwrap();
    for Mutation { name, model, .. } in WEAKENED {
        let label = &name[..2];
        let told = table.lines().any(|line| line.starts_with(&format!("| {label} ")) && line.contains(model));
        assert!(told, "{label}: {model}");
    }
    for row in table.lines().filter(|line| line.starts_with('|') && line.ends_with("` |")) {
        let (label, model) = (&row[2..4], row.rsplit('`').nth(1).unwrap());
        let tried =
            WEAKENED.iter().any(|mutation| mutation.name.starts_with(label) && mutation.model == model);
        assert!(tried, "nobody weakens {label} for {model}");
    }
}

/// What is tried in the short form: a release, a fence, and a check that is left out.
const SHORT: [&str; 3] = ["P1", "F2", "no last look at the head"];

#[test]
fn the_document_lists_every_mutation() {
    let table = fs::read_to_string(root().join("docs/MUTATIONS.md")).unwrap();
    for Mutation { name, model, .. } in all() {
        let told = table.lines().any(|line| line.contains(name) && line.contains(model));
        assert!(told, "{name}: {model}");
    }
}

#[test]
fn every_mutant_fails_its_model() {
    let long = env::var_os("RINGPOST_LONG").is_some();
    let model = env::var("RINGPOST_MUTANTS").ok();
    let asked = |mutation: &Mutation| model.as_deref().is_none_or(|model| mutation.model.contains(model));
    let chosen = || {
        all()
            .filter(|mutation| asked(mutation) && (long || model.is_some() || SHORT.contains(&mutation.name)))
    };
    assert!(chosen().count() >= if model.is_some() { 1 } else { SHORT.len() });
    let copy = Copy::new();
    // The models hold in the copy as it is.
    let mut models: Vec<_> = chosen().map(|mutation| mutation.model).collect();
    models.sort_unstable();
    models.dedup();
    for model in models {
        assert!(copy.holds(model), "{model} fails without a mutation");
    }
    let survivors: Vec<_> =
        chosen().filter(|mutation| copy.survives(mutation)).map(|mutation| mutation.name).collect();
    assert!(survivors.is_empty(), "no model fails: {survivors:?}");
}

/// The sources in a folder of their own.
struct Copy {
    folder: PathBuf,
}

impl Copy {
    fn new() -> Self {
        let folder = env::temp_dir().join(format!("ringpost-mutants-{}", process::id()));
        for part in ["src", "loom-tests/src"] {
            copy_folder(&root().join(part), &folder.join(part));
        }
        for file in ["Cargo.lock", "loom-tests/Cargo.toml", "loom-tests/build.rs"] {
            fs::copy(root().join(file), folder.join(file)).unwrap();
        }
        // The workspace with this one member; the product's manifest is of no use here.
        let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
        let sections = manifest.split_inclusive('\n').fold(Vec::<String>::new(), |mut sections, line| {
            if line.starts_with('[') {
                sections.push(String::new());
            }
            if let Some(section) = sections.last_mut() {
                section.push_str(line);
            }
            sections
        });
        let kept = sections
            .iter()
            .filter(|section| section.starts_with("[workspace.") || section.starts_with("[profile.dev"));
        let members = "[workspace]\nresolver = \"3\"\nmembers = [\"loom-tests\"]\n\n".to_string();
        fs::write(folder.join("Cargo.toml"), kept.fold(members, |text, section| text + section)).unwrap();
        Self { folder }
    }

    /// Whether the model passes with the sources as they are in the copy.
    fn holds(&self, model: &str) -> bool {
        let cargo = |arguments: &[&str]| {
            Command::new(env!("CARGO"))
                .args(["test", "--quiet", "--package", "loom-tests", "--lib"])
                .args(arguments)
                .current_dir(&self.folder)
                .env("CARGO_TARGET_DIR", self.folder.join("target"))
                .output()
                .unwrap()
        };
        let built = cargo(&["--no-run"]);
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let run = cargo(&["--", "--exact", &format!("models::{model}")]);
        let told = String::from_utf8_lossy(&run.stdout);
        assert!(told.contains("running 1 test"), "{model}: {told}");
        run.status.success()
    }

    fn survives(&self, Mutation { name, file, from, to, model }: &Mutation) -> bool {
        let path = self.folder.join(file);
        let source = fs::read_to_string(&path).unwrap();
        fs::write(&path, source.replace(from, to)).unwrap();
        let survives = self.holds(model);
        fs::write(&path, source).unwrap();
        println!("{} {name}: {model}", if survives { "SURVIVES" } else { "fails   " });
        survives
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
