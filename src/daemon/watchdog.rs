//! The watchdog: reports workers of the async runtime that were blocked.
//!
//! A blocked worker answers no signal, timer or query (invariant 13). The watchdog is a thread of
//! its own, because a blocked runtime cannot report itself. It looks at two things:
//!
//! - the busy time of each worker, which the runtime adds up between two looks at its timers and
//!   sockets: a step of a second is a second without such a look;
//! - an empty task: if no worker runs it in time, all of them are blocked.

use crate::events::{Event, EventReason, Recorder};
use std::{
    sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Handle, RuntimeMetrics},
    task::JoinHandle,
};

/// A worker that is blocked for this long is reported.
const LIMIT: Duration = Duration::from_secs(1);

/// The time between two looks.
const PERIOD: Duration = Duration::from_millis(250);

/// The least time between two reports.
const QUIET: Duration = Duration::from_secs(60);

/// The running watchdog; ends when dropped.
pub(super) struct Watchdog {
    _running: SyncSender<()>,
}

/// The pace of a watchdog.
#[derive(Debug, Clone, Copy)]
struct Pace {
    limit: Duration,
    period: Duration,
    quiet: Duration,
}

impl Watchdog {
    /// Watches the workers of a runtime.
    pub(super) fn start(runtime: &Handle, events: Recorder) -> Self {
        let pace = Pace {
            limit: LIMIT,
            period: PERIOD,
            quiet: QUIET,
        };
        Self::start_with(runtime, events, pace)
    }

    fn start_with(runtime: &Handle, events: Recorder, pace: Pace) -> Self {
        let (sender, receiver) = sync_channel(0);
        let mut watch = WorkerWatch {
            busy: busy_times(&runtime.metrics()),
            probe: None,
            is_deaf: false,
            last_look: Instant::now(),
        };
        let runtime = runtime.clone();
        let mut reported: Option<Instant> = None;
        let work = move || {
            // Nothing is ever sent: the end of the sender ends the thread.
            while receiver.recv_timeout(pace.period) == Err(RecvTimeoutError::Timeout) {
                let Some(blocked) = watch.look(&runtime, pace.limit) else {
                    continue;
                };
                if reported.is_none_or(|at| at.elapsed() >= pace.quiet) {
                    reported = Some(Instant::now());
                    let event = Event::warning(EventReason::WorkerBlocked, blocked.message());
                    let hint = "The process answered late. Report this as a bug of tagboat, with \
                                the log lines around it, unless the machine itself was halted.";
                    events.record(event.hint(Some(hint)));
                }
            }
        };
        // Without the thread the daemon works as well.
        let _ = std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(work);
        Self { _running: sender }
    }
}

/// The result of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlockedWorkers {
    /// One was blocked, and has ended by now.
    One(Duration),
    /// All have been blocked for this long, and still are.
    All(Duration),
}

impl BlockedWorkers {
    fn message(self) -> String {
        match self {
            BlockedWorkers::One(time) => {
                format!("a worker was blocked for {:.1} s", time.as_secs_f64())
            }
            BlockedWorkers::All(time) => format!(
                "all workers have been blocked for {:.1} s",
                time.as_secs_f64()
            ),
        }
    }
}

struct WorkerWatch {
    /// The busy time of each worker at the last look.
    busy: Vec<Duration>,
    /// The empty task, and its start.
    probe: Option<(JoinHandle<()>, Instant)>,
    /// True once it was found that no worker runs the empty task.
    is_deaf: bool,
    last_look: Instant,
}

impl WorkerWatch {
    fn look(&mut self, runtime: &Handle, limit: Duration) -> Option<BlockedWorkers> {
        let now = busy_times(&runtime.metrics());
        let longest = longest_step(&self.busy, &now);
        self.busy = now;
        let late = self.last_look.elapsed() >= limit;
        self.last_look = Instant::now();
        if late {
            // The machine halted this thread, too: many short tasks add up to a long step.
            self.probe = None;
            return None;
        }
        match &self.probe {
            Some((probe, begun)) if !probe.is_finished() => {
                let waited = begun.elapsed();
                if waited >= limit && !self.is_deaf {
                    self.is_deaf = true;
                    return Some(BlockedWorkers::All(waited));
                }
            }
            _ => {
                self.is_deaf = false;
                self.probe = Some((runtime.spawn(async {}), Instant::now()));
            }
        }
        (longest >= limit).then_some(BlockedWorkers::One(longest))
    }
}

fn busy_times(metrics: &RuntimeMetrics) -> Vec<Duration> {
    (0..metrics.num_workers())
        .map(|worker| metrics.worker_total_busy_duration(worker))
        .collect()
}

/// Returns the longest step of a worker's busy time.
fn longest_step(before: &[Duration], now: &[Duration]) -> Duration {
    before
        .iter()
        .zip(now)
        .map(|(before, now)| now.saturating_sub(*before))
        .max()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventSink;
    use std::sync::mpsc::Sender;

    struct Forward(Sender<Event>);

    impl EventSink for Forward {
        fn record(&self, event: &Event) {
            let _ = self.0.send(event.clone());
        }
    }

    const FAST: Pace = Pace {
        limit: Duration::from_millis(200),
        period: Duration::from_millis(10),
        quiet: Duration::ZERO,
    };

    /// Runs blocking tasks on a runtime of two workers until the watchdog reports `wanted`.
    fn report_of(blocked: usize, wanted: &str) -> Option<Event> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let events = Recorder::new(vec![Box::new(Forward(sender))]);
        let _watchdog = Watchdog::start_with(runtime.handle(), events, FAST);
        for _ in 0..blocked {
            runtime.spawn(async {
                #[expect(clippy::disallowed_methods, reason = "what the test is about")]
                std::thread::sleep(Duration::from_millis(600));
            });
        }
        let end = Instant::now() + Duration::from_secs(30);
        let found = std::iter::from_fn(|| {
            let left = end.saturating_duration_since(Instant::now());
            receiver.recv_timeout(left).ok()
        })
        .find(|event| event.message.starts_with(wanted));
        runtime.shutdown_background();
        found
    }

    #[test]
    fn watchdog_one_blocked_worker_is_reported() {
        let event = report_of(1, "a worker was blocked").unwrap();
        assert_eq!(event.reason, EventReason::WorkerBlocked);
        assert!(event.hint.is_some());
    }

    #[test]
    fn watchdog_all_blocked_workers_are_reported() {
        assert!(report_of(2, "all workers have been blocked").is_some());
    }

    #[test]
    fn watchdog_short_work_is_no_step() {
        let seconds = |times: [u64; 2]| times.map(Duration::from_secs).to_vec();
        assert_eq!(
            longest_step(&seconds([5, 7]), &seconds([5, 8])),
            Duration::from_secs(1)
        );
        assert_eq!(
            longest_step(&seconds([5, 7]), &seconds([5, 7])),
            Duration::ZERO
        );
    }
}
