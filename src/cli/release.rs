//! `tagboat release`.

use super::{
    Failure, Outcome, Screen, author::CommitArguments, client, complete, print, safe,
    settings::SettingsArguments,
};
use crate::{
    core::{name::Name, text::short_id},
    service::release::{ReleaseAnswer, ReleaseQuery},
};

/// Bring a held version back, which lifts its hold
///
/// Goes the way of the Environment: with `via: commit` the version is committed inside the window,
/// with `via: pullRequest` a pull request proposes it, and merging it lifts the hold. Refuses a
/// version that the policy does not choose. From then on the policy decides again.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,

    /// The Environment
    #[arg(value_name = "ENVIRONMENT", add = complete::environments())]
    environment: String,

    /// The policy, as ns/name
    #[arg(value_name = "NS/NAME", add = complete::policies())]
    policy: Name,

    /// Commit outside the Environment's windows, too
    #[arg(long)]
    now: bool,

    #[command(flatten)]
    commit: CommitArguments,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = ReleaseQuery {
        environment: arguments.environment.clone(),
        policy: arguments.policy.clone(),
        ignore_windows: arguments.now,
        commit: arguments.commit.commit(),
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
    match (&answer.version, &answer.commit, &answer.pull_request) {
        (Some(version), Some(commit), _) => screen.line(format_args!(
            "{environment}: {policy} is back at {version} in {}",
            short_id(commit)
        )),
        (Some(version), None, Some(request)) => {
            let place = match (request.number, &request.url) {
                (Some(number), Some(url)) => format!("pull request #{number} ({})", safe(url)),
                _ => "a pull request, which is not open yet".to_owned(),
            };
            screen.line(format_args!(
                "{environment}: {policy} {version} is proposed by {place}; merging it lifts the hold"
            ));
            for reason in &request.waits {
                screen.note(format_args!("  {}", safe(reason)));
            }
        }
        _ => screen.line(format_args!("{policy} holds nothing in {environment}")),
    }
    print::gaps(&answer.gaps, screen);
}
