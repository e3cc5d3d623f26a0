//! What happens at the limits of the system; each test runs in a process of its own, which gets the limit.

use rustix::process::Resource;

use super::*;

fn again(test: &str) {
    testing::run(testing::again(&[], module_path!(), test));
}

#[test]
fn a_full_file_system_is_an_error_that_says_what_is_free_and_never_a_signal() {
    if !testing::is_again() {
        let small = r#"mount -t tmpfs -o size=1m tmpfs /dev/shm || exit 77; exec "$0" "$@""#;
        let in_small_tmpfs = ["unshare", "--map-root-user", "--mount", "sh", "-c", small];
        let possible = process::Command::new("unshare")
            .args(["--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"])
            .output();
        if !possible.is_ok_and(|output| output.status.success()) {
            return println!("skipped: may not mount a small tmpfs here");
        }
        let test = "a_full_file_system_is_an_error_that_says_what_is_free_and_never_a_signal";
        return testing::run(testing::again(&in_small_tmpfs, module_path!(), test));
    }
    let dir = TempDir::new();
    let all = 1 << 20;
    let kept = Segment::unnamed(&dir.0, all / 2, 0o600).unwrap();
    assert_error!(
        Segment::unnamed(&dir.0, all, 0o600),
        SegmentError::NoSpace { dir: Some(_), available, .. } if *available == all / 2,
        dir.0.display(), all, all / 2, "remount"
    );
    // What was refused has given everything back; now the last page goes.
    let _rest = Segment::unnamed(&dir.0, all / 2, 0o600).unwrap();
    let mapping = kept.map(page_size(), (all / 2) as usize - page_size()).unwrap();
    for offset in (0..(all / 2) as usize - page_size()).step_by(page_size()) {
        // SAFETY: inside the data area, which no other thread touches.
        unsafe { mapping.data().byte_add(offset).write_volatile(1) };
    }
    File::create_new(dir.path("sparse")).unwrap().set_len(2 * page()).unwrap();
    let sparse = Segment::open(&dir.path("sparse"), user()).unwrap();
    assert_error!(
        sparse.map(page_size(), page_size()),
        SegmentError::NoSpace { dir: None, available: 0, .. },
        2 * page()
    );
}

#[test]
fn no_descriptor_left() {
    if !testing::is_again() {
        return again("no_descriptor_left");
    }
    let dir = TempDir::new();
    let (segment, path) = dir.segment("ring");
    testing::limit(Resource::Nofile, 0);
    for refused in [
        Segment::unnamed(&dir.0, page(), 0o600),
        Segment::open(&path, user()),
        Segment::memfd("ring", page()),
    ] {
        assert_error!(refused, SegmentError::NoDescriptor { .. }, "ulimit -n");
    }
    testing::limit(Resource::Nofile, 64);
    segment.map(page_size(), page_size()).unwrap();
}

#[test]
fn no_address_space_left() {
    if !testing::is_again() {
        return again("no_address_space_left");
    }
    let capacity = 64 << 20;
    let segment = Segment::memfd("ringpost-limit", page() + capacity as u64).unwrap();
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let used = statm.split(' ').next().unwrap().parse::<u64>().unwrap() * page();
    let maps = || fs::read_to_string("/proc/self/maps").unwrap().matches("memfd:ringpost-limit").count();
    testing::limit(Resource::As, used + capacity as u64);
    assert_error!(
        segment.map(page_size(), capacity),
        SegmentError::NoMemory { .. },
        "ulimit -v",
        2 * capacity
    );
    assert_eq!(maps(), 0, "the control area is unmapped again");
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_not_a_signal() {
    if !testing::is_again() {
        return again("a_limit_on_the_size_of_files_is_an_error_and_not_a_signal");
    }
    let dir = TempDir::new();
    testing::limit(Resource::Fsize, page());
    let needed = 2 * page();
    assert_error!(
        Segment::unnamed(&dir.0, needed, 0o600),
        SegmentError::FileSizeLimit { .. },
        page(),
        needed,
        "ulimit -f"
    );
    assert_error!(Segment::memfd("ring", needed), SegmentError::FileSizeLimit { .. }, needed);
    Segment::unnamed(&dir.0, page(), 0o600).unwrap();
}

#[test]
fn memory_bounds_the_files_that_lie_in_it_and_no_others() {
    let program = std::env::current_exe().unwrap();
    for dir in [Path::new("/dev/shm"), program.parent().unwrap()] {
        let kind = process::Command::new("stat").args(["-f", "-c", "%T"]).arg(dir).output();
        let Ok(kind) = kind else { return println!("skipped: there is no stat here") };
        let Ok(segment) = Segment::unnamed(dir, page(), 0o600) else { continue };
        assert_eq!(segment.is_in_memory(), kind.stdout.starts_with(b"tmpfs"), "{}", dir.display());
    }
    assert!(Segment::memfd("ring", page()).unwrap().is_in_memory());
    let memory = total_memory();
    assert_error!(
        Segment::memfd("ring", memory + page()),
        SegmentError::MoreThanMemory { .. },
        memory,
        memory + page(),
        "smaller capacity"
    );
}
