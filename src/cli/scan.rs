//! `tagboat scan`.

use super::{
    Failure, Outcome, Screen, client, complete, counted,
    print::{self, Detail},
    safe,
    screen::Color,
    settings::SettingsArguments,
    table::{Cell, table},
};
use crate::service::scan::{ScanAnswer, ScanQuery, ScannedImage};

const EXAMPLES: &str = "\
Examples:
  tagboat scan                                scan the images of all policies
  tagboat scan ghcr.io/stefanprodan/podinfo   scan one image repository

A registry that failed is asked again at once, unless it has named a time to wait. Between scans, \
`tagboat policies` shows what the last one has found.";

/// Ask the registries for new tags now, not at the next interval
///
/// A running daemon scans and makes a pass at once: it commits updates or opens pull requests as
/// the Environments say. Without one, the command lists the tags into the store and commits
/// nothing; use `tagboat run --once` for a whole pass.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,

    /// The image repositories; those of all policies by default
    #[arg(value_name = "IMAGE", add = complete::images())]
    images: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = ScanQuery {
        images: arguments.images.clone(),
    };
    let answer = client::ask(&arguments.settings, &query, screen)?;
    screen.answer(&answer, text);
    Ok(answer.outcome)
}

fn text(answer: &ScanAnswer, screen: &mut Screen) {
    if answer.images.is_empty() {
        screen.line("no policy has an image to scan");
        return;
    }
    let rows: Vec<Vec<Cell>> = answer.images.iter().map(cells).collect();
    for line in table(&["IMAGE", "TAGS", "RESULT"], &rows, screen) {
        screen.line(line);
    }
    for pass in &answer.passes {
        print::pass(pass, Detail::Results, screen);
    }
    if answer.passes.is_empty() {
        for image in &answer.images {
            print::failures(image.failure.as_slice(), screen);
        }
        screen.note(
            "note: no daemon runs, so nothing was committed; `tagboat run --once` makes a pass",
        );
    }
}

fn cells(image: &ScannedImage) -> Vec<Cell> {
    let tags = image.tags.map_or("-".to_owned(), |tags| tags.to_string());
    let (result, color) = match (&image.failure, &image.skipped, image.new_tags) {
        (Some(_), _, _) => ("failed".to_owned(), Some(Color::Red)),
        (None, Some(reason), _) => (format!("skipped: {reason}"), Some(Color::Dim)),
        (None, None, Some(0)) => ("no new tag".to_owned(), None),
        (None, None, Some(new)) => (
            counted(usize::try_from(new).unwrap_or(usize::MAX), "new tag"),
            Some(Color::Green),
        ),
        (None, None, None) => ("scanned for the first time".to_owned(), Some(Color::Green)),
    };
    vec![
        (safe(&image.image.to_string()), Some(Color::Bold)),
        (tags, None),
        (result, color),
    ]
}
