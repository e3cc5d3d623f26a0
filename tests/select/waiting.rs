//! Waiting for rings and descriptors at once.

use super::*;

#[test]
fn whichever_source_has_something_wakes_who_sleeps_on_all() {
    for (with_pipe, strategy) in [
        (false, WaitStrategy::Sleep),
        (false, WaitStrategy::SpinThenSleep),
        (true, WaitStrategy::Sleep),
        (true, WaitStrategy::SpinThenSleep),
        (true, WaitStrategy::Spin),
    ] {
        let mut select = Select::new();
        select.set_wait(strategy);
        let ring = Shared::new(Way::Pass, |builder: Builder| builder.capacity(1 << 16).many_senders(4));
        let prices = broadcast();
        let (linked, receiver) = linked(&listener());
        let link = select.add(receiver).unwrap();
        let many = select.add(ring.ring.receiver().unwrap()).unwrap();
        let subscriber = select.add(prices.ring.subscriber().unwrap()).unwrap();
        let mut senders = vec![linked, sending(&ring, "many"), sending(&prices, "publish")];
        let mut ids = vec![link.id(), many.id(), subscriber.id()];
        let pipe = with_pipe.then(|| {
            let (child, pipe) = piped();
            let key = select.add_fd(pipe, Interest::Readable).unwrap();
            senders.push(child);
            ids.push(key.id());
            key
        });
        for round in 0..200 {
            let chosen = scatter(round) as usize % senders.len();
            senders[chosen].tell(round);
            let got = loop {
                let ready = select.wait_timeout(FAR).unwrap();
                let got = if ready == link {
                    select[link].try_recv().map(|message| number_of(&message.to_vec()))
                } else if ready == many {
                    select[many].try_recv().map(|message| number_of(&message.to_vec()))
                } else if ready == subscriber {
                    select[subscriber].try_recv().map(|message| number_of(&message.to_vec()))
                } else {
                    Ok(read_number(&select[pipe.unwrap()]))
                };
                if got != Err(RecvError::Empty) {
                    assert_eq!(ready, ids[chosen]);
                    break got;
                }
            };
            assert_eq!(got, Ok(round));
        }
    }
}

#[test]
fn sources_that_are_ready_are_named_in_turn() {
    let mut rings: Vec<_> = (0..3).map(|_| local()).collect();
    let mut select = Select::new();
    let mut keys = Vec::new();
    let mut streams = Vec::new();
    let mut ids = Vec::new();
    for (ring, sender) in &mut rings {
        (0..4).for_each(|_| sender.send(b"x").unwrap());
        let key = select.add(ring.receiver().unwrap()).unwrap();
        keys.push(key);
        ids.push(key.id());
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(b"xxxx").unwrap();
        streams.push(near);
        ids.push(select.add_fd(far, Interest::Readable).unwrap().id());
    }
    let named: Vec<_> = (0..24).map(|_| select.try_wait().unwrap()).collect();
    assert_eq!(named, ids.repeat(4), "nobody has asked them yet");
    for key in keys {
        while select[key].try_recv().is_ok() {}
    }
    let named: Vec<_> = (0..6).map(|_| select.try_wait().unwrap()).collect();
    assert_eq!(named, [ids[1], ids[3], ids[5]].repeat(2));
}

#[test]
fn a_descriptor_is_named_while_a_ring_always_has_messages_and_the_other_way_round() {
    let (ring, mut sender) = local();
    let (mut near, far) = UnixStream::pair().unwrap();
    let mut select = Select::new();
    let ring = select.add(ring.receiver().unwrap()).unwrap();
    let pipe = select.add_fd(far, Interest::Readable).unwrap();
    let mut named = [0; 2];
    for _ in 0..1000 {
        while sender.try_send(&[0; 1000]).is_ok() {}
        near.write_all(b"x").unwrap();
        let ready = select.wait_timeout(FAR).unwrap();
        if ready == ring {
            drop(select[ring].try_recv().unwrap());
        } else {
            assert!(select[pipe].read(&mut [0; 9]).unwrap() > 0);
        }
        named[usize::from(ready == pipe)] += 1;
    }
    assert_eq!(named, [500; 2]);
}

#[test]
fn an_end_is_named_until_the_source_is_taken_out() {
    let (ring, sender) = local();
    let (near, far) = UnixStream::pair().unwrap();
    let mut select = Select::new();
    let ring = select.add(ring.receiver().unwrap()).unwrap();
    let stream = select.add_fd(far, Interest::Readable).unwrap();
    assert_eq!(select.try_wait(), Err(SelectError::Empty));
    drop(sender);
    let named: Vec<_> = (0..3).map(|_| select.wait_timeout(FAR).unwrap()).collect();
    assert_eq!(named, [ring.id(); 3]);
    drop(near);
    let named: Vec<_> = (0..200).map(|_| select.wait_timeout(FAR).unwrap()).collect();
    assert!(named.contains(&stream.id()));
    assert!(named.contains(&ring.id()), "although the other is always ready");
    assert_eq!(select.remove(ring).unwrap().try_recv().map(drop), Err(RecvError::Disconnected));
    assert_eq!(select.remove(stream).unwrap().read(&mut [0]).unwrap(), 0);
    assert!(select.remove(ring).is_none() && select.get_mut(stream).is_none());
    assert_eq!(select.wait(), Err(SelectError::NoSources));
}

#[test]
fn a_death_wakes_who_sleeps_on_rings_and_descriptors() {
    for with_pipe in [false, true] {
        let host = listener();
        let mut select = Select::new();
        select.set_wait(WaitStrategy::Sleep);
        let mut senders: Vec<_> = (0..3)
            .map(|_| {
                let (child, receiver) = linked(&host);
                (child, select.add(receiver).unwrap())
            })
            .collect();
        let _pipe = with_pipe.then(|| {
            let (child, pipe) = piped();
            select.add_fd(pipe, Interest::Readable).unwrap();
            child
        });
        for (child, key) in senders.iter_mut().rev() {
            thread::scope(|threads| {
                let waiting = threads.spawn(|| {
                    loop {
                        let ready = select.wait_timeout(FAR).unwrap();
                        assert!(ready == *key, "{ready:?}");
                        match select[*key].try_recv() {
                            Err(RecvError::Empty) => {}
                            other => break other.map(drop),
                        }
                    }
                });
                thread::sleep(Duration::from_millis(10));
                child.kill();
                let died = RecvError::PeerDied { pid: child.id(), unfinished: 0 };
                assert_eq!(waiting.join().unwrap(), Err(died));
            });
            select.remove(*key).unwrap();
        }
    }
}

/// The messages of processes that are killed at any moment: what they have sent is heard, and then their death.
#[test]
fn of_processes_that_are_killed_while_they_send_all_is_heard_and_then_the_death() {
    let rounds = if common::long() { 300 } else { 6 };
    let host = listener();
    for round in 0..rounds {
        let mut select = Select::new();
        let (mut near, far) = UnixStream::pair().unwrap();
        let ticks = select.add_fd(far, Interest::Readable).unwrap();
        let mut senders: Vec<_> = (0..3)
            .map(|_| {
                let (child, receiver) = linked(&host);
                (child, select.add(receiver).unwrap(), 0, false)
            })
            .collect();
        let mut open = senders.len();
        for step in 0.. {
            if step % 8 == 0 {
                near.write_all(b"x").unwrap();
            }
            let chosen = scatter(round * 1000 + step) as usize % 3;
            let (child, _, told, dead) = &mut senders[chosen];
            if !*dead && *told < 50 {
                child.tell(*told);
                *told += 1;
            } else if !*dead {
                child.kill();
                *dead = true;
            }
            if senders.iter().all(|(.., dead)| *dead) {
                break;
            }
        }
        let mut heard = [0; 3];
        while open > 0 {
            let ready = select.wait_timeout(FAR).unwrap();
            if ready == ticks {
                assert!(select[ticks].read(&mut [0; 3]).unwrap() > 0);
                continue;
            }
            let number = senders.iter().position(|(_, key, ..)| ready == *key).unwrap();
            let (child, key, ..) = &senders[number];
            match select[*key].try_recv() {
                Ok(message) => {
                    assert_eq!(number_of(&message.to_vec()), heard[number]);
                    heard[number] += 1;
                    continue;
                }
                Err(RecvError::Empty) => continue,
                Err(RecvError::PeerDied { pid, .. }) => assert_eq!(pid, child.id()),
                Err(other) => panic!("{other}"),
            }
            select.remove(*key).unwrap();
            open -= 1;
        }
    }
}

#[test]
fn waiting_ends_at_the_deadline() {
    let mut select = Select::new();
    assert_eq!(select.wait(), Err(SelectError::NoSources));
    let (ring, _sender) = local();
    let (_near, far) = UnixStream::pair().unwrap();
    let ring = select.add(ring.receiver().unwrap()).unwrap();
    let waits_in_vain = |select: &mut Select| {
        let (start, wait) = (Instant::now(), Duration::from_millis(30));
        assert_eq!(select.wait_timeout(wait), Err(SelectError::TimedOut));
        assert!(start.elapsed() >= wait);
        let deadline = Instant::now() + wait;
        assert_eq!(select.wait_deadline(deadline), Err(SelectError::TimedOut));
        assert!(Instant::now() >= deadline);
    };
    waits_in_vain(&mut select);
    select.add_fd(far, Interest::Readable).unwrap();
    waits_in_vain(&mut select);
    select.set_wait(WaitStrategy::Spin);
    waits_in_vain(&mut select);
    select.remove(ring).unwrap();
    select.set_wait(WaitStrategy::Sleep);
    waits_in_vain(&mut select);
}

#[test]
fn there_is_room_for_127_rings_and_any_number_of_descriptors() {
    let mut rings: Vec<_> = (0..128).map(|_| local()).collect();
    let mut select = Select::new();
    let mut receivers = rings.iter().map(|(ring, _)| ring.receiver().unwrap());
    let keys: Vec<_> = receivers.by_ref().take(127).map(|receiver| select.add(receiver).unwrap()).collect();
    let refused = select.add(receivers.next().unwrap()).map(|_| ());
    assert_eq!(refused, Err(SelectError::TooMany { most: 127 }));
    let (_near, far) = UnixStream::pair().unwrap();
    for _ in 0..200 {
        select.add_fd(far.try_clone().unwrap(), Interest::Readable).unwrap();
    }
    let writable = select.add_fd(far, Interest::Writable).unwrap();
    assert_eq!(select.len(), 127 + 201);
    assert!(select.wait_timeout(FAR).unwrap() == writable);
    select.remove(writable).unwrap();
    let (_, last) = &mut rings[126];
    thread::scope(|threads| {
        let waiting = threads.spawn(|| select.wait_timeout(FAR).unwrap());
        thread::sleep(Duration::from_millis(10));
        last.send(b"x").unwrap();
        assert_eq!(waiting.join().unwrap(), keys[126].id());
    });
}

/// The numbers that the kernel has given the eventfds of this process.
fn eventfds() -> Vec<String> {
    let all =
        fs::read_dir("/proc/self/fdinfo").unwrap().filter_map(|fd| fs::read_to_string(fd.ok()?.path()).ok());
    all.flat_map(|info| {
        info.lines().filter(|line| line.starts_with("eventfd-id")).map(String::from).collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn an_empty_select_that_is_forked_shares_no_wake_with_its_parent() {
    Child::start("fork-empty-select").finish();
}

/// Whoever cleared the other's eventfd would take its wake.
pub fn fork_empty_select() {
    let mut select = Select::new();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let key = select.add_fd(ours, Interest::Readable).unwrap();
    let ours = select.remove(key).unwrap();
    let (mut select, mut fd) = (Some(select), Some(ours));
    let before = eventfds();
    assert_in_fork(|| {
        let mut select = select.take().unwrap();
        select.add_fd(fd.take().unwrap(), Interest::Readable).unwrap();
        eventfds().iter().any(|own| !before.contains(own))
    });
}

#[test]
fn what_is_the_parents_is_not_waited_for_in_a_forked_child() {
    Child::start("fork-with-sources").finish();
}

/// Whoever slept there in the parent's name would take its bell, or its bed.
pub fn fork_with_sources() {
    let (ring, _sender) = local();
    let boxes = ringpost::unnamed().mailbox(4).memfd().unwrap();
    let [first, second] = [(); 2].map(|()| boxes.mailbox().unwrap());
    let mut parents = Some((ring.receiver().unwrap(), first, second));
    assert_in_fork(|| {
        let (receiver, first, second) = parents.take().unwrap();
        let (own, _silent) = local();
        let mut select = Select::new();
        let key = select.add(own.receiver().unwrap()).unwrap();
        assert!(matches!(select.add(first), Err(SelectError::Forked)));
        select[key] = receiver;
        for _ in 0..2 {
            assert_eq!(select.wait_timeout(FAR), Err(SelectError::Forked));
        }
        let refused = Readiness::new(second).unwrap().arm().map_err(|error| error.kind());
        refused == Err(std::io::ErrorKind::Unsupported)
    });
}

#[test]
fn a_source_that_was_put_in_the_place_of_another_is_waited_for() {
    for beside_a_descriptor in [false, true] {
        let (former, _silent) = local();
        let (ring, mut sender) = local();
        let mut select = Select::new();
        let key = select.add(former.receiver().unwrap()).unwrap();
        let (_near, far) = UnixStream::pair().unwrap();
        if beside_a_descriptor {
            select.add_fd(far, Interest::Readable).unwrap();
        }
        select[key] = ring.receiver().unwrap();
        thread::scope(|threads| {
            let waiting = threads.spawn(|| {
                let start = Instant::now();
                assert!(select.wait_timeout(FAR).unwrap() == key);
                start.elapsed()
            });
            thread::sleep(Duration::from_millis(50));
            sender.send(b"x").unwrap();
            assert!(waiting.join().unwrap() < FAR / 2, "it was woken");
        });
    }
}

#[test]
fn a_key_fits_its_source_alone() {
    let (ring, _sender) = local();
    let mut select = Select::new();
    let key = select.add(ring.receiver().unwrap()).unwrap();
    let mut other = Select::new();
    let (_near, far) = UnixStream::pair().unwrap();
    let stream = other.add_fd(far, Interest::Readable).unwrap();
    assert!(other.get_mut(key).is_none() && other.remove(key).is_none());
    // Neither is one of the same type, which its own value would take.
    let mut third = Select::new();
    let (second_ring, _second) = local();
    let same_type = third.add(second_ring.receiver().unwrap()).unwrap();
    assert!(key.id() != same_type);
    assert!(select.get_mut(same_type).is_none() && third.get_mut(key).is_none());
    assert!(catch_unwind(AssertUnwindSafe(|| third[key].peer())).is_err());
    assert!(third.remove(key).is_none() && third.len() == 1);
    assert!(select.get_mut(stream).is_none());
    assert!(catch_unwind(AssertUnwindSafe(|| select[stream].as_fd().try_clone_to_owned())).is_err());
    assert!(select.remove(key).is_some());
}

#[test]
fn while_nothing_comes_nobody_wakes_up_although_there_is_a_descriptor() {
    let path = Place::new();
    Child::start(&format!("idle-with-pipe {}", path.display())).finish();
}

#[test]
fn a_ring_beside_a_descriptor_is_heard_of_where_no_thread_can_be_had() {
    Child::start("no-thread").finish();
}

#[test]
fn messages_descriptors_and_a_death_are_heard_of_whatever_call_the_kernel_refuses() {
    for number in 0..REFUSALS.len() {
        let path = Place::new();
        let host = Child::start(&format!("refused {} {number}", path.display()));
        host.hear();
        let mut sender = Child::start(&format!("link {}", path.display()));
        let (near, far) = std::io::pipe().unwrap();
        host.pass(near.as_fd());
        sender.hear();
        for round in 0..20 {
            sender.tell(round);
            assert_eq!(host.hear_before_the_end(), Some(round));
            rustix::io::write(&far, &u64::to_ne_bytes(round + 100)).unwrap();
            assert_eq!(host.hear_before_the_end(), Some(round + 100));
        }
        sender.kill();
        assert_eq!(host.hear_before_the_end(), Some(sender.id().into()), "{number}");
        host.finish();
    }
}
