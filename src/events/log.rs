//! The log as a sink: a line for each event, with its reason code, subject and facts as fields.

use super::{Event, EventFact, EventSeverity, EventSink};
use crate::core::text::{plain, short_id};
use serde_json::Value;
use tracing::{debug, error, field::display, info, warn};

/// Writes events through `tracing`. Fields without a value are left out.
#[derive(Debug, Clone, Copy)]
pub struct LogSink;

/// Returns a text that has no spaces.
fn text(event: &Event, fact: EventFact) -> Option<impl tracing::Value + '_> {
    quoted(event, fact).map(display)
}

/// Returns a text that is a sentence.
fn quoted(event: &Event, fact: EventFact) -> Option<&str> {
    event.facts.get(&fact).and_then(Value::as_str)
}

fn number(event: &Event, fact: EventFact) -> Option<u64> {
    event.facts.get(&fact).and_then(Value::as_u64)
}

/// One line at a level. The fields of `tracing` are static, so all facts are listed here; a test
/// finds a forgotten one.
macro_rules! line {
    ($level:ident, $event:ident, $subject:ident) => {
        $level!(
            reason = %$event.reason,
            repository = $subject.repository.as_deref().map(display),
            environment = $subject.environment.as_deref().map(display),
            pullRequest = $subject.pull_request,
            application = $subject.application.as_ref().map(display),
            cluster = $subject.cluster.as_deref().map(display),
            revision = $subject.revision.as_deref().map(short_id).map(display),
            clusters = text($event, EventFact::Clusters),
            commit = text($event, EventFact::Commit),
            group = text($event, EventFact::Group),
            heads = number($event, EventFact::Heads),
            kind = text($event, EventFact::Kind),
            listings = number($event, EventFact::Listings),
            objects = number($event, EventFact::Objects),
            place = text($event, EventFact::Place),
            repositories = text($event, EventFact::Repositories),
            severity = text($event, EventFact::Severity),
            signal = text($event, EventFact::Signal),
            socket = text($event, EventFact::Socket),
            state = text($event, EventFact::State),
            uid = number($event, EventFact::Uid),
            until = text($event, EventFact::Until),
            url = text($event, EventFact::Url),
            version = text($event, EventFact::Version),
            waits = quoted($event, EventFact::Waits),
            hint = $event.hint,
            "{}",
            $event.message
        )
    };
}

impl EventSink for LogSink {
    fn record(&self, event: &Event) {
        let subject = &event.subject;
        match event.severity {
            EventSeverity::Debug => line!(debug, event, subject),
            EventSeverity::Info => line!(info, event, subject),
            EventSeverity::Warning => line!(warn, event, subject),
            EventSeverity::Error => line!(error, event, subject),
        }
    }
}

/// Logs each panic as a line of the log, with its place in the code. What follows from it is an
/// event of the task that panicked.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = plain(panic.payload_as_str().unwrap_or("no message"));
        let place = panic.location().map(ToString::to_string);
        error!(place, "panic: {message}");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventReason;
    use std::{
        io,
        sync::{Arc, Mutex},
    };
    use tracing_subscriber::fmt::MakeWriter;

    /// Collects what is written; clones share it.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn logged(event: &Event, json: bool) -> String {
        let lines = Lines::default();
        let format = tracing_subscriber::fmt()
            .with_writer(lines.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time();
        let record = || LogSink.record(event);
        if json {
            let subscriber = format.json().flatten_event(true).finish();
            tracing::subscriber::with_default(subscriber, record);
        } else {
            tracing::subscriber::with_default(format.finish(), record);
        }
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn log_line_has_the_message_then_code_and_names() {
        let event = Event::warning(EventReason::DriftRepaired, "repaired Deployment dev/web")
            .application(&"shop/web".parse().unwrap())
            .cluster("east")
            .revision(Some("0123456789abcdef"))
            .fact(EventFact::Objects, 3)
            .hint(Some("Look."));
        assert_eq!(
            logged(&event, false),
            " WARN repaired Deployment dev/web reason=DriftRepaired application=shop/web \
             cluster=east revision=0123456789 objects=3 hint=\"Look.\"\n"
        );
    }

    #[test]
    fn log_line_in_json_has_every_fact() {
        let numbers = [
            EventFact::Heads,
            EventFact::Listings,
            EventFact::Objects,
            EventFact::Uid,
        ];
        let texts = [
            EventFact::Clusters,
            EventFact::Commit,
            EventFact::Group,
            EventFact::Kind,
            EventFact::Place,
            EventFact::Repositories,
            EventFact::Severity,
            EventFact::Signal,
            EventFact::Socket,
            EventFact::State,
            EventFact::Until,
            EventFact::Url,
            EventFact::Version,
            EventFact::Waits,
        ];
        let mut event = Event::info(EventReason::Started, "m");
        for fact in numbers {
            event = event.fact(fact, 7);
        }
        for fact in texts {
            event = event.fact(fact, "x");
        }
        let line: Value = serde_json::from_str(&logged(&event, true)).unwrap();
        for (fact, value) in &event.facts {
            let name = serde_json::to_value(fact).unwrap();
            assert_eq!(&line[name.as_str().unwrap()], value, "{fact:?}");
        }
    }
}
