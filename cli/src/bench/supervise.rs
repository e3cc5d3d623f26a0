//! The supervisor: it forks the two measuring processes, gives them orders, and sleeps while they measure.
//!
//! It notices the death of either (its line hangs up), a signal (through a descriptor) and a sample that never
//! ends; and whatever happens, both processes and every System V queue are gone when it returns.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid};

use super::calls::Tracer;
use super::mechanism::sysv;
use super::memory::Shared;
use super::payload::Input;
use super::plan::{Made, Plan};
use super::station::{Board, Role};
use super::worker::{self, Birth, LONGEST, Order, Report, stuck_after};
use crate::ending::Ending;

/// The two measuring processes.
pub struct Crew {
    signals: Signals,
    members: Vec<Member>,
    stuck_after: Duration,
}

struct Member {
    role: Role,
    pid: Pid,
    line: OwnedFd,
}

impl Crew {
    /// Forks both. Must be called while the process has one thread.
    pub fn start(input: &Input, plan: &Plan, made: &Made, usable: &[usize]) -> Result<Self> {
        let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(1);
        ensure!(threads == 1, "the measuring processes must be forked from a single thread");
        let board = Shared::<Board>::zeroed()?;
        let signals = Signals::watch()?;
        let mut crew = Self { signals, members: Vec::new(), stuck_after: stuck_after(plan.budget) };
        let parent = getpid();
        for role in [Role::Leader, Role::Follower] {
            let (ours, theirs) =
                socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                    .context("cannot make a socket pair")?;
            // SAFETY: there is one thread, checked above, so the child may use everything that it inherits.
            match unsafe { fork() }.context("cannot fork a measuring process")? {
                ForkResult::Parent { child } => crew.members.push(Member { role, pid: child, line: ours }),
                ForkResult::Child => {
                    drop(ours);
                    // Forget the supervisor's hold on a sibling; only its line is closed.
                    crew.members.drain(..).for_each(|member| drop(member.line));
                    let birth =
                        Birth { role, line: theirs, parent, input, plan, made, board: &board, usable };
                    let result = catch_unwind(AssertUnwindSafe(|| worker::serve(&birth)));
                    // It ends because its line has hung up, and the supervisor may have been killed.
                    sysv::remove_queues();
                    // SAFETY: ends the process without running what belongs to the supervisor.
                    unsafe { libc::_exit(if matches!(result, Ok(Ok(()))) { 0 } else { 101 }) };
                }
            }
        }
        Ok(crew)
    }

    /// Traces both processes; the error is the reason why it can't be.
    pub fn trace(&self) -> Result<Tracer> {
        Tracer::attach(&self.members.iter().map(|member| member.pid).collect::<Vec<_>>())
    }

    /// Has both processes run one sample; the leader's report. They are served by whoever traces them.
    pub fn run(&self, order: Order, mut tracer: Option<&mut Tracer>) -> Result<Report> {
        let order = serde_json::to_vec(&order)?;
        for member in &self.members {
            if send(member.line.as_raw_fd(), &order, MsgFlags::MSG_NOSIGNAL).is_err() {
                return Err(member.obituary());
            }
        }
        let mut reports = [None, None];
        let mut reminded = false;
        let mut deadline = Instant::now() + self.stuck_after;
        while reports.iter().any(Option::is_none) {
            match self.wait(deadline, tracer.as_deref_mut())? {
                Some((member, report)) => {
                    if let Report::Failed(reason) = report {
                        bail!(reason);
                    }
                    reports[member.role as usize] = Some(report);
                }
                // All three may have been stopped and continued: look once more before it counts as stuck.
                None if !reminded => {
                    reminded = true;
                    deadline = Instant::now() + Duration::from_secs(5);
                }
                None => bail!("a sample does not end: it was given up after {:?}", self.stuck_after),
            }
        }
        match reports {
            [Some(Report::Unavailable(leader)), Some(Report::Unavailable(follower))] => {
                Ok(Report::Unavailable(if leader.is_empty() { follower } else { leader }))
            }
            [
                Some(Report::Measured { before_ns, after_ns, figures, usage }),
                Some(Report::Measured { usage: other, .. }),
            ] => Ok(Report::Measured { before_ns, after_ns, figures, usage: usage.with(other) }),
            [Some(leader), _] => Ok(leader),
            [None, _] => unreachable!("the loop ends when both have reported"),
        }
    }

    /// The next report of either process; `None` when the time is over.
    fn wait(&self, deadline: Instant, mut tracer: Option<&mut Tracer>) -> Result<Option<(&Member, Report)>> {
        loop {
            let lines = self.members.iter().map(|member| member.line.as_fd());
            let others = [Some(self.signals.descriptor.as_fd()), tracer.as_deref().map(Tracer::stops)];
            let mut polled: Vec<_> = lines
                .chain(others.into_iter().flatten())
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            let left = deadline.saturating_duration_since(Instant::now()).as_millis();
            match poll(&mut polled, PollTimeout::try_from(left as u64).unwrap_or(PollTimeout::MAX)) {
                Ok(0) => return Ok(None),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("poll failed"),
            }
            self.signals.check()?;
            let ready: Vec<bool> = polled.iter().map(|polled| polled.any().unwrap_or(false)).collect();
            if let Some(tracer) = tracer.as_deref_mut() {
                tracer.serve()?;
            }
            for (member, _) in self.members.iter().zip(ready).filter(|(_, ready)| *ready) {
                let mut buffer = vec![0; LONGEST];
                match recv(member.line.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                    Ok(0) | Err(Errno::ECONNRESET) => return Err(member.obituary()),
                    Ok(got) => return Ok(Some((member, serde_json::from_slice(&buffer[..got])?))),
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(error) => return Err(error).context("cannot receive a report"),
                }
            }
        }
    }
}

impl Member {
    /// Says of what it died.
    fn obituary(&self) -> anyhow::Error {
        obituary(self.pid, waitpid(self.pid, None))
    }
}

/// Says which measuring process died, and of what.
pub fn obituary(pid: Pid, end: nix::Result<WaitStatus>) -> anyhow::Error {
    let cause = match end {
        Ok(WaitStatus::Exited(_, code)) => format!("it ended with code {code}"),
        Ok(WaitStatus::Signaled(_, signal, _)) => format!("it was killed by {signal}"),
        other => format!("{other:?}"),
    };
    Ending::PeerDied(format!("the measuring process {pid} is gone: {cause}")).into()
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &self.members {
            // One that is dead has been waited for already, and is then no child of ours any more.
            if waitpid(member.pid, Some(nix::sys::wait::WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
                let _ = kill(member.pid, Signal::SIGKILL);
                let _ = waitpid(member.pid, None);
            }
        }
        sysv::remove_queues();
    }
}

/// The signals that end the run, taken in through a descriptor.
struct Signals {
    descriptor: SignalFd,
    before: SigSet,
}

impl Signals {
    fn watch() -> Result<Self> {
        let mut ours = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
            ours.add(signal);
        }
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&ours), Some(&mut before)).context("cannot block signals")?;
        let descriptor = SignalFd::with_flags(&ours, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context("cannot watch for signals")?;
        Ok(Self { descriptor, before })
    }

    fn check(&self) -> Result<()> {
        match self.descriptor.read_signal().context("cannot read a signal")? {
            Some(info) => {
                let signal = Signal::try_from(info.ssi_signo as i32).unwrap_or(Signal::SIGTERM);
                Err(Ending::Interrupted(signal).into())
            }
            None => Ok(()),
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}
