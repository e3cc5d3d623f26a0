//! Words that somebody else has written.

use super::*;

/// Whatever stands in the words that others can write, nobody panics, hangs or reads outside the ring.
#[test]
fn hostile_words_give_errors_and_no_panic() {
    let rounds = if common::long() { 20_000 } else { 400 };
    for round in 0..rounds {
        let ring = ringpost::unnamed().capacity(4096).longest_message(512).broadcast(3).memfd().unwrap();
        let file: File = ring.fd().unwrap().try_clone_to_owned().unwrap().into();
        let mut publisher = ring.publisher().unwrap();
        let mut readers = [Start::Now, Start::Oldest].map(|start| ring.subscriber_from(start).unwrap());
        let mut watcher = ring.watcher(Start::Oldest).unwrap();
        (0..10).for_each(|_| publisher.try_send(&[7; 100]).unwrap());
        let mut chance = scatter(round);
        for _ in 0..40 {
            damage(&file, &mut chance);
            let length = chance as usize % 513;
            let soon = Duration::from_micros(10);
            let _ = publisher.try_send(&vec![1; length]);
            let _ = publisher.send_timeout(&vec![2; length], soon);
            let _ = publisher.slowest();
            for reader in &mut readers {
                let _ = reader.try_recv().map(|message| message.to_vec());
                let _ = reader.recv_timeout(soon).map(|message| (message.to_vec(), message.sender()));
                let _ = reader.lag();
            }
            let _ = (watcher.try_recv(), watcher.recv_timeout(soon), watcher.lag());
            for start in [Start::Now, Start::Oldest, Start::Last(chance % 5)] {
                let _ =
                    ring.subscriber_from(start).map(|mut reader| reader.try_recv().map(|one| one.to_vec()));
                let _ = ring.watcher(start).map(|mut watcher| watcher.try_recv());
            }
            let _ = ring.statistics();
        }
        drop(publisher);
        let _ = ring.publisher().map(|mut publisher| publisher.try_send(b"once more"));
    }
}

/// Writes a word that matters, or any other, with a value that may be near to what is right.
fn damage(file: &File, chance: &mut u64) {
    let mut draw = |most: u64| {
        *chance = scatter(*chance);
        *chance % most
    };
    let (receiver, slots) = (4096, 8704);
    let offset = match draw(10) {
        0 => receiver,
        1 => receiver + 384 + 8 * draw(5),
        2 => receiver + 128 + 8 * draw(3),
        3 => 8192 + 128 + 8 * draw(3),
        4 => slots + 256 * draw(3),
        5 | 6 => slots + 256 * draw(3) + 32,
        7 => receiver + 256,
        _ => 12288 + 8 * draw(512),
    };
    let mut word = [0; 8];
    file.read_exact_at(&mut word, offset).unwrap();
    let word = u64::from_ne_bytes(word);
    let value = match draw(6) {
        0 => draw(u64::MAX),
        1 => word.wrapping_add(draw(64)),
        2 => word.wrapping_sub(draw(64)),
        3 => word ^ 1 << draw(64),
        4 => word.wrapping_add(draw(1 << 18)),
        _ => 0,
    };
    file.write_all_at(&value.to_ne_bytes(), offset).unwrap();
}
