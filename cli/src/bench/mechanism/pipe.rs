//! Pipes, without a name and with one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, pipe2};

use super::descriptor::DescriptorLink;
use crate::bench::link::{Mechanism, Pair};

/// Two pipes.
pub fn pipe() -> Result<Box<dyn Mechanism>> {
    let link = || {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")?;
        anyhow::Ok(DescriptorLink::new(write, read))
    };
    Ok(Box::new(Pair { there: link()?, back: link()? }))
}

/// Two named FIFOs in a directory of their own. Names and directory are gone as soon as both ends are open.
pub fn fifo() -> Result<Box<dyn Mechanism>> {
    let directory = PrivateDirectory::new()?;
    let link = |name| {
        let path = directory.0.join(name);
        let named = || format!("cannot make the FIFO {}", path.display());
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).with_context(named)?;
        let open = |options: &mut OpenOptions| -> Result<File> {
            let file = options.custom_flags(libc::O_NONBLOCK).open(&path);
            file.with_context(|| format!("cannot open the FIFO {}", path.display()))
        };
        let read = open(OpenOptions::new().read(true))?;
        let write = open(OpenOptions::new().write(true))?;
        anyhow::Ok(DescriptorLink::new(write.into(), read.into()))
    };
    Ok(Box::new(Pair { there: link("there")?, back: link("back")? }))
}

/// Removed with everything in it when dropped.
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    fn new() -> Result<Self> {
        // mkdtemp puts a name of its own in place of the Xs.
        let template = std::env::temp_dir().join("ringpost-bench-XXXXXX");
        let path = nix::unistd::mkdtemp(&template)
            .with_context(|| format!("cannot make a directory like {}", template.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
