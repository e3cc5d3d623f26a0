//! Calls to a state that survives its server are done one after the other. What becomes of one while it waits for its turn.

#[path = "../../tests/common/mod.rs"]
mod common;

use common::{FAR, place::Place};
use ringpost_rpc::{Binding, CallError, Done, Durable, Event, Server, Stop};
use std::{
    sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use zerocopy::{Immutable, IntoBytes, TryFromBytes};

#[ringpost_rpc::interface]
trait Count {
    fn add(&mut self, by: u64) -> u64;
    /// Adds one, and comes back when all who are to wait do so: this gate is open then.
    fn outlast(&mut self, gate: u64) -> u64;
}

#[derive(TryFromBytes, IntoBytes, Immutable, Clone, Default)]
#[repr(C)]
struct Sum(u64);

/// A gate for each test: its server is in this process.
static GATES: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

fn open_gate(gate: u64) {
    GATES[gate as usize].store(true, Relaxed);
}

impl Count for Sum {
    fn add(&mut self, by: u64) -> u64 {
        self.0 += by;
        self.0
    }

    fn outlast(&mut self, gate: u64) -> u64 {
        while !GATES[gate as usize].load(Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        self.add(1)
    }
}

/// What the server tells of its calls.
#[derive(PartialEq, Eq, Debug)]
enum Told {
    Received,
    TooLate,
    Cancelled,
}

/// A server in this process, in a call that lasts until its gate is open.
struct Busy {
    place: Place,
    gate: u64,
    events: Receiver<Told>,
    stop: Stop,
    serving: JoinHandle<u64>,
    working: JoinHandle<u64>,
}

impl Busy {
    fn new(gate: u64) -> Self {
        let (place, state) = (Place::new(), Place::new());
        let (tell, events): (Sender<Told>, _) = mpsc::channel();
        let listener = ringpost::unnamed().capacity(1 << 16).handshake_timeout(FAR).listen(&*place).unwrap();
        let (server, stop) = Server::on(listener).with_stop();
        let server = server.observe(move |event| {
            let told = match event {
                Event::Received => Told::Received,
                Event::TooLate { .. } => Told::TooLate,
                Event::Cancelled { .. } => Told::Cancelled,
                _ => return,
            };
            let _ = tell.send(told);
        });
        let serving = thread::spawn(move || {
            let open = || Durable::<Sum>::open::<CountInterface>(&*state, &Sum(0)).unwrap();
            server.serve_exactly_once::<CountServer<_>>(open());
            open().state().0
        });
        let mut client = CountClient::bind(Binding::path(&*place)).unwrap();
        let working = thread::spawn(move || client.outlast(gate).unwrap());
        let busy = Self { place, gate, events, stop, serving, working };
        assert_eq!(busy.hear(), Told::Received);
        busy
    }

    fn hear(&self) -> Told {
        self.events.recv_timeout(FAR).unwrap()
    }

    /// A client whose call was received, and is given up before its turn comes.
    fn given_up(&self) -> CountClient {
        let mut client = CountClient::bind(Binding::path(&*self.place)).unwrap();
        client.client.set_timeout(Some(Duration::from_millis(200)));
        let error = client.add(100).unwrap_err();
        assert!(matches!(error, CallError::TimedOut { done: Done::Perhaps }), "{error}");
        assert_eq!(self.hear(), Told::Received);
        client
    }

    /// Lets the first call end. Gives what all calls together have added, when the server has ended.
    fn end(self) -> u64 {
        open_gate(self.gate);
        assert_eq!(self.working.join().unwrap(), 1);
        self.stop.stop();
        self.serving.join().unwrap()
    }
}

#[test]
fn what_has_become_too_late_while_it_waited_for_its_turn_is_not_begun() {
    let busy = Busy::new(0);
    let mut late = busy.given_up();
    open_gate(0);
    assert_eq!(busy.hear(), Told::TooLate);
    late.client.set_timeout(Some(FAR));
    assert_eq!(late.add(10).unwrap(), 11);
    assert_eq!(busy.end(), 11);
}

#[test]
fn what_a_client_asked_for_that_has_gone_before_its_turn_came_is_not_begun() {
    let busy = Busy::new(1);
    drop(busy.given_up());
    open_gate(1);
    assert_eq!(busy.hear(), Told::Cancelled);
    assert_eq!(busy.end(), 1);
}

#[test]
fn what_waits_for_its_turn_when_the_server_is_stopped_is_not_begun() {
    let busy = Busy::new(2);
    let mut waiting = CountClient::bind(Binding::path(&*busy.place)).unwrap();
    let waits = thread::spawn(move || waiting.add(100).unwrap_err());
    assert_eq!(busy.hear(), Told::Received);
    busy.stop.stop();
    assert_eq!(busy.end(), 1);
    let error = waits.join().unwrap();
    assert!(matches!(error, CallError::Unbound(_)) && error.done() == Done::No, "{error}");
}
