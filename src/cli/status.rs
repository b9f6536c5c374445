//! `tagboat status`.

use super::{
    Failure, Outcome, Screen, applications, client, complete, print, settings::SettingsArguments,
};
use crate::{core::name::Name, service::status::StatusQuery};

/// Show the revision, state and health of Applications on their clusters
///
/// A running daemon answers with what it observes. Without one, the command asks the clusters and
/// changes nothing. Exits with 1 if something is drifted, failed, not healthy or needs
/// confirmation.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,

    /// The Applications, as ns/name; all by default
    #[arg(value_name = "APPLICATION", add = complete::applications())]
    applications: Vec<Name>,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = StatusQuery {
        applications: arguments.applications.clone(),
    };
    let answer = client::ask(&arguments.settings, &query, screen)?;
    screen.answer(&answer, |answer, screen| {
        applications::statuses(&answer.applications, screen);
        print::invalid_declarations(&answer.invalid_declarations, screen);
        print::refused_heads(&answer.refused_heads, screen);
    });
    Ok(answer.outcome())
}
