//! Unix sockets: finding another process at a path, knowing who it is, and passing it a descriptor.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, chmodat, fchmod, flock};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, recvmsg,
    sendmsg, socket_with, sockopt,
};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use super::clock::Deadline;
use super::peer::{self, Identity, Life};
use super::pidfd::Peer;

mod error;

pub use error::LinkError;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Descriptors of one message that are taken, so that more than one is noticed.
const MOST_DESCRIPTORS: usize = 4;

/// Who is at the other end of a connection, as the kernel knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// The process, as this PID namespace names it; 0 where it does not.
    pub pid: u32,
    /// Its effective user when it connected, or began to listen.
    pub uid: u32,
    /// Its effective group then.
    pub gid: u32,
}

/// A socket that listens at a path. The path is removed on drop.
#[derive(Debug)]
pub(crate) struct Listening {
    socket: OwnedFd,
    /// From the root on, wherever this process goes.
    path: PathBuf,
    /// Device and inode of the path.
    file: (u64, u64),
    process: Pid,
}

impl Listening {
    /// Listens at `path`, whose socket gets exactly the permission bits `mode`. What a dead listener has left there is
    /// replaced.
    pub(crate) fn at(path: &Path, mode: u32, deadline: Deadline) -> Result<Self, LinkError> {
        let address = address(path)?;
        let socket = socket(SocketFlags::NONBLOCK)?;
        // The file gets these bits, less the umask's, so that there is no moment in which it has more.
        let fail = |errno| LinkError::at(path, "listen at", errno);
        fchmod(&socket, Mode::from_raw_mode(mode)).map_err(fail)?;
        // Nobody else takes a socket for stale that is bound and does not listen yet, or removes one that is new.
        let _lock = lock_directory(path, deadline)?;
        loop {
            match bind(&socket, &address) {
                Err(Errno::ADDRINUSE) => remove_stale(path)?,
                bound => break bound.map_err(fail)?,
            }
        }
        let begun = chmodat(CWD, path, Mode::from_raw_mode(mode), rustix::fs::AtFlags::empty())
            .and_then(|()| rustix::net::listen(&socket, BACKLOG));
        let file = begun.map_err(fail).and_then(|()| {
            let file = fs::symlink_metadata(path);
            file.map_err(|error| fail(Errno::from_io_error(&error).unwrap_or(Errno::IO)))
        });
        match file {
            Ok(file) => {
                let file = (file.dev(), file.ino());
                let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
                Ok(Self { socket, path, file, process: getpid() })
            }
            Err(error) => {
                // It was made here, under the lock.
                let _ = fs::remove_file(path);
                Err(error)
            }
        }
    }

    /// Waits for the next connection.
    pub(crate) fn accept(&self) -> Result<Connection, LinkError> {
        const ACCEPT: &str = "accept a connection";
        if getpid() != self.process {
            // Who connects watches the process that listened.
            return Err(LinkError::Forked);
        }
        loop {
            ready(self.socket.as_fd(), PollFlags::IN, None).map_err(|errno| LinkError::os(ACCEPT, errno))?;
            match accept_with(&self.socket, SocketFlags::CLOEXEC) {
                // Another thread was first, or whoever connected is gone.
                Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => {}
                accepted => {
                    return accepted.map(Connection).map_err(|errno| LinkError::os(ACCEPT, errno));
                }
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        /// Whoever begins to listen is done long before.
        const PATIENCE: Duration = Duration::from_millis(200);
        if getpid() != self.process {
            return;
        }
        // A socket that its owner has shut down is stale to others: what stands here may become a successor's at any time.
        let lock = lock_directory(&self.path, Deadline::after(PATIENCE));
        let is_there = |file: fs::Metadata| (file.dev(), file.ino()) == self.file;
        let is_locked = matches!(lock, Err(LinkError::Locked { .. }));
        if !is_locked && fs::symlink_metadata(&self.path).is_ok_and(is_there) {
            // Nobody is left to tell when it fails; the next listener replaces what stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn address(path: &Path) -> Result<SocketAddrUnix, LinkError> {
    // The last byte must be a zero for other programs.
    let fits = path.as_os_str().len() < 108;
    let address = if fits { SocketAddrUnix::new(path) } else { Err(Errno::NAMETOOLONG) };
    address.map_err(|errno| LinkError::at(path, "use the path", errno))
}

/// Messages are received whole or not at all.
fn socket(flags: SocketFlags) -> Result<OwnedFd, LinkError> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC | flags, None)
        .map_err(|errno| LinkError::os("make a socket", errno))
}

/// Held while a listener begins. It is the directory that is locked, so that nothing is left behind.
fn lock_directory(path: &Path, deadline: Deadline) -> Result<OwnedFd, LinkError> {
    /// Between two tries.
    const PAUSE: Duration = Duration::from_millis(1);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let fail = |errno| LinkError::at(directory, "lock the directory", errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = retry_on_intr(|| rustix::fs::open(directory, flags, Mode::empty())).map_err(fail)?;
    loop {
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN) if deadline.passed() => {
                return Err(LinkError::Locked { directory: directory.into() });
            }
            Err(Errno::AGAIN | Errno::INTR) => std::thread::sleep(PAUSE),
            locked => return locked.map(|()| fd).map_err(fail),
        }
    }
}

/// Removes the socket that stands at `path` if nobody listens there any more.
fn remove_stale(path: &Path) -> Result<(), LinkError> {
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {}
        Ok(_) => return Err(LinkError::NotASocket { path: path.into() }),
        // It is gone: try again.
        Err(_) => return Ok(()),
    }
    let probe = Connection(socket(SocketFlags::NONBLOCK)?);
    let is_stale = match rustix::net::connect(&probe.0, &address(path)?) {
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::CONNREFUSED) => true,
        Ok(()) => probe.is_orphaned(),
        // Nobody can tell who may not try.
        Err(Errno::ACCESS) => return Err(LinkError::at(path, "see who listens at", Errno::ACCESS)),
        // It listens, but has no room for another connection, or is of another type.
        Err(_) => false,
    };
    if !is_stale {
        return Err(LinkError::InUse { path: path.into() });
    }
    match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(LinkError::at(path, "remove", errno)),
    }
}

/// Whether a process has ended, by proof, when a socket has given this pidfd of it.
fn has_ended(pid: u32, by_socket: Result<OwnedFd, Errno>) -> bool {
    match by_socket {
        Ok(pidfd) => peer::is_over(pidfd.as_fd()),
        // It was waited for, too.
        Err(Errno::SRCH | Errno::INVAL) => true,
        // Linux before 6.5; and where the process has no id here, nothing is proven.
        Err(_) => pid != 0 && peer::life(Identity { pid, start_ticks: 0 }) == Life::Dead,
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Connection(OwnedFd);

impl Connection {
    /// Connects to who listens at `path`.
    pub(crate) fn to(path: &Path, deadline: Deadline) -> Result<Self, LinkError> {
        const AWAITING: &str = "to be accepted";
        let (address, socket) = (address(path)?, socket(SocketFlags::empty())?);
        loop {
            // Where too many wait already, the kernel waits for so long. Zero would be for ever.
            let patience = deadline.remaining().max(Duration::from_millis(1));
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(patience))
                .map_err(|errno| LinkError::os("set a time-out", errno))?;
            return match rustix::net::connect(&socket, &address) {
                Ok(()) => Self(socket).unless_orphaned(path, deadline),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Err(LinkError::TimedOut { awaiting: AWAITING }),
                Err(Errno::NOENT | Errno::CONNREFUSED) => Err(LinkError::NotListening { path: path.into() }),
                Err(Errno::PROTOTYPE) => Err(LinkError::Malformed { why: "its socket is of another type" }),
                Err(errno) => Err(LinkError::at(path, "connect to", errno)),
            };
        }
    }

    /// This connection, when who listens at `path` lives. Else the path is taken away, if this process may do that: each who came
    /// would take a place in a queue from which nobody is ever accepted, until it is full and tells nothing any more.
    fn unless_orphaned(self, path: &Path, deadline: Deadline) -> Result<Self, LinkError> {
        if !self.is_orphaned() {
            return Ok(self);
        }
        let _ = lock_directory(path, deadline).and_then(|_lock| remove_stale(path));
        Err(LinkError::NotListening { path: path.into() })
    }

    /// Who had the other end when the connection was made: who connected, or who began to listen.
    pub(crate) fn credentials(&self) -> Result<PeerCredentials, LinkError> {
        let unknown = libc::ucred { pid: 0, uid: 0, gid: 0 };
        // SAFETY: three integers.
        let libc::ucred { pid, uid, gid } = unsafe { self.option(libc::SO_PEERCRED, unknown) }
            .map_err(|errno| LinkError::os("ask who is at the other end", errno))?;
        Ok(PeerCredentials { pid: u32::try_from(pid).unwrap_or(0), uid, gid })
    }

    /// That process, to be watched.
    pub(crate) fn peer(&self, of: &PeerCredentials) -> Result<Peer, LinkError> {
        self.watch(of, self.peer_pidfd())
    }

    /// The same, when the socket has given this pidfd.
    fn watch(&self, of: &PeerCredentials, by_socket: Result<OwnedFd, Errno>) -> Result<Peer, LinkError> {
        let pid = i32::try_from(of.pid).ok().and_then(Pid::from_raw);
        let gone = LinkError::HungUp { awaiting: "the process at the other end" };
        let pidfd = match (by_socket, pid) {
            (Ok(pidfd), _) => pidfd,
            // Linux before 6.5.
            (Err(Errno::NOPROTOOPT), Some(pid)) => match pidfd_open(pid, PidfdFlags::empty()) {
                // Still connected: then it has not ended before its id was looked up. (Unless a forked child has kept
                // the connection open, and the id was used again in between.)
                Ok(pidfd) if !self.is_hung_up() => pidfd,
                Ok(_) | Err(Errno::SRCH) => return Err(gone),
                Err(errno) => return Err(LinkError::os("watch the process at the other end", errno)),
            },
            (Err(Errno::NOPROTOOPT), None) => {
                return Err(LinkError::Unwatchable {
                    why: "it is in a PID namespace that this one does not see, and Linux is older than 6.5",
                });
            }
            (Err(Errno::SRCH | Errno::INVAL | Errno::NODATA), _) => return Err(gone),
            (Err(errno), _) => return Err(LinkError::os("watch the process at the other end", errno)),
        };
        Ok(Peer::new(pidfd, pid))
    }

    fn peer_pidfd(&self) -> Result<OwnedFd, Errno> {
        // SAFETY: an integer.
        let fd = unsafe { self.option(libc::SO_PEERPIDFD, -1) }?;
        // SAFETY: the kernel has just opened this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Whether the process that began to listen at the other end has ended, by proof: a child that it has forked may have the
    /// socket still, but accepts nobody.
    fn is_orphaned(&self) -> bool {
        self.credentials().is_ok_and(|of| has_ended(of.pid, self.peer_pidfd()))
    }

    fn is_hung_up(&self) -> bool {
        let mut socket = [PollFd::new(&self.0, PollFlags::empty())];
        let _ = poll(&mut socket, Some(&Timespec::default()));
        socket[0].revents().contains(PollFlags::HUP)
    }

    /// Option of the socket, written over `value`. rustix has neither of those that are asked here: its process id is never
    /// 0, and a process of another PID namespace has that.
    ///
    /// # Safety
    /// Any bytes must be a `T`.
    unsafe fn option<T: Copy>(&self, name: libc::c_int, mut value: T) -> Result<T, Errno> {
        let mut length = size_of::<T>() as libc::socklen_t;
        let (fd, to) = (self.0.as_raw_fd(), (&raw mut value).cast());
        // SAFETY: the kernel writes at most `length` bytes to `value`, which they are still a `T` after (the caller).
        let done = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, to, &mut length) };
        if done == 0 {
            Ok(value)
        } else {
            Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
        }
    }

    /// Whether something can be said at once, or the other side has hung up; waits for either until `deadline`.
    pub(crate) fn has_room(&self, deadline: Deadline) -> Result<bool, LinkError> {
        ready(self.0.as_fd(), PollFlags::OUT, Some(deadline))
            .map_err(|errno| LinkError::os("wait for room in the socket", errno))
    }

    /// Says something, with a descriptor.
    pub(crate) fn say(
        &self,
        bytes: &[u8],
        fd: Option<BorrowedFd<'_>>,
        deadline: Deadline,
    ) -> Result<(), LinkError> {
        const SAY: &str = "send over the socket";
        const AWAITING: &str = "to be heard";
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let fds = fd.as_slice();
            if !fds.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(fds));
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(&self.0, &[IoSlice::new(bytes)], &mut ancillary, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => match ready(self.0.as_fd(), PollFlags::OUT, Some(deadline)) {
                    Ok(true) => {}
                    Ok(false) => return Err(LinkError::TimedOut { awaiting: AWAITING }),
                    Err(errno) => return Err(LinkError::os(SAY, errno)),
                },
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    return Err(LinkError::HungUp { awaiting: AWAITING });
                }
                Err(errno) => return Err(LinkError::os(SAY, errno)),
            }
        }
    }

    /// Hears what the other side says next: as much as fits into `bytes`, and the descriptors that came with it.
    pub(crate) fn hear(
        &self,
        bytes: &mut [u8],
        awaiting: &'static str,
        deadline: Deadline,
    ) -> Result<(usize, Vec<OwnedFd>), LinkError> {
        const HEAR: &str = "receive over the socket";
        loop {
            match ready(self.0.as_fd(), PollFlags::IN, Some(deadline)) {
                Ok(true) => {}
                Ok(false) => return Err(LinkError::TimedOut { awaiting }),
                Err(errno) => return Err(LinkError::os(HEAR, errno)),
            }
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let heard = match recvmsg(&self.0, &mut [IoSliceMut::new(bytes)], &mut ancillary, flags) {
                Ok(heard) => heard,
                // RESET: the other side has hung up before it heard all. What it said before comes next.
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNRESET) => continue,
                Err(errno) => return Err(LinkError::os(HEAR, errno)),
            };
            let rights = ancillary.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            });
            let fds: Vec<OwnedFd> = rights.flatten().collect();
            if heard.bytes == 0 {
                return Err(LinkError::HungUp { awaiting });
            }
            if heard.flags.contains(ReturnFlags::TRUNC) {
                return Err(LinkError::Malformed { why: "a message is too long" });
            }
            if fds.is_empty() && heard.flags.contains(ReturnFlags::CTRUNC) {
                // There was one, and no room for it in our table.
                return Err(LinkError::NoDescriptor { operation: HEAR });
            }
            return Ok((heard.bytes, fds));
        }
    }
}

/// Waits until the socket is ready, or has hung up; false at the deadline.
fn ready(socket: BorrowedFd<'_>, for_what: PollFlags, deadline: Option<Deadline>) -> Result<bool, Errno> {
    loop {
        let mut socket = [PollFd::new(&socket, for_what)];
        let rest = deadline.map(Deadline::remaining);
        let rest =
            rest.map(|rest| Timespec { tv_sec: rest.as_secs() as _, tv_nsec: rest.subsec_nanos() as _ });
        match poll(&mut socket, rest.as_ref()) {
            Err(Errno::INTR) => {}
            ready => return ready.map(|count| count > 0),
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use rustix::net::socketpair;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn pair() -> (Connection, OwnedFd) {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        (Connection(ours), theirs)
    }

    #[test]
    fn a_kernel_that_knows_no_pidfd_of_a_socket_is_asked_by_process_id() {
        let (connection, theirs) = pair();
        let own = connection.credentials().unwrap();
        assert_eq!(own.pid, std::process::id());
        let watched = connection.watch(&own, Err(Errno::NOPROTOOPT)).unwrap();
        assert_eq!(watched.identity(), peer::this_process());
        assert!(!watched.is_dead());
        let unseen = PeerCredentials { pid: 0, ..own };
        let refused = connection.watch(&unseen, Err(Errno::NOPROTOOPT));
        assert!(matches!(refused, Err(LinkError::Unwatchable { .. })));
        drop(theirs);
        // A child that another test is just starting has a copy of the other end until its `exec`.
        assert!(ready(connection.0.as_fd(), PollFlags::empty(), Some(Deadline::after(PATIENCE))).unwrap());
        let gone = connection.watch(&own, Err(Errno::NOPROTOOPT));
        assert!(matches!(gone, Err(LinkError::HungUp { .. })), "its id could be another process's by now");
    }

    #[test]
    fn the_socket_itself_knows_the_process_where_the_kernel_is_new_enough() {
        let (connection, _theirs) = pair();
        let own = connection.credentials().unwrap();
        assert_eq!(connection.peer(&own).unwrap().identity(), peer::this_process());
    }

    #[test]
    fn only_the_end_of_a_process_proves_that_nobody_listens() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pidfd = || pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        let (lives, ended) = (pidfd(), pidfd());
        let id = child.id();
        for unknown in [Errno::NOPROTOOPT, Errno::MFILE] {
            assert!(!has_ended(id, Err(unknown)));
            assert!(!has_ended(0, Err(unknown)), "it is in a namespace that is not seen");
        }
        assert!(!has_ended(id, lives));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(has_ended(id, ended));
        assert!(has_ended(id, Err(Errno::INVAL)) && has_ended(id, Err(Errno::NOPROTOOPT)));
    }

    #[test]
    fn what_was_said_before_hanging_up_is_heard_although_not_all_was_listened_to() {
        let (connection, theirs) = pair();
        let soon = Deadline::after(Duration::from_secs(10));
        let theirs = Connection(theirs);
        connection.say(b"never heard", None, soon).unwrap();
        theirs.say(b"refused", None, soon).unwrap();
        drop(theirs);
        let mut bytes = [0; 16];
        assert_eq!(connection.hear(&mut bytes, "", soon).unwrap().0, 7);
        assert!(matches!(connection.hear(&mut bytes, "", soon), Err(LinkError::HungUp { .. })));
    }
}
