//! Groups: who has joined one gets what is sent to it, until it leaves.

use super::*;

/// Kinds of messages upon which a member leaves the first of its groups, and joins it again.
const LEAVE: u16 = 1;
const JOIN: u16 = 2;

/// Is in both groups; tells the number of each message, and of which group it is.
pub fn member(groups: [Ring; 2], stream: &Stream, line: &Line) {
    let mut select = Select::new();
    let mut keys = groups.each_ref().map(|group| select.add(group.subscriber().unwrap()).unwrap());
    line.tell(0);
    while !select.is_empty() {
        let ready = select.wait_timeout(FAR).unwrap();
        let group = keys.iter().position(|&key| ready == key).unwrap();
        let received = select[keys[group]].try_recv();
        match received.map(|message| (number(stream, &message.to_vec()), message.kind())) {
            Ok((number, kind)) => {
                match kind {
                    LEAVE => drop(select.remove(keys[0])),
                    JOIN => keys[0] = select.add(groups[0].subscriber().unwrap()).unwrap(),
                    _ => {}
                }
                line.tell(told(group, number));
            }
            Err(RecvError::Empty) => {}
            Err(RecvError::Disconnected) => drop(select.remove(keys[group])),
            Err(other) => panic!("{other}"),
        }
    }
}

fn told(group: usize, number: u64) -> u64 {
    2 * number + group as u64
}

#[test]
fn a_process_gets_what_is_sent_to_each_group_that_it_has_joined_until_it_leaves() {
    let (groups, stream) = ([ring(2), ring(2)], stream());
    let names = groups.each_ref().map(|group| group.invite().word);
    let (member, other) =
        (Child::start(&format!("member {}", names.join(" "))), child_at(&groups[1], "subscribe", ""));
    let [mut first, mut second] = groups.each_ref().map(|group| group.ring.publisher().unwrap());
    assert_eq!((member.hear(), other.hear()), (0, 0));
    first.send(&letter(&stream, 0)).unwrap();
    assert_eq!(member.hear(), told(0, 0));
    for (number, kind) in [(0, 0), (1, LEAVE)] {
        second.send_kind(kind, &letter(&stream, number)).unwrap();
        assert_eq!((member.hear(), other.hear()), (told(1, number), number));
    }
    // More than the ring holds: who has left holds nobody up.
    (1..200).for_each(|number| first.try_send(&letter(&stream, number)).unwrap());
    for (number, kind) in [(2, 0), (3, JOIN)] {
        second.send_kind(kind, &letter(&stream, number)).unwrap();
        assert_eq!((member.hear(), other.hear()), (told(1, number), number));
    }
    first.send(&letter(&stream, 200)).unwrap();
    assert_eq!(member.hear(), told(0, 200));
    drop((first, second));
    member.finish();
    other.finish();
}
