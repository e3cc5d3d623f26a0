//! The queues of System V and of POSIX as shapes of a mailbox: what their manuals say of flags, orders, limits and errors holds.

mod common;

use common::{Child, FAR, filter::die_at, fork::assert_in_fork};
use ringpost::{posix, sysv};
use std::{io::ErrorKind, thread, time::Duration};

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        // Is killed as it takes the name away.
        ["remove", key] => {
            let queue = sysv::msgget(key.parse().unwrap(), 0).unwrap();
            die_at(&[libc::SYS_unlink, libc::SYS_unlinkat]);
            let removed = sysv::remove(queue);
            line.tell(removed.is_ok().into());
        }
        _ => panic!("no such role: {words:?}"),
    });
}

#[test]
fn who_is_killed_while_it_removes_a_queue_leaves_nobody_waiting_there() {
    let key = 0x1000_0000 | std::process::id() as i32;
    let mut queue = sysv::msgget(key, sysv::IPC_CREAT | 0o600).unwrap();
    let status = Child::start(&format!("remove {key}")).end();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGSYS));
    let mut text = [0; 5];
    let told = sysv::msgrcv(&mut queue, &mut text, 0, sysv::IPC_NOWAIT).unwrap_err();
    assert_eq!(told.kind(), ErrorKind::NotConnected);
    sysv::remove(queue).unwrap();
    assert_eq!(sysv::msgget(key, 0).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_forked_child_does_not_remove_its_parents_queue_and_leaves_nobody_waiting_there() {
    let key = 0x2000_0000 | std::process::id() as i32;
    let mut queue = Some(sysv::msgget(key, sysv::IPC_CREAT | 0o600).unwrap());
    assert_in_fork(|| {
        let refused = sysv::remove(queue.take().unwrap());
        refused.is_err_and(|error| error.kind() == ErrorKind::Unsupported)
    });
    // It can be found, so whoever opens it itself can remove it.
    sysv::remove(sysv::msgget(key, 0).unwrap()).unwrap();
    let mut text = [0; 5];
    let told = sysv::msgrcv(&mut queue.unwrap(), &mut text, 0, 0).unwrap_err();
    assert_eq!(told.kind(), ErrorKind::NotConnected);
}

#[test]
fn a_message_that_is_too_long_for_who_asks_is_there_for_others_all_the_time() {
    let key = 0x3000_0000 | std::process::id() as i32;
    let mut queue = sysv::msgget(key, sysv::IPC_CREAT | 0o600).unwrap();
    sysv::msgsnd(&mut queue, 1, b"longer than five", 0).unwrap();
    let ask = |queue: &mut sysv::Queue| {
        let refused = sysv::msgrcv(queue, &mut [0; 5], 0, sysv::IPC_NOWAIT).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ArgumentListTooLong, "{refused}");
    };
    thread::scope(|threads| {
        threads.spawn(|| {
            let mut other = sysv::msgget(key, 0).unwrap();
            (0..20_000).for_each(|_| ask(&mut other));
        });
        (0..20_000).for_each(|_| ask(&mut queue));
    });
    let mut mailbox = ringpost::mailbox(&format!("sysv.{key:08x}")).unwrap();
    let letter = mailbox.try_recv(ringpost::Pick::Any).unwrap();
    assert_eq!((letter.to_vec(), letter.tries()), (b"longer than five".to_vec(), 0));
    sysv::remove(queue).unwrap();
}

#[test]
fn the_shapes_of_both_kinds_of_queues_say_what_their_manuals_say() {
    let key = std::process::id() as i32;
    assert_eq!(sysv::msgget(key, 0).unwrap_err().kind(), ErrorKind::NotFound);
    let mut queue = sysv::msgget(key, sysv::IPC_CREAT | 0o600).unwrap();
    let again = sysv::msgget(key, sysv::IPC_CREAT | sysv::IPC_EXCL | 0o600).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    let mut other = sysv::msgget(key, 0).unwrap();
    sysv::msgsnd(&mut queue, 7, b"seven bytes and more", sysv::IPC_NOWAIT).unwrap();
    assert_eq!(sysv::msgsnd(&mut queue, 0, b"", 0).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(sysv::msgsnd(&mut queue, 1 << 16, b"", 0).unwrap_err().kind(), ErrorKind::InvalidInput);
    let mut text = [0; 5];
    let short = sysv::msgrcv(&mut other, &mut text, 0, sysv::IPC_NOWAIT).unwrap_err();
    assert_eq!((short.kind(), sysv::stat(&queue).msg_qnum), (ErrorKind::ArgumentListTooLong, 1));
    let none = sysv::msgrcv(&mut other, &mut text, 6, sysv::IPC_NOWAIT).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::WouldBlock);
    let cut = sysv::msgrcv(&mut other, &mut text, 7, sysv::IPC_NOWAIT | sysv::MSG_NOERROR).unwrap();
    assert_eq!((cut, &text), ((7, 5), b"seven"));
    sysv::remove(queue).unwrap();
    assert_eq!(sysv::msgsnd(&mut other, 1, b"", 0).unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(sysv::msgrcv(&mut other, &mut text, 0, 0).unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(sysv::msgget(key, 0).unwrap_err().kind(), ErrorKind::NotFound);

    let name = format!("/test-{}", std::process::id());
    assert_eq!(posix::mq_open(&name, posix::O_RDWR, 0, None).unwrap_err().kind(), ErrorKind::NotFound);
    let flags = posix::O_RDWR | posix::O_CREAT | posix::O_EXCL | posix::O_NONBLOCK;
    let mut queue = posix::mq_open(&name, flags, 0o600, None).unwrap();
    assert_eq!(posix::mq_open(&name, flags, 0o600, None).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(posix::mq_open("no-slash", flags, 0o600, None).unwrap_err().kind(), ErrorKind::InvalidInput);
    for (length, kind) in [(243, ErrorKind::NotFound), (244, ErrorKind::InvalidInput)] {
        let long = format!("/{}", "n".repeat(length));
        assert_eq!(posix::mq_open(&long, posix::O_RDWR, 0, None).unwrap_err().kind(), kind, "{length}");
    }
    let both = posix::mq_open(&name, posix::O_WRONLY | posix::O_RDWR, 0, None).unwrap_err();
    assert_eq!(both.kind(), ErrorKind::InvalidInput, "neither of the three");
    let mut reader = posix::mq_open(&name, posix::O_RDONLY, 0, None).unwrap();
    assert_eq!(posix::mq_send(&mut reader, b"", 0).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(posix::mq_send(&mut queue, b"", 32).unwrap_err().kind(), ErrorKind::InvalidInput);
    for priority in [3, 9, 3] {
        posix::mq_send(&mut queue, &[priority], priority).unwrap();
    }
    let attributes = posix::mq_getattr(&queue);
    assert_eq!((attributes.mq_curmsgs, attributes.mq_maxmsg, attributes.mq_msgsize), (3, 16, 8192));
    let mut text = vec![0; 8192];
    assert_eq!(posix::mq_receive(&mut reader, &mut text[1..]).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(posix::mq_receive(&mut reader, &mut text).unwrap(), (1, 9));
    (0..15).for_each(|_| posix::mq_send(&mut queue, b"full", 0).unwrap_or(()));
    assert_eq!(posix::mq_send(&mut queue, b"", 0).unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut writer = posix::mq_open(&name, posix::O_WRONLY, 0, None).unwrap();
    let timed_out = posix::mq_timedsend(&mut writer, b"", 0, Duration::from_millis(1)).unwrap_err();
    assert_eq!(timed_out.kind(), ErrorKind::TimedOut);
    posix::mq_unlink(&name).unwrap();
    assert_eq!(posix::mq_unlink(&name).unwrap_err().kind(), ErrorKind::NotFound);
    let far = posix::mq_timedreceive(&mut reader, &mut text, FAR).unwrap();
    assert_eq!(far, (1, 3));
    posix::mq_timedsend(&mut writer, b"later", 0, FAR).unwrap();
    while posix::mq_timedreceive(&mut reader, &mut text, Duration::from_millis(1)).is_ok() {}
    let timed_out = posix::mq_timedreceive(&mut reader, &mut text, Duration::from_millis(1)).unwrap_err();
    assert_eq!(timed_out.kind(), ErrorKind::TimedOut);
}
