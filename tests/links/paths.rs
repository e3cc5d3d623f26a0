//! Where a listener stands: stale sockets, live ones, other files, and what is left behind.

use super::{
    Place,
    common::{FAR, Line, fork::leave_an_echo, long},
    raw,
};
use ringpost::{LinkError, OpenError};
use rustix::fs::{FlockOperation, flock};
use std::{
    env::set_current_dir,
    fs::{self, File},
    io::ErrorKind,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt, symlink},
        net::UnixListener,
    },
    path::Path,
    process::Command,
    sync::Barrier,
    thread,
    time::Duration,
};

fn link_error<T>(result: Result<T, OpenError>) -> LinkError {
    match result {
        Err(OpenError::Link(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("there is no error"),
    }
}

#[test]
fn a_listener_takes_its_path_away_and_leaves_nothing_in_shared_memory() {
    let place = Place::new();
    let listener = place.listen();
    assert!(fs::symlink_metadata(&*place).unwrap().file_type().is_socket());
    let path = place.to_path_buf();
    let sender = thread::spawn(move || ringpost::connect(&path).unwrap());
    let receiver = listener.accept().unwrap();
    let sender = sender.join().unwrap();
    let own = format!("-{}", std::process::id());
    let links = || {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains("ringpost-receiver")).count()
    };
    assert!(links() > 0);
    let shared =
        fs::read_dir("/dev/shm").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(shared.filter(|name| name.contains("link") && name.ends_with(&own)).count(), 0);
    drop(listener);
    assert!(!place.exists());
    drop((sender, receiver));
}

#[test]
fn a_listener_that_goes_takes_no_path_away_that_is_about_to_be_its_successors() {
    let place = Place::new();
    let directory = place.with_extension("d");
    fs::create_dir(&directory).unwrap();
    let path = directory.join("socket");
    let listener = ringpost::listen(&path).unwrap();
    // As who begins to listen does it, when the listener was shut down: then it is stale to others.
    let beginning = File::open(&directory).unwrap();
    flock(&beginning, FlockOperation::LockExclusive).unwrap();
    thread::scope(|scope| {
        let going = scope.spawn(|| drop(listener));
        thread::sleep(Duration::from_millis(50));
        assert!(path.exists(), "nobody else changes anything there now");
        fs::remove_file(&path).unwrap();
        let _successor = UnixListener::bind(&path).unwrap();
        drop(beginning);
        going.join().unwrap();
        assert!(path.exists());
    });
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn nothing_of_a_link_outlives_exec() {
    let place = Place::new();
    let listener = place.listen();
    let path = place.to_path_buf();
    let connecting = thread::spawn(move || ringpost::connect(path).unwrap());
    let receiver = listener.accept().unwrap();
    let sender = connecting.join().unwrap();
    let own = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    assert!(own.filter(|link| link.to_string_lossy().contains("pidfd")).count() >= 2, "they are seen");
    let listed = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains(" 1 -> "), "{listed}");
    for kind in ["pidfd", "eventfd", "ringpost"] {
        assert!(!listed.contains(kind), "{listed}");
    }
    drop((sender, receiver));
}

#[test]
fn the_socket_has_exactly_the_permissions_that_were_asked_for() {
    for (mode, asked) in [(0o600, None), (0o660, Some(0o660)), (0o666, Some(0o666))] {
        let place = Place::new();
        let builder = ringpost::unnamed();
        let builder = asked.map_or(builder.clone(), |bits| builder.mode(bits));
        let _listener = builder.listen(&*place).unwrap();
        assert_eq!(fs::symlink_metadata(&*place).unwrap().permissions().mode() & 0o7777, mode);
    }
    for bits in [0o400, 0o1600, 0o066] {
        let place = Place::new();
        assert!(matches!(ringpost::unnamed().mode(bits).listen(&*place), Err(OpenError::Mode { .. })));
        assert!(!place.exists());
    }
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let place = Place::new();
    let missing = link_error(ringpost::listen(place.join("plugins"))).to_string();
    assert!(missing.contains(&format!("{}: No such file", place.display())), "{missing}");
    fs::write(&*place, "no directory").unwrap();
    let path = place.join("plugins");
    for wrong in [ringpost::listen(&path).map(drop), ringpost::connect(&path).map(drop)] {
        let text = link_error(wrong).to_string();
        assert!(text.contains(&place.display().to_string()) && text.contains("Not a directory"), "{text}");
    }
}

#[test]
fn what_a_killed_listener_leaves_is_recognised_and_replaced() {
    let place = Place::new();
    let mut killed = place.child("killed-listener", "");
    killed.hear();
    killed.kill();
    assert!(place.exists());
    assert!(matches!(link_error(ringpost::connect(&*place)), LinkError::NotListening { .. }));
    assert_free(&place);
}

/// A new listener can be had there, and reached.
fn assert_free(place: &Place) {
    let listener = place.listen();
    let path = place.to_path_buf();
    let sender = thread::spawn(move || ringpost::connect(&path).unwrap().send(b"hi").unwrap());
    assert_eq!(listener.accept().unwrap().recv().unwrap().to_vec(), b"hi");
    sender.join().unwrap();
}

#[test]
fn where_somebody_listens_nobody_else_can() {
    let place = Place::new();
    let _listener = place.listen();
    let error = link_error(ringpost::listen(&*place));
    assert!(matches!(&error, LinkError::InUse { path } if path == &*place), "{error}");
    let error: std::io::Error = OpenError::Link(error).into();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    // Also when it is a stranger, or has no room for another connection.
    let place = Place::new();
    let _stranger = raw::RawListener::at(&place);
    let _waiting: Vec<_> = (0..9).map(|_| raw::Raw::connect(&place)).collect();
    assert!(matches!(link_error(ringpost::listen(&*place)), LinkError::InUse { .. }));
}

#[test]
fn of_many_that_begin_at_once_where_one_has_died_one_listens() {
    for _ in 0..if long() { 2000 } else { 60 } {
        let place = Place::new();
        // Nobody listens there any more.
        drop(raw::RawListener::at(&place));
        let together = Barrier::new(6);
        let listeners: Vec<_> = thread::scope(|threads| {
            let begin = || {
                together.wait();
                ringpost::listen(&*place)
            };
            let threads: Vec<_> = (0..6).map(|_| threads.spawn(begin)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(listeners.iter().filter(|listener| listener.is_ok()).count(), 1);
        for refused in listeners.into_iter().filter(|listener| listener.is_err()) {
            assert!(matches!(link_error(refused), LinkError::InUse { .. }));
        }
    }
}

#[test]
fn while_another_begins_in_the_same_directory_a_listener_waits() {
    let place = Place::new();
    let directory = place.with_extension("d");
    fs::create_dir(&directory).unwrap();
    let lock = fs::File::open(&directory).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let builder = ringpost::unnamed().handshake_timeout(Duration::from_millis(20));
    let path = directory.join("socket");
    let error = link_error(builder.listen(&path));
    assert!(matches!(&error, LinkError::Locked { directory: locked } if *locked == directory), "{error}");
    assert!(!path.exists());
    drop(lock);
    drop(builder.listen(&path).unwrap());
    fs::remove_dir(&directory).unwrap();
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let place = Place::new();
    fs::write(&*place, "precious").unwrap();
    assert!(matches!(link_error(ringpost::listen(&*place)), LinkError::NotASocket { .. }));
    assert_eq!(fs::read(&*place).unwrap(), b"precious");
    let link = Place::new();
    symlink(&*place, &*link).unwrap();
    assert!(matches!(link_error(ringpost::listen(&*link)), LinkError::NotASocket { .. }));
    let directory = std::env::temp_dir();
    assert!(matches!(link_error(ringpost::listen(directory)), LinkError::NotASocket { .. }));
}

#[test]
fn a_path_that_can_not_be_had_is_an_error() {
    let long = std::env::temp_dir().join("x".repeat(108));
    assert!(matches!(link_error(ringpost::listen(&long)), LinkError::PathTooLong { .. }));
    assert!(matches!(link_error(ringpost::connect(&long)), LinkError::PathTooLong { .. }));
    let nowhere = Path::new("/nowhere/at/all");
    let told = link_error(ringpost::listen(nowhere)).to_string();
    assert!(told.contains("/nowhere/at"), "{told}");
    assert!(matches!(link_error(ringpost::connect(nowhere)), LinkError::NotListening { .. }));
    let told = link_error(ringpost::connect("/dev/null/x")).to_string();
    assert!(told.contains("/dev/null/x"), "{told}");
    assert!(matches!(
        ringpost::unnamed().many_senders(2).listen(nowhere),
        Err(OpenError::Setting { what: "number of senders of a link", .. })
    ));
}

/// Listens at a path from where it stands, and closes elsewhere.
pub fn listen_and_move(path: &Path) {
    set_current_dir(path.parent().unwrap()).unwrap();
    let listener = ringpost::listen(path.file_name().unwrap()).unwrap();
    assert!(path.exists());
    set_current_dir("/").unwrap();
    drop(listener);
}

#[test]
fn a_listener_takes_its_path_away_from_wherever_it_stands() {
    let place = Place::new();
    place.child("listen-and-move", "").finish();
    assert!(!place.exists());
}

#[test]
fn a_socket_that_was_made_anew_is_not_taken_away() {
    let place = Place::new();
    let first = place.listen();
    fs::remove_file(&*place).unwrap();
    let _second = place.listen();
    drop(first);
    assert!(place.exists());
}

/// Listens, forks, and sees that the forked child neither accepts nor takes the path away.
pub fn fork_listener(path: &Path) {
    let mut listener = Some(ringpost::listen(path).unwrap());
    super::common::fork::assert_in_fork(|| {
        let listener = listener.take().unwrap();
        matches!(listener.accept(), Err(OpenError::Link(LinkError::Forked)))
    });
    assert!(path.exists());
}

/// Has a forked child greet who has connected, and then greets it itself.
pub fn fork_before_greeting(path: &Path, line: &Line) {
    let listener = ringpost::listen(path).unwrap();
    line.tell(0);
    for duplex in [false, true] {
        let mut incoming = Some(listener.incoming().unwrap());
        super::common::fork::assert_in_fork(|| {
            let incoming = incoming.take().unwrap();
            let refused =
                if duplex { incoming.accept_duplex().map(|_| ()) } else { incoming.accept().map(|_| ()) };
            matches!(refused, Err(OpenError::Link(LinkError::Forked)))
        });
        let incoming = incoming.unwrap();
        let mut receiver = match duplex {
            false => incoming.accept().unwrap(),
            true => incoming.accept_duplex().unwrap().receiver,
        };
        assert_eq!(receiver.recv().unwrap().to_vec(), b"hi");
    }
}

/// Listens, and leaves the socket to a child, which says what it hears until nobody is left to say something.
pub fn orphan_listener(path: &Path, line: &Line) {
    let _listener = ringpost::listen(path).unwrap();
    leave_an_echo(line);
    line.tell(0);
    thread::park();
}

#[test]
fn a_dead_listeners_path_is_free_although_its_child_has_the_socket() {
    // More who connect than can wait in the queue of the socket; or nobody before the successor comes.
    for connectors in [200, 0] {
        let place = Place::new();
        let mut killed = place.child("orphaned-listener", "");
        killed.hear();
        assert!(matches!(link_error(ringpost::listen(&*place)), LinkError::InUse { .. }));
        killed.kill();
        assert!(place.exists());
        for _ in 0..connectors {
            assert!(matches!(link_error(ringpost::connect(&*place)), LinkError::NotListening { .. }));
        }
        assert_free(&place);
        killed.tell(7);
        assert_eq!(killed.hear(), 7, "the child goes on");
    }
}

#[test]
fn a_forked_child_neither_accepts_nor_takes_the_path_away() {
    let place = Place::new();
    place.child("fork-listener", "").finish();
    assert!(!place.exists());
}

#[test]
fn a_forked_child_does_not_greet_who_came_to_its_parent() {
    let place = Place::new();
    let server = place.server("fork-before-greeting", "");
    let patient = ringpost::unnamed().handshake_timeout(FAR);
    patient.connect(&*place).unwrap().send(b"hi").unwrap();
    patient.connect_duplex(&*place).unwrap().send(b"hi").unwrap();
    server.finish();
}
