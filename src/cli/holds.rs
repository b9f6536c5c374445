//! `tagboat holds`.

use super::{
    Exit, Failure, Screen,
    client::{self, Query},
};
use crate::service::engine::ProcessOptions;
use crate::{
    images::lint,
    update::{ImageUpdater, PassReport},
};
use jiff::Timestamp;
use serde_json::json;
use std::sync::Arc;

/// List the versions that reverts hold back, with the commits that do
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    process: ProcessOptions,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    client::run(&arguments.process, &Query::Holds, screen)
}

/// Answers.
pub async fn answer(updaters: &[Arc<ImageUpdater>], screen: &mut Screen) -> Result<Exit, Failure> {
    let (mut rows, mut exit) = (Vec::new(), Exit::Done);
    for updater in updaters {
        let mut report = PassReport::default();
        let world = updater.look_for_holds(&mut report).await?;
        // Without the forge's word there may be more holds than are shown.
        exit = client::mind_failures(&report, screen).unwrap_or(exit);
        client::mind_errors(&world.declared, screen);
        let (locals, _) = lint::find(&world.declared, &world.files);
        for local in &locals {
            let environment = local.environment;
            for (policy, holds) in updater.holds(&world, local, Timestamp::now()).await? {
                for hold in holds.iter() {
                    rows.push(json!({
                        "repository": updater.config.name,
                        "environment": environment.name,
                        "policy": policy,
                        "version": hold.value,
                        "commit": hold.commit,
                        "author": hold.author,
                        "time": hold.time,
                        "reason": hold.to_string(),
                    }));
                }
            }
        }
    }
    if screen.is_json() {
        screen.json(&rows);
        return Ok(exit);
    }
    if rows.is_empty() && exit == Exit::Done {
        screen.line("nothing is held");
    }
    for row in &rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        screen.line(format_args!(
            "{} {}: versions up to {} — {}",
            text("environment"),
            text("policy"),
            text("version"),
            text("reason")
        ));
        screen.line(format_args!(
            "  lift it with: tagboat release {} {}",
            text("environment"),
            text("policy")
        ));
    }
    Ok(exit)
}
