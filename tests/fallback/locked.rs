//! A process to which the kernel leaves the calls that `docs/PATTERNS.md` names. Their numbers are those of x86-64, which has one more than
//! other processors.

use super::{
    common::{FAR, Line, filter::die_but_at},
    is_told,
};
use ringpost::{RecvError, Ring, SendError};

/// Calls by name, of the table of those that a process makes once it has attached.
const LOCKED: [(&str, libc::c_long); 19] = [
    ("close", libc::SYS_close),
    ("fcntl", libc::SYS_fcntl),
    ("futex", libc::SYS_futex),
    ("futex_waitv", libc::SYS_futex_waitv),
    ("getdents64", libc::SYS_getdents64),
    ("getpid", libc::SYS_getpid),
    ("membarrier", libc::SYS_membarrier),
    ("munmap", libc::SYS_munmap),
    ("newfstatat", libc::SYS_newfstatat),
    ("open", libc::SYS_open),
    ("openat", libc::SYS_openat),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("ppoll", libc::SYS_ppoll),
    ("read", libc::SYS_read),
    ("restart_syscall", libc::SYS_restart_syscall),
    ("sched_yield", libc::SYS_sched_yield),
    ("statx", libc::SYS_statx),
    ("tgkill", libc::SYS_tgkill),
    ("unlinkat", libc::SYS_unlinkat),
];

/// Those of the standard library and the allocator; and of the test, which tells what it has found.
const BESIDE: [libc::c_long; 12] = [
    libc::SYS_brk,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
];

pub fn receive(ring: Ring, line: &Line) -> ! {
    let mut receiver = ring.receiver().unwrap();
    lock_up();
    line.tell(0);
    let Err(RecvError::PeerDied { pid, .. }) = receiver.recv() else { leave(1) };
    line.tell(pid.into());
    drop((receiver, ring));
    leave(0)
}

pub fn send(ring: Ring, line: &Line) -> ! {
    let mut sender = ring.sender().unwrap();
    lock_up();
    line.tell(0);
    let pid = loop {
        match sender.send_timeout(&[0; 1000], FAR) {
            Ok(()) => {}
            Err(SendError::PeerDied { pid, .. }) => break pid,
            Err(_) => leave(1),
        }
    };
    line.tell(pid.into());
    drop((sender, ring));
    leave(0)
}

/// The end of a process that is locked up: nothing else of it runs.
fn leave(code: i32) -> ! {
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(code) }
}

/// From now on this process lives with the calls that `docs/PATTERNS.md` names, and with those of the standard library and the
/// allocator: any other is its end. (`fcntl` and `munmap` are among the latter as well, and no name is taken away here: of those the table
/// is believed.)
fn lock_up() {
    let page = include_str!("../../docs/PATTERNS.md");
    let (_, section) = page.split_once("\n### A process that is locked up").unwrap();
    let table = section.split_once("\nBeside").unwrap().0.lines().filter(|line| line.starts_with('|'));
    let words = table.flat_map(|row| row.split('`').skip(1).step_by(2)).filter(|word| !word.contains("::"));
    let number_of =
        |name| LOCKED.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name}")).1;
    let mut calls: Vec<_> = words.map(number_of).collect();
    assert!(calls.len() > LOCKED.len(), "the table is there");
    calls.extend(BESIDE);
    die_but_at(&calls);
}

#[test]
fn a_process_that_is_locked_up_needs_no_call_that_is_not_written_down() {
    for (locked, dying) in [("locked-receiver", "stand"), ("locked-sender", "hold")] {
        is_told((locked, None), (dying, None));
    }
}
