//! `tagboat sync`.

use super::{
    Failure, Outcome, Screen,
    applications::{self, ApplicationSelector},
    client, print,
    settings::SettingsArguments,
};
use crate::service::sync::{SyncAnswer, SyncQuery, WaitFor};

const EXAMPLES: &str = "\
Examples:
  tagboat sync dev/podinfo --wait
  tagboat sync --all --dry-run
  tagboat sync prod/shop --confirm-prune";

/// Sync Applications with Git now
///
/// Fetches the branch, retries what is in back-off, and shows the result. A running daemon does
/// the work, if there is one. Exits with 1 if something needs confirmation, with 4 if something
/// could not be applied or did not become healthy.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,

    #[command(flatten)]
    selector: ApplicationSelector,

    /// Wait until every object is healthy, even where the Applications do not declare it
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,

    /// Apply another commit than the branch's newest, by its id or at least its first four digits
    ///
    /// Not possible while a daemon runs, which follows the branch. To go back for good, use
    /// `tagboat rollback`.
    #[arg(long, value_name = "COMMIT")]
    revision: Option<String>,

    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Confirm all deletions of the present revision
    #[arg(long, conflicts_with_all = ["dry_run", "all"])]
    confirm_prune: bool,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = SyncQuery {
        applications: arguments.selector.names(),
        wait_for: match arguments.wait {
            true => WaitFor::Healthy,
            false => WaitFor::Applied,
        },
        revision: arguments.revision.clone(),
        dry_run: arguments.dry_run,
        confirm_prune: arguments.confirm_prune,
    };
    let answer = client::ask(&arguments.settings, &query, screen)?;
    screen.answer(&answer, text);
    Ok(answer.outcome)
}

fn text(answer: &SyncAnswer, screen: &mut Screen) {
    for name in &answer.deleted {
        screen.note(format_args!("{name} and its objects are deleted"));
    }
    applications::statuses(&answer.applications, screen);
    print::invalid_declarations(&answer.invalid_declarations, screen);
    print::refused_heads(&answer.refused_heads, screen);
}
