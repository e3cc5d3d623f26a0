//! Regions of calls that were given up, or found no room.

use super::*;

/// An answer of a method that has panicked, which needs no result.
const PANICKED: u16 = 4;

#[test]
fn a_call_that_finds_no_room_sends_no_region() {
    let place = Place::new();
    let server = place.server("serve", "");
    let mut client = PairsClient::bind(Binding::path(&*place)).unwrap();
    server.stop();
    client.client.set_timeout(Some(Duration::from_millis(10)));
    // They stay in the ring.
    while client.count(vec![0; 5000]).unwrap_err().done() == Done::Perhaps {}
    let memory = region(1);
    let given = fs::metadata(format!("/proc/self/fd/{}", memory.as_fd().as_raw_fd())).unwrap();
    let error = client.label(memory, "longer".repeat(1000).into()).unwrap_err();
    assert!(matches!(error, CallError::TimedOut { done: Done::No }), "{error}");
    server.resume();
    // The server would have taken it up by then.
    thread::sleep(Duration::from_millis(200));
    assert_eq!(holds(server.id(), &given), 0, "the server keeps it until the next call");
    client.client.set_timeout(Some(FAR));
    assert_eq!(client.length(region(2)).unwrap(), 5000);
}

#[test]
fn a_call_with_a_region_takes_the_answers_that_the_server_can_not_get_rid_of() {
    let place = Place::new();
    let (given_up, may_answer) = mpsc::channel();
    let accepting = accept_each(&place, move |_, mut link| {
        link.sender.send_kind(WELCOME, &[]).unwrap();
        drop(link.recv().unwrap());
        may_answer.recv_timeout(FAR).unwrap();
        // Of the first call, as long as there is room, and then once more, for which it waits. The second lies there.
        for length in [4096, 16] {
            while let Ok(mut room) = link.sender.try_reserve(length) {
                room.write_at(0, [1u64, 0].as_bytes());
                room.set_kind(PANICKED);
                room.commit();
            }
        }
        link.sender.send_kind(PANICKED, [1u64, 0].as_bytes()).unwrap();
        // The second, and the third with its region.
        (0..3).for_each(|_| drop(link.recv().unwrap()));
        link.sender.send_kind(PANICKED, [3u64, 0].as_bytes()).unwrap();
        let _ = link.recv();
    });
    let mut client = PairsClient::bind(Binding::path(&*place)).unwrap();
    client.client.set_timeout(Some(Duration::from_millis(100)));
    for _ in 0..2 {
        let error = client.nothing().unwrap_err();
        assert!(matches!(error, CallError::TimedOut { done: Done::Perhaps }), "{error}");
    }
    given_up.send(()).unwrap();
    client.client.set_timeout(Some(FAR));
    let error = client.length(region(1)).unwrap_err();
    assert!(matches!(error, CallError::Refused(Refusal::Panicked)), "{error}");
    drop(client);
    links_of(accepting, &place);
}

#[test]
fn no_region_is_kept_of_an_answer_that_came_too_late() {
    let place = Place::new();
    let (late, may_answer) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let accepting = accept_each(&place, move |_, mut link| {
        link.sender.send_kind(WELCOME, &[]).unwrap();
        // Of the first call with its regions, and of the second.
        (0..4).for_each(|_| drop(link.recv().unwrap()));
        may_answer.recv_timeout(FAR).unwrap();
        let memory = region(3);
        tell.send(fs::metadata(format!("/proc/self/fd/{}", memory.as_fd().as_raw_fd())).unwrap()).unwrap();
        link.send_region(&memory).unwrap();
        drop(memory);
        for (outcome, number, regions) in [(0, 1u64, 1u64), (PANICKED, 2, 0)] {
            link.sender.send_kind(outcome, [number, regions].as_bytes()).unwrap();
        }
        let _ = link.recv();
    });
    let mut client = PairsClient::bind(Binding::path(&*place)).unwrap();
    client.client.set_timeout(Some(Duration::from_millis(100)));
    let error = client.join(region(1), region(2)).unwrap_err();
    assert!(matches!(error, CallError::TimedOut { done: Done::Perhaps }), "{error}");
    late.send(()).unwrap();
    client.client.set_timeout(Some(FAR));
    assert!(matches!(client.nothing(), Err(CallError::Refused(Refusal::Panicked))));
    assert_eq!(
        holds(std::process::id(), &told.recv().unwrap()),
        0,
        "the client keeps it until the next answer"
    );
    drop(client);
    links_of(accepting, &place);
}
