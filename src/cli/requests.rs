//! `tagboat requests`.

use super::{
    Failure, Outcome, Screen, client,
    print::{self, Detail},
    screen::Color,
    settings::SettingsArguments,
};
use crate::service::requests::{RequestsAnswer, RequestsQuery};

/// List the pull requests with their states and what each waits for
///
/// Reads the forge, the branches and the registries as a pass does, and changes nothing. A pull
/// request that the next pass would open, update, merge or close is listed as such.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let answer = client::ask(&arguments.settings, &RequestsQuery {}, screen)?;
    screen.answer(&answer, text);
    Ok(answer.outcome)
}

fn text(answer: &RequestsAnswer, screen: &mut Screen) {
    let mut printed = None;
    for listed in &answer.pull_requests {
        let group = (&listed.environment, &listed.repository);
        if printed.replace(group) != Some(group) {
            let title = format_args!("{} in {}", group.0, group.1);
            screen.line(screen.paint(Color::Bold, title));
        }
        print::pull_request(&listed.pull_request, Detail::Results, screen);
    }
    print::failures(&answer.failures, screen);
    if answer.repositories.is_empty() {
        screen.line("no repository in tagboat.yaml has a forge");
    } else if answer.pull_requests.is_empty() && answer.failures.is_empty() {
        screen.line("no pull requests");
    }
}
