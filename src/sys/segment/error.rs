//! What can be wrong with a segment, and what would be right.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use rustix::io::Errno;

/// Why the memory of a ring could not be made, found, trusted or mapped. Its text says what would be right.
#[derive(Debug)]
#[non_exhaustive]
pub enum SegmentError {
    /// Nothing stands at the path.
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// Something stands at the path already.
    AlreadyExists {
        /// The path.
        path: PathBuf,
    },
    /// Somebody has the file open.
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Somebody removes the file, and doesn't come to an end.
    BeingRemoved {
        /// The path.
        path: PathBuf,
    },
    /// The path names a symbolic link.
    Symlink {
        /// The path.
        path: PathBuf,
    },
    /// The path, or a descriptor that was passed, is no regular file.
    NotRegular {
        /// The path; none for a descriptor.
        path: Option<PathBuf>,
    },
    /// The file has further names.
    HardLinks {
        /// The path.
        path: PathBuf,
        /// How many names it has.
        links: u64,
    },
    /// The file belongs to another user.
    WrongOwner {
        /// The path.
        path: PathBuf,
        /// Its owner's user id.
        found: u32,
        /// The user id that it should have.
        expected: u32,
    },
    /// Everybody may write to the file.
    WorldWritable {
        /// The path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The permissions of a file, or the kernel's policy, don't allow the operation.
    PermissionDenied {
        /// What was tried.
        operation: &'static str,
        /// The path, if there is one.
        path: Option<PathBuf>,
    },
    /// The file system has no unnamed files.
    NoUnnamedFiles {
        /// The directory.
        dir: PathBuf,
    },
    /// The file system is too full.
    NoSpace {
        /// The directory; none where only the open file is known.
        dir: Option<PathBuf>,
        /// Bytes that the ring needs.
        needed: u64,
        /// Bytes that it can get.
        available: u64,
    },
    /// There is not enough memory, or not enough addresses for it.
    NoMemory {
        /// What was tried.
        operation: &'static str,
        /// Bytes that it needs.
        bytes: u64,
    },
    /// What is to lie in memory is more than the machine has.
    MoreThanMemory {
        /// Bytes that it needs.
        needed: u64,
        /// Bytes of memory that the machine has.
        memory: u64,
    },
    /// The process locks its memory, and may not lock this much.
    LockedMemoryLimit {
        /// What was tried.
        operation: &'static str,
        /// Bytes that it needs.
        bytes: u64,
    },
    /// The process may not make files of this size.
    FileSizeLimit {
        /// Bytes that the ring needs.
        needed: u64,
        /// Bytes that a file may have.
        limit: u64,
    },
    /// The process has no file descriptor left.
    NoDescriptor {
        /// What was tried.
        operation: &'static str,
    },
    /// The whole system has no file descriptor left.
    NoDescriptorInSystem {
        /// What was tried.
        operation: &'static str,
    },
    /// The descriptor that was passed can change its size, or its contents, in ways that it must not.
    NotSealed {
        /// What it isn't sealed against.
        missing: &'static str,
    },
    /// The file holds less than its header promises, or than a ring needs.
    TooShort {
        /// Bytes that it has.
        found: u64,
        /// Bytes that it should have.
        needed: u64,
    },
    /// The memory that was passed is longer than what was agreed on.
    TooLong {
        /// Bytes that it has.
        found: u64,
        /// Bytes that it should have.
        needed: u64,
    },
    /// Not all of the memory that was passed is there: reading it could fail later.
    Holes {
        /// Bytes that are allocated; in what came over a link, those before the first hole.
        found: u64,
        /// Bytes that should be.
        needed: u64,
    },
    /// The parts of the segment are not whole pages.
    Unaligned {
        /// Bytes of the control area.
        control_len: usize,
        /// Bytes of the data area.
        capacity: usize,
        /// Bytes of a page.
        page: usize,
    },
    /// Anything else that the system refuses.
    Os {
        /// What was tried.
        operation: &'static str,
        /// The path, if there is one.
        path: Option<PathBuf>,
        /// What the system says.
        error: io::Error,
    },
}

impl SegmentError {
    /// An operation on a path failed.
    pub(super) fn at(path: &Path, operation: &'static str, errno: Errno) -> Self {
        let path = path.to_path_buf();
        match errno {
            Errno::NOENT => Self::NotFound { path },
            Errno::EXIST => Self::AlreadyExists { path },
            _ => match Self::os(operation, errno) {
                Self::PermissionDenied { operation, .. } => {
                    Self::PermissionDenied { operation, path: Some(path) }
                }
                Self::Os { operation, error, .. } => Self::Os { operation, path: Some(path), error },
                other => other,
            },
        }
    }

    /// An operation that needs `bytes` of memory or of addresses failed.
    pub(super) fn memory(operation: &'static str, bytes: u64, errno: Errno) -> Self {
        match errno {
            Errno::NOMEM => Self::NoMemory { operation, bytes },
            Errno::AGAIN => Self::LockedMemoryLimit { operation, bytes },
            _ => Self::os(operation, errno),
        }
    }

    /// Any other operation failed.
    pub(in crate::sys) fn os(operation: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::MFILE => Self::NoDescriptor { operation },
            Errno::NFILE => Self::NoDescriptorInSystem { operation },
            Errno::ACCESS | Errno::PERM => Self::PermissionDenied { operation, path: None },
            _ => Self::Os { operation, path: None, error: errno.into() },
        }
    }
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { path } => write!(f, "{} does not exist", path.display()),
            Self::AlreadyExists { path } => write!(f, "{} exists already", path.display()),
            Self::InUse { path } => write!(f, "{} is in use: somebody has it open", path.display()),
            Self::BeingRemoved { path } => write!(
                f,
                "{} is being removed by a process that doesn't come to an end (lsof {0}): let it go on, or end it",
                path.display()
            ),
            Self::Symlink { path } => {
                write!(f, "{} is a symbolic link, and those are never followed", path.display())
            }
            Self::NotRegular { path } => {
                write!(f, "{} is not a regular file", Subject(path, "the descriptor"))
            }
            Self::HardLinks { path, links } => write!(
                f,
                "{} has {links} names, a segment has one: remove the others, or make the ring anew",
                path.display()
            ),
            Self::WrongOwner { path, found, expected } => {
                write!(f, "{} belongs to user {found}, not to user {expected} as expected", path.display())
            }
            Self::WorldWritable { path, mode } => write!(
                f,
                "{} has mode {mode:04o}, so everybody may write to it: withdraw that (chmod o-w), or make \
                 the ring anew",
                path.display()
            ),
            Self::PermissionDenied { operation, path: Some(path) } => {
                write!(f, "may not {operation} {}: permission denied", path.display())
            }
            Self::PermissionDenied { operation, path: None } => {
                write!(f, "may not {operation}: permission denied")
            }
            Self::NoUnnamedFiles { dir } => write!(
                f,
                "the file system of {} has no unnamed files (O_TMPFILE): choose a directory on a tmpfs, as \
                 /dev/shm is",
                dir.display()
            ),
            Self::NoSpace { dir, needed, available } => write!(
                f,
                "{} has {available} bytes free, the ring needs {needed}: make room there (in a tmpfs by mount -o \
                 remount,size=…, or --shm-size of the container), or choose a smaller capacity",
                Subject(dir, "the segment's file system")
            ),
            Self::MoreThanMemory { needed, memory } => write!(
                f,
                "the machine has {memory} bytes of memory, and {needed} are needed: choose less, for a ring a smaller \
                 capacity, or for one with a name a directory on a disk"
            ),
            Self::LockedMemoryLimit { operation, bytes } => write!(
                f,
                "can't {operation}: {bytes} bytes exceed the limit on locked memory: raise it (ulimit -l), \
                 or choose a smaller capacity"
            ),
            Self::NoMemory { operation, bytes } => write!(
                f,
                "can't {operation}: the system refused {bytes} bytes: raise the limit on address space \
                 (ulimit -v) or on the container's memory, or choose a smaller capacity"
            ),
            Self::FileSizeLimit { needed, limit } => write!(
                f,
                "files are limited to {limit} bytes, the ring needs {needed}: raise the limit (ulimit -f), \
                 or choose a smaller capacity"
            ),
            Self::NoDescriptorInSystem { operation } => {
                write!(
                    f,
                    "can't {operation}: the system has no file descriptor left: raise fs.file-max (sysctl)"
                )
            }
            Self::NoDescriptor { operation } => write!(
                f,
                "can't {operation}: this process has no file descriptor left: raise the limit (ulimit -n), \
                 or close some"
            ),
            Self::NotSealed { missing } => write!(
                f,
                "the descriptor is not sealed against {missing}: it must be a memfd with F_SEAL_SHRINK and \
                 F_SEAL_GROW, and in a link also with F_SEAL_FUTURE_WRITE and F_SEAL_SEAL"
            ),
            Self::TooShort { found: 0, needed: 1 } => {
                f.write_str("memory of no bytes can't be shared: it must have one at least")
            }
            Self::TooShort { found, needed } => {
                write!(
                    f,
                    "the segment has {found} bytes and should have {needed}: it was truncated, or is no ring"
                )
            }
            Self::TooLong { found, needed } => {
                write!(f, "the memory that was passed has {found} bytes and should have {needed}")
            }
            Self::Holes { found, needed } => {
                write!(f, "of the memory that was passed {found} bytes are there, and {needed} should be")
            }
            Self::Unaligned { control_len, capacity, page } => write!(
                f,
                "control area ({control_len} bytes) and capacity ({capacity} bytes) must be multiples, and \
                 not zero, of the page size ({page} bytes)"
            ),
            Self::Os { operation, path: Some(path), error } => {
                write!(f, "can't {operation} {}: {error}", path.display())
            }
            Self::Os { operation, path: None, error } => write!(f, "can't {operation}: {error}"),
        }
    }
}

impl std::error::Error for SegmentError {}

/// A path, or what to say where none is known.
struct Subject<'a>(&'a Option<PathBuf>, &'static str);

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => path.display().fmt(f),
            None => f.write_str(self.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_resource_has_its_own_advice() {
        let memory = |errno| SegmentError::memory("map the data area", 8192, errno).to_string();
        assert!(memory(Errno::NOMEM).contains("8192") && memory(Errno::NOMEM).contains("ulimit -v"));
        assert!(memory(Errno::AGAIN).contains("8192") && memory(Errno::AGAIN).contains("ulimit -l"));
        assert!(memory(Errno::NFILE).contains("fs.file-max"));
        assert!(memory(Errno::MFILE).contains("ulimit -n"));
    }

    #[test]
    fn whoever_asks_for_no_memory_is_told_so_and_of_no_ring() {
        let text = SegmentError::TooShort { found: 0, needed: 1 }.to_string();
        assert!(text.contains("no bytes") && !text.contains("truncated"), "{text}");
    }

    #[test]
    fn what_failed_at_a_path_names_it() {
        for errno in
            [Errno::NOENT, Errno::EXIST, Errno::ACCESS, Errno::PERM, Errno::IO, Errno::NOMEM, Errno::AGAIN]
        {
            let text = SegmentError::at(Path::new("/dev/shm/ring"), "open", errno).to_string();
            assert!(text.contains("/dev/shm/ring"), "{text}");
        }
    }
}
