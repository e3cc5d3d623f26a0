//! What does a call cost, beside the two messages that it is made of, and beside a Unix socket?
//!
//! ```text
//! cargo run --release --package ringpost-rpc --example latency
//! ```
//!
//! Each way of asking has a process of its own that answers. All but one of them are stopped at any time, so that none polls
//! while another is measured, and they take turns, so that what disturbs the machine disturbs all of them.

use ringpost::{Duplex, WaitStrategy};
use ringpost_rpc::{Binding, Server};
use rustix::{
    process::{Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid},
    thread::{CpuSet, sched_setaffinity},
};
use std::{
    env,
    error::Error,
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

/// Bytes of the argument, and of the result.
const BYTES: usize = 64;
type Bytes = [u8; BYTES];

const TURNS: usize = 31;
const ROUND_TRIPS: u32 = 5_000;
const WARM_UP: u32 = 500;

#[ringpost_rpc::interface]
trait Echo {
    fn echo(&self, bytes: Bytes) -> Bytes;
}

#[derive(Clone)]
struct Plain;

impl Echo for Plain {
    fn echo(&self, bytes: Bytes) -> Bytes {
        bytes
    }
}

/// Ways of asking.
const WAYS: [&str; 3] = ["call", "messages", "socket"];

/// How the two processes wait.
#[derive(Clone, Copy, PartialEq)]
enum Wait {
    /// Polling, each on its processor.
    Spinning,
    /// Asleep, both on one processor.
    Asleep,
}

impl Wait {
    fn strategy(self) -> WaitStrategy {
        match self {
            Self::Spinning => WaitStrategy::Spin,
            Self::Asleep => WaitStrategy::Sleep,
        }
    }

    fn processor_of_server(self) -> usize {
        usize::from(self == Self::Spinning)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [way, wait, path] = &arguments[..] {
        let wait = if wait == "spinning" { Wait::Spinning } else { Wait::Asleep };
        return answer(way, wait, Path::new(path));
    }
    let directory = env::temp_dir().join(format!("ringpost-latency-{}", std::process::id()));
    fs::create_dir(&directory)?;
    let measured = measure(&directory);
    fs::remove_dir_all(&directory)?;
    measured
}

fn measure(directory: &Path) -> Result<(), Box<dyn Error>> {
    println!("round trips of {BYTES} B, median of {TURNS} turns of {ROUND_TRIPS}, ns");
    for (wait, name) in [(Wait::Spinning, "spinning"), (Wait::Asleep, "asleep")] {
        pin(0)?;
        let mut ways = Vec::new();
        for way in WAYS {
            ways.push(Way::start(way, wait, name, directory.join(format!("{way}-{name}")))?);
        }
        let mut turns_ns: [Vec<f64>; WAYS.len()] = Default::default();
        for _ in 0..TURNS {
            for (way, turns_ns) in ways.iter_mut().zip(&mut turns_ns) {
                turns_ns.push(way.turn()?);
            }
        }
        let [call, messages, socket] = turns_ns.map(median);
        println!("{name}: call {call:.0}, two messages {messages:.0}, socket {socket:.0}");
        println!("  call / (2 x one-way message) {:.2}", call / messages);
        println!("  socket / call {:.2}", socket / call);
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn pin(processor: usize) -> Result<(), Box<dyn Error>> {
    let mut set = CpuSet::new();
    set.set(processor);
    Ok(sched_setaffinity(None, &set)?)
}

/// Asks once, and gives the answer.
type Ask = Box<dyn FnMut(Bytes) -> Result<Bytes, Box<dyn Error>>>;

/// One way of asking, and the process that answers. It is stopped except in its turn.
struct Way {
    server: Child,
    ask: Ask,
}

impl Way {
    fn start(way: &str, wait: Wait, name: &str, path: PathBuf) -> Result<Self, Box<dyn Error>> {
        let server = Command::new(env::current_exe()?).args([way, name]).arg(&path).spawn()?;
        while !path.exists() {
            thread::sleep(Duration::from_millis(1));
        }
        let ask: Ask = match way {
            "call" => {
                let mut client = EchoClient::bind(Binding::path(&path).wait(wait.strategy()))?;
                Box::new(move |bytes| Ok(client.echo(bytes)?))
            }
            "messages" => {
                let mut link = ringpost::unnamed().wait(wait.strategy()).connect_duplex(&path)?;
                Box::new(move |bytes| {
                    link.send(&bytes)?;
                    let mut answer = [0; BYTES];
                    link.receiver.recv_into(&mut answer)?;
                    Ok(answer)
                })
            }
            _ => {
                let mut stream = loop {
                    // It may not listen yet.
                    match UnixStream::connect(&path) {
                        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                        other => break other?,
                    }
                };
                stream.set_nonblocking(wait == Wait::Spinning)?;
                let (mut number, mut frame) = (0u64, Vec::new());
                Box::new(move |bytes| {
                    number += 1;
                    send(&mut stream, &mut frame, &[number, 0, 0], &bytes)?;
                    let ([answered, _], answer) = receive(&mut stream, &mut frame)?;
                    assert_eq!(answered, number);
                    Ok(answer)
                })
            }
        };
        let way = Self { server, ask };
        way.stop()?;
        Ok(way)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.server)
    }

    fn stop(&self) -> Result<(), Box<dyn Error>> {
        kill_process(self.pid(), Signal::STOP)?;
        waitpid(Some(self.pid()), WaitOptions::UNTRACED)?;
        Ok(())
    }

    /// Nanoseconds of a round trip, in the mean of one turn.
    fn turn(&mut self) -> Result<f64, Box<dyn Error>> {
        kill_process(self.pid(), Signal::CONT)?;
        for _ in 0..WARM_UP {
            (self.ask)([1; BYTES])?;
        }
        let start = Instant::now();
        for number in 0..ROUND_TRIPS {
            let bytes = [number as u8; BYTES];
            assert_eq!((self.ask)(bytes)?, bytes);
        }
        let taken = start.elapsed();
        self.stop()?;
        Ok(taken.as_nanos() as f64 / f64::from(ROUND_TRIPS))
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The other process.
fn answer(way: &str, wait: Wait, path: &Path) -> Result<(), Box<dyn Error>> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    pin(wait.processor_of_server())?;
    match way {
        "call" => {
            Server::on(ringpost::listen(path)?).wait(wait.strategy()).serve(EchoServer(Plain));
            Ok(())
        }
        "messages" => {
            let listener = ringpost::unnamed().wait(wait.strategy()).listen(path)?;
            let Duplex { mut sender, mut receiver, .. } = listener.accept_duplex()?;
            let mut bytes = [0; BYTES];
            loop {
                receiver.recv_into(&mut bytes)?;
                sender.send(&bytes)?;
            }
        }
        _ => {
            let mut stream = UnixListener::bind(path)?.accept()?.0;
            stream.set_nonblocking(wait == Wait::Spinning)?;
            let mut frame = Vec::new();
            loop {
                let ([number, _, _], bytes) = receive(&mut stream, &mut frame)?;
                send(&mut stream, &mut frame, &[number, 0], &bytes)?;
            }
        }
    }
}

/// As a call goes: the words of its header, and the argument; in a stream, behind their length.
fn send(
    stream: &mut UnixStream,
    frame: &mut Vec<u8>,
    header: &[u64],
    bytes: &Bytes,
) -> Result<(), Box<dyn Error>> {
    let length = (size_of_val(header) + BYTES) as u32;
    frame.clear();
    frame.extend_from_slice(&length.to_ne_bytes());
    header.iter().for_each(|word| frame.extend_from_slice(&word.to_ne_bytes()));
    frame.extend_from_slice(bytes);
    Ok(stream.write_all(frame)?)
}

fn receive<const WORDS: usize>(
    stream: &mut UnixStream,
    frame: &mut Vec<u8>,
) -> Result<([u64; WORDS], Bytes), Box<dyn Error>> {
    frame.resize(4 + 8 * WORDS + BYTES, 0);
    let mut there = 0;
    while there < frame.len() {
        match stream.read(&mut frame[there..]) {
            Ok(0) => return Err("the other side has closed".into()),
            Ok(more) => there += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error.into()),
        }
    }
    let (length, rest) = frame.split_at(4);
    assert_eq!(u32::from_ne_bytes(length.try_into()?) as usize, rest.len());
    let (header, bytes) = rest.split_at(8 * WORDS);
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(header.chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into()?);
    }
    Ok((words, bytes.try_into()?))
}
