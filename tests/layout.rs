//! Holds `docs/LAYOUT.md` to what a real segment contains.

use std::{fs::File, os::unix::fs::FileExt};

const LAYOUT: &str = include_str!("../docs/LAYOUT.md");
const KEY: u64 = 0x0123_4567_89ab_cdef;

fn file_of(ring: &ringpost::Ring) -> File {
    ring.fd().unwrap().try_clone_to_owned().unwrap().into()
}

fn bytes<const N: usize>(file: &File, offset: u64) -> [u8; N] {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

fn u64_at(file: &File, offset: u64) -> u64 {
    u64::from_ne_bytes(bytes(file, offset))
}

fn u32_at(file: &File, offset: u64) -> u32 {
    u32::from_ne_bytes(bytes(file, offset))
}

fn hex_dump(bytes: &[u8]) -> String {
    let line = |(number, line): (usize, &[u8])| {
        let half = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
        let (first, second) = line.split_at(line.len().min(8));
        let text = |&byte: &u8| if (32..127).contains(&byte) { byte as char } else { '.' };
        let text: String = line.iter().map(text).collect();
        format!("{:08x}  {:<24} {:<24} |{text}|\n", number * 16, half(first), half(second))
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

#[test]
fn one_message_is_the_hex_dump_of_the_document() {
    let ring = ringpost::unnamed().many_senders(3).memfd().unwrap();
    ring.multi_sender().unwrap().send_kind(7, b"hello").unwrap();
    let file = file_of(&ring);
    let control_length = u32_at(&file, 32).into();
    let mut record = bytes::<24>(&file, control_length);
    let tag = u64_at(&file, control_length) ^ u64_at(&file, 56) ^ KEY;
    record[..8].copy_from_slice(&tag.to_ne_bytes());
    let dump = hex_dump(&record);
    assert!(LAYOUT.contains(&dump), "docs/LAYOUT.md should show\n{dump}");
}

#[test]
fn the_words_of_a_broadcast_lie_where_the_document_says() {
    let ring = ringpost::unnamed().capacity(4096).broadcast(3).memfd().unwrap();
    let (mut publisher, first) = (ring.publisher().unwrap(), ring.subscriber().unwrap());
    drop(first);
    let mut reader = ring.subscriber().unwrap();
    let file = file_of(&ring);
    assert_eq!((u32_at(&file, 16), u32_at(&file, 36)), (3, 3), "one sender, three readers");
    for _ in 0..200 {
        publisher.try_send(&[1; 8]).unwrap();
        drop(reader.recv().unwrap());
    }
    let (receiver_area, slot) = (4096, 8704);
    assert_eq!(u64_at(&file, receiver_area), 600, "the end of the last record");
    assert_eq!(u64_at(&file, receiver_area + 256) & 3, 1, "the sender holds the one place");
    assert_eq!(u64_at(&file, receiver_area + 264), 200, "messages sent");
    let entry = receiver_area + 392 + 16 * (u64_at(&file, receiver_area + 384) & 1);
    let (floor, number) = (u64_at(&file, entry), u64_at(&file, entry + 8));
    assert_eq!(floor, 3 * number);
    assert!((600 - 512..600 - 512 + 512 / 16 + 3).contains(&floor), "the oldest of 512 units: {floor}");
    assert_eq!(u64_at(&file, receiver_area + 424), 0, "nobody has crashed");
    assert_eq!(u64_at(&file, slot + 32), 600 << 8 | 2, "all is released, the slot was taken twice");
}

#[test]
fn the_words_lie_where_the_document_says() {
    let ring = ringpost::unnamed().capacity(8192).longest_message(100).many_senders(3).memfd().unwrap();
    let (first, mut second) = (ring.multi_sender().unwrap(), ring.multi_sender().unwrap());
    drop(first);
    let mut receiver = ring.receiver().unwrap();
    second.send(&[1; 20]).unwrap();
    drop(receiver.recv().unwrap());
    second.send(&[2; 4]).unwrap();
    let file = file_of(&ring);

    assert_eq!(&bytes::<8>(&file, 0), b"RINGPOST");
    assert_eq!((u32_at(&file, 8), u32_at(&file, 12)), (1, 0x0a0b_0c0d));
    assert_eq!((u32_at(&file, 16), u32_at(&file, 20) & 1), (2, 1), "many senders, mirrored");
    assert_eq!((u64_at(&file, 24), u32_at(&file, 36), u32_at(&file, 40)), (8192, 3, 100));
    let page = u32_at(&file, 44);
    assert_eq!(u32_at(&file, 32), (8704 + 3 * 256u32).next_multiple_of(page));
    assert_eq!(file.metadata().unwrap().len(), u32_at(&file, 32) as u64 + 8192);
    let sum = bytes::<120>(&file, 0)
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum: u64, &byte| (sum ^ byte as u64).wrapping_mul(0x0100_0000_01b3));
    assert_eq!(u64_at(&file, 120), sum);

    let pid = u64::from(std::process::id());
    let (receiver_area, senders_area, slot) = (4096, 8192, |number: u64| 8704 + 256 * (number - 1));
    assert_eq!(u64_at(&file, receiver_area), 2 + 3, "position: header and 20 bytes");
    let claim = |offset| (u64_at(&file, offset) & 3, u64_at(&file, offset) >> 8 & ((1 << 22) - 1));
    assert_eq!(claim(receiver_area + 256), (1, pid));
    assert_eq!(u64_at(&file, receiver_area + 264), 1, "messages received");
    assert_eq!(u64_at(&file, senders_area), (5 + 3) << 8 | 2, "tail: both records, slot 2");
    assert_eq!(u32_at(&file, senders_area + 140), 1, "closings");
    assert_eq!((claim(slot(1)), claim(slot(2)), claim(slot(3))), ((2, pid), (1, pid), (0, 0)));
    assert_eq!((u64_at(&file, slot(2) + 8), u64_at(&file, slot(2) + 16)), (5 << 8 | 2, 8), "intent");
    assert_eq!(
        (u64_at(&file, slot(2) + 128), u64_at(&file, slot(2) + 136)),
        (2, 24),
        "messages and bytes sent"
    );
}
