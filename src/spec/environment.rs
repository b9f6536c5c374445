//! Environment: where and how chosen tags are written.

use super::{
    diagnostic::SourcePlace,
    document::SpecReader,
    policy::{ImagePolicy, cron},
    raw::{self, Declaration, EnvironmentSpec},
    required_checks::{RequireChecks, read_checks},
};
use crate::core::{
    schedule::{self, Window},
    version::Bump,
};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::{collections::BTreeMap, time::Duration};

/// A checked Environment.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The name; for an imported ImageUpdateAutomation `namespace/name`.
    pub name: String,
    pub place: SourcePlace,
    /// The files it may write.
    pub paths: Paths,
    /// The policies that apply here.
    pub selector: LabelSelector,
    pub references: ReferenceScope,
    pub via: WriteMode,
    pub group: ChangeGroup,
    /// Times at which commits and merges are allowed; empty means always.
    pub windows: Vec<Window>,
    pub allow_downgrade: bool,
    /// Name and address for its commits, where an imported automation names them.
    pub author: Option<CommitAuthor>,
    /// True if it may share files with other Environments of this origin, as imported automations
    /// may.
    pub imported: bool,
    pub suspend: bool,
}

/// The author of the bot's commits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommitAuthor {
    pub name: String,
    pub email: String,
}

/// The references that an Environment updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReferenceScope {
    /// Every reference to the repository of a policy, and the marked ones.
    Auto,
    /// Only references with a marker.
    Markers,
}

/// The way changes reach the branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteMode {
    /// A commit on the branch itself.
    Commit,
    PullRequest {
        request: RequestOptions,
        auto_merge: Option<AutoMerge>,
    },
}

/// The changes that share one commit or pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeGroup {
    All,
    Policy,
    Directory,
}

/// Options of pull requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestOptions {
    pub labels: Vec<String>,
    /// People and teams to ask.
    pub reviewers: Vec<String>,
    pub draft: bool,
    /// The merge method; the forge's default if unset.
    pub merge_method: Option<MergeMethod>,
    /// The most requests open at a time.
    pub max_open: Option<u32>,
    /// The most requests opened in an hour.
    pub per_hour: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MergeMethod {
    Merge,
    Squash,
    Rebase,
}

/// The conditions for merging a pull request automatically.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoMerge {
    /// The kinds of step that may merge.
    pub bump: Vec<Bump>,
    /// The minimum age of every chosen tag.
    pub minimum_age: Option<Duration>,
    pub require_checks: RequireChecks,
}

/// Globs over paths from the root of the repository.
#[derive(Debug, Clone)]
pub struct Paths {
    patterns: Vec<String>,
    take: GlobSet,
    leave: GlobSet,
}

/// A label selector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    labels: BTreeMap<String, String>,
    expressions: Vec<SelectorExpression>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SelectorExpression {
    key: String,
    operator: raw::RawOperator,
    values: Vec<String>,
}

impl Paths {
    /// Reads globs; `*` and `?` stay within one folder, `**` does not, `!` excludes.
    ///
    /// # Errors
    /// The index of the invalid glob, with the error.
    pub fn new(patterns: &[String]) -> Result<Self, (usize, String)> {
        let (mut take, mut leave) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for (index, pattern) in patterns.iter().enumerate() {
            let (set, glob) = match pattern.strip_prefix('!') {
                Some(glob) => (&mut leave, glob),
                None => (&mut take, pattern.as_str()),
            };
            let glob = glob.strip_prefix("./").unwrap_or(glob);
            if glob.is_empty() || glob.starts_with('/') || glob.split('/').any(|part| part == "..")
            {
                return Err((
                    index,
                    format!(
                        "{pattern:?} must be a path from the root of the repository, without '..'"
                    ),
                ));
            }
            let glob = if let Some(folder) = glob.strip_suffix('/') {
                format!("{folder}/**")
            } else {
                glob.to_owned()
            };
            set.add(
                GlobBuilder::new(&glob)
                    .literal_separator(true)
                    .build()
                    .map_err(|error| (index, error.kind().to_string()))?,
            );
        }
        let build = |set: GlobSetBuilder| set.build().map_err(|error| (0, error.to_string()));
        Ok(Self {
            patterns: patterns.to_vec(),
            take: build(take)?,
            leave: build(leave)?,
        })
    }

    pub fn contains(&self, path: &str) -> bool {
        self.take.is_match(path) && !self.leave.is_match(path)
    }

    /// The globs as they were written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }
}

impl Environment {
    /// Returns whether `policy` applies to this Environment.
    pub fn selects(&self, policy: &ImagePolicy) -> bool {
        self.selector.matches(&policy.labels)
    }
}

impl LabelSelector {
    /// Returns whether the labels satisfy every condition, with the semantics of Kubernetes.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(
                |SelectorExpression {
                     key,
                     operator,
                     values,
                 }| {
                    let value = labels.get(key);
                    match operator {
                        raw::RawOperator::In => value.is_some_and(|value| values.contains(value)),
                        raw::RawOperator::NotIn => {
                            !value.is_some_and(|value| values.contains(value))
                        }
                        raw::RawOperator::Exists => value.is_some(),
                        raw::RawOperator::DoesNotExist => value.is_none(),
                    }
                },
            )
    }
}

pub(crate) fn read(
    at: &mut SpecReader<'_>,
    raw: Declaration<EnvironmentSpec>,
) -> Option<Environment> {
    let EnvironmentSpec {
        paths,
        policy_selector,
        references,
        update,
        suspend,
    } = raw.spec;
    let raw::RawUpdate {
        via,
        group,
        windows,
        allow_downgrade,
        request,
        auto_merge,
    } = update;
    if raw.metadata.namespace.is_some() {
        at.warn(
            "/metadata/namespace",
            "an Environment has no namespace; its name alone identifies it",
        );
    }
    if !crate::core::name::is_subdomain(&raw.metadata.name) {
        at.error(
            "/metadata/name",
            format!(
                "{:?} is no name: lower-case letters, digits, '-' and '.'",
                raw.metadata.name
            ),
        );
    }
    let paths = read_paths(at, &paths);
    let selector = read_selector(at, "/spec/policySelector", policy_selector);
    let windows = windows
        .into_iter()
        .enumerate()
        .map(|(index, window)| read_window(at, index, &window))
        .collect::<Option<Vec<_>>>();
    let via = read_via(at, via, request, auto_merge);
    if at.failed() {
        return None;
    }
    Some(Environment {
        name: raw.metadata.name,
        place: at.document.place("/metadata/name"),
        paths: paths?,
        selector: selector?,
        references: read_references(references),
        via: via?,
        group: match group {
            raw::RawGroup::All => ChangeGroup::All,
            raw::RawGroup::Policy => ChangeGroup::Policy,
            raw::RawGroup::Directory => ChangeGroup::Directory,
        },
        windows: windows?,
        allow_downgrade,
        author: None,
        imported: false,
        suspend,
    })
}

fn read_references(raw: raw::RawReferences) -> ReferenceScope {
    match raw {
        raw::RawReferences::Auto => ReferenceScope::Auto,
        raw::RawReferences::Markers => ReferenceScope::Markers,
    }
}

fn read_paths(at: &mut SpecReader<'_>, patterns: &[String]) -> Option<Paths> {
    if !patterns.iter().any(|pattern| !pattern.starts_with('!')) {
        at.error(
            "/spec/paths",
            "at least one glob without '!' must say which files belong here, as \"envs/dev/**\"",
        );
        return None;
    }
    let result = Paths::new(patterns);
    let pointer = format!(
        "/spec/paths/{}",
        result.as_ref().err().map_or(0, |(index, _)| *index)
    );
    at.check(&pointer, result.map_err(|(_, why)| why))
}

pub(crate) fn read_selector(
    at: &mut SpecReader<'_>,
    pointer: &str,
    raw: Option<raw::RawSelector>,
) -> Option<LabelSelector> {
    let raw = raw.unwrap_or_default();
    let mut expressions = Vec::new();
    for (
        index,
        raw::RawExpression {
            key,
            operator,
            values,
        },
    ) in raw.match_expressions.into_iter().enumerate()
    {
        let wants_values = matches!(operator, raw::RawOperator::In | raw::RawOperator::NotIn);
        if wants_values == values.is_empty() {
            let what = if wants_values {
                "needs values"
            } else {
                "takes no values"
            };
            at.error(
                &format!("{pointer}/matchExpressions/{index}/operator"),
                format!("the operator {operator:?} {what}"),
            );
        }
        expressions.push(SelectorExpression {
            key,
            operator,
            values,
        });
    }
    Some(LabelSelector {
        labels: raw.match_labels,
        expressions,
    })
}

fn read_window(at: &mut SpecReader<'_>, index: usize, raw: &raw::RawWindow) -> Option<Window> {
    let pointer = format!("/spec/update/windows/{index}");
    let opens = cron(
        at,
        &format!("{pointer}/cron"),
        &format!("{pointer}/timeZone"),
        &raw.cron,
        raw.time_zone.as_deref(),
    );
    let duration = at.check(
        &format!("{pointer}/duration"),
        schedule::duration(&raw.duration),
    );
    Some(Window::new(opens?, duration?))
}

fn read_via(
    at: &mut SpecReader<'_>,
    via: raw::RawVia,
    request: Option<raw::RawRequest>,
    auto_merge: Option<raw::RawAutoMerge>,
) -> Option<WriteMode> {
    if via == raw::RawVia::Commit {
        for (field, written) in [
            ("request", request.is_some()),
            ("autoMerge", auto_merge.is_some()),
        ] {
            if written {
                at.error(
                    &format!("/spec/update/{field}"),
                    format!("{field} belongs to via: pullRequest; commits are not reviewed"),
                );
            }
        }
        return Some(WriteMode::Commit);
    }
    let auto_merge = match auto_merge {
        None => None,
        Some(raw::RawAutoMerge {
            bump,
            minimum_age,
            require_checks,
        }) => Some(AutoMerge {
            bump: bump.into_iter().map(read_bump).collect(),
            minimum_age: match minimum_age {
                None => None,
                Some(text) => Some(at.check(
                    "/spec/update/autoMerge/minimumAge",
                    schedule::duration(&text),
                )?),
            },
            require_checks: read_checks(at, require_checks)?,
        }),
    };
    let request = request.map_or_else(
        RequestOptions::default,
        |raw::RawRequest {
             labels,
             reviewers,
             draft,
             merge_method,
             max_open,
             per_hour,
         }| RequestOptions {
            labels,
            reviewers,
            draft,
            merge_method: merge_method.map(|method| match method {
                raw::RawMergeMethod::Merge => MergeMethod::Merge,
                raw::RawMergeMethod::Squash => MergeMethod::Squash,
                raw::RawMergeMethod::Rebase => MergeMethod::Rebase,
            }),
            max_open,
            per_hour,
        },
    );
    Some(WriteMode::PullRequest {
        request,
        auto_merge,
    })
}

fn read_bump(raw: raw::RawBump) -> Bump {
    match raw {
        raw::RawBump::Major => Bump::Major,
        raw::RawBump::Minor => Bump::Minor,
        raw::RawBump::Patch => Bump::Patch,
        raw::RawBump::Digest => Bump::Digest,
        raw::RawBump::Other => Bump::Other,
    }
}
