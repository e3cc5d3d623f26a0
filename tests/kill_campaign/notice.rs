//! How long a death stays unknown to who sleeps.

use super::*;

/// Kills a sender, or a receiver, for whom the other side waits asleep; tells how long that side took to know.
pub fn time_deaths(ring: &Ring, side: &str, rounds: u64, megabytes: u64, line: &Line) {
    let ledger = Ledger::new();
    for _ in 0..rounds {
        ledger.ended.store(0, Relaxed);
        let victim = begin(|| {
            let _sender = (side == "sender").then(|| ring.sender().unwrap());
            let _receiver = (side == "receiver").then(|| ring.receiver().unwrap());
            let ballast = vec![1u8; (megabytes as usize) << 20];
            std::hint::black_box(&ballast);
            ledger.ended.store(1, Release);
            loop {
                thread::park();
            }
        });
        wait_until(|| ledger.ended.load(Acquire) != 0);
        let sleeps = || {
            let statistics = ring.statistics();
            statistics.receiver.sleeps + statistics.senders.iter().map(|sender| sender.sleeps).sum::<u64>()
        };
        let before = sleeps();
        ledger.noticed_at.store(0, Relaxed);
        let watcher = begin(|| {
            let died = if side == "sender" {
                let error = ring.receiver().unwrap().recv().unwrap_err();
                matches!(error, RecvError::PeerDied { pid, .. } if pid == victim.as_raw() as u32)
            } else {
                let mut sender = ring.sender().unwrap();
                let error = std::iter::repeat_with(|| sender.send(&[0; 1000])).find_map(Result::err);
                matches!(error, Some(SendError::PeerDied { pid, .. }) if pid == victim.as_raw() as u32)
            };
            let noticed_at = now();
            assert!(died);
            ledger.noticed_at.store(noticed_at, Release);
            loop {
                thread::park();
            }
        });
        wait_until(|| sleeps() > before);
        // It asks to be woken eagerly by now, and its watching thread has seen the victim.
        thread::sleep(Duration::from_millis(4));
        ledger.killed_at.store(now(), Relaxed);
        kill(victim, Signal::SIGKILL).unwrap();
        wait_until(|| ledger.noticed_at.load(Acquire) != 0);
        line.tell(ledger.noticed_at.load(Relaxed) - ledger.killed_at.load(Relaxed));
        for pid in [victim, watcher] {
            let _ = kill(pid, Signal::SIGKILL);
            assert!(matches!(waitpid(pid, None), Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _))));
        }
        // Somebody else empties the ring.
        let cleaner = begin(|| {
            let mut receiver = ring.receiver().unwrap();
            while receiver.try_recv().is_ok() {}
            ledger.ended.store(2, Release);
            loop {
                thread::park();
            }
        });
        wait_until(|| ledger.ended.load(Acquire) == 2);
        kill(cleaner, Signal::SIGKILL).unwrap();
        waitpid(cleaner, None).unwrap();
    }
}

/// Rounds, and megabytes that the dying process holds.
fn deaths_to_time() -> &'static [(u64, u64)] {
    if common::long() { &[(2000, 0), (100, 256), (30, 1024)] } else { &[(30, 0), (3, 64)] }
}

fn time_deaths_of(side: &str) {
    for &(rounds, megabytes) in deaths_to_time() {
        let ring = Shared::new(Way::Inherit, |builder| builder.capacity(1 << 16));
        let invitation = ring.invite();
        let words = format!("time {} {side} {rounds} {megabytes}", invitation.word);
        let conductor = Child::start_with(&words, |command| command.arg("--test-threads=1"));
        let mut times: Vec<u64> = (0..rounds).map(|_| conductor.hear()).collect();
        conductor.finish();
        times.sort_unstable();
        println!("death of a {side} with {megabytes} MB until the other side, asleep, knows of it:");
        print_histogram(&times);
        assert!(times[times.len() - 1] < STUCK.as_nanos() as u64);
    }
}

/// How many there are in each doubling, and the usual ranks, in microseconds.
fn print_histogram(nanoseconds: &[u64]) {
    let buckets: std::collections::BTreeMap<u32, usize> =
        nanoseconds.iter().fold(Default::default(), |mut buckets, &time| {
            *buckets.entry((time / 1000).max(1).ilog2()).or_default() += 1;
            buckets
        });
    for (bucket, count) in &buckets {
        println!("{:>9} us and more: {count}", 1u64 << bucket);
    }
    let rank =
        |percent: usize| nanoseconds[(nanoseconds.len() * percent / 100).min(nanoseconds.len() - 1)] / 1000;
    println!(
        "{:>9} us p50, {} us p99, {} us at most, of {}",
        rank(50),
        rank(99),
        rank(100),
        nanoseconds.len()
    );
}

#[test]
fn the_death_of_a_sender_wakes_the_receiver() {
    time_deaths_of("sender");
}

#[test]
fn the_death_of_the_receiver_wakes_a_sender() {
    time_deaths_of("receiver");
}
