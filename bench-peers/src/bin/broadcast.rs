//! One sender whose messages every reader gets, between processes: ringpost's broadcast beside iceoryx2's
//! publish-subscribe.
//!
//! ```text
//! cargo run --release --manifest-path bench-peers/Cargo.toml --bin broadcast
//! ```
//!
//! Each run is one publisher process and so many reader processes, made anew and pinned in turn to the processors.
//! Nothing is lost on either side: who publishes waits for the slowest reader. Who publishes writes every byte of each
//! message where it lies; who reads reads one word of each cache line and compares it with the number that is due.
//! Rounds are interleaved: ringpost, iceoryx2, ringpost, … A rate is the number of messages through the time of the slowest
//! process, from its first message after the warm-up to its last.
//!
//! *Polling*: nobody sleeps: the ring waits by `WaitStrategy::Spin`; or by `yield_now` between two looks where there are more processes than
//! processors; only iceoryx2's publisher, when a buffer is full, waits as it always does (it pauses, then yields, then
//! sleeps for a moment), for that can't be chosen. *Own*: each one's own way: ringpost's default; iceoryx2 with an event after each message and a listener.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    process::{Child, ChildStdin, Command, Stdio},
    str::FromStr,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Parser, ValueEnum, value_parser};
use iceoryx2::prelude::*;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::Pid,
};
use ringpost::{RecvError, SendError, Trusted, WaitStrategy};
use ringpost_cli::bench::units;

/// 64-bit words of a message.
const WORDS: usize = 8;
/// Words of a cache line.
const LINE: usize = 8;
/// Bytes of a message.
const SIZE: usize = WORDS * 8;
/// Bytes between publisher and readers: of a ring with its headers, of iceoryx2's buffers without.
const CAPACITY: usize = 256 << 10;
/// Messages before the clock runs: some laps of both buffers.
const WARM_UP: u64 = 4 * (CAPACITY / SIZE) as u64;
/// After this without a word of any process, a run is given up: of ringpost an error, of iceoryx2 a round that is left out.
const PATIENCE: Duration = Duration::from_secs(60);

/// Messages a second of 64 bytes to several readers: ringpost's broadcast beside iceoryx2's publish-subscribe.
#[derive(Parser)]
#[command(name = "broadcast", version)]
struct Arguments {
    /// Measured in each run, after the warm-up.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = value_parser!(u64).range(1..))]
    messages: u64,
    /// Runs of each side for each row.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// How many readers, a row each.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4", value_parser = value_parser!(u8).range(1..=16))]
    readers: Vec<u8>,
    /// JSON Lines instead of a table.
    #[arg(long)]
    json: bool,
    /// Takes one part of a run, in a process of its own.
    #[arg(long, hide = true, num_args = 5)]
    part: Option<Vec<String>>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Waiting {
    Polling,
    Own,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Side {
    Ringpost,
    Iceoryx2,
}

/// As the command line says it.
fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().expect("no value is hidden").get_name().to_owned()
}

fn parsed<T: ValueEnum>(word: &str) -> Result<T> {
    T::from_str(word, false).map_err(|error| anyhow!(error))
}

fn number<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(word: &str) -> Result<T> {
    word.parse().with_context(|| format!("not a number: {word}"))
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.part {
        Some(words) => Part::new(words, &arguments)?.play(),
        None => supervise(&arguments),
    }
}

fn supervise(arguments: &Arguments) -> Result<()> {
    let processors = usable()?.len();
    if !arguments.json {
        println!(
            "{SIZE} B, {} messages a run, rounds: {}; messages/s, median (least to most)",
            arguments.messages, arguments.rounds
        );
        println!("{:>7} {:8} {:>32} {:>32} {:>24}", "readers", "waiting", "ringpost", "iceoryx2", "ratio");
    }
    for waiting in [Waiting::Polling, Waiting::Own] {
        for &readers in &arguments.readers {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for round in 0..arguments.rounds {
                let rate = |side| {
                    let run = Run { side, waiting, readers, messages: arguments.messages };
                    let named =
                        || format!("{} to {readers} readers, {}, round {round}", word(&side), word(&waiting));
                    run.rate().with_context(named)
                };
                let our_rate = rate(Side::Ringpost)?;
                match rate(Side::Iceoryx2) {
                    Ok(their_rate) => {
                        ours.push(our_rate);
                        theirs.push(their_rate);
                    }
                    Err(error) if error.is::<RecvTimeoutError>() => eprintln!("left out: {error:#}"),
                    Err(error) => return Err(error),
                }
            }
            let rounds = ours.len();
            if rounds == 0 {
                eprintln!("no round is left to {readers} readers, {}", word(&waiting));
                continue;
            }
            let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
            let spreads = [Spread::of(ours), Spread::of(theirs), Spread::of(ratios)];
            if arguments.json {
                println!(
                    "{}",
                    json(
                        (arguments.messages, rounds),
                        waiting,
                        readers,
                        usize::from(readers) >= processors,
                        &spreads
                    )
                );
            } else {
                let [ours, theirs, ratio] = &spreads;
                let (ours, theirs) = (ours.told(units::rate), theirs.told(units::rate));
                let ratio = ratio.told(|ratio| format!("{ratio:.2}"));
                println!("{readers:>7} {:8} {ours:>32} {theirs:>32} {ratio:>24}", word(&waiting));
            }
        }
    }
    Ok(())
}

fn json(
    (messages, rounds): (u64, usize),
    waiting: Waiting,
    readers: u8,
    crowded: bool,
    spreads: &[Spread; 3],
) -> String {
    let [ours, theirs, ratio] = spreads;
    let rate = |side: &str, spread: &Spread| {
        let Spread { median, least, most } = spread;
        format!(r#""{side}_per_s":{median:.0},"{side}_least":{least:.0},"{side}_most":{most:.0}"#)
    };
    format!(
        r#"{{"size":{SIZE},"readers":{readers},"waiting":"{}","oversubscribed":{crowded},"messages":{messages},"rounds":{rounds},{},{},"ratio":{:.3},"ratio_least":{:.3},"ratio_most":{:.3}}}"#,
        word(&waiting),
        rate("ringpost", ours),
        rate("iceoryx2", theirs),
        ratio.median,
        ratio.least,
        ratio.most,
    )
}

/// What the rounds gave.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (middle, last) = (values.len() / 2, values.len() - 1);
        let median = (values[middle] + values[last - middle]) / 2.0;
        Self { median, least: values[0], most: values[last] }
    }

    fn told(&self, tell: impl Fn(f64) -> String) -> String {
        format!("{} ({} to {})", tell(self.median), tell(self.least), tell(self.most))
    }
}

/// One publisher and its readers, once.
struct Run {
    side: Side,
    waiting: Waiting,
    readers: u8,
    messages: u64,
}

impl Run {
    /// Messages a second, of the slowest process.
    fn rate(&self) -> Result<f64> {
        let (place, _ring) = self.place()?;
        let (tell, heard) = channel();
        let hear = || heard.recv_timeout(PATIENCE).context("the run stands still")?;
        let mut cast = Vec::new();
        // One after the other, the publisher first: iceoryx2 gives up on a reader that has not found it when the buffer is
        // full, and a reader looks for those that are there when it is made. None sends before all are ready.
        for part in 0..=self.readers {
            cast.push(Player::start(self, part, &place, &tell)?);
            hear()?;
        }
        cast.iter_mut().try_for_each(Player::go)?;
        let mut slowest = 0;
        for _ in 0..=self.readers {
            slowest = slowest.max(hear()?);
        }
        cast.into_iter().try_for_each(Player::end)?;
        Ok(self.messages as f64 / Duration::from_nanos(slowest.max(1)).as_secs_f64())
    }

    /// Where the processes meet, and what must live as long.
    fn place(&self) -> Result<(String, Option<OwnedFd>)> {
        if self.side == Side::Iceoryx2 {
            let now = std::time::UNIX_EPOCH.elapsed()?.as_nanos();
            return Ok((format!("bench-peers/broadcast/{}/{now}", std::process::id()), None));
        }
        let ring = ringpost::unnamed().capacity(CAPACITY as u64).broadcast(self.readers).memfd()?;
        let descriptor = ring.inheritable_fd()?;
        Ok((descriptor.as_raw_fd().to_string(), Some(descriptor)))
    }
}

/// A process of a run, as its parent has it. Killed when dropped.
struct Player {
    process: Child,
    orders: Option<ChildStdin>,
}

impl Player {
    fn start(run: &Run, part: u8, place: &str, tell: &Sender<Result<u64>>) -> Result<Self> {
        let numbers = [part.to_string(), run.readers.to_string()];
        let mut process = Command::new(env::current_exe()?)
            .args(["--messages", &run.messages.to_string(), "--part", &word(&run.side), &word(&run.waiting)])
            .args(numbers)
            .arg(place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a process")?;
        let said = BufReader::new(process.stdout.take().expect("it is a pipe"));
        let orders = process.stdin.take();
        let tell = tell.clone();
        thread::spawn(move || {
            // A third line, or an end before the second one, is an error; nobody listens to one after the second.
            let mut lines = said.lines();
            while tell.send(next_number(&mut lines)).is_ok() {}
        });
        Ok(Self { process, orders })
    }

    fn go(&mut self) -> Result<()> {
        Ok(self.orders.as_mut().expect("not ended").write_all(b"go\n")?)
    }

    fn end(mut self) -> Result<()> {
        drop(self.orders.take());
        let status = self.process.wait()?;
        ensure!(status.success(), "a process ended with {status}");
        Ok(())
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // Fails where it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn next_number(lines: &mut impl Iterator<Item = io::Result<String>>) -> Result<u64> {
    number(&lines.next().context("a process ended too early")??)
}

/// One process of a run.
struct Part {
    side: Side,
    waiting: Waiting,
    /// 0 publishes, the others read.
    part: u8,
    readers: u8,
    place: String,
    messages: u64,
    /// Give the processor away between two looks.
    crowded: bool,
}

impl Part {
    fn new(words: &[String], arguments: &Arguments) -> Result<Self> {
        let [side, waiting, part, readers, place] = words else { bail!("five words make a part") };
        let (part, readers) = (number(part)?, number(readers)?);
        let processors = usable()?;
        let mut own = CpuSet::new();
        own.set(processors[usize::from(part) % processors.len()])?;
        sched_setaffinity(Pid::from_raw(0), &own)?;
        Ok(Self {
            side: parsed(side)?,
            waiting: parsed(waiting)?,
            part,
            readers,
            place: place.clone(),
            messages: arguments.messages,
            crowded: usize::from(readers) >= processors.len(),
        })
    }

    fn play(&self) -> Result<()> {
        // Nobody is left to end this process when its parent dies.
        set_pdeathsig(Signal::SIGKILL)?;
        match (self.side, self.part) {
            (Side::Ringpost, 0) => self.publish_in_ring(),
            (Side::Ringpost, _) => self.read_from_ring(),
            (Side::Iceoryx2, 0) => self.publish_to_service(),
            (Side::Iceoryx2, _) => self.read_from_service(),
        }
    }

    fn polls(&self) -> bool {
        self.waiting == Waiting::Polling
    }

    /// Polling, and there are not processors for all: the ring is asked without waiting then, and the processor given away.
    fn yields(&self) -> bool {
        self.polls() && self.crowded
    }

    /// How the calls that wait do so.
    fn strategy(&self) -> WaitStrategy {
        if self.polls() { WaitStrategy::Spin } else { WaitStrategy::default() }
    }

    /// Ready, go; `step` for each message with its number; how long it took; and stay until all are done.
    fn all(&self, mut step: impl FnMut(u64) -> Result<()>) -> Result<()> {
        let mut orders = io::stdin().lines();
        println!("0");
        ensure!(orders.next().transpose()?.is_some(), "the run ended before it began");
        (0..WARM_UP).try_for_each(&mut step)?;
        let start = Instant::now();
        (WARM_UP..WARM_UP + self.messages).try_for_each(&mut step)?;
        println!("{}", start.elapsed().as_nanos());
        ensure!(orders.next().transpose()?.is_none(), "nothing is to follow");
        Ok(())
    }

    fn ring(&self) -> Result<ringpost::Ring<Trusted>> {
        let descriptor: RawFd = number(&self.place)?;
        // SAFETY: the parent passed this descriptor on to this process alone, and nothing else here uses it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let ring = ringpost::unnamed().from_fd(descriptor)?;
        // SAFETY: the memfd has no name, and its only holders are processes of this run, which write to it through
        // ringpost alone.
        Ok(unsafe { ring.trust_peers() })
    }

    fn publish_in_ring(&self) -> Result<()> {
        let mut publisher = self.ring()?.publisher()?;
        publisher.set_wait(self.strategy());
        let yields = self.yields();
        self.all(|number| {
            if yields {
                loop {
                    match publisher.try_reserve(SIZE) {
                        Ok(mut room) => {
                            write(&mut room, number);
                            room.commit();
                            return Ok(());
                        }
                        Err(SendError::Full) => thread::yield_now(),
                        Err(other) => return Err(other.into()),
                    }
                }
            }
            let mut room = publisher.reserve(SIZE)?;
            write(&mut room, number);
            room.commit();
            Ok(())
        })
    }

    fn read_from_ring(&self) -> Result<()> {
        let mut subscriber = self.ring()?.subscriber()?;
        subscriber.set_wait(self.strategy());
        let yields = self.yields();
        self.all(|number| {
            if !yields {
                return check_bytes(&subscriber.recv()?, number);
            }
            loop {
                match subscriber.try_recv() {
                    Ok(message) => return check_bytes(&message, number),
                    Err(RecvError::Empty) => thread::yield_now(),
                    Err(other) => return Err(other.into()),
                }
            }
        })
    }

    /// The service and, where a listener waits, its event.
    fn service(&self) -> Result<Service> {
        set_log_level(LogLevel::Fatal);
        let node = NodeBuilder::new().create::<ipc::Service>().map_err(said)?;
        let name = ServiceName::new(&self.place).map_err(said)?;
        let readers = usize::from(self.readers);
        let messages = node
            .service_builder(&name)
            .publish_subscribe::<[u64; WORDS]>()
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(CAPACITY / SIZE)
            .history_size(0)
            .max_publishers(1)
            .max_subscribers(readers)
            .max_nodes(readers + 1)
            .open_or_create()
            .map_err(said)?;
        let event = || {
            let event = node.service_builder(&name).event();
            event.max_notifiers(1).max_listeners(readers).max_nodes(readers + 1).open_or_create()
        };
        let event = (!self.polls()).then(event).transpose().map_err(said)?;
        Ok(Service { messages, event, _node: node })
    }

    fn publish_to_service(&self) -> Result<()> {
        let service = self.service()?;
        let builder = service.messages.publisher_builder();
        let builder = builder.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered);
        let publisher = builder.create().map_err(said)?;
        let notifier = service.event.as_ref().map(|event| event.notifier_builder().create());
        let notifier = notifier.transpose().map_err(said)?;
        self.all(|number| {
            let sample = publisher.loan_uninit().map_err(said)?;
            let got_by = sample.write_payload([number; WORDS]).send().map_err(said)?;
            ensure!(got_by == usize::from(self.readers), "{got_by} readers got message {number}");
            if let Some(notifier) = &notifier {
                notifier.notify().map_err(said)?;
            }
            Ok(())
        })
    }

    fn read_from_service(&self) -> Result<()> {
        let service = self.service()?;
        let builder = service.messages.subscriber_builder();
        let subscriber = builder.buffer_size(CAPACITY / SIZE).create().map_err(said)?;
        let listener = service.event.as_ref().map(|event| event.listener_builder().create());
        let listener = listener.transpose().map_err(said)?;
        self.all(|number| {
            loop {
                if let Some(sample) = subscriber.receive().map_err(said)? {
                    return check(sample.payload().iter().copied().step_by(LINE), number);
                }
                match &listener {
                    Some(listener) => {
                        listener.blocking_wait(|_| ()).map_err(said)?;
                    }
                    None if self.crowded => thread::yield_now(),
                    None => std::hint::spin_loop(),
                }
            }
        })
    }
}

/// What a process of iceoryx2 opens.
struct Service {
    messages: iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, [u64; WORDS], ()>,
    event: Option<iceoryx2::service::port_factory::event::PortFactory<ipc::Service>>,
    _node: iceoryx2::node::Node<ipc::Service>,
}

/// Its errors are not all errors for the standard library.
fn said(error: impl std::fmt::Debug) -> anyhow::Error {
    anyhow!("{error:?}")
}

/// Writes every byte.
#[inline]
fn write(message: &mut [u8], number: u64) {
    for word in message.chunks_exact_mut(8) {
        word.copy_from_slice(&number.to_ne_bytes());
    }
}

/// Reads one word of each line.
#[inline]
fn check_bytes(message: &[u8], number: u64) -> Result<()> {
    ensure!(message.len() == SIZE, "{} bytes instead of {SIZE}", message.len());
    let words = message.chunks_exact(8).step_by(LINE);
    check(words.map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes"))), number)
}

#[inline]
fn check(mut words: impl Iterator<Item = u64>, number: u64) -> Result<()> {
    match words.find(|&word| word != number) {
        Some(other) => bail!("message {other} instead of {number}"),
        None => Ok(()),
    }
}

/// The processors that this process may use.
fn usable() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|&processor| allowed.is_set(processor) == Ok(true)).collect())
}
