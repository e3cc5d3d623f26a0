//! A ring that has no name: only a process that was given its descriptor can open it. Here a child inherits it.
//!
//! ```text
//! cargo run --package ringpost --example memfd_child
//! ```

use std::{
    env,
    error::Error,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    process::Command,
};

const NUMBERS: u64 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        None => parent(),
        Some(fd) => child(fd.parse()?),
    }
}

fn parent() -> Result<(), Box<dyn Error>> {
    // A memfd whose size is sealed: it is in no directory, nobody can truncate it under us, and it is gone with its last
    // descriptor, however the processes end.
    let ring = ringpost::unnamed().capacity(64 << 10).memfd()?;
    assert_eq!(ring.path(), None);
    let mut receiver = ring.receiver()?;

    // The ring's own descriptor is closed on exec; this copy of it is not.
    let inherited = ring.inheritable_fd()?;
    let mut child = Command::new(env::current_exe()?).arg(inherited.as_raw_fd().to_string()).spawn()?;
    drop(inherited);

    let mut sum = 0;
    for message in &mut receiver {
        assert_eq!(message.sender.pid, child.id());
        sum += u64::from_le_bytes(message.bytes.as_slice().try_into()?);
    }
    assert_eq!(sum, NUMBERS * (NUMBERS - 1) / 2);
    assert!(child.wait()?.success());
    println!("{NUMBERS} numbers came through a ring without a name, their sum is {sum}");
    Ok(())
}

fn child(fd: RawFd) -> Result<(), Box<dyn Error>> {
    // SAFETY: the parent has opened this descriptor for us and told us its number; nobody else here uses it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // What the descriptor holds is checked before it is mapped: sealed, a ring, of this version.
    let mut sender = ringpost::unnamed().from_fd(fd)?.sender()?;
    (0..NUMBERS).try_for_each(|number| sender.send(&number.to_le_bytes()))?;
    Ok(())
}
