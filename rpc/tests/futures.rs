//! The futures of rings in the runtime that tarpc uses.

use ringpost::{RecvError, Source};

#[test]
fn tokio_runs_both_ends_of_a_ring_as_tasks_of_one_thread() {
    let ring = ringpost::unnamed().capacity(4096).memfd().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let received = runtime.block_on(async {
        let sending = tokio::spawn(async move {
            // Many times what the ring holds: each side waits for the other, and none holds up the thread.
            for number in 0..1000u64 {
                sender.sent(&number.to_ne_bytes()).await.unwrap();
            }
            sender.sent_acknowledged(b"the last").await.unwrap().taken().await.unwrap();
        });
        let receiving = tokio::spawn(async move {
            let mut received = Vec::new();
            loop {
                match receiver.received().await {
                    Ok(message) => received.push(message.to_vec()),
                    Err(end) => return (received, end),
                }
            }
        });
        sending.await.unwrap();
        receiving.await.unwrap()
    });
    let numbers = (0..1000u64).map(|number| number.to_ne_bytes().to_vec());
    assert!(received.0.into_iter().eq(numbers.chain([b"the last".to_vec()])));
    assert_eq!(received.1, RecvError::Disconnected);
}
