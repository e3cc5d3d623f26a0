//! Rings as streams of bytes: nothing is lost or doubled however it is cut, and each end learns of the other's.

mod common;

use common::{Child, Name, place::Place, stream::scatter};
use ringpost::{ByteReader, ByteWriter, RecvError, Ring};
use std::{
    io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write},
    thread,
};

/// Byte `at` of the stream that all tests send.
fn byte(at: u64) -> u8 {
    (scatter(at / 8) >> (at % 8 * 8)) as u8
}

fn bytes(from: u64, length: u64) -> Vec<u8> {
    (from..from + length).map(byte).collect()
}

fn open(name: &str) -> Ring {
    ringpost::builder(name).capacity(1 << 16).open_or_create().unwrap()
}

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        // Writes so many bytes in pieces of many lengths, says so, and ends when it is told to.
        ["write", name, total] => {
            let mut writer = ByteWriter::new(open(name).sender().unwrap());
            let total: u64 = total.parse().unwrap();
            let mut at = 0;
            while at < total {
                let length = (scatter(at) % 70_000).min(total - at);
                writer.write_all(&bytes(at, length)).unwrap();
                at += length;
            }
            writer.flush().unwrap();
            line.tell(at);
            line.hear();
        }
        // Writes for ever.
        ["write-for-ever", name] => {
            let mut writer = ByteWriter::new(open(name).sender().unwrap());
            let piece = [7; 1000];
            let error = loop {
                if let Err(error) = writer.write_all(&piece) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
            line.tell(0);
        }
        // Reads some of that, says so, and waits.
        ["read-sevens", name] => {
            let mut reader = ByteReader::new(open(name).receiver().unwrap());
            reader.read_exact(&mut [0; 500]).unwrap();
            line.tell(0);
            line.hear();
        }
        // Reads so many bytes, says so, and waits.
        ["read", name, total] => {
            let mut reader = ByteReader::new(open(name).receiver().unwrap());
            let mut read = vec![0; total.parse().unwrap()];
            reader.read_exact(&mut read).unwrap();
            assert!(read == bytes(0, read.len() as u64));
            line.tell(0);
            line.hear();
        }
        _ => panic!("no such role: {words:?}"),
    });
}

/// A ring in this process, both its ends as streams.
fn streams(capacity: u64, longest: u64) -> (ByteWriter, ByteReader) {
    let ring = ringpost::unnamed().capacity(capacity).longest_message(longest).memfd().unwrap();
    (ByteWriter::new(ring.sender().unwrap()), ByteReader::new(ring.receiver().unwrap()))
}

#[test]
fn a_stream_from_another_process_is_whole_whatever_it_is_cut_into() {
    let total = if common::long() { 200 << 20 } else { 5 << 20 };
    for lengths in [1..2, 1..100, 4000..5000, 1..200_000] {
        // Byte by byte it takes long.
        let total = if lengths.end == 2 { total / 16 } else { total };
        let name = Name::new();
        let ring = open(&name);
        let child = Child::start(&format!("write {} {total}", &*name));
        let mut reader = ByteReader::new(ring.receiver().unwrap());
        let (mut at, mut piece) = (0, vec![0; lengths.end]);
        while at < total {
            let wanted = lengths.start + scatter(at ^ 5) as usize % (lengths.end - lengths.start);
            let count = reader.read(&mut piece[..wanted]).unwrap();
            assert!((1..=wanted).contains(&count), "{count} of {wanted}");
            assert!(piece[..count] == bytes(at, count as u64), "at {at}");
            at += count as u64;
        }
        child.hear();
        child.tell(0);
        child.finish();
        assert_eq!(reader.read(&mut piece).unwrap(), 0, "the writer has closed");
        assert_eq!(reader.read(&mut piece).unwrap(), 0, "for good");
    }
}

#[test]
fn lines_are_read_over_the_boundaries_of_messages() {
    let (mut writer, reader) = streams(4096, 16);
    let writing = thread::spawn(move || {
        for number in 0..1000 {
            writeln!(writer, "line {number} of a thousand").unwrap();
        }
        write!(writer, "the last one does not end").unwrap();
    });
    let lines: Vec<_> = reader.lines().map(Result::unwrap).collect();
    writing.join().unwrap();
    assert_eq!(lines.len(), 1001);
    assert!(lines[..1000].iter().enumerate().all(|(n, line)| *line == format!("line {n} of a thousand")));
    assert_eq!(lines[1000], "the last one does not end");
}

#[test]
fn reads_of_both_kinds_can_be_mixed() {
    let (mut writer, mut reader) = streams(1 << 16, 1 << 14);
    writer.write_all(&bytes(0, 12_000)).unwrap();
    drop(writer);
    let (mut at, mut piece) = (0u64, [0; 700]);
    for round in 0.. {
        let count = if round % 2 == 0 {
            let there = reader.fill_buf().unwrap();
            assert!(there == bytes(at, there.len() as u64));
            let count = there.len().min(300);
            reader.consume(count);
            count
        } else {
            let count = reader.read(&mut piece).unwrap();
            assert!(piece[..count] == bytes(at, count as u64));
            count
        };
        at += count as u64;
        if count == 0 {
            break;
        }
    }
    assert_eq!(at, 12_000);
}

#[test]
fn messages_without_bytes_are_no_end() {
    let ring = ringpost::unnamed().capacity(4096).memfd().unwrap();
    let mut sender = ring.sender().unwrap();
    let mut reader = ByteReader::new(ring.receiver().unwrap());
    for message in [b"".as_slice(), b"a", b"", b"", b"b", b""] {
        sender.send(message).unwrap();
    }
    assert_eq!(reader.read(&mut []).unwrap(), 0);
    drop(sender);
    assert_eq!(io::read_to_string(reader).unwrap(), "ab");
}

#[test]
fn a_write_of_nothing_sends_nothing_and_one_that_is_too_long_is_cut() {
    let ring = ringpost::unnamed().capacity(4096).memfd().unwrap();
    let mut writer = ByteWriter::new(ring.sender().unwrap());
    let mut receiver = ring.receiver().unwrap();
    assert_eq!(writer.write(&[]).unwrap(), 0);
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    assert_eq!(writer.write(&[1; 5000]).unwrap(), 1024, "a quarter of the ring");
    assert_eq!(receiver.recv().unwrap().len(), 1024);
    let mut writer = BufWriter::new(writer);
    writer.write_all(b"one ").unwrap();
    writer.write_all(b"two").unwrap();
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    writer.flush().unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"one two");
}

#[test]
fn a_message_that_is_read_in_part_is_the_next_one_whole() {
    let ring = ringpost::unnamed().capacity(4096).memfd().unwrap();
    let mut sender = ring.sender().unwrap();
    let mut reader = ByteReader::new(ring.receiver().unwrap());
    sender.send(b"first").unwrap();
    sender.send(b"second").unwrap();
    reader.read_exact(&mut [0; 7]).unwrap();
    assert_eq!(reader.fill_buf().unwrap(), b"cond");
    reader.consume(2);
    let mut receiver = reader.into_inner();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"second");
}

#[test]
fn what_a_killed_reader_had_not_read_to_its_end_is_the_next_readers() {
    let name = Name::new();
    let ring = open(&name);
    let mut writer = ByteWriter::new(ring.sender().unwrap());
    (0..10).for_each(|number| writer.write_all(&bytes(number * 1000, 1000)).unwrap());
    let mut child = Child::start(&format!("read {} 3500", &*name));
    child.hear();
    child.kill();
    drop(writer);
    let mut rest = Vec::new();
    ByteReader::new(ring.receiver().unwrap()).read_to_end(&mut rest).unwrap();
    assert!(rest == bytes(3000, 7000), "from the start of the message that it had begun");
}

#[test]
fn the_death_of_the_writer_is_an_error_after_all_that_it_wrote() {
    let name = Name::new();
    let ring = open(&name);
    let mut reader = BufReader::new(ByteReader::new(ring.receiver().unwrap()));
    let mut child = Child::start(&format!("write {} 40000", &*name));
    child.hear();
    child.kill();
    let mut read = Vec::new();
    let error = reader.read_to_end(&mut read).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
    assert!(read == bytes(0, 40_000));
}

#[test]
fn the_end_and_the_death_of_the_reader_are_a_broken_pipe() {
    for dies in [false, true] {
        let name = Name::new();
        let ring = open(&name);
        let writer = Child::start(&format!("write-for-ever {}", &*name));
        if dies {
            let mut reader = Child::start(&format!("read-sevens {}", &*name));
            reader.hear();
            reader.kill();
        } else {
            let mut reader = ByteReader::new(ring.receiver().unwrap());
            reader.read_exact(&mut [0; 500]).unwrap();
        }
        assert_eq!(writer.hear_before_the_end(), Some(0));
        writer.finish();
    }
}

#[test]
fn a_stream_goes_over_each_direction_of_a_link() {
    let place = Place::new();
    let listener = place.listen_with(ringpost::unnamed().capacity(1 << 16));
    let path = place.to_path_buf();
    let upper = thread::spawn(move || {
        let (sender, receiver) = ringpost::connect_duplex(&path).unwrap().split();
        let (mut writer, reader) = (ByteWriter::new(sender), ByteReader::new(receiver));
        for line in reader.lines() {
            writeln!(writer, "{}", line.unwrap().to_uppercase()).unwrap();
        }
    });
    let (sender, receiver) = listener.accept_duplex().unwrap().split();
    let (mut writer, mut reader) = (ByteWriter::new(sender), ByteReader::new(receiver));
    for number in 0..100 {
        writeln!(writer, "line {number}").unwrap();
        let mut answer = String::new();
        reader.read_line(&mut answer).unwrap();
        assert_eq!(answer, format!("LINE {number}\n"));
    }
    drop(writer);
    assert_eq!(reader.read(&mut [0; 9]).unwrap(), 0);
    upper.join().unwrap();
}

#[test]
fn what_several_writers_write_at_once_stays_together() {
    let ring = ringpost::unnamed().many_senders(4).capacity(4096).memfd().unwrap();
    let mut reader = BufReader::new(ByteReader::new(ring.receiver().unwrap()));
    let writers: Vec<_> = (0..4)
        .map(|own| {
            let mut writer = ByteWriter::new(ring.multi_sender().unwrap());
            thread::spawn(move || {
                for _ in 0..500 {
                    let line = format!("{}\n", own.to_string().repeat(100));
                    assert_eq!(writer.write(line.as_bytes()).unwrap(), line.len());
                }
            })
        })
        .collect();
    let mut counts = [0; 4];
    let mut line = String::new();
    while {
        line.clear();
        reader.read_line(&mut line).unwrap() > 0
    } {
        let own = line.as_bytes()[0];
        assert!(line.trim_end().len() == 100 && line.trim_end().bytes().all(|byte| byte == own), "{line}");
        counts[usize::from(own - b'0')] += 1;
    }
    assert_eq!(counts, [500; 4]);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}
