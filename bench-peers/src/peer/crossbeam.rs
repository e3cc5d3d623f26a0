//! crossbeam-channel, bounded, with messages by value.

use std::hint::spin_loop;

use anyhow::{Result, anyhow};
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use ringpost_cli::bench::{link::Mechanism, shape::Wait};

use super::equal_messages;
use crate::threads::values::{self, Values};

pub fn make() -> Result<Box<dyn Mechanism>> {
    values::make::<Channel>()
}

struct Channel;

impl Values for Channel {
    type Sender<T: Send + 'static> = Sender<T>;
    type Receiver<T: Send + 'static> = Receiver<T>;

    fn pair<T: Send + 'static>() -> (Sender<T>, Receiver<T>) {
        bounded(equal_messages(size_of::<T>()))
    }

    #[inline]
    fn send<T: Send + 'static>(sender: &Sender<T>, wait: Wait, value: T) -> Result<()> {
        match wait {
            Wait::Sleep => sender.send(value).map_err(|_| anyhow!("the channel is closed")),
            Wait::Spin => {
                let mut value = value;
                loop {
                    value = match sender.try_send(value) {
                        Ok(()) => return Ok(()),
                        Err(TrySendError::Full(value)) => value,
                        Err(TrySendError::Disconnected(_)) => return Err(anyhow!("the channel is closed")),
                    };
                    spin_loop();
                }
            }
        }
    }

    #[inline]
    fn recv<T: Send + 'static>(receiver: &Receiver<T>, wait: Wait) -> Result<T> {
        match wait {
            Wait::Sleep => Ok(receiver.recv()?),
            Wait::Spin => loop {
                match receiver.try_recv() {
                    Ok(value) => return Ok(value),
                    Err(TryRecvError::Empty) => spin_loop(),
                    Err(error) => return Err(error.into()),
                }
            },
        }
    }
}
