//! A stream of messages of 64 bytes: one process sends, the other receives and has the clock.

use crate::{
    SIZE, copied, message, number,
    other::{self, Other},
    print_table, take_turns, taken,
    waking::Sleepy,
};
use ringpost::{
    Builder, ByteReader, ByteWriter, Lanes, Pick, Receiver, Ring, Select, Sender, Source, Trusted, unnamed,
};
use std::{
    env,
    io::{Read, Write},
    time::Instant,
};

const MESSAGES: u64 = 4_000_000;
/// Until each page of the ring was touched.
const WARM_UP: u64 = 200_000;

/// Messages for which one receipt is waited for.
const ACKNOWLEDGED: u64 = 64;

/// The type of the messages of a typed ring.
type Value = [u64; SIZE / 8];

/// A way to pass messages.
struct Form {
    name: &'static str,
    ends: Ends,
}

enum Ends {
    Ring { builder: fn() -> Builder, send: fn(Ring), receive: fn(Ring, Other) -> f64 },
    Link { receive: fn(Receiver, Other) -> f64 },
}

const FORMS: &[Form] = &[
    Form { name: "plain: `send`, `recv_into`", ends: through(unnamed, send_copies, receive_copies) },
    Form { name: "in place: `reserve`, `recv`", ends: through(unnamed, send_in_place, receive_in_place) },
    Form {
        name: "typed: `TypedSender`, `TypedReceiver`",
        ends: through(
            || unnamed().fixed::<Value>(),
            |ring| {
                let mut sender = ring.sender().unwrap().typed::<Value>().unwrap();
                pour(|message| sender.send(&[number(message); SIZE / 8]).unwrap());
            },
            |ring, sender| {
                let mut receiver = ring.receiver().unwrap().typed::<Value>().unwrap();
                drain(sender, || receiver.recv().unwrap()[0])
            },
        ),
    },
    Form {
        name: "many senders, with one",
        ends: through(
            || unnamed().many_senders(8),
            |ring| {
                let mut sender = ring.multi_sender().unwrap();
                pour(|message| sender.send(message).unwrap());
            },
            receive_copies,
        ),
    },
    Form { name: "checksummed", ends: through(|| unnamed().checksummed(), send_copies, receive_copies) },
    Form { name: "elastic", ends: through(|| unnamed().elastic(4 << 20), send_copies, receive_copies) },
    Form {
        name: "a receipt waited for, each 64th",
        ends: through(unnamed, send_acknowledged, receive_copies),
    },
    Form {
        name: "byte stream: `Write`, `Read`",
        ends: through(
            unnamed,
            |ring| {
                let mut writer = ByteWriter::new(ring.sender().unwrap());
                pour(|message| writer.write_all(message).unwrap());
            },
            |ring, sender| {
                let mut reader = ByteReader::new(ring.receiver().unwrap());
                let mut message = [0; SIZE];
                drain(sender, || {
                    reader.read_exact(&mut message).unwrap();
                    number(&message)
                })
            },
        ),
    },
    Form { name: "futures: `sent`, `received`", ends: through(unnamed, send_futures, receive_futures) },
    Form { name: "`Select`, one ring", ends: through(unnamed, send_copies, receive_selected) },
    Form {
        name: "broadcast, one subscriber",
        ends: through(
            || unnamed().broadcast(4),
            |ring| {
                let mut publisher = ring.publisher().unwrap();
                pour(|message| publisher.send(message).unwrap());
            },
            |ring, sender| {
                let mut subscriber = ring.subscriber().unwrap();
                let mut buffer = [0; SIZE];
                drain(sender, || {
                    subscriber.recv().unwrap().read_at(0, &mut buffer);
                    number(&buffer)
                })
            },
        ),
    },
    Form {
        name: "mailbox",
        ends: through(
            || unnamed().mailbox(4096).longest_message(SIZE as u64),
            |ring| {
                let mut mailbox = ring.mailbox().unwrap();
                pour(|message| {
                    mailbox.send(1, message).unwrap();
                });
            },
            |ring, sender| {
                let mut mailbox = ring.mailbox().unwrap();
                let mut buffer = [0; SIZE];
                drain(sender, || {
                    mailbox.recv(Pick::Any).unwrap().read_at(0, &mut buffer);
                    number(&buffer)
                })
            },
        ),
    },
    Form { name: "link", ends: Ends::Link { receive: receive_each } },
    Form {
        name: "link, in `Lanes`",
        ends: Ends::Link {
            receive: |receiver, sender| {
                let mut lanes = Lanes::new();
                lanes.add(receiver).unwrap();
                drain(sender, || copied(&lanes.recv().unwrap().1))
            },
        },
    },
];

const fn through(builder: fn() -> Builder, send: fn(Ring), receive: fn(Ring, Other) -> f64) -> Ends {
    Ends::Ring { builder, send, receive }
}

/// Lets the other side send. Millions of messages a second, by the clock of who receives them.
fn drain(mut sender: Other, mut receive: impl FnMut() -> u64) -> f64 {
    sender.begin();
    (0..WARM_UP).for_each(|number| assert_eq!(receive(), number));
    let start = Instant::now();
    (WARM_UP..WARM_UP + MESSAGES).for_each(|number| assert_eq!(receive(), number));
    MESSAGES as f64 / 1e6 / start.elapsed().as_secs_f64()
}

/// Sends all messages, once the other side is there.
fn pour(mut send: impl FnMut(&[u8; SIZE])) {
    other::await_begin();
    (0..WARM_UP + MESSAGES).for_each(|number| send(&message(number)));
}

fn send_copies(ring: Ring) {
    pour_into(ring.sender().unwrap());
}

fn pour_into(mut sender: Sender) {
    pour(|message| sender.send(message).unwrap());
}

fn receive_copies(ring: Ring, sender: Other) -> f64 {
    receive_each(ring.receiver().unwrap(), sender)
}

fn receive_each(mut receiver: Receiver, sender: Other) -> f64 {
    let mut buffer = [0; SIZE];
    drain(sender, || {
        receiver.recv_into(&mut buffer).unwrap();
        number(&buffer)
    })
}

fn trusted(ring: Ring) -> Ring<Trusted> {
    // SAFETY: the memfd is known to this program and its child only, which write to it through ringpost alone.
    unsafe { ring.trust_peers() }
}

fn send_in_place(ring: Ring) {
    let mut sender = trusted(ring).sender().unwrap();
    pour(|message| {
        let mut room = sender.reserve(SIZE).unwrap();
        room.copy_from_slice(message);
        room.commit();
    });
}

fn receive_in_place(ring: Ring, sender: Other) -> f64 {
    let mut receiver = trusted(ring).receiver().unwrap();
    drain(sender, || number(&receiver.recv().unwrap()))
}

fn send_acknowledged(ring: Ring) {
    let mut sender = ring.sender().unwrap();
    pour(|message| {
        let receipt = sender.send_acknowledged(message).unwrap();
        if number(message) % ACKNOWLEDGED == ACKNOWLEDGED - 1 {
            receipt.wait().unwrap();
        }
    });
}

fn send_futures(ring: Ring) {
    let mut sender = ring.sender().unwrap();
    let sleepy = Sleepy::new();
    pour(|message| sleepy.complete(sender.sent(message)).unwrap());
}

fn receive_futures(ring: Ring, sender: Other) -> f64 {
    let mut receiver = ring.receiver().unwrap();
    let sleepy = Sleepy::new();
    drain(sender, || copied(&sleepy.complete(receiver.received()).unwrap()))
}

/// Waits for the ring among others, then takes what it has.
fn receive_selected(ring: Ring, sender: Other) -> f64 {
    let mut select = Select::new();
    let key = select.add(ring.receiver().unwrap()).unwrap();
    drain(sender, || {
        loop {
            match taken(select[key].try_recv()) {
                Some(number) => return number,
                None => assert_eq!(select.wait().unwrap(), key),
            }
        }
    })
}

/// In the other process.
pub fn send(role: &[String]) {
    other::pin(1);
    let form = &FORMS[role[0].parse::<usize>().unwrap()];
    match form.ends {
        Ends::Ring { builder, send, .. } => send(other::open(&builder(), &role[1])),
        Ends::Link { .. } => pour_into(ringpost::connect(&role[1]).unwrap()),
    }
}

pub fn compare() {
    other::pin(0);
    let forms: Vec<usize> = (0..FORMS.len()).collect();
    let measured = take_turns(&forms, |&index| match FORMS[index].ends {
        Ends::Ring { builder, receive, .. } => {
            let (ring, descriptor) = other::make(&builder());
            receive(ring, Other::start(format!("streams {index} {}", other::name(&descriptor))))
        }
        Ends::Link { receive } => {
            let path = env::temp_dir().join(format!("ringpost-patterns-{}", std::process::id()));
            let listener = ringpost::listen(&path).unwrap();
            let sender = Other::start(format!("streams {index} {}", path.display()));
            receive(listener.accept().unwrap(), sender)
        }
    });
    print_table("a stream of 64 B, M messages/s", FORMS.iter().map(|form| form.name).zip(measured));
}
