//! Text output that several commands share: passes, pull requests, gaps, diffs, times.

use super::{Screen, counted, safe, screen::Color};
use crate::{
    core::text::short_id,
    service::{
        pass_summary::{
            CommitSummary, EnvironmentSummary, FileDiff, LeftReference, PassSummary, PolicySummary,
            PullRequestSummary,
        },
        types::{Gaps, PartialFailure, Selected},
    },
    spec::{Diagnostic, Severity},
    update::{EnvironmentState, RefusedHead, RequestState},
};
use jiff::{SignedDuration, Timestamp};

/// The detail of a printed pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Results only.
    Results,
    /// Results with diffs and the reasons of policies.
    Reasons,
}

/// Prints a pass.
pub(super) fn pass(pass: &PassSummary, detail: Detail, screen: &mut Screen) {
    let name = screen.paint(Color::Bold, &pass.repository);
    match pass.revision.as_deref() {
        Some(revision) => screen.line(format_args!(
            "{name} {}",
            screen.paint(Color::Dim, format_args!("at {}", short_id(revision)))
        )),
        None => screen.line(format_args!("{name}: could not be read")),
    }
    for environment in &pass.environments {
        self::environment(environment, detail, screen);
    }
    if pass.environments.is_empty() && pass.failures.is_empty() {
        screen.line(if pass.has_errors() {
            "  no valid Environment: correct the errors"
        } else {
            "  no Environment is declared: nothing to do"
        });
    }
    for warning in &pass.warnings {
        let label = screen.paint(Color::Cyan, "warning:");
        screen.note(format_args!("{label} {warning}"));
    }
    for diagnostic in &pass.diagnostics {
        let label = screen.paint(
            severity_color(diagnostic),
            format_args!("{}:", diagnostic.severity),
        );
        screen.note(format_args!(
            "{label} {}: {}",
            diagnostic.place, diagnostic.message
        ));
    }
    failures(&pass.failures, screen);
}

pub(super) fn severity_color(diagnostic: &Diagnostic) -> Color {
    match diagnostic.severity {
        Severity::Error => Color::Red,
        Severity::Warning => Color::Cyan,
    }
}

/// Prints failures of remotes.
pub(super) fn failures(failures: &[PartialFailure], screen: &mut Screen) {
    for failure in failures {
        let label = screen.paint(Color::Red, format_args!("error ({}):", failure.kind));
        screen.note(format_args!("{label} {}", failure.error));
        if let Some(hint) = &failure.hint {
            screen.note(format_args!("hint: {hint}"));
        }
    }
}

/// Prints why an answer may lack something.
pub(super) fn gaps(gaps: &Gaps, screen: &mut Screen) {
    failures(&gaps.failures, screen);
    invalid_declarations(&gaps.invalid_declarations, screen);
}

/// Prints a note if a repository has invalid declarations.
pub(super) fn invalid_declarations(repositories: &[String], screen: &mut Screen) {
    if !repositories.is_empty() {
        screen.note("note: invalid declarations are ignored; list them with `tagboat check`");
    }
}

/// Prints the heads of branches that are not deployed.
pub(super) fn refused_heads(heads: &[RefusedHead], screen: &mut Screen) {
    for head in heads {
        screen.note(format_args!("warning: {head}"));
        screen.note(format_args!("hint: {}", RefusedHead::HINT));
    }
}

fn environment(environment: &EnvironmentSummary, detail: Detail, screen: &mut Screen) {
    let name = screen.paint(Color::Bold, &environment.name);
    screen.line(format_args!("  {name}: {}", state(environment)));
    for commit in &environment.commits {
        self::commit(commit, detail, screen);
    }
    for request in &environment.pull_requests {
        pull_request(request, detail, screen);
    }
    for policy in &environment.policies {
        self::policy(policy, detail, screen);
    }
    if detail == Detail::Results {
        return;
    }
    for left in notable(environment) {
        let place = place(&left.file, left.line, left.column, screen);
        screen.line(format_args!("    left alone {place}: {}", left.reason));
    }
}

/// The references left alone for another reason than that they are up to date.
fn notable(environment: &EnvironmentSummary) -> impl Iterator<Item = &LeftReference> {
    let is_notable =
        |left: &&LeftReference| !matches!(left.code.as_str(), "up-to-date" | "nothing-chosen");
    environment.left.iter().filter(is_notable)
}

fn state(environment: &EnvironmentSummary) -> String {
    let left_alone = notable(environment).count();
    let text = match environment.state {
        EnvironmentState::UpToDate if left_alone > 0 => {
            let references = counted(left_alone, "reference");
            return format!("nothing to write, {references} left alone");
        }
        EnvironmentState::UpToDate if environment.policies.is_empty() => "nothing to update",
        EnvironmentState::UpToDate => "up to date",
        EnvironmentState::Unknown => "unknown: some registries could not be asked",
        EnvironmentState::Committed => "committed",
        EnvironmentState::Planned if environment.commits.is_empty() => "would change pull requests",
        EnvironmentState::Planned => "would commit",
        EnvironmentState::WindowClosed => {
            return match environment.until {
                Some(time) => format!("waiting: no window is open, next opening {}", minute(time)),
                None => "waiting: no window is open".to_owned(),
            };
        }
        EnvironmentState::Proposed => "in review",
        EnvironmentState::Waiting => "waiting: its pull requests could not be read",
        EnvironmentState::Suspended => "suspended",
        EnvironmentState::Failed => "failed",
    };
    text.to_owned()
}

/// Returns `FILE:LINE:COLUMN` in colour.
pub(super) fn place(file: &str, line: u32, column: u32, screen: &Screen) -> String {
    screen.paint(Color::Cyan, format_args!("{}:{line}:{column}", safe(file)))
}

fn commit(commit: &CommitSummary, detail: Detail, screen: &mut Screen) {
    let subject = commit.message.lines().next().unwrap_or_default();
    match &commit.id {
        Some(id) => {
            let id = screen.paint(Color::Green, short_id(id));
            screen.line(format_args!("    {id} {subject}"));
        }
        None => screen.line(format_args!("    {subject}")),
    }
    if detail == Detail::Reasons {
        diffs(&commit.files, screen);
    }
}

/// Prints a pull request; one that is not open yet comes with its diffs.
pub(super) fn pull_request(request: &PullRequestSummary, detail: Detail, screen: &mut Screen) {
    let number = match request.number {
        Some(number) => format!("#{number} "),
        None => String::new(),
    };
    let title = safe(&request.title);
    let state = screen.paint(Color::Green, request.state.as_str());
    screen.line(format_args!("    {state} {number}{title}"));
    if let Some(url) = &request.url {
        screen.line(format_args!("      {}", safe(url)));
    }
    for wait in &request.waits {
        screen.line(screen.paint(Color::Dim, format_args!("      {}", safe(wait))));
    }
    let is_new = matches!(
        request.state,
        RequestState::WouldOpen | RequestState::WouldUpdate
    );
    if detail == Detail::Reasons && is_new {
        diffs(&request.files, screen);
    }
}

fn policy(policy: &PolicySummary, detail: Detail, screen: &mut Screen) {
    let present = present(&policy.present);
    let name = &policy.name;
    match (&policy.selected, &policy.reason) {
        (Some(Selected { tag, .. }), _) => {
            let is_present = policy.present.iter().all(|present| present == tag.as_str());
            if detail == Detail::Reasons || !is_present {
                screen.line(format_args!(
                    "    {name} selects {tag} (files have {present})"
                ));
            }
        }
        (None, Some(reason)) => screen.line(format_args!(
            "    {name} selects nothing (files have {present}): {reason}"
        )),
        (None, None) => {}
    }
    if detail == Detail::Reasons {
        for refused in &policy.refused {
            let tag = refused.tag.escape_debug();
            let line = format!("      not {tag}: it {}", refused.reason);
            screen.line(screen.paint(Color::Dim, line));
        }
    }
    if !policy.unlisted.is_empty() {
        screen.line(format_args!(
            "    {name}: the registry does not list {} any more",
            self::present(&policy.unlisted)
        ));
    }
    for held in &policy.held {
        screen.line(format_args!("    {name} holds {held}"));
    }
}

/// Joins the tags in the files.
pub(super) fn present(tags: &[String]) -> String {
    match tags {
        [] => "(none)".to_owned(),
        tags => tags.join(", ").escape_debug().to_string(),
    }
}

/// Prints the diffs of files.
pub(super) fn diffs(files: &[FileDiff], screen: &mut Screen) {
    for file in files {
        unified(&file.diff, screen);
    }
}

/// Prints a unified diff in colour, without the control characters of the files.
pub(super) fn unified(diff: &str, screen: &mut Screen) {
    for line in diff.lines() {
        let safe: String = line
            .chars()
            .filter(|c| !c.is_control() || *c == '\t')
            .collect();
        let is_header = safe.starts_with("---") || safe.starts_with("+++");
        let painted = match safe.as_bytes().first() {
            _ if is_header => screen.paint(Color::Bold, &safe),
            Some(b'+') => screen.paint(Color::Green, &safe),
            Some(b'-') => screen.paint(Color::Red, &safe),
            Some(b'@') => screen.paint(Color::Cyan, &safe),
            _ => safe,
        };
        screen.line(painted);
    }
}

/// Returns a time to the minute, in UTC.
pub(super) fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Returns the time since `time` in its greatest unit: `5m ago`.
pub(super) fn ago(time: Timestamp, now: Timestamp) -> String {
    format!("{} ago", rough(now.duration_since(time)))
}

/// Returns the time until `time` in its greatest unit: `in 5m`; or `now`.
pub(super) fn until(time: Timestamp, now: Timestamp) -> String {
    match now < time {
        true => format!("in {}", rough(time.duration_since(now))),
        false => "now".to_owned(),
    }
}

fn rough(duration: SignedDuration) -> String {
    match duration.as_secs().max(0) {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_their_greatest_unit() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        let at = |seconds: i64| now + SignedDuration::from_secs(seconds);
        for (seconds, expected) in [
            (0, "0s ago"),
            (-59, "59s ago"),
            (-60, "1m ago"),
            (-7_200, "2h ago"),
            (-172_800, "2d ago"),
            // Another clock may be ahead.
            (5, "0s ago"),
        ] {
            assert_eq!(ago(at(seconds), now), expected);
        }
        assert_eq!(until(at(90), now), "in 1m");
        assert_eq!(until(at(0), now), "now");
    }
}
