//! A handler for each source.

use super::*;

#[test]
fn each_message_is_handled_in_order_and_each_end_once() {
    const MESSAGES: u64 = 2000;
    let host = listener();
    let prices = broadcast();
    let subscriber = prices.ring.subscriber().unwrap();
    let mut publisher = sending(&prices, "publish");
    let (sender, receiver) = linked(&host);
    let (piping, pipe) = piped();
    let counts = RefCell::new([0_u64; 3]);
    let ends = RefCell::new(Vec::new());
    let count = |number: usize, bytes: &[u8]| {
        let mut counts = counts.borrow_mut();
        assert_eq!(number_of(bytes), counts[number]);
        counts[number] += 1;
    };
    let mut dispatcher = Dispatcher::new()
        .on_with_end(
            receiver,
            |message| count(0, &message.to_vec()),
            |source: Receiver, error| ends.borrow_mut().push((source.peer().unwrap().pid, error)),
        )
        .unwrap()
        .on_with_end(
            subscriber,
            |message| count(1, &message.to_vec()),
            |_: Subscriber, error| ends.borrow_mut().push((0, error)),
        )
        .unwrap()
        .on_fd(pipe, Interest::Readable, |pipe| {
            let mut bytes = [0; 8];
            match rustix::io::read(pipe, &mut bytes).unwrap() {
                0 => ControlFlow::Break(()),
                _ => {
                    count(2, &bytes);
                    ControlFlow::Continue(())
                }
            }
        })
        .unwrap();
    let (linked, died) = (sender.id(), publisher.id());
    thread::scope(|threads| {
        threads.spawn(move || {
            for number in 0..MESSAGES {
                [&sender, &publisher, &piping].iter().for_each(|child| child.tell(number));
            }
            sender.hang_up();
            piping.hang_up();
            sender.finish();
            piping.finish();
            // Until all is sent, however slow its reader is.
            while prices.ring.statistics().receiver.messages < MESSAGES {
                thread::yield_now();
            }
            publisher.kill();
        });
        dispatcher.run().unwrap();
    });
    drop(dispatcher);
    assert_eq!(counts.into_inner(), [MESSAGES; 3]);
    let died = (0, RecvError::PeerDied { pid: died, unfinished: 0 });
    // There is no order between two sources.
    let mut ends = ends.into_inner();
    ends.sort_by_key(|&(source, _)| source);
    assert_eq!(ends, [died, (linked, RecvError::Disconnected)]);
}

#[test]
fn a_handler_that_panics_ends_the_run_and_the_next_goes_on_behind_its_message() {
    let (ring, mut sender) = local();
    let heard = RefCell::new(Vec::new());
    let handler = |message: ringpost::Message<'_, Trusted>| {
        heard.borrow_mut().push(message[0]);
        assert!(message[0] != 2, "as this test wants it");
    };
    let mut dispatcher = Dispatcher::new().on(ring.receiver().unwrap(), handler).unwrap();
    (1..=3).for_each(|number| sender.send(&[number]).unwrap());
    drop(sender);
    assert!(catch_unwind(AssertUnwindSafe(|| dispatcher.run())).is_err());
    assert_eq!(*heard.borrow(), [1, 2]);
    dispatcher.run().unwrap();
    assert_eq!(*heard.borrow(), [1, 2, 3]);
}

#[test]
fn a_panic_when_a_source_has_ended_loses_no_other_handler() {
    let ((first, ending), (second, mut going_on)) = (local(), local());
    let heard = RefCell::new(Vec::new());
    let mut dispatcher = Dispatcher::new()
        .on_with_end(first.receiver().unwrap(), |_| {}, |_, _| panic!("as this test wants it"))
        .unwrap()
        .on_with_end(
            second.receiver().unwrap(),
            |message| heard.borrow_mut().push(message[0]),
            |_, _| heard.borrow_mut().push(0),
        )
        .unwrap();
    drop(ending);
    assert!(catch_unwind(AssertUnwindSafe(|| dispatcher.run())).is_err());
    (1..=3).for_each(|number| going_on.send(&[number]).unwrap());
    drop(going_on);
    // Far more turns than there is to do: what has no handler would be named without end.
    assert!((0..1000).any(|_| !dispatcher.turn().unwrap()), "it never ends");
    drop(dispatcher);
    assert_eq!(heard.into_inner(), [1, 2, 3, 0]);
}

#[test]
fn stop_ends_a_run_that_sleeps_and_the_next_one_goes_on() {
    for with_pipe in [false, true] {
        let (ring, mut sender) = local();
        let (_near, far) = UnixStream::pair().unwrap();
        let heard = RefCell::new(0);
        let mut dispatcher =
            Dispatcher::new().on(ring.receiver().unwrap(), |_| *heard.borrow_mut() += 1).unwrap();
        if with_pipe {
            dispatcher = dispatcher.on_fd(far, Interest::Readable, |_| ControlFlow::Continue(())).unwrap();
        }
        let stop = dispatcher.stop();
        for round in 0..50 {
            sender.send(b"x").unwrap();
            thread::scope(|threads| {
                let stop = stop.clone();
                threads.spawn(move || {
                    if round % 2 == 0 {
                        thread::sleep(Duration::from_millis(1));
                    }
                    stop.stop();
                });
                dispatcher.run().unwrap();
            });
        }
        drop(sender);
        if with_pipe {
            // The stream stays open, so the run would not end by itself.
            while *heard.borrow() < 50 {
                assert!(dispatcher.turn().unwrap());
            }
        } else {
            dispatcher.run().unwrap();
        }
        drop(dispatcher);
        assert_eq!(heard.into_inner(), 50);
    }
}

#[test]
fn a_handler_can_stop_and_what_it_has_not_handled_stays() {
    let (ring, mut sender) = local();
    (0..10_u8).for_each(|number| sender.send(&[number]).unwrap());
    let (stop, mut heard) = (RefCell::new(None::<Stop>), Vec::new());
    let mut dispatcher = Dispatcher::new();
    *stop.borrow_mut() = Some(dispatcher.stop());
    let key = dispatcher
        .add(
            ring.receiver().unwrap(),
            |message| {
                heard.push(message[0]);
                if message[0] == 4 {
                    stop.borrow().as_ref().unwrap().stop();
                }
            },
            |_, _| {},
        )
        .unwrap();
    dispatcher.run().unwrap();
    let mut receiver = dispatcher.remove(key).unwrap();
    assert!(dispatcher.remove(key).is_none());
    assert!(!dispatcher.turn().unwrap(), "no source is left");
    drop(dispatcher);
    assert_eq!(heard, [0, 1, 2, 3, 4]);
    assert_eq!(receiver.recv().unwrap()[0], 5);
}

#[test]
fn after_a_stop_no_other_source_is_handled() {
    let (first, second) = (local(), local());
    let stop = RefCell::new(None::<Stop>);
    let others = RefCell::new(0);
    let mut dispatcher = Dispatcher::new()
        .on(first.0.receiver().unwrap(), |_| stop.borrow().as_ref().unwrap().stop())
        .unwrap()
        .on(second.0.receiver().unwrap(), |_| *others.borrow_mut() += 1)
        .unwrap();
    *stop.borrow_mut() = Some(dispatcher.stop());
    for (_, mut sender) in [first, second] {
        sender.send(b"x").unwrap();
    }
    dispatcher.run().unwrap();
    assert_eq!(*others.borrow(), 0);
    dispatcher.run().unwrap();
    assert_eq!(*others.borrow(), 1);
}

#[test]
fn a_descriptor_whose_handler_breaks_is_dropped() {
    let (mut near, far) = UnixStream::pair().unwrap();
    near.write_all(b"xyz").unwrap();
    let mut heard = Vec::new();
    let mut dispatcher = Dispatcher::new()
        .on_fd(far, Interest::Readable, |far| {
            let mut byte = [0];
            far.read_exact(&mut byte).unwrap();
            heard.push(byte[0]);
            if byte == *b"y" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    dispatcher.run().unwrap();
    assert!(near.write_all(b"x").is_err(), "the other end is closed");
    drop(dispatcher);
    assert_eq!(heard, b"xy");
}

#[test]
fn one_that_is_full_says_how_many_it_has() {
    let most = 126;
    let mut dispatcher = Dispatcher::new();
    let receiver = || {
        let ring = ringpost::unnamed().capacity(1).in_process().unwrap();
        ring.receiver().unwrap()
    };
    for _ in 0..most {
        dispatcher.add(receiver(), |_| (), |_, _| ()).unwrap();
    }
    assert_eq!(dispatcher.add(receiver(), |_| (), |_, _| ()).unwrap_err(), SelectError::TooMany { most });
}
