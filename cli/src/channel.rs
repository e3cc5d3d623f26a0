//! Which ring a verb is about, and what its errors mean to the shell.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context, Error, Result, bail};
use clap::Args;
use ringpost::{Builder, OpenError, Ring, RingInfo, SegmentError};

use crate::{ending::Ending, quantity};

const DEFAULT: &str = "/dev/shm";

/// Where rings live.
#[derive(Args, Debug)]
pub struct Directory {
    /// Where rings live; the same on both sides
    #[arg(long = "dir", value_name = "DIR", default_value = DEFAULT)]
    pub path: PathBuf,
}

impl Directory {
    /// The ring `name` in here, if there is such a directory.
    pub fn builder(&self, name: &str) -> Result<Builder> {
        Ok(ringpost::builder(name).directory(self.there()?))
    }

    /// Where the ring `name` would lie, for people.
    pub fn place(&self, name: &str) -> String {
        self.path.join(format!("ringpost.{name}")).display().to_string()
    }

    /// A verb as one would type it for a ring in here.
    pub fn advice(&self, verb: &str) -> String {
        format!("`ringpost {verb}{}`", self.flag())
    }

    /// The flag that leads here, behind a blank; nothing where none is needed.
    fn flag(&self) -> String {
        match &*self.path.to_string_lossy() {
            DEFAULT => String::new(),
            path => format!(" --dir {}", quoted(path)),
        }
    }

    /// What went wrong with the ring `name`, and what to do where the library can't know it.
    pub fn about(&self, name: &str, error: OpenError) -> Error {
        match error {
            OpenError::Segment(SegmentError::NotFound { .. }) => {
                let advice = self.advice("ls");
                Ending::NoSuchChannel(format!("{name}: {error}; {advice} shows the rings that there are"))
                    .into()
            }
            OpenError::Segment(SegmentError::AlreadyExists { .. }) => {
                Error::new(error).context(format!("{name}: without --create it would be opened"))
            }
            OpenError::SenderAttached { .. } => {
                Error::msg(format!("{name}: {error}: here one that is made with --many"))
            }
            // It names it itself.
            OpenError::Name { .. } => error.into(),
            _ => Error::new(error).context(name.to_owned()),
        }
    }

    /// The path of the directory; the error that all verbs have in common where there is none.
    pub fn there(&self) -> Result<&Path> {
        let found = fs::metadata(&self.path).and_then(|found| match found.is_dir() {
            true => Ok(&*self.path),
            false => Err(ErrorKind::NotADirectory.into()),
        });
        found.with_context(|| {
            format!("can't use the directory {}, where rings should live (--dir)", self.path.display())
        })
    }
}

/// How often a ring may lose its name while it is attached to. On some file systems it never seems to have one.
const TRIES: u32 = 10;

/// The ring of `send` and `recv`. Either may start first: who comes first makes it.
#[derive(Args, Debug)]
pub struct Channel {
    /// Name of the ring
    pub name: String,

    #[command(flatten)]
    directory: Directory,

    /// Make the ring; it must not be there yet
    #[arg(long, conflicts_with = "open")]
    create: bool,

    /// Open the ring; it must be there already
    #[arg(long)]
    open: bool,

    /// Size of the ring, also with K, M, G or T, rounded up to a power of two from 4K on; a ring that is there must have it
    /// [default: 4M]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = quantity::bytes)]
    capacity: Option<u64>,

    /// A ring for up to N senders at a time; a ring that is there must be one [default: for one]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = quantity::whole::<u8>(1, ringpost::limits::SENDERS.into()))]
    many: Option<u8>,
}

impl Channel {
    /// Makes or opens the ring, and attaches to it as `attach` says. Does it again when the ring has lost its name in between:
    /// nobody else finds it then, and who had it may have ended.
    pub fn attach<E>(&self, attach: impl Fn(&Ring) -> Result<E, OpenError>) -> Result<(Ring, E)> {
        for _ in 1..TRIES {
            let (ring, end) = self.attach_once(&attach)?;
            if ring.is_current() {
                return Ok((ring, end));
            }
        }
        self.attach_once(&attach)
    }

    fn attach_once<E>(&self, attach: impl Fn(&Ring) -> Result<E, OpenError>) -> Result<(Ring, E)> {
        let builder = self.directory.builder(&self.name)?;
        let ring = self.ring(builder).map_err(|error| self.about(error))?;
        let other = match ring.info() {
            RingInfo { mailbox: Some(_), .. } => "a mailbox",
            RingInfo { broadcast: Some(_), .. } => "a ring from one sender to many readers",
            _ => "",
        };
        if !other.is_empty() {
            let (name, advice) = (&self.name, self.advice("stat"));
            bail!("{name}: this is {other}, for programs, and not for `send` and `recv`; {advice} shows it");
        }
        let end = attach(&ring).map_err(|error| self.about(error))?;
        Ok((ring, end))
    }

    /// What went wrong with the ring.
    pub fn about(&self, error: OpenError) -> Error {
        self.directory.about(&self.name, error)
    }

    /// A verb as one would type it for this ring.
    pub fn advice(&self, verb: &str) -> String {
        let name = quoted(&self.name);
        match self.name.starts_with('-') {
            // Behind `--` it is not taken for a flag, and neither would a flag be.
            true => format!("`ringpost {verb}{} -- {name}`", self.directory.flag()),
            false => self.directory.advice(&format!("{verb} {name}")),
        }
    }

    fn ring(&self, mut builder: Builder) -> Result<Ring, OpenError> {
        if let Some(bytes) = self.capacity {
            builder = builder.capacity(bytes);
        }
        if let Some(most) = self.many {
            builder = builder.many_senders(most);
        }
        match (self.create, self.open) {
            (true, _) => builder.create(),
            (_, true) => builder.open(),
            _ => builder.open_or_create(),
        }
    }
}

/// Opens the ring `name` to look at it.
pub fn open(directory: &Directory, name: &str) -> Result<Ring> {
    directory.builder(name)?.open().map_err(|error| directory.about(name, error))
}

/// Names in the directory.
pub fn names(directory: &Directory) -> Result<Vec<std::ffi::OsString>> {
    ringpost::names(directory.there()?).with_context(|| format!("can't list {}", directory.path.display()))
}

/// The word as a shell takes it for one.
pub fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-,=:".contains(letter);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn advice_can_be_typed() {
        assert_eq!(quoted("/dev/shm/my-rings_1.d"), "/dev/shm/my-rings_1.d");
        assert_eq!([quoted("--sizes=8,64"), quoted("")], ["--sizes=8,64", "''"]);
        assert_eq!(quoted("two words; $HOME"), "'two words; $HOME'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
