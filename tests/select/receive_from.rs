//! Receiving from one of many.

use super::*;

#[test]
fn the_messages_of_one_come_first_and_those_of_the_others_are_not_lost() {
    let host = listener();
    let mut lanes = Lanes::new();
    let senders: Vec<_> = (0..3)
        .map(|_| {
            let (child, receiver) = linked(&host);
            (child, lanes.add(receiver).unwrap())
        })
        .collect();
    for (child, lane) in &senders {
        let peer = lanes.peers().find(|&(_, peer)| peer.unwrap().pid == child.id());
        assert_eq!(peer.unwrap().0, *lane);
        (0..20).for_each(|number| child.tell(number));
    }
    let last = senders[2].1;
    for number in 0..20 {
        let message = lanes.recv_from_timeout(last, FAR).unwrap();
        assert_eq!(number_of(&message.to_vec()), number);
        assert_eq!(message.sender().pid, senders[2].0.id());
    }
    assert_eq!(lanes.try_recv_from(last).map(drop), Err(LanesError::Empty));
    let waiting = lanes.recv_from_timeout(last, Duration::from_millis(10)).map(drop);
    assert_eq!(waiting, Err(LanesError::TimedOut));
    let mut heard = [0; 2];
    for _ in 0..40 {
        let (lane, message) = lanes.recv_timeout(FAR).unwrap();
        let number = senders.iter().position(|&(_, other)| lane == other).unwrap();
        assert_eq!(number_of(&message.to_vec()), heard[number]);
        heard[number] += 1;
    }
    assert_eq!(heard, [20; 2]);
}

#[test]
fn the_death_of_the_one_ends_its_lane_and_no_other() {
    let host = listener();
    let mut lanes = Lanes::new();
    let (mut first, lane) = linked(&host);
    let lane = lanes.add(lane).unwrap();
    let (second, other) = linked(&host);
    let other = lanes.add(other).unwrap();
    second.tell(7);
    first.kill();
    let error = RecvError::PeerDied { pid: first.id(), unfinished: 0 };
    let deadline = Instant::now() + FAR;
    let got = lanes.recv_from_deadline(lane, deadline).map(drop);
    assert_eq!(got, Err(LanesError::Ended { lane, error }));
    assert_eq!(lanes.recv_from(lane).map(drop), Err(LanesError::NoSuchLane { lane }));
    assert_eq!(number_of(&lanes.recv_from(other).unwrap().to_vec()), 7);
}
