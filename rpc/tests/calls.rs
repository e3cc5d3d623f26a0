//! Calls between two processes.

#[path = "../../tests/common/mod.rs"]
mod common;

use common::{Child, FAR, Line, place::Place};
use ringpost::{Duplex, Region, RegionMut};
use ringpost_rpc::{
    BindError, Binding, CallError, Context, Description, Done, Event, Refusal, Semantics, Server, registry,
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::Duration,
};

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
enum Shape {
    Circle { radius: f64 },
    Named(String, Vec<String>),
}

/// All ways of passing something.
#[ringpost_rpc::interface]
trait Everything {
    /// Plain old data.
    fn sum(&self, numbers: [u64; 4], more: u16) -> u64;
    fn remember(&mut self, number: u32) -> u32;
    fn larger(&self, shape: Shape, by: f64) -> Result<Shape, String>;
    fn sort(&self, numbers: &mut Vec<u32>, rounds: &mut String) -> usize;
    fn flip(&self, truth: bool, letter: char) -> (bool, char);
    fn who(&self, context: &Context) -> (u32, u64);
    fn panics(&mut self) -> u32;
    fn long(&self, length: u64) -> Vec<u8>;
    /// Works until nobody wants it any more.
    fn work(&self, context: &Context);
    fn nothing(&self);
    /// Large arguments, and a large result.
    fn join(&self, first: Region, middle: u8, last: Region) -> Region;
}

#[derive(Clone)]
struct Work {
    last: u32,
}

impl Everything for Work {
    fn sum(&self, numbers: [u64; 4], more: u16) -> u64 {
        numbers.iter().sum::<u64>() + u64::from(more)
    }

    fn remember(&mut self, number: u32) -> u32 {
        std::mem::replace(&mut self.last, number)
    }

    fn larger(&self, shape: Shape, by: f64) -> Result<Shape, String> {
        match shape {
            Shape::Circle { radius } => Ok(Shape::Circle { radius: radius * by }),
            Shape::Named(name, _) => Err(format!("{name} has no size")),
        }
    }

    fn sort(&self, numbers: &mut Vec<u32>, rounds: &mut String) -> usize {
        numbers.sort_unstable();
        rounds.push_str(" and one");
        numbers.len()
    }

    fn flip(&self, truth: bool, letter: char) -> (bool, char) {
        (!truth, letter.to_ascii_uppercase())
    }

    fn who(&self, context: &Context) -> (u32, u64) {
        (context.peer().pid, context.number())
    }

    fn panics(&mut self) -> u32 {
        self.last = 77;
        panic!("on purpose")
    }

    fn long(&self, length: u64) -> Vec<u8> {
        vec![7; length as usize]
    }

    fn work(&self, context: &Context) {
        if let Some(line) = LOUD.get() {
            line.lock().unwrap().tell(BEGUN);
        }
        while !context.is_cancelled() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn nothing(&self) {}

    fn join(&self, first: Region, middle: u8, last: Region) -> Region {
        let mut both = RegionMut::new(first.len() + 1 + last.len()).unwrap();
        both[..first.len()].copy_from_slice(&first);
        both[first.len()] = middle;
        both[first.len() + 1..].copy_from_slice(&last);
        both.freeze().unwrap()
    }
}

/// The same name, another type.
mod other {
    #[ringpost_rpc::interface]
    pub trait Everything {
        fn sum(&self, numbers: [u32; 4], more: u16) -> u64;
    }
}

/// What a loud server says when it begins to work.
const BEGUN: u64 = 4000;

/// To whom a loud server says so.
static LOUD: OnceLock<Arc<Mutex<Line>>> = OnceLock::new();

/// Numbers of methods.
const WORK: u16 = 8;
const NOTHING: u16 = 9;
const JOIN: u16 = 10;

/// What a client says first.
fn hello(version: u32) -> Vec<u8> {
    let mut bytes = version.to_ne_bytes().to_vec();
    bytes.extend([0; 4]);
    bytes.extend(Description::of::<EverythingInterface>().hash().to_ne_bytes());
    bytes.extend([1; 16]);
    bytes
}

/// The first call of a session, with so many regions.
fn call_by_hand(regions: u64, arguments: &[u8]) -> Vec<u8> {
    let words = [1u64, 0, regions].map(u64::to_ne_bytes).concat();
    [&words, arguments].concat()
}

/// A link to a server, as a client of this interface has it.
fn bound_by_hand(path: &Path) -> Duplex {
    let mut link = ringpost::connect_duplex(path).unwrap();
    link.sender.send_kind(0xff00, &hello(1)).unwrap();
    assert_eq!(link.recv().unwrap().kind(), 0xff02);
    link
}

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        // Tells of each call that it gives up, and of each client that is gone.
        ["serve", path, ref how @ ..] => {
            let server = Server::on(
                ringpost::unnamed().capacity(1 << 20).handshake_timeout(FAR).listen(path).unwrap(),
            );
            line.tell(0);
            let line = Arc::new(Mutex::new(line));
            if how == ["loud"] {
                assert!(LOUD.set(Arc::clone(&line)).is_ok());
            }
            let tell = move |event: &Event<'_>| match event {
                Event::TooLate { number, .. } => line.lock().unwrap().tell(1000 + number),
                Event::Cancelled { number, .. } => line.lock().unwrap().tell(2000 + number),
                Event::Gone { .. } => line.lock().unwrap().tell(3000),
                _ => {}
            };
            server.observe(tell).serve(EverythingServer(Work { last: 0 }));
        }
        ["named"] => by_name(),
        ["work", path] => {
            let mut client = EverythingClient::bind(Binding::path(path)).unwrap();
            line.tell(0);
            let _ = client.work();
        }
        // Asks for two things, and does not wait for an answer.
        ["ask", path] => {
            let mut link = bound_by_hand(path.as_ref());
            link.sender.send_kind(WORK, &call_by_hand(0, &[])).unwrap();
            link.sender.send_kind(NOTHING, &call_by_hand(0, &[])).unwrap();
            line.tell(0);
            line.hear();
        }
        _ => panic!("no such role: {words:?}"),
    });
}

fn bind(place: &Place) -> EverythingClient {
    EverythingClient::bind(Binding::path(&**place)).unwrap()
}

#[test]
fn arguments_and_results_go_by_value() {
    let place = Place::new();
    let _server = place.server("serve", "");
    let mut client = bind(&place);
    assert_eq!(client.sum([1, 2, 3, u64::MAX / 2], 4).unwrap(), 10 + u64::MAX / 2);
    assert_eq!(client.larger(Shape::Circle { radius: 2.0 }, 1.5).unwrap(), Ok(Shape::Circle { radius: 3.0 }));
    let named = Shape::Named("Ω".into(), vec![String::new(), "x".repeat(1000)]);
    assert_eq!(client.larger(named, 2.0).unwrap(), Err("Ω has no size".into()));
    assert_eq!(client.flip(true, 'q').unwrap(), (false, 'Q'));
    client.nothing().unwrap();
}

#[test]
fn what_is_passed_by_mutable_reference_is_copied_there_and_back() {
    let place = Place::new();
    let _server = place.server("serve", "");
    let mut client = bind(&place);
    let (mut numbers, mut rounds): (Vec<u32>, _) = ((0..1000).rev().collect(), "none".to_string());
    assert_eq!(client.sort(&mut numbers, &mut rounds).unwrap(), 1000);
    assert_eq!((numbers, rounds.as_str()), ((0..1000).collect(), "none and one"));
}

fn region(byte: u8, length: usize) -> Region {
    let mut memory = RegionMut::new(length).unwrap();
    memory.fill(byte);
    memory.freeze().unwrap()
}

#[test]
fn large_arguments_and_results_go_by_region() {
    let place = Place::new();
    let _server = place.server("serve", "");
    let mut client = bind(&place);
    // Far more than the ring has room for; and more calls than regions that can be under way.
    let (first, last) = (region(1, 8 << 20), region(3, 5));
    for _ in 0..50 {
        let both = client.join(first.clone(), 2, last.clone()).unwrap();
        assert_eq!(both.len(), (8 << 20) + 6);
        assert_eq!(both[(8 << 20) - 1..], [1, 2, 3, 3, 3, 3, 3]);
    }
}

#[test]
fn a_region_of_a_call_that_was_given_up_is_not_taken_for_the_next_ones() {
    let place = Place::new();
    let _server = place.server("serve", "");
    let mut link = bound_by_hand(&place);
    // More than are kept.
    (0..40).for_each(|_| link.send_region(&region(9, 1)).unwrap());
    link.send_region(&region(1, 2)).unwrap();
    link.send_region(&region(3, 1)).unwrap();
    link.sender.send_kind(JOIN, &call_by_hand(2, &[2])).unwrap();
    assert_eq!(link.recv().unwrap().region().unwrap()[..], [1, 1, 2, 3]);
    assert_eq!(link.recv().unwrap().kind(), 0);
}

/// As a program that has a directory for its services.
fn by_name() {
    let named = || EverythingClient::bind("some.thing-1");
    assert!(matches!(named(), Err(BindError::Open(_))));
    let server = Server::bind("some.thing-1").unwrap();
    thread::spawn(move || server.serve(EverythingServer(Work { last: 9 })));
    assert_eq!(named().unwrap().remember(1).unwrap(), 9);
    assert!(matches!(Server::bind("some.thing-1"), Err(BindError::Open(_))), "the name is taken");
    let _other = Server::bind("other").unwrap();
    assert_eq!(registry::list().unwrap(), ["other", "some.thing-1"]);
    for name in ["", ".hidden", "a/b", "..", "ä", &"x".repeat(65)] {
        assert!(matches!(Server::bind(name), Err(BindError::Name { .. })), "{name}");
    }
    let directory = registry::directory().unwrap();
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(named(), Err(BindError::Registry(_))), "others can use it");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    let elsewhere = directory.with_extension("moved");
    fs::rename(&directory, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &directory).unwrap();
    let refused = registry::list().unwrap_err();
    assert!(matches!(refused, BindError::Registry(_)), "it is a link");
    assert!(refused.to_string().contains(directory.to_str().unwrap()), "{refused}");
}

#[test]
fn services_are_bound_by_name_in_a_directory_of_their_user() {
    let place = Place::new();
    fs::create_dir(&*place).unwrap();
    Child::start_with("named", |command| command.env("XDG_RUNTIME_DIR", &*place)).finish();
}

#[test]
fn a_client_that_says_nonsense_is_dropped_and_harms_nobody() {
    let place = Place::new();
    let _server = place.server("serve", "");
    let mut good = bind(&place);
    let call = call_by_hand;
    let whole = 40;
    let after_hello: [&[(u16, Vec<u8>)]; 6] = [
        &[(0, vec![])],
        &[(0, vec![1; 23])],
        &[(0, call(1, &[0; 34]))],
        &[(0, call(u64::MAX, &[0; 34]))],
        &[(0xffff, vec![0; 16])],
        &[(0xffff, vec![])],
    ];
    for (kind, bytes) in [(0, vec![]), (0xff00, vec![1; 3]), (0xff00, hello(1)[..31].into()), (7, hello(1))] {
        let mut link = ringpost::connect_duplex(&*place).unwrap();
        link.sender.send_kind(kind, &bytes).unwrap();
        assert!(link.recv().is_err());
    }
    for messages in after_hello {
        let mut link = bound_by_hand(&place);
        for (kind, bytes) in messages {
            link.sender.send_kind(*kind, bytes).unwrap();
        }
        assert!(link.recv().is_err(), "{messages:?}");
    }
    // Arguments that are none, and methods that do not exist, are refused: the client may go on.
    let mut link = bound_by_hand(&place);
    for length in 0..whole {
        for method in [0, 1, 2, 3, 4, 10, 0x7fff, 0xfeff] {
            link.sender.send_kind(method, &call(0, &vec![0x11; length])).unwrap();
            let answer = link.recv().unwrap();
            let right = match method {
                0 => length == 34,
                1 => length == 4,
                _ => false,
            };
            assert_eq!(answer.kind() == 0, right, "{method}, {length} bytes: {}", answer.kind());
        }
    }
    assert_eq!(good.sum([1; 4], 1).unwrap(), 5);
}

#[test]
fn a_server_that_says_nonsense_is_an_error_for_its_client() {
    let place = Place::new();
    let listener = place.listen_with(ringpost::unnamed().handshake_timeout(FAR));
    let answers =
        [(0, vec![]), (2, vec![0; 5]), (9999, vec![1; 16]), (0, vec![1; 16]), (0xffff, vec![0; 16])];
    let number = answers.len();
    let server = thread::spawn(move || {
        let mut strange = listener.accept_duplex().unwrap();
        drop(strange.recv().unwrap());
        strange.sender.send_kind(77, b"what?").unwrap();
        for (kind, mut bytes) in answers {
            let mut link = listener.accept_duplex().unwrap();
            drop(link.recv().unwrap());
            link.sender.send_kind(0xff02, &[]).unwrap();
            drop(link.recv().unwrap());
            if bytes.len() == 16 && kind != 0xffff {
                bytes[..8].copy_from_slice(&1u64.to_ne_bytes());
            }
            link.sender.send_kind(kind, &bytes).unwrap();
            let _ = link.recv();
        }
    });
    assert!(matches!(EverythingClient::bind(Binding::path(&*place)), Err(BindError::Protocol)));
    for _ in 0..number {
        let error = bind(&place).nothing().unwrap_err();
        assert_ne!(error.done(), Done::No, "it may have done what was asked for: {error}");
        let is_told = match &error {
            CallError::Unclear(why) => matches!(**why, CallError::Unbound(BindError::Protocol)),
            error => matches!(error, CallError::Answer(_)),
        };
        assert!(is_told, "{error}");
    }
    server.join().unwrap();
}

#[test]
fn what_failed_has_changed_no_argument() {
    let place = Place::new();
    let mut server = place.server("serve", "");
    let mut client = bind(&place);
    server.kill();
    let (mut numbers, mut rounds) = (vec![2, 1], String::new());
    assert!(matches!(
        client.sort(&mut numbers, &mut rounds),
        Err(CallError::Lost { .. } | CallError::Unbound(_))
    ));
    assert_eq!((numbers, rounds), (vec![2, 1], String::new()));
}

#[test]
fn each_client_has_a_service_of_its_own_and_is_known_by_its_process() {
    let place = Place::new();
    let _server = place.server("serve", "");
    let (mut one, mut two) = (bind(&place), bind(&place));
    assert_eq!((one.remember(1).unwrap(), two.remember(2).unwrap()), (0, 0));
    assert_eq!((one.remember(0).unwrap(), two.remember(0).unwrap()), (1, 2));
    assert_eq!(one.who().unwrap(), (std::process::id(), 3));
    assert_ne!(one.client.session(), two.client.session());
}

#[test]
fn a_panic_is_told_and_leaves_nothing_of_the_service() {
    let place = Place::new();
    let _server = place.server("serve", "");
    let mut client = bind(&place);
    client.remember(5).unwrap();
    assert!(matches!(client.panics(), Err(CallError::Refused(Refusal::Panicked))));
    assert_eq!(client.remember(1).unwrap(), 0);
}

#[test]
fn what_is_too_long_for_the_link_is_refused_on_both_ways() {
    let place = Place::new();
    let _server = place.server("serve", "");
    let mut client = bind(&place);
    let error = client.sort(&mut vec![0; 1 << 20], &mut String::new()).unwrap_err();
    assert!(matches!(error, CallError::TooLong { .. }), "{error}");
    assert!(matches!(client.long(4 << 20), Err(CallError::Refused(Refusal::AnswerTooLong))));
    assert_eq!(client.long(1000).unwrap(), [7; 1000]);
}

#[test]
fn another_interface_is_refused_with_both_sides_of_it() {
    let place = Place::new();
    let _server = place.server("serve", "");
    let error = other::EverythingClient::bind(Binding::path(&*place)).unwrap_err();
    let BindError::Interface { ours, theirs } = &error else { panic!("{error}") };
    assert!(ours.contains("sum([u32;4] (16 bytes), u16 (2 bytes)) -> u64 (8 bytes)"), "{ours}");
    assert!(theirs.contains("sum([u64;4] (32 bytes), u16 (2 bytes)) -> u64 (8 bytes)"), "{theirs}");
    assert!(
        theirs.contains("sort(&mut Vec<u32> (list of 4 bytes), &mut String (postcard)) -> usize (8 bytes)")
    );
    assert!(error.to_string().contains("[u32;4]") && error.to_string().contains("[u64;4]"));
}

#[test]
fn a_service_that_is_not_durable_promises_no_exactly_once() {
    let place = Place::new();
    let _server = place.server("serve", "");
    let asked = Semantics::ExactlyOnce;
    let error = EverythingClient::bind(Binding::path(&*place).semantics(asked)).unwrap_err();
    assert!(matches!(error, BindError::Semantics { asked: Semantics::ExactlyOnce }), "{error}");
}

#[test]
fn a_call_that_takes_too_long_times_out_is_cancelled_and_the_next_one_is_answered() {
    let place = Place::new();
    let _server = place.server("serve", "");
    let mut client = bind(&place);
    client.client.set_timeout(Some(Duration::from_millis(50)));
    // The method gives up as well, and may be first to say so.
    let outcome = client.work();
    assert!(matches!(outcome, Ok(()) | Err(CallError::TimedOut { .. })), "{outcome:?}");
    client.client.set_timeout(None);
    // It would wait for ever if the server still worked; and the late answer is not taken for this one's.
    assert_eq!(client.who().unwrap(), (std::process::id(), 2));
}

#[test]
fn what_is_too_late_is_not_begun_and_the_server_says_so() {
    let place = Place::new();
    let server = place.server("serve", "");
    let mut client = bind(&place);
    client.remember(3).unwrap();
    server.stop();
    client.client.set_timeout(Some(Duration::from_millis(20)));
    let error = client.remember(4).unwrap_err();
    assert!(matches!(error, CallError::TimedOut { done: Done::Perhaps }), "{error}");
    server.resume();
    assert_eq!(server.hear(), 1002);
    client.client.set_timeout(None);
    assert_eq!(client.remember(5).unwrap(), 3);
}

#[test]
fn a_method_at_work_learns_that_its_client_has_died() {
    let place = Place::new();
    let server = place.server("serve", "loud");
    let mut client = place.child("work", "");
    assert_eq!(client.hear(), 0);
    assert_eq!(server.hear(), BEGUN);
    client.kill();
    assert_eq!(server.hear_before_the_end(), Some(3000));
}

#[test]
fn what_a_dead_client_asked_for_is_cancelled() {
    let place = Place::new();
    let server = place.server("serve", "loud");
    let mut client = place.child("ask", "");
    assert_eq!(client.hear(), 0);
    assert_eq!(server.hear(), BEGUN);
    client.kill();
    // The first has ended when its client was gone; the second is not begun.
    assert_eq!(server.hear_before_the_end(), Some(2001));
    assert_eq!(server.hear_before_the_end(), Some(3000));
}
