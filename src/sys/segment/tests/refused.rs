//! What a segment at a path must not be.

use super::*;

#[test]
fn a_symbolic_link() {
    let dir = TempDir::new();
    let (_, path) = dir.segment("ring");
    let link = dir.path("link");
    symlink(path, &link).unwrap();
    assert_error!(Segment::open(&link, user()), SegmentError::Symlink { .. }, link.display());
}

#[test]
fn a_second_name() {
    let dir = TempDir::new();
    let (_, path) = dir.segment("ring");
    fs::hard_link(&path, dir.path("other")).unwrap();
    assert_error!(Segment::open(&path, user()), SegmentError::HardLinks { links: 2, .. }, path.display(), 2);
}

#[test]
fn another_owner() {
    let dir = TempDir::new();
    let (_, path) = dir.segment("ring");
    let expected = user() + 1;
    assert_error!(
        Segment::open(&path, expected),
        SegmentError::WrongOwner { found, .. } if *found == user(),
        path.display(), user(), expected
    );
}

#[test]
fn what_everybody_may_write_to() {
    let dir = TempDir::new();
    let (_, path) = dir.segment("ring");
    for mode in [0o602, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_error!(
            Segment::open(&path, user()),
            SegmentError::WorldWritable { mode: found, .. } if *found == mode,
            path.display(), format!("{mode:04o}")
        );
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
    Segment::open(&path, user()).unwrap();
}

#[test]
fn what_is_no_regular_file_without_waiting_for_it() {
    let dir = TempDir::new();
    let [directory, fifo, socket] = ["directory", "fifo", "socket"].map(|name| dir.path(name));
    fs::create_dir(&directory).unwrap();
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [directory, fifo, socket] {
        assert_error!(Segment::open(&path, user()), SegmentError::NotRegular { .. }, path.display());
    }
    assert_error!(Segment::open(Path::new("/dev/null"), 0), SegmentError::NotRegular { .. }, "/dev/null");
}

#[test]
fn what_the_user_may_not_write_to() {
    if geteuid().is_root() {
        return println!("skipped: permissions don't bind root");
    }
    let dir = TempDir::new();
    let segment = Segment::unnamed(&dir.0, page(), 0o400).unwrap();
    segment.publish(&dir.path("ring")).unwrap();
    let path = dir.path("ring");
    assert_error!(Segment::open(&path, user()), SegmentError::PermissionDenied { .. }, path.display());
}

#[test]
fn a_path_with_a_zero_byte() {
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new(std::ffi::OsStr::from_bytes(b"/dev/shm/a\0b"));
    assert_error!(
        Segment::open(path, user()),
        SegmentError::Os { error, .. } if error.kind() == std::io::ErrorKind::InvalidInput,
        "open"
    );
}
