//! `tagboat release`.

use super::{
    Exit, Failure, Screen,
    client::{self, Query},
};
use crate::service::engine::ProcessOptions;
use crate::{
    core::{
        image::{Digest, Tag},
        name::Name,
    },
    images::{
        lint,
        policy::{Chosen, Hold},
    },
    spec::PolicyKind,
    update::{ImageUpdater, PassReport, ReleaseOutcome},
};
use jiff::Timestamp;
use serde_json::json;
use std::sync::Arc;

/// Write a held version once, which lifts its hold
///
/// The version comes back with a commit of its own; from then on the policy decides again.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    process: ProcessOptions,

    /// The Environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: String,

    /// The policy, as ns/name
    #[arg(value_name = "NS/NAME")]
    policy: Name,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let query = Query::Release {
        environment: arguments.environment.clone(),
        policy: arguments.policy.clone(),
    };
    client::run(&arguments.process, &query, screen)
}

/// How often a release begins again when somebody else pushes first.
const ATTEMPTS: usize = 5;

/// Answers.
pub async fn answer(
    updaters: &[Arc<ImageUpdater>],
    environment: &str,
    policy: &Name,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let now = Timestamp::now();
    for _ in 0..ATTEMPTS {
        let mut conflict = false;
        for updater in updaters {
            let mut report = PassReport::default();
            let world = updater.look_for_holds(&mut report).await?;
            let partly = client::mind_failures(&report, screen);
            client::mind_errors(&world.declared, screen);
            let (locals, _) = lint::find(&world.declared, &world.files);
            let Some(local) = locals
                .into_iter()
                .find(|local| local.environment.name == environment)
            else {
                continue;
            };
            if !local.policies.contains_key(policy) {
                return Err(Failure::input(format!(
                    "{policy} has no reference in Environment {environment}"
                )));
            }
            let holds = updater
                .holds(&world, &local, now)
                .await?
                .remove(policy)
                .unwrap_or_default();
            // Writing the greatest held version lifts every hold below it, too.
            let greatest = holds.iter().cloned().reduce(|greatest, hold| {
                let standing = crate::images::policy::standing(
                    &world.declared.policies[policy],
                    &greatest.value,
                    &hold.value,
                );
                if standing == crate::images::policy::Comparison::Newer {
                    hold
                } else {
                    greatest
                }
            });
            let Some(Hold {
                value: version,
                tag: beside,
                ..
            }) = greatest
            else {
                screen.line(format_args!("{policy} holds nothing in {environment}"));
                return Ok(partly.unwrap_or(Exit::Done));
            };
            let followed = match &world.declared.policies[policy].choice {
                PolicyKind::Digest(tag) => Some(tag.clone()),
                _ => beside.map(Tag::new).transpose()?,
            };
            let chosen = match (Digest::new(version.as_str()), followed) {
                (Ok(digest), Some(tag)) => Chosen {
                    tag,
                    digest: Some(digest),
                },
                _ => Chosen {
                    tag: Tag::new(version.as_str())?,
                    digest: None,
                },
            };
            match updater.release(&world, &local, policy, chosen, now).await? {
                ReleaseOutcome::Done { commit, images } => {
                    if screen.is_json() {
                        screen.json(
                            &json!({"environment": environment, "policy": policy, "version": version, "commit": commit, "images": images}),
                        );
                    } else {
                        screen.line(format_args!(
                            "{environment}: {policy} is back at {version} in {}",
                            &commit[..commit.len().min(10)]
                        ));
                    }
                    return Ok(Exit::Done);
                }
                ReleaseOutcome::Nothing => {
                    return Err(Failure::input(format!(
                        "no reference of {policy} in {environment} can be edited; see `tagboat plan`"
                    )));
                }
                ReleaseOutcome::Unknown(failure) => {
                    return Err(Failure {
                        exit: Exit::Remote,
                        error: anyhow::anyhow!(failure.message),
                        hint: failure.hint,
                    });
                }
                ReleaseOutcome::Conflict => conflict = true,
            }
        }
        if !conflict {
            return Err(Failure::input(format!(
                "there is no Environment {environment}"
            )));
        }
    }
    Err(Failure {
        exit: Exit::Remote,
        error: anyhow::anyhow!("somebody else pushed first, {ATTEMPTS} times in a row"),
        hint: None,
    })
}
