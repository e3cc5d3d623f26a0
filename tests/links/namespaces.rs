//! A process at the other end in other namespaces, or of another user.

use super::{FAR, Place, common::Child, end_of, receive_letters};
use ringpost::{LinkError, OpenError, PeerCredentials, RecvError};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use std::{
    fs, io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    thread,
    time::Duration,
};

/// A process that is the first of a PID namespace, in a user namespace; as a child there is one that waits for it outside.
/// `None` where the system forbids that.
fn inside(role: &str) -> Option<Child> {
    let map = format!("0 {} 1", geteuid().as_raw());
    let enter = move || {
        // SAFETY: between fork and exec there is one thread; the call changes this process alone.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) } != 0 {
            return Err(io::Error::last_os_error());
        }
        fs::write("/proc/self/uid_map", &map)?;
        // SAFETY: both processes go on with system calls only.
        match unsafe { libc::fork() } {
            0 => Ok(()),
            child => wait_outside(child),
        }
    };
    // SAFETY: `enter` makes system calls, and takes no lock that another thread could have held.
    let child = Child::try_start_with(role, |command| unsafe { command.pre_exec(enter) });
    child.map_err(|error| eprintln!("not tested, no user namespaces here: {error}")).ok()
}

/// Ends as the process does. (Nothing in a new PID namespace can have threads but its own children.)
fn wait_outside(child: libc::pid_t) -> ! {
    let mut status = 1;
    // SAFETY: closes what the child alone is to have, waits for it, and ends.
    unsafe {
        libc::close_range(0, u32::MAX, 0);
        libc::waitpid(child, &raw mut status, 0);
        libc::_exit(i32::from(status != 0))
    }
}

#[test]
fn a_sender_in_another_pid_namespace_is_known_and_its_death_is_proven() {
    let place = Place::new();
    let listener = place.listen();
    let Some(outside) = inside(&format!("hold {} 2", place.display())) else { return };
    let mut receiver = listener.accept().unwrap();
    outside.hear();
    let pid = receiver.peer().unwrap().pid;
    assert!(pid > 1 && pid != outside.id(), "its id as this side sees it: {pid}");
    assert_eq!(receiver.iter().next().unwrap().sender.pid, pid);
    assert_eq!(receiver.recv_timeout(FAR).unwrap().sender().pid, pid);
    let idle = receiver.recv_timeout(Duration::from_millis(200));
    assert_eq!(idle.unwrap_err(), RecvError::TimedOut, "it lives");
    let waiting = thread::spawn(move || end_of(&mut receiver));
    thread::sleep(Duration::from_millis(20));
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    assert_eq!(waiting.join().unwrap(), RecvError::PeerDied { pid, unfinished: 0 });
}

#[test]
fn a_receiver_that_a_pid_namespace_does_not_see_is_proven_dead_there() {
    let place = Place::new();
    let mut host = place.child("receive", "0");
    host.hear();
    let Some(outside) = inside(&format!("fill {} 1", place.display())) else { return };
    host.hear();
    outside.hear();
    host.kill();
    outside.hear();
    outside.finish();
}

const NOBODY: u32 = 65534;

/// A child of another user, who may not search the directory of this program unless it lies open to all.
fn stranger(role: &str) -> Option<Child> {
    if !geteuid().is_root() {
        eprintln!("not tested: only root can start a process of another user");
        return None;
    }
    Child::try_start_with(role, |command| command.uid(NOBODY).gid(NOBODY))
        .map_err(|error| eprintln!("not tested, another user can't run this program: {error}"))
        .ok()
}

#[test]
fn another_user_is_refused_unless_the_listener_says_otherwise() {
    let place = Place::new();
    let listener = place.listen_with(ringpost::unnamed().mode(0o666).capacity(4096));
    assert_eq!(fs::metadata(&*place).unwrap().permissions().mode() & 0o777, 0o666);
    let role = format!("connect-to-user {} {}", place.display(), geteuid().as_raw());
    let Some(child) = stranger(&role) else { return };
    let refused = listener.accept();
    assert!(
        matches!(refused, Err(OpenError::Link(LinkError::NotAccepted { pid, uid: NOBODY })) if pid == child.id())
    );
    child.finish();

    let child = stranger(&role).unwrap();
    let mut receiver = listener.reached().accept_if(|peer| peer.uid == NOBODY).unwrap();
    assert!(matches!(receiver.peer(), Some(PeerCredentials { uid: NOBODY, gid: NOBODY, .. })));
    receive_letters(&mut receiver, 3);
    assert_eq!(end_of(&mut receiver), RecvError::Disconnected);
    child.finish();
}

#[test]
fn where_no_thread_can_be_had_a_hidden_death_is_noticed_all_the_same() {
    let place = Place::new();
    // Root may have as many threads as it likes.
    let Some(host) = stranger(&format!("host-without-threads {}", place.display())) else { return };
    host.hear();
    let mut hostile = place.child("play-dead", "257 2147483649 0");
    hostile.hear();
    let pid = hostile.id();
    hostile.kill();
    assert_eq!(host.hear(), pid.into());
    host.finish();
}

#[test]
fn who_connects_is_told_when_another_user_listens() {
    let place = Place::new();
    let _listener = place.listen();
    let expected = geteuid().as_raw() + 1;
    let error = ringpost::unnamed().owner(expected).connect(&*place).unwrap_err();
    let found = geteuid().as_raw();
    assert!(
        matches!(error, OpenError::Link(LinkError::WrongListener { found: f, expected: e }) if (f, e) == (found, expected))
    );
}

/// Is not told that somebody listens, where it may not try.
pub fn listen_in_vain(path: &Path) {
    let denied = ringpost::listen(path).unwrap_err();
    let at = LinkError::PermissionDenied { operation: "see who listens at", path: path.into() };
    assert_eq!(denied.to_string(), OpenError::Link(at).to_string());
}

#[test]
fn what_another_users_dead_listener_has_left_is_not_taken_for_a_live_one() {
    let place = Place::new();
    let mut dead = place.server("killed-listener", "");
    dead.kill();
    if let Some(stranger) = stranger(&format!("listen-in-vain {}", place.display())) {
        stranger.finish();
    }
}
