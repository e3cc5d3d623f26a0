//! Where the memory of a ring comes from: a file in a tmpfs, or a sealed memfd.
//!
//! A segment is complete, and its memory is allocated, before anybody else can see it: it's built without a
//! name and then linked to one, or built as a memfd and then passed. What comes from outside is checked
//! before it's mapped.

use core::num::NonZeroUsize;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FsWord, MemfdFlags, Mode, OFlags, SealFlags, SeekFrom, fallocate, fchmod,
    fcntl_add_seals, fcntl_get_seals, fstatfs, fstatvfs, ftruncate, linkat, memfd_create, seek,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use rustix::system::sysinfo;

mod block;
mod error;
mod halves;
mod hold;
mod mapping;
mod pages;
#[cfg(all(test, not(miri)))]
mod tests;

pub(crate) use block::{Block, CommonBlock, FrozenBlock};
pub use error::SegmentError;
pub(crate) use halves::{Half, Halves, OtherHalf, Plan, Which};
use mapping::Access;
pub(crate) use mapping::Mapping;
pub(crate) use pages::DataPages;

/// Allocated at a time, so that a process with a fast interval timer gets on between two signals.
const ALLOCATION_STEP: u64 = 8 << 20;

/// With these a file can't change its size any more, so a mapping of it never faults for that.
const FIXED_SIZE: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

const ALLOCATE: &str = "allocate memory for the segment";

const MAKE_MEMFD: &str = "make a memfd";

/// Of `statfs`.
const TMPFS: FsWord = 0x0102_1994;

const WORLD_WRITABLE: u32 = 0o002;

/// NONBLOCK and NOCTTY: whatever stands at a path, opening it must neither wait nor have an effect.
const OPEN: OFlags =
    OFlags::RDWR.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// How large a file is, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) len: u64,
    /// Of these, how many have memory from the start.
    pub(crate) backed: u64,
}

impl From<u64> for Size {
    fn from(len: u64) -> Self {
        Self { len, backed: len }
    }
}

/// An open file that holds, or will hold, a ring.
#[derive(Debug)]
pub(crate) struct Segment {
    file: File,
}

impl Segment {
    /// Makes a file of this size in `dir`. It has no name, and vanishes unless it's
    /// [published](Self::publish). It has exactly the permission bits `mode`, whatever the umask.
    pub(crate) fn unnamed(dir: &Path, size: impl Into<Size>, mode: u32) -> Result<Self, SegmentError> {
        let fail = |errno| match errno {
            Errno::OPNOTSUPP | Errno::ISDIR => SegmentError::NoUnnamedFiles { dir: dir.into() },
            _ => SegmentError::at(dir, "make a file in", errno),
        };
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| rustix::fs::open(dir, flags, Mode::empty())).map_err(fail)?;
        fchmod(&fd, Mode::from_raw_mode(mode)).map_err(fail)?;
        let segment = Self { file: fd.into() };
        hold::share(&segment.file)?;
        segment.grow(size.into()).map_err(|error| match error {
            SegmentError::NoSpace { needed, available, .. } => {
                SegmentError::NoSpace { dir: Some(dir.into()), needed, available }
            }
            other => other,
        })?;
        Ok(segment)
    }

    /// Gives the complete segment its name; `AlreadyExists` when somebody else was first.
    pub(crate) fn publish(&self, path: &Path) -> Result<(), SegmentError> {
        let by_proc = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        match linkat(CWD, by_proc, CWD, path, AtFlags::SYMLINK_FOLLOW) {
            // No such directory, or no /proc. Newer kernels need none.
            Err(Errno::NOENT) => linkat(&self.file, "", CWD, path, AtFlags::EMPTY_PATH),
            linked => linked,
        }
        .map_err(|errno| SegmentError::at(path, "give the segment the name", errno))
    }

    /// Opens the segment at `path` if nobody but the user `owner`, and the group if the mode says so, can
    /// have written to it.
    pub(crate) fn open(path: &Path, owner: u32) -> Result<Self, SegmentError> {
        Self::open_held(path, owner, OPEN, hold::share, |path| SegmentError::BeingRemoved { path })
    }

    /// The same, to read only.
    pub(crate) fn open_to_read(path: &Path, owner: u32) -> Result<Self, SegmentError> {
        let flags = OPEN.difference(OFlags::RDWR);
        Self::open_held(path, owner, flags, hold::share, |path| SegmentError::BeingRemoved { path })
    }

    /// The same, if nobody else has it open; and nobody can open it as long as it's open here.
    pub(crate) fn open_alone(path: &Path, owner: u32) -> Result<Self, SegmentError> {
        Self::open_held(path, owner, OPEN, hold::exclude, |path| SegmentError::InUse { path })
    }

    fn open_held(
        path: &Path,
        owner: u32,
        flags: OFlags,
        hold: impl FnOnce(&File) -> Result<bool, SegmentError>,
        held: impl FnOnce(PathBuf) -> SegmentError,
    ) -> Result<Self, SegmentError> {
        let fd =
            retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty())).map_err(|errno| match errno {
                Errno::LOOP => SegmentError::Symlink { path: path.into() },
                Errno::ISDIR | Errno::NXIO | Errno::NODEV => {
                    SegmentError::NotRegular { path: Some(path.into()) }
                }
                _ => SegmentError::at(path, "open", errno),
            })?;
        let segment = Self { file: fd.into() };
        let meta = segment.metadata()?;
        let path = path.to_path_buf();
        if !meta.is_file() {
            return Err(SegmentError::NotRegular { path: Some(path) });
        }
        if meta.uid() != owner {
            return Err(SegmentError::WrongOwner { path, found: meta.uid(), expected: owner });
        }
        if meta.mode() & WORLD_WRITABLE != 0 {
            return Err(SegmentError::WorldWritable { path, mode: meta.mode() & 0o7777 });
        }
        if !hold(&segment.file)? {
            return Err(held(path));
        }
        match segment.metadata()?.nlink() {
            1 => Ok(segment),
            // Its name was taken away while we opened it.
            0 => Err(SegmentError::NotFound { path }),
            links => Err(SegmentError::HardLinks { path, links }),
        }
    }

    /// Makes a file of this size that never has a name and whose size nobody can change. `name`
    /// is for people who look at `/proc/<pid>/maps`.
    pub(crate) fn memfd(name: &str, size: impl Into<Size>) -> Result<Self, SegmentError> {
        let size = size.into();
        let file = Self::allocated_memfd(name, size)?;
        fcntl_add_seals(&file, FIXED_SIZE | SealFlags::SEAL)
            .map_err(|errno| SegmentError::memory(MAKE_MEMFD, size.len, errno))?;
        Ok(Self { file })
    }

    /// A memfd of this size that can be sealed.
    fn allocated_memfd(name: &str, size: Size) -> Result<File, SegmentError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            // Linux before 6.3 doesn't know NOEXEC_SEAL.
            Err(Errno::INVAL) => memfd_create(name, flags),
            made => made,
        };
        let fd = fd.map_err(|errno| SegmentError::memory(MAKE_MEMFD, size.len, errno))?;
        let segment = Self { file: fd.into() };
        segment.grow(size).map_err(|error| match error {
            // There is no file system to fill: it's the system's memory.
            SegmentError::NoSpace { needed, .. } => {
                SegmentError::NoMemory { operation: ALLOCATE, bytes: needed }
            }
            other => other,
        })?;
        Ok(segment.file)
    }

    /// Takes a descriptor that somebody passed. Only a memfd that is sealed against shrinking and growing
    /// will do.
    pub(crate) fn from_fd(fd: OwnedFd) -> Result<Self, SegmentError> {
        let segment = Self::passed(fd)?;
        let seals = segment.seals()?;
        match (seals.contains(SealFlags::SHRINK), seals.contains(SealFlags::GROW)) {
            (true, true) => Ok(segment),
            (false, true) => Err(SegmentError::NotSealed { missing: "shrinking" }),
            (true, false) => Err(SegmentError::NotSealed { missing: "growing" }),
            (false, false) => Err(SegmentError::NotSealed { missing: "shrinking and growing" }),
        }
    }

    /// Size of the file in bytes.
    #[cfg(test)]
    pub(crate) fn len(&self) -> Result<u64, SegmentError> {
        Ok(self.metadata()?.len())
    }

    /// Copies the first bytes of the file to `buf` and tells how many: fewer than it holds only if the file
    /// is shorter. So a header can be validated before anything is mapped.
    pub(crate) fn read_head(&self, buf: &mut [u8]) -> Result<usize, SegmentError> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.file.read_at(&mut buf[filled..], filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(from_io("read the header of the segment", error)),
            }
        }
        Ok(filled)
    }

    /// Maps the control area, `file[..control_len]`, and behind it the data area,
    /// `file[control_len..][..capacity]`, the latter twice back to back. Both lengths must be whole pages.
    pub(crate) fn map(&self, control_len: usize, capacity: usize) -> Result<Mapping, SegmentError> {
        self.map_as(control_len, capacity, Access::Own)
    }

    /// The same, to read only.
    pub(crate) fn map_to_read(&self, control_len: usize, capacity: usize) -> Result<Mapping, SegmentError> {
        self.map_as(control_len, capacity, Access::Peers)
    }

    /// As [`map`](Self::map), and leaves it to [`DataPages`] which part of the data area has memory.
    pub(crate) fn map_sparse(&self, control_len: usize, capacity: usize) -> Result<Mapping, SegmentError> {
        self.map_as(control_len, capacity, Access::Sparse)
    }

    fn map_as(&self, control_len: usize, capacity: usize, access: Access) -> Result<Mapping, SegmentError> {
        let page = page_size();
        let whole_pages = |len: usize| NonZeroUsize::new(len).filter(|len| len.get().is_multiple_of(page));
        let (Some(_), Some(data_len)) = (whole_pages(control_len), whole_pages(capacity)) else {
            return Err(SegmentError::Unaligned { control_len, capacity, page });
        };
        let needed = (control_len as u64).saturating_add(capacity as u64);
        let meta = self.metadata()?;
        if meta.len() < needed {
            return Err(SegmentError::TooShort { found: meta.len(), needed });
        }
        // A hole would cost memory when it's first touched, and a signal if there is none, so it's filled
        // now.
        match access {
            _ if allocated(&meta) >= needed => {}
            Access::Own => self.allocate(needed)?,
            Access::Sparse => self.allocate(control_len as u64)?,
            Access::Peers | Access::Frozen => {
                return Err(SegmentError::Holes { found: allocated(&meta), needed });
            }
        }
        Mapping::new(&self.file, control_len, data_len, access)
    }

    /// Bytes of memory that back the file; 0 when that can't be told.
    pub(crate) fn allocated(&self) -> u64 {
        self.metadata().map_or(0, |meta| allocated(&meta))
    }

    /// Whether this is the file that stands at `path` now, and not one that was removed or replaced.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        match (self.file.metadata(), fs::symlink_metadata(path)) {
            (Ok(own), Ok(there)) => (own.dev(), own.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }

    /// Takes the name `path` away from this file; `NotFound` when it's gone, or another file's by now. Nobody else who
    /// takes a name away in this manner comes between the look and the act.
    pub(crate) fn unlink(&self, path: &Path) -> Result<(), SegmentError> {
        // Opened anew: two locks of one open file don't exclude each other, be it of two threads or of parent and child.
        let file = rustix::fs::open(path, OPEN, Mode::empty()).map(File::from);
        if let Ok(file) = &file {
            // Where it's not to be had, another may come between.
            let _ = hold::own_name(file);
        }
        if self.is_at(path) { unlink(path) } else { Err(SegmentError::NotFound { path: path.into() }) }
    }

    /// The open file.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The open file, to pass it on.
    #[cfg(test)]
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.file.into()
    }

    /// A file that somebody passed.
    fn passed(fd: OwnedFd) -> Result<Self, SegmentError> {
        let segment = Self { file: fd.into() };
        if segment.metadata()?.is_file() { Ok(segment) } else { Err(SegmentError::NotRegular { path: None }) }
    }

    /// Names the first of these seals that it has not.
    fn check_seals(&self, needed: &[(SealFlags, &'static str)]) -> Result<(), SegmentError> {
        let seals = self.seals()?;
        match needed.iter().find(|(seal, _)| !seals.contains(*seal)) {
            Some(&(_, missing)) => Err(SegmentError::NotSealed { missing }),
            None => Ok(()),
        }
    }

    fn seals(&self) -> Result<SealFlags, SegmentError> {
        match fcntl_get_seals(&self.file) {
            // A file of a file system without seals.
            Err(Errno::INVAL) => Ok(SealFlags::empty()),
            known => known.map_err(|errno| SegmentError::os("read the seals of the descriptor", errno)),
        }
    }

    /// Size of the file in bytes, all of which are in memory or in swap. To be asked once it is sealed: then both stay so.
    ///
    /// The number of its blocks would prove nothing: some may lie behind its end. A hole would be filled when it is read,
    /// at the reader's cost, and by a signal where no memory is left. A page that was allocated and that nobody has written
    /// or mapped yet counts as a hole, because the kernel does not tell the two apart. Moves the position of the open file.
    fn length_without_holes(&self) -> Result<u64, SegmentError> {
        let needed = self.metadata()?.len();
        let found = match seek(&self.file, SeekFrom::Hole(0)) {
            // It is empty.
            Err(Errno::NXIO) => 0,
            hole => hole.map_err(|errno| SegmentError::os("look for holes in what was passed", errno))?,
        };
        if found < needed { Err(SegmentError::Holes { found, needed }) } else { Ok(needed) }
    }

    fn metadata(&self) -> Result<fs::Metadata, SegmentError> {
        self.file.metadata().map_err(|error| from_io("look at the segment", error))
    }

    /// Makes an empty file as large as that.
    fn grow(&self, Size { len, backed }: Size) -> Result<(), SegmentError> {
        self.allocate(backed)?;
        if backed < len {
            within_limit(len)?;
            ftruncate(&self.file, len).map_err(|errno| SegmentError::memory(ALLOCATE, len, errno))?;
        }
        Ok(())
    }

    /// Backs the first `len` bytes with memory, so that they never fail later, and makes the file at least
    /// that long.
    fn allocate(&self, len: u64) -> Result<(), SegmentError> {
        within_limit(len)?;
        // Rather an error now than a file system, or a machine, that is filled up first.
        let available = self.space();
        if available < len {
            return Err(SegmentError::NoSpace { dir: None, needed: len, available });
        }
        let memory = total_memory();
        if memory < len && self.is_in_memory() {
            return Err(SegmentError::MoreThanMemory { needed: len, memory });
        }
        let mut offset = 0;
        while offset < len {
            let step = ALLOCATION_STEP.min(len - offset);
            retry_on_intr(|| fallocate(&self.file, FallocateFlags::empty(), offset, step)).map_err(
                |errno| match errno {
                    Errno::NOSPC => SegmentError::NoSpace { dir: None, needed: len, available: self.space() },
                    _ => SegmentError::memory(ALLOCATE, len, errno),
                },
            )?;
            offset += step;
        }
        Ok(())
    }

    /// Whether the file system keeps its files in memory alone, or does not say.
    fn is_in_memory(&self) -> bool {
        fstatfs(&self.file).map_or(true, |found| found.f_blocks == 0 || found.f_type == TMPFS)
    }

    /// What the file system can give this file: what is free, and what the file has got already.
    pub(crate) fn space(&self) -> u64 {
        // A file system without blocks has no limit of its own, as the kernel's for memfds.
        let free = match fstatvfs(&self.file) {
            Ok(space) if space.f_blocks > 0 => space.f_bavail.saturating_mul(space.f_frsize),
            _ => u64::MAX,
        };
        free.saturating_add(self.allocated())
    }
}

/// Beyond the limit for files the kernel sends a signal that kills.
fn within_limit(len: u64) -> Result<(), SegmentError> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if limit < len => Err(SegmentError::FileSizeLimit { needed: len, limit }),
        _ => Ok(()),
    }
}

/// Bytes of memory that the machine has.
fn total_memory() -> u64 {
    let machine = sysinfo();
    (machine.totalram as u64).saturating_mul(machine.mem_unit.into())
}

/// Removes the name, whatever stands there; the memory stays while somebody has it open or mapped.
pub(crate) fn unlink(path: &Path) -> Result<(), SegmentError> {
    rustix::fs::unlink(path).map_err(|errno| SegmentError::at(path, "remove", errno))
}

/// Bytes of memory that back the file. Blocks are 512 bytes, whatever the file system.
fn allocated(meta: &fs::Metadata) -> u64 {
    meta.blocks().saturating_mul(512)
}

fn from_io(operation: &'static str, error: std::io::Error) -> SegmentError {
    SegmentError::os(operation, Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
