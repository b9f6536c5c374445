//! `tagboat suspend` and `tagboat resume`.

use super::{
    Failure, Outcome, Screen, author::CommitArguments, client, complete,
    settings::SettingsArguments,
};
use crate::{
    core::text::short_id,
    service::suspend::{SuspendAnswer, SuspendQuery},
    update::DeclarationRef,
};

const SUSPEND_EXAMPLE: &str = "\
Example: tagboat suspend application/dev/podinfo

A suspended ImagePolicy is not scanned and changes nothing. A suspended Environment is not \
written to. The objects of a suspended Application are not applied, repaired or deleted. The \
commit adds `suspend: true` to the declaration and changes no other byte; `tagboat resume` \
reverts it.";

const RESUME_EXAMPLE: &str = "\
Example: tagboat resume application/dev/podinfo

The commit removes what `tagboat suspend` added, so that the two together change nothing. An \
entry that a user wrote becomes `suspend: false`, and its place and comment stay.";

/// Suspend a resource by committing `suspend: true`
///
/// Changes the declaration of an ImagePolicy, an Environment or an Application in Git. Files of
/// Flux count, too: an ImageUpdateAutomation is an Environment, and imagerepository is a kind of
/// its own.
#[derive(Debug, clap::Args)]
#[command(after_long_help = SUSPEND_EXAMPLE)]
pub(super) struct Suspend {
    #[command(flatten)]
    settings: SettingsArguments,

    /// The resource: imagepolicy/NS/NAME, environment/NAME or application/NS/NAME; short: policy,
    /// env, app
    #[arg(value_name = "KIND/NAME", add = complete::declarations())]
    declaration: DeclarationRef,

    #[command(flatten)]
    commit: CommitArguments,
}

/// Resume a suspended resource by a commit
///
/// Reverts what `tagboat suspend`, or a user, has written into the declaration of an ImagePolicy,
/// an Environment or an Application in Git. Files of Flux count, too.
#[derive(Debug, clap::Args)]
#[command(after_long_help = RESUME_EXAMPLE)]
pub(super) struct Resume {
    #[command(flatten)]
    settings: SettingsArguments,

    /// The resource: imagepolicy/NS/NAME, environment/NAME or application/NS/NAME; short: policy,
    /// env, app
    #[arg(value_name = "KIND/NAME", add = complete::declarations())]
    declaration: DeclarationRef,

    #[command(flatten)]
    commit: CommitArguments,
}

pub(super) fn suspend(arguments: &Suspend, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = SuspendQuery {
        declaration: arguments.declaration.clone(),
        suspend: true,
        commit: arguments.commit.commit(),
    };
    run(&arguments.settings, &query, screen)
}

pub(super) fn resume(arguments: &Resume, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = SuspendQuery {
        declaration: arguments.declaration.clone(),
        suspend: false,
        commit: arguments.commit.commit(),
    };
    run(&arguments.settings, &query, screen)
}

fn run(
    settings: &SettingsArguments,
    query: &SuspendQuery,
    screen: &mut Screen,
) -> Result<Outcome, Failure> {
    let answer = client::ask(settings, query, screen)?;
    screen.answer(&answer, text);
    Ok(Outcome::Done)
}

fn text(answer: &SuspendAnswer, screen: &mut Screen) {
    let (declaration, place) = (answer.declaration(), &answer.place);
    screen.line(match (answer.commit.as_deref(), answer.suspended) {
        (Some(commit), true) => {
            let commit = short_id(commit);
            format!("{declaration} is suspended by {commit} ({place})")
        }
        (Some(commit), false) => {
            let commit = short_id(commit);
            format!("{declaration} is resumed by {commit} ({place})")
        }
        (None, true) => format!("{declaration} is suspended already ({place})"),
        (None, false) => format!("{declaration} is not suspended ({place})"),
    });
    if let Some(note) = &answer.note {
        screen.note(format_args!("note: {note}"));
    }
}
