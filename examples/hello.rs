//! Hello between two processes: this program starts itself a second time. The second one sends, the first one receives.
//!
//! ```text
//! cargo run --package ringpost --example hello
//! ```

use ringpost::Lifetime;
use std::{
    env,
    error::Error,
    process::{self, Command},
};

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        None => first(),
        Some(name) => second(&name),
    }
}

/// Makes the ring, starts the other process and prints what it sends.
fn first() -> Result<(), Box<dyn Error>> {
    // Whoever knows the name can open the ring. `Owned`: the name goes when we are done with it. (Where a ring is to
    // outlive its processes, `ringpost::receiver(name)?` is enough; then either side may start first.)
    let name = format!("hello-{}", process::id());
    let ring = ringpost::builder(&name).lifetime(Lifetime::Owned).create()?;
    let receiver = ring.receiver()?;

    let mut other = Command::new(env::current_exe()?).arg(&name).spawn()?;

    // Sleeps while there is nothing, and ends when the sender has closed and everything was received.
    let mut received = Vec::new();
    for message in receiver {
        println!("process {} received {message:?} from process {}", process::id(), message.sender.pid);
        assert_eq!(message.sender.pid, other.id());
        received.push(message.bytes);
    }
    assert_eq!(received, [&b"hello"[..], b"and goodbye"]);
    assert!(other.wait()?.success());
    Ok(())
}

/// Sends two messages. Dropping the sender closes it.
fn second(name: &str) -> Result<(), Box<dyn Error>> {
    let mut sender = ringpost::sender(name)?;
    sender.send(b"hello")?;
    sender.send(b"and goodbye")?;
    Ok(())
}
