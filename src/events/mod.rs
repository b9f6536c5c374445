//! Events: one typed fact for each thing that happened, delivered to sinks.
//!
//! ```text
//! every pass ─▶ Event ─▶ Recorder ─▶ sinks (today: the log)
//! ```
//!
//! Belongs here: the [`Event`] type, its reason codes, and the sinks. Does not belong here: the decision that something
//! happened. A pass records an event where it makes the decision, once, and programs read [`EventReason`], never the
//! message.

mod log;
mod reason;

pub use log::LogSink;
pub use reason::EventReason;

use crate::core::name::Name;
use jiff::Timestamp;
use serde::Serialize;
use std::{collections::BTreeMap, fmt, sync::Arc};

/// One fact about one subject.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub time: Timestamp,
    pub reason: EventReason,
    pub severity: EventSeverity,
    pub subject: EventSubject,
    pub cluster: Option<String>,
    /// The commit that the event is about.
    pub revision: Option<String>,
    /// A sentence for people. Foreign text in it is already sanitised.
    pub message: String,
    /// Advice for the user, as a sentence of its own.
    pub hint: Option<String>,
    /// Further values for programs, by camelCase name.
    pub facts: BTreeMap<&'static str, String>,
}

/// The importance of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EventSeverity {
    /// For developers; no sink but the log shows it.
    Debug,
    Info,
    /// Needs attention soon, or explains why something waits.
    Warning,
    /// Failed; a user has to act, or a retry follows.
    Error,
}

/// The thing that an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum EventSubject {
    /// The tagboat process.
    Process,
    Repository {
        name: String,
    },
    Environment {
        repository: String,
        name: String,
    },
    PullRequest {
        number: u64,
    },
    Application {
        name: Name,
    },
    /// The cluster named by [`Event::cluster`].
    Cluster,
}

impl Event {
    fn new(severity: EventSeverity, reason: EventReason, message: impl Into<String>) -> Self {
        Self {
            time: Timestamp::now(),
            reason,
            severity,
            subject: EventSubject::Process,
            cluster: None,
            revision: None,
            message: message.into(),
            hint: None,
            facts: BTreeMap::new(),
        }
    }

    pub fn debug(reason: EventReason, message: impl Into<String>) -> Self {
        Self::new(EventSeverity::Debug, reason, message)
    }

    pub fn info(reason: EventReason, message: impl Into<String>) -> Self {
        Self::new(EventSeverity::Info, reason, message)
    }

    pub fn warning(reason: EventReason, message: impl Into<String>) -> Self {
        Self::new(EventSeverity::Warning, reason, message)
    }

    pub fn error(reason: EventReason, message: impl Into<String>) -> Self {
        Self::new(EventSeverity::Error, reason, message)
    }

    #[must_use]
    pub fn about(self, subject: EventSubject) -> Self {
        Self { subject, ..self }
    }

    #[must_use]
    pub fn application(self, name: &Name) -> Self {
        self.about(EventSubject::Application { name: name.clone() })
    }

    /// Names the cluster; without another subject, the event is about the cluster itself.
    #[must_use]
    pub fn on(self, cluster: &str) -> Self {
        let subject = match self.subject {
            EventSubject::Process => EventSubject::Cluster,
            subject => subject,
        };
        Self { subject, cluster: Some(cluster.to_owned()), ..self }
    }

    #[must_use]
    pub fn at(self, revision: Option<&str>) -> Self {
        Self { revision: revision.map(str::to_owned), ..self }
    }

    #[must_use]
    pub fn hint(self, hint: Option<impl Into<String>>) -> Self {
        Self { hint: hint.map(Into::into), ..self }
    }

    #[must_use]
    pub fn fact(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.facts.insert(name, value.to_string());
        self
    }
}

impl fmt::Display for EventSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventSubject::Process => f.write_str("process"),
            EventSubject::Repository { name } => write!(f, "repository/{name}"),
            EventSubject::Environment { repository, name } => {
                write!(f, "environment/{repository}/{name}")
            }
            EventSubject::PullRequest { number } => write!(f, "pullRequest/{number}"),
            EventSubject::Application { name } => write!(f, "application/{name}"),
            EventSubject::Cluster => f.write_str("cluster"),
        }
    }
}

/// A destination of events. Called from any thread; must not block.
pub trait EventSink: Send + Sync {
    fn record(&self, event: &Event);
}

/// Delivers events to all sinks. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    sinks: Arc<[Box<dyn EventSink>]>,
}

impl Recorder {
    pub fn new(sinks: Vec<Box<dyn EventSink>>) -> Self {
        Self { sinks: sinks.into() }
    }

    pub fn record(&self, event: Event) {
        self.sinks.iter().for_each(|sink| sink.record(&event));
    }
}

impl Default for Recorder {
    /// Returns a recorder with the log as its only sink.
    fn default() -> Self {
        Self::new(vec![Box::new(LogSink)])
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("sinks", &self.sinks.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    struct Collector(Arc<Mutex<Vec<Event>>>);

    impl EventSink for Collector {
        fn record(&self, event: &Event) {
            self.0.lock().unwrap().push(event.clone());
        }
    }

    #[test]
    fn recorder_delivers_to_every_sink_once() {
        let seen = Arc::<Mutex<Vec<Event>>>::default();
        let sink = || Box::new(Collector(Arc::clone(&seen))) as Box<dyn EventSink>;
        let recorder = Recorder::new(vec![sink(), sink()]);
        recorder.record(Event::info(EventReason::Started, "tagboat started"));
        assert_eq!(seen.lock().unwrap().len(), 2);
    }

    #[test]
    fn event_serialises_with_codes_for_programs() {
        let event = Event::error(EventReason::SyncFailed, "cannot apply Service dev/web: Invalid")
            .application(&"dev/web".parse().unwrap())
            .on("east")
            .at(Some("0123456789"))
            .hint(Some("Fix the port."))
            .fact("objects", 4);
        let mut json = serde_json::to_value(event).unwrap();
        json["time"] = "".into();
        let expected = serde_json::json!({
            "time": "",
            "reason": "SyncFailed",
            "severity": "error",
            "subject": {"kind": "application", "name": "dev/web"},
            "cluster": "east",
            "revision": "0123456789",
            "message": "cannot apply Service dev/web: Invalid",
            "hint": "Fix the port.",
            "facts": {"objects": "4"},
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn event_on_a_cluster_is_about_it() {
        let event = Event::warning(EventReason::ClusterUnreachable, "connection refused").on("east");
        assert_eq!(event.subject, EventSubject::Cluster);
    }
}
