//! `tagboat policies`.

use super::{
    Failure, Outcome, Screen, client, print, safe,
    screen::Color,
    settings::SettingsArguments,
    table::{Cell, table},
};
use crate::{
    core::image::Tag,
    service::policies::{ListedPolicy, PoliciesAnswer, PoliciesQuery, PolicyInEnvironment},
};
use jiff::Timestamp;

/// List the policies with the latest tag, the last and the next scan, and the last error
///
/// Shows what the last pass knew, and asks neither Git nor a registry: a running daemon answers at
/// once, and without one the store does. `tagboat scan` asks the registries, `tagboat explain` has
/// the reasons of one policy. Exits with 1 if the last scan of an image failed.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let answer = client::ask(&arguments.settings, &PoliciesQuery {}, screen)?;
    screen.answer(&answer, |answer, screen| {
        text(answer, Timestamp::now(), screen);
    });
    Ok(answer.outcome())
}

fn text(answer: &PoliciesAnswer, now: Timestamp, screen: &mut Screen) {
    let (mut rows, mut remarks) = (Vec::new(), Vec::new());
    for policy in &answer.policies {
        if policy.environments.is_empty() {
            rows.push(row(policy, None, now));
            remarks.push(self::remarks(policy, None));
        }
        for environment in &policy.environments {
            rows.push(row(policy, Some(environment), now));
            remarks.push(self::remarks(policy, Some(environment)));
        }
    }
    if rows.is_empty() {
        screen.line("no ImagePolicy is declared");
    } else {
        let heads = [
            "POLICY",
            "ENVIRONMENT",
            "PRESENT",
            "LATEST",
            "SCANNED",
            "NEXT",
        ];
        let mut lines = table(&heads, &rows, screen).into_iter();
        lines
            .next()
            .into_iter()
            .for_each(|heads| screen.line(heads));
        for (line, remarks) in lines.zip(remarks) {
            screen.line(line);
            for (remark, color) in remarks {
                screen.line(format_args!("  {}", screen.paint(color, safe(&remark))));
            }
        }
    }
    for repository in &answer.unread {
        screen.note(format_args!("note: no pass has read {repository} yet"));
    }
    print::invalid_declarations(&answer.invalid_declarations, screen);
    if !answer.from_daemon && !rows.is_empty() {
        screen.note("note: no daemon runs; this is what the last pass knew");
    }
}

fn row(
    policy: &ListedPolicy,
    environment: Option<&PolicyInEnvironment>,
    now: Timestamp,
) -> Vec<Cell> {
    let none = || "-".to_owned();
    let next = match (policy.suspended, policy.next_scan) {
        (true, _) => "suspended".to_owned(),
        (false, Some(next)) => print::until(next, now),
        (false, None) => none(),
    };
    let scanned = policy.last_scan.map(|scan| print::ago(scan, now));
    let scanned = match (&policy.failure, scanned) {
        (Some(_), scanned) => (
            scanned.map_or("failed".to_owned(), |ago| format!("{ago} (failed)")),
            Some(Color::Red),
        ),
        (None, scanned) => (scanned.unwrap_or_else(none), None),
    };
    vec![
        (policy.policy.to_string(), Some(Color::Bold)),
        (
            environment.map_or_else(none, |environment| environment.environment.clone()),
            None,
        ),
        (
            environment.map_or_else(none, |environment| print::present(&environment.present)),
            None,
        ),
        (
            policy.latest.as_ref().map_or_else(none, Tag::to_string),
            policy.latest.as_ref().map(|_| Color::Green),
        ),
        scanned,
        (next, None),
    ]
}

/// Returns what is wrong with a policy, or keeps it from moving.
fn remarks(
    policy: &ListedPolicy,
    environment: Option<&PolicyInEnvironment>,
) -> Vec<(String, Color)> {
    let mut remarks = Vec::new();
    if let Some(failure) = &policy.failure {
        remarks.push((format!("error: {}", failure.error), Color::Red));
        if let Some(hint) = &failure.hint {
            remarks.push((format!("hint: {hint}"), Color::Dim));
        }
    }
    let Some(environment) = environment else {
        let reason = match policy.decided {
            true => "no file of an Environment refers to its image",
            false => "no pass has looked for files that refer to its image yet",
        };
        remarks.push((reason.to_owned(), Color::Dim));
        return remarks;
    };
    match (&environment.selected, &environment.reason) {
        (Some(selected), _) if policy.latest.as_ref() != Some(&selected.tag) => {
            let remark = format!("the last pass selected {}", selected.tag);
            remarks.push((remark, Color::Dim));
        }
        (None, Some(reason)) => remarks.push((format!("selects nothing: {reason}"), Color::Cyan)),
        _ => {}
    }
    for tag in &environment.unlisted {
        let remark = format!("the registry does not list {tag} any more");
        remarks.push((remark, Color::Cyan));
    }
    let held = environment.held.iter();
    remarks.extend(held.map(|held| (format!("holds {held}"), Color::Cyan)));
    remarks
}
