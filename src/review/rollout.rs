//! Rollout of a merged pull request, as it is reported to the forge: commit statuses, and one
//! comment.
//!
//! It makes no difference who merged it. Each cluster has one status of the Environment. The
//! comment has a row for each Application, with the workload's own reason for a failure.

use super::{
    body::code,
    types::{CommitStatus, PullRequest, RequestStatus, StatusState},
};
use crate::core::{
    name::Name,
    schedule,
    text::{plain, short_id},
};
use jiff::Timestamp;
use std::{collections::BTreeMap, time::Duration};

pub const MARKER: &str = "rollout";

/// Prefix of the statuses' names.
pub const CONTEXT: &str = "tagboat/rollout/";

/// Age of a merge up to which its rollout is reported: after a long downtime of the daemon no user
/// waits for the report any more.
pub const LATELY: Duration = Duration::from_secs(24 * 3600);

/// Tells whether a merge is younger than [`LATELY`].
pub fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(at)).map_or(true, |ago| ago <= LATELY)
}

/// Characters of a comment that are no rows: the forge's marker, and the count of rows left out.
const RESERVED: usize = 200;

/// A merged pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedRequest {
    /// The pull request without its text.
    pub request: PullRequest,
    /// The commit that the merge made on the base.
    pub commit: String,
    pub environment: String,
    /// Changed files, from the root of the repository.
    pub files: Vec<String>,
    pub at: Timestamp,
}

impl MergedRequest {
    /// Creates it from an ended pull request; none if that was not merged, or the forge does not
    /// tell when.
    ///
    /// If the forge names no merge commit, there is none: the base was fast-forwarded to the head.
    pub fn new(request: &PullRequest, environment: &str, files: Vec<String>) -> Option<Self> {
        let ended = request
            .ended
            .as_ref()
            .filter(|_| request.state == RequestStatus::Merged)?;
        Some(Self {
            commit: ended
                .commit
                .clone()
                .unwrap_or_else(|| request.head_commit.clone()),
            at: ended.at?,
            environment: environment.to_owned(),
            files,
            request: PullRequest {
                body: String::new(),
                ..request.clone()
            },
        })
    }
}

/// An Application on a cluster that the pull request reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutStatus {
    pub application: Name,
    pub cluster: String,
    pub stage: RolloutStage,
}

/// Stage of an Application's rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutStage {
    /// Not applied yet, with the reason if it is known.
    Waiting(String),
    /// Suspended: nothing is applied.
    Suspended,
    Applying,
    /// Applied and not healthy yet, with the reason.
    Progressing(String),
    /// A prune waits for a confirmation.
    ConfirmationRequired(String),
    /// Not applied, or not healthy, with the reason.
    Failed(String),
    /// Applied and healthy, so long after the merge.
    RolledOut(Duration),
    /// The rendered objects are the same as before.
    Unchanged,
    /// Another revision changed the Application before the result was known.
    Superseded {
        by: String,
    },
    /// No result within the time; it is not watched any more.
    GivenUp {
        after: Duration,
        /// The last known reason; may be empty.
        last: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    Good,
    Open,
    Bad,
}

impl RolloutStage {
    /// Tells whether the stage is final.
    pub fn is_last(&self) -> bool {
        matches!(
            self,
            RolloutStage::RolledOut(_)
                | RolloutStage::Unchanged
                | RolloutStage::Superseded { .. }
                | RolloutStage::GivenUp { .. }
        )
    }

    /// Tells whether the rollout is in progress: neither successful nor failing.
    pub fn is_open(&self) -> bool {
        self.weight() == Weight::Open
    }

    fn weight(&self) -> Weight {
        match self {
            RolloutStage::RolledOut(_)
            | RolloutStage::Unchanged
            | RolloutStage::Superseded { .. } => Weight::Good,
            RolloutStage::Waiting(_)
            | RolloutStage::Suspended
            | RolloutStage::Applying
            | RolloutStage::Progressing(_) => Weight::Open,
            RolloutStage::ConfirmationRequired(_)
            | RolloutStage::Failed(_)
            | RolloutStage::GivenUp { .. } => Weight::Bad,
        }
    }

    /// Returns our own words, and the foreign reason after them.
    fn words(&self) -> (String, &str) {
        match self {
            RolloutStage::Waiting(why) => ("waits".to_owned(), why),
            RolloutStage::Suspended => ("is suspended: nothing is applied".to_owned(), ""),
            RolloutStage::Applying => ("is being applied".to_owned(), ""),
            RolloutStage::Progressing(why) => {
                ("was applied and is not healthy yet".to_owned(), why)
            }
            RolloutStage::ConfirmationRequired(why) => ("needs confirmation".to_owned(), why),
            RolloutStage::Failed(why) => ("failed".to_owned(), why),
            RolloutStage::RolledOut(took) => (format!("rolled out in {}", seconds(*took)), ""),
            RolloutStage::Unchanged => ("has nothing to change".to_owned(), ""),
            RolloutStage::Superseded { by } => (
                format!("superseded by {} before it was rolled out", short_id(by)),
                "",
            ),
            RolloutStage::GivenUp { after, last } => {
                (format!("not rolled out within {}", seconds(*after)), last)
            }
        }
    }
}

/// Returns the commit statuses, one for each cluster.
pub fn statuses(merged: &MergedRequest, reached: &[RolloutStatus]) -> Vec<CommitStatus> {
    let mut clusters: BTreeMap<&str, Vec<&RolloutStatus>> = BTreeMap::new();
    for one in reached {
        clusters.entry(&one.cluster).or_default().push(one);
    }
    clusters
        .into_iter()
        .map(|(cluster, mut reached)| {
            reached.sort_by(|one, other| one.application.cmp(&other.application));
            let worst = reached.iter().map(|one| one.stage.weight()).max();
            CommitStatus {
                context: format!("{CONTEXT}{}@{cluster}", merged.environment),
                state: match worst {
                    Some(Weight::Bad) => StatusState::Failure,
                    Some(Weight::Open) => StatusState::Pending,
                    Some(Weight::Good) | None => StatusState::Success,
                },
                description: describe(&reached),
                url: Some(merged.request.url.clone()).filter(|url| !url.is_empty()),
            }
        })
        .collect()
}

/// Describes the Applications of a cluster in one line.
///
/// While they are in progress the line has few details, so that it seldom changes.
fn describe(reached: &[&RolloutStatus]) -> String {
    let of = |weight: Weight| {
        reached
            .iter()
            .copied()
            .filter(move |one| one.stage.weight() == weight)
    };
    if let Some(first) = of(Weight::Bad).next() {
        let (words, why) = first.stage.words();
        let count = of(Weight::Bad).count();
        let others = if count > 1 {
            format!("{count} of {} failing; ", reached.len())
        } else {
            String::new()
        };
        let why = if why.trim().is_empty() {
            String::new()
        } else {
            format!(": {}", plain(why))
        };
        return format!("{others}{} {words}{why}", first.application);
    }
    if of(Weight::Open).next().is_some() {
        return match reached {
            [one] if one.stage == RolloutStage::Suspended => {
                format!("{} is suspended", one.application)
            }
            _ => format!(
                "{} of {} rolled out",
                of(Weight::Good).count(),
                reached.len()
            ),
        };
    }
    if let [one] = reached {
        return one.stage.words().0;
    }
    let took = reached.iter().filter_map(|one| {
        if let RolloutStage::RolledOut(took) = one.stage {
            Some(took)
        } else {
            None
        }
    });
    let (count, longest) = took.fold((0, Duration::ZERO), |(count, longest), took| {
        (count + 1, took.max(longest))
    });
    let mut parts = Vec::new();
    if count > 0 {
        parts.push(format!("{count} rolled out in {}", seconds(longest)));
    }
    for (number, words) in [
        (
            reached
                .iter()
                .filter(|one| one.stage == RolloutStage::Unchanged)
                .count(),
            "with nothing to change",
        ),
        (
            reached
                .iter()
                .filter(|one| matches!(one.stage, RolloutStage::Superseded { .. }))
                .count(),
            "superseded",
        ),
    ] {
        if number > 0 {
            parts.push(format!("{number} {words}"));
        }
    }
    parts.join(", ")
}

/// Returns the comment as Markdown of at most `most` characters, cut by whole rows. `link` returns
/// the URL of a commit.
pub fn comment(
    merged: &MergedRequest,
    reached: &[RolloutStatus],
    most: usize,
    link: impl Fn(&str) -> String,
) -> String {
    let mut rows: Vec<&RolloutStatus> = reached.iter().collect();
    // Failures come first, and are cut last.
    rows.sort_by(|one, other| {
        let by = |reached: &RolloutStatus| std::cmp::Reverse(reached.stage.weight());
        by(one).cmp(&by(other)).then_with(|| {
            (&one.application, &one.cluster).cmp(&(&other.application, &other.cluster))
        })
    });
    let commit = |id: &str| format!("[`{}`]({})", short_id(id), link(id));
    let mut text = format!(
        "**Rollout of {}**: {}\n\n",
        commit(&merged.commit),
        headline(reached)
    );
    let mut left = most.saturating_sub(RESERVED + text.chars().count());
    for (index, one) in rows.iter().enumerate() {
        let row = row(one, commit);
        let length = row.chars().count();
        if length > left {
            text.push_str(&format!("- and {} more\n", rows.len() - index));
            break;
        }
        left -= length;
        text.push_str(&row);
    }
    text
}

fn headline(reached: &[RolloutStatus]) -> String {
    let count = |weight: Weight| {
        reached
            .iter()
            .filter(|one| one.stage.weight() == weight)
            .count()
    };
    let mut parts = Vec::new();
    for (number, words) in [
        (count(Weight::Bad), "failing"),
        (count(Weight::Open), "in progress"),
        (count(Weight::Good), "done"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {words}"));
        }
    }
    parts.join(", ")
}

fn row(one: &RolloutStatus, commit: impl Fn(&str) -> String) -> String {
    let sign = match one.stage.weight() {
        Weight::Good => "✅",
        Weight::Open => "⏳",
        Weight::Bad => "❌",
    };
    let (mut words, why) = one.stage.words();
    if let RolloutStage::Superseded { by } = &one.stage {
        words = format!("superseded by {} before it was rolled out", commit(by));
    }
    let why = if why.trim().is_empty() {
        String::new()
    } else {
        format!(": {}", code(why, usize::MAX))
    };
    format!(
        "- {sign} {} on {} {words}{why}\n",
        code(&one.application.to_string(), usize::MAX),
        code(&one.cluster, usize::MAX)
    )
}

/// Formats a duration of at least one second.
fn seconds(took: Duration) -> String {
    schedule::show(Duration::from_secs(took.as_secs().max(1)))
}

#[cfg(test)]
mod tests;
