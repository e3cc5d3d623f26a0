//! A server and its clients, each a process: one connection each, both ways. A client asks in messages, and sends its large
//! data as a region, which nobody copies; a client that is killed in between harms nobody.
//!
//! ```text
//! cargo run --package ringpost --example duplex
//! ```

use ringpost::{Duplex, Region, RegionMut};
use std::{
    env,
    error::Error,
    process::{self, Command},
    thread,
};

type Done = Result<(), Box<dyn Error + Send + Sync>>;

const CLIENTS: u64 = 3;

/// Bytes of what each client has counted.
const LARGE: usize = 8 << 20;

fn main() -> Done {
    match env::args().collect::<Vec<_>>().as_slice() {
        [_, number, path] => client(number.parse()?, ringpost::connect_duplex(path)?),
        _ => host(),
    }
}

fn host() -> Done {
    let path = env::temp_dir().join(format!("duplex-{}", process::id()));
    let listener = ringpost::unnamed().capacity(64 << 10).listen(&path)?;
    let start = |number: u64| Command::new(env::current_exe()?).arg(number.to_string()).arg(&path).spawn();
    let mut clients = Vec::new();
    let mut services = Vec::new();
    // One more, which dies.
    for number in 0..=CLIENTS {
        clients.push(start(number)?);
        let client = listener.accept_duplex()?;
        services.push(thread::spawn(move || serve(client)));
    }
    for client in &mut clients {
        client.wait()?;
    }
    for service in services {
        service.join().map_err(|_| "a service has panicked")??;
    }
    drop(listener);
    assert!(!path.exists());
    Ok(())
}

/// Answers each message, and counts what is in each region, until the client ends.
fn serve(mut client: Duplex) -> Done {
    let end = loop {
        let message = match client.receiver.recv() {
            Ok(message) => message,
            Err(end) => break end,
        };
        let answer = if message.kind() == Region::KIND {
            let region = message.region()?;
            let ones = region.iter().filter(|&&byte| byte == 1).count();
            format!("{ones} ones in {} bytes", region.len())
        } else {
            String::from_utf8(message.to_vec())?.to_uppercase()
        };
        // It is still held: the other direction is a ring of its own.
        client.sender.send(answer.as_bytes())?;
    };
    println!("a client has ended: {end}");
    Ok(())
}

fn client(number: u64, mut host: Duplex) -> Done {
    host.send(format!("client {number}").as_bytes())?;
    let greeting = String::from_utf8(host.recv()?.to_vec())?;
    if number == CLIENTS {
        // Without an orderly end.
        process::exit(1);
    }
    let mut memory = RegionMut::new(LARGE)?;
    memory.iter_mut().step_by(number as usize + 2).for_each(|byte| *byte = 1);
    host.send_region(&memory.freeze()?)?;
    println!("{greeting}: {}", String::from_utf8(host.recv()?.to_vec())?);
    Ok(())
}
