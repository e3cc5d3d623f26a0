//! A process that the kernel ends at any other system call than a wake.

use super::*;

const CONFINED_SENDS: u64 = 2_000;

/// Lets this thread wake others, take signals and end; anything else ends the process.
fn confine() {
    let and = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    let program = [
        load(0),
        jump(libc::SYS_rt_sigreturn as u32, 6, 0),
        jump(libc::SYS_tgkill as u32, 5, 0),
        jump(libc::SYS_exit as u32, 4, 0),
        jump(libc::SYS_futex as u32, 0, 4),
        // Its operation: the second argument, without the flag for private ones.
        load(24),
        Step { code: and, jt: 0, jf: 0, k: !libc::FUTEX_PRIVATE_FLAG as u32 },
        jump(libc::FUTEX_WAKE as u32, 0, 1),
        answer(libc::SECCOMP_RET_ALLOW),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
    ];
    filter(&program, 0);
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
