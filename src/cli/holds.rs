//! `tagboat holds`.

use super::{Failure, Outcome, Screen, client, print, settings::SettingsArguments};
use crate::service::holds::{HoldsAnswer, HoldsQuery};

/// List the versions that reverts and closed pull requests hold back
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let answer = client::ask(&arguments.settings, &HoldsQuery {}, screen)?;
    screen.answer(&answer, text);
    Ok(answer.outcome())
}

fn text(answer: &HoldsAnswer, screen: &mut Screen) {
    if answer.holds.is_empty() && answer.gaps.failures.is_empty() {
        screen.line("nothing is held");
    }
    for hold in &answer.holds {
        let (environment, policy) = (&hold.environment, &hold.policy);
        screen.line(format_args!(
            "{environment} {policy}: versions up to {} — {}",
            hold.held.version, hold.held.reason
        ));
        screen.line(format_args!(
            "  lift it with: tagboat release {environment} {policy}"
        ));
    }
    print::gaps(&answer.gaps, screen);
}
