//! ipc-channel: its channel of bytes, the fastest that it has; over Unix sockets here.

use std::{hint::spin_loop, sync::Mutex};

use anyhow::{Result, anyhow};
use ipc_channel::{
    TryRecvError,
    ipc::{IpcBytesReceiver, IpcBytesSender, bytes_channel},
};
use ringpost_cli::bench::{
    link::{Link, Mechanism, Pair, RecvHalf, SendHalf, Setup},
    shape::Wait,
};

pub fn make() -> Result<Box<dyn Mechanism>> {
    let link = || -> Result<Channel> {
        let (sender, receiver) = bytes_channel()?;
        Ok(Channel { sender, receiver: Mutex::new(receiver) })
    };
    Ok(Box::new(Pair { there: link()?, back: link()? }))
}

/// Made before the fork: both processes inherit both ends.
struct Channel {
    sender: IpcBytesSender,
    receiver: Mutex<IpcBytesReceiver>,
}

impl Link for Channel {
    type Sender<'a> = Sending<'a>;
    type Receiver<'a> = Receiving<'a>;

    fn sender(&self, setup: &Setup) -> Result<Sending<'_>> {
        Ok(Sending { sender: &self.sender, staging: vec![0; setup.size] })
    }

    fn receiver(&self, setup: &Setup) -> Result<Receiving<'_>> {
        Ok(Receiving { receiver: &self.receiver, wait: setup.wait })
    }
}

struct Sending<'a> {
    sender: &'a IpcBytesSender,
    staging: Vec<u8>,
}

impl SendHalf for Sending<'_> {
    fn send(&mut self, _: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        fill(&mut self.staging);
        Ok(self.sender.send(&self.staging)?)
    }
}

struct Receiving<'a> {
    receiver: &'a Mutex<IpcBytesReceiver>,
    wait: Wait,
}

impl RecvHalf for Receiving<'_> {
    fn recv(&mut self, _: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        let receiver = self.receiver.lock().unwrap();
        let message = match self.wait {
            Wait::Sleep => receiver.recv().map_err(|error| anyhow!("{error:?}"))?,
            Wait::Spin => loop {
                match receiver.try_recv() {
                    Ok(message) => break message,
                    Err(TryRecvError::Empty) => spin_loop(),
                    Err(error) => return Err(anyhow!("{error:?}")),
                }
            },
        };
        check(&message)
    }
}
