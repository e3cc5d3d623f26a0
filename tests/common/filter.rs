//! System calls that the kernel refuses from now on (seccomp), as a sandbox has it do.

use rustix::io::Errno;

/// A step of a program that the kernel asks about each call.
pub type Step = libc::sock_filter;

/// Loads the 32 bits at this place of what is known of a call: its number at 0, its second argument at 24.
pub fn load(at: u32) -> Step {
    Step { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: at }
}

/// Passes over so many steps when what was loaded is that, or so many `otherwise`.
pub fn jump(value: u32, equal: u8, otherwise: u8) -> Step {
    let code = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    Step { code: code as u16, jt: equal, jf: otherwise, k: value }
}

/// Ends the program with what is to become of the call.
pub fn answer(answer: u32) -> Step {
    Step { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: answer }
}

/// Has the kernel ask this program about each call of this thread, and of those that it starts, from now on. Gives what
/// seccomp(2) does, which is not negative.
pub fn filter(program: &[Step], flags: libc::c_ulong) -> libc::c_long {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    let (operation, program) = (libc::SECCOMP_SET_MODE_FILTER, &raw const program);
    // SAFETY: the program lives until both calls have returned, and is only read.
    let result = unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        libc::syscall(libc::SYS_seccomp, operation, flags, program)
    };
    assert!(result >= 0, "{}", std::io::Error::last_os_error());
    result
}

/// From now on the kernel kills this process at any of these calls.
pub fn die_at(calls: &[libc::c_long]) {
    let mut program = vec![load(0)];
    for &call in calls {
        program.extend([jump(call as u32, 0, 1), answer(libc::SECCOMP_RET_KILL_PROCESS)]);
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    filter(&program, 0);
}

/// From now on the kernel kills this process at any call but these, in whichever thread.
pub fn die_but_at(calls: &[libc::c_long]) {
    let mut program = vec![load(0)];
    for &call in calls {
        program.extend([jump(call as u32, 0, 1), answer(libc::SECCOMP_RET_ALLOW)]);
    }
    program.push(answer(libc::SECCOMP_RET_KILL_PROCESS));
    assert_eq!(filter(&program, libc::SECCOMP_FILTER_FLAG_TSYNC), 0);
}

/// From now on the call fails so, in this thread and in those that it starts.
pub fn refuse((call, error): (libc::c_long, Errno)) {
    let refusal = libc::SECCOMP_RET_ERRNO | error.raw_os_error() as u32;
    filter(&[load(0), jump(call as u32, 0, 1), answer(refusal), answer(libc::SECCOMP_RET_ALLOW)], 0);
    // SAFETY: none of the calls that are refused here does anything without arguments, even if it were made.
    let result = unsafe { libc::syscall(call, 0, 0, 0, 0, 0, 0) };
    let refused = (result, std::io::Error::last_os_error().raw_os_error());
    assert_eq!(refused, (-1, Some(error.raw_os_error())), "call {call} is not refused");
}
