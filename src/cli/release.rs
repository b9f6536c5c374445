//! `tagboat release`.

use super::{Failure, Outcome, Screen, client, print, settings::SettingsArguments};
use crate::{
    core::{name::Name, text::short_id},
    service::release::{ReleaseAnswer, ReleaseQuery},
};

/// Write a held version once, which lifts its hold
///
/// The version comes back with a commit of its own; from then on the policy decides again.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,

    /// The Environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: String,

    /// The policy, as ns/name
    #[arg(value_name = "NS/NAME")]
    policy: Name,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = ReleaseQuery {
        environment: arguments.environment.clone(),
        policy: arguments.policy.clone(),
    };
    let answer = client::ask(&arguments.settings, &query, screen)?;
    screen.answer(&answer, text);
    Ok(answer.outcome())
}

fn text(answer: &ReleaseAnswer, screen: &mut Screen) {
    let ReleaseAnswer {
        environment,
        policy,
        ..
    } = answer;
    match (&answer.commit, &answer.version) {
        (Some(commit), Some(version)) => screen.line(format_args!(
            "{environment}: {policy} is back at {version} in {}",
            short_id(commit)
        )),
        _ => screen.line(format_args!("{policy} holds nothing in {environment}")),
    }
    print::gaps(&answer.gaps, screen);
}
