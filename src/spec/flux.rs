//! Files of `image.toolkit.fluxcd.io` (`v1`, `v1beta2`), read by a table: each field is honoured,
//! is replaced by the settings file with a warning, or is refused with advice on what to write
//! instead.
//!
//! | kind | honoured | replaced by tagboat.yaml (warning) | refused |
//! |---|---|---|---|
//! | ImageRepository | image, interval, timeout, exclusionList, suspend | secretRef, proxySecretRef, certSecretRef, serviceAccountName, provider, insecure, accessFrom | – |
//! | ImagePolicy | imageRepositoryRef, policy, filterTags, digestReflectionPolicy, interval, suspend | – | – |
//! | ImageUpdateAutomation | update.path, policySelector, git.commit.author, suspend | sourceRef, interval, signingKey, messageTemplate, messageTemplateValues, push.options | push.branch other than the branch checked out, push.refspec, strategies other than Setters |

mod automation;

use super::{
    diagnostic::{Diagnostic, SourcePlace},
    document::{SpecDocument, SpecReader},
    environment::Environment,
    flux_raw::{AutomationSpec, FluxDeclaration, FluxPolicySpec, RepositorySpec},
    policy::{
        ImagePolicy, PolicyKind, TagFilter, check_extract, exclude_patterns, name_of, order,
        pattern, reflection, repository,
    },
    raw,
    validator::SpecSchema,
};
use crate::core::{
    image::ImageRepository,
    name::Name,
    schedule::{self, Schedule},
    version::Range,
};
use regex::Regex;
use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

static REPOSITORY: LazyLock<SpecSchema> =
    LazyLock::new(SpecSchema::of::<FluxDeclaration<RepositorySpec>>);
static POLICY: LazyLock<SpecSchema> =
    LazyLock::new(SpecSchema::of::<FluxDeclaration<FluxPolicySpec>>);
static AUTOMATION: LazyLock<SpecSchema> =
    LazyLock::new(SpecSchema::of::<FluxDeclaration<AutomationSpec>>);

/// The API group, as it begins an `apiVersion`.
pub(crate) const GROUP: &str = "image.toolkit.fluxcd.io/";

/// Flux's default `exclusionList` of an ImageRepository: cosign signatures.
const EXCLUDED: &str = r"^.*\.sig$";

/// The settings that policies inherit from an ImageRepository, which may be declared in another
/// file.
struct ScanTarget {
    image: ImageRepository,
    interval: Duration,
    timeout: Option<Duration>,
    exclude: Vec<Regex>,
    suspend: bool,
    place: Option<SourcePlace>,
}

/// A Flux ImageRepository, as far as it is more than the settings its policies inherit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FluxImageRepository {
    pub name: Name,
    pub place: SourcePlace,
    pub image: ImageRepository,
    /// True if it, and every policy that refers to it, is suspended.
    pub suspend: bool,
}

/// An ImagePolicy waiting for its ImageRepository.
struct PendingPolicy {
    policy: ImagePolicy,
    repository: Name,
    place: SourcePlace,
}

/// All Flux declarations found in a set of files.
#[derive(Default)]
pub(crate) struct FluxImport {
    repositories: BTreeMap<Name, ScanTarget>,
    pending: Vec<PendingPolicy>,
    pub environments: Vec<Environment>,
}

impl FluxImport {
    /// Reads one document of the group. `branch` is the one the settings file names for this
    /// repository.
    pub(super) fn read(
        &mut self,
        document: &SpecDocument<'_>,
        branch: Option<&str>,
    ) -> Vec<Diagnostic> {
        let mut at = SpecReader::new(document);
        let version = document
            .word("apiVersion")
            .unwrap_or_default()
            .trim_start_matches(GROUP);
        if !matches!(version, "v1" | "v1beta2") {
            at.warn(
                "/apiVersion",
                format!("{version:?} is read as v1; known are v1 and v1beta2"),
            );
        }
        match document.word("kind") {
            Some("ImageRepository") => self.repository(&mut at),
            Some("ImagePolicy") => self.policy(&mut at),
            Some("ImageUpdateAutomation") => self.automation(&mut at, branch),
            kind => at.error(
                "/kind",
                format!("{:?} is no kind of {GROUP}v1", kind.unwrap_or_default()),
            ),
        }
        at.mistakes
    }

    fn repository(&mut self, at: &mut SpecReader<'_>) {
        let Some(FluxDeclaration { metadata, spec, .. }) =
            at.shape::<FluxDeclaration<RepositorySpec>>(&REPOSITORY)
        else {
            return;
        };
        let RepositorySpec {
            image,
            interval,
            timeout,
            suspend,
            exclusion_list,
            secret_ref,
            proxy_secret_ref,
            cert_secret_ref,
            service_account_name,
            access_from,
            provider,
            insecure,
        } = spec;
        for (field, written, instead) in [
            (
                "secretRef",
                secret_ref.is_some(),
                "registries[].credentials",
            ),
            (
                "proxySecretRef",
                proxy_secret_ref.is_some(),
                "registries[].proxy",
            ),
            (
                "certSecretRef",
                cert_secret_ref.is_some(),
                "registries[].caFile",
            ),
            (
                "serviceAccountName",
                service_account_name.is_some(),
                "registries[].credentials",
            ),
            (
                "provider",
                provider.is_some_and(|provider| provider != "generic"),
                "registries[].credentials with helper:",
            ),
            ("insecure", insecure, "registries[].insecure"),
        ] {
            if written {
                at.warn(
                    &format!("/spec/{field}"),
                    format!("{field} is not read; tagboat.yaml says how to reach registries: write {instead} there"),
                );
            }
        }
        if access_from.is_some() {
            at.warn("/spec/accessFrom", "accessFrom is not read; all policies of a repository may use its ImageRepositories");
        }
        let name = name_of(at, &metadata.into());
        let image = repository(at, "/spec/image", &image);
        let interval = interval.map_or(Some(Duration::from_secs(300)), |text| {
            at.check("/spec/interval", schedule::duration(&text))
        });
        let timeout = timeout.map(|text| at.check("/spec/timeout", schedule::duration(&text)));
        let exclude = exclusion_list.unwrap_or_else(|| vec![EXCLUDED.to_owned()]);
        let exclude = exclude_patterns(at, "/spec/exclusionList", &exclude);
        if at.failed() {
            return;
        }
        if let (Some(name), Some(image), Some(interval), Some(exclude)) =
            (name, image, interval, exclude)
        {
            if self.repositories.contains_key(&name) {
                at.error(
                    "/metadata/name",
                    format!("the ImageRepository {name} is declared twice"),
                );
            }
            let place = Some(at.document.place("/metadata/name"));
            self.repositories.insert(
                name,
                ScanTarget {
                    image,
                    interval,
                    timeout: timeout.flatten(),
                    exclude,
                    suspend,
                    place,
                },
            );
        }
    }

    fn policy(&mut self, at: &mut SpecReader<'_>) {
        let Some(FluxDeclaration { metadata, spec, .. }) =
            at.shape::<FluxDeclaration<FluxPolicySpec>>(&POLICY)
        else {
            return;
        };
        let FluxPolicySpec {
            image_repository_ref,
            policy,
            filter_tags,
            digest_reflection_policy,
            interval,
            suspend,
        } = spec;
        let metadata: raw::RawMetadata = metadata.into();
        let name = name_of(at, &metadata);
        let namespace = image_repository_ref
            .namespace
            .as_deref()
            .or(metadata.namespace.as_deref())
            .unwrap_or("default");
        let target = at.check(
            "/spec/imageRepositoryRef/name",
            Name::new(namespace, &image_repository_ref.name),
        );
        let interval = interval.map(|text| at.check("/spec/interval", schedule::duration(&text)));
        let mut ways = Vec::new();
        if let Some(semver) = policy.semver {
            ways.push(
                at.check("/spec/policy/semver/range", Range::new(&semver.range))
                    .map(PolicyKind::Semver),
            );
        }
        ways.extend(
            policy
                .numerical
                .map(|numerical| Some(PolicyKind::Numerical(order(numerical.order)))),
        );
        ways.extend(
            policy
                .alphabetical
                .map(|alphabetical| Some(PolicyKind::Alphabetical(order(alphabetical.order)))),
        );
        if ways.len() != 1 {
            at.error(
                "/spec/policy",
                "exactly one of semver, numerical, alphabetical must be written",
            );
        }
        if let Some(extract) = filter_tags.as_ref().and_then(|tags| tags.extract.as_ref()) {
            check_extract(at, extract);
        }
        let filter = match filter_tags {
            None => Some(TagFilter::default()),
            Some(filter) => match filter.pattern {
                None => Some(TagFilter::default()),
                Some(text) => at
                    .check("/spec/filterTags/pattern", pattern(&text))
                    .map(|pattern| TagFilter::new(Some(pattern), filter.extract, Vec::new())),
            },
        };
        if at.failed() {
            return;
        }
        let (Some(name), Some(target), Some(Some(choice)), Some(filter)) =
            (name, target, ways.pop(), filter)
        else {
            return;
        };
        let place = at.document.place("/metadata/name");
        // The repository's image and interval are filled in once every file has been read.
        let Ok(unknown) = ImageRepository::new("unknown") else {
            return;
        };
        let scan = interval.flatten().unwrap_or(Duration::MAX);
        self.pending.push(PendingPolicy {
            policy: ImagePolicy {
                name,
                place,
                labels: metadata.labels,
                image: unknown,
                scan: Schedule::Every(scan),
                filter,
                choice,
                reflect: reflection(digest_reflection_policy),
                platforms: Vec::new(),
                minimum_age: None,
                ignore: Vec::new(),
                timeout: None,
                suspend,
                repository: Some(target.clone()),
            },
            repository: target,
            place: at.document.place("/spec/imageRepositoryRef/name"),
        });
    }

    /// Gives policies that refer to no known ImageRepository one with Flux's default exclusions.
    pub(super) fn keep_lone_policies(&mut self) {
        for PendingPolicy {
            policy, repository, ..
        } in &self.pending
        {
            let exclude = pattern(EXCLUDED).into_iter().collect();
            let lone = ScanTarget {
                image: policy.image.clone(),
                interval: Duration::from_secs(300),
                timeout: None,
                exclude,
                suspend: false,
                place: None,
            };
            self.repositories.entry(repository.clone()).or_insert(lone);
        }
    }

    /// The ImageRepositories themselves.
    pub(super) fn repositories(&self) -> impl Iterator<Item = FluxImageRepository> {
        self.repositories.iter().filter_map(|(name, scanned)| {
            let ScanTarget {
                image,
                suspend,
                place,
                ..
            } = scanned;
            Some(FluxImageRepository {
                name: name.clone(),
                place: place.clone()?,
                image: image.clone(),
                suspend: *suspend,
            })
        })
    }

    /// The policies, each with the repository it refers to; and a mistake for each that refers to
    /// none.
    pub(super) fn policies(&mut self) -> (Vec<ImagePolicy>, Vec<Diagnostic>) {
        let (mut policies, mut mistakes) = (Vec::new(), Vec::new());
        for PendingPolicy {
            mut policy,
            repository,
            place,
        } in std::mem::take(&mut self.pending)
        {
            let Some(found) = self.repositories.get(&repository) else {
                mistakes.push(Diagnostic {
                    place,
                    severity: super::Severity::Error,
                    message: format!("there is no ImageRepository {repository}"),
                });
                continue;
            };
            let interval = match policy.scan {
                Schedule::Every(interval) => interval.min(found.interval),
                Schedule::Cron(_) => found.interval,
            };
            policy.image = found.image.clone();
            policy.scan = Schedule::Every(interval);
            policy.timeout = found.timeout;
            policy.filter.exclude = found.exclude.clone();
            policy.suspend |= found.suspend;
            policies.push(policy);
        }
        (policies, mistakes)
    }
}
