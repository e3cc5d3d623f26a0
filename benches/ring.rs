//! What a message costs within one process, step by step, and beside two well-known channels.
//!
//! ```text
//! cargo bench --package ringpost --bench ring                    all, about two minutes
//! cargo bench --package ringpost --bench ring -- against         one group
//! ```
//!
//! The answer between processes is given by `cargo run --release -- bench`; this here is for whoever changes the library.
//!
//! * `one_thread`: nobody waits and nothing leaves the core's cache, so this is the cost of the instructions. `commit`
//!   includes the look whether the receiver sleeps; a batch of n messages looks once, which shows what the look costs.
//! * `two_threads`: sender and receiver on threads of their own; the clock runs from the first message sent to the last
//!   one received.
//! * `against`: rtrb (spins) beside a ring that spins, crossbeam-channel (spins, then sleeps) beside a ring that does so.
//!   All have the same number of payload bytes or less: a ring has its 16-byte headers within. Rivals hold `[u8; N]`. For
//!   all of them the sender writes every byte, and the receiver reads one word of each cache line and checks it.
//!
//! On a machine with fewer free cores than threads the last two groups measure the scheduler.

use std::{
    hint, thread,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringpost::{Receiver, Sender, Trusted, WaitStrategy, record_size, unnamed};

/// Bytes of the rings whose size is not what is measured.
const RING: u64 = 1 << 20;
const LINE: usize = 64;

fn pair(capacity: u64, wait: WaitStrategy) -> (Sender<Trusted>, Receiver<Trusted>) {
    let ring = unnamed().capacity(capacity).wait(wait).in_process().unwrap();
    (ring.sender().unwrap(), ring.receiver().unwrap())
}

/// Writes every byte of message `number`.
#[inline]
fn write(payload: &mut [u8], number: u64) {
    for word in payload.chunks_exact_mut(8) {
        word.copy_from_slice(&number.to_le_bytes());
    }
}

/// Reads a word of each cache line of message `number`.
#[inline]
fn check(payload: &[u8], number: u64) {
    for line in payload.chunks(LINE) {
        assert_eq!(line[..8], number.to_le_bytes());
    }
}

#[inline]
fn send(sender: &mut Sender<Trusted>, length: usize, number: u64) {
    let mut message = sender.reserve(length).unwrap();
    write(&mut message, number);
    message.commit();
}

fn one_thread(c: &mut Criterion) {
    let mut group = c.benchmark_group("one_thread");
    for length in [8, 64, 512, 4096, 65536] {
        let (mut sender, mut receiver) = pair(RING, WaitStrategy::Sleep);
        let message = vec![7; length];
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(BenchmarkId::new("send_copy_and_receive", length), |b| {
            b.iter(|| {
                sender.send(&message).unwrap();
                hint::black_box(receiver.recv().unwrap().len())
            })
        });
    }

    group.throughput(Throughput::Elements(1));
    let (mut sender, mut receiver) = pair(RING, WaitStrategy::Sleep);
    let fits = RING / record_size(LINE) as u64;
    group.bench_function("reserve_and_commit/64", |b| {
        b.iter_custom(|messages| {
            let mut spent = Duration::ZERO;
            for lap in laps(messages, fits) {
                let start = Instant::now();
                (0..lap).for_each(|number| send(&mut sender, LINE, number));
                spent += start.elapsed();
                (0..lap).for_each(|number| check(&receiver.recv().unwrap(), number));
            }
            spent
        })
    });
    group.bench_function("receive_and_release/64", |b| {
        b.iter_custom(|messages| {
            let mut spent = Duration::ZERO;
            for lap in laps(messages, fits) {
                (0..lap).for_each(|number| send(&mut sender, LINE, number));
                let start = Instant::now();
                (0..lap).for_each(|number| check(&receiver.recv().unwrap(), number));
                spent += start.elapsed();
            }
            spent
        })
    });

    for count in [1, 8, 64, 512] {
        let (mut sender, mut receiver) = pair(RING, WaitStrategy::Sleep);
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new("batch_and_receive_many/64", count), |b| {
            b.iter(|| {
                // One message more: without a second mapping, the one that would cross the ring's end takes more room.
                let mut batch = sender.batch((count as usize + 1) * record_size(LINE)).unwrap();
                for number in 0..count {
                    batch.push_with(0, LINE, |payload| write(payload, number)).unwrap();
                }
                batch.commit();
                let messages = receiver.recv_many(count as usize).unwrap();
                let received =
                    messages.iter().zip(0..).map(|(message, number)| check(&message, number)).count();
                assert_eq!(received as u64, count);
            })
        });
    }
    group.finish();
}

/// `messages` in parts of which each fits into the ring.
fn laps(messages: u64, fits: u64) -> impl Iterator<Item = u64> {
    (0..messages).step_by(fits as usize).map(move |sent| fits.min(messages - sent))
}

/// The time until all that `send` sends on this thread was received on another.
fn until_received(send: impl FnOnce(), receive: impl FnOnce() + Send) -> Duration {
    thread::scope(|scope| {
        let receiver = scope.spawn(receive);
        let start = Instant::now();
        send();
        receiver.join().unwrap();
        start.elapsed()
    })
}

fn through_ring(
    sender: &mut Sender<Trusted>,
    receiver: &mut Receiver<Trusted>,
    length: usize,
    messages: u64,
) -> Duration {
    until_received(
        || (0..messages).for_each(|number| send(sender, length, number)),
        || (0..messages).for_each(|number| check(&receiver.recv().unwrap(), number)),
    )
}

fn two_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("two_threads");
    group.throughput(Throughput::Elements(1));
    for kibibytes in [64, 256, 1024, 4096, 16384] {
        let (mut sender, mut receiver) = pair(kibibytes << 10, WaitStrategy::SpinThenSleep);
        group.bench_function(BenchmarkId::new("64_byte_messages_by_ring_kib", kibibytes), |b| {
            b.iter_custom(|messages| through_ring(&mut sender, &mut receiver, LINE, messages))
        });
    }
    group.finish();
}

fn against(c: &mut Criterion) {
    against_at::<8>(c);
    against_at::<64>(c);
    against_at::<512>(c);
}

fn against_at<const LENGTH: usize>(c: &mut Criterion) {
    let mut group = c.benchmark_group("against");
    group.throughput(Throughput::Elements(1));
    for (name, wait) in [("ringpost_spinning", WaitStrategy::Spin), ("ringpost", WaitStrategy::SpinThenSleep)]
    {
        let (mut sender, mut receiver) = pair(RING, wait);
        group.bench_function(BenchmarkId::new(name, LENGTH), |b| {
            b.iter_custom(|messages| through_ring(&mut sender, &mut receiver, LENGTH, messages))
        });
    }

    let items = RING as usize / LENGTH;
    group.bench_function(BenchmarkId::new("rtrb", LENGTH), |b| {
        let (mut sender, mut receiver) = rtrb::RingBuffer::<[u8; LENGTH]>::new(items);
        b.iter_custom(|messages| {
            until_received(
                || (0..messages).for_each(|number| spin_until(|| sender.push(item(number)).ok())),
                || (0..messages).for_each(|number| check(&spin_until(|| receiver.pop().ok()), number)),
            )
        })
    });
    group.bench_function(BenchmarkId::new("crossbeam_channel", LENGTH), |b| {
        let (sender, receiver) = crossbeam_channel::bounded::<[u8; LENGTH]>(items);
        b.iter_custom(|messages| {
            until_received(
                || (0..messages).for_each(|number| sender.send(item(number)).unwrap()),
                || (0..messages).for_each(|number| check(&receiver.recv().unwrap(), number)),
            )
        })
    });
    group.finish();
}

#[inline]
fn item<const LENGTH: usize>(number: u64) -> [u8; LENGTH] {
    let mut item = [0; LENGTH];
    write(&mut item, number);
    item
}

#[inline]
fn spin_until<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    loop {
        match attempt() {
            Some(done) => return done,
            None => hint::spin_loop(),
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = one_thread, two_threads, against
}
criterion_main!(benches);
