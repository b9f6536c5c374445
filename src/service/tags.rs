//! `tags`: the tags of an image in its registry.

use super::{
    Failure, Outcome, Progress, checkout_trust, engine::read_settings, survey::SETTINGS_FILE,
};
use crate::{
    core::{
        image::{Digest, ImageRef, ImageRepository, Platform, Tag},
        version::Version,
    },
    io::{
        connect::Connect,
        registry::{Registries, RegistryConfig, RegistryError, RegistryTimeouts, Tags},
    },
    spec::settings,
};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    cmp::Ordering,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Asks for the tags of an image.
#[derive(Debug, Clone)]
pub struct TagsQuery {
    /// The image; with a tag, only this tag is described.
    pub image: String,
    /// The most tags to describe; none for all.
    pub limit: Option<usize>,
    /// The settings with the registries; by default `tagboat.yaml`, if there is one here that lies
    /// in no Git working copy.
    pub config: Option<PathBuf>,
    /// True to use plain HTTP, anonymously, without the settings.
    pub insecure: bool,
}

/// The tags of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagsAnswer {
    /// The image repository.
    pub image: ImageRepository,
    /// The number of tags in the registry.
    pub total: usize,
    /// The number of names in the registry's list that are no valid tags.
    pub invalid: u64,
    /// The described tags, newest version first; tags that are no versions come last.
    pub tags: Vec<DescribedTag>,
    /// Warnings about the settings.
    pub warnings: Vec<String>,
}

/// A tag with its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DescribedTag {
    /// The tag.
    pub tag: Tag,
    /// The digest.
    pub digest: Option<Digest>,
    /// The creation date that the image states.
    pub created: Option<Timestamp>,
    /// The platforms, as `os/architecture`.
    pub platforms: Vec<String>,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The kind of artifact, if the tag names no image: `a Helm chart`, `a signature`.
    pub artifact: Option<String>,
    /// The reason why the tag could not be described.
    pub error: Option<String>,
}

impl TagsAnswer {
    /// Classifies the answer.
    pub fn outcome(&self) -> Outcome {
        Outcome::partly_if(self.tags.iter().any(|tag| tag.error.is_some()))
    }
}

/// Tags described at once; each registry has its own limit beside that.
const CONCURRENCY: usize = 8;

/// Lists the tags, and describes the newest ones.
///
/// # Errors
/// If the image is invalid, the list cannot be read, or no tag can be described.
pub async fn tags(query: &TagsQuery, progress: &dyn Progress) -> Result<TagsAnswer, Failure> {
    let image = ImageRef::new(&query.image)?;
    if image.digest.is_some() {
        return Err(Failure::input(format!(
            "{image}: a digest names one immutable image; leave it out to list tags"
        )));
    }
    let repository = &image.repository;
    let (registries, warnings) = registries(query, repository)?;
    progress.update(&format!("listing the tags of {repository}"));
    let mut invalid = 0;
    let mut tags = Vec::from_iter(image.tag.clone());
    if tags.is_empty()
        && let Tags::Listed(listing) = registries.list_tags(repository, None).await?
    {
        invalid = listing.refused.count;
        tags.extend(listing.tags.iter().filter_map(|tag| Tag::new(tag).ok()));
    }
    tags.sort_by(|left, right| newest_first(left.as_str(), right.as_str()));
    let total = tags.len();
    tags.truncate(query.limit.unwrap_or(total));
    let (count, done) = (tags.len(), AtomicUsize::new(0));
    progress.update(&format!("describing {count} tags of {repository}"));
    let described: Vec<Result<DescribedTag, (Tag, RegistryError)>> = stream::iter(tags)
        .map(|tag| async {
            let described = describe(&registries, repository, &tag).await;
            let done = done.fetch_add(1, Relaxed) + 1;
            progress.update(&format!("described {done} of {count} tags of {repository}"));
            described.map_err(|error| (tag, error))
        })
        .buffered(CONCURRENCY)
        .collect()
        .await;
    if described.iter().all(Result::is_err)
        && let Some(Err((_, error))) = described.first()
    {
        return Err(error.clone().into());
    }
    let or_error = |described: Result<DescribedTag, (Tag, RegistryError)>| {
        described.unwrap_or_else(|(tag, error)| DescribedTag {
            tag,
            digest: None,
            created: None,
            platforms: Vec::new(),
            labels: BTreeMap::new(),
            artifact: None,
            error: Some(error.to_string()),
        })
    };
    Ok(TagsAnswer {
        image: repository.clone(),
        total,
        invalid: invalid as u64,
        tags: described.into_iter().map(or_error).collect(),
        warnings,
    })
}

/// Returns the registries of the settings, or one for anonymous access, with warnings.
fn registries(
    query: &TagsQuery,
    repository: &ImageRepository,
) -> Result<(Registries, Vec<String>), Failure> {
    let mut notes = Vec::new();
    let default = || {
        let file = Path::new(SETTINGS_FILE);
        if !file.is_file() {
            return None;
        }
        if checkout_trust::is_in_working_copy(file) {
            notes.push(format!(
                "{SETTINGS_FILE} lies in a Git working copy, and is not used; name it with --config \
                 if you trust it"
            ));
            return None;
        }
        Some(file.to_owned())
    };
    let config = query.config.clone();
    let config = if query.insecure {
        None
    } else {
        config.or_else(default)
    };
    if let Some(config) = config {
        // The file of a CI job may have registries and nothing else.
        let (declared, warnings) = read_settings(&config, settings::read_registries)?;
        let connect = Connect::new(&config);
        let registries = connect.registries(&declared, RegistryTimeouts::one_shot())?;
        return Ok((
            registries,
            warnings.iter().map(ToString::to_string).collect(),
        ));
    }
    let mut config = RegistryConfig::new(repository.registry());
    config.insecure = query.insecure;
    let registries = Registries::new(vec![config], RegistryTimeouts::one_shot())?;
    Ok((registries, notes))
}

async fn describe(
    registries: &Registries,
    repository: &ImageRepository,
    tag: &Tag,
) -> Result<DescribedTag, RegistryError> {
    let digest = registries.digest(repository, tag).await?;
    let description = registries.describe(repository, &digest).await?;
    let platforms = description.platforms.iter().map(Platform::to_string);
    Ok(DescribedTag {
        tag: tag.clone(),
        digest: Some(digest),
        created: description.created,
        platforms: platforms.collect(),
        labels: description.labels.into_iter().collect(),
        artifact: description.artifact,
        error: None,
    })
}

/// Orders versions by precedence, the highest first, and then other tags by their bytes.
fn newest_first(left: &str, right: &str) -> Ordering {
    match (Version::of_tag(left), Version::of_tag(right)) {
        (Ok(l), Ok(r)) => r.precedence(&l).then_with(|| right.cmp(left)),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => right.cmp(left),
    }
}

#[cfg(test)]
mod tests {
    use super::newest_first;

    #[test]
    fn tags_newest_version_comes_first() {
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
        let sorted = [
            "v1.10.0",
            "1.10.0",
            "1.10.0-rc.1",
            "1.9.0",
            "main-2",
            "latest",
            "2.0",
        ];
        assert_eq!(tags, sorted);
    }
}
