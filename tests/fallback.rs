//! What holds where the kernel, or a sandbox, refuses a system call that makes things fast: death is still told of, by
//! looking every tenth of a second.

mod common;
#[cfg(target_arch = "x86_64")]
#[path = "fallback/locked.rs"]
mod locked;

use common::{
    Child, Line,
    filter::refuse,
    rings::{Shared, Way, child_at, open, until_it_sleeps},
};
use ringpost::{RecvError, SendError};
use rustix::io::Errno;
use std::thread;

/// What is refused, and how: as by Linux 5.10, by a limit on threads, by a container's filter.
const REFUSALS: [(libc::c_long, Errno); 5] = [
    (libc::SYS_futex_waitv, Errno::NOSYS),
    (libc::SYS_clone3, Errno::AGAIN),
    (libc::SYS_set_robust_list, Errno::PERM),
    (libc::SYS_pidfd_open, Errno::PERM),
    (libc::SYS_membarrier, Errno::NOSYS),
];

/// Without this nobody watches.
const THREAD: usize = 1;

#[test]
fn child_process() {
    common::play_role(act);
}

fn act(words: &[&str], line: Line) {
    let [end, ring, refused] = *words else { panic!("no such role: {words:?}") };
    let ring = open(ring, &line);
    if let Ok(number) = refused.parse::<usize>() {
        refuse(REFUSALS[number]);
    }
    match end {
        "send" => {
            let mut sender = ring.sender().unwrap();
            line.tell(0);
            let error = loop {
                // Without a deadline: at that it would look for itself.
                match sender.send(&[0; 1000]) {
                    Ok(()) => {}
                    Err(SendError::PeerDied { pid, .. }) => break pid,
                    Err(error) => panic!("{error}"),
                }
            };
            line.tell(error.into());
        }
        "receive" => {
            let mut receiver = ring.receiver().unwrap();
            line.tell(0);
            match receiver.recv() {
                Err(RecvError::PeerDied { pid, .. }) => line.tell(pid.into()),
                other => panic!("{other:?}"),
            }
        }
        "try" => {
            let mut sender = ring.sender().unwrap();
            line.tell(0);
            let dead = loop {
                match sender.try_send(&[0; 1000]) {
                    Ok(()) | Err(SendError::Full) => {}
                    Err(SendError::PeerDied { pid, .. }) => break pid,
                    Err(error) => panic!("{error}"),
                }
            };
            line.tell(dead.into());
        }
        "publish" => {
            let mut publisher = ring.publisher().unwrap();
            line.tell(0);
            let mut refused = false;
            loop {
                match publisher.try_send(&[0; 1000]) {
                    Ok(()) if refused => break,
                    Err(SendError::Full) if !refused => {
                        refused = true;
                        line.tell(0);
                    }
                    Ok(()) | Err(SendError::Full) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            line.tell(1);
        }
        "subscribe" => {
            let _subscriber = ring.subscriber().unwrap();
            line.tell(0);
            line.hear();
        }
        #[cfg(target_arch = "x86_64")]
        "locked-receiver" => locked::receive(ring, &line),
        #[cfg(target_arch = "x86_64")]
        "locked-sender" => locked::send(ring, &line),
        // Only there to be killed.
        "hold" => {
            let _held = ring.receiver().unwrap();
            line.tell(0);
            line.hear();
        }
        "stand" => {
            let _sender = ring.sender().unwrap();
            line.tell(0);
            line.hear();
        }
        _ => panic!("no such role: {words:?}"),
    }
}

/// A process in this role, to which a call is refused, when it has attached.
fn started(ring: &Shared, (role, refused): (&str, Option<usize>)) -> Child {
    let child = child_at(ring, role, &refused.map_or("none".into(), |number| number.to_string()));
    child.hear();
    child
}

/// Kills the one who stands at the other end, once the first sleeps; it must name the dead.
fn is_told(waiting: (&str, Option<usize>), dying: (&str, Option<usize>)) {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(1 << 16));
    let mut dying = started(&ring, dying);
    let waiting = started(&ring, waiting);
    until_it_sleeps(&ring.ring);
    dying.kill();
    assert_eq!(waiting.hear_before_the_end(), Some(u64::from(dying.id())));
    waiting.finish();
}

#[test]
fn a_death_is_told_of_where_the_one_who_waits_is_refused_a_system_call() {
    for refused in 0..REFUSALS.len() {
        is_told(("receive", Some(refused)), ("stand", None));
        is_told(("send", Some(refused)), ("hold", None));
    }
}

#[test]
fn a_death_is_told_of_where_the_one_who_dies_was_refused_a_system_call() {
    for refused in 0..REFUSALS.len() {
        is_told(("receive", None), ("stand", Some(refused)));
        is_told(("send", None), ("hold", Some(refused)));
    }
}

#[test]
fn who_only_tries_to_send_learns_of_a_death_too() {
    for refused in [None, Some(THREAD)] {
        let ring = Shared::new(Way::Inherit, |builder| builder.capacity(1 << 16));
        let mut dying = started(&ring, ("hold", None));
        let trying = started(&ring, ("try", refused));
        while ring.ring.statistics().senders.iter().all(|sender| sender.refused == 0) {
            thread::yield_now();
        }
        dying.kill();
        assert_eq!(trying.hear_before_the_end(), Some(u64::from(dying.id())));
        trying.finish();
    }
}

#[test]
fn who_only_tries_to_publish_passes_over_a_dead_reader() {
    for refused in [None, Some(THREAD)] {
        let ring = Shared::new(Way::Inherit, |builder| builder.capacity(1 << 16).broadcast(2));
        let mut dying = started(&ring, ("subscribe", None));
        let trying = started(&ring, ("publish", refused));
        trying.hear();
        dying.kill();
        assert_eq!(trying.hear_before_the_end(), Some(1));
        trying.finish();
    }
}
