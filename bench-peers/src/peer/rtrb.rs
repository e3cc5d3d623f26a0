//! rtrb: a wait-free ring between threads. Its fastest documented way: chunks, written and read in place.

use std::{hint::spin_loop, sync::Mutex};

use anyhow::{Context, Result};
use ringpost_cli::bench::{
    link::{Figures, Link, Mechanism, Pair, RecvHalf, SendHalf, Setup},
    shape::Measure,
    station::Bench,
};
use rtrb::{Consumer, Producer, RingBuffer};

use super::CAPACITY;
use crate::threads::Rendezvous;

pub fn make() -> Result<Box<dyn Mechanism>> {
    Ok(Box::new(Threads(Rendezvous::new()?)))
}

struct Threads(Rendezvous);

impl Mechanism for Threads {
    fn refuses(&self, size: usize) -> Option<String> {
        (!size.is_power_of_two()).then(|| "a chunk must not wrap: only powers of two are measured".into())
    }

    fn run(&self, measure: Measure, setup: &Setup, bench: &mut Bench<'_>) -> Result<Option<Figures>> {
        let pair = || Ok(Pair { there: Ring::new(setup.size), back: Ring::new(setup.size) });
        self.0.run(measure, setup, bench, pair)
    }
}

/// Bytes: a message is a chunk, which never wraps because its size divides the capacity.
struct Ring {
    producer: Mutex<Option<Producer<u8>>>,
    consumer: Mutex<Option<Consumer<u8>>>,
}

impl Ring {
    fn new(size: usize) -> Self {
        let (producer, consumer) = RingBuffer::new(CAPACITY.max(2 * size));
        Self { producer: Mutex::new(Some(producer)), consumer: Mutex::new(Some(consumer)) }
    }
}

impl Link for Ring {
    type Sender<'a> = Sending;
    type Receiver<'a> = Receiving;

    fn sender(&self, _: &Setup) -> Result<Sending> {
        self.producer.lock().unwrap().take().map(Sending).context("it has a sender")
    }

    fn receiver(&self, _: &Setup) -> Result<Receiving> {
        self.consumer.lock().unwrap().take().map(Receiving).context("it has a receiver")
    }
}

struct Sending(Producer<u8>);

impl SendHalf for Sending {
    #[inline]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut chunk = loop {
            match self.0.write_chunk_uninit(size) {
                Ok(chunk) => break chunk,
                Err(_) => spin_loop(),
            }
        };
        let (place, _) = chunk.as_mut_slices();
        // SAFETY: bytes, of which `fill` writes every one before they are committed.
        fill(unsafe { &mut *(std::ptr::from_mut(place) as *mut [u8]) });
        // SAFETY: as above.
        unsafe { chunk.commit_all() };
        Ok(())
    }
}

struct Receiving(Consumer<u8>);

impl RecvHalf for Receiving {
    #[inline]
    fn recv(&mut self, size: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        let chunk = loop {
            match self.0.read_chunk(size) {
                Ok(chunk) => break chunk,
                Err(_) => spin_loop(),
            }
        };
        check(chunk.as_slices().0)?;
        chunk.commit_all();
        Ok(())
    }
}
