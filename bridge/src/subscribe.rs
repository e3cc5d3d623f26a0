//! `ringpost-bridge in`: from the broker to the local ring.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::{future, thread};

use anyhow::{Context, Error, Result, anyhow};
use clap::Args;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter, LastWill, LastWillProperties, Packet, Publish, RetainForwardRule, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, Event};
use tokio::sync::{mpsc, oneshot};

use crate::broker::{self, Broken, BrokerArguments, Events, Pause};
use crate::ending::tell;
use crate::local::{self, Inlet, Local};
use crate::news::{Label, Seen};

/// Most messages that the broker sends without an acknowledgement.
const WINDOW: u16 = 256;

/// Requests that may wait: as many acknowledgements, a subscription, and its announcement.
const REQUESTS: usize = WINDOW as usize + 2;

/// Subscribe to a topic and send into a ring
///
/// A message is acknowledged only when it is in the ring; what was not is kept by the broker, and comes again. While the ring is
/// full, the broker keeps the messages. Ends when the receiver has closed, or has died.
#[derive(Args, Debug)]
pub struct InArguments {
    #[command(flatten)]
    local: Local,

    #[command(flatten)]
    broker: BrokerArguments,

    /// How long the broker is to keep messages while this is away
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    keep: u32,
}

/// Carries until the end.
pub async fn run(arguments: &InArguments) -> Result<()> {
    // By this name the broker knows what it has kept for this bridge.
    let own_id = || format!("ringpost-in-{}-{}", broker::host(), arguments.local.name());
    let mut options = arguments.broker.options(own_id)?;
    options.set_clean_start(false).set_session_expiry_interval(Some(arguments.keep));
    options.set_receive_maximum(Some(WINDOW)).set_manual_acks(true);
    if let Some(topic) = &arguments.broker.ready {
        // Taken back when the broker gives up what it keeps.
        let delay = LastWillProperties { delay_interval: Some(arguments.keep), ..no_properties() };
        options.set_last_will(LastWill::new(topic, "", QoS::AtLeastOnce, true, Some(delay)));
    }

    let inlet = arguments.local.inlet()?;
    let (parcels, taken) = mpsc::channel(usize::from(WINDOW));
    let (ended, mut end) = oneshot::channel();
    let name = arguments.local.name().to_owned();
    // Of its own, since it waits while the ring is full.
    thread::Builder::new()
        .name("to the ring".into())
        .spawn(move || {
            // Nobody listens any more when the process ends.
            let _ = ended.send(deliver(inlet, taken, &name));
        })
        .context("can't start a thread")?;

    let mut pause = Pause::new();
    let mut known = false;
    loop {
        let work = async |client, events| {
            let subscription =
                Subscription { arguments, pause: &mut pause, known: &mut known, parcels: &parcels };
            tokio::select! {
                broken = subscription.run(Arc::new(client), events) => Err::<Infallible, _>(broken),
                end = &mut end => Err(Broken::ForGood(end.unwrap_or_else(|_| anyhow!("the thread of the ring has failed")))),
            }
        };
        match broker::with_connection(&options, REQUESTS, work).await {
            Ok(never) => match never {},
            Err(Broken::ForGood(error)) => return Err(error),
            Err(Broken::ForNow(why)) => pause.after(format!("{}: {why}", arguments.broker.name())).await,
        }
    }
}

fn no_properties() -> LastWillProperties {
    LastWillProperties {
        delay_interval: None,
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    }
}

/// A message on its way to the ring.
struct Parcel {
    publish: Publish,
    /// The connection over which it came. When that has ended, the broker sends it again.
    connection: Weak<AsyncClient>,
}

/// What one connection brings.
struct Subscription<'a> {
    arguments: &'a InArguments,
    pause: &'a mut Pause,
    /// Whether the broker keeps messages for this bridge.
    known: &'a mut bool,
    parcels: &'a mpsc::Sender<Parcel>,
}

impl Subscription<'_> {
    /// Why it has ended.
    async fn run(mut self, client: Arc<AsyncClient>, events: Events) -> Broken {
        match self.carry(&client, events).await {
            Ok(never) => match never {},
            Err(broken) => broken,
        }
    }

    async fn carry(&mut self, client: &Arc<AsyncClient>, mut events: Events) -> Result<Infallible, Broken> {
        let answer = events.connected().await?;
        if *self.known && !answer.session_present {
            tell("the broker has forgotten this bridge: what it had for it is lost");
        }
        let BrokerArguments { topic, .. } = &self.arguments.broker;
        let filter = Filter {
            // What is retained comes once, and not with each connection.
            retain_forward_rule: RetainForwardRule::OnNewSubscribe,
            ..Filter::new(topic, self.arguments.broker.qos())
        };
        client.try_subscribe_many([filter]).map_err(|error| Broken::ForNow(error.to_string()))?;
        loop {
            match events.next().await? {
                Event::Incoming(Packet::SubAck(answer)) => {
                    self.subscribed(&answer.return_codes)?;
                    if let Some(topic) = &self.arguments.broker.ready {
                        let announced = client.try_publish(topic, QoS::AtLeastOnce, true, "ready");
                        announced.map_err(|error| Broken::ForNow(error.to_string()))?;
                    }
                }
                Event::Incoming(Packet::Publish(publish)) => {
                    let parcel = Parcel { publish, connection: Arc::downgrade(client) };
                    let sent = self.parcels.send(parcel).await;
                    // Why it has ended, its thread tells.
                    if sent.is_err() {
                        future::pending::<()>().await;
                    }
                }
                _ => {}
            }
        }
    }

    fn subscribed(&mut self, answers: &[SubscribeReasonCode]) -> Result<(), Broken> {
        for answer in answers {
            match answer {
                SubscribeReasonCode::Success(granted) if *granted < self.arguments.broker.qos() => {
                    return Err(Broken::refused("quality 1", granted));
                }
                SubscribeReasonCode::Success(_) => {}
                SubscribeReasonCode::Unspecified
                | SubscribeReasonCode::ImplementationSpecific
                | SubscribeReasonCode::QuotaExceeded => {
                    return Err(Broken::ForNow(format!("the broker does not subscribe: {answer:?}")));
                }
                refused => return Err(Broken::refused("the subscription", refused)),
            }
        }
        *self.known = true;
        self.pause.end();
        tell(&format!("{} -> {}: subscribed", self.arguments.broker.name(), self.arguments.local.name()));
        Ok(())
    }
}

/// Puts the messages into the ring, and acknowledges them, until the ring has ended.
fn deliver(mut inlet: Inlet, mut parcels: mpsc::Receiver<Parcel>, name: &str) -> Error {
    let mut seen = Seen::default();
    while let Some(Parcel { publish, connection }) = parcels.blocking_recv() {
        let label = Label::of(publish.properties.as_ref());
        if publish.qos == QoS::AtMostOnce {
            if let Err(error) = inlet.put(label.kind, &publish.payload) {
                return local::about_sending(name, error);
            }
            continue;
        }
        let Some(client) = connection.upgrade() else { continue };
        if !label.origin.is_some_and(|origin| seen.has(origin)) {
            if let Err(error) = inlet.put(label.kind, &publish.payload) {
                return local::about_sending(name, error);
            }
            label.origin.into_iter().for_each(|origin| seen.note(origin));
        }
        // Over a connection that has ended meanwhile nothing is acknowledged: it comes again.
        let _ = client.try_ack(&publish);
    }
    anyhow!("nothing comes from the broker any more")
}
