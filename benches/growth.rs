//! How the cost of a message grows in a ring for many senders: with the senders that send (each in a process of its own),
//! with those that are attached and don't (rounds are interleaved), and with the number of messages.
//!
//! `cargo bench --package ringpost --bench growth`

use ringpost::{MultiSender, Ring, Trusted};
use std::{
    env,
    io::{Read, Write, stdin, stdout},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::{Child, Command, Stdio},
    time::Instant,
};

/// Descriptor of the ring, in a sender's environment.
const RING: &str = "RINGPOST_GROWTH";
/// So many that what the processes do first, such as touching each page of the ring, is little of it.
const MESSAGES: u64 = 20_000_000;
const ROUNDS: usize = 7;
/// The longest stream, and how many there are of it.
const LONGEST: u64 = 1_000_000_000;
const STREAMS: usize = 3;
/// The shortest stretch of a stream that is timed.
const STRETCH: u64 = 1000;
/// Slots of each ring.
const SLOTS: u8 = 64;
const SIZE: usize = 64;

/// A sender: says that it is there, begins when its standard input ends, and writes every byte of each message; the first
/// word is its number.
fn send(mut sender: MultiSender<Trusted>, messages: u64) {
    stdout().write_all(b".").unwrap();
    stdout().flush().unwrap();
    assert_eq!(stdin().read(&mut [0]).unwrap(), 0);
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
    Command::new(program).env(RING, values).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// SAFETY of all uses: the memfd is known to this program and its children only.
fn trusted(ring: Ring) -> Ring<Trusted> {
    // SAFETY: nobody else has the descriptor, and all of these write through ringpost alone.
    unsafe { ring.trust_peers() }
}

/// One point of a curve.
#[derive(Clone, Copy)]
struct Point {
    senders: u64,
    /// Attached senders, those that send included.
    attached: u64,
    messages: u64,
}

/// The receiver's clock at the first message, and then at each that ends a stretch.
fn measure(Point { senders, attached, messages }: Point) -> Vec<Instant> {
    let ring = trusted(ringpost::unnamed().many_senders(SLOTS).memfd().unwrap());
    let mut receiver = ring.receiver().unwrap();
    let _idle: Vec<_> = (senders..attached).map(|_| ring.multi_sender().unwrap()).collect();
    let mut children: Vec<_> = (0..senders).map(|_| start(&ring, messages / senders)).collect();
    for child in &mut children {
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }
    children.iter_mut().for_each(|child| drop(child.stdin.take()));
    let mut next = [0u64; 256];
    let mut clock = Vec::with_capacity((messages / STRETCH) as usize + 1);
    for received in 0..messages / senders * senders {
        let message = receiver.recv().unwrap();
        let expected = &mut next[usize::from(message.slot())];
        assert_eq!(u64::from_ne_bytes(message[..8].try_into().unwrap()), *expected);
        *expected += 1;
        drop(message);
        if received % STRETCH == 0 {
            clock.push(Instant::now());
        }
    }
    children.into_iter().for_each(|mut child| assert!(child.wait().unwrap().success()));
    clock
}

/// Messages a second between two readings of the clock, so many stretches apart.
fn rate(stretches: usize, from: Instant, to: Instant) -> f64 {
    stretches as f64 * STRETCH as f64 / (to - from).as_secs_f64()
}

fn print_title(title: &str) {
    println!("\n{title:>12}   messages/s (median, least..most)   ratio to the first");
}

/// Prints a line, and gives the median.
fn print_line(value: u64, mut rates: Vec<f64>, first: Option<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    let (least, median, most) = (rates[0] / 1e6, rates[rates.len() / 2], rates[rates.len() - 1] / 1e6);
    let ratio = median / first.unwrap_or(median);
    println!("{value:>12}   {:>6.2} M   {least:>6.2}..{most:.2} M   {ratio:>5.2}", median / 1e6);
    median
}

/// Prints the rates at all points, and their ratio to the first one.
fn curve(title: &str, points: &[(u64, Point)]) {
    let mut results: Vec<_> = points.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for ((_, point), results) in points.iter().zip(&mut results) {
            let clock = measure(*point);
            results.push(rate(clock.len() - 1, clock[0], clock[clock.len() - 1]));
        }
    }
    print_title(title);
    let mut first = None;
    for ((value, _), rates) in points.iter().zip(results) {
        let median = print_line(*value, rates, first);
        first.get_or_insert(median);
    }
}

/// Prints the rates over stretches of so many messages, taken from the longest streams.
fn stretches(lengths: impl Iterator<Item = u64>) {
    let one = Point { senders: 1, attached: 1, messages: LONGEST + 1 };
    let streams: Vec<_> = (0..STREAMS).map(|_| measure(one)).collect();
    print_title("messages");
    let mut first = None;
    for messages in lengths {
        let stretches = (messages / STRETCH) as usize;
        let ends = streams.iter().flat_map(|clock| {
            clock.iter().step_by(stretches).zip(clock[stretches..].iter().step_by(stretches))
        });
        let median =
            print_line(messages, ends.map(|(from, to)| rate(stretches, *from, *to)).collect(), first);
        first.get_or_insert(median);
    }
}

fn main() {
    if let Ok(values) = env::var(RING) {
        let (descriptor, messages) = values.split_once(' ').unwrap();
        // SAFETY: the parent has made it for this child, which takes it once.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor.parse().unwrap()) };
        let ring = trusted(ringpost::unnamed().many_senders(SLOTS).from_fd(descriptor).unwrap());
        return send(ring.multi_sender().unwrap(), messages.parse().unwrap());
    }
    let one = Point { senders: 1, attached: 1, messages: MESSAGES };
    curve("senders", &[1, 2, 4, 8].map(|senders| (senders, Point { senders, attached: senders, ..one })));
    curve("attached", &[1, 4, 16, 64].map(|attached| (attached, Point { attached, ..one })));
    stretches((3..=9).map(|exponent| 10u64.pow(exponent)));
}
