//! `tagboat requests`.

use super::{
    Exit, Failure, Screen,
    client::{self, Query},
    screen::Color,
    show,
};
use crate::service::engine::ProcessOptions;
use crate::update::{ImageUpdater, PassMode, PassReport, Rescan};
use jiff::Timestamp;
use serde_json::json;
use std::sync::Arc;

/// List the requests for review with their state, and what each waits for
///
/// Looks at the forge, the branches and the registries as a pass would, and changes nothing. A
/// request that would be opened, updated, merged or closed by the next pass says so.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    process: ProcessOptions,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    client::run(&arguments.process, &Query::Requests, screen)
}

/// Answers.
pub async fn answer(updaters: &[Arc<ImageUpdater>], screen: &mut Screen) -> Result<Exit, Failure> {
    let mut reports: Vec<PassReport> = Vec::new();
    for updater in updaters.iter().filter(|updater| updater.forge.is_some()) {
        let _progress = screen.progress(&format!(
            "reading {}, its forge and its registries",
            updater.config.name
        ));
        reports.push(
            updater
                .pass(PassMode::Plan, &Rescan::All, Timestamp::now())
                .await,
        );
    }
    if screen.is_json() {
        let rows = reports.iter().flat_map(|report| {
            report
                .environments
                .iter()
                .map(move |environment| (report, environment))
        });
        let rows: Vec<_> = rows
            .flat_map(|(report, environment)| {
                environment.requests.iter().map(|request| {
                    let mut row = json!(request);
                    row["repository"] = json!(report.repository);
                    row["environment"] = json!(environment.name);
                    row
                })
            })
            .collect();
        screen.json(&rows);
        return Ok(show::exit(&reports));
    }
    let mut none = true;
    for report in &reports {
        for environment in report
            .environments
            .iter()
            .filter(|environment| !environment.requests.is_empty())
        {
            none = false;
            screen.line(screen.paint(
                Color::Bold,
                format_args!("{} in {}", environment.name, report.repository),
            ));
            for request in &environment.requests {
                show::request(request, false, screen);
            }
        }
        show::failures(report, screen);
    }
    if reports.is_empty() {
        screen.line("no repository of tagboat.yaml names a forge");
    } else if none && reports.iter().all(|report| report.failures.is_empty()) {
        screen.line("no requests");
    }
    Ok(show::exit(&reports))
}
