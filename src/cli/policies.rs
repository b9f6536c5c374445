//! `tagboat policies`.

use super::{
    Failure, Outcome, Screen, client, print,
    screen::Color,
    settings::SettingsArguments,
    table::{Cell, table},
};
use crate::service::policies::{ListedPolicy, PoliciesAnswer, PoliciesQuery, PolicyInEnvironment};

/// List the declared policies with the present and the selected versions
///
/// Reads the registries as a pass does, and changes nothing. `tagboat explain` has the reasons of
/// one policy.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let answer = client::ask(&arguments.settings, &PoliciesQuery {}, screen)?;
    screen.answer(&answer, text);
    Ok(answer.outcome)
}

fn text(answer: &PoliciesAnswer, screen: &mut Screen) {
    let mut rows = Vec::new();
    for policy in &answer.policies {
        if policy.environments.is_empty() {
            rows.push(row(
                policy,
                "-",
                "-".to_owned(),
                "no file refers to its image",
            ));
        }
        for environment in &policy.environments {
            let present = print::present(&environment.present);
            let selected = selected(environment);
            rows.push(row(policy, &environment.environment, present, &selected));
        }
    }
    if rows.is_empty() && answer.failures.is_empty() {
        screen.line("no ImagePolicy is declared");
    } else if !rows.is_empty() {
        let heads = ["POLICY", "ENVIRONMENT", "PRESENT", "SELECTED"];
        for line in table(&heads, &rows, screen) {
            screen.line(line);
        }
    }
    print::failures(&answer.failures, screen);
}

fn selected(environment: &PolicyInEnvironment) -> String {
    let mut text = match (&environment.selected, &environment.reason) {
        (Some(selected), _) => selected.tag.to_string(),
        (None, Some(reason)) => format!("nothing: {reason}"),
        (None, None) => "-".to_owned(),
    };
    for tag in &environment.unlisted {
        text.push_str(&format!("; the registry does not list {tag} any more"));
    }
    for held in &environment.held {
        text.push_str(&format!("; holds {held}"));
    }
    text
}

fn row(policy: &ListedPolicy, environment: &str, present: String, text: &str) -> Vec<Cell> {
    vec![
        (policy.policy.to_string(), Some(Color::Bold)),
        (environment.to_owned(), None),
        (present, None),
        (text.to_owned(), None),
    ]
}
