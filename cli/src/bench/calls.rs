//! Counts the system calls of the measuring processes by tracing them, in samples of their own that nobody times.
//!
//! A process marks where a phase begins and ends; what its threads call between the marks counts. So neither the harness
//! nor the making of a mechanism is in the figure. Each call stops its thread for some microseconds: who polls by
//! system calls polls less often than in a sample that is timed.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::libc::{self, PTRACE_SYSCALL_INFO_ENTRY};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::supervise::obituary;

/// Where a thread is in its sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// From here on its calls count.
    Begin = 0x7269_6e67,
    /// Until here.
    End = 0x706f_7374,
}

/// Tells the tracer, by a system call that does nothing else.
pub fn mark(mark: Mark) {
    // SAFETY: there is no file with this descriptor, so nothing moves.
    unsafe { libc::lseek(-1, mark as libc::off_t, libc::SEEK_SET) };
}

/// A thread of a measuring process.
struct Thread {
    process: Pid,
    /// Whether it counts for itself. One that never marks counts while one of its process does.
    marks: bool,
    within: bool,
}

impl Thread {
    fn new(process: Pid) -> Self {
        Self { process, marks: false, within: false }
    }
}

/// Whoever holds it traces the processes; they run on untraced when it is dropped.
pub struct Tracer {
    stops: SignalFd,
    mask_before: SigSet,
    processes: Vec<Pid>,
    threads: BTreeMap<Pid, Thread>,
    calls: u64,
}

impl Tracer {
    /// Attaches to all threads of these children of the calling thread; the error is the reason why it can't be.
    pub fn attach(processes: &[Pid]) -> Result<Self> {
        let mut child = SigSet::empty();
        child.add(Signal::SIGCHLD);
        let mut mask_before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&child), Some(&mut mask_before))?;
        let stops = SignalFd::with_flags(&child, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let (processes, threads) = (processes.to_vec(), BTreeMap::new());
        let mut tracer = Self { stops, mask_before, processes: processes.clone(), threads, calls: 0 };
        for process in processes {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let name = thread?.file_name();
                let thread = name.to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw);
                tracer.seize(thread.context("a thread without a number")?, process)?;
            }
        }
        Ok(tracer)
    }

    fn seize(&mut self, thread: Pid, process: Pid) -> Result<()> {
        let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
        ptrace::seize(thread, options).context("tracing is refused (ptrace)")?;
        self.threads.insert(thread, Thread::new(process));
        // It stops soon, and goes on to its next system call.
        ptrace::interrupt(thread).context("tracing is refused (ptrace)")
    }

    /// Becomes readable when [`Self::serve`] has something to do.
    pub fn stops(&self) -> BorrowedFd<'_> {
        self.stops.as_fd()
    }

    /// Takes in all stops of the processes and lets them go on. Does not block.
    ///
    /// # Errors
    /// When one of the processes has ended.
    pub fn serve(&mut self) -> Result<()> {
        while self.stops.read_signal()?.is_some() {}
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Err(Errno::EINTR) => {}
                Ok(status) => self.take_in(status)?,
                Err(error) => return Err(error).context("cannot wait for a traced process"),
            }
        }
    }

    fn take_in(&mut self, status: WaitStatus) -> Result<()> {
        let Some(thread) = status.pid() else { return Ok(()) };
        let signal = match status {
            WaitStatus::PtraceSyscall(_) => {
                self.count(thread)?;
                None
            }
            WaitStatus::Stopped(_, signal) => Some(signal),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                self.threads.remove(&thread);
                ensure!(!self.processes.contains(&thread), obituary(thread, Ok(status)));
                return Ok(());
            }
            _ => None,
        };
        // A new one comes with the call that makes it.
        self.threads.entry(thread).or_insert_with(|| Thread::new(process_of(thread).unwrap_or(thread)));
        match ptrace::syscall(thread, signal) {
            // Killed while it was stopped: its end is told next.
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).context("a traced process does not go on"),
        }
    }

    fn count(&mut self, thread: Pid) -> Result<()> {
        let info = match ptrace::syscall_info(thread) {
            Err(Errno::ESRCH) => return Ok(()),
            info => info.context("tracing does not tell which system call it is")?,
        };
        if info.op != PTRACE_SYSCALL_INFO_ENTRY {
            return Ok(());
        }
        // SAFETY: the kernel has filled this variant in: it says so in `op`.
        let call = unsafe { info.u.entry };
        let nowhere = call.nr == libc::SYS_lseek as u64 && call.args[0] as i32 == -1;
        let is = |mark| nowhere && call.args[1] == mark as u64;
        let Some(&Thread { process, marks, within }) = self.threads.get(&thread) else { return Ok(()) };
        if is(Mark::Begin) || is(Mark::End) {
            self.threads.insert(thread, Thread { process, marks: true, within: is(Mark::Begin) });
            return Ok(());
        }
        let helps = || self.threads.values().any(|other| other.process == process && other.within);
        self.calls += u64::from(if marks { within } else { helps() });
        Ok(())
    }

    /// What was counted since the last time.
    pub fn take(&mut self) -> u64 {
        std::mem::take(&mut self.calls)
    }
}

fn process_of(thread: Pid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok().map(Pid::from_raw)
}

impl Drop for Tracer {
    fn drop(&mut self) {
        for &thread in self.threads.keys() {
            // Only one that has stopped can be left.
            if ptrace::detach(thread, None).is_err() && ptrace::interrupt(thread).is_ok() {
                let stopped = waitpid(thread, Some(WaitPidFlag::__WALL));
                let signal = match stopped {
                    Ok(WaitStatus::Stopped(_, signal)) => Some(signal),
                    _ => None,
                };
                let _ = ptrace::detach(thread, signal);
            }
        }
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.mask_before), None);
    }
}
