//! Facts about one tag or digest: the digest of a tag, and what a digest's manifest says.

use super::{
    RegistryProblem,
    artifact::ManifestContent,
    http::{ErrorBody, HttpResponse, RegistryRequest, RequestKind, media_type},
    manifest::{self, OciManifest, digest_of},
    session::Session,
};
use crate::core::image::{Digest, Platform, Tag, shown};
use jiff::Timestamp;
use reqwest::Method;
use std::collections::BTreeMap;

/// Manifests and configs are kilobytes; registries themselves refuse manifests of more than 4 MiB.
const LIMIT: usize = 4 * 1024 * 1024;
/// An index of indexes is allowed by the specification but unused in practice; two levels are read.
const DEPTH: usize = 2;

/// The facts from a HEAD of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHead {
    pub digest: Digest,
    /// The push time reported by the registry (`Last-Modified`); only if the configuration trusts
    /// it.
    pub pushed: Option<Timestamp>,
}

/// The description of a manifest, cached by digest for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageDescription {
    /// The creation date claimed by the publisher.
    pub created: Option<Timestamp>,
    /// The platforms it runs on; empty if the manifest names none.
    pub platforms: Vec<Platform>,
    /// Source, revision and version by their annotation names (`org.opencontainers.image.…`), as
    /// far as they lay on the way to the date and the platforms.
    pub labels: BTreeMap<String, String>,
    /// The kind of artifact, if it is no image: "a Helm chart", "an index of referrers".
    pub artifact: Option<String>,
}

pub(crate) async fn head(
    session: &Session<'_>,
    tag: &Tag,
    trust_push_time: bool,
) -> Result<ManifestHead, RegistryProblem> {
    let url = session.url(&format!("manifests/{tag}"));
    let get = RegistryRequest::get(
        url,
        manifest::ACCEPT,
        RequestKind::Head,
        "a manifest",
        LIMIT,
    );
    let mut head = get.clone();
    head.call.method = Method::HEAD;
    let answer = session.send(&head).await?;
    let pushed = |answer: &HttpResponse| {
        let date = answer.header("last-modified").filter(|_| trust_push_time)?;
        Some(jiff::fmt::rfc2822::parse(date).ok()?.timestamp())
    };
    match answer.status.as_u16() {
        200 => {
            check(&answer)?;
            if let Some(digest) = promised(&answer) {
                return Ok(ManifestHead {
                    digest,
                    pushed: pushed(&answer),
                });
            }
        }
        404 => return Err(RegistryProblem::NotFound { what: "tag" }),
        // Servers that know no HEAD.
        405 | 501 => {}
        _ => return Err(answer.unexpected("a manifest")),
    }
    let answer = session
        .send(&RegistryRequest {
            kind: RequestKind::Manifest,
            ..get
        })
        .await?;
    match answer.status.as_u16() {
        200 => check(&answer)?,
        404 => return Err(RegistryProblem::NotFound { what: "tag" }),
        _ => return Err(answer.unexpected("a manifest")),
    }
    // Hashing a page of another kind would give a digest that nothing serves.
    manifest::read(&answer.body).map_err(|why| RegistryProblem::Content {
        host: answer.host(),
        what: "a manifest",
        why,
    })?;
    let promise = promised(&answer);
    let digest = digest_of(&answer.body, promise.as_ref());
    if let Some(expected) = promise.filter(|promise| *promise != digest) {
        return Err(RegistryProblem::Digest {
            host: answer.host(),
            expected,
            found: digest,
        });
    }
    Ok(ManifestHead {
        digest,
        pushed: pushed(&answer),
    })
}

fn promised(answer: &HttpResponse) -> Option<Digest> {
    answer
        .header("docker-content-digest")
        .and_then(|text| Digest::new(text.trim()).ok())
}

/// Rejects responses that are no manifest a cluster could pull by digest.
fn check(answer: &HttpResponse) -> Result<(), RegistryProblem> {
    let wrong = |why: String| {
        Err(RegistryProblem::Content {
            host: answer.host(),
            what: "a manifest",
            why,
        })
    };
    if answer.is_html() {
        return wrong("HTML".to_owned());
    }
    match media_type(&answer.headers) {
        Some(kind) if kind.contains("manifest.v1") && kind.contains("docker") => {
            wrong(format!("{}, which no cluster pulls any more", shown(kind)))
        }
        _ => Ok(()),
    }
}

pub(crate) async fn describe(
    session: &Session<'_>,
    digest: &Digest,
) -> Result<ImageDescription, RegistryProblem> {
    let mut described = ImageDescription::default();
    let mut digest = digest.clone();
    for level in 0..=DEPTH {
        match fetch_manifest(session, &digest).await? {
            OciManifest::Image {
                created,
                labels,
                config,
                content,
            } => {
                described.created = described.created.or(created);
                merge(&mut described.labels, labels);
                let is_image = !described.platforms.is_empty();
                if let (ManifestContent::Artifact(kind), false) = (&content, is_image) {
                    described.artifact = Some((*kind).to_owned());
                    break;
                }
                if described.created.is_none() || described.platforms.is_empty() {
                    let config = manifest::read_config(
                        &fetch(session, "blobs", &config, RequestKind::Blob, "a config").await?,
                    );
                    described.created = described.created.or(config.created);
                    merge(&mut described.labels, config.labels);
                    if let (ManifestContent::Unknown(kind), None, false) =
                        (content, &config.platform, is_image)
                    {
                        described.artifact = Some(format!("an artifact of type {kind}"));
                    }
                    if level == 0 {
                        described.platforms.extend(config.platform);
                    }
                }
                break;
            }
            OciManifest::Index {
                created,
                labels,
                children,
                has_referrers,
            } => {
                described.created = described.created.or(created);
                merge(&mut described.labels, labels);
                for platform in children.iter().filter_map(|child| child.platform.as_ref()) {
                    if !described.platforms.contains(platform) {
                        described.platforms.push(platform.clone());
                    }
                }
                if described.platforms.is_empty() && (has_referrers || children.is_empty()) {
                    let kind = if has_referrers {
                        "an index of referrers"
                    } else {
                        "an index without images"
                    };
                    described.artifact = Some(kind.to_owned());
                    break;
                }
                let next = children
                    .iter()
                    .find(|child| !child.is_index)
                    .or(children.first());
                match next.filter(|_| described.created.is_none() || described.platforms.is_empty())
                {
                    Some(child) => digest = child.digest.clone(),
                    None => break,
                }
            }
        }
    }
    Ok(described)
}

fn merge(labels: &mut BTreeMap<String, String>, further: BTreeMap<String, String>) {
    for (name, text) in further {
        labels.entry(name).or_insert(text);
    }
}

async fn fetch_manifest(
    session: &Session<'_>,
    digest: &Digest,
) -> Result<OciManifest, RegistryProblem> {
    let body = fetch(
        session,
        "manifests",
        digest,
        RequestKind::Manifest,
        "a manifest",
    )
    .await?;
    let host = || super::http::host_of(&session.base);
    manifest::read(&body).map_err(|why| RegistryProblem::Content {
        host: host(),
        what: "a manifest",
        why,
    })
}

/// Content by its digest, which is verified.
async fn fetch(
    session: &Session<'_>,
    place: &str,
    digest: &Digest,
    kind: RequestKind,
    what: &'static str,
) -> Result<Vec<u8>, RegistryProblem> {
    let url = session.url(&format!("{place}/{digest}"));
    let accept = if kind == RequestKind::Manifest {
        manifest::ACCEPT
    } else {
        "*/*"
    };
    let answer = session
        .send(&RegistryRequest::get(url, accept, kind, what, LIMIT))
        .await?;
    match answer.status.as_u16() {
        200 => {}
        404 => return Err(RegistryProblem::NotFound { what: "manifest" }),
        _ => return Err(answer.unexpected(what)),
    }
    let found = digest_of(&answer.body, Some(digest));
    match found == *digest {
        true => Ok(answer.body),
        false if answer.is_html() => Err(RegistryProblem::Content {
            host: answer.host(),
            what,
            why: "HTML".to_owned(),
        }),
        false => Err(RegistryProblem::Digest {
            host: answer.host(),
            expected: digest.clone(),
            found,
        }),
    }
}
