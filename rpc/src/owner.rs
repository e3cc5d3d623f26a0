//! The process of a session, or of a server, so that what a dead one leaves can be told.

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open, test_kill_process},
};
use std::{fs, os::unix::fs::MetadataExt, process};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A process: no two agree in all. The default is one that is not known.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub(crate) struct Owner {
    /// In the PID namespace.
    pid: u64,
    /// When it started, in clock ticks since boot, as the time namespace counts.
    start_ticks: u64,
    /// Inodes of the PID namespace (upper half) and of the time namespace (lower half) in which both are meant.
    namespaces: u64,
}

impl Owner {
    /// The process that has this id here and now; the one that is not known, when there is none or it can't be identified.
    pub(crate) fn of(pid: u32) -> Self {
        let known = namespaces().zip(start_ticks(pid));
        known
            .map(|(namespaces, start_ticks)| Self { pid: pid.into(), start_ticks, namespaces })
            .unwrap_or_default()
    }

    /// This process; where it can't be identified, one that is never known to be dead.
    pub(crate) fn this_process() -> Self {
        match Self::of(process::id()) {
            unknown if unknown == Self::default() => Self { pid: process::id().into(), ..unknown },
            known => known,
        }
    }

    /// Whether the kernel proves that it is gone: there is no process of this id, or one that has ended and was not waited for,
    /// or one that started at another time. Where the kernel does not answer, or speaks of other namespaces than the process was seen from, nothing is proven.
    pub(crate) fn is_dead(self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|_| namespaces() == Some(self.namespaces)) else { return false };
        test_kill_process(pid) == Err(Errno::SRCH)
            || has_ended(pid)
            || start_ticks(self.pid as u32).is_some_and(|ticks| ticks != self.start_ticks)
    }
}

/// Whether the process that has this id now has ended, and was not waited for. False where there is no descriptor to ask by.
fn has_ended(pid: Pid) -> bool {
    pidfd_open(pid, PidfdFlags::empty()).is_ok_and(|pidfd| {
        let mut process = [PollFd::new(&pidfd, PollFlags::IN)];
        poll(&mut process, Some(&Timespec::default())).is_ok_and(|ready| ready == 1)
    })
}

/// Where this process is, when that can be told.
fn namespaces() -> Option<u64> {
    let inode = |path| Some(fs::metadata(path).ok()?.ino() & 0xffff_ffff);
    Some(inode("/proc/self/ns/pid")? << 32 | inode("/proc/self/ns/time")?)
}

/// When the process of this id started, if there is a `/proc` that speaks of this PID namespace: another one names other
/// processes.
fn start_ticks(pid: u32) -> Option<u64> {
    let own = fs::read_to_string("/proc/self/stat").ok()?;
    if !own.starts_with(&format!("{} ", process::id())) {
        return None;
    }
    start_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of `/proc/<pid>/stat`; the second one is in brackets and may hold anything.
fn start_in(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Resource, Rlimit, WaitId, WaitIdOptions, getrlimit, setrlimit, waitid};
    use std::{
        env,
        process::{Child, Command},
    };

    #[test]
    fn this_process_lives_and_one_that_started_at_another_time_does_not() {
        let own = Owner::of(process::id());
        assert!(!own.is_dead());
        assert!(Owner { start_ticks: own.start_ticks + 1, ..own }.is_dead());
        assert!(!Owner::default().is_dead(), "nothing is known of it");
        assert_eq!(Owner::of(u32::MAX), Owner::default());
    }

    /// A process that sleeps until it is killed.
    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            Self(Command::new("sleep").arg("600").spawn().unwrap())
        }

        fn end(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn who_has_ended_is_dead_before_anybody_has_waited_for_it() {
        let mut sleeper = Sleeper::start();
        let owner = Owner::of(sleeper.0.id());
        assert!(!owner.is_dead());
        sleeper.0.kill().unwrap();
        let zombie = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&sleeper.0)), zombie).unwrap();
        assert!(owner.is_dead());
    }

    #[test]
    fn an_id_of_another_namespace_proves_no_death() {
        let mut sleeper = Sleeper::start();
        let owner = Owner::of(sleeper.0.id());
        sleeper.end();
        assert!(owner.is_dead());
        for bit in [0, 32] {
            let elsewhere = Owner { namespaces: owner.namespaces ^ 1 << bit, ..owner };
            assert!(!elsewhere.is_dead(), "there it may be alive");
        }
        let restarted = Owner { start_ticks: 1, ..Owner::of(process::id()) };
        assert!(restarted.is_dead());
        assert!(
            !Owner { namespaces: restarted.namespaces + 1, ..restarted }.is_dead(),
            "clocks differ there"
        );
    }

    /// Runs a test of this file in a process of its own. True in that one.
    fn alone(test: &str) -> bool {
        const AGAIN: &str = "RINGPOST_RPC_AGAIN";
        if env::var_os(AGAIN).is_some() {
            return true;
        }
        let name = format!("owner::tests::{test}");
        let mut command = Command::new(env::current_exe().unwrap());
        let status = command.args(["--exact", &name]).env(AGAIN, "").status().unwrap();
        assert!(status.success(), "{status}");
        false
    }

    #[test]
    fn a_death_is_told_by_the_kernel_alone_and_not_by_a_want_of_descriptors() {
        if !alone("a_death_is_told_by_the_kernel_alone_and_not_by_a_want_of_descriptors") {
            return;
        }
        let mut sleeper = Sleeper::start();
        let owner = Owner::of(sleeper.0.id());
        let former = Owner { start_ticks: owner.start_ticks - 1, ..owner };
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..limit }).unwrap();
        assert!(!owner.is_dead());
        assert!(!former.is_dead(), "nobody can tell now when it started");
        assert_eq!(Owner::of(sleeper.0.id()), Owner::default());
        sleeper.end();
        assert!(owner.is_dead() && former.is_dead(), "that takes no descriptor to tell");
    }
}
