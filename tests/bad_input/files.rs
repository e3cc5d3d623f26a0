//! Files that are none, another's, or in the way; a file system that is full.

use super::*;

fn user() -> u32 {
    geteuid().as_raw()
}

#[test]
fn a_ring_that_does_not_exist_is_named() {
    let scene = Scene::new();
    let path = scene.path("ring");
    assert_error!(
        scene.refused_at("ring"),
        OpenError::Segment(SegmentError::NotFound { path: found }) if *found == path,
        path.display(), "does not exist"
    );
    let nowhere = scene.directory.join("nowhere");
    let there = scene.builder("ring").directory(&nowhere);
    assert_error!(
        scene.refused(|| there.open_or_create()),
        OpenError::Segment(SegmentError::NotFound { .. }),
        nowhere.display()
    );
}

#[test]
fn a_ring_that_exists_is_not_made_again() {
    let scene = Scene::new();
    let ring = scene.builder("ring").create().unwrap();
    assert_error!(
        scene.refused(|| scene.builder("ring").create()),
        OpenError::Segment(SegmentError::AlreadyExists { .. }),
        scene.path("ring").display(),
        "exists already"
    );
    assert!(ring.is_current());
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let scene = Scene::new();
    symlink(scene.ring("ring"), scene.path("link")).unwrap();
    symlink("nowhere", scene.path("dangling")).unwrap();
    for name in ["link", "dangling"] {
        for error in [scene.refused_at(name), scene.refused(|| scene.builder(name).open_or_create())] {
            assert_error!(
                error,
                OpenError::Segment(SegmentError::Symlink { .. }),
                scene.path(name).display(),
                "never followed"
            );
        }
    }
}

#[test]
fn a_second_name_is_refused_until_it_is_removed() {
    let scene = Scene::new();
    fs::hard_link(scene.ring("ring"), scene.path("other")).unwrap();
    for name in ["ring", "other"] {
        assert_error!(
            scene.refused_at(name),
            OpenError::Segment(SegmentError::HardLinks { links: 2, .. }),
            scene.path(name).display(),
            "has 2 names",
            "remove the others"
        );
    }
    fs::remove_file(scene.path("other")).unwrap();
    scene.builder("ring").open().unwrap();
}

#[test]
fn what_is_no_file_is_refused_without_waiting_for_it() {
    let scene = Scene::new();
    fs::create_dir(scene.path("directory")).unwrap();
    mknodat(rustix::fs::CWD, scene.path("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(scene.path("socket")).unwrap();
    for name in ["directory", "fifo", "socket"] {
        assert_error!(
            scene.refused_at(name),
            OpenError::Segment(SegmentError::NotRegular { .. }),
            scene.path(name).display(),
            "not a regular file"
        );
    }
}

#[test]
fn what_everybody_may_write_to_is_refused_until_that_is_withdrawn() {
    let scene = Scene::new();
    let path = scene.ring("ring");
    for mode in [0o602, 0o666] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert_error!(
            scene.refused_at("ring"),
            OpenError::Segment(SegmentError::WorldWritable { mode: found, .. }) if *found == mode,
            path.display(), format!("{mode:04o}"), "chmod o-w"
        );
    }
    fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
    scene.builder("ring").open().unwrap();
}

#[test]
fn the_ring_of_another_user_is_refused_unless_it_was_asked_for() {
    let scene = Scene::new();
    let path = scene.ring("ring");
    let other = user() + 1;
    assert_error!(
        scene.refused(|| scene.builder("ring").owner(other).open()),
        OpenError::Segment(SegmentError::WrongOwner { found, expected, .. }) if (*found, *expected) == (user(), other),
        path.display(), format!("to user {}", user()), format!("to user {other}")
    );
    if user() != 0 {
        return println!("the rest is skipped: only root may give a file away");
    }
    chown(&path, Some(other), None).unwrap();
    assert_error!(
        scene.refused_at("ring"),
        OpenError::Segment(SegmentError::WrongOwner { found, expected: 0, .. }) if *found == other,
        format!("to user {other}"), "to user 0"
    );
    scene.builder("ring").owner(other).open().unwrap();
}

#[test]
fn without_permission_a_ring_is_neither_opened_nor_made() {
    if user() != 0 {
        return println!("skipped: only root can become somebody without permission");
    }
    let scene = Scene::new();
    scene.ring("ring");
    Child::start(&format!("stranger {}", scene.directory.display())).finish();
}

pub fn come_as_a_stranger(directory: &Path) {
    const NOBODY: u32 = 65534;
    let become_nobody = || {
        // SAFETY: changes the rights of this process, which exists for that.
        unsafe {
            libc::setgroups(0, std::ptr::null()) == 0
                && libc::setgid(NOBODY) == 0
                && libc::setuid(NOBODY) == 0
        }
    };
    assert!(become_nobody());
    let ring = builder("ring").directory(directory);
    for asked in [ring.clone(), ring.clone().owner(0)] {
        assert_error!(
            asked.open().unwrap_err(),
            OpenError::Segment(SegmentError::PermissionDenied { .. }),
            directory.join("ringpost.ring").display(),
            "permission denied"
        );
    }
    assert_error!(
        builder("new").directory(directory).create().unwrap_err(),
        OpenError::Segment(SegmentError::PermissionDenied { .. }),
        directory.display(),
        "permission denied"
    );
    let error = ring.unlink().unwrap_err();
    assert!(matches!(error, OpenError::Segment(SegmentError::PermissionDenied { .. })), "{error:?}");
}

#[test]
fn a_full_file_system_is_told_at_creation() {
    let scene = Scene::new();
    let child = Child::start(&format!("fill {}", scene.directory.display()));
    match child.hear() {
        0 => println!("skipped: a small tmpfs may not be mounted here"),
        _ => child.finish(),
    }
}

/// Mounts a tmpfs of 1 MiB that goes with this thread, and fills it.
pub fn fill_a_small_tmpfs(directory: &Path, line: &common::Line) {
    // SAFETY: descriptors stay as they are, only the mounts of this thread are its own from now on.
    let mounted = unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
        .and_then(|()| mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE))
        .and_then(|()| mount("tmpfs", directory, "tmpfs", MountFlags::empty(), c"size=1m"));
    line.tell(mounted.is_ok().into());
    if mounted.is_err() {
        return;
    }
    let ring = |name: &str| builder(name).directory(directory).capacity(512 << 10);
    let mut held = vec![ring("held").create().unwrap()];
    let error = ring("refused").create().unwrap_err();
    let OpenError::Segment(SegmentError::NoSpace { needed, available, .. }) = error else {
        panic!("{error:?}")
    };
    assert!(needed > 512 << 10 && available < needed && available > 256 << 10, "{available} of {needed}");
    assert_error!(error, _, directory.display(), needed, available, "remount", "smaller capacity");
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1, "the name was not given");
    // What was refused has given its memory back.
    held.push(ring("smaller").capacity(256 << 10).create().unwrap());
    // Every byte of what was made can be written, though nothing more is to be had.
    fs::write(directory.join("rest"), vec![1; 1 << 20]).unwrap_err();
    for ring in held {
        let mut sender = ring.sender().unwrap();
        let longest = vec![7; sender.longest_message()];
        sender.send(&longest).unwrap();
        assert!(ring.receiver().unwrap().recv().unwrap().to_vec() == longest);
    }
}
