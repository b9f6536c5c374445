//! SIGHUP: the settings are read again.
//!
//! Everything that a daemon has open follows from its settings, so that new ones are not patched
//! in: the daemon stops at a safe point, and starts again in the same process ID. Settings that
//! cannot be used are rejected before, and the old ones stay in force.

use crate::{
    events::{Event, EventReason},
    io::blocking,
    service::engine::ServiceContext,
};
use std::sync::Arc;

/// Reads the settings again; returns true if they have changed and can be used.
pub(super) async fn is_due(context: &Arc<ServiceContext>) -> bool {
    let file = context.identity.path.display();
    let read = Arc::clone(context);
    let next = match blocking(move || read.read_again()).await {
        Ok(next) => next.try_out().await.map(|()| next),
        Err(failure) => Err(failure),
    };
    let event = match next {
        Err(failure) => {
            // One line of the log, however many mistakes there are.
            let error = failure.error.replace(":\n", ": ").replace('\n', "; ");
            let message = format!("the old settings stay in force: {error}");
            Event::error(EventReason::SettingsRejected, message).hint(failure.hint)
        }
        Ok(next) if next.identity == context.identity => {
            let message = format!("{file} has not changed; nothing to reload");
            Event::info(EventReason::SettingsUnchanged, message)
        }
        Ok(_) => {
            let message = format!("{file} has changed; starting again with the new settings");
            context
                .events
                .record(Event::info(EventReason::SettingsReloaded, message));
            return true;
        }
    };
    context.events.record(event);
    false
}
