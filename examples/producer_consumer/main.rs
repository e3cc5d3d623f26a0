//! The lectures' exercise in every form: a producer makes items, a consumer uses them, a bounded buffer lies between. Each
//! form below is the first one, [`blocking`], and says only what it changes. Producers and consumers are processes: this
//! program starts itself again for each.
//!
//! ```text
//! cargo run --package ringpost --example producer_consumer
//!
//! blocking      1 producer,  1 consumer:  1000 items, sum 499500, in order
//! non-blocking  1 producer,  1 consumer:  1000 items, sum 499500, in order
//! time-out      1 producer,  1 consumer:  1000 items, sum 499500, in order
//! in place      1 producer,  1 consumer:  1000 items, sum 499500, in order
//! batched       1 producer,  1 consumer:  1000 items, sum 499500, in order
//! producers     3 producers, 1 consumer:  3000 items, sum 4498500, in order
//! mailbox       1 producer,  3 consumers: 1000 items, sum 499500, in order
//! broadcast     1 producer,  3 consumers: 3000 items, sum 1498500, in order
//! rendezvous    1 producer,  1 consumer:  1000 items, sum 499500, in order
//! acknowledged  1 producer,  1 consumer:  1000 items, sum 499500, in order
//! elastic       1 producer,  1 consumer:  1000 items, sum 499500, in order
//! duplex link   1 producer,  1 consumer:  1000 items, sum 499500, in order
//! byte stream   1 producer,  1 consumer:  1000 items, sum 499500, in order
//! select        3 producers, 1 consumer:  3000 items, sum 4498500, in order
//! ```
//!
//! `docs/LECTURE.md` leads through the questions behind it.

mod common;

use common::{
    Place, Tally, again_if, counted, items_of, number, once_somebody_listens, output_of, start, unless_closed,
};
use ringpost::{Builder, ByteReader, ByteWriter, Envelope, Lifetime, Pick, RecvError, Select, SendError};
use std::{
    collections::BTreeMap,
    env,
    error::Error,
    io::{BufRead, BufWriter, Write},
    ops::Range,
    process, thread,
    time::Duration,
};

type Failure = Box<dyn Error>;
type Done = Result<(), Failure>;

/// What one producer makes: numbers. The second producer goes on where the first has ended.
const ITEMS: u64 = 1000;
/// Of processes on a side, where there are many.
const MANY: u64 = 3;
const PATIENCE: Duration = Duration::from_millis(1);

/// One form of the exercise: who is there, what lies between them, and what each side does.
struct Form {
    name: &'static str,
    producers: u64,
    consumers: u64,
    /// None where the two connect to each other.
    buffer: Option<fn(Builder) -> Builder>,
    produce: fn(&Place, Range<u64>) -> Done,
    consume: fn(&Place) -> Result<Tally, Failure>,
}

const FORMS: [fn() -> Form; 14] = [
    blocking,
    non_blocking,
    with_a_time_out,
    in_place,
    batched,
    many_producers,
    many_consumers,
    broadcast,
    rendezvous,
    acknowledged,
    elastic,
    duplex_link,
    byte_stream,
    by_select,
];

/// *Bounded buffer, blocking, copied.* The producer sleeps while the buffer is full, the consumer while it is empty. The two
/// counting semaphores of the lectures (`empty`, `full`) are the ring's two positions; with one process on a side there is
/// nothing for a mutex to do.
fn blocking() -> Form {
    Form {
        name: "blocking",
        producers: 1,
        consumers: 1,
        // 4096 bytes, of which a message of 8 takes 24: so the buffer is full time and again.
        buffer: Some(|ring| ring.capacity(4096)),
        produce: |place, items| {
            let mut sender = place.ring()?.sender()?;
            for item in items {
                // The item is in the ring when this returns: what it was copied from can be used for the next one.
                sender.send(&item.to_ne_bytes())?;
            }
            // It is dropped here, which closes it: that is how the consumer learns of the end.
            Ok(())
        },
        consume: |place| {
            let mut receiver = place.ring()?.receiver()?;
            let mut tally = Tally::default();
            for item in &mut receiver {
                tally.add(number(&item));
            }
            Ok(tally)
        },
    }
}

/// *Non-blocking, with retry.* Both calls return at once with what hinders them, and the program decides. Here it tries again,
/// which is busy waiting; a real one would do something else in between.
fn non_blocking() -> Form {
    Form {
        name: "non-blocking",
        produce: |place, items| {
            let mut sender = place.ring()?.sender()?;
            for item in items {
                while let Err(why) = sender.try_send(&item.to_ne_bytes()) {
                    again_if(why == SendError::Full, why)?;
                }
            }
            Ok(())
        },
        consume: |place| {
            let mut receiver = place.ring()?.receiver()?;
            let mut tally = Tally::default();
            loop {
                match receiver.try_recv() {
                    Ok(item) => tally.add(number(&item.to_vec())),
                    Err(RecvError::Disconnected) => return Ok(tally),
                    Err(why) => again_if(why == RecvError::Empty, why)?,
                }
            }
        },
        ..blocking()
    }
}

/// *With a time-out.* Both calls sleep, but not longer than they were told; an item that was not sent is still the producer's.
fn with_a_time_out() -> Form {
    Form {
        name: "time-out",
        produce: |place, items| {
            let mut sender = place.ring()?.sender()?;
            for item in items {
                while let Err(why) = sender.send_timeout(&item.to_ne_bytes(), PATIENCE) {
                    again_if(why == SendError::TimedOut, why)?;
                }
            }
            Ok(())
        },
        consume: |place| {
            let mut receiver = place.ring()?.receiver()?;
            let mut tally = Tally::default();
            loop {
                match receiver.recv_timeout(PATIENCE) {
                    Ok(item) => tally.add(number(&item.to_vec())),
                    Err(RecvError::Disconnected) => return Ok(tally),
                    Err(why) => again_if(why == RecvError::TimedOut, why)?,
                }
            }
        },
        ..blocking()
    }
}

/// *By reference, in place.* The producer writes the item where the consumer reads it: nothing is copied. The room is the
/// producer's until `commit`, then the consumer's until it drops the message.
fn in_place() -> Form {
    Form {
        name: "in place",
        produce: |place, items| {
            // SAFETY: the ring is of mode 0600, and both processes that use it run this program, which does so only through
            // ringpost.
            let ring = unsafe { place.ring()?.trust_peers() };
            let mut sender = ring.sender()?;
            for item in items {
                let mut room = sender.reserve(size_of::<u64>())?;
                room.copy_from_slice(&item.to_ne_bytes());
                room.commit();
            }
            Ok(())
        },
        consume: |place| {
            // SAFETY: as above.
            let ring = unsafe { place.ring()?.trust_peers() };
            let mut receiver = ring.receiver()?;
            let mut tally = Tally::default();
            while let Some(item) = unless_closed(receiver.recv())? {
                tally.add(number(&item));
            }
            Ok(tally)
        },
        ..blocking()
    }
}

/// *Batched.* Several items are published together, all or none, and several are released together: one wake for all of them.
fn batched() -> Form {
    const BATCH: u64 = 10;
    Form {
        name: "batched",
        produce: |place, items| {
            let mut sender = place.ring()?.sender()?;
            for first in items.step_by(BATCH as usize) {
                let mut batch = sender.batch(BATCH as usize * ringpost::record_size(size_of::<u64>()))?;
                (first..first + BATCH).try_for_each(|item| batch.push(0, &item.to_ne_bytes()))?;
                batch.commit();
            }
            Ok(())
        },
        consume: |place| {
            let mut receiver = place.ring()?.receiver()?;
            let mut tally = Tally::default();
            while let Some(items) = unless_closed(receiver.recv_many(64))? {
                items.iter().for_each(|item| tally.add(number(&item.to_vec())));
            }
            Ok(tally)
        },
        ..blocking()
    }
}

/// *Many to one: a port.* All items stand in one total order, in which each producer's own stand as it sent them.
fn many_producers() -> Form {
    Form {
        name: "producers",
        producers: MANY,
        buffer: Some(|ring| ring.capacity(4096).many_senders(MANY as u8 + 1)),
        produce: |place, items| {
            let mut sender = place.ring()?.multi_sender()?;
            Ok(items.into_iter().try_for_each(|item| sender.send(&item.to_ne_bytes()))?)
        },
        consume: |place| {
            let ring = place.ring()?;
            // A ring ends when no sender is left. This one is never used: it keeps the ring open between two producers of
            // whom the first ends before the second has come.
            let _stays_open = ring.multi_sender()?;
            let mut receiver = ring.receiver()?;
            let mut tally = Tally::default();
            for item in receiver.iter().take((MANY * ITEMS) as usize) {
                tally.add(number(&item));
            }
            Ok(tally)
        },
        ..blocking()
    }
}

/// *Many to many: a mailbox.* Each item goes to one of the consumers, whichever takes it first.
fn many_consumers() -> Form {
    /// Says that nothing more comes. The lectures call it a poison pill: each consumer takes one.
    const LAST: Envelope = Envelope { kind: 1, priority: 0 };
    Form {
        name: "mailbox",
        consumers: MANY,
        buffer: Some(|ring| ring.mailbox(64).longest_message(8)),
        produce: |place, items| {
            let mut mailbox = place.ring()?.mailbox()?;
            for item in items {
                mailbox.send(0, &item.to_ne_bytes())?;
            }
            (0..MANY).try_for_each(|_| mailbox.send(LAST, b"").map(|_| ()))?;
            Ok(())
        },
        consume: |place| {
            let mut mailbox = place.ring()?.mailbox()?;
            let mut tally = Tally::default();
            loop {
                let item = mailbox.recv(Pick::Any)?;
                if item.kind() == LAST.kind {
                    return Ok(tally);
                }
                tally.add(number(&item.to_vec()));
            }
        },
        ..blocking()
    }
}

/// *One to all: a broadcast.* Each item is written once and goes to every consumer; the producer waits for the slowest.
fn broadcast() -> Form {
    Form {
        name: "broadcast",
        consumers: MANY,
        buffer: Some(|ring| ring.capacity(4096).broadcast(MANY as u8)),
        produce: |place, items| {
            let ring = place.ring()?;
            let mut publisher = ring.publisher()?;
            // It needs nobody who reads: the first items would be gone before the consumers have come.
            while ring.statistics().readers.iter().filter(|reader| reader.attached).count() < MANY as usize {
                thread::yield_now();
            }
            Ok(items.into_iter().try_for_each(|item| publisher.send(&item.to_ne_bytes()))?)
        },
        consume: |place| {
            let mut subscriber = place.ring()?.subscriber()?;
            let mut tally = Tally::default();
            for item in subscriber.iter() {
                tally.add(number(&item));
            }
            Ok(tally)
        },
        ..blocking()
    }
}

/// *Capacity zero: a rendezvous.* `send` returns when the consumer is done with the item.
fn rendezvous() -> Form {
    Form {
        name: "rendezvous",
        buffer: Some(|ring| ring.capacity(4096).rendezvous()),
        produce: |place, items| {
            let mut sender = place.ring()?.rendezvous_sender()?;
            Ok(items.into_iter().try_for_each(|item| sender.send(&item.to_ne_bytes()))?)
        },
        ..blocking()
    }
}

/// *Acknowledged.* `send` does not wait for the consumer, but the producer can ask, or wait, for its being done with an item.
/// The items are taken in order: so the receipt of the last one speaks for all.
fn acknowledged() -> Form {
    Form {
        name: "acknowledged",
        produce: |place, mut items| {
            let mut sender = place.ring()?.sender()?;
            let last = items.next_back().ok_or("no items")?;
            items.into_iter().try_for_each(|item| sender.send(&item.to_ne_bytes()))?;
            Ok(sender.send_acknowledged(&last.to_ne_bytes())?.wait()?)
        },
        ..blocking()
    }
}

/// *Unbounded, up to a ceiling: an elastic ring.* It takes memory as the backlog grows, and gives it back. The producer need
/// not wait; the ceiling is where its error would come.
fn elastic() -> Form {
    Form {
        name: "elastic",
        buffer: Some(|ring| ring.elastic(256 << 10)),
        produce: |place, items| {
            let mut sender = place.ring()?.sender()?;
            Ok(items.into_iter().try_for_each(|item| sender.try_send(&item.to_ne_bytes()))?)
        },
        ..blocking()
    }
}

/// *Client and server: a link, both ways.* Not by the name of a buffer: the consumer listens, the producer connects, and what
/// lies between them is theirs alone. The consumer answers each item.
fn duplex_link() -> Form {
    Form {
        name: "duplex link",
        buffer: None,
        produce: |place, items| {
            let mut link = once_somebody_listens(|| ringpost::connect_duplex(place.path()))?;
            for item in items {
                link.send(&item.to_ne_bytes())?;
                assert_eq!(number(&link.recv()?.to_vec()), item + 1, "the answer");
            }
            Ok(())
        },
        consume: |place| {
            let mut link = ringpost::listen(place.path())?.accept_duplex()?;
            let mut tally = Tally::default();
            while let Some(item) = unless_closed(link.recv().map(|item| number(&item.to_vec())))? {
                tally.add(item);
                link.send(&(item + 1).to_ne_bytes())?;
            }
            Ok(tally)
        },
        ..blocking()
    }
}

/// *A byte stream, as a pipe is.* Where a message ends is not seen: the items are lines again.
fn byte_stream() -> Form {
    Form {
        name: "byte stream",
        produce: |place, items| {
            let mut stream = BufWriter::new(ByteWriter::new(place.ring()?.sender()?));
            items.into_iter().try_for_each(|item| writeln!(stream, "{item}"))?;
            Ok(stream.flush()?)
        },
        consume: |place| {
            let mut tally = Tally::default();
            for line in ByteReader::new(place.ring()?.receiver()?).lines() {
                tally.add(line?.parse()?);
            }
            Ok(tally)
        },
        ..blocking()
    }
}

/// *Wait for any of many: select.* Each producer has a link of its own, and one sleep is for all of them.
fn by_select() -> Form {
    Form {
        name: "select",
        producers: MANY,
        buffer: None,
        produce: |place, items| {
            let mut sender = once_somebody_listens(|| ringpost::connect(place.path()))?;
            Ok(items.into_iter().try_for_each(|item| sender.send(&item.to_ne_bytes()))?)
        },
        consume: |place| {
            let listener = ringpost::listen(place.path())?;
            let mut select = Select::new();
            let mut links = BTreeMap::new();
            for _ in 0..MANY {
                let link = select.add(listener.accept()?)?;
                links.insert(link.id(), link);
            }
            let mut tally = Tally::default();
            while !select.is_empty() {
                let link = links[&select.wait()?];
                match select[link].try_recv().map(|item| number(&item.to_vec())) {
                    Ok(item) => tally.add(item),
                    // A false alarm.
                    Err(RecvError::Empty) => (),
                    Err(RecvError::Disconnected) => drop(select.remove(link)),
                    Err(why) => return Err(why.into()),
                }
            }
            Ok(tally)
        },
        ..blocking()
    }
}

fn main() -> Done {
    match env::args().collect::<Vec<_>>().as_slice() {
        [_, form, name, side] => {
            let (form, place) = (FORMS[form.parse::<usize>()?](), Place { name: name.clone() });
            if let Ok(producer) = side.parse() {
                return (form.produce)(&place, items_of(producer));
            }
            println!("{}", (form.consume)(&place)?);
            Ok(())
        }
        _ => (0..FORMS.len()).try_for_each(run),
    }
}

/// Starts the processes of a form, and says what its consumers have got.
fn run(number: usize) -> Done {
    let form = FORMS[number]();
    let place = Place { name: format!("producer-consumer-{}", process::id()) };
    // Held until the end of this function, with which its name goes.
    let make = |buffer: fn(Builder) -> Builder| {
        buffer(ringpost::builder(&place.name)).lifetime(Lifetime::Owned).create()
    };
    let _ring = form.buffer.map(make).transpose()?;
    let consumers = (0..form.consumers).map(|_| start(number, &place, "consumer".into()));
    let consumers = consumers.collect::<Result<Vec<_>, _>>()?;
    let producers = (0..form.producers).map(|producer| start(number, &place, producer.to_string()));
    for producer in producers.collect::<Result<Vec<_>, _>>()? {
        output_of(producer)?;
    }
    let mut all = Tally::default();
    for consumer in consumers {
        all += output_of(consumer)?.parse()?;
    }
    let Tally { items, sum, is_in_order, .. } = all;
    let order = if is_in_order { "in order" } else { "in disorder" };
    let (producers, consumers) = (counted(form.producers, "producer"), counted(form.consumers, "consumer"));
    println!(
        "{:13} {:12} {:12} {items} items, sum {sum}, {order}",
        form.name,
        producers + ",",
        consumers + ":"
    );
    Ok(())
}
