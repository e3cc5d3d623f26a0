//! One thread that waits for four things at once: a ring, a link, a timer and standard input.
//!
//! ```text
//! cargo run --package ringpost --example select
//! ```

use ringpost::{Interest, Lifetime, RecvError, Select};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::{
    env,
    error::Error,
    io::stdin,
    os::fd::OwnedFd,
    process::{self, Command},
};

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().collect::<Vec<_>>().as_slice() {
        [_, way, name] if way == "ring" => send(ringpost::sender(name)?),
        [_, _, path] => send(ringpost::connect(path)?),
        _ => wait_for_all(),
    }
}

fn send(mut sender: ringpost::Sender) -> Result<(), Box<dyn Error>> {
    (1..=3).try_for_each(|number| sender.send(format!("message {number}").as_bytes()))?;
    Ok(())
}

fn wait_for_all() -> Result<(), Box<dyn Error>> {
    let name = format!("select-{}", process::id());
    let path = env::temp_dir().join(&name);
    let ring = ringpost::builder(&name).lifetime(Lifetime::Owned).create()?;
    let listener = ringpost::listen(&path)?;

    let mut select = Select::new();
    let on_ring = select.add(ring.receiver()?)?;
    let program = env::current_exe()?;
    let mut children = vec![Command::new(&program).arg("ring").arg(&name).spawn()?];
    children.push(Command::new(&program).arg("link").arg(&path).spawn()?);
    let on_link = select.add(listener.accept()?)?;
    let ticks = select.add_fd(ticks_every(50_000_000)?, Interest::Readable)?;
    let input = select.add_fd(stdin(), Interest::Readable)?;

    let (mut open, mut ticked) = (2, 0);
    while open > 0 || ticked < 3 {
        // Sleeps until any of them has something; in turn if several have.
        let ready = select.wait()?;
        if ready == ticks {
            // So often has it gone off since.
            let mut times = [0; 8];
            rustix::io::read(&select[ticks], &mut times)?;
            ticked += u64::from_ne_bytes(times);
            println!("timer: {ticked}");
        } else if ready == input {
            let mut bytes = [0; 4096];
            match rustix::io::read(&select[input], &mut bytes)? {
                0 => drop(select.remove(input)),
                length => println!("input: {}", String::from_utf8_lossy(&bytes[..length]).trim_end()),
            }
        } else {
            let (from, key) = if ready == on_ring { ("ring", on_ring) } else { ("link", on_link) };
            let end = match select[key].try_recv() {
                Ok(message) => {
                    println!("{from}: {}", String::from_utf8_lossy(&message.to_vec()));
                    continue;
                }
                // A false alarm.
                Err(RecvError::Empty) => continue,
                Err(end) => end,
            };
            println!("{from}: {end}");
            select.remove(key);
            open -= 1;
        }
    }
    for mut child in children {
        child.wait()?;
    }
    Ok(())
}

/// A descriptor that is readable whenever so many nanoseconds have passed.
fn ticks_every(nanoseconds: i64) -> Result<OwnedFd, Box<dyn Error>> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    let step = Timespec { tv_sec: 0, tv_nsec: nanoseconds };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: step, it_value: step })?;
    Ok(timer)
}
