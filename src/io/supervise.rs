//! Panics of tasks: a bug in the work of one unit ends that work alone, never the process.

use crate::{
    core::{retry, text},
    events::{Event, EventReason, Recorder},
};
use futures::FutureExt as _;
use std::{any::Any, panic::AssertUnwindSafe, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Back-off before a task that panicked is started again.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// The most characters of a panic's message that are shown.
const MAX_TEXT: usize = 300;

/// The advice of every event about a panic.
pub(crate) const BUG_HINT: &str = "Report this as a bug of tagboat, with the log line above it.";

/// Runs a future to its end.
///
/// # Errors
/// The message of a panic.
pub(crate) async fn catch_panic<T>(work: impl Future<Output = T>) -> Result<T, String> {
    // What the work shares with other tasks is behind locks, and poisoned ones are taken all the
    // same.
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .map_err(|payload| panic_text(&*payload))
}

/// Runs a task until it ends. One that panics is reported, and started again after a back-off.
pub(crate) async fn supervise<F: Future<Output = ()>>(
    name: &str,
    events: &Recorder,
    stop: &CancellationToken,
    start: impl Fn() -> F,
) {
    supervise_with(name, events, stop, BACK_OFF, start).await;
}

async fn supervise_with<F: Future<Output = ()>>(
    name: &str,
    events: &Recorder,
    stop: &CancellationToken,
    (first, longest): (Duration, Duration),
    start: impl Fn() -> F,
) {
    let mut panics: u32 = 0;
    loop {
        let begun = Instant::now();
        let Err(message) = catch_panic(start()).await else {
            return;
        };
        // A task that ran for long has started well.
        panics = match begun.elapsed() > longest {
            true => 1,
            false => panics.saturating_add(1),
        };
        let wait = retry::delay(panics, first, longest);
        let text = format!(
            "{name} panicked ({message}); it is started again in {} s",
            wait.as_secs()
        );
        let event = Event::error(EventReason::TaskPanicked, text);
        events.record(event.hint(Some(BUG_HINT)));
        if stop
            .run_until_cancelled(tokio::time::sleep(wait))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Returns the message of a panic, on one line.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    text::one_line(message, MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn supervise_panicking_task_starts_again() {
        let (starts, stop) = (AtomicU32::new(0), CancellationToken::new());
        let (first, longest) = (Duration::from_millis(2), Duration::from_secs(60));
        let begun = Instant::now();
        supervise_with(
            "the test",
            &Recorder::default(),
            &stop,
            (first, longest),
            || async {
                assert!(starts.fetch_add(1, Ordering::SeqCst) >= 3, "not yet");
            },
        )
        .await;
        assert_eq!(starts.load(Ordering::SeqCst), 4);
        assert!(
            begun.elapsed() >= first * (1 + 2 + 4),
            "the back-off doubles"
        );
    }

    #[tokio::test]
    async fn supervise_stop_ends_the_back_off() {
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let (hour, events) = (Duration::from_secs(3600), Recorder::default());
        let task = supervise_with("the test", &events, &stop, (hour, hour), || {
            stopping.cancel();
            async { panic!("at once") }
        });
        let ended = tokio::time::timeout(Duration::from_secs(30), task).await;
        assert!(ended.is_ok(), "it waits although the process stops");
    }

    #[tokio::test]
    async fn catch_panic_text_is_one_short_line() {
        let message = catch_panic(async { panic!("a\nb\u{202e}{}", "x".repeat(1000)) }).await;
        let message = message.map(|()| String::new()).unwrap_err();
        assert!(message.starts_with("a"), "{message}");
        assert!(!message.contains(['\n', '\u{202e}']), "{message}");
        // An escaped character takes a few more.
        assert!(message.chars().count() <= MAX_TEXT + 10, "{message}");
    }
}
