//! `tagboat tags`.

use super::{Failure, Outcome, Screen, counted, print, screen::Color};
use crate::service::{
    engine,
    tags::{self, DescribedTag, TagsAnswer, TagsQuery},
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

    /// Read the registries from FILE; by default from tagboat.yaml, if it exists
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
    let widths = tags.iter().map(|tag| tag.tag.as_str().len());
    let width = widths.max().unwrap_or_default().max("TAG".len());
    let heads = format!(
        "{:width$}  {:19}  {:20}  PLATFORMS",
        "TAG", "DIGEST", "CREATED"
    );
    screen.line(screen.paint(Color::Bold, heads));
    for described in tags {
        let tag = format_args!("{:width$}", described.tag.as_str()).to_string();
        let tag = screen.paint(Color::Green, tag);
        let Some(digest) = &described.digest else {
            let error = described.error.as_deref().unwrap_or_default();
            screen.line(format_args!("{tag}  {error}"));
            continue;
        };
        let digest = digest.short();
        let created = match described.created {
            Some(created) => print::minute(created),
            None => "unknown".to_owned(),
        };
        let platforms = match (&described.artifact, described.platforms.as_slice()) {
            (Some(kind), _) => kind.clone(),
            (None, []) => "unknown".to_owned(),
            (None, platforms) => platforms.join(" "),
        };
        screen.line(format_args!(
            "{tag}  {digest:19}  {created:20}  {platforms}"
        ));
    }
}
