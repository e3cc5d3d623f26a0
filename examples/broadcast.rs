//! One process sends, three others get every message: this program starts itself three times more. A fourth reader only looks
//! on: nobody waits for it, and it is told what it missed.
//!
//! ```text
//! cargo run --package ringpost --example broadcast
//! ```

use ringpost::{Lifetime, RecvError, Start};
use std::{
    env,
    error::Error,
    process::{self, Command},
};

/// More than the ring holds at once.
const PRICES: u32 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        None => send(),
        Some(name) => read(&name),
    }
}

fn send() -> Result<(), Box<dyn Error>> {
    let name = format!("broadcast-{}", process::id());
    let ring = ringpost::builder(&name).capacity(1 << 16).broadcast(8).lifetime(Lifetime::Owned).create()?;
    let mut publisher = ring.publisher()?;
    let mut watcher = ring.watcher(Start::Now)?;

    let program = env::current_exe()?;
    let readers = (0..3).map(|_| Command::new(&program).arg(&name).spawn());
    let mut readers = readers.collect::<Result<Vec<_>, _>>()?;

    // A sender needs no reader: without this wait the first prices would be sent before anybody has come.
    while ring.statistics().readers.iter().filter(|reader| reader.attached).count() < readers.len() {
        std::thread::yield_now();
    }
    // Waits for the slowest reader when the ring is full; `try_send` would drop the price, `slowest` says who it is.
    for price in 0..PRICES {
        publisher.send(&price.to_ne_bytes())?;
    }
    drop(publisher);

    let (mut received, mut missed) = (0, 0);
    loop {
        match watcher.recv() {
            Ok(_) => received += 1,
            Err(RecvError::Missed { count }) => missed += count,
            Err(RecvError::Disconnected) => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!(
        "the watcher came late: {} prices in all, some of them missed: {}",
        received + missed,
        missed > 0
    );
    for reader in &mut readers {
        assert!(reader.wait()?.success());
    }
    Ok(())
}

fn read(name: &str) -> Result<(), Box<dyn Error>> {
    let mut subscriber = ringpost::builder(name).open()?.subscriber()?;
    let mut expected: u32 = 0;
    for price in subscriber.iter() {
        assert_eq!(*price, expected.to_ne_bytes());
        expected += 1;
    }
    println!("a reader got {expected} prices, in order");
    Ok(())
}
