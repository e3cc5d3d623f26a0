//! A service of tarpc, between two processes, over a link.

#[path = "../../tests/common/mod.rs"]
mod common;

use common::{FAR, Line, place::Place};
use futures::{FutureExt, SinkExt, StreamExt};
use ringpost::Duplex;
use ringpost_rpc::tarpc::transport;
use std::{future::Future, time::Duration};
use tarpc::{
    client,
    context::{self, Context},
    server::{BaseChannel, Channel},
};

#[tarpc::service]
trait Letters {
    async fn greet(name: String, times: u32) -> Vec<String>;
    async fn double(number: u64) -> u64;
}

#[derive(Clone)]
struct Office;

impl Letters for Office {
    async fn greet(self, _: Context, name: String, times: u32) -> Vec<String> {
        vec![format!("hello, {name}"); times as usize]
    }

    async fn double(self, _: Context, number: u64) -> u64 {
        number * 2
    }
}

fn wait<T>(task: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, task)
}

#[test]
fn child_process() {
    common::play_role(act);
}

fn act(words: &[&str], line: Line) {
    let [role, path] = *words else { panic!("no such role: {words:?}") };
    match role {
        "idle" => return idle(path),
        "farewell" => farewell(path),
        _ => {}
    }
    assert_eq!(role, "serve");
    let listener = ringpost::unnamed().handshake_timeout(FAR).listen(path).unwrap();
    line.tell(0);
    let link = listener.accept_duplex().unwrap();
    wait(async {
        let requests = BaseChannel::with_defaults(transport(link).unwrap()).execute(Office.serve());
        requests.for_each_concurrent(None, |answer| answer).await;
    });
    // The client has closed.
    line.tell(1);
}

/// The threads of this process that have such a name, and how often they went to sleep of themselves: so often were they awake.
fn sleeps_of(threads: &str) -> Vec<u64> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let named = tasks.filter(|task| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim().starts_with(threads))
    });
    let count = |status: String| {
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    named.filter_map(|task| std::fs::read_to_string(task.join("status")).ok()).map(count).collect()
}

/// Whether no thread of the transport wakes for so long. On a busy machine they are asleep later, and stay so.
fn nobody_wakes_for(time: Duration) -> bool {
    let before = sleeps_of("ringpost-");
    std::thread::sleep(time);
    sleeps_of("ringpost-") == before
}

/// Has a transport and nothing to do; then it is dropped.
fn idle(path: &str) {
    let link = ringpost::connect_duplex(path).unwrap();
    wait(async {
        let client = LettersClient::new(client::Config::default(), transport(link).unwrap());
        let dispatch = tokio::task::spawn_local(client.dispatch);
        assert_eq!(client.client.double(context::current(), 4).await.unwrap(), 8);
        assert!(
            (0..10).any(|_| nobody_wakes_for(Duration::from_secs(3))),
            "they wake although nothing comes"
        );
        assert_eq!(sleeps_of("ringpost-recv").len(), 1);
        drop(client.client);
        dispatch.await.unwrap().unwrap();
    });
    // The other end lives on, and says nothing.
    while !sleeps_of("ringpost-recv").is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Its messages, the last of which is sent while the ring is full.
const FAREWELLS: u32 = 300;

/// Says what it has to say, and ends.
fn farewell(path: &str) -> ! {
    wait(async {
        let mut sink = transport::<(), (u32, String)>(ringpost::connect_duplex(path).unwrap()).unwrap();
        for number in 0..FAREWELLS - 1 {
            sink.send((number, "farewell".repeat(10))).await.unwrap();
        }
        sink.feed((FAREWELLS - 1, "farewell".repeat(10))).await.unwrap();
        sink.close().await.unwrap();
        std::process::exit(0)
    })
}

#[test]
fn what_was_flushed_arrives_although_its_process_ends_at_once() {
    let place = Place::new();
    let door = place.listen();
    let child = place.child("farewell", "");
    let mut link = door.accept_duplex().unwrap();
    let mut heard = 0;
    while link.recv().is_ok() {
        heard += 1;
    }
    assert_eq!(heard, FAREWELLS);
    child.finish();
}

/// The two ends of a link, both in this process.
fn both_ends() -> (Duplex, Duplex) {
    let place = Place::new();
    let door = place.listen();
    std::thread::scope(|threads| {
        let theirs = threads.spawn(|| door.accept_duplex().unwrap());
        (ringpost::connect_duplex(&*place).unwrap(), theirs.join().unwrap())
    })
}

#[test]
fn who_flushes_waits_for_room_and_no_longer_than_the_other_end_lives() {
    let (ours, mut theirs) = both_ends();
    wait(async {
        let mut sink = transport::<(), String>(ours).unwrap();
        let long = "x".repeat(3000);
        sink.send(long.clone()).await.unwrap();
        sink.feed(long.clone()).await.unwrap();
        assert!(sink.flush().now_or_never().is_none(), "there is room for one");
        drop(theirs.recv().unwrap());
        sink.flush().await.unwrap();
        sink.feed(long).await.unwrap();
        drop(theirs);
        assert!(sink.flush().await.is_err());
    });
}

#[test]
fn a_task_that_has_had_its_turn_is_not_told_that_it_has_flushed() {
    let (ours, _theirs) = both_ends();
    let mut sink = transport::<(), String>(ours).unwrap();
    let turn = std::future::poll_fn(move |context| {
        // So much does tokio let a task do before others go on.
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        (0..1000).for_each(|number| tell.send(number).unwrap());
        while told.poll_recv(context).is_ready() {}
        assert!(sink.poll_ready_unpin(context).is_pending());
        assert!(
            sink.poll_flush_unpin(context).is_pending(),
            "tarpc asks and flushes until one of them says otherwise"
        );
        std::task::Poll::Ready(())
    });
    wait(async { tokio::task::spawn_local(turn).await.unwrap() });
}

#[test]
fn a_service_of_tarpc_answers_over_a_link_until_its_client_has_closed() {
    let place = Place::new();
    let server = place.server("serve", "");
    let link = ringpost::connect_duplex(&*place).unwrap();
    wait(async {
        let client = LettersClient::new(client::Config::default(), transport(link).unwrap());
        let dispatch = tokio::task::spawn_local(client.dispatch);
        let client = client.client;
        assert_eq!(client.greet(context::current(), "Ω".into(), 3).await.unwrap(), ["hello, Ω"; 3]);
        // More at once than the queues between the tasks and the threads hold.
        let many = (0..1000).map(|number| client.double(context::current(), number));
        let doubled: Vec<_> = futures::stream::iter(many).buffered(200).map(Result::unwrap).collect().await;
        assert_eq!(doubled, (0..1000).map(|number| number * 2).collect::<Vec<_>>());
        drop(client);
        dispatch.await.unwrap().unwrap();
    });
    assert_eq!(server.hear_before_the_end(), Some(1));
    server.finish();
}

#[test]
fn a_transport_that_has_nothing_to_do_sleeps_until_it_is_dropped() {
    let place = Place::new();
    let server = place.server("serve", "");
    place.child("idle", "").finish();
    assert_eq!(server.hear_before_the_end(), Some(1));
    server.finish();
}

#[test]
fn the_death_of_the_server_ends_the_calls_of_its_client() {
    let place = Place::new();
    let mut server = place.server("serve", "");
    let link = ringpost::connect_duplex(&*place).unwrap();
    wait(async {
        let client = LettersClient::new(client::Config::default(), transport(link).unwrap());
        let dispatch = tokio::task::spawn_local(client.dispatch);
        assert_eq!(client.client.double(context::current(), 4).await.unwrap(), 8);
        server.kill();
        assert!(client.client.double(context::current(), 4).await.is_err());
        drop(client.client);
        let _ = dispatch.await.unwrap();
    });
}
