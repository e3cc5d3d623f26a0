//! A host and its plugins, which it need not trust: one behaves, one is killed, one tries to do harm.
//!
//! Each plugin connects to the host's socket and gets a ring of its own. It can write to nothing that the host reads as its
//! own, and whatever it does to its own memory, the host and the other plugins go on.
//!
//! ```text
//! cargo run --package ringpost --example plugin
//! ```

use ringpost::{Lanes, LanesError, Sender};
use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs, io,
    process::{self, Command},
    thread,
};

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().collect::<Vec<_>>().as_slice() {
        [_, behaviour, path] => plugin(behaviour, ringpost::connect(path)?),
        _ => host(),
    }
}

fn host() -> Result<(), Box<dyn Error>> {
    let path = env::temp_dir().join(format!("plugin-{}", process::id()));
    // Only processes of this user are accepted (`accept_if` decides otherwise), and only as long as the listener lives.
    let listener = ringpost::unnamed().capacity(64 << 10).listen(&path)?;
    let mut lanes = Lanes::new();
    let mut plugins = BTreeMap::new();
    for behaviour in ["honest", "killed", "hostile"] {
        let child = Command::new(env::current_exe()?).arg(behaviour).arg(&path).spawn()?;
        let receiver = listener.accept()?;
        // The kernel says who it is.
        assert_eq!(receiver.peer().map(|peer| peer.pid), Some(child.id()));
        plugins.insert(lanes.add(receiver)?, (behaviour, child));
    }
    loop {
        // Sleeps on all of them at once.
        match lanes.recv() {
            Ok((lane, message)) => {
                let (behaviour, child) = plugins.get_mut(&lane).ok_or("a stranger")?;
                println!("{behaviour}: {}", String::from_utf8_lossy(&message.to_vec()));
                if *behaviour == "killed" {
                    child.kill()?;
                }
            }
            Err(LanesError::Ended { lane, error }) => {
                let (behaviour, mut child) = plugins.remove(&lane).ok_or("a stranger")?;
                println!("{behaviour} has ended: {error}");
                child.wait()?;
            }
            Err(LanesError::NoLanes) => break,
            Err(other) => return Err(other.into()),
        }
    }
    drop(listener);
    assert!(!path.exists());
    Ok(())
}

fn plugin(behaviour: &str, mut sender: Sender) -> Result<(), Box<dyn Error>> {
    match behaviour {
        "honest" => (1..=3).try_for_each(|number| sender.send(format!("line {number}").as_bytes()))?,
        "killed" => {
            sender.send(b"about to do something great")?;
            loop {
                thread::park();
            }
        }
        _ => {
            let host = mapping("ringpost-receiver", " r--s 00000000 ")?;
            // SAFETY: only asks for more rights to pages; nothing is written.
            let refused =
                unsafe { libc::mprotect(host.cast(), 4096, libc::PROT_READ | libc::PROT_WRITE) != 0 };
            assert!(refused);
            let said = format!("the host's memory: {}", io::Error::last_os_error());
            sender.send(said.as_bytes())?;
            claim_too_much(host, 2 + said.len().div_ceil(8))?;
            // Without an orderly end.
            process::exit(1);
        }
    }
    Ok(())
}

/// Writes a record of four gigabytes to where the next one is due, as no sender of ringpost would.
fn claim_too_much(host: *mut u8, position: usize) -> Result<(), Box<dyn Error>> {
    let data = mapping("ringpost-sender", " rw-s 00001000 ")?.cast::<u64>();
    // SAFETY: the header page and the data area are mapped as long as the sender lives, which nobody drops.
    unsafe {
        let key = host.add(56).cast::<u64>().read_volatile();
        data.add(position + 1).write_volatile(u64::MAX);
        data.add(position).write_volatile(key ^ ((position as u64) << 8 | 1));
    }
    Ok(())
}

/// Where memory of this name is mapped with these rights and this offset.
fn mapping(name: &str, how: &str) -> Result<*mut u8, Box<dyn Error>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let line = maps.lines().find(|line| line.contains(name) && line.contains(how));
    let start = line.and_then(|line| line.split('-').next()).ok_or("it is not mapped")?;
    Ok(std::ptr::with_exposed_provenance_mut(usize::from_str_radix(start, 16)?))
}
