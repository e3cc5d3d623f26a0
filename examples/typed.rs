//! A ring in which every message is a value of one type: no encoding, no decoding.
//!
//! ```text
//! cargo run --package ringpost --example typed
//! ```

use ringpost::{Builder, Lifetime, OpenError, RecvError};
use std::{
    env,
    error::Error,
    process::{self, Command},
};
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// What a sensor measures. `zerocopy` proves at compile time that it has no padding, so that its bytes are all there is
/// to it; and it checks at run time what not every byte is (a `Quality`).
#[derive(Clone, Copy, PartialEq, Debug, IntoBytes, TryFromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Reading {
    number: u64,
    celsius: f32,
    sensor: u16,
    quality: Quality,
    reserved: u8,
}

#[derive(Clone, Copy, PartialEq, Debug, IntoBytes, TryFromBytes, Immutable, KnownLayout)]
#[repr(u8)]
enum Quality {
    Good,
    Doubtful,
}

const READINGS: u64 = 10;

fn reading(number: u64) -> Reading {
    let quality = if number % 5 == 4 { Quality::Doubtful } else { Quality::Good };
    Reading { number, celsius: 20.0 + number as f32 / 2.0, sensor: 7, quality, reserved: 0 }
}

/// Both sides say what they expect: a ring for another type is refused when it is opened.
fn builder(name: &str) -> Builder {
    ringpost::builder(name).capacity(64 << 10).fixed::<Reading>()
}

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        None => receive(),
        Some(name) => send(&name),
    }
}

fn receive() -> Result<(), Box<dyn Error>> {
    let name = format!("typed-{}", process::id());
    let ring = builder(&name).lifetime(Lifetime::Owned).create()?;
    let refused = ringpost::builder(&name).fixed::<[u8; 3]>().open();
    assert!(matches!(&refused, Err(OpenError::Mismatch { .. })), "{refused:?}");

    let mut receiver = ring.receiver()?.typed::<Reading>()?;
    let mut sensor = Command::new(env::current_exe()?).arg(&name).spawn()?;
    for number in 0..READINGS {
        let received = receiver.recv()?;
        println!("{received:?}");
        assert_eq!(received, reading(number));
    }
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
    assert!(sensor.wait()?.success());
    Ok(())
}

fn send(name: &str) -> Result<(), Box<dyn Error>> {
    let mut sender = builder(name).open()?.sender()?.typed::<Reading>()?;
    (0..READINGS).try_for_each(|number| sender.send(&reading(number)))?;
    Ok(())
}
