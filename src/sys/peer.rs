//! Who a process is, and whether it still lives.
//!
//! Death is never guessed. [`life`] says [`Life::Dead`] only with proof, and everything unclear is
//! [`Life::Alive`].

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::{fs, io, sync::OnceLock, thread::available_parallelism};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open, test_kill_process};

use super::segment::SegmentError;

/// A process id fits 22 bits: the kernel hands out none above 4194304 (`PID_MAX_LIMIT`).
const START_TICKS_BITS: u32 = 34;

/// A process, told apart from every other since the machine booted: an id may be used again, but not with the
/// same start time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Identity {
    /// In its PID namespace; below 2^22.
    pub pid: u32,
    /// Start time in clock ticks (1/100 s) since boot, modulo 2^34; 0 where it couldn't be read.
    pub start_ticks: u64,
}

/// Whether a process still lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// It lives, or there is no proof of the contrary. A stopped process is alive.
    Alive,
    /// No thread of it will ever run again.
    Dead,
}

/// The calling process. Asks the kernel each time, so it's right in a forked child too.
pub(crate) fn this_process() -> Identity {
    let pid = getpid();
    Identity { pid: pid.as_raw_nonzero().get() as u32, start_ticks: start_ticks(pid).unwrap_or(0) }
}

/// Whether `of` still lives. `of` must come from this PID namespace, and from this time namespace: the kernel
/// shifts start times by the offset of whoever reads them.
pub(crate) fn life(of: Identity) -> Life {
    // No process has the id 0 or one that is no pid_t.
    let Some(pid) = i32::try_from(of.pid).ok().and_then(Pid::from_raw) else { return Life::Dead };
    // Whoever asks has not ended.
    let ended = pid != getpid() && has_ended(pid);
    // The id's present owner hadn't ended. The start time, read only now, says whether it's the one that is
    // meant; where there is none to be read, that owner may have ended in between, whoever it was.
    let replaced = || match start_ticks(pid) {
        Some(found) => of.start_ticks != 0 && found != of.start_ticks,
        None => pid != getpid() && has_ended(pid),
    };
    if ended || replaced() || is_exiting(pid) { Life::Dead } else { Life::Alive }
}

/// Whether nobody who has the id `pid` runs any more.
fn has_ended(pid: Pid) -> bool {
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => is_over(pidfd.as_fd()),
        Err(Errno::SRCH) => true,
        // No pidfds in this kernel or sandbox, no descriptor left, or a thread of another process has the id
        // now.
        Err(_) => test_kill_process(pid) == Err(Errno::SRCH),
    }
}

/// Whether the process `pid` has this thread, or had it and was not waited for; true where the kernel does not say.
pub(crate) fn has_thread(pid: u32, thread: u32) -> bool {
    // SAFETY: signal 0 is none: the call only looks.
    let found = unsafe { libc::syscall(libc::SYS_tgkill, pid as i32, thread as i32, 0) == 0 };
    found || Errno::from_io_error(&io::Error::last_os_error()) == Some(Errno::PERM)
}

/// Whether the process of a pidfd has ended: readable when the whole thread group is gone, also before the parent has waited
/// for it. Not so when only the main thread has exited, which /proc shows as a zombie too.
pub(super) fn is_over(pidfd: BorrowedFd<'_>) -> bool {
    let mut pidfd = [PollFd::new(&pidfd, PollFlags::IN)];
    poll(&mut pidfd, Some(&Timespec::default())).is_ok_and(|ready| ready == 1)
}

/// The random number that the kernel drew when it booted; zeros without a `/proc`.
pub(crate) fn boot_id() -> Result<[u8; 16], SegmentError> {
    let text = known(fs::read_to_string("/proc/sys/kernel/random/boot_id"), "read the boot id")?;
    Ok(u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or(0).to_be_bytes())
}

/// Tells apart where process ids and start times mean something else: the inodes of the PID namespace (upper half) and of
/// the time namespace (lower half); 0 without a `/proc`.
pub(crate) fn namespaces() -> Result<u64, SegmentError> {
    let inode = |path| {
        let inode = fs::metadata(path).map(|namespace| namespace.ino() & 0xffff_ffff);
        known(inode, "look at the namespaces of this process")
    };
    Ok(inode("/proc/self/ns/pid")? << 32 | inode("/proc/self/ns/time")?)
}

/// What is not there is not known; what can't be had now would be taken for something else later.
fn known<T: Default>(found: io::Result<T>, operation: &'static str) -> Result<T, SegmentError> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        other => other
            .map_err(|error| SegmentError::os(operation, Errno::from_io_error(&error).unwrap_or(Errno::IO))),
    }
}

/// Whether two processes can run at the same time. Not whether this one may run in two places: its peer may be kept on another
/// processor than it.
pub(crate) fn processors_are_several() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    // A list, as `0-3,6`.
    *KNOWN.get_or_init(|| match fs::read_to_string("/sys/devices/system/cpu/online") {
        Ok(online) => online.contains(['-', ',']),
        Err(_) => available_parallelism().is_ok_and(|processors| processors.get() > 1),
    })
}

/// In the flags of a task: it is in `do_exit` and never returns to its program.
const PF_EXITING: u64 = 4;

/// Whether no thread of the process will run its program again. True long before its memory is freed, which takes 100 ms
/// a gigabyte and comes before the process counts as ended.
///
/// Two listings, because a thread that is not yet exiting could start another behind the back of the first: what the
/// second finds beyond the first may have been started so. (Threads that keep starting one another and exiting could
/// still slip through. The thread that watches for death never exits by itself, so a process that has one does not die
/// in this way.)
pub(super) fn is_exiting(pid: Pid) -> bool {
    let Some(first) = exiting_threads(pid) else { return false };
    exiting_threads(pid).is_some_and(|second| second.iter().all(|thread| first.contains(thread)))
}

/// The threads of a process when all of them are exiting; `None` when one is not, or when they can't be listed.
fn exiting_threads(pid: Pid) -> Option<Vec<u64>> {
    // As for the start time: another namespace's /proc names other processes.
    read_stat("self").filter(|&(own, _)| own == getpid().as_raw_nonzero().get())?;
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let path = entry.ok()?.path();
        let Ok(stat) = fs::read(path.join("stat")) else { continue };
        let flags: u64 = field(&stat, 9)?.parse().ok()?;
        if flags & PF_EXITING == 0 {
            return None;
        }
        threads.push(path.file_name()?.to_str()?.parse().ok()?);
    }
    (!threads.is_empty()).then_some(threads)
}

/// Start time of the process or thread `pid`. None without a `/proc` that speaks of this PID namespace: in
/// another one the same number names another process, which would be a false proof of death.
pub(super) fn start_ticks(pid: Pid) -> Option<u64> {
    let (own, own_start) = read_stat("self")?;
    match own == getpid().as_raw_nonzero().get() {
        true if own == pid.as_raw_nonzero().get() => Some(own_start),
        true => read_stat(&pid.to_string()).map(|(_, start)| start),
        false => None,
    }
}

/// Id and start time from `/proc/<process>/stat`.
fn read_stat(process: &str) -> Option<(i32, u64)> {
    parse_stat(&fs::read(format!("/proc/{process}/stat")).ok()?)
}

/// The command's name, in parentheses, may hold any byte, also spaces and parentheses: what follows it starts
/// behind the last parenthesis.
fn parse_stat(stat: &[u8]) -> Option<(i32, u64)> {
    let pid = str::from_utf8(stat.split(|&byte| byte == b' ').next()?).ok()?.parse().ok()?;
    let start: u64 = field(stat, 22)?.parse().ok()?;
    Some((pid, start & ((1 << START_TICKS_BITS) - 1)))
}

/// Field `number` of a stat file, from the third on: proc(5) counts the id and the name as the first two.
fn field(stat: &[u8], number: usize) -> Option<&str> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    str::from_utf8(&stat[name_end + 1..]).ok()?.split_ascii_whitespace().nth(number - 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    #[test]
    fn who_is_kept_on_one_processor_knows_that_there_are_others() {
        let everywhere = sched_getaffinity(None).unwrap();
        let mut here = CpuSet::new();
        here.set((0..CpuSet::MAX_CPU).find(|&processor| everywhere.is_set(processor)).unwrap());
        sched_setaffinity(None, &here).unwrap();
        let several = processors_are_several();
        sched_setaffinity(None, &everywhere).unwrap();
        assert!(several || everywhere.count() == 1);
    }

    #[test]
    fn no_process_has_an_impossible_id() {
        for pid in [0, i32::MAX as u32 + 1, u32::MAX] {
            assert_eq!(life(Identity { pid, start_ticks: 1 }), Life::Dead);
        }
    }

    #[test]
    fn the_name_of_a_command_does_not_confuse_the_start_time() {
        let rest = b"S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        for name in [&b"sh"[..], b"a b", b"x) S 1 (y", b") R 0 0", b"\xff\xfe", b""] {
            let stat = [b"42 (", name, b") ", rest].concat();
            assert_eq!(parse_stat(&stat), Some((42, 987_654)), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn a_start_time_is_cut_to_34_bits() {
        let stat = format!("42 (sh) S{} {}", " 0".repeat(18), (1_u64 << 34) + 5);
        assert_eq!(parse_stat(stat.as_bytes()), Some((42, 5)));
    }

    #[test]
    fn a_malformed_stat_tells_nothing() {
        for stat in
            [&b""[..], b"42", b"42 (sh", b"42 (sh) S 1 2", b"x (sh) S 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 9"]
        {
            assert_eq!(parse_stat(stat), None);
        }
    }
}

#[cfg(all(test, not(miri)))]
mod process_tests {
    use std::io::Read;
    use std::process::{Child, Command, Stdio};
    use std::sync::mpsc;
    use std::thread;

    use rustix::process::{
        Resource, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, waitid, waitpid,
    };

    use super::*;
    use crate::sys::testing;

    /// A process that does nothing; killed and waited for on drop, so that no test leaves it behind.
    struct Sleeper(Child);

    impl Sleeper {
        fn spawn() -> Self {
            Self(Command::new("sleep").arg("600").spawn().unwrap())
        }

        fn identity(&self) -> Identity {
            let pid = Pid::from_child(&self.0);
            Identity { pid: self.0.id(), start_ticks: start_ticks(pid).unwrap() }
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_process_has_its_own_threads_and_no_others() {
        let (own, thread) = (std::process::id(), rustix::thread::gettid().as_raw_nonzero().get() as u32);
        assert!(has_thread(own, own) && has_thread(own, thread));
        for (pid, thread) in [(1, own), (own, 1), (0, own), (own, 0), (u32::MAX, own), (own, 0x3fff_ffff)] {
            assert!(!has_thread(pid, thread), "{thread} of {pid}");
        }
    }

    #[test]
    fn this_process_is_alive_and_knows_itself() {
        let own = this_process();
        assert_eq!(own.pid, std::process::id());
        assert!(own.start_ticks > 0);
        assert_eq!(own, this_process());
        assert_eq!(thread::spawn(this_process).join().unwrap(), own, "not the thread, the process");
        assert_eq!(life(own), Life::Alive);
    }

    #[test]
    fn a_forked_child_knows_itself_and_not_its_parent() {
        use nix::libc;

        let parent = this_process();
        // SAFETY: the child takes no lock that another thread may have held but the allocator's, which
        // fork(3) leaves usable, and it ends without running anything of the test harness.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let own = this_process();
            let right = own.pid == std::process::id() && own.pid != parent.pid && own.start_ticks != 0;
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(i32::from(!right)) };
        }
        let status = waitpid(Pid::from_raw(child), WaitOptions::empty()).unwrap().unwrap().1;
        assert_eq!(status.exit_status(), Some(0));
    }

    #[test]
    fn a_child_is_alive_until_killed_and_dead_as_a_zombie_and_after() {
        let mut child = Sleeper::spawn();
        let identity = child.identity();
        assert_eq!(life(identity), Life::Alive);
        child.0.kill().unwrap();
        let zombie = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&child.0)), zombie).unwrap();
        assert_eq!(life(identity), Life::Dead, "nobody has waited for it yet");
        child.0.wait().unwrap();
        assert_eq!(life(identity), Life::Dead, "its id is free");
    }

    #[test]
    fn a_stopped_process_is_alive() {
        let child = Sleeper::spawn();
        let pid = Pid::from_child(&child.0);
        kill_process(pid, Signal::STOP).unwrap();
        waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED).unwrap();
        assert_eq!(life(child.identity()), Life::Alive);
    }

    #[test]
    fn another_start_time_is_another_process() {
        let child = Sleeper::spawn();
        let Identity { pid, start_ticks } = child.identity();
        assert_eq!(life(Identity { pid, start_ticks: start_ticks - 1 }), Life::Dead);
        assert_eq!(life(Identity { pid, start_ticks: start_ticks + 1 }), Life::Dead);
    }

    #[test]
    fn whose_id_went_to_a_process_that_ends_meanwhile_is_dead_all_the_time() {
        for _ in 0..200 {
            let mut child = Sleeper::spawn();
            let Identity { pid, start_ticks } = child.identity();
            let former = Identity { pid, start_ticks: start_ticks - 1 };
            thread::scope(|scope| {
                let ended = scope.spawn(|| {
                    child.0.kill().unwrap();
                    child.0.wait().unwrap();
                });
                while !ended.is_finished() {
                    assert_eq!(life(former), Life::Dead);
                }
            });
        }
    }

    #[test]
    fn an_unknown_start_time_proves_nothing() {
        let mut child = Sleeper::spawn();
        let unknown = Identity { start_ticks: 0, ..child.identity() };
        assert_eq!(life(unknown), Life::Alive);
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        assert_eq!(life(unknown), Life::Dead);
    }

    #[test]
    fn the_process_that_made_the_others_is_alive() {
        // May belong to another user, and its /proc may be hidden.
        assert_eq!(life(Identity { pid: 1, start_ticks: 0 }), Life::Alive);
    }

    #[test]
    fn an_id_that_went_to_a_thread_no_longer_names_a_process() {
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            tell.send(rustix::thread::gettid()).unwrap();
            let _ = ended.recv();
        });
        let tid = told.recv().unwrap();
        let former =
            Identity { pid: tid.as_raw_nonzero().get() as u32, start_ticks: start_ticks(tid).unwrap() - 1 };
        assert_eq!(life(former), Life::Dead);
        drop(end);
        thread.join().unwrap();
    }

    #[test]
    fn a_process_whose_main_thread_has_exited_is_alive() {
        if testing::is_again() {
            exit_main_thread_and_await_the_end_of_input();
        }
        let mut again =
            testing::again(&[], module_path!(), "a_process_whose_main_thread_has_exited_is_alive");
        let mut child = Sleeper(again.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
        let identity = child.identity();
        let state_of_main_thread = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", identity.pid)).unwrap();
            stat.rsplit(") ").next().unwrap().chars().next().unwrap()
        };
        while state_of_main_thread() != 'Z' {
            assert_eq!(child.0.try_wait().unwrap(), None, "the whole process has exited");
            thread::yield_now();
        }
        assert_eq!(life(identity), Life::Alive);
        drop(child.0.stdin.take());
        child.0.wait().unwrap();
        assert_eq!(life(identity), Life::Dead);
    }

    fn exit_main_thread_and_await_the_end_of_input() -> ! {
        use nix::libc;

        extern "C" fn exit_this_thread(_signal: libc::c_int) {
            // SAFETY: ends the calling thread and touches no memory. The main thread's stack stays as it is.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        let main_thread = getpid().as_raw_nonzero().get();
        let handler = exit_this_thread as extern "C" fn(libc::c_int);
        // SAFETY: the handler does nothing but a system call.
        unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
        // SAFETY: sends a signal that has a handler.
        unsafe { libc::syscall(libc::SYS_tgkill, main_thread, main_thread, libc::SIGUSR1) };
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0)
    }

    #[test]
    fn death_is_proved_without_a_descriptor_too() {
        if !testing::is_again() {
            return testing::run(testing::again(
                &[],
                module_path!(),
                "death_is_proved_without_a_descriptor_too",
            ));
        }
        let mut child = Sleeper::spawn();
        let identity = child.identity();
        testing::limit(Resource::Nofile, 0);
        assert_eq!(life(identity), Life::Alive);
        assert_eq!(this_process().start_ticks, 0);
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        assert_eq!(life(identity), Life::Dead);
    }

    #[test]
    fn the_machine_and_the_namespace_are_known_and_do_not_change() {
        assert_ne!(boot_id().unwrap(), [0; 16]);
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert_ne!(namespaces().unwrap(), 0);
        assert_eq!(namespaces().unwrap(), namespaces().unwrap());
    }
}
