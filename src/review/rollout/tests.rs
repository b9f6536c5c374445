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
fn rollout_reports_only_merged_changes() {
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
fn rollout_each_cluster_has_one_status() {
    use StatusState::{Failure, Pending, Success};
    let failed = || {
        RolloutStage::Failed("Deployment web: ImagePullBackOff\nno\u{202e} such image".to_owned())
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
fn rollout_comment_has_a_row_per_application() {
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
fn rollout_comment_cuts_healthy_rows_first() {
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
    fn rollout_foreign_text_stays_in_code_span(why in "([`@#!<>\\[\\]()|\\-\n\r\u{202e}a ]|<!-- tagboat:rollout -->|https://x\\.y){0,40}") {
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
