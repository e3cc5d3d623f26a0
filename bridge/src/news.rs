//! What travels beside a message's bytes: MQTT's user properties, and what the other side makes of them.

use std::collections::{HashSet, VecDeque};

use rumqttc::v5::mqttbytes::v5::PublishProperties;

/// The user's kind of the message, when it is not 0.
const KIND: &str = "ringpost-kind";

/// The ring that it comes from, and its number there.
const ORIGIN: &str = "ringpost-origin";

/// Which message of which ring.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Origin {
    /// [`RingInfo::instance`](ringpost::RingInfo) of the ring.
    pub instance: u64,
    /// [`Message::sequence`](ringpost::Message::sequence).
    pub sequence: u64,
}

/// What a message is, beside its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Label {
    /// The user's kind.
    pub kind: u16,
    /// Unknown for messages of a mailbox, which has no numbers, and of other programs.
    pub origin: Option<Origin>,
}

impl Label {
    /// For the broker.
    pub fn properties(&self) -> Option<PublishProperties> {
        let kind = (self.kind != 0).then(|| (KIND.to_owned(), self.kind.to_string()));
        let origin = self
            .origin
            .map(|Origin { instance, sequence }| (ORIGIN.to_owned(), format!("{instance:x} {sequence}")));
        let user_properties: Vec<_> = kind.into_iter().chain(origin).collect();
        (!user_properties.is_empty()).then(|| PublishProperties { user_properties, ..Default::default() })
    }

    /// From the broker. What can't be read is as if it were not there: anybody may publish.
    pub fn of(properties: Option<&PublishProperties>) -> Self {
        let value = |wanted| {
            let mut all = properties.iter().flat_map(|properties| &properties.user_properties);
            all.find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
        };
        let origin = value(ORIGIN).and_then(|text| {
            let (instance, sequence) = text.split_once(' ')?;
            let instance = u64::from_str_radix(instance, 16).ok()?;
            Some(Origin { instance, sequence: sequence.parse().ok()? })
        });
        Self { kind: value(KIND).and_then(|kind| kind.parse().ok()).unwrap_or(0), origin }
    }
}

/// The last messages that were let through. Forgets with its process.
#[derive(Default)]
pub struct Seen {
    order: VecDeque<Origin>,
    set: HashSet<Origin>,
}

impl Seen {
    /// Far more than are under way between two acknowledgements.
    const MOST: usize = 4096;

    /// Whether this was let through already.
    pub fn has(&self, origin: Origin) -> bool {
        self.set.contains(&origin)
    }

    /// This was let through.
    pub fn note(&mut self, origin: Origin) {
        if self.set.insert(origin) {
            self.order.push_back(origin);
        }
        if self.order.len() > Self::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_comes_back_as_it_was() {
        let origin = Some(Origin { instance: u64::MAX, sequence: (1 << 56) - 1 });
        for label in [Label::default(), Label { kind: 7, origin: None }, Label { kind: u16::MAX, origin }] {
            assert_eq!(Label::of(label.properties().as_ref()), label);
        }
        assert_eq!(Label::default().properties(), None);
    }

    #[test]
    fn nonsense_of_another_program_is_no_label() {
        for (name, value) in [(KIND, "-1"), (KIND, "65536"), (ORIGIN, "1"), (ORIGIN, "x 1")] {
            let user_properties = vec![(name.to_owned(), value.to_owned())];
            let properties = PublishProperties { user_properties, ..Default::default() };
            assert_eq!(Label::of(Some(&properties)), Label::default(), "{name} {value}");
        }
    }

    #[test]
    fn only_what_was_let_through_counts_as_seen_and_memory_is_bounded() {
        let origin = |sequence| Origin { instance: 1, sequence };
        let mut seen = Seen::default();
        seen.note(origin(8));
        assert!(
            seen.has(origin(8)) && !seen.has(origin(0)) && !seen.has(Origin { instance: 2, sequence: 8 })
        );
        for sequence in 8..9 + Seen::MOST as u64 {
            seen.note(origin(sequence));
        }
        assert!(!seen.has(origin(8)) && seen.has(origin(9)));
        assert_eq!((seen.order.len(), seen.set.len()), (Seen::MOST, Seen::MOST));
    }
}
