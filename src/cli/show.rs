//! A pass as text: what was done or would be, what is wrong, what went wrong.

use super::{Exit, Screen, screen::Color};
use crate::{
    core::error::ErrorKind,
    spec::Severity,
    update::{
        CommitReport, EnvironmentReport, EnvironmentState, PassReport, PolicyReport, RequestReport,
        RequestState,
    },
};
use jiff::Timestamp;
use similar::TextDiff;

/// How a set of passes ended.
pub fn exit(reports: &[PassReport]) -> Exit {
    let failures: Vec<_> = reports.iter().flat_map(|report| &report.failures).collect();
    let wrong = reports
        .iter()
        .flat_map(|report| &report.findings)
        .any(|finding| finding.severity == Severity::Error);
    let some = reports.iter().any(|report| {
        report.environments.iter().any(|environment| {
            matches!(
                environment.state,
                EnvironmentState::Committed
                    | EnvironmentState::Planned
                    | EnvironmentState::Proposed
            ) || environment
                .policies
                .iter()
                .any(|policy| policy.chosen.is_some())
        })
    });
    match (failures.is_empty(), some) {
        (true, _) if !wrong => Exit::Done,
        (_, true) => Exit::Partly,
        (true, false) => Exit::BadInput,
        (false, false)
            if failures
                .iter()
                .all(|failure| failure.kind == ErrorKind::Config) =>
        {
            Exit::BadInput
        }
        (false, false) => Exit::Remote,
    }
}

/// Prints a report. With `diff`, commits come with their changes, and policies with their reasons.
pub fn report(report: &PassReport, diff: bool, screen: &mut Screen) {
    let revision = report
        .revision
        .as_deref()
        .map_or("unread", |id| &id[..id.len().min(10)]);
    screen.line(format_args!(
        "{} {}",
        screen.paint(Color::Bold, &report.repository),
        screen.paint(Color::Dim, format_args!("at {revision}"))
    ));
    for environment in &report.environments {
        self::environment(environment, diff, screen);
    }
    if report.environments.is_empty() && report.failures.is_empty() {
        let broken = report
            .findings
            .iter()
            .any(|finding| finding.severity == Severity::Error);
        screen.line(if broken {
            "  no Environment can be used: mend the errors"
        } else {
            "  no Environment is declared: nothing to do"
        });
    }
    for warning in &report.warnings {
        screen.note(format_args!(
            "{} {warning}",
            screen.paint(Color::Cyan, "warning:")
        ));
    }
    for finding in &report.findings {
        let color = if finding.severity == Severity::Error {
            Color::Red
        } else {
            Color::Cyan
        };
        screen.note(format_args!(
            "{} {}: {}",
            screen.paint(color, format_args!("{}:", finding.severity)),
            finding.place,
            finding.message
        ));
    }
    failures(report, screen);
}

/// Prints what went wrong at remotes.
pub fn failures(report: &PassReport, screen: &mut Screen) {
    for failure in &report.failures {
        screen.note(format_args!(
            "{} {}",
            screen.paint(Color::Red, format_args!("error ({}):", failure.kind)),
            failure.message
        ));
        if let Some(hint) = &failure.hint {
            screen.note(format_args!("hint: {hint}"));
        }
    }
}

fn environment(environment: &EnvironmentReport, diff: bool, screen: &mut Screen) {
    let name = screen.paint(Color::Bold, &environment.name);
    let until = environment.until.map_or(String::new(), |time| {
        format!(", next opening {}", shown(time))
    });
    let state = match environment.state {
        EnvironmentState::UpToDate if environment.policies.is_empty() => {
            "nothing to update".to_owned()
        }
        EnvironmentState::UpToDate => "up to date".to_owned(),
        EnvironmentState::Unknown => "unknown: not every repository could be asked".to_owned(),
        EnvironmentState::Committed => "committed".to_owned(),
        EnvironmentState::Planned if environment.commits.is_empty() => {
            "would change requests".to_owned()
        }
        EnvironmentState::Planned => "would commit".to_owned(),
        EnvironmentState::WindowClosed => format!("waits: no window is open{until}"),
        EnvironmentState::Proposed => "in review".to_owned(),
        EnvironmentState::Waiting => "waits: its requests could not be looked at".to_owned(),
        EnvironmentState::Suspended => "suspended".to_owned(),
        EnvironmentState::Failed => "failed".to_owned(),
    };
    screen.line(format_args!("  {name}: {state}"));
    for commit in &environment.commits {
        self::commit(commit, diff, screen);
    }
    for request in &environment.requests {
        self::request(request, diff, screen);
    }
    for policy in &environment.policies {
        self::policy(policy, diff, screen);
    }
    let said = |code: &str| diff && !matches!(code, "up-to-date" | "nothing-chosen");
    for left in environment.left.iter().filter(|left| said(left.code)) {
        let place = screen.paint(
            Color::Cyan,
            format_args!("{}:{}:{}", left.file, left.line, left.column),
        );
        screen.line(format_args!("    left alone {place}: {}", left.reason));
    }
}

fn commit(commit: &CommitReport, diff: bool, screen: &mut Screen) {
    let subject = commit.message.lines().next().unwrap_or_default();
    match &commit.id {
        Some(id) => screen.line(format_args!(
            "    {} {subject}",
            screen.paint(Color::Green, &id[..id.len().min(10)])
        )),
        None => screen.line(format_args!("    {subject}")),
    }
    if diff {
        for file in &commit.files {
            self::diff(&file.path, &file.before, &file.after, screen);
        }
    }
}

/// Prints a request. With `diff`, one that is not open yet comes with its changes.
pub fn request(request: &RequestReport, diff: bool, screen: &mut Screen) {
    let number = request
        .number
        .map_or(String::new(), |number| format!("#{number} "));
    let title: String = request.title.chars().filter(|c| !c.is_control()).collect();
    screen.line(format_args!(
        "    {} {}{title}",
        screen.paint(Color::Green, request.state.as_str()),
        number
    ));
    if let Some(url) = &request.url {
        screen.line(format_args!("      {}", super::safe(url)));
    }
    for wait in &request.waits {
        screen.line(screen.paint(Color::Dim, format_args!("      {}", super::safe(wait))));
    }
    if diff
        && matches!(
            request.state,
            RequestState::WouldOpen | RequestState::WouldUpdate
        )
    {
        for file in &request.files {
            self::diff(&file.path, &file.before, &file.after, screen);
        }
    }
}

fn policy(policy: &PolicyReport, diff: bool, screen: &mut Screen) {
    let present = if policy.present.is_empty() {
        "(none)".to_owned()
    } else {
        policy.present.join(", ").escape_debug().to_string()
    };
    match (&policy.chosen, &policy.reason) {
        (Some(tag), _) if diff || policy.present.iter().any(|present| present != tag.as_str()) => {
            screen.line(format_args!(
                "    {} chose {tag} (files have {present})",
                policy.name
            ));
        }
        (None, Some(reason)) => screen.line(format_args!(
            "    {} chose nothing (files have {present}): {reason}",
            policy.name
        )),
        _ => {}
    }
    if diff {
        for refused in &policy.refused {
            let line = format!(
                "      not {}: it {}",
                refused.tag.escape_debug(),
                refused.reason
            );
            screen.line(screen.paint(Color::Dim, line));
        }
    }
    for held in &policy.held {
        screen.line(format_args!("    {} holds {held}", policy.name));
    }
}

/// Prints the difference of a file as git prints it.
pub fn diff(path: &str, before: &[u8], after: &[u8], screen: &mut Screen) {
    let path = super::safe(path);
    let (before, after) = (
        String::from_utf8_lossy(before),
        String::from_utf8_lossy(after),
    );
    let diff = TextDiff::from_lines(before.as_ref(), after.as_ref());
    let text = diff
        .unified_diff()
        .context_radius(3)
        .header(&format!("a/{path}"), &format!("b/{path}"))
        .to_string();
    unified(&text, screen);
}

/// Prints a unified diff in colour.
pub fn unified(text: &str, screen: &mut Screen) {
    for line in text.lines() {
        // A carriage return or an escape of a file must not reach a terminal.
        let safe: String = line
            .chars()
            .filter(|c| !c.is_control() || *c == '\t')
            .collect();
        let painted = match safe.as_bytes().first() {
            _ if safe.starts_with("---") || safe.starts_with("+++") => {
                screen.paint(Color::Bold, &safe)
            }
            Some(b'+') => screen.paint(Color::Green, &safe),
            Some(b'-') => screen.paint(Color::Red, &safe),
            Some(b'@') => screen.paint(Color::Cyan, &safe),
            _ => safe,
        };
        screen.line(painted);
    }
}

/// A time to the minute, in UTC.
pub fn shown(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
