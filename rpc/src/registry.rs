//! Services by name: a socket each, in a directory that only this user can use.

use crate::error::BindError;
use rustix::{
    fs::{Mode, OFlags, fstat, mkdir, open},
    io::Errno,
    process::geteuid,
};
use std::{env, fs, io, path::PathBuf};

/// The end of each socket's name.
const EXTENSION: &str = "sock";

/// Where the services of this user are: `$XDG_RUNTIME_DIR/ringpost`, or `/tmp/ringpost-UID`. It is made if need be.
///
/// # Errors
/// [`BindError::Registry`] when it can't be made, is another user's, can be used by others, or is a symbolic link.
pub fn directory() -> Result<PathBuf, BindError> {
    let given = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let directory = match given {
        Some(runtime) => runtime.join("ringpost"),
        None => format!("/tmp/ringpost-{}", geteuid().as_raw()).into(),
    };
    let made = mkdir(&directory, Mode::RWXU);
    let opened = match made {
        Ok(()) | Err(Errno::EXIST) => {
            open(&directory, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        }
        Err(errno) => Err(errno),
    };
    let registry = |errno: Errno| {
        let error = io::Error::from(errno);
        BindError::Registry(io::Error::new(error.kind(), format!("{}: {error}", directory.display())))
    };
    let found = fstat(opened.map_err(registry)?).map_err(registry)?;
    if found.st_uid != geteuid().as_raw() || found.st_mode & 0o077 != 0 {
        let why = format!("{} is another user's, or can be used by others", directory.display());
        return Err(BindError::Registry(io::Error::new(io::ErrorKind::PermissionDenied, why)));
    }
    Ok(directory)
}

/// Where the service of this name listens, or would.
///
/// # Errors
/// [`BindError::Name`] when it is empty, longer than 64 bytes, starts with a dot, or has another character than letters and
/// digits of ASCII, `-`, `_` and `.`; and those of [`directory`].
pub fn path(name: &str) -> Result<PathBuf, BindError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(allowed) {
        return Err(BindError::Name { name: name.into() });
    }
    Ok(directory()?.join(format!("{name}.{EXTENSION}")))
}

/// The names of all services, sorted. A server that was killed leaves its name until it is started again: it is listed too.
///
/// # Errors
/// Those of [`directory`], and when it can't be read.
pub fn list() -> Result<Vec<String>, BindError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory()?).map_err(BindError::Registry)? {
        let path = entry.map_err(BindError::Registry)?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            names.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
        }
    }
    names.sort();
    Ok(names)
}
