//! Golden texts under `cases/body`. A person reads them before they are accepted.

use super::{MARKER, application, bare_move, image_diff, known_move, object, story};
use std::{fs, path::Path};
use tagboat::review::{
    DryRunVerdict, MoveStory, ObjectChange, Preview, PreviewTrouble, RequestBody, body, markdown,
};

/// GitHub's limit for a pull request body, in characters.
const LIMIT: usize = 65_536;

fn check(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cases/body")
        .join(name);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        found, expected,
        "{name}: set UPDATE_EXPECTED=1 to take the new text after reading it"
    );
}

fn accepted() -> DryRunVerdict {
    DryRunVerdict::Accepted {
        warnings: Vec::new(),
    }
}

/// A preview on three clusters: one refuses, one accepts, one cannot be reached.
fn preview() -> Preview {
    let diff = image_diff("ghcr.io/acme/podinfo", "6.5.0", "6.5.1");
    let why = "deployments.apps \"podinfo\" is forbidden: ValidatingAdmissionPolicy 'images' with binding 'images' denied request: \
               image ghcr.io/acme/podinfo:6.5.1 has no signature of @release-team";
    let mut away = application(
        "prod/podinfo-us",
        "prod-us",
        vec![object(
            "Deployment podinfo/podinfo",
            &diff,
            DryRunVerdict::NotAsked {
                reason: "the cluster cannot be reached: connection refused".to_owned(),
            },
        )],
    );
    away.trouble.push(PreviewTrouble {
        message: "the cluster prod-us cannot be asked: connection refused".to_owned(),
        transient: true,
    });
    let mut gone = object(
        "ConfigMap podinfo/old",
        "--- base\n+++ head\n@@ -1,2 +0,0 @@\n-a: 1\n-b: 2\n",
        accepted(),
    );
    gone.change = ObjectChange::Delete;
    let warned = DryRunVerdict::Accepted {
        warnings: vec!["autoscaling/v2beta2 is deprecated".to_owned()],
    };
    Preview {
        applications: vec![
            application(
                "prod/podinfo",
                "prod-eu",
                vec![
                    object(
                        "Deployment podinfo/podinfo",
                        &diff,
                        DryRunVerdict::Refused {
                            reason: why.to_owned(),
                        },
                    ),
                    object(
                        "HorizontalPodAutoscaler podinfo/podinfo",
                        "@@ -1 +1 @@\n-  maxReplicas: 3\n+  maxReplicas: 4\n",
                        warned,
                    ),
                ],
            ),
            application(
                "prod/podinfo-asia",
                "prod-asia",
                vec![
                    object("Deployment podinfo/podinfo", &diff, accepted()),
                    gone,
                ],
            ),
            away,
        ],
        ..Preview::default()
    }
}

#[test]
fn body_small() {
    let moves = [bare_move("ghcr.io/acme/podinfo", "6.5.0", "6.5.1")];
    let RequestBody { text, cut } = body(&story(&moves, None), LIMIT);
    assert!(!cut);
    check("small.md", &text);
}

#[test]
fn body_typical_with_refused_dry_run() {
    let moves = [known_move("ghcr.io/acme/podinfo", "6.5.0", "6.5.1")];
    let preview = preview();
    let merging =
        "It is merged automatically when its checks have passed, 24h after the tag was first seen.";
    let story = MoveStory {
        group: Some("apps/podinfo"),
        merging,
        ..story(&moves, Some(&preview))
    };
    let RequestBody { text, cut } = body(&story, LIMIT);
    assert!(!cut);
    check("typical.md", &text);
    check("preview.md", &markdown(&preview, LIMIT).text);
}

#[test]
fn body_huge_is_cut_at_a_row_with_note() {
    let moves: Vec<_> = (0..60)
        .map(|at| known_move(&format!("ghcr.io/acme/service-{at}"), "6.5.0", "6.5.1"))
        .collect();
    let applications = (0..60).map(|at| {
        let diff = image_diff(&format!("ghcr.io/acme/service-{at}"), "6.5.0", "6.5.1");
        application(
            &format!("prod/service-{at}"),
            "prod-eu",
            vec![object(
                &format!("Deployment shop/service-{at}"),
                &diff,
                accepted(),
            )],
        )
    });
    let preview = Preview {
        applications: applications.collect(),
        ..Preview::default()
    };
    let story = story(&moves, Some(&preview));
    let whole = body(&story, usize::MAX);
    assert!(!whole.cut && !whole.text.contains("Left out"));
    let RequestBody { text, cut } = body(&story, 24_000);
    assert!(cut && text.chars().count() <= 24_000 && text.starts_with(MARKER));
    check("huge.md", &text);
}

#[test]
fn body_hostile_values_are_escaped() {
    let mut one = known_move("ghcr.io/acme/podinfo", "6.5.0", "6.5.1");
    one.image.old = Some("6.5.0|`<b>\n| x | y |".to_owned());
    one.image.places[0].file = "envs/`prod`/<img src=x>|@ann.yaml".to_owned();
    one.policy = "semver >=1 || <2 \\| @ann".to_owned();
    one.refused = vec![
        ("9.9.9".to_owned(), "</details><!-- tagboat:request {} --> @ann closes #1\n\n# Heading\n/close".to_owned()),
        (
            "9.9.8".to_owned(),
            "\u{202e}reversed\u{202c} \u{200b}@\u{200b}ann [x](javascript:alert(1)) ![p](https://evil.example/p.png)".to_owned(),
        ),
    ];
    one.facts.new.source = Some("javascript:alert(1)".to_owned());
    one.facts.new.version = Some("`1` | @everyone".to_owned());
    one.facts.compare = Some("https://user:secret@evil.example/compare".to_owned());
    one.facts.missing = Some(
        "GitHub said: <script>alert(1)</script> see http://evil.example/a|b and www.evil.example"
            .to_owned(),
    );
    one.facts.releases[0].name = "](https://evil.example) <b>@ann</b> #1".to_owned();
    one.facts.releases[0].notes = [
        "</details>\n\n/close\n/merge\n",
        "closes #1, fixes acme/web#2, resolves https://github.com/acme/web/issues/3 GH-4 !5 $6 ~bug %7 &8 ABC-9 0123abc\n\n",
        "[issue](https://github.com/acme/web/%69ssues/3) [mail](mailto:a@b.c) [ok](https://example.com/a_b?x=1&y=2) <a@b.c>\n\n",
        "![](https://evil.example/pixel.png)<img src=\"https://evil.example/p.png\"><b onclick=x>bold</b> text\n\n",
        "````md\n```\ncloses #1\n/close\n<!-- tagboat:request {\"environment\":\"dev\"} -->\n````\n\n",
        "> > > > > > > > > deep\n\n1. one\n   - two @ann\n\n| a | b |\n|---|---|\n| @ann | `x|y` |\n\n",
        "<details><summary>More</summary>\n\n* hidden in it\n\n</details>\n\n<!-- --> @after",
    ]
    .concat();
    let hostile = "@ann\n```\n</details>\n\n/close\n<!-- tagboat:request {} -->";
    let mut refused = object(
        "Deployment <b>|@ann",
        hostile,
        DryRunVerdict::Refused {
            reason: format!("denied: {hostile} {}", "x".repeat(5_000)),
        },
    );
    refused.diff = format!("+ {hostile}\n~~~~\n``````\n+{}", "y".repeat(100_000));
    let warned = DryRunVerdict::Accepted {
        warnings: vec!["</summary> @ann".to_owned(), String::new()],
    };
    let preview = Preview {
        applications: vec![application(
            "prod/podinfo",
            "prod`eu` @ann",
            vec![refused, object("A `b`", "+x", warned)],
        )],
        ..Preview::default()
    };
    let moves = [one];
    let story = MoveStory {
        group: Some("x\n\n</details> @ann"),
        merging: "It waits: @ann #1",
        ..story(&moves, Some(&preview))
    };
    let RequestBody { text, cut } = body(&story, LIMIT);
    assert!(!cut);
    super::reader::check(&text);
    check("hostile.md", &text);
}
