//! How long does a message take to another process and back? Two rings, one for each direction, and a forked child.
//!
//! ```text
//! cargo run --release --package ringpost --example ping_pong
//! ```

use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, fork},
};
use ringpost::{Receiver, RecvError, Ring, Sender};
use std::{error::Error, time::Instant};

const ROUND_TRIPS: u64 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    // A ring without a name. The child gets its mapping by the fork; nothing is left behind when both have ended.
    let there = ringpost::unnamed().capacity(64 << 10).memfd()?;
    let back = ringpost::unnamed().capacity(64 << 10).memfd()?;

    // Fork before anything is attached: sender and receiver belong to the process that has attached them.
    // SAFETY: this process has one thread, so the child may do whatever its parent may.
    match unsafe { fork()? } {
        ForkResult::Child => answer(&there, &back),
        ForkResult::Parent { child } => {
            let mut round_trips_ns = ask(there.sender()?, back.receiver()?)?;
            // `ask` has dropped its sender: the child gets `Disconnected` and ends.
            assert_eq!(waitpid(child, None)?, WaitStatus::Exited(child, 0));
            round_trips_ns.sort_unstable();
            println!("median round trip of {ROUND_TRIPS}: {} ns", round_trips_ns[round_trips_ns.len() / 2]);
            Ok(())
        }
    }
}

/// Sends a number and waits until it comes back, many times. Gives the nanoseconds of each round trip.
fn ask(mut there: Sender, mut back: Receiver) -> Result<Vec<u64>, Box<dyn Error>> {
    let mut round_trips_ns = Vec::new();
    for number in 0..ROUND_TRIPS {
        let mut answer = [0; 8];
        let start = Instant::now();
        there.send(&number.to_le_bytes())?;
        back.recv_into(&mut answer)?;
        round_trips_ns.push(start.elapsed().as_nanos() as u64);
        assert_eq!(u64::from_le_bytes(answer), number);
    }
    Ok(round_trips_ns)
}

/// Sends back whatever comes, until the other side has closed.
fn answer(there: &Ring, back: &Ring) -> Result<(), Box<dyn Error>> {
    let (mut there, mut back) = (there.receiver()?, back.sender()?);
    let mut number = [0; 8];
    loop {
        match there.recv_into(&mut number) {
            Ok(length) => back.send(&number[..length])?,
            Err(RecvError::Disconnected) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
