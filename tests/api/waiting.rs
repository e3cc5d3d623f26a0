//! Deadlines, and signals while a call waits.

use super::{common::FAR, until};
use ringpost::{RecvError, SendError, Sender, Trust, WaitStrategy};
use std::{
    mem, ptr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// Short enough to wait for, long enough to be slept through.
const SHORT: Duration = Duration::from_millis(30);

/// A ring between processes, and one inside this one: they sleep in different ways.
macro_rules! at_each_scope {
    ($builder:expr, |$ring:ident| $check:expr) => {{
        let $ring = $builder.memfd().unwrap();
        $check;
        let $ring = $builder.in_process().unwrap();
        $check;
    }};
}

#[test]
fn a_wait_for_a_message_ends_at_its_deadline_and_not_before() {
    at_each_scope!(ringpost::unnamed().capacity(4096), |ring| {
        let (mut receiver, _sender) = (ring.receiver().unwrap(), ring.sender().unwrap());
        for strategy in [WaitStrategy::SpinThenSleep, WaitStrategy::Sleep, WaitStrategy::Spin] {
            receiver.set_wait(strategy);
            let deadline = Instant::now() + SHORT;
            assert_eq!(receiver.recv_timeout(SHORT).unwrap_err(), RecvError::TimedOut);
            assert!(Instant::now() >= deadline);
            let deadline = Instant::now() + SHORT;
            assert_eq!(receiver.recv_deadline(deadline).unwrap_err(), RecvError::TimedOut);
            assert!(Instant::now() >= deadline);
        }
    });
}

#[test]
fn a_wait_for_room_ends_at_its_deadline_and_not_before() {
    at_each_scope!(ringpost::unnamed().capacity(4096), |ring| {
        let (_receiver, mut sender) = (ring.receiver().unwrap(), ring.sender().unwrap());
        while sender.try_send(&[0; 1000]).is_ok() {}
        times_out(&mut sender, |sender, _| sender.send_timeout(&[0; 1000], SHORT));
        times_out(&mut sender, |sender, deadline| sender.send_deadline(&[0; 1000], deadline));
        times_out(&mut sender, |sender, _| sender.reserve_timeout(1000, SHORT).map(drop));
        times_out(&mut sender, |sender, deadline| sender.reserve_deadline(1000, deadline).map(drop));
    });
}

fn times_out<P: Trust>(
    sender: &mut Sender<P>,
    wait: impl FnOnce(&mut Sender<P>, Instant) -> Result<(), SendError>,
) {
    let deadline = Instant::now() + SHORT;
    assert_eq!(wait(sender, deadline), Err(SendError::TimedOut));
    assert!(Instant::now() >= deadline);
}

#[test]
fn a_deadline_that_has_passed_still_takes_what_is_there() {
    let ring = ringpost::unnamed().capacity(4096).memfd().unwrap();
    let (mut receiver, mut sender) = (ring.receiver().unwrap(), ring.sender().unwrap());
    let past = Instant::now();
    sender.send_deadline(b"a", past).unwrap();
    sender.send_timeout(b"b", Duration::ZERO).unwrap();
    assert_eq!(receiver.recv_deadline(past).unwrap().to_vec(), b"a");
    assert_eq!(receiver.recv_timeout(Duration::ZERO).unwrap().to_vec(), b"b");
    assert_eq!(receiver.recv_deadline(past).unwrap_err(), RecvError::TimedOut);
    assert_eq!(receiver.recv_timeout(Duration::ZERO).unwrap_err(), RecvError::TimedOut);
}

#[test]
fn the_longest_timeout_is_as_good_as_none() {
    at_each_scope!(ringpost::unnamed().capacity(4096), |ring| {
        let (mut receiver, mut sender) = (ring.receiver().unwrap(), ring.sender().unwrap());
        thread::scope(|threads| {
            threads.spawn(|| {
                until(|| ring.statistics().receiver.sleeps > 0);
                sender.send(b"late").unwrap();
            });
            assert_eq!(receiver.recv_timeout(Duration::MAX).unwrap().to_vec(), b"late");
        });
    });
}

/// Runs `wait` while this thread gets one signal after the other, which `SA_RESTART` does not hide. `each` is called after
/// each of them, with how many were handled.
fn under_signals<R>(wait: impl FnOnce() -> R, mut each: impl FnMut(u64) + Send) -> R {
    static HANDLED: AtomicU64 = AtomicU64::new(0);
    extern "C" fn count(_: libc::c_int) {
        HANDLED.fetch_add(1, Relaxed);
    }
    // SAFETY: all zero is a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = count as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler only counts an atomic up, which it may.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut()) }, 0);

    /// Says so also when the wait panics, for the scope waits for the other thread.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }

    // SAFETY: no conditions.
    let (waiting, over) = (unsafe { libc::pthread_self() }, AtomicBool::new(false));
    let before = HANDLED.load(Relaxed);
    thread::scope(|threads| {
        let _over = Over(&over);
        threads.spawn(|| {
            let far = Instant::now() + FAR;
            while !over.load(Relaxed) {
                assert!(Instant::now() < far, "the signals prolong the wait");
                // SAFETY: that thread waits for this one at the end of the scope.
                assert_eq!(unsafe { libc::pthread_kill(waiting, libc::SIGUSR1) }, 0);
                thread::sleep(Duration::from_millis(1));
                each(HANDLED.load(Relaxed) - before);
            }
        });
        wait()
    })
}

#[test]
fn signals_neither_end_a_wait_before_its_deadline_nor_prolong_it() {
    at_each_scope!(ringpost::unnamed().capacity(4096).wait(WaitStrategy::Sleep), |ring| {
        let (mut receiver, mut sender) = (ring.receiver().unwrap(), ring.sender().unwrap());
        let timeout = 10 * SHORT;
        let deadline = Instant::now() + timeout;
        let end = under_signals(|| receiver.recv_timeout(timeout).map(drop), |_| ());
        assert_eq!(end, Err(RecvError::TimedOut));
        assert!(Instant::now() >= deadline);
        assert!(ring.statistics().receiver.sleeps > 1, "no signal came while it slept");

        while sender.try_send(&[0; 1000]).is_ok() {}
        let deadline = Instant::now() + timeout;
        let end = under_signals(|| sender.send_timeout(&[0; 1000], timeout), |_| ());
        assert_eq!(end, Err(SendError::TimedOut));
        assert!(Instant::now() >= deadline);
    });
}

#[test]
fn signals_do_not_end_a_wait_without_a_deadline() {
    at_each_scope!(ringpost::unnamed().capacity(4096).wait(WaitStrategy::Sleep), |ring| {
        let (mut receiver, sender) = (ring.receiver().unwrap(), ring.sender().unwrap());
        let mut sender = Some(sender);
        let interrupted = || ring.statistics().receiver.sleeps > 10;
        let end = under_signals(
            || receiver.recv().map(|message| message.to_vec()),
            |handled| {
                if handled > 10 && interrupted() {
                    sender.take().into_iter().for_each(|mut sender| sender.send(b"through").unwrap());
                }
            },
        );
        assert_eq!(end.unwrap(), b"through");
    });
}
