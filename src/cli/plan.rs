//! `tagboat plan`.

use super::{
    Failure, Outcome, Screen, client,
    print::{self, Detail},
    settings::SettingsArguments,
    unsupported,
};
use crate::service::plan::{PlanAnswer, PlanQuery};

/// Show what a pass would change, as a diff with the reasons, and write nothing
///
/// Commits and pushes nothing. With --check, exits with 1 if a pass would change something.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,

    /// Exit with 1 if a pass would change something
    #[arg(long)]
    check: bool,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let answer = client::ask(&arguments.settings, &PlanQuery {}, screen)?;
    screen.answer(&answer, text);
    match answer.outcome() {
        Outcome::Done if arguments.check => Ok(Outcome::findings_if(answer.has_changes())),
        outcome => Ok(outcome),
    }
}

fn text(answer: &PlanAnswer, screen: &mut Screen) {
    for pass in &answer.passes {
        print::pass(pass, Detail::Reasons, screen);
    }
    for repository in &answer.unsupported {
        for line in unsupported::lines(&repository.findings) {
            screen.note(format_args!("note: {}: {line}", repository.repository));
        }
    }
    let is_quiet = answer.passes.iter().all(|pass| pass.failures.is_empty());
    if is_quiet && !answer.has_changes() {
        screen.line("nothing to change");
    }
}
