//! `tagboat suspend` and `tagboat resume`.

use super::{
    Exit, Failure, Screen,
    client::{self, Query},
};
use crate::service::engine::ProcessOptions;
use crate::update::{DeclarationRef, ImageUpdater, PassReport, SuspendOutcome};
use jiff::Timestamp;
use serde_json::json;
use std::sync::Arc;

const EXAMPLE_SUSPEND: &str = "\
Example: tagboat suspend application/dev/podinfo

An ImagePolicy that rests is not scanned and changes nothing; an Environment that rests is not written to; of an \
Application that rests nothing is applied, repaired or deleted. The commit adds `suspend: true` to the declaration and \
touches no other byte. `tagboat resume` takes it back.";

const EXAMPLE_RESUME: &str = "\
Example: tagboat resume application/dev/podinfo

The commit takes away what `tagboat suspend` added, so that the two together change nothing; where a person wrote the \
entry, its value becomes false and its place and comment stay.";

/// Let a declaration rest, by a commit
///
/// Writes `suspend: true` into the declaration of an ImagePolicy, an Environment or an Application
/// in Git. Files of Flux count, too: an ImageUpdateAutomation is an Environment, and
/// imagerepository is a kind of its own.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLE_SUSPEND)]
pub struct Suspend {
    #[command(flatten)]
    process: ProcessOptions,

    /// What shall rest: imagepolicy/NS/NAME, environment/NAME or application/NS/NAME; short:
    /// policy, env, app
    #[arg(value_name = "KIND/NAME")]
    what: DeclarationRef,
}

/// Let a declaration that rests work again, by a commit
///
/// Undoes in Git what `tagboat suspend`, or a person, has written into the declaration of an
/// ImagePolicy, an Environment or an Application. Files of Flux count, too.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLE_RESUME)]
pub struct Resume {
    #[command(flatten)]
    process: ProcessOptions,

    /// What shall work again: imagepolicy/NS/NAME, environment/NAME or application/NS/NAME; short:
    /// policy, env, app
    #[arg(value_name = "KIND/NAME")]
    what: DeclarationRef,
}

/// Runs `suspend`.
pub fn suspend(arguments: &Suspend, screen: &mut Screen) -> Result<Exit, Failure> {
    client::run(
        &arguments.process,
        &Query::Suspend {
            what: arguments.what.clone(),
            rest: true,
        },
        screen,
    )
}

/// Runs `resume`.
pub fn resume(arguments: &Resume, screen: &mut Screen) -> Result<Exit, Failure> {
    client::run(
        &arguments.process,
        &Query::Suspend {
            what: arguments.what.clone(),
            rest: false,
        },
        screen,
    )
}

/// Answers.
pub async fn answer(
    updaters: &[Arc<ImageUpdater>],
    what: &DeclarationRef,
    rest: bool,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let updater = declaring(updaters, what).await?;
    let SuspendOutcome {
        place,
        commit,
        note,
    } = updater.suspend(what, rest, Timestamp::now()).await?;
    if screen.is_json() {
        let (kind, name) = (what.kind.to_string(), &what.name);
        let repository = &updater.config.name;
        screen.json(&json!({
            "repository": repository, "kind": kind, "name": name, "suspend": rest, "commit": commit, "place": place, "note": note,
        }));
        return Ok(Exit::Done);
    }
    screen.line(match (&commit, rest) {
        (Some(commit), true) => format!(
            "{what} is suspended by {} ({place})",
            &commit[..commit.len().min(10)]
        ),
        (Some(commit), false) => format!(
            "{what} is resumed by {} ({place})",
            &commit[..commit.len().min(10)]
        ),
        (None, true) => format!("{what} is suspended already ({place})"),
        (None, false) => format!("{what} is not suspended ({place})"),
    });
    if let Some(note) = note {
        screen.note(format_args!("note: {note}"));
    }
    Ok(Exit::Done)
}

/// The one repository that declares it.
pub(super) async fn declaring<'u>(
    updaters: &'u [Arc<ImageUpdater>],
    what: &DeclarationRef,
) -> Result<&'u Arc<ImageUpdater>, Failure> {
    let (mut found, mut unknown): (Vec<&Arc<ImageUpdater>>, Option<Failure>) = (Vec::new(), None);
    for updater in updaters {
        let world = updater.look(&mut PassReport::default()).await?;
        if what.find(&world.declared).is_some() {
            found.push(updater);
        } else if unknown
            .as_ref()
            .is_none_or(|known: &Failure| known.hint.is_none())
        {
            unknown = Some(what.unknown(&world.declared).into());
        }
    }
    match (found.as_slice(), unknown) {
        ([one], _) => Ok(*one),
        ([], unknown) => {
            Err(unknown.unwrap_or_else(|| Failure::input(format!("there is no {what}"))))
        }
        (several, _) => {
            let names: Vec<&str> = several
                .iter()
                .map(|updater| updater.config.name.as_str())
                .collect();
            Err(Failure::input(format!(
                "{what} is declared in several repositories: {}",
                names.join(", ")
            ))
            .hint("--repository says which one is meant."))
        }
    }
}
