//! The log as a sink: one line for each event, with its reason code, subject and facts as fields.

use super::{Event, EventSeverity, EventSink};
use tracing::{debug, error, info, warn};

/// Writes events through `tracing`.
#[derive(Debug, Clone, Copy)]
pub struct LogSink;

/// Fields of a log line, in the form that `tracing` takes. An absent field is left out.
macro_rules! line {
    ($level:ident, $event:ident, $facts:ident) => {
        $level!(
            reason = $event.reason.as_str(),
            subject = %$event.subject,
            cluster = $event.cluster,
            revision = $event.revision.as_deref().map(crate::core::text::short_id),
            facts = $facts,
            hint = $event.hint,
            "{}",
            $event.message
        )
    };
}

impl EventSink for LogSink {
    fn record(&self, event: &Event) {
        let facts: Vec<_> =
            event.facts.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let facts = (!facts.is_empty()).then(|| facts.join(" "));
        match event.severity {
            EventSeverity::Debug => line!(debug, event, facts),
            EventSeverity::Info => line!(info, event, facts),
            EventSeverity::Warning => line!(warn, event, facts),
            EventSeverity::Error => line!(error, event, facts),
        }
    }
}
