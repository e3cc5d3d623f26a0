//! One receiver or sender more than there are places.

use super::*;

#[test]
fn a_second_receiver_is_told_who_the_first_is_and_a_second_sender_too() {
    let scene = Scene::new();
    let name = Name::new();
    let ring = builder(&*name).capacity(4096).create().unwrap();
    for place in ["receiver", "sender"] {
        let mut holder = Child::start(&format!("hold {place} {}", &*name));
        holder.hear();
        if place == "receiver" {
            assert_error!(
                scene.refused(|| ring.receiver()),
                OpenError::ReceiverAttached { pid } if *pid == holder.id(),
                format!("process {}", holder.id()), "one at a time"
            );
        } else {
            assert_error!(
                scene.refused(|| ring.sender()),
                OpenError::SenderAttached { pid } if *pid == holder.id(),
                format!("process {}", holder.id()), "`many_senders` takes several"
            );
        }
        holder.kill();
    }
    // Both are dead now, and their places free.
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let pid = std::process::id();
    assert_error!(scene.refused(|| ring.sender()), OpenError::SenderAttached { .. }, pid);
    assert_error!(scene.refused(|| ring.receiver()), OpenError::ReceiverAttached { .. }, pid);
    sender.send(b"still here").unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"still here");
}

#[test]
fn one_sender_too_many_is_told_how_many_there_can_be() {
    let scene = Scene::new();
    let ring = scene.builder("ring").many_senders(2).create().unwrap();
    let (first, mut second) = (ring.multi_sender().unwrap(), ring.multi_sender().unwrap());
    assert_error!(
        scene.refused(|| ring.multi_sender()),
        OpenError::TooManySenders { most: 2 },
        "all 2 sender slots"
    );
    let mut clone = second.clone();
    assert_error!(
        scene.refused(|| clone.send(b"x")),
        SendError::TooManySenders { most: 2 },
        "all 2 sender slots"
    );
    second.send(b"x").unwrap();
    drop(first);
    ring.multi_sender().unwrap().send(b"y").unwrap();
    let mut receiver = ring.receiver().unwrap();
    let received: Vec<_> = receiver.try_iter().map(|message| message.to_vec()).collect();
    assert_eq!(received, [b"x", b"y"]);
}

#[test]
fn who_comes_to_another_kind_of_ring_is_told_which_kind_it_is() {
    let scene = Scene::new();
    let place = builder("ring").directory(&scene.directory);
    let mailbox = place.clone().mailbox(4).create().unwrap();
    let found = "kind of ring: the ring has a mailbox";
    assert_error!(scene.refused(|| mailbox.receiver()), OpenError::Mismatch { .. }, found, "one receiver");
    let broadcast = place.broadcast(2);
    assert_error!(scene.refused(|| broadcast.open()), OpenError::Mismatch { .. }, found, "up to 2 readers");
}
