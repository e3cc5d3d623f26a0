//! Runs a child under ptrace, and lets one system call of one of its threads fail.

use nix::{
    errno::Errno,
    sys::{
        ptrace::{self, Options},
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use std::collections::HashMap;

/// No system call has this number. The child makes it to say when the calls that follow are the library's: 1, or its own
/// again: 0.
pub const MARK: i64 = 0x7269_6e67;

/// A call of the library: of which thread, in the order of their birth, and its number among that thread's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Point {
    pub thread: usize,
    pub call: usize,
}

/// A system call as it is made.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub number: i64,
    pub arguments: [u64; 6],
    /// Whether the standard library makes it before a new thread runs: until it has set up the stack for signals, which
    /// takes two calls that speak of that.
    pub starts_thread: bool,
}

/// What to do to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is not made, and this is its result.
    Refused(Errno),
    /// It is made, and this is its result.
    Misreported(Errno),
}

/// What came of a run.
#[derive(Debug)]
pub struct Run {
    pub end: WaitStatus,
    /// Calls of the library.
    pub calls: Vec<(Point, Call)>,
    /// The call that was made to fail, and how, if the run came there.
    pub failed: Option<(Call, Fault)>,
}

#[derive(Default)]
struct Thread {
    index: usize,
    /// Whether its calls are the library's.
    marked: bool,
    made: usize,
    /// Calls that speak of the stack for signals.
    stacks: u32,
    /// To be the result of the call that it is in.
    result: Option<Errno>,
}

/// The traced child, which has stopped itself.
pub struct Tracer<F> {
    child: Pid,
    threads: HashMap<Pid, Thread>,
    /// Where it is to fail, and how that call can.
    target: Option<Point>,
    fault: F,
    run: Run,
}

impl<F: Fn(&Call) -> Option<Fault>> Tracer<F> {
    /// Waits until the child has stopped itself, lets it go on, and fail at `target` as `fault` says.
    pub fn run(child: Pid, target: Option<Point>, fault: F) -> Run {
        assert_eq!(waitpid(child, None), Ok(WaitStatus::Stopped(child, Signal::SIGSTOP)));
        let options =
            Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(child, options).unwrap();
        let run = Run { end: WaitStatus::StillAlive, calls: Vec::new(), failed: None };
        let mut tracer = Self { child, threads: HashMap::new(), target, fault, run };
        tracer.meet(child);
        tracer.go_on(child, None);
        tracer.follow();
        tracer.run
    }

    fn follow(&mut self) {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Err(Errno::EINTR) => continue,
                other => other.unwrap(),
            };
            match status {
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) if pid == self.child => {
                    self.run.end = status;
                    return;
                }
                WaitStatus::PtraceSyscall(pid) => {
                    self.meet(pid);
                    self.at_call(pid);
                    self.go_on(pid, None);
                }
                WaitStatus::Stopped(pid, Signal::SIGSTOP) if self.meet(pid) => self.go_on(pid, None),
                WaitStatus::Stopped(pid, signal) => {
                    self.meet(pid);
                    self.go_on(pid, Some(signal).filter(|&signal| signal != Signal::SIGSTOP));
                }
                WaitStatus::PtraceEvent(pid, ..) => self.go_on(pid, None),
                _ => {}
            }
        }
    }

    /// Knows the thread from now on; true when it is new. It is the library's if that is at work when it is born.
    fn meet(&mut self, pid: Pid) -> bool {
        let index = self.threads.len();
        let marked = self.threads.values().any(|thread| thread.index == 0 && thread.marked);
        let mut new = false;
        self.threads.entry(pid).or_insert_with(|| {
            new = true;
            Thread { index, marked, ..Thread::default() }
        });
        new
    }

    /// At the entry or the exit of a call.
    fn at_call(&mut self, pid: Pid) {
        let Ok(info) = ptrace::syscall_info(pid) else { return };
        let thread = self.threads.get_mut(&pid).expect("it was met");
        match info.op {
            libc::PTRACE_SYSCALL_INFO_ENTRY => {
                // SAFETY: `op` says that this is the member.
                let entry = unsafe { info.u.entry };
                let starts_thread = thread.index > 0 && thread.stacks < 2;
                let call = Call { number: entry.nr as i64, arguments: entry.args, starts_thread };
                thread.stacks += u32::from(call.number == libc::SYS_sigaltstack);
                if call.number == MARK {
                    thread.marked = call.arguments[0] == 1;
                    return;
                }
                if !thread.marked {
                    return;
                }
                let point = Point { thread: thread.index, call: thread.made };
                thread.made += 1;
                self.run.calls.push((point, call));
                if self.target != Some(point) {
                    return;
                }
                let Some(fault) = (self.fault)(&call) else { return };
                self.run.failed = Some((call, fault));
                let (Fault::Refused(errno) | Fault::Misreported(errno)) = fault;
                thread.result = Some(errno);
                if let Fault::Refused(_) = fault {
                    let mut registers = ptrace::getregs(pid).unwrap();
                    registers.orig_rax = u64::MAX;
                    ptrace::setregs(pid, registers).unwrap();
                }
            }
            libc::PTRACE_SYSCALL_INFO_EXIT => {
                let Some(errno) = thread.result.take() else { return };
                let mut registers = ptrace::getregs(pid).unwrap();
                registers.rax = (-(errno as i64)) as u64;
                ptrace::setregs(pid, registers).unwrap();
            }
            _ => {}
        }
    }

    fn go_on(&self, pid: Pid, signal: Option<Signal>) {
        let pending = self.threads.get(&pid).is_some_and(|thread| thread.result.is_some());
        // Once the call has failed the rest is of no interest.
        let gone_on = if self.run.failed.is_some() && !pending {
            ptrace::cont(pid, signal)
        } else {
            ptrace::syscall(pid, signal)
        };
        // A thread that was killed meanwhile is gone.
        assert!(matches!(gone_on, Ok(()) | Err(Errno::ESRCH)), "{gone_on:?}");
    }
}
