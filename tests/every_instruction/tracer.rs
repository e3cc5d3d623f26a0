//! Steps one thread of another process, one instruction at a time.

use nix::{
    sys::{
        ptrace::{self, Options},
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

/// Stops the thread that is traced; the trap of an instruction of the program itself.
pub fn mark() {
    // SAFETY: the process is traced, and its tracer expects the trap.
    unsafe { std::arch::asm!("int3") };
}

/// A thread of another process. Only the thread that attached may use it.
pub struct Traced(Pid);

impl Traced {
    /// Begins to trace the thread `id`, which goes on running.
    pub fn attach(id: u64) -> Self {
        let thread = Pid::from_raw(id as i32);
        ptrace::seize(thread, Options::PTRACE_O_EXITKILL)
            .expect("this test needs ptrace(2) on its own children");
        // Only one of the two ever runs: on one core they change places many times faster.
        let mut one = CpuSet::new();
        one.set(sched_getcpu());
        sched_setaffinity(None, &one).unwrap();
        sched_setaffinity(rustix::process::Pid::from_raw(id as i32), &one).unwrap();
        Self(thread)
    }

    /// Lets it run to its next mark.
    pub fn run_to_mark(&self) {
        self.wait_for_trap(|| self.go_on());
    }

    /// Lets it execute instruction by instruction up to its next mark, as long as `at` says so, which is called after each. A
    /// system call counts as one. True when it is at the mark.
    pub fn step_to_mark(&self, mut at: impl FnMut() -> bool) -> bool {
        loop {
            let step = || ptrace::step(self.0, None).unwrap();
            step();
            self.wait_for_trap(step);
            // SI_KERNEL: by the instruction of a mark; TRAP_TRACE: by the step.
            if ptrace::getsiginfo(self.0).unwrap().si_code == libc::SI_KERNEL {
                return true;
            }
            if !at() {
                return false;
            }
        }
    }

    pub fn go_on(&self) {
        ptrace::cont(self.0, None).unwrap();
    }

    /// Whoever stops processes for a while may stop this one too: then it goes on `again`.
    fn wait_for_trap(&self, again: impl Fn()) {
        loop {
            match waitpid(self.0, Some(WaitPidFlag::__WALL)).unwrap() {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => return,
                WaitStatus::Stopped(_, Signal::SIGSTOP | Signal::SIGCONT)
                | WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_STOP) => again(),
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Drop for Traced {
    /// Kills the process, and waits for the thread: its process can't be waited for before.
    fn drop(&mut self) {
        // SAFETY: a signal to a thread that was not waited for yet, so the number is still its own.
        unsafe { libc::syscall(libc::SYS_tkill, self.0.as_raw(), libc::SIGKILL) };
        while waitpid(self.0, Some(WaitPidFlag::__WALL))
            .is_ok_and(|status| matches!(status, WaitStatus::Stopped(..)))
        {}
    }
}
