//! `tagboat tags`.

use super::{
    Failure, Outcome, Screen, counted, print, safe,
    screen::Color,
    table::{self, Cell},
};
use crate::{
    core::image::Digest,
    service::{
        engine,
        tags::{self, DescribedTag, TagsAnswer, TagsQuery},
    },
};
use std::path::PathBuf;

/// List the tags of an image with digest, date and platforms
///
/// Lists the newest version first and tags that are no versions last. Describing a tag takes two
/// or three requests; --limit bounds their number. Uses the credentials of the settings, if there
/// are any; otherwise asks the registry anonymously.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The image; with a tag, describe only this one
    #[arg(value_name = "IMAGE[:TAG]")]
    image: String,

    /// Describe at most N tags
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,

    /// Describe all tags
    #[arg(long, conflicts_with = "limit")]
    all: bool,

    /// Read the registries from FILE; by default from tagboat.yaml, if it exists and lies in no Git
    /// working copy
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "TAGBOAT_CONFIG",
        help_heading = "Settings"
    )]
    config: Option<PathBuf>,

    /// Use plain HTTP, anonymously, without the settings
    #[arg(long)]
    insecure: bool,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = TagsQuery {
        image: arguments.image.clone(),
        limit: (!arguments.all).then_some(arguments.limit),
        config: arguments.config.clone(),
        insecure: arguments.insecure,
    };
    let spinner = screen.spinner();
    let answer = engine::runtime()?.block_on(tags::tags(&query, &spinner))?;
    drop(spinner);
    screen.answer(&answer, text);
    Ok(answer.outcome())
}

fn text(answer: &TagsAnswer, screen: &mut Screen) {
    for warning in &answer.warnings {
        screen.warning(warning);
    }
    if answer.total == 0 {
        screen.note("the repository has no tags");
    }
    if !answer.tags.is_empty() {
        table(&answer.tags, screen);
    }
    if answer.tags.len() < answer.total {
        screen.note(format_args!(
            "{} more; describe them with --limit or --all",
            counted(answer.total - answer.tags.len(), "tag")
        ));
    }
    match answer.invalid {
        0 => {}
        1 => screen.note("note: the registry lists 1 name that is no valid tag"),
        count => screen.note(format_args!(
            "note: the registry lists {count} names that are no valid tags"
        )),
    }
}

fn table(tags: &[DescribedTag], screen: &mut Screen) {
    let rows: Vec<Vec<Cell>> = tags.iter().map(cells).collect();
    let heads = ["TAG", "DIGEST", "CREATED", "PLATFORMS"];
    for line in table::table(&heads, &rows, screen) {
        screen.line(line);
    }
}

fn cells(described: &DescribedTag) -> Vec<Cell> {
    let digest = described.digest.as_ref().map(Digest::short);
    let created = match described.created {
        Some(created) => print::minute(created),
        None if digest.is_none() => "-".to_owned(),
        None => "unknown".to_owned(),
    };
    let platforms = match (&described.error, &described.artifact) {
        (Some(error), _) => (safe(error), Some(Color::Red)),
        (None, Some(kind)) => (kind.clone(), None),
        (None, None) if described.platforms.is_empty() => ("unknown".to_owned(), None),
        (None, None) => (described.platforms.join(" "), None),
    };
    vec![
        (described.tag.to_string(), Some(Color::Green)),
        (
            digest.map_or("-".to_owned(), |digest| digest.to_string()),
            None,
        ),
        (created, None),
        platforms,
    ]
}
