//! `ringpost-bridge out`: from the local ring to the broker.

use std::collections::VecDeque;

use anyhow::{Result, anyhow};
use clap::Args;
use ringpost::RecvError;
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAck, PubAckReason, Publish};
use rumqttc::v5::{AsyncClient, Event};

use crate::broker::{self, Broken, BrokerArguments, Events, LONGEST_PACKET, Pause};
use crate::ending::tell;
use crate::local::{self, Copy, Local, Outlet};

/// Most messages that are under way at a time.
const WINDOW: usize = 256;

/// No further message is sent on its way while so many bytes are.
const WINDOW_BYTES: usize = 4 << 20;

/// Receive from a ring and publish to a topic
///
/// A message leaves the ring only when the broker has acknowledged it (with --qos 0: when it was written to the socket). What
/// was under way when this process is killed is published again by the next one. Ends when all senders have closed and
/// everything is delivered. While the broker is away, this tries again, and the ring fills.
#[derive(Args, Debug)]
pub struct OutArguments {
    #[command(flatten)]
    local: Local,

    #[command(flatten)]
    broker: BrokerArguments,

    /// Bytes of the longest message that the broker takes, also with K or M [default: as the broker says]
    #[arg(long, value_name = "BYTES", value_parser = ringpost::limits::parse_bytes)]
    longest: Option<u64>,

    /// Go on when all senders have closed, or have died, and wait for others
    #[arg(long)]
    follow: bool,
}

/// Carries until the end.
pub async fn run(arguments: &OutArguments) -> Result<()> {
    let topic = &arguments.broker.topic;
    broker::topic_name(topic).map_err(|error| anyhow!("{topic}: {error}"))?;
    let mut outlet = arguments.local.outlet()?;
    let own_id = || format!("ringpost-out-{}-{}-{:x}", broker::host(), arguments.local.name(), outlet.id());
    let mut options = arguments.broker.options(own_id)?;
    // Nothing of a session is needed: what was not acknowledged is still in the ring.
    options.set_clean_start(true);
    let mut pause = Pause::new();
    loop {
        let work = async |client, events| {
            let courier = Courier {
                arguments,
                outlet: &mut outlet,
                pause: &mut pause,
                client,
                events,
                flight: Flight::default(),
                longest_packet: LONGEST_PACKET,
            };
            courier.run().await
        };
        match broker::with_connection(&options, WINDOW + 2, work).await {
            Ok(()) => return Ok(()),
            Err(Broken::ForGood(error)) => return Err(error),
            Err(Broken::ForNow(why)) => pause.after(format!("{}: {why}", arguments.broker.name())).await,
        }
    }
}

/// Carries over one connection.
struct Courier<'a> {
    arguments: &'a OutArguments,
    outlet: &'a mut Outlet,
    pause: &'a mut Pause,
    client: AsyncClient,
    events: Events,
    flight: Flight,
    /// Bytes of the longest packet that the broker takes.
    longest_packet: usize,
}

impl Courier<'_> {
    async fn run(mut self) -> Result<(), Broken> {
        let result = self.carry().await;
        // What has arrived before the connection ended is not to be repeated.
        self.unload();
        result
    }

    async fn carry(&mut self) -> Result<(), Broken> {
        let answer = self.events.connected().await?;
        if let Some(most) = answer.properties.and_then(|properties| properties.max_packet_size) {
            self.longest_packet = self.longest_packet.min(most as usize);
        }
        tell(&format!("{} -> {}: connected", self.arguments.local.name(), self.arguments.broker.name()));
        self.await_ready().await?;
        loop {
            if !self.load()? {
                return self.take_leave().await;
            }
            if self.flight.is_empty() {
                tokio::select! {
                    event = self.events.next() => { self.flight.note(event?)?; }
                    ready = self.outlet.ready() => ready.map_err(anyhow::Error::from)?,
                }
            } else {
                let event = self.events.next().await?;
                self.flight.note(event)?;
                while let Some(event) = self.events.now()? {
                    self.flight.note(event)?;
                }
                self.unload();
            }
        }
    }

    /// Waits until the other side has subscribed, if that is announced.
    async fn await_ready(&mut self) -> Result<(), Broken> {
        let Some(topic) = &self.arguments.broker.ready else { return Ok(()) };
        let subscribed = self.client.try_subscribe(topic, QoS::AtMostOnce);
        subscribed.map_err(|error| Broken::ForNow(error.to_string()))?;
        loop {
            if let Event::Incoming(Packet::Publish(announcement)) = self.events.next().await?
                && !announcement.payload.is_empty()
            {
                return Ok(());
            }
        }
    }

    /// Sends messages on their way, as many as the window lets. False at the end of all messages.
    fn load(&mut self) -> Result<bool, Broken> {
        // A few at a time would be looked for again and again.
        if self.flight.len() > WINDOW / 2 || self.flight.bytes >= WINDOW_BYTES {
            return Ok(true);
        }
        let (from, room) = (self.flight.len(), WINDOW_BYTES - self.flight.bytes);
        let copies = match self.outlet.copy(from, WINDOW - from, room) {
            Ok(copies) => copies,
            Err(RecvError::Empty) => Vec::new(),
            // All that is under way is in the ring: this can wait until it is not.
            Err(_) if from > 0 => Vec::new(),
            Err(end) => return self.end(end),
        };
        for copy in copies {
            if !self.send(copy)? {
                break;
            }
        }
        Ok(true)
    }

    /// Sends one on its way. False when it is too long, and others are before it.
    fn send(&mut self, copy: Copy) -> Result<bool, Broken> {
        let BrokerArguments { topic, .. } = &self.arguments.broker;
        let (qos, properties) = (self.arguments.broker.qos(), copy.label.properties());
        let length = copy.bytes.len();
        let publish = Publish { pkid: 1, ..Publish::new(topic, qos, copy.bytes, properties) };
        let overhead = publish.size() - length;
        let longest = self.longest_packet.saturating_sub(overhead) as u64;
        let longest = self.arguments.longest.map_or(longest, |most| most.min(longest));
        if length as u64 > longest {
            if !self.flight.is_empty() {
                return Ok(false);
            }
            let name = self.arguments.local.name();
            return Err(Broken::ForGood(anyhow!(
                "{name}: a message of {length} bytes is too long for the broker, which takes up to {longest}; it is still \
                 the first in the ring, and all before it are delivered"
            )));
        }
        let Publish { payload, properties, .. } = publish;
        let sent = match properties {
            None => self.client.try_publish(topic, qos, false, payload),
            Some(properties) => {
                self.client.try_publish_with_properties(topic, qos, false, payload, properties)
            }
        };
        // The window fits into the queue of requests.
        sent.map_err(|error| Broken::ForNow(error.to_string()))?;
        self.flight.start(length);
        Ok(true)
    }

    /// Releases what has arrived.
    fn unload(&mut self) {
        let count = self.flight.land();
        if count > 0 {
            self.outlet.release(count);
            self.pause.end();
        }
    }

    /// True to go on.
    fn end(&mut self, end: RecvError) -> Result<bool, Broken> {
        let name = self.arguments.local.name();
        match end {
            RecvError::Disconnected | RecvError::PeerDied { .. }
                if self.arguments.follow && self.outlet.reopen() =>
            {
                if end != RecvError::Disconnected {
                    tell(&format!("{name}: {end}; waiting for others"));
                }
                Ok(true)
            }
            RecvError::Disconnected => Ok(false),
            error => Err(Broken::ForGood(local::about_receiving(name, error))),
        }
    }

    /// Says farewell, so that the broker does not take it for a failure.
    async fn take_leave(&mut self) -> Result<(), Broken> {
        // Whatever goes wrong now: everything is delivered.
        if self.client.try_disconnect().is_ok() {
            while let Ok(event) = self.events.next().await {
                if event == Event::Outgoing(Outgoing::Disconnect) {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Messages under way: the first of those that are unreleased.
#[derive(Default)]
struct Flight {
    /// Length of each.
    lengths: VecDeque<usize>,
    /// Sum of the lengths.
    bytes: usize,
    /// Of each that has left, its packet number, until it has arrived.
    departed: VecDeque<Option<u16>>,
}

impl Flight {
    fn len(&self) -> usize {
        self.lengths.len()
    }

    fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    fn start(&mut self, length: usize) {
        self.lengths.push_back(length);
        self.bytes += length;
    }

    /// What happens to messages under way.
    fn note(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            // Of quality 0, which nobody acknowledges: written to the socket.
            Event::Outgoing(Outgoing::Publish(0)) => self.departed.push_back(None),
            Event::Outgoing(Outgoing::Publish(number)) => self.departed.push_back(Some(number)),
            Event::Incoming(Packet::PubAck(answer)) => self.arrived(answer)?,
            _ => {}
        }
        Ok(())
    }

    fn arrived(&mut self, PubAck { pkid, reason, .. }: PubAck) -> Result<(), Broken> {
        match reason {
            PubAckReason::Success => {
                if let Some(place) = self.departed.iter().position(|&number| number == Some(pkid)) {
                    self.departed[place] = None;
                }
                Ok(())
            }
            PubAckReason::NoMatchingSubscribers => Err(Broken::ForNow(
                "nobody has subscribed to the topic: what is published would be lost".into(),
            )),
            PubAckReason::NotAuthorized
            | PubAckReason::TopicNameInvalid
            | PubAckReason::PayloadFormatInvalid => {
                Err(Broken::refused("a message, which is still in the ring", reason))
            }
            reason => Err(Broken::ForNow(format!("the broker does not take a message: {reason:?}"))),
        }
    }

    /// Takes off those at the front that have arrived; gives how many.
    fn land(&mut self) -> usize {
        let count = self.departed.iter().take_while(|number| number.is_none()).count();
        self.departed.drain(..count);
        self.bytes -= self.lengths.drain(..count).sum::<usize>();
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(pkid: u16, reason: PubAckReason) -> Event {
        Event::Incoming(Packet::PubAck(PubAck { pkid, reason, properties: None }))
    }

    fn of_three() -> Flight {
        let mut flight = Flight::default();
        for number in 1..=3 {
            flight.start(10);
            flight.note(Event::Outgoing(Outgoing::Publish(number))).unwrap();
        }
        flight
    }

    #[test]
    fn only_what_was_acknowledged_with_all_before_it_is_released() {
        let mut flight = of_three();
        flight.note(ack(2, PubAckReason::Success)).unwrap();
        assert_eq!((flight.land(), flight.len(), flight.bytes), (0, 3, 30));
        flight.note(ack(1, PubAckReason::Success)).unwrap();
        assert_eq!((flight.land(), flight.len(), flight.bytes), (2, 1, 10));
        flight.note(ack(3, PubAckReason::Success)).unwrap();
        assert_eq!((flight.land(), flight.is_empty(), flight.bytes), (1, true, 0));
    }

    #[test]
    fn a_refusal_releases_nothing() {
        let mut flight = of_three();
        let nobody = flight.note(ack(1, PubAckReason::NoMatchingSubscribers));
        assert!(matches!(nobody, Err(Broken::ForNow(_))));
        assert!(matches!(flight.note(ack(1, PubAckReason::NotAuthorized)), Err(Broken::ForGood(_))));
        assert_eq!(flight.land(), 0);
    }

    #[test]
    fn of_quality_0_what_was_written_is_released() {
        let mut flight = Flight::default();
        flight.start(1);
        assert_eq!(flight.land(), 0);
        flight.note(Event::Outgoing(Outgoing::Publish(0))).unwrap();
        assert_eq!(flight.land(), 1);
    }
}
