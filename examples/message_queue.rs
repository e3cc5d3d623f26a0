//! The program of the lectures, once with the kernel's System V queue and once with a mailbox in its shape: one process sends
//! the typed lines of a file, another receives some of them by type, what remains is counted, and the queue is deleted. Both
//! print the same.
//!
//! ```text
//! cargo run --package ringpost --example message_queue
//! ```

use ringpost::sysv::{self, IPC_CREAT, IPC_EXCL, IPC_NOWAIT, MSG_EXCEPT};
use std::{env, error::Error, process, process::Command};

const LINES: &str = include_str!("message_queue.txt");

/// What the receiver asks for, in this order: any type, type 2, any but 1, the lowest up to 2.
const ASKED: [(i64, i32); 4] = [(0, 0), (2, 0), (1, MSG_EXCEPT), (-2, 0)];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments[..] {
        [] => {
            let (kernel, ours) = (run("kernel")?, run("ringpost")?);
            print!("{ours}");
            assert_eq!(kernel, ours, "both queues give the same");
            println!("the kernel's queue: the same");
            Ok(())
        }
        [queue, key, role] => {
            let mut queue = Queue::open(queue, key.parse()?, 0)?;
            if role == "send" { send(&mut queue) } else { receive(&mut queue) }
        }
        _ => Err("no arguments, please".into()),
    }
}

/// Makes the queue, lets two processes use it one after the other, and deletes it. Gives what the receiver has printed.
fn run(which: &str) -> Result<String, Box<dyn Error>> {
    let key = process::id() as i32;
    let queue = Queue::open(which, key, IPC_CREAT | IPC_EXCL | 0o600)?;
    let start = |role: &str| Command::new(env::current_exe()?).args([which, &key.to_string(), role]).output();
    let (sent, received) = (start("send")?, start("receive")?);
    let deleted = queue.delete();
    for output in [&sent, &received] {
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
    }
    deleted?;
    Ok(String::from_utf8(received.stdout)?)
}

fn send(queue: &mut Queue) -> Result<(), Box<dyn Error>> {
    for line in LINES.lines() {
        let (mtype, text) = line.split_once(' ').ok_or("a line is a type and a text")?;
        queue.send(mtype.parse()?, text.as_bytes())?;
    }
    Ok(())
}

fn receive(queue: &mut Queue) -> Result<(), Box<dyn Error>> {
    let mut text = [0; 100];
    for (mtype, flags) in ASKED {
        let (got, length) = queue.receive(&mut text, mtype, flags | IPC_NOWAIT)?;
        println!("asked for {mtype:2}: type {got}, {}", String::from_utf8_lossy(&text[..length]));
    }
    println!("{} messages remain", queue.count()?);
    Ok(())
}

/// Either of the two.
enum Queue {
    Ours(sysv::Queue),
    Kernels(i32),
}

impl Queue {
    fn open(which: &str, key: i32, flags: i32) -> std::io::Result<Self> {
        if which == "ringpost" {
            return sysv::msgget(key, flags).map(Self::Ours);
        }
        // SAFETY: numbers only.
        checked(unsafe { libc::msgget(key, flags) } as isize).map(|id| Self::Kernels(id as i32))
    }

    fn send(&mut self, mtype: i64, text: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Ours(queue) => sysv::msgsnd(queue, mtype, text, 0),
            Self::Kernels(id) => {
                let mut message = mtype.to_ne_bytes().to_vec();
                message.extend_from_slice(text);
                // SAFETY: the message is a type and then so many bytes.
                checked(unsafe { libc::msgsnd(*id, message.as_ptr().cast(), text.len(), 0) } as isize)
                    .map(drop)
            }
        }
    }

    fn receive(&mut self, text: &mut [u8], mtype: i64, flags: i32) -> std::io::Result<(i64, usize)> {
        match self {
            Self::Ours(queue) => sysv::msgrcv(queue, text, mtype, flags),
            Self::Kernels(id) => {
                let mut message = vec![0; 8 + text.len()];
                // SAFETY: the buffer has room for a type and so many bytes.
                let length =
                    unsafe { libc::msgrcv(*id, message.as_mut_ptr().cast(), text.len(), mtype, flags) };
                let length = checked(length)?;
                text[..length].copy_from_slice(&message[8..8 + length]);
                Ok((i64::from_ne_bytes(message[..8].try_into().expect("eight bytes")), length))
            }
        }
    }

    fn count(&self) -> std::io::Result<u64> {
        match self {
            Self::Ours(queue) => Ok(sysv::stat(queue).msg_qnum),
            Self::Kernels(id) => {
                // SAFETY: numbers, for which zero is a value.
                let mut status: libc::msqid_ds = unsafe { std::mem::zeroed() };
                // SAFETY: the structure is the one that this command fills.
                checked(unsafe { libc::msgctl(*id, libc::IPC_STAT, &raw mut status) } as isize)?;
                Ok(status.msg_qnum)
            }
        }
    }

    fn delete(self) -> std::io::Result<()> {
        match self {
            Self::Ours(queue) => sysv::remove(queue),
            Self::Kernels(id) => {
                // SAFETY: this command takes no third argument.
                checked(unsafe { libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()) } as isize).map(drop)
            }
        }
    }
}

fn checked(result: isize) -> std::io::Result<usize> {
    usize::try_from(result).map_err(|_| std::io::Error::last_os_error())
}
