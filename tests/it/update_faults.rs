//! Failing servers, damaged caches and a full disk: clear errors, no loss, and progress where
//! possible.

use super::update_support::{
    Act, Fleet, Gate, Setup, counted, deployment, env, environment, hours, now, reply, semver,
};
use std::{os::unix::process::ExitStatusExt, path::PathBuf, process::Stdio};
use tagboat::{
    core::error::ErrorKind,
    sandbox::registry::{SandboxImage, SandboxRegistry},
    update::{EnvironmentState, PassReport},
};

const FILE: &str = "envs/dev/a.yaml";

fn fleet() -> Fleet {
    fleet_with(&Setup::default())
}

fn fleet_with(setup: &Setup) -> Fleet {
    let declared =
        semver("web", "1.x", "") + &semver("db", "1.x", "") + &env("dev", "group: policy");
    let fleet = Fleet::with(
        &[
            ("p.yaml", &declared),
            (FILE, &deployment(&["web:1.0.0", "db:1.0.0"])),
        ],
        setup,
    );
    fleet.publish("team/web", &["1.0.0", "1.1.0"]);
    fleet.publish("team/db", &["1.0.0", "1.1.0"]);
    fleet
}

/// Applies a fault to every request for `team/db`.
fn spoil(gate: &Gate, act: impl Fn() -> Act + Send + Sync + 'static) {
    gate.rule(move |line| {
        if line.contains("/team/db/") {
            act()
        } else {
            Act::Pass
        }
    });
}

#[test]
fn broken_repository_blocks_only_its_policies() {
    type Made = fn() -> Act;
    let troubles: [(&str, Made, usize); 7] = [
        (
            "HTML",
            || {
                reply(
                    200,
                    &[("content-type", "text/html")],
                    "<html>please sign in</html>",
                )
            },
            1,
        ),
        (
            "no JSON",
            || reply(200, &[("content-type", "application/json")], "<html>"),
            1,
        ),
        ("401 without a way", || reply(401, &[], ""), 1),
        ("403", || reply(403, &[], "{}"), 1),
        ("404", || reply(404, &[], "{}"), 1),
        ("500", || reply(500, &[], "oops"), 3),
        ("dies", || Act::Die, 3),
    ];
    for (name, act, requests) in troubles {
        let fleet = fleet();
        spoil(&fleet.images, act);
        let report = fleet.pass(now());
        assert_eq!(
            fleet.text(FILE),
            deployment(&["web:1.1.0", "db:1.0.0"]),
            "{name}: {report:#?}"
        );
        assert_eq!(report.failures.len(), 1, "{name}: {report:#?}");
        let failure = &report.failures[0];
        assert!(
            failure.message.contains("team/db") && failure.kind == ErrorKind::Remote,
            "{name}: {failure:?}"
        );
        let asked = fleet
            .images
            .take()
            .iter()
            .filter(|line| line.contains("/team/db/tags"))
            .count();
        assert!(
            asked <= requests,
            "{name}: a failing registry is not asked again in one pass: {asked} times"
        );
        // When it recovers, the rest follows.
        fleet.images.open();
        let report = fleet.good_pass(hours(1));
        assert_eq!(
            fleet.text(FILE),
            deployment(&["web:1.1.0", "db:1.1.0"]),
            "{name}: {report:#?}"
        );
    }
}

#[test]
fn unreachable_registry_is_never_up_to_date() {
    let fleet = fleet();
    fleet.good_pass(now());
    spoil(&fleet.images, || reply(503, &[], ""));
    let report = fleet.pass(hours(1));
    assert_eq!(
        environment(&report, "dev").state,
        EnvironmentState::Unknown,
        "{report:#?}"
    );
    let output = fleet
        .tagboat(&["plan"])
        .assert()
        .code(4)
        .get_output()
        .stdout
        .clone();
    assert!(
        String::from_utf8(output)
            .unwrap()
            .contains("dev: unknown: some registries could not be asked")
    );
    fleet.images.open();
    assert_eq!(
        environment(&fleet.good_pass(hours(2)), "dev").state,
        EnvironmentState::UpToDate
    );
}

#[test]
fn throttled_registry_retry_time_is_reported() {
    let fleet = fleet();
    spoil(&fleet.images, || reply(429, &[("retry-after", "120")], ""));
    let report = fleet.pass(now());
    let failure = &report.failures[0];
    assert!(
        failure.kind == ErrorKind::Remote
            && failure
                .retry_after
                .is_some_and(|seconds| (110..=120).contains(&seconds)),
        "{failure:?}"
    );
    assert!(
        failure
            .repository
            .as_ref()
            .is_some_and(|repository| repository.to_string().contains("team/")),
        "{failure:?}"
    );
}

#[test]
fn exit_code_distinguishes_partial_failure() {
    let fleet = fleet();
    let run = |code: i32| {
        let assert = fleet.tagboat(&["run", "--once"]).assert().code(code);
        String::from_utf8(assert.get_output().stderr.clone()).unwrap()
    };
    fleet.images.rule(|_| reply(503, &[], ""));
    assert!(run(3).contains("team/web"));
    spoil(&fleet.images, || reply(401, &[], ""));
    assert!(run(4).contains("team/db"));
    assert_eq!(fleet.text(FILE), deployment(&["web:1.1.0", "db:1.0.0"]));
    fleet.images.open();
    fleet
        .git
        .rule(|_| reply(502, &[], "<html>bad gateway</html>"));
    assert!(run(3).contains("502"));
    fleet.git.rule(|_| Act::Die);
    run(3);
    fleet.git.rule(|line| {
        if line.contains("POST") {
            Act::Die
        } else {
            Act::Pass
        }
    });
    run(3);
    fleet.git.open();
    run(0);
    assert_eq!(fleet.text(FILE), deployment(&["web:1.1.0", "db:1.1.0"]));
    assert_eq!(fleet.log().len(), 3);
}

#[test]
fn registry_down_affects_no_other() {
    let fleet = fleet();
    let other = fleet.runtime.block_on(SandboxRegistry::start()).unwrap();
    let host = other.host();
    fleet.runtime.block_on(other.stop()).unwrap();
    let text = std::fs::read_to_string(fleet.config()).unwrap();
    std::fs::write(
        fleet.config(),
        text.replacen(
            "registries:\n",
            &format!("registries:\n  - prefix: {host}\n    insecure: true\n"),
            1,
        ),
    )
    .unwrap();
    let policy = semver("gone", "1.x", "").replace("{host}", &host);
    let file = deployment(&["web:1.0.0"])
        .replace("web", "gone")
        .replace("{host}", &host);
    fleet.person(
        &[("gone.yaml", &policy), ("envs/dev/gone.yaml", &file)],
        "gone",
    );
    let assert = fleet.tagboat(&["run", "--once"]).assert().code(4);
    let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(
        stderr.contains(&format!("{host}/team/gone")) && stderr.contains("cannot reach"),
        "{stderr}"
    );
    assert_eq!(fleet.text(FILE), deployment(&["web:1.1.0", "db:1.1.0"]));
}

#[test]
fn forbidden_push_has_the_server_reason() {
    let fleet = fleet();
    fleet.git.rule(|line| {
        if line.contains("receive-pack") {
            reply(403, &[], "no")
        } else {
            Act::Pass
        }
    });
    let report = fleet.pass(now());
    assert_eq!(
        (
            environment(&report, "dev").state,
            report.failures.len(),
            report.pushed()
        ),
        (EnvironmentState::Failed, 1, 0),
        "{report:#?}"
    );
    assert_eq!(environment(&report, "dev").commits.len(), 1);
    fleet.git.open();
    assert_eq!(fleet.good_pass(now()).pushed(), 2);
}

#[test]
fn pushed_commit_is_reported_despite_later_error() {
    let fleet = fleet();
    let pushes = std::sync::atomic::AtomicUsize::new(0);
    fleet.git.rule(move |line| {
        let pushed = pushes.fetch_add(
            usize::from(line.starts_with("POST /fleet.git/git-receive-pack")),
            std::sync::atomic::Ordering::SeqCst,
        );
        if pushed > 0 { Act::Die } else { Act::Pass }
    });
    let report = fleet.pass(now());
    assert_eq!(
        (report.pushed(), report.failures.len(), fleet.log().len()),
        (1, 1, 2),
        "{report:#?}"
    );
    assert_eq!(
        environment(&report, "dev").state,
        EnvironmentState::Committed
    );
}

fn stored(fleet: &Fleet, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![fleet.dir.path().join("store")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false if entry.path().to_string_lossy().ends_with(end) => found.push(entry.path()),
                false => {}
            }
        }
    }
    assert!(!found.is_empty(), "no {end}");
    found
}

/// Damages files of a cache; the next run reports it and succeeds.
fn spoilt(fleet: &Fleet, what: &str, end: &str, spoil: impl Fn(Vec<u8>) -> Vec<u8>, says: &str) {
    for file in stored(fleet, end) {
        let bytes = std::fs::read(&file).unwrap();
        let mut permissions = std::fs::metadata(&file).unwrap().permissions();
        #[allow(
            clippy::permissions_set_readonly_false,
            reason = "a file of a temporary folder"
        )]
        permissions.set_readonly(false);
        std::fs::set_permissions(&file, permissions).unwrap();
        std::fs::write(&file, spoil(bytes)).unwrap();
    }
    let assert = fleet.tagboat(&["run", "--once"]).assert().code(0);
    let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(stderr.contains(says), "{what}: {stderr}");
    assert_eq!(
        fleet
            .tagboat(&["run", "--once"])
            .assert()
            .code(0)
            .get_output()
            .stderr,
        b"",
        "{what}: once is enough"
    );
}

#[test]
fn damaged_caches_are_rebuilt_with_warning() {
    let fleet = fleet();
    fleet.tagboat(&["run", "--once"]).assert().code(0);
    let garbage = |bytes: Vec<u8>| vec![b'x'; bytes.len()];
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    let flipped = |mut bytes: Vec<u8>| {
        let from = bytes.len() / 3;
        bytes[from..].iter_mut().for_each(|byte| *byte = !*byte);
        bytes
    };
    let mut commits = 3;
    for (name, way) in [
        ("garbage", &garbage as &dyn Fn(Vec<u8>) -> Vec<u8>),
        ("cut", &cut),
        ("empty", &|_| Vec::new()),
        ("flipped", &flipped),
    ] {
        spoilt(
            &fleet,
            &format!("store, {name}"),
            "store.redb",
            way,
            if name == "empty" {
                ""
            } else {
                "the store was damaged"
            },
        );
        spoilt(
            &fleet,
            &format!("index, {name}"),
            ".index",
            way,
            "the index is rebuilt",
        );
        for end in [".pack", ".idx"] {
            // A new commit makes the pass read the mirror.
            fleet.person(&[("README", &format!("{name} {end}\n"))], "more");
            spoilt(
                &fleet,
                &format!("mirror{end}, {name}"),
                end,
                way,
                "cloned again",
            );
            commits += 1;
        }
    }
    assert_eq!(fleet.log().len(), commits);
    assert_eq!(fleet.text(FILE), deployment(&["web:1.1.0", "db:1.1.0"]));
}

#[test]
fn full_disk_is_an_error_and_loses_nothing() {
    let big: String = (0..40_000)
        .map(|n| {
            format!(
                "# line {n} of a file that does not fit {}\n",
                n * 7919 % 65_537
            )
        })
        .collect();
    for blocks in [0, 1, 8, 64, 512, 1024] {
        let fleet = fleet();
        fleet.person(&[("notes.yaml", &big)], "big");
        let mut command = std::process::Command::new("/bin/sh");
        // SIGXFSZ is ignored, so that writes fail as on a full disk.
        command.args([
            "-c",
            &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\""),
            env!("CARGO_BIN_EXE_tagboat"),
            "run",
            "--once",
        ]);
        crate::servers::environment::clear(&mut command)
            .env("TAGBOAT_CONFIG", fleet.config())
            .current_dir(fleet.dir.path())
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.signal(), None, "{blocks} blocks: {stderr}");
        assert!(!stderr.contains("panicked"), "{blocks} blocks: {stderr}");
        if !output.status.success() {
            assert!(
                stderr.contains("File too large") || stderr.contains("os error 27"),
                "{blocks} blocks: {stderr}"
            );
        }
        let report: PassReport = fleet.pass(now());
        assert!(report.failures.is_empty(), "{blocks} blocks: {report:#?}");
        assert_eq!(
            fleet.text(FILE),
            deployment(&["web:1.1.0", "db:1.1.0"]),
            "{blocks} blocks"
        );
        assert_eq!(fleet.log().len(), 4, "{blocks} blocks: {stderr}");
    }
}

#[test]
fn hostile_tags_are_escaped_everywhere() {
    let fleet = fleet();
    let hostile = [
        "1.9.0\nx: y",
        "1.9.1'\"",
        "1.9.2: x",
        "1.9.3 # y",
        "1.9.4\u{1b}[31m",
        "",
        "1.9.5\u{202e}",
        "../1.9.6",
        "1.1.0",
    ];
    let body = serde_json::json!({"name": "team/db", "tags": hostile}).to_string();
    fleet.images.rule(move |line| {
        if line.contains("/team/db/tags") {
            reply(200, &[("content-type", "application/json")], &body)
        } else {
            Act::Pass
        }
    });
    let assert = fleet.tagboat(&["run", "--once"]).assert().code(0);
    let output = assert.get_output();
    assert_eq!(fleet.text(FILE), deployment(&["web:1.1.0", "db:1.1.0"]));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("the registry lists 8 names that are not valid tags"),
        "{output:?}"
    );
    for command in [
        &["plan"][..],
        &["explain", "default/db"],
        &["plan", "-o", "json"],
    ] {
        let output = fleet.tagboat(command).assert().code(0).get_output().clone();
        for text in [&output.stdout, &output.stderr] {
            assert!(
                !text.contains(&0x1b) && !String::from_utf8_lossy(text).contains('\u{202e}'),
                "{command:?}: {output:?}"
            );
        }
    }
    assert!(
        fleet
            .log()
            .iter()
            .all(|commit| !commit.message.contains('\u{1b}'))
    );
}

#[test]
fn invalid_yaml_file_affects_no_other() {
    let marker = "# {\"$imagepolicy\": \"default:web\"}";
    let fleet = Fleet::new(&[
        ("p.yaml", &(semver("web", "1.x", "") + &env("dev", ""))),
        ("envs/dev/good.yaml", &deployment(&["web:1.0.0"])),
        (
            "envs/dev/broken.yaml",
            "image: {host}/team/web:1.0.0\n  bad: [\n",
        ),
        (
            "envs/dev/crlf.yaml",
            "a: 1\r\nimage: {host}/team/web:1.0.0 # x\r\nb: 2\r\n",
        ),
        (
            "envs/dev/crlf-marked.yaml",
            &format!("a: 1\r\nimage: {{host}}/team/web:1.0.0 {marker}\r\nb: 2\r\n"),
        ),
        (
            "envs/dev/bom.yaml",
            &format!("\u{feff}image: {{host}}/team/web:1.0.0 {marker}\n"),
        ),
        (
            "envs/dev/tabs.yaml",
            &format!("a:\n\timage: {{host}}/team/web:1.0.0 {marker}\n"),
        ),
    ]);
    fleet.publish("team/web", &["1.0.0", "1.1.0"]);
    fleet.raw(&[
        (
            "envs/dev/latin.yaml",
            b"# caf\xe9\nimage: team/web:1.0.0\n",
            false,
        ),
        ("envs/dev/link.yaml", b"../../../../etc/passwd", true),
    ]);
    fleet.raw(&[("envs/dev/inside.yaml", b"good.yaml", true)]);
    let report = fleet.pass(now());
    assert!(report.failures.is_empty(), "{report:#?}");
    assert_eq!(
        fleet.text("envs/dev/good.yaml"),
        deployment(&["web:1.1.0"]),
        "{report:#?}"
    );
    assert_eq!(
        fleet.text("envs/dev/crlf-marked.yaml"),
        format!("a: 1\r\nimage: {{host}}/team/web:1.1.0 {marker}\r\nb: 2\r\n")
    );
    assert_eq!(
        fleet.text("envs/dev/bom.yaml"),
        format!("\u{feff}image: {{host}}/team/web:1.1.0 {marker}\n")
    );
    assert_eq!(
        fleet.text("envs/dev/broken.yaml"),
        "image: {host}/team/web:1.0.0\n  bad: [\n"
    );
    for (file, word) in [
        ("envs/dev/broken.yaml", ""),
        ("envs/dev/tabs.yaml", ""),
        ("envs/dev/latin.yaml", "UTF-8"),
    ] {
        let stderr = report
            .findings
            .iter()
            .any(|finding| finding.place.file == file && finding.message.contains(word));
        assert!(stderr, "{file} is not reported: {report:#?}");
    }
    assert_eq!(fleet.file("envs/dev/link.yaml"), b"../../../../etc/passwd");
    assert_eq!(fleet.file("envs/dev/inside.yaml"), b"good.yaml");
    let assert = fleet.tagboat(&["plan"]).assert();
    assert_eq!(
        assert.get_output().status.code(),
        Some(4),
        "a broken file is bad input, and the rest is updated"
    );
}

#[test]
fn invalid_declaration_affects_no_other() {
    let fleet = fleet();
    fleet.person(
        &[
            ("q.yaml", "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {name: q}\nspec: {imag: x}\n"),
            ("r.yaml", "kind: ImagePolicy\napiVersion: tagboat.dev/v1alpha1\n  x: [\n"),
        ],
        "mistakes",
    );
    let report = fleet.pass(now());
    assert_eq!(
        fleet.text(FILE),
        deployment(&["web:1.1.0", "db:1.1.0"]),
        "{report:#?}"
    );
    for file in ["q.yaml", "r.yaml"] {
        assert!(
            report
                .findings
                .iter()
                .any(|finding| finding.place.file == file),
            "{file}: {report:#?}"
        );
    }
    fleet.tagboat(&["run", "--once"]).assert().code(4);
}

#[test]
fn huge_file_is_read_and_edited() {
    let mut documents = String::with_capacity(4 << 20);
    for n in 0..100_000 {
        documents.push_str(&format!("---\na: {n}\n"));
    }
    documents.push_str("---\nkind: Pod\napiVersion: v1\nspec: {containers: [{name: a, image: '{host}/team/web:1.0.0'}]}\n");
    let mut big = deployment(&["web:1.0.0"]);
    while big.len() < 20 << 20 {
        big.push_str("# a comment that makes the file long, and says nothing about any image\n");
    }
    let fleet = fleet();
    fleet.person(
        &[
            ("envs/dev/documents.yaml", &documents),
            ("envs/dev/big.yaml", &big),
        ],
        "huge",
    );
    let report = fleet.good_pass(now());
    assert!(
        fleet.text("envs/dev/documents.yaml") == documents.replace("web:1.0.0", "web:1.1.0"),
        "{report:#?}"
    );
    assert!(
        fleet.text("envs/dev/big.yaml") == big.replace("web:1.0.0", "web:1.1.0"),
        "{report:#?}"
    );
}

#[test]
fn pass_requests_one_list_and_one_head_each() {
    let declared = semver("web", "1.x", "")
        + &semver("again", ">=1", "").replace("team/again", "team/web")
        + &semver("db", "1.x", "  digestReflectionPolicy: Always\n")
        + &env("dev", "")
        + &env("prod", "");
    let marked = "a: {host}/team/web:1.0.0 # {\"$imagepolicy\": \"default:again\"}\n";
    let fleet = Fleet::new(&[
        ("p.yaml", &declared),
        ("envs/dev/a.yaml", marked),
        ("envs/prod/a.yaml", &deployment(&["db:1.0.0"])),
    ]);
    fleet.person(
        &[
            (
                "envs/dev/b.yaml",
                "a: {host}/team/web:1.0.0 # {\"$imagepolicy\": \"default:web\"}\n",
            ),
            ("envs/dev/c.yaml", &deployment(&["db:1.0.0"])),
        ],
        "b",
    );
    for path in ["team/web", "team/db"] {
        fleet.publish(path, &["1.0.0", "1.1.0"]);
    }
    fleet.image("team/db", "1.1.0", &SandboxImage::default());
    fleet.good_pass(now());
    fleet.images.take();
    fleet.git.take();
    let report = fleet.good_pass(hours(1));
    assert_eq!(
        (
            report.pushed(),
            report.requests.listings,
            report.requests.heads,
            report.requests.registry
        ),
        (0, 2, 1, 3),
        "{report:#?}"
    );
    let asked = [
        ("GET /v2/team/web/tags/list", 1),
        ("GET /v2/team/db/tags/list", 1),
        ("HEAD /v2/team/db/manifests/1.1.0", 1),
    ];
    assert_eq!(
        counted(&fleet.images.take()),
        asked.map(|(line, count)| (line.to_owned(), count)).into()
    );
    assert_eq!(fleet.git.take().len(), 2, "the greeting and one ls-refs");
}
