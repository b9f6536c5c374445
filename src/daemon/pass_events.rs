//! The events of a pass over a repository.

use crate::{
    events::{Event, EventFact, EventReason, Recorder},
    io::blocking,
    spec::Diagnostic,
    update::{EnvironmentReport, EnvironmentState, PassReport, RequestReport, RequestState},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Returns the events of a pass but its findings and warnings. A pass that changes nothing has none
/// above `debug`.
pub(super) fn of(report: &PassReport) -> Vec<Event> {
    let mut events = Vec::new();
    for environment in &report.environments {
        let of_environment = environment_events(environment).into_iter();
        events.extend(of_environment.map(|event| event.environment(&environment.name)));
    }
    for failure in &report.failures {
        let event = Event::error(EventReason::PassFailed, &failure.message)
            .hint(failure.hint.clone())
            .fact(EventFact::Kind, failure.kind.to_string());
        events.push(event);
    }
    let completed = Event::debug(EventReason::PassCompleted, "pass finished")
        .revision(report.revision.as_deref())
        .fact(EventFact::Listings, report.requests.listings)
        .fact(EventFact::Heads, report.requests.heads);
    events.push(completed);
    events
}

fn environment_events(report: &EnvironmentReport) -> Vec<Event> {
    let mut events = Vec::new();
    for commit in &report.commits {
        let Some(id) = &commit.id else { continue };
        let subject = commit.message.lines().next().unwrap_or_default();
        let event = Event::info(EventReason::UpdateCommitted, subject);
        events.push(event.fact(EventFact::Commit, id.as_str()));
    }
    events.extend(report.requests.iter().filter_map(request_event));
    if report.state == EnvironmentState::Failed {
        events.push(Event::warning(
            EventReason::UpdateFailed,
            "changes could not be published",
        ));
    }
    events
}

/// Returns the event of changes that wait for a window, which names them.
fn window_event(report: &EnvironmentReport) -> Option<Event> {
    if report.state != EnvironmentState::WindowClosed {
        return None;
    }
    let images = report.commits.iter().flat_map(|commit| &commit.images);
    let images: Vec<String> = images
        .map(|image| format!("{} {}", image.image(), image.step()))
        .collect();
    let until = report.until.map(|until| until.to_string());
    let message = format!("changes wait for a window: {}", images.join(", "));
    let event = Event::info(EventReason::WindowClosed, message);
    Some(event.fact_if_known(EventFact::Until, until))
}

fn request_event(request: &RequestReport) -> Option<Event> {
    let waits = request.waits.join(" ");
    let event = if request.state.is_change() {
        let message = format!("{}: {}", request.state.as_str(), request.title);
        let waits = Some(waits).filter(|waits| !waits.is_empty());
        Event::info(EventReason::PullRequestChanged, message).fact_if_known(EventFact::Waits, waits)
    } else if request.state == RequestState::Stopped {
        Event::debug(EventReason::PullRequestBlocked, format!("stopped: {waits}"))
    } else {
        return None;
    };
    let event = event.pull_request(request.number);
    Some(event.fact_if_known(EventFact::Url, request.url.clone()))
}

/// Warnings that are remembered as recorded; after that many they may be recorded again.
const MOST_WARNINGS: usize = 10_000;

/// The findings of passes over a repository, each recorded when it appears, and their warnings,
/// each recorded once.
#[derive(Debug, Default)]
pub(super) struct FindingEvents {
    /// The findings of the last pass.
    recorded: Arc<HashSet<Diagnostic>>,
    /// The warnings of all passes.
    warned: HashSet<String>,
    /// The changes of each Environment that waited for a window in the last pass.
    waiting: HashMap<String, String>,
}

impl FindingEvents {
    /// Records the warnings that no pass had before, and the findings and waits for a window that
    /// the last pass did not have.
    ///
    /// There can be hundreds of thousands of them, so they are compared by hash, in a blocking
    /// task.
    pub(super) async fn record(&mut self, report: &mut PassReport, events: &Recorder) {
        if self.warned.len() >= MOST_WARNINGS {
            self.warned.clear();
        }
        for warning in &report.warnings {
            if self.warned.insert(warning.clone()) {
                events.record(Event::warning(EventReason::PassWarning, warning));
            }
        }
        for environment in &report.environments {
            let Some(event) = window_event(environment) else {
                self.waiting.remove(&environment.name);
                continue;
            };
            let waiting = event.message.clone();
            let last = self
                .waiting
                .insert(environment.name.clone(), waiting.clone());
            if last.is_none_or(|last| last != waiting) {
                events.record(event.environment(&environment.name));
            }
        }
        // A pass that did not reach the revision has no diagnostics.
        if report.revision.is_none() {
            return;
        }
        let findings = std::mem::take(&mut report.findings);
        let (events, last) = (events.clone(), Arc::clone(&self.recorded));
        self.recorded = blocking(move || {
            for finding in findings.iter().filter(|finding| !last.contains(finding)) {
                let event = Event::warning(EventReason::DiagnosticFound, &finding.message)
                    .fact(EventFact::Place, finding.place.to_string())
                    .fact(EventFact::Severity, finding.severity.to_string());
                events.record(event);
            }
            Arc::new(findings.into_iter().collect())
        })
        .await;
    }
}
