//! `tagboat plan`.

use super::{
    Exit, Failure, Screen,
    client::{self, Query},
    show,
};
use crate::service::engine::ProcessOptions;
use crate::update::{ImageUpdater, PassMode, PassReport, Rescan};
use jiff::Timestamp;
use std::sync::Arc;

/// Show what a pass would change, as a diff with the reasons; write nothing
///
/// Nothing is committed or pushed. With --check, exit with 1 if a pass would change something.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    process: ProcessOptions,

    /// Exit with 1 if a pass would change something
    #[arg(long)]
    check: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    client::run(
        &arguments.process,
        &Query::Plan {
            check: arguments.check,
        },
        screen,
    )
}

/// Answers.
pub async fn answer(
    updaters: &[Arc<ImageUpdater>],
    check: bool,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let mut reports: Vec<PassReport> = Vec::new();
    for updater in updaters {
        let _progress = screen.progress(&format!(
            "reading {} and its registries",
            updater.config.name
        ));
        reports.push(
            updater
                .pass(PassMode::Plan, &Rescan::All, Timestamp::now())
                .await,
        );
    }
    if screen.is_json() {
        screen.json(&reports);
    } else {
        for report in &reports {
            show::report(report, true, screen);
        }
        if reports
            .iter()
            .all(|report| !report.has_changes() && report.failures.is_empty())
        {
            screen.line("nothing to change");
        }
    }
    match show::exit(&reports) {
        Exit::Done if check && reports.iter().any(PassReport::has_changes) => Ok(Exit::Findings),
        exit => Ok(exit),
    }
}
