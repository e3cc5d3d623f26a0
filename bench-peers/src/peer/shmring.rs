//! shmring: a byte ring in shared memory. Spinning: its non-blocking calls; sleeping: its blocking ones, which poll with
//! growing sleeps.

use std::{
    hint::spin_loop,
    io::{Read, Write},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use ringpost_cli::bench::{
    link::{Link, Mechanism, Pair, RecvHalf, SendHalf, Setup},
    shape::Wait,
};
use shmring::{Options, Reader, Writer, backend::ShmStorage, create_shm, open_shm};

use super::{CAPACITY, unique};

pub fn make() -> Result<Box<dyn Mechanism>> {
    Ok(Box::new(Pair { there: Ring(unique("there")), back: Ring(unique("back")) }))
}

/// Its name. The sender makes it anew for each sample.
struct Ring(String);

impl Link for Ring {
    type Sender<'a> = Sending;
    type Receiver<'a> = Receiving;

    fn sender(&self, setup: &Setup) -> Result<Sending> {
        let writer = create_shm(&self.0, CAPACITY as u64, Options::default());
        let writer = writer.map_err(|error| anyhow!("{error}")).context("cannot make its ring")?;
        Ok(Sending { writer, staging: vec![0; setup.size], wait: setup.wait })
    }

    fn receiver(&self, setup: &Setup) -> Result<Receiving> {
        let start = Instant::now();
        let reader = loop {
            match open_shm(&self.0, CAPACITY as u64, Options::default()) {
                Ok(reader) => break reader,
                Err(error) if start.elapsed() > Duration::from_secs(2) => {
                    return Err(anyhow!("{error}")).context("cannot open its ring");
                }
                Err(_) => thread::yield_now(),
            }
        };
        Ok(Receiving { reader, staging: vec![0; setup.size], wait: setup.wait })
    }
}

struct Sending {
    writer: Writer<ShmStorage>,
    staging: Vec<u8>,
    wait: Wait,
}

impl SendHalf for Sending {
    fn send(&mut self, _: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        fill(&mut self.staging);
        if self.wait == Wait::Sleep {
            return Ok(self.writer.write_all(&self.staging)?);
        }
        let mut rest = &self.staging[..];
        while !rest.is_empty() {
            let written = self.writer.try_write(rest).map_err(|error| anyhow!("{error}"))?;
            rest = &rest[written..];
            if written == 0 {
                spin_loop();
            }
        }
        Ok(())
    }
}

struct Receiving {
    reader: Reader<ShmStorage>,
    staging: Vec<u8>,
    wait: Wait,
}

impl RecvHalf for Receiving {
    fn recv(&mut self, _: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        if self.wait == Wait::Sleep {
            self.reader.read_exact(&mut self.staging)?;
            return check(&self.staging);
        }
        let mut got = 0;
        while got < self.staging.len() {
            let read = self.reader.try_read(&mut self.staging[got..]).map_err(|error| anyhow!("{error}"))?;
            got += read;
            if read == 0 {
                spin_loop();
            }
        }
        check(&self.staging)
    }
}
