//! The names of rings: which there are, and taking one away.

use super::builder::{Builder, PREFIX};
use crate::{error::OpenError, sys::segment};
use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::ffi::OsStrExt,
    path::Path,
};

/// Names under which rings stand in `directory` (`/dev/shm` unless [`Builder::directory`] says otherwise), in order.
///
/// Whatever has the file name of a ring is named, also when it can't be opened: [`Builder::open`] says what is wrong
/// with it.
///
/// ```
/// let ring = ringpost::builder("doc-names").lifetime(ringpost::Lifetime::Owned).create()?;
/// assert!(ringpost::names("/dev/shm".as_ref())?.contains(&"doc-names".into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When the directory can't be read.
pub fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let file = entry?.file_name();
        names.extend(
            file.as_bytes().strip_prefix(PREFIX.as_bytes()).map(|name| OsStr::from_bytes(name).into()),
        );
    }
    names.sort();
    Ok(names)
}

impl Builder {
    /// Takes the name away from whatever stands there, without opening it: also from what is no ring, or not one that
    /// this process can use. Whoever has the ring open goes on using it.
    ///
    /// # Errors
    /// [`OpenError::Name`]; [`OpenError::Segment`] when there is no such name, or it may not be removed.
    pub fn unlink(&self) -> Result<(), OpenError> {
        Ok(segment::unlink(&self.path()?)?)
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::{channel::builder, error::SegmentError};
    use std::{env, path::PathBuf, process};

    /// A directory of this test's own, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Self {
            let path = env::temp_dir().join(format!("ringpost-{test}-{}", process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn whatever_is_named_like_a_ring_is_listed_in_order() {
        let scratch = Scratch::new("names");
        for file in ["ringpost.b", "ringpost.a", "ringpost.", "ringpostal", "other"] {
            fs::write(scratch.0.join(file), "no ring").unwrap();
        }
        fs::write(scratch.0.join(OsStr::from_bytes(b"ringpost.\xff")), "no text").unwrap();
        let expected: [&[u8]; 4] = [b"", b"a", b"b", b"\xff"];
        assert_eq!(names(&scratch.0).unwrap(), expected.map(OsStr::from_bytes));
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_and_not_an_empty_list() {
        assert_eq!(names(Path::new("/nowhere/at/all")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn unlink_removes_what_is_no_ring_and_misses_what_is_not_there() {
        let scratch = Scratch::new("unlink");
        fs::write(scratch.0.join("ringpost.junk"), "no ring").unwrap();
        let junk = builder("junk").directory(&scratch.0);
        junk.unlink().unwrap();
        assert!(names(&scratch.0).unwrap().is_empty());
        assert!(matches!(junk.unlink(), Err(OpenError::Segment(SegmentError::NotFound { .. }))));
    }

    #[test]
    fn unlink_takes_no_path_for_a_name() {
        let scratch = Scratch::new("escape");
        fs::create_dir(scratch.0.join("ringpost.")).unwrap();
        fs::write(scratch.0.join("kept"), "").unwrap();
        let escape = builder("/../kept").directory(&scratch.0);
        assert!(matches!(escape.unlink(), Err(OpenError::Name { .. })));
        assert!(scratch.0.join("kept").exists());
    }
}
