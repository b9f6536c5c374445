//! The bodies of pull requests: fixtures and their golden texts, and the proof that no text from
//! outside leaves its place.

mod cases;
mod properties;
mod reader;

use jiff::Timestamp;
use tagboat::{
    core::image::{Digest, ImageRepository, Platform, Tag},
    review::{
        ApplicationChange, ApplicationPreview, DescribedMove, DryRunVerdict, FileLine, ImageLabels,
        ImageMove, MoveFacts, MoveStory, ObjectChange, ObjectPreview, Preview, ReleaseNotes,
        SeenBy, SeenSince,
    },
};

/// The marker of a request, as the update pass writes it.
const MARKER: &str = r#"<!-- tagboat:request {"version":1,"environment":"prod"} -->"#;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A move about which nothing is known.
fn bare_move(repository: &str, old: &str, new: &str) -> DescribedMove {
    let repository = ImageRepository::new(repository).unwrap();
    let places = vec![FileLine {
        file: format!("envs/prod/{}.yaml", repository.last_segment()),
        line: 12,
    }];
    DescribedMove {
        image: ImageMove {
            policy: format!("apps/{}", repository.last_segment())
                .parse()
                .unwrap(),
            repository,
            old: Some(old.to_owned()),
            new: Tag::new(new).unwrap(),
            digest: None,
            bump: tagboat::core::version::bump(Some(old), new),
            places,
        },
        policy: "semver >=6.0.0 <7.0.0".to_owned(),
        seen: None,
        refused: Vec::new(),
        facts: MoveFacts::default(),
    }
}

/// A move with all facts.
fn known_move(repository: &str, old: &str, new: &str) -> DescribedMove {
    let mut described = bare_move(repository, old, new);
    let name = described.image.image().to_owned();
    let source = format!("https://github.com/acme/{name}");
    let labels = |version: &str, digit: &str| ImageLabels {
        source: Some(source.clone()),
        revision: Some(digit.repeat(40)),
        version: Some(version.to_owned()),
    };
    described.seen = Some(SeenSince {
        at: time("2026-11-18T09:12:44Z"),
        clock: SeenBy::Tagboat,
    });
    described.refused = vec![
        ("7.0.0".to_owned(), "is outside the range \">=6.0.0 <7.0.0\"".to_owned()),
        ("6.6.0".to_owned(), "was first seen 2026-11-21 08:00 UTC and must be seen for 72h: free at 2026-11-24 08:00 UTC".to_owned()),
    ];
    described.facts = MoveFacts {
        digest: Some(Digest::new(format!("sha256:{}", "0f".repeat(32))).unwrap()),
        platforms: vec![
            "linux/amd64".parse::<Platform>().unwrap(),
            "linux/arm64".parse().unwrap(),
        ],
        created: Some(time("2026-11-17T20:01:02Z")),
        old: labels(old, "1"),
        new: labels(new, "2"),
        compare: Some(format!(
            "{source}/compare/{}...{}",
            "1".repeat(40),
            "2".repeat(40)
        )),
        releases: vec![ReleaseNotes {
            tag: new.to_owned(),
            name: format!("v{new}"),
            notes: format!(
                "## What's changed\r\n\r\n* Close idle connections by @ann in https://github.com/acme/{name}/pull/381\r\n* Fix a leak in \
                 `Cache::get` (#379), fixes #370\r\n\r\n## New contributors\r\n\r\n* @bob made their first contribution\r\n\r\n**Full \
                 changelog**: https://github.com/acme/{name}/compare/{old}...{new}\r\n\r\n<!-- Release notes generated -->"
            ),
            url: format!("{source}/releases/tag/{new}"),
            at: Some(time("2026-11-17T21:00:00Z")),
        }],
        missing: None,
    };
    described
}

fn object(object: &str, diff: &str, verdict: DryRunVerdict) -> ObjectPreview {
    ObjectPreview {
        object: object.to_owned(),
        change: ObjectChange::Change,
        diff: diff.to_owned(),
        verdict,
    }
}

fn application(name: &str, cluster: &str, objects: Vec<ObjectPreview>) -> ApplicationPreview {
    ApplicationPreview {
        name: name.parse().unwrap(),
        cluster: cluster.to_owned(),
        change: ApplicationChange::Files,
        notes: Vec::new(),
        objects,
        trouble: Vec::new(),
    }
}

fn image_diff(repository: &str, old: &str, new: &str) -> String {
    format!(
        "--- base\n+++ head\n@@ -14,7 +14,7 @@\n     spec:\n       containers:\n       - name: web\n-        image: {repository}:{old}\n+        image: \
         {repository}:{new}\n         ports:\n         - containerPort: 9898\n"
    )
}

fn story<'a>(moves: &'a [DescribedMove], preview: Option<&'a Preview>) -> MoveStory<'a> {
    MoveStory {
        environment: "prod",
        group: None,
        moves,
        preview,
        merging: "It waits for a person to merge it.",
        marker: MARKER,
    }
}
