//! What became of a merged request on the clusters, in the words that are told back: commit
//! statuses, and one comment.
//!
//! Who merged it makes no difference. Each cluster has one status of the Environment; the comment
//! has a row for each Application, with the workload's own reason where one failed.

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

/// The marker of the comment.
pub const MARKER: &str = "rollout";

/// What the names of the statuses begin with.
pub const CONTEXT: &str = "tagboat/rollout/";

/// How long ago a request may have been merged to be told of: longer ago, as after a long time
/// without a daemon, it is old news.
pub const LATELY: Duration = Duration::from_secs(24 * 3600);

/// Whether a merge lies within [`LATELY`].
pub fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(at)).map_or(true, |ago| ago <= LATELY)
}

/// Characters of a comment left for what is not a row: the forge's marker, and word of the rows
/// left out.
const RESERVED: usize = 200;

/// A request that was merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedRequest {
    /// The request as it ended, without its text.
    pub request: PullRequest,
    /// The commit that brought it onto the base.
    pub commit: String,
    /// The Environment.
    pub environment: String,
    /// The files it changed, from the root of the repository.
    pub files: Vec<String>,
    /// When it was merged.
    pub at: Timestamp,
}

impl MergedRequest {
    /// Of a request that ended; nothing if it was not merged, or the forge does not say when. Where
    /// the forge does not name the commit that the merge made, the merge made none: the base was
    /// moved to the head.
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

/// An Application that the request reaches, on its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutStatus {
    /// The Application.
    pub application: Name,
    /// The cluster.
    pub cluster: String,
    /// How far it has come.
    pub stage: RolloutStage,
}

/// How far an Application has come with what was merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutStage {
    /// Nothing has been applied; why not, as far as it is known.
    Waiting(String),
    /// It rests, and nothing is applied.
    Suspended,
    /// Something is being sent.
    Applying,
    /// Everything was applied, and something is not healthy yet: what, and why.
    Progressing(String),
    /// Something would be deleted, and somebody must say yes first.
    ConfirmationRequired(String),
    /// Something could not be applied, or did not become healthy.
    Failed(String),
    /// Everything was applied, and is healthy where that is waited for, so long after the merge.
    RolledOut(Duration),
    /// What is rendered was the same before.
    Unchanged,
    /// Another revision changed the Application before the result was there.
    Superseded {
        /// That revision.
        by: String,
    },
    /// No result came within the time; nobody looks any more.
    GivenUp {
        /// The time.
        after: Duration,
        /// What was known last; may be empty.
        last: String,
    },
}

/// What a stage means for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    Good,
    Open,
    Bad,
}

impl RolloutStage {
    /// Whether nothing follows.
    pub fn is_last(&self) -> bool {
        matches!(
            self,
            RolloutStage::RolledOut(_)
                | RolloutStage::Unchanged
                | RolloutStage::Superseded { .. }
                | RolloutStage::GivenUp { .. }
        )
    }

    /// Whether it is on its way: neither well nor in trouble.
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

    /// What there is to say, and the foreign words after it.
    fn words(&self) -> (String, &str) {
        match self {
            RolloutStage::Waiting(why) => ("waits".to_owned(), why),
            RolloutStage::Suspended => ("is suspended: nothing is applied".to_owned(), ""),
            RolloutStage::Applying => ("is being applied".to_owned(), ""),
            RolloutStage::Progressing(why) => {
                ("was applied and is not healthy yet".to_owned(), why)
            }
            RolloutStage::ConfirmationRequired(why) => ("needs a yes".to_owned(), why),
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

/// The commit statuses, one for each cluster in their order.
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

/// One line for the Applications of a cluster. While they are on their way it says little, so that
/// it seldom changes.
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
            format!("{count} of {} in trouble; ", reached.len())
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
    let mut said = Vec::new();
    if count > 0 {
        said.push(format!("{count} rolled out in {}", seconds(longest)));
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
            said.push(format!("{number} {words}"));
        }
    }
    said.join(", ")
}

/// The text of the comment, as Markdown of at most `most` characters, cut by whole rows. `link`
/// gives the address of a commit.
pub fn comment(
    merged: &MergedRequest,
    reached: &[RolloutStatus],
    most: usize,
    link: impl Fn(&str) -> String,
) -> String {
    let mut rows: Vec<&RolloutStatus> = reached.iter().collect();
    // What somebody should look at comes first, and is cut last.
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
    let mut said = Vec::new();
    for (number, words) in [
        (count(Weight::Bad), "in trouble"),
        (count(Weight::Open), "on the way"),
        (count(Weight::Good), "done"),
    ] {
        if number > 0 {
            said.push(format!("{number} {words}"));
        }
    }
    said.join(", ")
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

/// As people measure it: nothing takes less than a second.
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
        // A merge that only moves the base makes no commit of its own.
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
                "a/web needs a yes: 9 go",
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
                "2 of 3 in trouble; a/api failed: Deployment web: ImagePullBackOff no\\u{202e} such image",
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
             1 in trouble, 1 on the way, 3 done\n\
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

    /// Code spans are read as CommonMark reads them: a run of backticks opens, the next run of the
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
