//! Calls where something is short, slow, lost again and again, or of another version.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "trouble/regions.rs"]
mod regions;

use common::{FAR, Line, fork::assert_in_fork, place::Place};
use ringpost::{LinkError, OpenError, Region, RegionError, RegionMut};
use ringpost_rpc::{
    BindError, Binding, CallError, Client, Description, Done, Durable, Event, Refusal, Semantics, Server,
};
use rustix::{
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use std::{
    fs::{self, File},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::MetadataExt,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};
use zerocopy::{Immutable, IntoBytes, TryFromBytes};

#[ringpost_rpc::interface]
trait Pairs {
    fn join(&self, first: Region, last: Region) -> Region;
    /// Leaves the server so many descriptors.
    fn leave(&self, free: u32);
    fn nothing(&self);
    fn count(&self, bytes: Vec<u8>) -> usize;
    fn length(&self, memory: Region) -> usize;
    fn keep(&self, memory: Region, nothing: Vec<()>);
    fn label(&self, memory: Region, text: Vec<u8>);
}

#[derive(TryFromBytes, IntoBytes, Immutable, Clone)]
#[repr(C)]
struct Work;

impl Pairs for Work {
    fn join(&self, first: Region, last: Region) -> Region {
        region(first[0] + last[0])
    }

    fn leave(&self, free: u32) {
        leave_descriptors(free as usize);
    }

    fn nothing(&self) {}

    fn count(&self, bytes: Vec<u8>) -> usize {
        bytes.len()
    }

    fn length(&self, memory: Region) -> usize {
        memory.len()
    }

    fn keep(&self, _: Region, _: Vec<()>) {}

    fn label(&self, _: Region, _: Vec<u8>) {}
}

/// A state larger than the half of a stack.
#[ringpost_rpc::interface]
trait Shelf {
    fn add(&mut self, at: u32) -> u64;
}

#[derive(TryFromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Table([u64; 160 << 10]);

impl Shelf for Table {
    fn add(&mut self, at: u32) -> u64 {
        self.0[at as usize] += 1;
        self.0[at as usize]
    }
}

/// What the descriptors of this process are used up by.
static HOARD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Leaves this process so many descriptors, of a few hundred.
fn leave_descriptors(free: usize) {
    let mut hoard = HOARD.lock().unwrap();
    hoard.clear();
    setrlimit(Resource::Nofile, Rlimit { current: Some(200), ..getrlimit(Resource::Nofile) }).unwrap();
    hoard.extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
    let kept = hoard.len() - free;
    hoard.truncate(kept);
}

fn region(byte: u8) -> Region {
    let mut memory = RegionMut::new(5000).unwrap();
    memory.fill(byte);
    memory.freeze().unwrap()
}

const PLENTY: u32 = 50;

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["serve", path] => serve(path, &line, |server| server.serve(PairsServer(Work))),
        ["durable", path, state] => serve(path, &line, |server| {
            let state = Durable::open::<PairsInterface>(state, &Work).unwrap();
            server.serve_exactly_once::<PairsServer<_>>(state)
        }),
        ["table", path, state] => {
            // A state goes over the stack of who opens it, too.
            let (path, state) = (path.to_owned(), state.to_owned());
            let opens = move || {
                serve(&path, &line, |server| {
                    let state = Durable::open::<ShelfInterface>(state, &Table([0; _])).unwrap();
                    server.serve_exactly_once::<ShelfServer<_>>(state)
                });
            };
            thread::Builder::new().stack_size(64 << 20).spawn(opens).unwrap().join().unwrap();
        }
        // Has no descriptor for what comes back, and then none to bind to a successor.
        ["short", path] => {
            let binding = Binding::path(path).semantics(Semantics::AtLeastOnce).timeout(FAR);
            let mut client = PairsClient::bind(binding).unwrap();
            let (first, last) = (region(1), region(2));
            leave_descriptors(0);
            let error = client.join(first.clone(), last.clone()).unwrap_err();
            let is_told = matches!(
                error,
                CallError::Shortage {
                    done: Done::Yes,
                    error: RegionError::Link(LinkError::NoDescriptor { .. })
                }
            );
            assert!(is_told, "{error}");
            client.nothing().unwrap();
            leave_descriptors(10);
            assert_eq!(client.join(first, last).unwrap()[4999], 3);
            line.tell(0);
            line.hear();
            client.client.set_timeout(Some(Duration::from_millis(1)));
            // Until its link is gone, too: then nothing can be sent any more.
            while !matches!(client.nothing().unwrap_err(), CallError::TimedOut { done: Done::No }) {}
            leave_descriptors(0);
            client.client.set_timeout(Some(FAR));
            let error = client.nothing().unwrap_err();
            let none_left = matches!(
                error,
                CallError::Unbound(BindError::Open(OpenError::Link(LinkError::NoDescriptor { .. })))
            );
            assert!(none_left, "{error}");
        }
        _ => panic!("no such role: {words:?}"),
    });
}

/// Serves at this path.
fn serve(path: &str, line: &Line, serve: impl FnOnce(&Server)) {
    let server = Server::on(ringpost::unnamed().handshake_timeout(FAR).listen(path).unwrap());
    line.tell(0);
    serve(&server);
}

/// A client, whose first call has found a server that takes each call and is lost then; that one is in the thread.
fn forsaken(place: &Place, timeout: Duration) -> (PairsClient, thread::JoinHandle<u32>) {
    let accepting = accept_each(place, |_, mut link| {
        link.sender.send_kind(WELCOME, &[]).unwrap();
        // The call has come; whoever made it is left alone with it.
        let _ = link.recv();
    });
    let mut client = PairsClient::bind(Binding::path(&**place).semantics(Semantics::AtLeastOnce)).unwrap();
    client.client.set_timeout(Some(timeout));
    let error = client.nothing().unwrap_err();
    assert!(matches!(error, CallError::TimedOut { done: Done::Perhaps }), "{error}");
    (client, accepting)
}

#[test]
fn a_server_without_a_descriptor_refuses_the_call_and_goes_on() {
    let place = Place::new();
    let _server = place.server("serve", "");
    let binding = Binding::path(&*place).semantics(Semantics::AtLeastOnce).timeout(FAR / 4);
    let mut client = PairsClient::bind(binding).unwrap();
    let (first, last) = (region(1), region(2));
    for _ in 0..2 {
        for free in [0, 1] {
            client.leave(free).unwrap();
            let error = client.join(first.clone(), last.clone()).unwrap_err();
            assert!(matches!(error, CallError::Refused(Refusal::Shortage)), "{free} left: {error}");
        }
        client.leave(PLENTY).unwrap();
        assert_eq!(client.join(first.clone(), last.clone()).unwrap()[..], [3; 5000]);
    }
}

#[test]
fn a_client_without_a_descriptor_is_told_so_and_goes_on() {
    let place = Place::new();
    let mut server = place.server("serve", "");
    let client = place.child("short", "");
    assert_eq!(client.hear(), 0);
    server.kill();
    client.tell(0);
    client.finish();
}

const HELLO: u16 = 0xff00;
const WELCOME: u16 = 0xff02;
const OTHER_VERSION: u16 = 0xff05;

/// Accepts links until one greets with nothing; has `answer` answer the greetings of the others, each with its number.
fn accept_each(
    place: &Place,
    mut answer: impl FnMut(u32, ringpost::Duplex) + Send + 'static,
) -> thread::JoinHandle<u32> {
    let listener = place.listen_with(ringpost::unnamed().handshake_timeout(FAR));
    thread::spawn(move || {
        for number in 0.. {
            // Whoever connects may give up at any time.
            let Ok(mut link) = listener.accept_duplex() else { continue };
            let Ok(greeting) = link.recv() else { continue };
            if greeting.kind() != HELLO {
                return number;
            }
            drop(greeting);
            answer(number, link);
        }
        unreachable!()
    })
}

/// Ends that, and gives how many links there were.
fn links_of(accepting: thread::JoinHandle<u32>, path: &Path) -> u32 {
    let mut last = ringpost::connect_duplex(path).unwrap();
    last.sender.send_kind(7, &[]).unwrap();
    accepting.join().unwrap()
}

#[test]
fn a_server_that_is_lost_again_and_again_is_not_asked_in_haste() {
    let place = Place::new();
    let (client, accepting) = forsaken(&place, Duration::from_millis(300));
    drop(client);
    // It pauses for 1, 2, 4, 8, 16, 32, and then 50 ms each.
    let links = links_of(accepting, &place);
    assert!((1..=14).contains(&links), "{links} links");
}

/// Two processes with one session would get each other's answers.
#[test]
fn a_forked_child_does_not_go_on_with_its_parents_session() {
    let place = Place::new();
    let (mut client, accepting) = forsaken(&place, Duration::from_millis(100));
    assert_in_fork(|| matches!(client.nothing(), Err(CallError::Forked)));
    drop(client);
    links_of(accepting, &place);
}

#[test]
fn a_forked_child_does_not_serve_in_its_parents_place() {
    let place = Place::new();
    let server = Server::on(ringpost::listen(&*place).unwrap());
    assert_in_fork(|| {
        let panic = catch_unwind(AssertUnwindSafe(|| server.serve(PairsServer(Work)))).unwrap_err();
        panic.downcast_ref::<&str>().is_some_and(|why| why.contains("the listener belongs to the parent"))
    });
}

#[test]
fn who_calls_a_server_whose_death_is_known_has_sent_it_nothing() {
    let place = Place::new();
    let mut server = place.server("serve", "");
    let mut client = PairsClient::bind(Binding::path(&*place)).unwrap();
    client.nothing().unwrap();
    server.kill();
    // The kernel tells of it within moments; there is nothing else that could be waited for.
    thread::sleep(Duration::from_secs(1));
    let error = client.nothing().unwrap_err();
    assert!(matches!(error, CallError::Unbound(_)), "at most once as well: {error}");
    let mut server = place.server("serve", "");
    client.nothing().unwrap();
    server.kill();
    let _server = place.server("serve", "");
    thread::sleep(Duration::from_secs(1));
    client.nothing().unwrap();
}

#[test]
fn what_is_refused_before_its_method_is_not_told_of_as_executed() {
    let place = Place::new();
    let server = Server::on(ringpost::unnamed().handshake_timeout(FAR).listen(&*place).unwrap());
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let server = server.observe(move |event| {
        let name = match event {
            Event::Executed => "executed",
            Event::Answered => "answered",
            _ => return,
        };
        tell.lock().unwrap().send(name).unwrap();
    });
    thread::spawn(move || server.serve(PairsServer(Work)));
    let mut client = PairsClient::bind(Binding::path(&*place)).unwrap();
    client.nothing().unwrap();
    client.client.begin();
    let no_arguments = client.client.call(1).map(drop);
    assert!(matches!(no_arguments, Err(CallError::Refused(Refusal::Malformed))), "{no_arguments:?}");
    client.client.begin();
    let no_method = client.client.call(77).map(drop);
    assert!(matches!(no_method, Err(CallError::Refused(Refusal::NoSuchMethod))), "{no_method:?}");
    assert_eq!([(); 4].map(|()| told.recv().unwrap()), ["executed", "answered", "answered", "answered"]);
}

/// What a successor says of the call is not all that can be said of it.
#[test]
fn a_call_that_a_lost_server_may_have_done_does_not_end_as_if_nobody_had() {
    let place = Place::new();
    let binding = Binding::path(&*place).semantics(Semantics::AtLeastOnce).timeout(FAR);
    let accept = |longest, binding: bool| {
        let builder = ringpost::unnamed().longest_message(longest).handshake_timeout(FAR);
        let listener = place.listen_with(builder);
        move || {
            let mut link = listener.accept_duplex().unwrap();
            assert_eq!(link.recv().unwrap().kind(), HELLO);
            let answer = if binding { WELCOME } else { OTHER_VERSION };
            link.sender.send_kind(answer, &9u32.to_ne_bytes()).unwrap();
            (link, listener)
        }
    };
    // The successor takes shorter calls only, or speaks another version.
    for is_shorter in [true, false] {
        let error = thread::scope(|threads| {
            let server = accept(4096, true);
            let call = threads.spawn(|| PairsClient::bind(binding.clone()).unwrap().count(vec![1; 1000]));
            let (mut link, listener) = server();
            drop(link.recv().unwrap());
            drop(listener);
            let successor = accept(256, is_shorter);
            drop(link);
            let _successor = successor();
            call.join().unwrap().unwrap_err()
        });
        let CallError::Unclear(why) = &error else { panic!("{error}") };
        let is_told = match **why {
            CallError::TooLong { longest, .. } => is_shorter && longest == 256,
            CallError::Unbound(BindError::Version { .. }) => !is_shorter,
            _ => false,
        };
        assert!(is_told, "{error}");
        assert_eq!(error.done(), Done::Perhaps);
        assert!(error.to_string().contains("may have been done"), "{error}");
    }
}

#[test]
fn a_call_that_was_done_gets_its_answer_also_when_its_arguments_can_not_be_had_again() {
    const LENGTH: u16 = 4;
    const DONE: u16 = 0;
    const SHORTAGE: u16 = 8;
    let place = Place::new();
    let state = Place::new();
    let _server = place.server("durable", state.to_str().unwrap());
    let mut other = PairsClient::bind(Binding::path(&*place)).unwrap();
    let mut link = ringpost::connect_duplex(&*place).unwrap();
    let interface = Description::of::<PairsInterface>().hash().to_ne_bytes();
    let exactly_once = (Semantics::ExactlyOnce as u32).to_ne_bytes();
    let hello = [&1u32.to_ne_bytes()[..], &exactly_once, &interface, &[1; 16]].concat();
    link.sender.send_kind(HELLO, &hello).unwrap();
    assert_eq!(link.recv().unwrap().kind(), WELCOME);
    let mut call = |number: u64| {
        link.send_region(&region(1)).unwrap();
        link.sender.send_kind(LENGTH, &[number, 0, 1].map(u64::to_ne_bytes).concat()).unwrap();
        link.recv().unwrap().kind()
    };
    assert_eq!(call(1), DONE);
    other.leave(0).unwrap();
    assert_eq!([call(1), call(2)], [DONE, SHORTAGE], "what was done is known, and what was not is refused");
    other.leave(PLENTY).unwrap();
    assert_eq!(call(2), DONE);
}

#[test]
fn who_is_let_down_while_it_binds_tries_again_until_its_deadline() {
    let place = Place::new();
    let accepting = accept_each(&place, |number, mut link| match number {
        0..3 => {}
        _ => link.sender.send_kind(WELCOME, &[]).unwrap(),
    });
    drop(PairsClient::bind(Binding::path(&*place).timeout(FAR)).unwrap());
    assert_eq!(links_of(accepting, &place), 4);
    let accepting = accept_each(&place, |_, _| {});
    let patience = Duration::from_millis(20);
    let error = PairsClient::bind(Binding::path(&*place).timeout(patience)).unwrap_err();
    let is_told =
        matches!(error, BindError::Lost | BindError::TimedOut | BindError::Open(OpenError::Link(_)));
    assert!(is_told, "{error}");
    assert!(links_of(accepting, &place) >= 1);
}

#[test]
fn who_connects_and_says_nothing_keeps_nobody_waiting() {
    let place = Place::new();
    // It has far more patience than the client.
    let _server = place.server("serve", "");
    let silent: Vec<_> = (0..3)
        .map(|_| {
            let flags = SocketFlags::CLOEXEC;
            let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
            connect(&socket, &SocketAddrUnix::new(&*place).unwrap()).unwrap();
            socket
        })
        .collect();
    // It has a link, and does not say what for.
    let linked = ringpost::connect_duplex(&*place).unwrap();
    let mut client = PairsClient::bind(Binding::path(&*place).timeout(FAR / 6)).unwrap();
    client.nothing().unwrap();
    drop((silent, linked));
}

#[test]
fn each_side_is_told_the_version_of_the_other() {
    let place = Place::new();
    let _server = place.server("serve", "");
    // Whatever another version says behind its number.
    for length in [4, 32, 100] {
        let mut link = ringpost::connect_duplex(&*place).unwrap();
        let mut hello = vec![9; length];
        hello[..4].copy_from_slice(&9u32.to_ne_bytes());
        link.sender.send_kind(HELLO, &hello).unwrap();
        let answer = link.recv().unwrap();
        assert_eq!((answer.kind(), answer.to_vec()), (OTHER_VERSION, 1u32.to_ne_bytes().to_vec()));
        drop(answer);
        assert!(link.recv().is_err());
    }
    let other = Place::new();
    let accepting = accept_each(&other, |number, mut link| {
        let words: &[u8] = if number == 0 { &[9, 0, 0, 0] } else { &[9] };
        link.sender.send_kind(OTHER_VERSION, words).unwrap();
    });
    let bind = || Client::bind::<PairsInterface>(Binding::path(&*other)).unwrap_err();
    let error = bind();
    assert!(matches!(error, BindError::Version { ours: 1, theirs: 9 }), "{error}");
    assert!(error.to_string().contains("version 9") && error.to_string().contains("version 1"), "{error}");
    assert!(matches!(bind(), BindError::Protocol));
    assert_eq!(links_of(accepting, &other), 2);
}

/// How many descriptors of this memory a process has.
fn holds(process: u32, memory: &fs::Metadata) -> usize {
    let same = |found: fs::Metadata| (found.dev(), found.ino()) == (memory.dev(), memory.ino());
    let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    open.filter(|fd| fs::metadata(fd.as_ref().unwrap().path()).is_ok_and(same)).count()
}

#[test]
fn neither_side_keeps_a_region_when_the_call_has_ended() {
    let place = Place::new();
    let server = place.server("serve", "");
    let mut client = PairsClient::bind(Binding::path(&*place)).unwrap();
    let (first, last) = (region(1), region(2));
    let memory =
        |region: &Region| fs::metadata(format!("/proc/self/fd/{}", region.as_fd().as_raw_fd())).unwrap();
    let given = memory(&first);
    let both = client.join(first, last).unwrap();
    let answered = memory(&both);
    drop(both);
    for memory in [given, answered] {
        assert_eq!(holds(std::process::id(), &memory), 0, "the memory is this process's to free");
        let begun = Instant::now();
        // The server lets go of the answer once it is under way.
        while holds(server.id(), &memory) > 0 {
            assert!(begun.elapsed() < FAR, "the server keeps it until the next call");
            thread::yield_now();
        }
    }
}

#[test]
fn a_call_whose_arguments_can_not_be_written_keeps_no_region() {
    let place = Place::new();
    let _server = place.server("serve", "");
    let mut client = PairsClient::bind(Binding::path(&*place)).unwrap();
    let memory = region(1);
    let given = fs::metadata(format!("/proc/self/fd/{}", memory.as_fd().as_raw_fd())).unwrap();
    assert!(matches!(client.keep(memory, vec![(); 70_000]), Err(CallError::Argument(_))));
    assert_eq!(holds(std::process::id(), &given), 0, "the memory is this process's to free");
    assert_eq!(client.keep(region(2), vec![(); 7]).unwrap(), ());
}

#[test]
fn a_call_that_is_too_long_sends_no_region() {
    let place = Place::new();
    let server = place.server("serve", "");
    let mut client = PairsClient::bind(Binding::path(&*place)).unwrap();
    let memory = region(1);
    let given = fs::metadata(format!("/proc/self/fd/{}", memory.as_fd().as_raw_fd())).unwrap();
    let longer_than_the_link = vec![0; 8 << 20];
    assert!(matches!(client.label(memory, longer_than_the_link), Err(CallError::TooLong { .. })));
    // The server would have taken it up by then.
    thread::sleep(Duration::from_millis(200));
    assert_eq!(holds(server.id(), &given), 0, "the server keeps it until the next call");
}

#[test]
fn a_server_that_says_other_things_without_an_end_keeps_nobody_past_the_deadline() {
    let place = Place::new();
    let accepting = accept_each(&place, |_, mut link| {
        link.sender.send_kind(WELCOME, &[]).unwrap();
        drop(link.recv().unwrap());
        let begun = Instant::now();
        // Answers of a call that nobody has made.
        while begun.elapsed() < FAR && link.sender.send_kind(0, &[0; 16]).is_ok() {}
    });
    let mut client = PairsClient::bind(Binding::path(&*place)).unwrap();
    client.client.set_timeout(Some(Duration::from_millis(20)));
    let error = client.nothing().unwrap_err();
    assert!(matches!(error, CallError::TimedOut { done: Done::Perhaps }), "{error}");
    drop(client);
    links_of(accepting, &place);
}

#[test]
fn a_large_state_has_room_on_the_stacks_of_its_server() {
    let (place, state) = (Place::new(), Place::new());
    let _server = place.server("table", state.to_str().unwrap());
    let binding = Binding::path(&*place).timeout(FAR);
    let mut client = ShelfClient::bind(binding).unwrap();
    assert_eq!([5, 6, 5].map(|at| client.add(at).unwrap()), [1, 1, 2]);
}
