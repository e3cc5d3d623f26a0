//! Whoever is killed while it attaches is found dead, or had no place.

use super::*;

/// Kills who is about to attach, at whatever instruction; whenever it has taken a place, the other side, which sleeps or is
/// about to, must be told of its death. Tells how often that was.
pub fn kill_who_attaches(ring: &Ring, side: &str, rounds: u64, line: &Line) {
    let ledger = Ledger::new();
    let watcher = begin(|| {
        let mut receiver = (side == "sender").then(|| ring.receiver().unwrap());
        let mut sender = (side == "receiver").then(|| ring.sender().unwrap());
        loop {
            let died = match (&mut receiver, &mut sender) {
                (Some(receiver), _) => match receiver.recv() {
                    Err(RecvError::PeerDied { pid, .. }) => pid,
                    other => panic!("{other:?}"),
                },
                (_, Some(sender)) => match sender.send(&[0; 1000]) {
                    Ok(()) => continue,
                    Err(SendError::PeerDied { pid, .. }) => pid,
                    other => panic!("{other:?}"),
                },
                _ => unreachable!(),
            };
            ledger.noticed_at.store(died.into(), Release);
        }
    });
    let mut noticed = 0;
    for round in 0..rounds {
        let victim = begin(|| {
            let _sender = (side == "sender").then(|| ring.sender().unwrap());
            let _receiver = (side == "receiver").then(|| ring.receiver().unwrap());
            loop {
                thread::park();
            }
        });
        thread::sleep(Duration::from_micros(scatter(round) % 400));
        kill(victim, Signal::SIGKILL).unwrap();
        waitpid(victim, None).unwrap();
        let statistics = ring.statistics();
        let place = if side == "sender" { statistics.senders.first() } else { Some(&statistics.receiver) };
        if place.is_some_and(|place| place.pid == Some(victim.as_raw() as u32)) {
            wait_until(|| ledger.noticed_at.load(Acquire) == victim.as_raw() as u64);
            noticed += 1;
        }
    }
    kill(watcher, Signal::SIGKILL).unwrap();
    assert!(matches!(waitpid(watcher, None), Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _))));
    line.tell(noticed);
}

fn attach_and_die(side: &str) {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(1 << 16));
    let invitation = ring.invite();
    let rounds = if common::long() { 20_000 } else { 400 };
    let words = format!("attach {} {side} {rounds}", invitation.word);
    let conductor = Child::start_with(&words, |command| command.arg("--test-threads=1"));
    let noticed = conductor.hear();
    conductor.finish();
    println!("of {rounds} that were killed while attaching as {side}, {noticed} had a place");
    assert!(noticed > 0);
}

#[test]
fn the_receiver_learns_of_a_sender_that_was_killed_while_it_attached() {
    attach_and_die("sender");
}

#[test]
fn a_sender_learns_of_a_receiver_that_was_killed_while_it_attached() {
    attach_and_die("receiver");
}
