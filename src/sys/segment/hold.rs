//! Who has a named segment open, and who takes its name away: locks on two bytes of the file.
//!
//! They belong to the open file, so the kernel gives them back when its last descriptor is closed and its last mapping
//! gone, however that happens.
//! Taking one exclusively needs the right to write, which flock(2) would not.

use core::time::Duration;
use std::{fs::File, thread};

use nix::{
    errno::Errno as NixErrno,
    fcntl::{FcntlArg, fcntl},
    libc,
};
use rustix::io::Errno;

use super::SegmentError;
use crate::sys::clock::Deadline;

/// Locked by all who have the segment open, shared; by one that removes what nobody has open, exclusively.
const OPEN: i64 = 0;
/// Locked by one that looks whether the name is still the segment's, and removes it.
const NAME: i64 = 1;

/// How long to try. Who excludes others does so for a few system calls.
const PATIENCE: Duration = Duration::from_secs(2);

/// Counts the file as open from now on. False when somebody is removing it, and doesn't come to an end.
pub(super) fn share(file: &File) -> Result<bool, SegmentError> {
    patiently(file, OPEN, libc::F_RDLCK)
}

/// Keeps everybody from opening it; false when somebody else has it open.
pub(super) fn exclude(file: &File) -> Result<bool, SegmentError> {
    try_lock(file, OPEN, libc::F_WRLCK)
}

/// Keeps all others from taking the name away. False when one of them doesn't come to an end.
pub(super) fn own_name(file: &File) -> Result<bool, SegmentError> {
    patiently(file, NAME, libc::F_WRLCK)
}

fn patiently(file: &File, byte: i64, kind: libc::c_int) -> Result<bool, SegmentError> {
    let end = Deadline::after(PATIENCE);
    while !try_lock(file, byte, kind)? {
        if end.passed() {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(true)
}

fn try_lock(file: &File, byte: i64, kind: libc::c_int) -> Result<bool, SegmentError> {
    let lock = libc::flock {
        l_type: kind as _,
        l_whence: libc::SEEK_SET as _,
        l_start: byte as _,
        l_len: 1,
        l_pid: 0,
    };
    loop {
        return match fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
            Ok(_) => Ok(true),
            Err(NixErrno::EAGAIN) => Ok(false),
            Err(NixErrno::EINTR) => continue,
            Err(errno) => Err(SegmentError::os("lock the segment", Errno::from_raw_os_error(errno as i32))),
        };
    }
}
