//! Readers for which nobody waits: each message comes whole or is counted as missed.

use super::*;

#[test]
fn a_watcher_is_told_exactly_how_many_it_missed() {
    let (shared, stream) = (ring(1), stream());
    let mut publisher = shared.ring.publisher().unwrap();
    let mut watcher = shared.ring.watcher(Start::Now).unwrap();
    assert_eq!(watcher.try_recv().unwrap_err(), RecvError::Empty);
    for number in 0..1000 {
        publisher.try_send(&letter(&stream, number)).unwrap();
    }
    let Err(RecvError::Missed { count }) = watcher.try_recv() else { panic!("nothing was missed") };
    for expected in count..1000 {
        assert_eq!(number(&stream, &watcher.try_recv().unwrap()), expected);
    }
    assert_eq!(watcher.try_recv().unwrap_err(), RecvError::Empty);
}

/// What a watcher got and missed until the end.
fn watch_to_the_end(mut watcher: Watcher, stream: &Stream) -> (u64, u64) {
    let (mut received, mut missed) = (0, 0);
    loop {
        match seen(&mut watcher, stream) {
            Ok(number) => {
                assert_eq!(number, received + missed, "the next one, or what was missed was told");
                received += 1;
            }
            Err(RecvError::Missed { count }) => {
                assert!(count > 0);
                missed += count;
            }
            Err(RecvError::Disconnected) => return (received, missed),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn watchers_of_a_sender_at_full_speed_get_each_message_whole_or_counted() {
    let messages = if common::long() { 50_000_000 } else { 1_000_000 };
    let (shared, stream) = (ring(1), stream());
    let publisher = child_at(&shared, "publish", &messages.to_string());
    assert_eq!(publisher.hear(), 0);
    let name = shared.invite().word.split_off("name:".len());
    let watchers = [
        shared.ring.watcher(Start::Now).unwrap(),
        shared.ring.watcher(Start::Oldest).unwrap(),
        ringpost::builder(name).watch(Start::Now).unwrap(),
    ];
    publisher.tell(0);
    assert_eq!(publisher.hear(), messages / 2, "nobody reads so far");
    publisher.tell(0);
    thread::scope(|scope| {
        let watching = watchers.map(|watcher| scope.spawn(|| watch_to_the_end(watcher, &stream)));
        for watching in watching {
            let (received, missed) = watching.join().unwrap();
            assert_eq!(received + missed, messages);
            assert!(received > 0 && missed > messages / 3, "{received} received, {missed} missed");
        }
    });
    publisher.finish();
}

#[test]
fn a_watcher_needs_no_permission_to_write() {
    let (shared, stream) = (ring(1), stream());
    let name = shared.invite().word.split_off("name:".len());
    fs::set_permissions(shared.ring.path().unwrap(), Permissions::from_mode(0o444)).unwrap();
    let mut publisher = shared.ring.publisher().unwrap();
    let watcher = Child::start(&format!("watch-to-read {name}"));
    assert_eq!(watcher.hear(), 0);
    let mut late = ringpost::builder(&name).watch(Start::Oldest).unwrap();
    for number in 0..20 {
        publisher.send(&letter(&stream, number)).unwrap();
    }
    (0..20).for_each(|number| assert_eq!(watcher.hear(), number));
    (0..20).for_each(|number| assert_eq!(seen(&mut late, &stream), Ok(number)));
    assert_eq!(late.try_recv().unwrap_err(), RecvError::Empty);
    let start = Instant::now();
    assert_eq!(late.recv_timeout(Duration::from_millis(20)).unwrap_err(), RecvError::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(20));
    drop(publisher);
    assert_eq!(seen(&mut late, &stream), Err(RecvError::Disconnected));
    watcher.finish();
}

#[test]
fn a_watcher_learns_of_the_death_of_the_sender_and_goes_on_with_the_next() {
    let (shared, stream) = (ring(1), stream());
    let name = shared.invite().word.split_off("name:".len());
    let mut publisher = child_at(&shared, "publish-on", "0 0");
    assert_eq!((publisher.hear(), publisher.hear() > 0), (0, true));
    let mut watchers =
        [shared.ring.watcher(Start::Oldest).unwrap(), ringpost::builder(name).watch(Start::Oldest).unwrap()];
    publisher.kill();
    let named = watchers.each_mut().map(|watcher| {
        loop {
            match seen(watcher, &stream) {
                Ok(_) | Err(RecvError::Missed { .. }) => {}
                Err(RecvError::PeerDied { pid, .. }) => break pid,
                Err(other) => panic!("{other}"),
            }
        }
    });
    assert_eq!(named, [publisher.id(); 2]);
    shared.ring.publisher().unwrap().send(&letter(&stream, 7)).unwrap();
    for watcher in &mut watchers {
        assert_eq!(seen(watcher, &stream), Ok(7));
        assert_eq!(seen(watcher, &stream), Err(RecvError::Disconnected));
    }
}

#[test]
fn a_watchers_buffer_that_is_too_small_leaves_the_message_where_it_is() {
    let shared = ring(1);
    let mut publisher = shared.ring.publisher().unwrap();
    let mut watcher = shared.ring.watcher(Start::Now).unwrap();
    publisher.send(b"nine byte").unwrap();
    let mut buffer = [0; 16];
    assert_eq!(watcher.recv_into(&mut buffer[..8]), Err(RecvError::BufferTooSmall { length: 9 }));
    assert_eq!(watcher.recv_into(&mut buffer), Ok(9));
    assert_eq!(&buffer[..9], b"nine byte");
}
