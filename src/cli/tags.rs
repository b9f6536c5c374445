//! `tagboat tags`.

use super::{Exit, Failure, Screen, screen::Color, show};
use crate::service::engine::{self, ProcessContext, ProcessOptions};
use crate::{
    core::{
        image::{Digest, ImageRef, ImageRepository, Platform, Tag},
        version::Version,
    },
    io::registry::{
        ImageDescription, Registries, RegistryConfig, RegistryError, RegistryTimeouts, Tags,
    },
    service::survey::PROCESS_FILE,
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// List the tags of an image with digest, date and platforms
///
/// The newest version comes first; tags that are no versions come last. Two or three requests are
/// sent for each tag that is described; --limit bounds how many are. Credentials come from the
/// process file, if there is one; otherwise the registry is asked anonymously.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image; with a tag only that one is described
    #[arg(value_name = "IMAGE[:TAG]")]
    image: String,

    /// How many tags to describe
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,

    /// Describe all tags
    #[arg(long, conflicts_with = "limit")]
    all: bool,

    /// The process file with the registries; tagboat.yaml, if there is one here
    #[arg(short, long, value_name = "FILE", env = "TAGBOAT_CONFIG")]
    config: Option<PathBuf>,

    /// Speak plain HTTP, anonymously, whatever a process file says
    #[arg(long)]
    insecure: bool,
}

/// Questions in flight at once; the registry room bounds them by host, too.
const AT_ONCE: usize = 8;

/// A tag and what the registry says of it.
struct TagRow {
    tag: Tag,
    answer: Result<(Digest, ImageDescription), RegistryError>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let image = ImageRef::new(&arguments.image)?;
    if image.digest.is_some() {
        return Err(Failure::input(format!(
            "{image}: a digest names one image for ever; leave it out to see tags"
        )));
    }
    let registries = registries(arguments, &image.repository, screen)?;
    engine::runtime()?.block_on(answer(arguments, &image, &registries, screen))
}

fn registries(
    arguments: &Arguments,
    repository: &ImageRepository,
    screen: &mut Screen,
) -> Result<Registries, Failure> {
    let config = arguments.config.clone().or_else(|| {
        Path::new(PROCESS_FILE)
            .is_file()
            .then(|| PROCESS_FILE.into())
    });
    match config.filter(|_| !arguments.insecure) {
        Some(config) => {
            let context = ProcessContext::read(&ProcessOptions {
                config,
                repository: None,
            })?;
            for warning in &context.warnings {
                screen.note(warning);
            }
            Ok(context.connect.registries(&context.process)?)
        }
        None => {
            let mut config = RegistryConfig::new(repository.registry());
            config.insecure = arguments.insecure;
            Ok(Registries::new(vec![config], RegistryTimeouts::default())?)
        }
    }
}

async fn answer(
    arguments: &Arguments,
    image: &ImageRef,
    registries: &Registries,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let repository = &image.repository;
    let (mut tags, mut hostile) = (Vec::<Tag>::new(), 0);
    match &image.tag {
        Some(tag) => tags.push(tag.clone()),
        None => {
            if let Tags::Listed(listing) = registries.list_tags(repository, None).await? {
                hostile = listing.refused.count;
                tags.extend(listing.tags.iter().filter_map(|tag| Tag::new(tag).ok()));
            }
        }
    }
    tags.sort_by(|left, right| newest_first(left.as_str(), right.as_str()));
    let total = tags.len();
    if !arguments.all {
        tags.truncate(arguments.limit);
    }
    let rows: Vec<TagRow> = stream::iter(tags)
        .map(|tag| row(registries, repository, tag))
        .buffered(AT_ONCE)
        .collect()
        .await;
    let failed = rows.iter().filter(|row| row.answer.is_err()).count();
    if let Some(TagRow {
        answer: Err(error), ..
    }) = rows.first()
        && failed == rows.len()
    {
        return Err(error.clone().into());
    }
    if screen.is_json() {
        let tags: Vec<Value> = rows.iter().map(TagRow::json).collect();
        screen.json(
            &json!({"repository": repository, "total": total, "hostile": hostile, "tags": tags}),
        );
    } else {
        print(&rows, total, screen);
        if hostile > 0 {
            screen.note(format_args!(
                "note: the registry lists {} that no tag can have",
                super::counted(hostile, "name")
            ));
        }
    }
    Ok(if failed > 0 { Exit::Partly } else { Exit::Done })
}

async fn row(registries: &Registries, repository: &ImageRepository, tag: Tag) -> TagRow {
    let answer = async {
        let digest = registries.digest(repository, &tag).await?;
        let description = registries.describe(repository, &digest).await?;
        Ok((digest, description))
    };
    let answer = answer.await;
    TagRow { tag, answer }
}

/// Versions by precedence, the highest first; then what is no version, backwards by its bytes.
fn newest_first(left: &str, right: &str) -> std::cmp::Ordering {
    match (Version::of_tag(left), Version::of_tag(right)) {
        (Ok(l), Ok(r)) => r.precedence(&l).then_with(|| right.cmp(left)),
        (Ok(_), Err(_)) => std::cmp::Ordering::Less,
        (Err(_), Ok(_)) => std::cmp::Ordering::Greater,
        (Err(_), Err(_)) => right.cmp(left),
    }
}

impl TagRow {
    fn json(&self) -> Value {
        match &self.answer {
            Ok((
                digest,
                ImageDescription {
                    created,
                    platforms,
                    labels,
                },
            )) => json!({
                "tag": self.tag,
                "digest": digest.as_str(),
                "created": created.map(|created| created.to_string()),
                "platforms": platforms.iter().map(Platform::to_string).collect::<Vec<_>>(),
                "labels": labels,
            }),
            Err(error) => json!({"tag": self.tag, "error": error.to_string()}),
        }
    }
}

fn print(rows: &[TagRow], total: usize, screen: &mut Screen) {
    if rows.is_empty() && total == 0 {
        screen.note("the repository has no tags");
        return;
    }
    let width = rows
        .iter()
        .map(|row| row.tag.as_str().len())
        .max()
        .unwrap_or(0)
        .max(3);
    if !rows.is_empty() {
        let head = format!(
            "{:width$}  {:19}  {:20}  PLATFORMS",
            "TAG", "DIGEST", "CREATED"
        );
        screen.line(screen.paint(Color::Bold, head));
    }
    for row in rows {
        let tag = screen.paint(Color::Green, format_args!("{:width$}", row.tag.as_str()));
        match &row.answer {
            Ok((digest, description)) => {
                let created = description
                    .created
                    .map_or("unknown".to_owned(), show::shown);
                let platforms: Vec<String> = description
                    .platforms
                    .iter()
                    .map(Platform::to_string)
                    .collect();
                let platforms = if platforms.is_empty() {
                    "unknown".to_owned()
                } else {
                    platforms.join(" ")
                };
                screen.line(format_args!(
                    "{tag}  {:19}  {created:20}  {platforms}",
                    digest.short()
                ));
            }
            Err(error) => screen.line(format_args!("{tag}  {error}")),
        }
    }
    if rows.len() < total {
        screen.note(format_args!(
            "{} more; describe them with --limit or --all",
            super::counted(total - rows.len(), "tag")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::newest_first;

    #[test]
    fn versions_come_first_and_the_newest_of_them() {
        let mut tags = [
            "latest",
            "1.9.0",
            "v1.10.0",
            "1.10.0",
            "1.10.0-rc.1",
            "main-2",
            "2.0",
        ];
        tags.sort_by(|left, right| newest_first(left, right));
        assert_eq!(
            tags,
            [
                "v1.10.0",
                "1.10.0",
                "1.10.0-rc.1",
                "1.9.0",
                "main-2",
                "latest",
                "2.0"
            ]
        );
    }
}
