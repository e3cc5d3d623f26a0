//! A thread that parks, and an alarm that counts its calls.

use super::*;

/// How often a task was woken.
#[derive(Default)]
pub struct Alarm {
    pub woken: Mutex<u64>,
    pub changed: Condvar,
}

impl Alarm {
    pub fn new() -> (Arc<Self>, Waker) {
        let alarm = Arc::new(Self::default());
        (Arc::clone(&alarm), alarm.into())
    }

    /// Sleeps until there was a wake more than `seen`; gives how many there were.
    #[track_caller]
    pub fn wait(&self, seen: u64) -> u64 {
        let woken = self.woken.lock().unwrap();
        let (woken, late) = self.changed.wait_timeout_while(woken, FAR, |woken| *woken == seen).unwrap();
        assert!(!late.timed_out(), "nobody has woken it");
        *woken
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() += 1;
        self.changed.notify_all();
    }
}

/// Runs a future to its end.
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let (alarm, waker) = Alarm::new();
    let mut seen = 0;
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => seen = alarm.wait(seen),
        }
    }
}

pub fn poll<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// Polls once, in vain.
#[track_caller]
pub fn assert_waits<F: Future>(future: Pin<&mut F>, waker: &Waker) {
    assert!(poll(future, waker).is_pending());
}
