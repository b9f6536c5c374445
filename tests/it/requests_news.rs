//! Queries for closed requests, on each forge's wire protocol: once for half a year, then
//! incremental. The URL stays the same while there are none, so that the forge can answer 304 Not
//! Modified.

use super::{
    forge_github, forge_gitlab,
    requests::{FILE, reviewed},
    support::{
        forge::json,
        wire::{Seen, Wire, reply},
    },
    update_support::{Fleet, Setup, deployment, hours, now, semver},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tagboat::{
    sandbox::git::GitServer,
    spec::ForgeKind,
    update::{PassMode, Rescan},
};

/// Times of the last change of users' requests, all from branches that are not the bot's.
type Stamps = Arc<Mutex<Vec<&'static str>>>;

/// The entry of a request that a user closed.
fn entry(kind: ForgeKind, number: u64, updated: &str) -> Value {
    let mut entry = match kind {
        ForgeKind::Gitlab => forge_gitlab::request(number, "feature", "closed"),
        ForgeKind::Github => forge_github::pull(number, "feature", "closed"),
        ForgeKind::Gitea => {
            let mut entry = forge_github::pull(number, "feature", "closed");
            entry["merged"] = json!(false);
            (
                entry["head"]["repo_id"],
                entry["base"]["repo_id"],
                entry["head"]["label"],
            ) = (json!(1), json!(1), json!("feature"));
            entry
        }
    };
    // A request from a fork counts for the time, too.
    entry["source_project_id"] = json!(4);
    (entry["updated_at"], entry["closed_at"]) = (json!(updated), json!(updated));
    entry
}

fn parameter(seen: &Seen, name: &str) -> Option<String> {
    let query = seen.target.split_once('?')?.1;
    let value = query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.replace("%3A", ":"))
}

/// A forge with these requests, one per page.
async fn forge(kind: ForgeKind, stamps: Stamps) -> Wire {
    Wire::start(move |seen, _| {
        let open = parameter(seen, "state")
            .is_some_and(|state| ["open", "opened"].contains(&state.as_str()));
        let after: Option<Timestamp> =
            parameter(seen, "updated_after").map(|after| after.parse().unwrap());
        let mut stamps = stamps.lock().unwrap().clone();
        stamps
            .retain(|stamp| after.is_none_or(|after| stamp.parse::<Timestamp>().unwrap() > after));
        let page: usize = parameter(seen, "page").map_or(1, |page| page.parse().unwrap());
        let body = match stamps.get(page - 1) {
            Some(stamp) if !open => json!([entry(kind, page as u64, stamp)]),
            _ => json!([]),
        };
        let etag = format!("W/\"{}-{page}-{}\"", u8::from(open), stamps.join("-"));
        if seen.header("if-none-match") == etag {
            return reply(304, "").with("ETag", etag);
        }
        let next = (!open && page < stamps.len()).then_some(page + 1);
        let total = if open { 0 } else { stamps.len() };
        let answer = json(200, &body)
            .with("ETag", etag)
            .with("X-Total-Count", total);
        let link = next.map(|next| {
            format!(
                "<http://{}{}?state=closed&page={next}>; rel=\"next\"",
                seen.header("host"),
                seen.path()
            )
        });
        match kind {
            ForgeKind::Gitlab => answer.with(
                "X-Next-Page",
                next.map_or(String::new(), |next| next.to_string()),
            ),
            ForgeKind::Github => link
                .into_iter()
                .fold(answer, |answer, link| answer.with("Link", link)),
            ForgeKind::Gitea => answer,
        }
    })
    .await
}

/// The queries of passes at these times, and if the forge answered 304 Not Modified.
fn queries(
    kind: ForgeKind,
    stamps: &[&'static str],
    passes: &[(Timestamp, &[&'static str])],
) -> Vec<Vec<(Seen, bool)>> {
    let row = |(queries, warnings): QueriesAndWarnings| {
        assert!(warnings.is_empty(), "{warnings:?}");
        queries
    };
    queries_and_warnings(kind, stamps, passes)
        .into_iter()
        .map(row)
        .collect()
}

/// The queries of one pass, and its warnings.
type QueriesAndWarnings = (Vec<(Seen, bool)>, Vec<String>);

/// Like [`asked`], with the warnings of each pass.
fn queries_and_warnings(
    kind: ForgeKind,
    stamps: &[&'static str],
    passes: &[(Timestamp, &[&'static str])],
) -> Vec<QueriesAndWarnings> {
    let declared = semver("web", "1.x", "") + &reviewed("prod", "");
    let fleet = Fleet::new(&[("p.yaml", &declared), (FILE, &deployment(&["web:1.0.0"]))]);
    fleet.publish("team/web", &["1.0.0"]);
    let stamps: Stamps = Arc::new(Mutex::new(stamps.to_vec()));
    let wire = fleet.runtime.block_on(forge(kind, Arc::clone(&stamps)));
    let git = fleet
        .runtime
        .block_on(GitServer::start_at(
            fleet.repository.clone(),
            "acme/fleet.git".into(),
            None,
            |app| app,
        ))
        .unwrap();
    std::fs::write(fleet.dir.path().join("token"), "t0ken").unwrap();
    let lines = format!(
        "    forge: {{kind: {}, url: http://{}, token: {{file: token}}}}\n",
        kind.as_str(),
        wire.host
    );
    fleet.configure(
        &git.url(),
        &Setup {
            repository: lines.leak(),
            ..Setup::default()
        },
    );
    let engine = fleet.engine();
    let pass = |(at, news): &(Timestamp, &[&'static str])| {
        stamps.lock().unwrap().splice(0..0, news.iter().copied());
        let before = wire.seen().len();
        let report =
            fleet
                .runtime
                .block_on(engine.updaters[0].pass(PassMode::Write, &Rescan::All, *at));
        assert!(report.failures.is_empty(), "{report:#?}");
        let open = |seen: &Seen| seen.target.contains("state=open");
        let listed = wire
            .seen()
            .split_off(before)
            .into_iter()
            .filter(|seen| !open(seen));
        (
            listed
                .map(|seen| (seen.clone(), !seen.header("if-none-match").is_empty()))
                .collect(),
            report.warnings,
        )
    };
    passes.iter().map(pass).collect()
}

const NONE: &[&str] = &[];

#[test]
fn closed_half_year_read_once_then_increments() {
    // Hours, days and weeks ago, and one that is too old.
    let stamps = [
        "2026-11-20T11:00:00Z",
        "2026-11-17T10:00:00Z",
        "2026-10-20T10:00:00Z",
        "2026-03-01T10:00:00Z",
    ];
    for kind in [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea] {
        let passes = [
            (now(), NONE),
            (hours(1), NONE),
            (hours(2), NONE),
            (hours(30), &["2026-11-21T10:00:00Z"][..]),
            (hours(60), NONE),
        ];
        let queries = queries(kind, &stamps, &passes);
        let pages: Vec<usize> = queries.iter().map(Vec::len).collect();
        // Pages are read until one ends before the wanted time; GitLab filters by time itself.
        let expected = if kind == ForgeKind::Gitlab {
            [3, 1, 1, 2, 1]
        } else {
            [4, 2, 2, 3, 2]
        };
        assert_eq!(
            pages,
            expected,
            "{kind}: {:?}",
            queries
                .iter()
                .flatten()
                .map(|(seen, _)| &seen.target)
                .collect::<Vec<_>>()
        );
        let target = |pass: usize| queries[pass][0].0.target.clone();
        assert_eq!(target(1), target(2), "{kind}");
        assert!(
            queries[2].iter().all(|(_, conditional)| *conditional),
            "{kind}: unconditional: {:?}",
            queries[2]
        );
        if kind == ForgeKind::Gitlab {
            let since = |pass: usize| parameter(&queries[pass][0].0, "updated_after").unwrap();
            assert_eq!(
                (0..5).map(since).collect::<Vec<_>>(),
                [
                    "2026-05-24T00:00:00Z",
                    "2026-11-20T10:50:00Z",
                    "2026-11-20T10:50:00Z",
                    "2026-11-20T10:50:00Z",
                    "2026-11-21T09:50:00Z"
                ]
            );
        }
    }
}

#[test]
fn closed_list_empty_keeps_its_url_for_a_day() {
    for kind in [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea] {
        let queries = queries(
            kind,
            &[],
            &[(now(), NONE), (hours(1), NONE), (hours(11), NONE)],
        );
        let targets: Vec<&str> = queries
            .iter()
            .flatten()
            .map(|(seen, _)| seen.target.as_str())
            .collect();
        assert!(
            targets.len() == 3 && targets[0] == targets[1] && targets[1] == targets[2],
            "{kind}: {targets:?}"
        );
        assert!(queries[1][0].1 && queries[2][0].1, "{kind}");
    }
}

#[test]
fn closed_future_timestamp_hides_nothing() {
    let queries = queries(
        ForgeKind::Gitlab,
        &["2027-01-01T00:00:00Z"],
        &[(now(), NONE), (hours(1), NONE)],
    );
    assert_eq!(
        parameter(&queries[1][0].0, "updated_after").unwrap(),
        "2026-11-20T11:50:00Z"
    );
}

#[test]
fn closed_list_over_limit_reads_the_latest() {
    let minute = |number: i64| (now() - jiff::SignedDuration::from_mins(number)).to_string();
    // One per page: 200 are read.
    let stamps: Vec<&'static str> = (1..=230).map(|number| &*minute(number).leak()).collect();
    for kind in [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea] {
        let passes = [(now(), NONE), (hours(1), NONE)];
        let [(first, said), (second, silent)] = queries_and_warnings(kind, &stamps, &passes)
            .try_into()
            .unwrap();
        assert_eq!(first.len(), 200, "{kind}");
        let words = "hold back only what tagboat already knows";
        assert!(
            said.len() == 1 && said[0].contains("2026-11-20 08:40 UTC") && said[0].contains(words),
            "{kind}: {said:?}"
        );
        assert!(
            (1..20).contains(&second.len()) && silent.is_empty(),
            "{kind}: {} {silent:?}",
            second.len()
        );
    }
}
