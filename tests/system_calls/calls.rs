//! How each system call can fail: what the manual pages name and what can happen to this library.

use super::tracer::{Call, Fault};
use nix::errno::Errno::{self, *};
use std::fmt;

/// The ways in which a call can fail; none for those that can't, or whose failure nobody survives.
pub fn faults(call: &Call) -> Vec<Fault> {
    let refused: &[Errno] = match call.number {
        _ if left_alone(call).is_some() => &[],
        libc::SYS_open | libc::SYS_openat => &[EMFILE, ENFILE, ENOMEM, EACCES, EINTR],
        libc::SYS_statx | libc::SYS_stat | libc::SYS_lstat | libc::SYS_fstat | libc::SYS_newfstatat => {
            &[ENOMEM, EACCES]
        }
        libc::SYS_read | libc::SYS_pread64 => &[EINTR, EIO],
        libc::SYS_readlink | libc::SYS_readlinkat => &[ENOMEM, EACCES],
        libc::SYS_getdents64 => &[ENOMEM, ENOENT],
        libc::SYS_fchmod => &[EPERM, EROFS],
        libc::SYS_fallocate => &[ENOSPC, ENOMEM, EINTR, EFBIG, EOPNOTSUPP],
        libc::SYS_linkat => &[ENOSPC, ENOMEM, EACCES, EPERM, ENOENT],
        libc::SYS_unlink | libc::SYS_unlinkat => &[EACCES, EPERM, EBUSY, EROFS],
        libc::SYS_fstatfs | libc::SYS_statfs => &[ENOSYS, EINTR, ENOMEM],
        libc::SYS_memfd_create => &[EMFILE, ENFILE, ENOMEM, EINVAL, ENOSYS],
        libc::SYS_fcntl => &[ENOLCK, EMFILE, EPERM, EINTR, EAGAIN],
        libc::SYS_dup => &[EMFILE, ENOMEM],
        libc::SYS_mmap => &[ENOMEM, EAGAIN, EPERM, ENODEV],
        libc::SYS_mprotect | libc::SYS_madvise => &[ENOMEM, EINVAL],
        // The allocator then takes its memory elsewhere.
        libc::SYS_brk => &[ENOMEM],
        libc::SYS_membarrier => &[ENOSYS, EPERM, ENOMEM],
        libc::SYS_futex => &[EINTR, EAGAIN],
        libc::SYS_futex_waitv => &[ENOSYS, EINTR, EAGAIN, ENOMEM, EPERM],
        libc::SYS_set_robust_list => &[ENOSYS, EPERM],
        libc::SYS_getrandom => &[EINTR, EAGAIN, ENOSYS],
        libc::SYS_pidfd_open => &[EMFILE, ENFILE, ENOMEM, ENODEV, ENOSYS, EPERM],
        libc::SYS_poll | libc::SYS_ppoll => &[EINTR, ENOMEM],
        libc::SYS_kill => &[EPERM],
        libc::SYS_tgkill => &[EPERM, ENOSYS],
        libc::SYS_sched_getaffinity => &[EPERM, ENOSYS, EINVAL],
        libc::SYS_clone | libc::SYS_clone3 => &[EAGAIN, ENOMEM, ENOSYS, EPERM],
        libc::SYS_rt_sigprocmask => &[EPERM],
        libc::SYS_prctl => &[EPERM, EINVAL],
        libc::SYS_clock_nanosleep => &[EINTR],
        _ => &[],
    };
    // The descriptor is closed whatever close(2) says; and if a mapping stayed, nobody could do anything about it.
    let misreported: &[Errno] = match call.number {
        libc::SYS_close => &[EINTR],
        libc::SYS_munmap => &[ENOMEM],
        _ => &[],
    };
    let refused = refused.iter().copied().map(Fault::Refused);
    refused.chain(misreported.iter().copied().map(Fault::Misreported)).collect()
}

/// Calls that are left alone, each for a reason.
pub fn left_alone(call: &Call) -> Option<&'static str> {
    Some(match call.number {
        // One that is not made is a wake that is lost.
        libc::SYS_futex if call.arguments[1] as i32 & 0x7f == libc::FUTEX_WAKE => {
            "a wake of a mapped word can't fail"
        }
        libc::SYS_mmap | libc::SYS_mprotect if call.starts_thread => "the standard library ends the process",
        libc::SYS_rseq => "the C library ends the process",
        libc::SYS_sigaltstack => "the standard library ends the process",
        libc::SYS_exit | libc::SYS_exit_group | libc::SYS_rt_sigreturn | libc::SYS_restart_syscall => {
            "it has no result"
        }
        libc::SYS_getpid | libc::SYS_gettid | libc::SYS_geteuid | libc::SYS_sched_yield | libc::SYS_lseek => {
            "it can't fail"
        }
        libc::SYS_prlimit64 | libc::SYS_sysinfo => "it can't fail for the process itself",
        _ => return None,
    })
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, ..] = self.arguments;
        write!(f, "system call {}({a:#x}, {b:#x}, {c:#x}, …)", self.number)
    }
}
