//! kanal, bounded, with messages by value.

use std::hint::spin_loop;

use anyhow::Result;
use kanal::{Receiver, Sender, bounded};
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
            Wait::Sleep => Ok(sender.send(value)?),
            Wait::Spin => {
                let mut value = Some(value);
                while !sender.try_send_option(&mut value)? {
                    spin_loop();
                }
                Ok(())
            }
        }
    }

    #[inline]
    fn recv<T: Send + 'static>(receiver: &Receiver<T>, wait: Wait) -> Result<T> {
        match wait {
            Wait::Sleep => Ok(receiver.recv()?),
            Wait::Spin => loop {
                match receiver.try_recv()? {
                    Some(value) => return Ok(value),
                    None => spin_loop(),
                }
            },
        }
    }
}
