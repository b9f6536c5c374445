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

/// Age of a merge up to which its rollout is reported: after a long downtime of the daemon nobody
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
mod tests {
    use super::*;
    use crate::review::types::{Mergeable, RequestEnd};
    use proptest::prelude::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    const NEWER: &str = "fedcba9876543210fedcba9876543210fedcba98";

    fn request() -> PullRequest {
        PullRequest {
            number: 12,
            url: "https://forge.example.org/acme/fleet/pulls/12".to_owned(),
            state: RequestStatus::Merged,
            head: "tagboat/prod/all".to_owned(),
            head_commit: NEWER.to_owned(),
            base: "main".to_owned(),
            title: "prod: web 1.0.0 → 1.0.1".to_owned(),
            body: "much".to_owned(),
            labels: Vec::new(),
            author: "bot".to_owned(),
            draft: false,
            opened: None,
            updated: None,
            ended: Some(RequestEnd {
                at: "2026-11-21T12:00:00Z".parse().ok(),
                by: None,
                commit: Some(COMMIT.to_owned()),
            }),
            mergeable: Mergeable::Unknown,
            id: String::new(),
        }
    }

    fn merged() -> MergedRequest {
        MergedRequest::new(&request(), "prod", vec!["prod/web.yaml".to_owned()]).unwrap()
    }

    fn reached(rows: &[(&str, &str, RolloutStage)]) -> Vec<RolloutStatus> {
        let one = |(application, cluster, stage): &(&str, &str, RolloutStage)| RolloutStatus {
            application: application.parse().unwrap(),
            cluster: (*cluster).to_owned(),
            stage: stage.clone(),
        };
        rows.iter().map(one).collect()
    }

    fn rolled_out(seconds: u64) -> RolloutStage {
        RolloutStage::RolledOut(Duration::from_secs(seconds))
    }

    fn link(commit: &str) -> String {
        format!("https://forge.example.org/commit/{commit}")
    }

    #[test]
    fn only_what_was_merged_is_told() {
        assert_eq!(
            (merged().commit.as_str(), merged().request.body.as_str()),
            (COMMIT, "")
        );
        let with = |change: fn(&mut PullRequest)| {
            let mut request = request();
            change(&mut request);
            MergedRequest::new(&request, "prod", Vec::new())
        };
        assert_eq!(with(|request| request.state = RequestStatus::Closed), None);
        assert_eq!(with(|request| request.ended = None), None);
        assert_eq!(
            with(|request| request.ended.as_mut().unwrap().at = None),
            None
        );
        // A fast-forward makes no commit of its own.
        assert_eq!(
            with(|request| request.ended.as_mut().unwrap().commit = None)
                .unwrap()
                .commit,
            NEWER
        );
    }

    #[test]
    fn each_cluster_has_one_status() {
        use StatusState::{Failure, Pending, Success};
        let failed = || {
            RolloutStage::Failed(
                "Deployment web: ImagePullBackOff\nno\u{202e} such image".to_owned(),
            )
        };
        let superseded = || RolloutStage::Superseded {
            by: NEWER.to_owned(),
        };
        let given_up = || RolloutStage::GivenUp {
            after: Duration::from_secs(2100),
            last: "it is still at 1".to_owned(),
        };
        type Case = (
            Vec<(&'static str, &'static str, RolloutStage)>,
            StatusState,
            &'static str,
        );
        let cases: Vec<Case> = vec![
            (
                vec![("a/web", "x", rolled_out(42))],
                Success,
                "rolled out in 42s",
            ),
            (
                vec![("a/web", "x", rolled_out(0))],
                Success,
                "rolled out in 1s",
            ),
            (
                vec![("a/web", "x", RolloutStage::Unchanged)],
                Success,
                "has nothing to change",
            ),
            (
                vec![("a/web", "x", superseded())],
                Success,
                "superseded by fedcba9876 before it was rolled out",
            ),
            (
                vec![
                    ("a/web", "x", rolled_out(42)),
                    ("a/api", "x", rolled_out(102)),
                ],
                Success,
                "2 rolled out in 1m42s",
            ),
            (
                vec![
                    ("a/web", "x", rolled_out(42)),
                    ("a/api", "x", superseded()),
                    ("a/db", "x", RolloutStage::Unchanged),
                ],
                Success,
                "1 rolled out in 42s, 1 with nothing to change, 1 superseded",
            ),
            (
                vec![("a/web", "x", RolloutStage::Waiting("why".to_owned()))],
                Pending,
                "0 of 1 rolled out",
            ),
            (
                vec![
                    ("a/web", "x", RolloutStage::Applying),
                    ("a/api", "x", rolled_out(1)),
                ],
                Pending,
                "1 of 2 rolled out",
            ),
            (
                vec![("a/web", "x", RolloutStage::Progressing("why".to_owned()))],
                Pending,
                "0 of 1 rolled out",
            ),
            (
                vec![("a/web", "x", RolloutStage::Suspended)],
                Pending,
                "a/web is suspended",
            ),
            (
                vec![("a/web", "x", failed())],
                Failure,
                "a/web failed: Deployment web: ImagePullBackOff no\\u{202e} such image",
            ),
            (
                vec![(
                    "a/web",
                    "x",
                    RolloutStage::ConfirmationRequired("9 go".to_owned()),
                )],
                Failure,
                "a/web needs confirmation: 9 go",
            ),
            (
                vec![("a/web", "x", given_up())],
                Failure,
                "a/web not rolled out within 35m: it is still at 1",
            ),
            (
                vec![
                    ("a/web", "x", given_up()),
                    ("a/api", "x", failed()),
                    ("a/db", "x", RolloutStage::Applying),
                ],
                Failure,
                "2 of 3 failing; a/api failed: Deployment web: ImagePullBackOff no\\u{202e} such image",
            ),
        ];
        for (rows, state, description) in cases {
            let url = Some(merged().request.url);
            let expected = CommitStatus {
                context: "tagboat/rollout/prod@x".to_owned(),
                state,
                description: description.to_owned(),
                url,
            };
            assert_eq!(statuses(&merged(), &reached(&rows)), [expected], "{rows:?}");
        }
        let two = statuses(
            &merged(),
            &reached(&[("a/web", "y", failed()), ("a/web", "x", rolled_out(1))]),
        );
        let shown: Vec<_> = two
            .iter()
            .map(|status| (status.context.as_str(), status.state))
            .collect();
        assert_eq!(
            shown,
            [
                ("tagboat/rollout/prod@x", Success),
                ("tagboat/rollout/prod@y", Failure)
            ]
        );
        assert_eq!(statuses(&merged(), &[]), []);
    }

    #[test]
    fn the_comment_has_a_row_for_each_application() {
        let text = comment(
            &merged(),
            &reached(&[
                ("shop/api", "east", rolled_out(42)),
                ("shop/db", "east", RolloutStage::Superseded { by: NEWER.to_owned() }),
                ("shop/jobs", "east", RolloutStage::Progressing("Deployment shop/jobs: 1 of 2 are ready".to_owned())),
                ("shop/web", "east", rolled_out(61)),
                (
                    "shop/web",
                    "west",
                    RolloutStage::Failed("Deployment shop/web: pod web-1, container web: ImagePullBackOff: Back-off pulling `web:9`".to_owned()),
                ),
            ]),
            60_000,
            link,
        );
        assert_eq!(
            text,
            "**Rollout of [`0123456789`](https://forge.example.org/commit/0123456789abcdef0123456789abcdef01234567)**: \
             1 failing, 1 in progress, 3 done\n\
             \n\
             - ❌ `shop/web` on `west` failed: `` Deployment shop/web: pod web-1, container web: ImagePullBackOff: Back-off pulling `web:9` ``\n\
             - ⏳ `shop/jobs` on `east` was applied and is not healthy yet: `Deployment shop/jobs: 1 of 2 are ready`\n\
             - ✅ `shop/api` on `east` rolled out in 42s\n\
             - ✅ `shop/db` on `east` superseded by [`fedcba9876`](https://forge.example.org/commit/fedcba9876543210fedcba9876543210fedcba98) before it was rolled out\n\
             - ✅ `shop/web` on `east` rolled out in 1m1s\n"
        );
    }

    #[test]
    fn a_comment_is_cut_by_whole_rows_the_good_ones_first() {
        let names: Vec<String> = (0..100)
            .map(|number| format!("shop/a{number:02}"))
            .collect();
        let mut rows: Vec<(&str, &str, RolloutStage)> = names
            .iter()
            .map(|name| (name.as_str(), "east", rolled_out(5)))
            .collect();
        rows[99].2 = RolloutStage::Failed("broken".to_owned());
        let text = comment(&merged(), &reached(&rows), 1000, link);
        let lines: Vec<&str> = text.lines().collect();
        assert!(text.chars().count() <= 1000, "{}", text.chars().count());
        assert_eq!(lines[2], "- ❌ `shop/a99` on `east` failed: `broken`");
        let shown = lines.len() - 3;
        assert!(shown > 5, "{text}");
        assert_eq!(
            *lines.last().unwrap(),
            format!("- and {} more", 100 - shown)
        );
        assert!(
            lines[3..lines.len() - 1]
                .iter()
                .all(|line| line.ends_with("rolled out in 5s")),
            "{text}"
        );
    }

    /// Removes code spans as CommonMark reads them: a run of backticks opens, the next run of the
    /// same length closes.
    fn outside_code(line: &str) -> String {
        let (mut out, mut rest) = (String::new(), line);
        while let Some(at) = rest.find('`') {
            out.push_str(&rest[..at]);
            let run = rest[at..].len() - rest[at..].trim_start_matches('`').len();
            let after = &rest[at + run..];
            let mut from = 0;
            let end = loop {
                let Some(next) = after[from..].find('`').map(|next| next + from) else {
                    break None;
                };
                let length = after[next..].len() - after[next..].trim_start_matches('`').len();
                if length == run {
                    break Some(next + length);
                }
                from = next + length;
            };
            match end {
                Some(end) => rest = &after[end..],
                None => {
                    out.push_str(&rest[at..at + run]);
                    rest = after;
                }
            }
        }
        out + rest
    }

    proptest! {
        #[test]
        fn foreign_words_stay_inside_code(why in "([`@#!<>\\[\\]()|\\-\n\r\u{202e}a ]|<!-- tagboat:rollout -->|https://x\\.y){0,40}") {
            let text = comment(&merged(), &reached(&[("shop/web", "east", RolloutStage::Failed(why.clone()))]), 60_000, link);
            let lines: Vec<&str> = text.lines().collect();
            prop_assert_eq!(lines.len(), 3, "{:?}", text);
            let hidden = ["<!--", "\u{202e}", "\r"].iter().any(|hidden| text.contains(hidden));
            prop_assert!(!hidden, "{:?}", text);
            let bare = outside_code(lines[2]);
            let words = if plain(&why).is_empty() { "- ❌  on  failed" } else { "- ❌  on  failed: " };
            prop_assert_eq!(bare, words, "{:?}", text);
        }
    }
}
