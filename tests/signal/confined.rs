//! A process that the kernel ends at any other system call than a wake.

use super::*;

const CONFINED_SENDS: u64 = 2_000;

/// Lets this thread wake others, take signals and end; anything else ends the process.
fn confine() {
    let load = |offset| (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let is = |value, yes, no| (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value);
    let give = |value| (libc::BPF_RET | libc::BPF_K, 0, 0, value);
    let program = [
        load(0),
        is(libc::SYS_rt_sigreturn as u32, 6, 0),
        is(libc::SYS_tgkill as u32, 5, 0),
        is(libc::SYS_exit as u32, 4, 0),
        is(libc::SYS_futex as u32, 0, 4),
        // Its operation: the second argument, without the flag for private ones.
        load(24),
        (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, !libc::FUTEX_PRIVATE_FLAG as u32),
        is(libc::FUTEX_WAKE as u32, 0, 1),
        give(libc::SECCOMP_RET_ALLOW),
        give(libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let mut filter = program.map(|(code, jt, jf, k)| libc::sock_filter { code: code as u16, jt, jf, k });
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program outlives the call, which copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program), 0);
    }
}

pub fn confined(line: &Line) {
    handle(libc::SIGUSR1, send_next, 0);
    line.tell(0);
    let process = std::process::id();
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            let thread = this_thread() as u64;
            confine();
            while SENT.load(SeqCst) < CONFINED_SENDS {
                signal(process, thread, libc::SIGUSR1);
            }
            done.store(true, SeqCst);
            // What a thread does at its end is not the handler's.
            // SAFETY: ends this thread, which holds nothing, and leaves its stack as it is.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        });
        while !done.load(SeqCst) {
            thread::yield_now();
        }
        drop(SENDER.get().unwrap().take().unwrap());
        assert!(!ERRNO_CHANGED.load(SeqCst) && WRONG.load(SeqCst) == 0);
        line.tell(SENT.load(SeqCst));
        // The scope would wait for a thread that tells nobody of its end.
        // SAFETY: ends the process, whose part is done.
        unsafe { libc::_exit(0) };
    });
}

#[test]
fn a_handler_makes_no_system_call_but_a_wake() {
    let shared = ring();
    let child = child_at(&shared, "confined", "");
    child.hear();
    let mut receiver = shared.ring.receiver().unwrap();
    // It sleeps time and again: each time it has taken all that there is.
    for number in 0..CONFINED_SENDS {
        let message = receiver.recv_timeout(FAR).expect("the child was ended by its confinement");
        assert_eq!(message.to_vec(), number.to_ne_bytes());
    }
    assert_eq!(receiver.recv_timeout(FAR).err(), Some(RecvError::Disconnected));
    assert_eq!(child.hear(), CONFINED_SENDS);
    child.finish();
}
