//! Segments with a name: made unseen, published once, recognised later.

use super::*;

#[test]
fn an_unnamed_segment_is_invisible_until_published_and_then_complete() {
    let dir = TempDir::new();
    let segment = Segment::unnamed(&dir.0, 3 * page(), 0o600).unwrap();
    assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 0);
    segment.publish(&dir.path("ring")).unwrap();
    let opened = Segment::open(&dir.path("ring"), user()).unwrap();
    assert_eq!(opened.len().unwrap(), 3 * page());
    assert!(allocated(&opened.metadata().unwrap()) >= 3 * page());
}

#[test]
fn a_segment_that_is_larger_than_an_allocation_step_is_allocated_whole() {
    let dir = TempDir::new();
    let len = ALLOCATION_STEP + page();
    let segment = Segment::unnamed(&dir.0, len, 0o600).unwrap();
    assert_eq!(segment.len().unwrap(), len);
    assert!(allocated(&segment.metadata().unwrap()) >= len);
}

#[test]
fn the_mode_is_exact_whatever_the_umask() {
    let dir = TempDir::new();
    for mode in [0o600, 0o660, 0o666, 0o400] {
        let segment = Segment::unnamed(&dir.0, page(), mode).unwrap();
        assert_eq!(segment.metadata().unwrap().mode() & 0o7777, mode);
    }
}

#[test]
fn the_descriptors_are_closed_on_exec() {
    let dir = TempDir::new();
    let (segment, path) = dir.segment("ring");
    let opened = Segment::open(&path, user()).unwrap();
    let memfd = Segment::memfd("ring", page()).unwrap();
    for segment in [&segment, &opened, &memfd] {
        assert!(rustix::io::fcntl_getfd(segment.fd()).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
}

#[test]
fn publishing_never_replaces_what_stands_there() {
    let dir = TempDir::new();
    let (first, path) = dir.segment("ring");
    let second = Segment::unnamed(&dir.0, page(), 0o600).unwrap();
    assert_error!(second.publish(&path), SegmentError::AlreadyExists { .. }, path.display());
    assert!(first.is_at(&path));

    symlink("nowhere", dir.path("link")).unwrap();
    assert_error!(second.publish(&dir.path("link")), SegmentError::AlreadyExists { .. }, "link");
}

#[test]
fn of_racing_publishers_exactly_one_wins() {
    let dir = TempDir::new();
    for round in 0..50 {
        let path = dir.path(&round.to_string());
        let segments = [(); 2].map(|()| Segment::unnamed(&dir.0, page(), 0o600).unwrap());
        let results = thread::scope(|threads| {
            segments
                .each_ref()
                .map(|segment| threads.spawn(|| segment.publish(&path)))
                .map(|t| t.join().unwrap())
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        for (segment, result) in segments.iter().zip(results) {
            assert_eq!(segment.is_at(&path), result.is_ok());
            if let Err(error) = result {
                assert!(matches!(error, SegmentError::AlreadyExists { .. }), "{error:?}");
            }
        }
    }
}

#[test]
fn a_directory_or_name_that_is_not_there_is_named() {
    let dir = TempDir::new();
    let missing = dir.path("missing");
    assert_error!(
        Segment::unnamed(&missing, page(), 0o600),
        SegmentError::NotFound { .. },
        missing.display()
    );
    assert_error!(Segment::open(&missing, user()), SegmentError::NotFound { .. }, missing.display());
    assert_error!(unlink(&missing), SegmentError::NotFound { .. }, missing.display());
    let segment = Segment::unnamed(&dir.0, page(), 0o600).unwrap();
    let deep = missing.join("ring");
    assert_error!(segment.publish(&deep), SegmentError::NotFound { .. }, deep.display());
}

#[test]
fn a_file_system_without_unnamed_files_is_named() {
    let error = |dir: &&str| Segment::unnamed(Path::new(dir), page(), 0o600).map(drop).unwrap_err();
    let found = |dir: &&str| {
        !matches!(error(dir), SegmentError::NotFound { .. } | SegmentError::PermissionDenied { .. })
    };
    let Some(dir) = ["/dev/mqueue", "/dev/pts"].iter().find(|dir| found(dir)) else {
        return println!("skipped: there is no such file system, or it may not be written to");
    };
    assert_error!(Err::<(), _>(error(dir)), SegmentError::NoUnnamedFiles { .. }, dir, "/dev/shm");
}

#[test]
fn publishing_on_another_file_system_is_an_error() {
    let dir = TempDir::new();
    let segment = Segment::unnamed(&dir.0, page(), 0o600).unwrap();
    let elsewhere = env::temp_dir().join(format!("ringpost-test-{}", process::id()));
    if fs::metadata(env::temp_dir()).unwrap().dev() == fs::metadata(&dir.0).unwrap().dev() {
        return println!("skipped: the temporary directory is on the same file system");
    }
    assert_error!(
        segment.publish(&elsewhere),
        SegmentError::Os { error, .. } if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()),
        elsewhere.display()
    );
}

#[test]
fn an_unlinked_and_remade_segment_is_noticed() {
    let dir = TempDir::new();
    let (old, path) = dir.segment("ring");
    assert!(old.is_at(&path));
    unlink(&path).unwrap();
    assert!(!old.is_at(&path));
    let (new, path) = dir.segment("ring");
    assert!(!old.is_at(&path));
    assert!(new.is_at(&path));
    symlink(&path, dir.path("link")).unwrap();
    assert!(!new.is_at(&dir.path("link")));
}
