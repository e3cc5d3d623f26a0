//! iceoryx2: publish-subscribe with loaned samples. Spinning: the subscriber polls. Sleeping: each message is followed by an
//! event, for which the receiver waits with a listener or with a WaitSet.

#[cfg(not(feature = "iceoryx2"))]
mod absent {
    use anyhow::{Result, bail};
    use ringpost_cli::bench::link::Mechanism;

    pub fn with_event() -> Result<Box<dyn Mechanism>> {
        bail!("built without the feature `iceoryx2`, which needs clang")
    }

    pub use with_event as with_waitset;
}

#[cfg(not(feature = "iceoryx2"))]
pub use absent::*;
#[cfg(feature = "iceoryx2")]
pub use present::*;

#[cfg(feature = "iceoryx2")]
mod present {
    use std::{hint::spin_loop, mem::ManuallyDrop, ptr};

    use anyhow::{Context, Result, anyhow};
    use iceoryx2::{
        node::Node,
        port::{listener::Listener, notifier::Notifier, publisher::Publisher, subscriber::Subscriber},
        prelude::*,
        waitset::{WaitSet, WaitSetGuard},
    };
    use ringpost_cli::bench::{
        link::{Link, Mechanism, Pair, RecvHalf, SendHalf, Setup},
        shape::Wait,
    };

    use crate::peer::{messages_of, unique};

    type Kind = ipc::Service;

    pub fn with_event() -> Result<Box<dyn Mechanism>> {
        make(false)
    }

    pub fn with_waitset() -> Result<Box<dyn Mechanism>> {
        make(true)
    }

    fn make(waitset: bool) -> Result<Box<dyn Mechanism>> {
        set_log_level(LogLevel::Fatal);
        let link = |what| Channel { name: unique(what), waitset };
        Ok(Box::new(Pair { there: link("there"), back: link("back") }))
    }

    struct Channel {
        name: String,
        waitset: bool,
    }

    /// What both sides open.
    struct Opened {
        node: Node<Kind>,
        messages: iceoryx2::service::port_factory::publish_subscribe::PortFactory<Kind, [u8], ()>,
        events: Option<iceoryx2::service::port_factory::event::PortFactory<Kind>>,
    }

    impl Channel {
        fn open(&self, setup: &Setup) -> Result<Opened> {
            let node = NodeBuilder::new().create::<Kind>().map_err(|error| anyhow!("{error:?}"))?;
            let name = format!("{}/{}", self.name, setup.size);
            let service = ServiceName::new(&name).map_err(|error| anyhow!("{error:?}"))?;
            let messages = node
                .service_builder(&service)
                .publish_subscribe::<[u8]>()
                .enable_safe_overflow(false)
                .subscriber_max_buffer_size(messages_of(setup.size))
                .max_publishers(1)
                .max_subscribers(1)
                .open_or_create()
                .map_err(|error| anyhow!("{error:?}"))
                .context("cannot open the service")?;
            let events = (setup.wait == Wait::Sleep)
                .then(|| node.service_builder(&service).event().open_or_create())
                .transpose()
                .map_err(|error| anyhow!("{error:?}"))
                .context("cannot open the event")?;
            Ok(Opened { node, messages, events })
        }
    }

    impl Link for Channel {
        type Sender<'a> = Sending;
        type Receiver<'a> = Receiving;

        fn sender(&self, setup: &Setup) -> Result<Sending> {
            let Opened { node, messages, events } = self.open(setup)?;
            let publisher = messages
                .publisher_builder()
                .initial_max_slice_len(setup.size)
                .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
                .create()
                .map_err(|error| anyhow!("{error:?}"))?;
            let notifier = events
                .as_ref()
                .map(|events| events.notifier_builder().create())
                .transpose()
                .map_err(|error| anyhow!("{error:?}"))?;
            Ok(Sending { publisher, notifier, _node: node })
        }

        fn receiver(&self, setup: &Setup) -> Result<Receiving> {
            let Opened { node, messages, events } = self.open(setup)?;
            let subscriber = messages
                .subscriber_builder()
                .buffer_size(messages_of(setup.size))
                .create()
                .map_err(|error| anyhow!("{error:?}"))?;
            let listener = events
                .as_ref()
                .map(|events| events.listener_builder().create())
                .transpose()
                .map_err(|error| anyhow!("{error:?}"))?;
            let wait = match listener {
                None => Waiting::Poll,
                Some(listener) if self.waitset => Waiting::Set(Box::new(Reactor::new(listener)?)),
                Some(listener) => Waiting::Listen(Box::new(listener)),
            };
            Ok(Receiving { subscriber, wait, _node: node })
        }
    }

    pub struct Sending {
        publisher: Publisher<Kind, [u8], ()>,
        notifier: Option<Notifier<Kind>>,
        _node: Node<Kind>,
    }

    impl SendHalf for Sending {
        #[inline]
        fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
            let mut sample = self.publisher.loan_slice_uninit(size).map_err(|error| anyhow!("{error:?}"))?;
            // SAFETY: bytes, of which `fill` writes every one.
            fill(unsafe { &mut *(ptr::from_mut(sample.payload_mut()) as *mut [u8]) });
            // SAFETY: as above.
            unsafe { sample.assume_init() }.send().map_err(|error| anyhow!("{error:?}"))?;
            if let Some(notifier) = &self.notifier {
                notifier.notify().map_err(|error| anyhow!("{error:?}"))?;
            }
            Ok(())
        }
    }

    enum Waiting {
        Poll,
        Listen(Box<Listener<Kind>>),
        Set(Box<Reactor>),
    }

    pub struct Receiving {
        subscriber: Subscriber<Kind, [u8], ()>,
        wait: Waiting,
        _node: Node<Kind>,
    }

    impl RecvHalf for Receiving {
        #[inline]
        fn recv(&mut self, _: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
            loop {
                if let Some(sample) = self.subscriber.receive().map_err(|error| anyhow!("{error:?}"))? {
                    return check(sample.payload());
                }
                match &self.wait {
                    Waiting::Poll => spin_loop(),
                    Waiting::Listen(listener) => {
                        listener.blocking_wait(|_| ()).map_err(|error| anyhow!("{error:?}"))?;
                    }
                    Waiting::Set(reactor) => reactor.wait()?,
                }
            }
        }
    }

    /// A WaitSet with one listener attached, which borrows both.
    struct Reactor {
        guard: ManuallyDrop<WaitSetGuard<'static, 'static, Kind>>,
        set: *mut WaitSet<Kind>,
        listener: *mut Listener<Kind>,
    }

    impl Reactor {
        fn new(listener: Listener<Kind>) -> Result<Self> {
            let set = WaitSetBuilder::new().create::<Kind>().map_err(|error| anyhow!("{error:?}"))?;
            let (set, listener) = (Box::into_raw(Box::new(set)), Box::into_raw(Box::new(listener)));
            // SAFETY: both stay where they are until `drop`, which ends the guard first.
            match unsafe { (*set).attach_notification(&*listener) } {
                Ok(guard) => Ok(Self { guard: ManuallyDrop::new(guard), set, listener }),
                Err(error) => {
                    let error = anyhow!("{error:?}");
                    // SAFETY: nothing was attached, so nobody borrows them; each is freed once.
                    unsafe { (drop(Box::from_raw(set)), drop(Box::from_raw(listener))) };
                    Err(error)
                }
            }
        }

        fn wait(&self) -> Result<()> {
            // SAFETY: alive until `drop`.
            let (set, listener) = unsafe { (&*self.set, &*self.listener) };
            set.wait_and_process_once(|_| {
                let _ = listener.try_wait(|_| ());
                CallbackProgression::Continue
            })
            .map_err(|error| anyhow!("{error:?}"))?;
            Ok(())
        }
    }

    impl Drop for Reactor {
        fn drop(&mut self) {
            // SAFETY: the guard borrows the other two; each is freed once.
            unsafe {
                ManuallyDrop::drop(&mut self.guard);
                drop(Box::from_raw(self.set));
                drop(Box::from_raw(self.listener));
            }
        }
    }
}
