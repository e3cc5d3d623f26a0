//! Which sessions have a link.

use crate::context::Session;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a session is remembered that has no link, unless somebody says otherwise.
const GRACE: Duration = Duration::from_secs(60);

/// Which sessions have a link, and since when the others have none.
#[derive(Debug)]
pub(crate) struct Presence {
    grace: Duration,
    /// Before that no session had a link here.
    begun: Instant,
    traces: Mutex<HashMap<Session, Trace>>,
}

/// What is known of a session.
#[derive(Debug)]
struct Trace {
    /// More than one while the server has not noticed yet that its client has come anew.
    links: usize,
    /// When the last one came or went.
    changed: Instant,
}

impl Presence {
    pub(crate) fn new() -> Self {
        Self { grace: GRACE, begun: Instant::now(), traces: Mutex::default() }
    }

    pub(crate) fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// A session has got a link, until the answer is dropped.
    pub(crate) fn arrive(self: &Arc<Self>, session: Session) -> Attendance {
        let now = Instant::now();
        let mut traces = self.lock();
        let trace = traces.entry(session).or_insert(Trace { links: 0, changed: now });
        *trace = Trace { links: trace.links + 1, changed: now };
        Attendance { session, at: Arc::clone(self) }
    }

    fn leave(&self, session: Session) {
        let now = Instant::now();
        let mut traces = self.lock();
        if let Some(trace) = traces.get_mut(&session) {
            *trace = Trace { links: trace.links - 1, changed: now };
        }
        // What is not known here is gone, too.
        traces.retain(|_, trace| trace.links > 0 || now - trace.changed < self.grace);
    }

    /// Whether it has had no link for so long that nobody needs to wait for it.
    pub(crate) fn is_gone(&self, session: Session) -> bool {
        let left = match self.lock().get(&session) {
            Some(Trace { links: 0, changed }) => *changed,
            Some(_) => return false,
            None => self.begun,
        };
        left.elapsed() >= self.grace
    }

    /// Whether a session that had a link this long ago may have been gone since.
    pub(crate) fn may_have_gone_within(&self, time: Duration) -> bool {
        time >= self.grace
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Session, Trace>> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A link of a session.
#[derive(Debug)]
pub(crate) struct Attendance {
    session: Session,
    at: Arc<Presence>,
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.at.leave(self.session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Session = Session([1; 16]);
    const OTHER: Session = Session([2; 16]);

    #[test]
    fn a_session_is_there_while_one_of_its_links_is() {
        let presence = Arc::new(Presence::new().with_grace(Duration::ZERO));
        assert!(presence.is_gone(SESSION), "it has never come");
        let (older, newer) = (presence.arrive(SESSION), presence.arrive(SESSION));
        drop(older);
        assert!(!presence.is_gone(SESSION), "the newer link is there");
        drop(newer);
        assert!(presence.is_gone(SESSION));
        assert!(presence.lock().is_empty(), "nothing is kept of it");
    }

    #[test]
    fn who_has_left_may_come_back_for_a_time_and_so_may_who_was_there_before_the_server() {
        let presence = Arc::new(Presence::new());
        drop(presence.arrive(SESSION));
        assert!(!presence.is_gone(SESSION));
        assert!(!presence.is_gone(OTHER));
        let _again = presence.arrive(SESSION);
        assert_eq!(presence.lock()[&SESSION].links, 1);
    }
}
