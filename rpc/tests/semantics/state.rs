//! Whose a durable state is.

use super::*;

#[test]
fn two_servers_never_share_a_state_and_another_state_is_refused() {
    let world = World::new();
    let mut server = world.start("durable", None);
    world.bind(Semantics::ExactlyOnce).have(1).unwrap();
    let path = world.0.join("state");
    let open = || Durable::open::<EffectsInterface>(&path, &InState::default());
    assert!(matches!(open(), Err(DurableError::InUse)));
    server.kill();
    assert_eq!(open().unwrap().state().all, 1);
    let other = Durable::open::<EffectsInterface>(&path, &0u64);
    assert!(matches!(other, Err(DurableError::Mismatch)));
    let whole = fs::read(&path).unwrap();
    // Shorter, and longer, than it should be; or another magic; or a head of another interface.
    for (at, length) in [(0, 64), (0, whole.len() + 8), (0, whole.len()), (8, whole.len())] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        damaged.resize(length, 0);
        fs::write(&path, damaged).unwrap();
        assert!(matches!(open(), Err(DurableError::Mismatch)), "{length} bytes, other at {at}");
    }
}

#[test]
fn a_server_that_has_forked_leaves_its_name_and_its_state_to_its_successor() {
    let world = World::new();
    let mut server = world.start("forking", None);
    let mut client = world.bind(Semantics::ExactlyOnce);
    client.client.set_timeout(Some(FAR / 6));
    assert_eq!(client.have(1).unwrap(), 1);
    server.kill();
    // Its child has all that it had.
    let mut successor = world.start("durable", None);
    assert_eq!(client.have(1).unwrap(), 2);
    let open = || Durable::open::<EffectsInterface>(world.0.join("state"), &InState::default());
    assert!(matches!(open(), Err(DurableError::InUse)), "it is the successor's now");
    server.tell(7);
    assert_eq!(server.hear(), 7, "the child goes on");
    server.hang_up();
    assert_eq!(server.next(), None);
    assert!(matches!(open(), Err(DurableError::InUse)), "also when the child is gone");
    successor.kill();
    let _last = world.start("durable", None);
    assert_eq!(client.have(1).unwrap(), 3);
}

#[test]
fn a_state_is_of_the_process_that_has_opened_it_and_not_of_its_child() {
    let world = World::new();
    let mut owner = world.start("inherited", None);
    let open = || Durable::open::<EffectsInterface>(world.0.join("state"), &InState::default());
    assert!(matches!(open(), Err(DurableError::InUse)));
    owner.kill();
    let ours = open().unwrap();
    assert!(matches!(open(), Err(DurableError::InUse)), "also in one process");
    // Whoever closes the file loses one of the locks.
    fs::read(world.0.join("state")).unwrap();
    let other = Child::start(&format!("open {}", world.0.display()));
    assert_eq!(other.hear(), 1, "it is in use");
    drop(ours);
    world.start("durable", None);
}
