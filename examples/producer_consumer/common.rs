//! What all forms share: where the two sides meet, what a consumer has got, and how a process is started.

use super::{Failure, ITEMS, MANY};
use ringpost::{LinkError, OpenError, RecvError, Ring};
use std::{
    env,
    fmt::{self, Display},
    io,
    ops::{AddAssign, Range},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

/// What producer and consumers have in common from the start: a name.
pub struct Place {
    pub name: String,
}

impl Place {
    pub fn ring(&self) -> Result<Ring, OpenError> {
        ringpost::builder(&self.name).open()
    }

    /// Of a socket.
    pub fn path(&self) -> PathBuf {
        env::temp_dir().join(&self.name)
    }
}

/// What a consumer has got.
pub struct Tally {
    pub items: u64,
    pub sum: u64,
    /// Whether each item came after all that its producer had made before.
    pub is_in_order: bool,
    /// The first item that can come from each producer now.
    next: [u64; MANY as usize],
}

impl Default for Tally {
    fn default() -> Self {
        Self { items: 0, sum: 0, is_in_order: true, next: [0; MANY as usize] }
    }
}

impl Tally {
    pub fn add(&mut self, item: u64) {
        let next = &mut self.next[(item / ITEMS) as usize];
        self.items += 1;
        self.sum += item;
        self.is_in_order &= item >= *next;
        *next = item + 1;
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.items += other.items;
        self.sum += other.sum;
        self.is_in_order &= other.is_in_order;
    }
}

/// How a consumer tells it to the process that has started it.
impl Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.items, self.sum, self.is_in_order)
    }
}

impl FromStr for Tally {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let [items, sum, is_in_order] = text.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(format!("no tally: {text:?}").into());
        };
        let (items, sum, is_in_order) = (items.parse()?, sum.parse()?, is_in_order.parse()?);
        Ok(Self { items, sum, is_in_order, ..Self::default() })
    }
}

/// What this producer makes.
pub fn items_of(producer: u64) -> Range<u64> {
    producer * ITEMS..(producer + 1) * ITEMS
}

/// The item that these bytes are.
pub fn number(item: &[u8]) -> u64 {
    u64::from_ne_bytes(item.try_into().expect("an item has 8 bytes"))
}

/// What was received; nothing when all producers have closed, and all that they sent was received.
pub fn unless_closed<T>(received: Result<T, RecvError>) -> Result<Option<T>, RecvError> {
    match received {
        Err(RecvError::Disconnected) => Ok(None),
        other => other.map(Some),
    }
}

/// Lets others run, when that can help.
pub fn again_if<E>(it_can_help: bool, why: E) -> Result<(), E> {
    if !it_can_help {
        return Err(why);
    }
    thread::yield_now();
    Ok(())
}

/// Connects, as soon as there is a listener. None comes when the consumer has failed: so it is not waited for without an end.
pub fn once_somebody_listens<T>(connect: impl Fn() -> Result<T, OpenError>) -> Result<T, OpenError> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match connect() {
            Err(OpenError::Link(LinkError::NotListening { .. })) if Instant::now() < end => {
                thread::yield_now()
            }
            other => return other,
        }
    }
}

/// Starts this program as a producer of that number, or as a consumer.
pub fn start(form: usize, place: &Place, side: String) -> io::Result<Child> {
    let arguments = [form.to_string(), place.name.clone(), side];
    Command::new(env::current_exe()?).args(arguments).stdout(Stdio::piped()).spawn()
}

/// What it prints, when it has ended well.
pub fn output_of(process: Child) -> Result<String, Failure> {
    let Output { status, stdout, .. } = process.wait_with_output()?;
    if !status.success() {
        return Err(format!("a process has failed: {status}").into());
    }
    Ok(String::from_utf8(stdout)?)
}

/// So many of them, in words.
pub fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
