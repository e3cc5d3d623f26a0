//! Large payloads: from which length on is it cheaper to hand over a region than to copy in and out of the ring?

use crate::{
    other::{self, Other},
    print_table, take_turns,
};
use ringpost::{Duplex, RegionMut};
use std::{env, time::Instant};

const LENGTHS: [usize; 6] = [4 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];
/// The payloads of a turn have so many bytes together, within limits.
const BYTES: usize = 512 << 20;

const LINE: usize = 64;

#[derive(Clone, Copy)]
enum Way {
    Copied,
    New,
    Again,
}

const WAYS: [(&str, Way); 3] = [
    ("copied in and out of the ring", Way::Copied),
    ("a region made and filled for each", Way::New),
    ("one region, sent again and again", Way::Again),
];

fn payloads(length: usize) -> usize {
    (BYTES / length).clamp(32, 4000)
}

/// Reads a word of each line.
fn sum(payload: &[u8]) -> u64 {
    payload.chunks(LINE).map(|line| u64::from(line[0])).sum()
}

/// In the other process.
pub fn send(role: &[String]) {
    other::pin(1);
    let (way, length) = (WAYS[role[0].parse::<usize>().unwrap()].1, role[1].parse().unwrap());
    let mut link = ringpost::connect_duplex(&role[2]).unwrap();
    let mut buffer = vec![0; length];
    let filled = |number: usize| {
        let mut region = RegionMut::new(length).unwrap();
        region.fill(number as u8);
        region.freeze().unwrap()
    };
    let once = filled(0);
    other::await_begin();
    for number in 0..payloads(length) {
        match way {
            Way::Copied => {
                buffer.fill(number as u8);
                link.send(&buffer).unwrap();
            }
            Way::New => link.send_region(&filled(number)).unwrap(),
            Way::Again => link.send_region(&once).unwrap(),
        }
    }
    // Until all were taken: those that are under way go with the link.
    drop(link.recv().unwrap());
}

/// Microseconds for each payload.
fn receive(mut link: Duplex, way: Way, length: usize) -> f64 {
    let mut buffer = vec![0; length];
    let start = Instant::now();
    for number in 0..payloads(length) {
        let found = match way {
            Way::Copied => {
                link.receiver.recv_into(&mut buffer).unwrap();
                sum(&buffer)
            }
            Way::New | Way::Again => sum(&link.recv().unwrap().region().unwrap()),
        };
        let byte = if let Way::Again = way { 0 } else { number as u8 };
        assert_eq!(found, u64::from(byte) * length.div_ceil(LINE) as u64);
    }
    let took = start.elapsed();
    link.send(b"taken").unwrap();
    took.as_secs_f64() * 1e6 / payloads(length) as f64
}

pub fn compare() {
    other::pin(0);
    let path = env::temp_dir().join(format!("ringpost-patterns-{}", std::process::id()));
    for length in LENGTHS {
        let ways: Vec<usize> = (0..WAYS.len()).collect();
        let measured = take_turns(&ways, |&way| {
            let capacity = (4 << 20).max(4 * length as u64);
            let listener = ringpost::unnamed().capacity(capacity).listen(&path).unwrap();
            let mut other = Other::start(format!("regions {way} {length} {}", path.display()));
            let link = listener.accept_duplex().unwrap();
            other.begin();
            receive(link, WAYS[way].1, length)
        });
        let title = format!("{} KiB, us a payload", length >> 10);
        print_table(&title, WAYS.iter().map(|(name, _)| *name).zip(measured));
    }
}
