//! The other end of a link, spoken by hand: what no ringpost would say.

use rustix::{
    fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create},
    io::{Errno, pwrite},
    mm::{MapFlags, ProtFlags, mmap},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
        listen, recvmsg, sendmsg, socket_with,
    },
};
use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    ptr::{self, NonNull},
};

pub const HELLO: u32 = 1;
pub const OFFER: u32 = 2;
pub const JOIN: u32 = 3;
pub const WELCOME: u32 = 4;

/// In a HELLO: I send.
pub const SENDS: u32 = 2;

/// Bytes of the halves where the capacity is 4096.
pub const FIRST: u64 = 8192;
pub const SECOND: u64 = 4096 + 4096;

/// One message of the handshake.
pub fn message(step: u32, detail: u32) -> Vec<u8> {
    versioned([1, 1], step, detail)
}

/// The same of other versions: of the handshake, and of the layout.
pub fn versioned([link, layout]: [u32; 2], step: u32, detail: u32) -> Vec<u8> {
    let numbers = [link, layout, step, detail, 0, 0];
    b"RINGLINK".iter().copied().chain(numbers.into_iter().flat_map(u32::to_ne_bytes)).collect()
}

/// One end of a connection.
pub struct Raw(pub OwnedFd);

fn socket() -> OwnedFd {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

impl Raw {
    pub fn connect(path: &Path) -> Self {
        let socket = socket();
        connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        Self(socket)
    }

    /// Said hello, and got the receiver's half.
    pub fn greeted(path: &Path) -> (Self, OwnedFd) {
        let raw = Self::connect(path);
        raw.say(&message(HELLO, SENDS), &[]);
        let half = raw.hear().1.pop().unwrap();
        (raw, half)
    }

    pub fn say(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)));
        }
        // The other side may have hung up already.
        let _ = sendmsg(&self.0, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL);
    }

    /// What the other side says next; nothing when it has hung up.
    pub fn hear(&self) -> (Vec<u8>, Vec<OwnedFd>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 256];
        let heard =
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
        let rights = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let fds = rights.flatten().collect();
        (bytes[..heard.map_or(0, |heard| heard.bytes)].to_vec(), fds)
    }
}

/// A listener by hand.
pub struct RawListener(OwnedFd);

impl RawListener {
    pub fn at(path: &Path) -> Self {
        let socket = socket();
        bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        listen(&socket, 8).unwrap();
        Self(socket)
    }

    pub fn accept(&self) -> Raw {
        super::common::place::await_somebody(&self.0);
        Raw(accept_with(&self.0, SocketFlags::CLOEXEC).unwrap())
    }
}

pub const SEALS: SealFlags =
    SealFlags::FUTURE_WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// Memory that is not sealed yet.
pub fn memory(length: u64) -> OwnedFd {
    let fd = memfd_create("raw", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    fallocate(&fd, FallocateFlags::empty(), 0, length).unwrap();
    // What nobody has written yet the kernel calls a hole.
    assert_eq!(pwrite(&fd, &vec![0; length as usize], 0).unwrap() as u64, length);
    fd
}

/// As long, but without memory behind it.
pub fn hollow(length: u64) -> OwnedFd {
    let fd = memfd_create("raw", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&fd, length).unwrap();
    fd
}

pub fn sealed(fd: OwnedFd, seals: SealFlags) -> OwnedFd {
    fcntl_add_seals(&fd, seals).unwrap();
    fd
}

/// Maps memory for as long as the process lives.
pub fn map(fd: impl AsFd, length: u64, access: ProtFlags) -> Result<NonNull<u8>, Errno> {
    // SAFETY: the kernel chooses an address where nothing is mapped.
    let base = unsafe { mmap(ptr::null_mut(), length as usize, access, MapFlags::SHARED, fd, 0) }?;
    Ok(NonNull::new(base).unwrap().cast())
}

/// A half of a sender by hand: mapped, then sealed.
pub fn own_half() -> (OwnedFd, NonNull<u8>) {
    let memory = memory(SECOND);
    let base = map(&memory, SECOND, ProtFlags::READ | ProtFlags::WRITE).unwrap();
    (sealed(memory, SEALS), base)
}

/// A client that has been welcomed: the receiver's half, and its own.
pub fn welcomed(path: &Path) -> (Raw, OwnedFd, NonNull<u8>) {
    let (raw, theirs) = Raw::greeted(path);
    let (half, base) = own_half();
    raw.say(&message(JOIN, 0), &[half.as_fd()]);
    assert_eq!(raw.hear().0, message(WELCOME, 0));
    (raw, theirs, base)
}
