//! The connection to the broker: how it is made, what comes from it, and which of its ends are for good.

use std::convert::Infallible;
use std::future;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use clap::Args;
use rumqttc::NetworkOptions;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, ConnectReturnCode, DisconnectReasonCode, Packet};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use tokio::sync::mpsc;

use crate::ending::tell;

/// Bytes of the longest packet that MQTT knows: five of fixed header and 2^28 - 1.
pub const LONGEST_PACKET: usize = 5 + (1 << 28) - 1;

/// An idle connection is asked for a sign of life after this.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Events that wait to be looked at.
const EVENTS: usize = 1024;

/// Which broker, and how to speak with it.
#[derive(Args, Debug)]
pub struct BrokerArguments {
    /// Where the broker listens
    #[arg(long = "broker", value_name = "HOST:PORT", value_parser = address)]
    address: (String, u16),

    /// The topic
    #[arg(long, value_parser = topic)]
    pub topic: String,

    /// 0: at most once; 1: at least once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(..=1))]
    qos: u8,

    /// A topic on which `in` announces that it has subscribed, and before which `out` publishes nothing; the same for both
    #[arg(long, value_name = "TOPIC", value_parser = topic_name)]
    pub ready: Option<String>,

    /// Name of this client, which no other client of the broker has [default: made from the machine's and the ring's]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,

    /// Name of a user of the broker
    #[arg(long, requires = "password_file")]
    user: Option<String>,

    /// File with that user's password
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
}

impl BrokerArguments {
    /// The quality of service.
    pub fn qos(&self) -> QoS {
        if self.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }
    }

    /// As the user calls it.
    pub fn name(&self) -> String {
        format!("{}:{}", self.address.0, self.address.1)
    }

    /// What all connections to it have in common. `own_id` is the client's name when the user gave none.
    pub fn options(&self, own_id: impl FnOnce() -> String) -> Result<MqttOptions> {
        let id = self.client_id.clone().unwrap_or_else(own_id);
        let mut options = MqttOptions::new(id, &self.address.0, self.address.1);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options.set_keep_alive(KEEP_ALIVE).set_network_options(network);
        options.set_max_packet_size(Some(LONGEST_PACKET as u32));
        if let (Some(user), Some(file)) = (&self.user, &self.password_file) {
            let password = std::fs::read_to_string(file)
                .with_context(|| format!("can't read the password in {}", file.display()))?;
            options.set_credentials(user, password.trim_end_matches(['\r', '\n']));
        }
        Ok(options)
    }
}

/// Name of this machine.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn address(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or("it must be HOST:PORT, such as localhost:1883")?;
    let port = port.parse().map_err(|_| "the port must be a number up to 65535")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() { Err("there is no host before the colon".into()) } else { Ok((host.into(), port)) }
}

fn topic(text: &str) -> Result<String, String> {
    match text {
        "" => Err("a topic has at least one character".into()),
        _ if text.len() > usize::from(u16::MAX) => Err("a topic has at most 65535 bytes".into()),
        _ => Ok(text.into()),
    }
}

/// A topic that one can publish to.
pub fn topic_name(text: &str) -> Result<String, String> {
    if text.contains(['+', '#']) {
        return Err("one can't publish to a pattern of topics".into());
    }
    topic(text)
}

/// Why a connection has ended.
#[derive(Debug)]
pub enum Broken {
    /// Another one may go better.
    ForNow(String),
    /// Another one would end as this one.
    ForGood(Error),
}

impl Broken {
    /// For the broker's own word.
    pub fn refused(what: &str, why: impl std::fmt::Debug) -> Self {
        Self::ForGood(anyhow!("the broker refuses {what}: {why:?}"))
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::ForGood(error)
    }
}

impl From<ConnectionError> for Broken {
    fn from(error: ConnectionError) -> Self {
        use ConnectReturnCode as Code;
        use DisconnectReasonCode as Reason;
        match &error {
            ConnectionError::ConnectionRefused(
                code @ (Code::RefusedProtocolVersion
                | Code::UnsupportedProtocolVersion
                | Code::BadClientId
                | Code::ClientIdentifierNotValid
                | Code::BadUserNamePassword
                | Code::NotAuthorized
                | Code::Banned
                | Code::BadAuthenticationMethod
                | Code::QoSNotSupported),
            ) => Self::refused("the connection", code),
            ConnectionError::MqttState(StateError::ServerDisconnect {
                reason_code:
                    reason @ (Reason::SessionTakenOver
                    | Reason::NotAuthorized
                    | Reason::TopicNameInvalid
                    | Reason::TopicFilterInvalid
                    | Reason::PacketTooLarge
                    | Reason::PayloadFormatInvalid
                    | Reason::QoSNotSupported),
                ..
            }) => Self::refused("to go on", reason),
            _ => Self::ForNow(error.to_string()),
        }
    }
}

/// What comes from a connection, in order.
pub struct Events(mpsc::Receiver<Result<Event, ConnectionError>>);

impl Events {
    /// The next one; waits.
    pub async fn next(&mut self) -> Result<Event, Broken> {
        match self.0.recv().await {
            Some(event) => Ok(event?),
            None => Err(Broken::ForNow("the connection has ended".into())),
        }
    }

    /// The next one, if it is there.
    pub fn now(&mut self) -> Result<Option<Event>, Broken> {
        Ok(self.0.try_recv().ok().transpose()?)
    }

    /// Waits until the broker has answered.
    pub async fn connected(&mut self) -> Result<ConnAck, Broken> {
        loop {
            if let Event::Incoming(Packet::ConnAck(answer)) = self.next().await? {
                return Ok(answer);
            }
        }
    }
}

/// Connects, and does `work` until it is done or the connection has ended. `requests` is how many of them may wait.
///
/// Each connection begins with nothing: what the last one had not brought to its end is the caller's to do again.
pub async fn with_connection<T>(
    options: &MqttOptions,
    requests: usize,
    work: impl AsyncFnOnce(AsyncClient, Events) -> Result<T, Broken>,
) -> Result<T, Broken> {
    let (client, connection) = AsyncClient::new(options.clone(), requests);
    let (sender, receiver) = mpsc::channel(EVENTS);
    tokio::select! {
        never = drive(connection, sender) => match never {},
        result = work(client, Events(receiver)) => result,
    }
}

async fn drive(
    mut connection: EventLoop,
    events: mpsc::Sender<Result<Event, ConnectionError>>,
) -> Infallible {
    loop {
        let event = connection.poll().await;
        let is_last = event.is_err();
        if is_last {
            // What came with the end, answers among it, lies here still.
            for before in std::mem::take(&mut connection.state.events) {
                let _ = events.send(Ok(before)).await;
            }
        }
        if events.send(event).await.is_err() || is_last {
            // What has come before is still to be looked at.
            future::pending::<()>().await;
        }
    }
}

/// Pauses between attempts, each twice as long as the one before, up to a bound.
pub struct Pause {
    next: Duration,
    told: String,
}

impl Pause {
    /// Before the first attempt.
    pub fn new() -> Self {
        Self { next: SHORTEST_PAUSE, told: String::new() }
    }

    /// It goes well again.
    pub fn end(&mut self) {
        *self = Self::new();
    }

    /// Says why, unless it is the same as the last time, and waits.
    pub async fn after(&mut self, why: String) {
        if why != self.told {
            tell(&format!("{why}; trying again"));
            self.told = why;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        assert_eq!(address("localhost:1883"), Ok(("localhost".into(), 1883)));
        assert_eq!(address("[::1]:1883"), Ok(("::1".into(), 1883)));
        for wrong in ["", "localhost", ":1883", "localhost:", "localhost:65536"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_no_other_connection_mends_is_for_good() {
        let refused = ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized);
        assert!(matches!(Broken::from(refused), Broken::ForGood(_)));
        let busy = ConnectionError::ConnectionRefused(ConnectReturnCode::ServerBusy);
        assert!(matches!(Broken::from(busy), Broken::ForNow(_)));
        let gone = ConnectionError::MqttState(StateError::ConnectionAborted);
        assert!(matches!(Broken::from(gone), Broken::ForNow(_)));
    }
}
