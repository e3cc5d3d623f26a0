//! Kills at any instruction and at named points: nothing is lost, torn, out of order or received twice.

use super::*;

/// Kills of one campaign at one ring: its ledger has room for more senders.
const KILLS: u64 = 500;

/// Campaigns with as many senders at a time as each of `senders` says. Gives how often the tail was borrowed, and called back.
fn campaign(kind: &str, senders: &[u64]) -> [u64; 2] {
    let start = Instant::now();
    let campaigns = if common::long() { 200 } else { 4 };
    let mut sums = [0; 7];
    let seed = u64::from(process::id()) << 20;
    for (round, &senders) in (0..campaigns).zip(senders.iter().cycle()) {
        let ring = Shared::new(Way::Inherit, |builder: Builder| {
            let builder = builder.capacity(1 << 16);
            if kind == "one" { builder } else { builder.many_senders(senders as u8 + 2) }
        });
        let invitation = ring.invite();
        let seed = seed + round;
        let words = format!("conduct {} {kind} {senders} {seed} {KILLS}", invitation.word);
        let conductor = Child::start_with(&words, |command| command.arg("--test-threads=1"));
        for sum in &mut sums {
            *sum += conductor.next().unwrap_or_else(|| panic!("kind {kind}, senders {senders}, seed {seed}"));
        }
        conductor.finish();
    }
    let [kills, at_points, resumed, messages, repeated, borrowed, called_back] = sums;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{kind}: {kills} kills in {seconds:.1} s, of {at_points} stops at named points {resumed} went on; {messages} \
         messages were received, {repeated} of them again; none lost"
    );
    assert!(kills >= campaigns * KILLS && at_points > 0 && resumed > 0 && messages > 0);
    [borrowed, called_back]
}

#[test]
fn the_only_sender_and_its_receiver_are_killed_all_the_time() {
    campaign("one", &[1]);
}

#[test]
fn many_senders_and_their_receiver_are_killed_all_the_time() {
    campaign("many", &[4, 2, 3, 1]);
}

#[test]
fn senders_that_borrow_the_tail_and_call_it_back_and_their_receiver_are_killed_all_the_time() {
    let [borrowed, called_back] = campaign("rows", &[3, 2, 4, 3]);
    println!("rows: the tail was borrowed in {borrowed} rows and called back {called_back} times");
    assert!(borrowed > 20 && called_back > 20, "{borrowed} borrowed, {called_back} called back");
}

#[test]
fn what_a_killed_sender_has_placed_of_its_batch_is_never_seen() {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(4096));
    let mut child = child_at(&ring, "batch", "");
    child.hear();
    child.kill();
    let (mut sender, mut receiver) = (ring.ring.sender().unwrap(), ring.ring.receiver().unwrap());
    // As long as the first of the batch, so that it ends where the second begins.
    sender.send(b"after that").unwrap();
    assert_eq!(receiver.try_recv().unwrap().to_vec(), b"after that");
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
}
