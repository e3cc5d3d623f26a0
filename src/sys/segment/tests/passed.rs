//! Segments that come as a descriptor.

use super::*;

#[test]
fn a_sealed_memfd_is_accepted_and_nobody_can_change_its_size_or_seals() {
    let segment = Segment::from_fd(Segment::memfd("ring", 2 * page()).unwrap().into_fd()).unwrap();
    for len in [0, page(), 3 * page()] {
        assert_eq!(segment.file.set_len(len).unwrap_err().raw_os_error(), Some(Errno::PERM.raw_os_error()));
    }
    assert_eq!(fcntl_add_seals(&segment.file, SealFlags::WRITE), Err(Errno::PERM));
    assert_eq!(segment.len().unwrap(), 2 * page());
    segment.map(page_size(), page_size()).unwrap();
}

#[test]
fn a_memfd_may_have_any_seals_beyond_those_that_fix_its_size() {
    let fd = memfd_create("ring", MemfdFlags::ALLOW_SEALING).unwrap();
    fcntl_add_seals(&fd, FIXED_SIZE | SealFlags::FUTURE_WRITE).unwrap();
    Segment::from_fd(fd).unwrap();
}

#[test]
fn a_memfd_without_both_seals_is_refused() {
    for (seals, missing) in [
        (SealFlags::empty(), "shrinking and growing"),
        (SealFlags::SHRINK, "growing"),
        (SealFlags::GROW, "shrinking"),
        (SealFlags::WRITE | SealFlags::SEAL, "shrinking and growing"),
    ] {
        let fd = memfd_create("ring", MemfdFlags::ALLOW_SEALING).unwrap();
        fcntl_add_seals(&fd, seals).unwrap();
        assert_error!(
            Segment::from_fd(fd),
            SegmentError::NotSealed { missing: found } if *found == missing,
            missing, "F_SEAL_SHRINK"
        );
    }
}

#[test]
fn a_file_of_any_file_system_is_refused() {
    let dir = TempDir::new();
    let (segment, _) = dir.segment("ring");
    assert_error!(Segment::from_fd(segment.into_fd()), SegmentError::NotSealed { .. }, "descriptor");
    let executable = File::open(env::current_exe().unwrap()).unwrap();
    assert_error!(Segment::from_fd(executable.into()), SegmentError::NotSealed { .. }, "descriptor");
}

#[test]
fn what_is_no_file_is_refused() {
    let (reader, _writer) = std::io::pipe().unwrap();
    assert_error!(Segment::from_fd(reader.into()), SegmentError::NotRegular { path: None }, "descriptor");
}

#[test]
fn a_descriptor_that_can_only_be_read_is_no_ring() {
    let segment = Segment::memfd("ring", 2 * page()).unwrap();
    let reopened = File::open(format!("/proc/self/fd/{}", segment.fd().as_raw_fd())).unwrap();
    let segment = Segment::from_fd(reopened.into()).unwrap();
    assert_error!(segment.map(page_size(), page_size()), SegmentError::PermissionDenied { .. }, "map");
}
