//! Arguments without end: a few bytes must not use up the stack, or the time, of who reads them.

#[path = "../../tests/common/mod.rs"]
mod common;

use common::{FAR, place::Place};
use ringpost_rpc::{Binding, CallError, Description, Refusal, Server};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Clone, Default, Debug)]
struct List(Option<Box<List>>);

impl List {
    fn of(length: usize) -> Self {
        (0..length).fold(Self::default(), |list, _| Self(Some(list.into())))
    }
}

#[derive(Serialize, Deserialize, Clone, Debug)]
struct Nothing;

#[ringpost_rpc::interface]
trait Endless {
    fn length(&self, list: List) -> usize;
    /// A list as deep as asked for.
    fn list(&self, length: usize) -> List;
    fn plain(&self, nothing: Vec<()>) -> Vec<()>;
    fn written(&self, nothing: Vec<Nothing>) -> Vec<Nothing>;
}

#[derive(Clone)]
struct Work;

impl Endless for Work {
    fn length(&self, list: List) -> usize {
        std::iter::successors(list.0, |rest| rest.0.clone()).count()
    }

    fn list(&self, length: usize) -> List {
        List::of(length)
    }

    fn plain(&self, nothing: Vec<()>) -> Vec<()> {
        nothing
    }

    fn written(&self, nothing: Vec<Nothing>) -> Vec<Nothing> {
        nothing
    }
}

#[test]
fn child_process() {
    common::play_role(|words, line| {
        let listener = ringpost::unnamed().capacity(1 << 20).handshake_timeout(FAR).listen(words[1]).unwrap();
        line.tell(0);
        Server::on(listener).serve(EndlessServer(Work));
    });
}

fn bind(place: &Place) -> EndlessClient {
    EndlessClient::bind(Binding::path(&**place)).unwrap()
}

/// The answer's kind, when a client sends these arguments whatever they are.
fn call_by_hand(place: &Place, method: u16, arguments: &[u8]) -> u16 {
    let mut link = ringpost::connect_duplex(&**place).unwrap();
    let interface = Description::of::<EndlessInterface>().hash().to_ne_bytes();
    let hello = [&1u64.to_ne_bytes()[..], &interface, &[1; 16]].concat();
    link.sender.send_kind(0xff00, &hello).unwrap();
    assert_eq!(link.recv().unwrap().kind(), 0xff02);
    let header = [1u64, 0, 0].map(u64::to_ne_bytes).concat();
    link.sender.send_kind(method, &[&header, arguments].concat()).unwrap();
    link.recv().unwrap().kind()
}

const DONE: u16 = 0;
const MALFORMED: u16 = 3;

#[test]
fn a_value_without_an_end_is_malformed_and_harms_no_server() {
    let place = Place::new();
    let _server = place.server("serve", "");
    let mut client = bind(&place);
    // One wrapper and one `Some` for each, and the wrapper of the last one: 128 levels.
    assert_eq!(client.length(List::of(63)).unwrap(), 63);
    let error = client.length(List::of(64)).unwrap_err();
    assert!(matches!(error, CallError::Argument(_)), "{error}");
    assert!(error.to_string().contains("128 levels"), "{error}");
    for length in [64, 200_000] {
        let bytes = [&vec![1; length][..], &[0]].concat();
        assert_eq!(call_by_hand(&place, 0, &bytes), MALFORMED, "{length} levels");
    }
    assert!(matches!(client.list(64), Err(CallError::Refused(Refusal::Malformed))));
    assert!(client.list(63).unwrap().0.is_some());
}

#[test]
fn many_elements_of_no_size_come_back_and_more_than_the_bound_keep_nobody_busy() {
    let place = Place::new();
    let _server = place.server("serve", "");
    let mut client = bind(&place);
    for count in [0, 1, 1000, 1 << 16] {
        assert_eq!(client.plain(vec![(); count]).unwrap().len(), count);
        assert_eq!(client.written(vec![Nothing; count]).unwrap().len(), count);
    }
    let more = (1 << 16) + 2;
    for error in [client.plain(vec![(); more]).unwrap_err(), client.written(vec![Nothing; more]).unwrap_err()]
    {
        assert!(matches!(error, CallError::Argument(_)), "{error}");
        assert!(error.to_string().contains("no size"), "{error}");
    }
    assert_eq!(call_by_hand(&place, 2, &3usize.to_ne_bytes()), DONE);
    for more in [more, usize::MAX] {
        assert_eq!(call_by_hand(&place, 2, &more.to_ne_bytes()), MALFORMED, "{more}");
    }
    // As postcard writes the largest number.
    assert_eq!(call_by_hand(&place, 3, &[&[0xff; 9][..], &[1]].concat()), MALFORMED);
    assert_eq!(client.plain(vec![(); 2]).unwrap().len(), 2);
}
