//! Events: one typed fact for each thing that happened, delivered to sinks.
//!
//! ```text
//! every pass ─▶ Event ─▶ Recorder ─▶ sinks (today: the log)
//! ```
//!
//! Belongs here: the [`Event`] type, its reason codes, and the sinks. Does not belong here: the
//! decision that something happened. A pass records an event once, where it makes the decision.
//! Programs read [`EventReason`], never the message.

mod log;
mod reason;

pub use log::{LogSink, log_panics};
pub use reason::EventReason;

use crate::core::{
    name::Name,
    text::{escape_control, is_hidden},
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::{collections::BTreeMap, fmt, sync::Arc};

/// One fact about one subject.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub time: Timestamp,
    pub reason: EventReason,
    pub severity: EventSeverity,
    /// A sentence for people. Foreign text in it is already sanitised.
    pub message: String,
    /// Advice for the user, as a sentence of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The subject; an event about the process itself has none.
    #[serde(flatten)]
    pub subject: EventSubject,
    /// Further values, for programs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<EventFact, Value>,
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
    /// Failed: a user has to act, or a retry follows.
    Error,
}

/// The names of what an event is about, as far as they apply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventSubject {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The number of the pull request at its forge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The full commit ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// The name of a further value of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EventFact {
    /// The clusters of the settings, joined by commas.
    Clusters,
    /// A commit that tagboat made or reported.
    Commit,
    /// An API group.
    Group,
    /// The number of conditional requests to registries.
    Heads,
    /// The class of a failure: remote, config, input.
    Kind,
    /// The number of tag lists read.
    Listings,
    /// The number of objects.
    Objects,
    /// File, line and column.
    Place,
    /// The repositories of the settings, joined by commas.
    Repositories,
    /// The severity of a diagnostic.
    Severity,
    Signal,
    /// The path of the local socket.
    Socket,
    /// The code of an Application's state.
    State,
    /// The user ID of the process that queried the daemon.
    Uid,
    /// The end of a wait.
    Until,
    /// The page at the forge.
    Url,
    /// The version of tagboat.
    Version,
    /// The reasons why a pull request is not merged.
    Waits,
}

impl EventSubject {
    pub fn of_cluster(name: &str) -> Self {
        Self {
            cluster: Some(name.to_owned()),
            ..Self::default()
        }
    }

    pub fn of_repository(name: &str) -> Self {
        Self {
            repository: Some(name.to_owned()),
            ..Self::default()
        }
    }

    /// Takes the names that are missing from another subject.
    fn or(self, other: &Self) -> Self {
        Self {
            repository: self.repository.or_else(|| other.repository.clone()),
            environment: self.environment.or_else(|| other.environment.clone()),
            pull_request: self.pull_request.or(other.pull_request),
            application: self.application.or_else(|| other.application.clone()),
            cluster: self.cluster.or_else(|| other.cluster.clone()),
            revision: self.revision.or_else(|| other.revision.clone()),
        }
    }
}

impl Event {
    fn new(severity: EventSeverity, reason: EventReason, message: impl Into<String>) -> Self {
        Self {
            time: Timestamp::now(),
            reason,
            severity,
            message: message.into(),
            hint: None,
            subject: EventSubject::default(),
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
    pub fn repository(mut self, name: &str) -> Self {
        self.subject.repository = Some(name.to_owned());
        self
    }

    #[must_use]
    pub fn environment(mut self, name: &str) -> Self {
        self.subject.environment = Some(name.to_owned());
        self
    }

    #[must_use]
    pub fn pull_request(mut self, number: Option<u64>) -> Self {
        self.subject.pull_request = number;
        self
    }

    #[must_use]
    pub fn application(mut self, name: &Name) -> Self {
        self.subject.application = Some(name.clone());
        self
    }

    #[must_use]
    pub fn cluster(mut self, name: &str) -> Self {
        self.subject.cluster = Some(name.to_owned());
        self
    }

    #[must_use]
    pub fn revision(mut self, commit: Option<&str>) -> Self {
        self.subject.revision = commit.map(str::to_owned);
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into);
        self
    }

    #[must_use]
    pub fn fact(mut self, name: EventFact, value: impl Into<Value>) -> Self {
        self.facts.insert(name, value.into());
        self
    }

    /// Escapes hidden characters, so that no sink shows a line that is not what it seems.
    fn escape(&mut self) {
        let facts = self.facts.values_mut().filter_map(|value| match value {
            Value::String(text) => Some(text),
            _ => None,
        });
        for text in facts.chain([&mut self.message]).chain(&mut self.hint) {
            if text.contains(is_hidden) {
                *text = escape_control(text);
            }
        }
    }

    /// Adds a value that may be missing.
    #[must_use]
    pub fn fact_if_known(self, name: EventFact, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.fact(name, value),
            None => self,
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
    scope: Arc<EventSubject>,
}

impl Recorder {
    pub fn new(sinks: Vec<Box<dyn EventSink>>) -> Self {
        Self {
            sinks: sinks.into(),
            scope: Arc::default(),
        }
    }

    /// Returns a recorder that completes the subject of each event with these names.
    #[must_use]
    pub fn scoped(&self, scope: EventSubject) -> Self {
        Self {
            sinks: Arc::clone(&self.sinks),
            scope: Arc::new(scope.or(&self.scope)),
        }
    }

    pub fn record(&self, mut event: Event) {
        event.subject = event.subject.or(&self.scope);
        event.escape();
        for sink in &*self.sinks {
            sink.record(&event);
        }
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
        f.debug_struct("Recorder")
            .field("sinks", &self.sinks.len())
            .finish()
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
    fn recorder_escapes_hidden_characters() {
        let seen = Arc::<Mutex<Vec<Event>>>::default();
        let recorder = Recorder::new(vec![Box::new(Collector(Arc::clone(&seen)))]);
        let event = Event::info(EventReason::Started, "a\u{202e}b\nc")
            .hint(Some("\u{1b}[2J"))
            .fact(EventFact::Url, "x\u{2066}")
            .fact(EventFact::Objects, 3);
        recorder.record(event);
        let seen = &seen.lock().unwrap()[0];
        assert_eq!(seen.message, "a\\u{202e}b\\nc");
        assert_eq!(seen.hint.as_deref(), Some("\\u{1b}[2J"));
        assert_eq!(seen.facts[&EventFact::Url], "x\\u{2066}");
    }

    #[test]
    fn recorder_completes_subjects_with_its_scope() {
        let seen = Arc::<Mutex<Vec<Event>>>::default();
        let recorder = Recorder::new(vec![Box::new(Collector(Arc::clone(&seen)))])
            .scoped(EventSubject::of_repository("fleet"))
            .scoped(EventSubject::of_cluster("east"));
        recorder.record(Event::info(EventReason::Started, "one"));
        recorder.record(Event::info(EventReason::Started, "other").cluster("west"));
        let seen = seen.lock().unwrap();
        let subjects: Vec<_> = seen
            .iter()
            .map(|event| {
                (
                    event.subject.repository.as_deref(),
                    event.subject.cluster.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            subjects,
            [(Some("fleet"), Some("east")), (Some("fleet"), Some("west"))]
        );
    }

    #[test]
    fn event_serialises_with_codes_for_programs() {
        let event = Event::error(EventReason::SyncFailed, "cannot apply Service dev/web")
            .application(&"dev/web".parse().unwrap())
            .cluster("east")
            .revision(Some("0123456789"))
            .hint(Some("Fix the port."))
            .fact(EventFact::Objects, 4);
        let mut json = serde_json::to_value(event).unwrap();
        json["time"] = "".into();
        let expected = serde_json::json!({
            "time": "",
            "reason": "SyncFailed",
            "severity": "error",
            "application": "dev/web",
            "cluster": "east",
            "revision": "0123456789",
            "message": "cannot apply Service dev/web",
            "hint": "Fix the port.",
            "facts": {"objects": 4},
        });
        assert_eq!(json, expected);
    }
}
