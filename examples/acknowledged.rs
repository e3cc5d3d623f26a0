//! A sender that learns when its messages were taken: by a receipt, and by a callback. And one that waits each time: a
//! rendezvous.
//!
//! ```text
//! cargo run --package ringpost --example acknowledged
//! ```

use ringpost::Callbacks;
use std::{error::Error, sync::mpsc, thread};

fn main() -> Result<(), Box<dyn Error>> {
    receipts()?;
    rendezvous()
}

fn receipts() -> Result<(), Box<dyn Error>> {
    let ring = ringpost::unnamed().memfd()?;
    let (mut sender, mut receiver) = (ring.sender()?, ring.receiver()?);
    let callbacks = Callbacks::new()?;
    let (done, wait) = mpsc::channel();

    // Neither of the two waits for the receiver.
    let report = sender.send_acknowledged(b"report")?;
    let invoice = sender.send_acknowledged(b"invoice")?;
    callbacks.when_taken(invoice, move |taken| done.send(taken).expect("main waits"));

    let message = receiver.recv()?;
    println!("received, taken: {}", report.is_taken());
    drop(message); // All that was to be done with it is done.
    println!("released, taken: {}", report.is_taken());
    report.wait()?;

    drop(receiver.recv()?);
    wait.recv()??;
    println!("called back");
    Ok(())
}

fn rendezvous() -> Result<(), Box<dyn Error>> {
    let ring = ringpost::unnamed().rendezvous().memfd()?;
    let (mut sender, mut receiver) = (ring.rendezvous_sender()?, ring.receiver()?);
    let handing = thread::spawn(move || sender.send(b"parcel").map(|()| println!("handed over")));
    drop(receiver.recv()?);
    handing.join().expect("it does not panic")?;
    Ok(())
}
