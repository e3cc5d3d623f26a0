//! Many senders into one ring, each in a process of its own: messages a second from 1, 2, 4 and 8 senders, and the ratio
//! to one sender. Rounds are interleaved.
//!
//! `cargo bench --bench fan_in`

use ringpost::{MultiSender, Ring, Trusted};
use std::{
    env,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::{Child, Command},
    time::Instant,
};

/// Descriptor of the ring, in a sender's environment.
const RING: &str = "RINGPOST_FAN_IN";
const MESSAGES: u64 = 2_000_000;
const ROUNDS: usize = 7;
const SENDERS: [u64; 4] = [1, 2, 4, 8];
const SIZE: usize = 64;

/// A sender: writes every byte of each message; the first word is its number.
fn send(mut sender: MultiSender<Trusted>, messages: u64) {
    for number in 0..messages {
        let mut room = sender.reserve(SIZE).unwrap();
        room.fill(number as u8);
        room[..8].copy_from_slice(&number.to_ne_bytes());
        room.commit();
    }
}

fn start(ring: &Ring<Trusted>, messages: u64) -> Child {
    let descriptor = ring.inheritable_fd().unwrap();
    let program = env::current_exe().unwrap();
    let values = format!("{} {messages}", descriptor.as_raw_fd());
    Command::new(program).env(RING, values).spawn().unwrap()
}

/// SAFETY of all uses: the memfd is known to this program and its children only.
fn trusted(ring: Ring) -> Ring<Trusted> {
    // SAFETY: nobody else has the descriptor, and all of these write through ringpost alone.
    unsafe { ring.trust_peers() }
}

/// Messages a second, by the receiver's clock from the first message to the last.
fn measure(senders: u64) -> f64 {
    let ring = trusted(ringpost::unnamed().many_senders(8).memfd().unwrap());
    let mut receiver = ring.receiver().unwrap();
    let children: Vec<_> = (0..senders).map(|_| start(&ring, MESSAGES / senders)).collect();
    let mut next = [0u64; 256];
    let mut started = None;
    for _ in 0..MESSAGES / senders * senders {
        let message = receiver.recv().unwrap();
        started.get_or_insert_with(Instant::now);
        let expected = &mut next[usize::from(message.slot())];
        assert_eq!(u64::from_ne_bytes(message[..8].try_into().unwrap()), *expected);
        *expected += 1;
    }
    let took = started.unwrap().elapsed();
    children.into_iter().for_each(|mut child| assert!(child.wait().unwrap().success()));
    MESSAGES as f64 / took.as_secs_f64()
}

fn main() {
    if let Ok(values) = env::var(RING) {
        let (descriptor, messages) = values.split_once(' ').unwrap();
        // SAFETY: the parent has made it for this child, which takes it once.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor.parse().unwrap()) };
        let ring = trusted(ringpost::unnamed().many_senders(8).from_fd(descriptor).unwrap());
        return send(ring.multi_sender().unwrap(), messages.parse().unwrap());
    }
    let mut results = SENDERS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (senders, results) in SENDERS.into_iter().zip(&mut results) {
            results.push(measure(senders));
        }
    }
    let medians = results.each_mut().map(|rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!("senders   messages/s (median, min..max of {ROUNDS})   ratio to one");
    for ((senders, rates), median) in SENDERS.into_iter().zip(&results).zip(medians) {
        let (least, most) = (rates[0] / 1e6, rates[rates.len() - 1] / 1e6);
        println!(
            "{senders:>7}   {:>6.2} M   {least:>6.2}..{most:.2} M   {:>5.2}",
            median / 1e6,
            median / medians[0]
        );
    }
}
