//! How servers end in order, and what their clients notice.

#[path = "../../tests/common/mod.rs"]
mod common;

use common::{Child, FAR, Line, fork::assert_in_fork, place::Place};
use ringpost::{LinkError, OpenError, WaitStrategy};
use ringpost_rpc::{BindError, Binding, CallError, Description, Done, Durable, Event, Server, Stop};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::{
    fs,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};
use zerocopy::{Immutable, IntoBytes, TryFromBytes};

#[ringpost_rpc::interface]
trait Count {
    fn add(&mut self, by: u64) -> u64;
    /// Comes back when it is told to.
    fn outlast(&mut self) -> u64;
}

#[derive(TryFromBytes, IntoBytes, Immutable, Clone, Default)]
#[repr(C)]
struct Sum(u64);

/// To whom `outlast` says that it has begun, and whether it may come back.
static LINE: OnceLock<Arc<Line>> = OnceLock::new();
static MAY_RETURN: AtomicBool = AtomicBool::new(false);

impl Count for Sum {
    fn add(&mut self, by: u64) -> u64 {
        self.0 += by;
        self.0
    }

    fn outlast(&mut self) -> u64 {
        LINE.get().unwrap().tell(BEGUN);
        while !MAY_RETURN.load(SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        self.add(1000)
    }
}

fn server(path: &Path) -> (Server, Stop) {
    Server::on(ringpost::unnamed().capacity(1 << 16).handshake_timeout(FAR).listen(path).unwrap()).with_stop()
}

fn binding(place: &Place) -> Binding {
    Binding::path(&**place)
}

fn is_nobody(error: &BindError) -> bool {
    matches!(error, BindError::Open(OpenError::Link(LinkError::NotListening { .. })))
}

fn threads_of_clients() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let names = tasks.filter_map(|task| fs::read_to_string(task.join("comm")).ok());
    names.filter(|name| name.trim() == "ringpost-rpc").count()
}

/// Waits until there are none, which have ended but for their last instructions.
fn assert_no_thread_is_left() {
    let none = (0..FAR.as_millis()).any(|_| {
        thread::sleep(Duration::from_millis(1));
        threads_of_clients() == 0
    });
    assert!(none, "{} threads are left", threads_of_clients());
}

const BEGUN: u64 = 1;
const STOPPING: u64 = 2;
const GOES_ON: u64 = 3;
const RETURNED: u64 = 4;

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["serve", path, how] => serve(path.as_ref(), how, line),
        _ => panic!("no such role: {words:?}"),
    });
}

/// Is stopped when its parent says so, and tells when it has ended; serves again in the same process.
fn serve(path: &Path, how: &str, line: Line) {
    let state = || Durable::<Sum>::open::<CountInterface>(path.with_extension("state"), &Sum(0)).unwrap();
    let (server, stop) = server(path);
    let server = server.wait(if how == "spin" { WaitStrategy::Spin } else { WaitStrategy::default() });
    line.tell(0);
    let line = Arc::new(line);
    assert!(LINE.set(Arc::clone(&line)).is_ok());
    let orders = Arc::clone(&line);
    let ordered = thread::spawn(move || {
        assert_eq!(orders.hear(), STOPPING);
        stop.stop();
        stop.stop();
        orders.tell(STOPPING);
        assert_eq!(orders.hear(), GOES_ON);
        MAY_RETURN.store(true, SeqCst);
    });
    if how == "durable" {
        server.serve_exactly_once::<CountServer<_>>(state());
        // It is nobody's now.
        assert_eq!(state().state().0, 1001);
    } else {
        server.serve(CountServer(Sum(0)));
    }
    assert_no_thread_is_left();
    // It does not serve again.
    server.serve(CountServer(Sum(0)));
    line.tell(RETURNED);
    ordered.join().unwrap();
    drop(server);
    assert!(!path.exists());
    let _ = fs::remove_file(path.with_extension("state"));
}

fn start(place: &Place, how: &str) -> Child {
    place.server("serve", how)
}

fn a_server_that_is_stopped_answers_what_it_is_in(how: &str) {
    let place = Place::new();
    let server = start(&place, how);
    // Says nothing, at either step.
    let silent = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&silent, &SocketAddrUnix::new(&*place).unwrap()).unwrap();
    let _mute = ringpost::connect_duplex(&*place).unwrap();
    let (mut idle, mut busy) =
        (CountClient::bind(binding(&place)).unwrap(), CountClient::bind(binding(&place)).unwrap());
    assert_eq!(idle.add(1).unwrap(), 1);
    let at_work = thread::spawn(move || busy.outlast());
    assert_eq!(server.hear(), BEGUN);
    server.tell(STOPPING);
    assert_eq!(server.hear(), STOPPING);
    assert!(is_nobody(&CountClient::bind(binding(&place)).unwrap_err()), "nobody is taken in");
    let error = idle.add(1).unwrap_err();
    assert_eq!(error.done(), Done::No, "{error}");
    assert!(matches!(&error, CallError::Unbound(error) if is_nobody(error)), "{error}");
    drop(silent);
    server.tell(GOES_ON);
    let answer = at_work.join().unwrap();
    assert_eq!(answer.unwrap(), if how == "durable" { 1001 } else { 1000 });
    assert_eq!(server.hear_before_the_end(), Some(RETURNED));
    server.finish();
}

#[test]
fn a_server_that_is_stopped_answers_what_it_is_in_and_comes_back() {
    a_server_that_is_stopped_answers_what_it_is_in("plain");
}

#[test]
fn a_server_that_polls_can_be_stopped() {
    a_server_that_is_stopped_answers_what_it_is_in("spin");
}

#[test]
fn the_state_of_a_durable_server_that_was_stopped_is_free() {
    a_server_that_is_stopped_answers_what_it_is_in("durable");
}

#[test]
fn who_stands_before_the_door_of_a_server_that_is_stopped_is_sent_away() {
    let place = Place::new();
    let (server, stop) = server(&place);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let queued = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    connect(&queued, &SocketAddrUnix::new(&*place).unwrap()).unwrap();
    stop.stop();
    server.serve(CountServer(Sum(0)));
    assert_eq!(rustix::io::read(&queued, &mut [0; 1]), Ok(0), "while the server still has its listener");
}

/// A service that takes a while to go, and counts how many of it there are.
struct Lasting(Arc<AtomicU64>);

impl Clone for Lasting {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, SeqCst);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        thread::sleep(Duration::from_millis(100));
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Count for Lasting {
    fn add(&mut self, by: u64) -> u64 {
        by
    }

    fn outlast(&mut self) -> u64 {
        0
    }
}

#[test]
fn nothing_is_left_of_a_service_when_its_server_has_ended() {
    let place = Place::new();
    let (server, stop) = server(&place);
    // Whoever was not accepted had one of its own, too.
    let refused = stop.clone();
    let server = server.observe(move |event| {
        if matches!(event, Event::NotAccepted(_)) {
            refused.stop();
        }
    });
    let stranger =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&stranger, &SocketAddrUnix::new(&*place).unwrap()).unwrap();
    drop(stranger);
    let count = Arc::new(AtomicU64::new(1));
    server.serve(CountServer(Lasting(Arc::clone(&count))));
    assert_eq!(count.load(SeqCst), 0);
}

#[test]
fn who_takes_no_answers_keeps_no_server_that_is_stopped() {
    let place = Place::new();
    let (server, stop) = server(&place);
    let (tell, told) = mpsc::channel();
    let mut deaf = thread::scope(|threads| {
        let connected = threads.spawn(|| ringpost::connect_duplex(&*place).unwrap());
        threads.spawn(|| {
            server.serve(CountServer(Sum(0)));
            tell.send(()).unwrap();
        });
        let mut deaf = connected.join().unwrap();
        let interface = Description::of::<CountInterface>().hash();
        let hello = [&1u64.to_ne_bytes()[..], &interface.to_ne_bytes(), &[1; 16]].concat();
        deaf.sender.send_kind(0xff00, &hello).unwrap();
        // Until neither ring has room: the server waits to answer.
        for number in 1u64.. {
            let call = [number, 0, 0, 1].map(u64::to_ne_bytes).concat();
            let Ok(mut room) = deaf.sender.reserve_timeout(call.len(), Duration::from_secs(1)) else { break };
            room.write_at(0, &call);
            room.commit();
        }
        assert_eq!(deaf.receiver.recv().unwrap().kind(), 0xff02);
        stop.stop();
        assert_eq!(told.recv_timeout(FAR), Ok(()), "the server has ended");
        deaf
    });
    assert!(deaf.receiver.iter().count() > 1000, "what was answered before is there");
}

/// Which is what `stop` promises: of each call it is known whether it was done, without a repetition.
#[test]
fn calls_at_most_once_go_on_with_the_successor_of_a_server_that_was_stopped() {
    const SERVERS: u64 = 5;
    let place = Place::new();
    let done = Arc::new(AtomicU64::new(0));
    let (ended, born) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|threads| {
        threads.spawn(|| {
            while !ended.load(SeqCst) {
                let (server, stop) = server(&place);
                born.fetch_add(1, SeqCst);
                thread::scope(|threads| {
                    threads.spawn(|| server.serve(CounterServer(Effects(Arc::clone(&done)))));
                    thread::sleep(Duration::from_millis(10));
                    stop.stop();
                });
            }
        });
        let client = || {
            let mut client = loop {
                match CounterClient::bind(binding(&place)) {
                    Ok(client) => break client,
                    Err(error) => assert!(is_nobody(&error), "{error}"),
                }
            };
            // The last call is answered by one of the last servers.
            let (mut calls, mut last) = (0, 0);
            while last < SERVERS {
                let server = born.load(SeqCst);
                match client.have() {
                    Ok(()) => (calls, last) = (calls + 1, server),
                    // There may be no successor yet.
                    Err(error) => assert_eq!(error.done(), Done::No, "{error}"),
                }
            }
            calls
        };
        let clients = [(); 3].map(|()| threads.spawn(client));
        let calls = clients.map(|client| client.join());
        ended.store(true, SeqCst);
        let calls: u64 = calls.into_iter().map(|calls| calls.unwrap()).sum();
        assert_eq!(done.load(SeqCst), calls);
    });
}

#[ringpost_rpc::interface]
trait Counter {
    fn have(&mut self);
}

#[derive(Clone)]
struct Effects(Arc<AtomicU64>);

impl Counter for Effects {
    fn have(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_forked_child_does_not_stop_its_parents_server() {
    let place = Place::new();
    let (server, stop) = server(&place);
    assert_in_fork(|| {
        stop.stop();
        format!("{stop:?}") == "Stop { said: false }"
    });
    thread::scope(|threads| {
        threads.spawn(|| server.serve(CountServer(Sum(0))));
        let answer = threads.spawn(|| CountClient::bind(binding(&place)).unwrap().add(2).unwrap()).join();
        stop.stop();
        assert_eq!(answer.unwrap(), 2);
    });
}
