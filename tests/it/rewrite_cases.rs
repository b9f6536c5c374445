//! Golden directories: `tests/cases/rewrite/<case>/original` becomes `expected`, compared as trees.
//!
//! `case.yaml` has the selected tags, and lists the skipped references and the notes as
//! `file:line:column word`.

use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use tagboat::{
    core::image::{ImageRef, Tag},
    images::rewrite::{Choices, DigestReflection, RewriteDecision, UpdateDirection},
    service::set,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    markers_only: bool,
    choices: Vec<Choice>,
    left: Vec<String>,
    notes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    policy: String,
    image: String,
    #[serde(default)]
    digest_reflection: String,
    #[serde(default)]
    unpin: bool,
    #[serde(default)]
    allow_downgrade: bool,
}

/// Numbers between dots, compared as numbers; anything else has no order.
fn compare(present: &str, chosen: &str) -> UpdateDirection {
    let version = |text: &str| {
        text.trim_start_matches('v')
            .split('.')
            .map(|part| part.parse::<u64>().ok())
            .collect::<Option<Vec<_>>>()
    };
    match (version(present), version(chosen)) {
        (Some(present), Some(chosen)) => match chosen.cmp(&present) {
            std::cmp::Ordering::Greater => UpdateDirection::Newer,
            std::cmp::Ordering::Equal => UpdateDirection::Equal { listed: true },
            std::cmp::Ordering::Less => UpdateDirection::Lower,
        },
        _ => UpdateDirection::Unorderable,
    }
}

impl Choice {
    fn decision(&self) -> RewriteDecision<'static> {
        let image = ImageRef::new(&self.image).unwrap();
        let tag: Tag = image.tag.unwrap();
        let chosen = tag.as_str().to_owned();
        RewriteDecision {
            policy: self.policy.parse().unwrap(),
            repository: image.repository,
            tag,
            digest: image.digest,
            digest_reflection: match self.digest_reflection.as_str() {
                "" | "Never" => DigestReflection::Never,
                "IfNotPresent" => DigestReflection::IfNotPresent,
                "Always" => DigestReflection::Always,
                other => panic!("{other}"),
            },
            unpin: self.unpin,
            allow_downgrade: self.allow_downgrade,
            compare: Box::new(move |present| compare(present, &chosen)),
        }
    }
}

fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(
                    path.strip_prefix(root).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    files
}

fn check(case: &Path) {
    let name = case.file_name().unwrap().to_string_lossy();
    let described: Case =
        serde_saphyr::from_str(&fs::read_to_string(case.join("case.yaml")).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    let work = tempfile::tempdir().unwrap();
    for (path, bytes) in tree(&case.join("original")) {
        let target = work.path().join(path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, bytes).unwrap();
    }
    let mut choices = Choices::new(!described.markers_only);
    described
        .choices
        .iter()
        .for_each(|choice| choices.add(choice.decision()));
    let changes = |report: &set::SetReport| {
        report
            .files
            .iter()
            .flat_map(|file| file.outcome.changes.clone())
            .collect::<Vec<_>>()
    };
    let everything = set::SetOptions {
        write: false,
        parse_all: true,
        ..set::SetOptions::default()
    };
    let everything = set::rewrite(work.path(), &choices, everything).unwrap();
    let report = set::rewrite(work.path(), &choices, set::SetOptions::default()).unwrap();
    assert!(report.errors.is_empty(), "{name}: {:?}", report.errors);
    assert_eq!(
        changes(&report),
        changes(&everything),
        "{name}: the search before the parse loses something"
    );

    let (found, expected) = (tree(work.path()), tree(&case.join("expected")));
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "{name}"
    );
    for (path, bytes) in &expected {
        assert_eq!(
            String::from_utf8_lossy(&found[path]),
            String::from_utf8_lossy(bytes),
            "{name}/{}",
            path.display()
        );
        assert_eq!(&found[path], bytes, "{name}/{}", path.display());
    }
    let left: Vec<String> = report
        .files
        .iter()
        .flat_map(|file| {
            file.outcome.left.iter().map(move |left| {
                format!(
                    "{}:{}:{} {}",
                    file.path,
                    left.line,
                    left.column,
                    left.reason.code()
                )
            })
        })
        .collect();
    assert_eq!(left, described.left, "{name}: left alone");
    let notes: Vec<String> = report
        .files
        .iter()
        .flat_map(|file| {
            file.notes.iter().map(move |note| {
                format!(
                    "{}:{}:{} {}",
                    file.path,
                    note.line,
                    note.column,
                    serde_json::to_value(note.kind).unwrap().as_str().unwrap()
                )
            })
        })
        .collect();
    assert_eq!(notes, described.notes, "{name}: notes");

    let again = set::rewrite(work.path(), &choices, set::SetOptions::default()).unwrap();
    assert!(
        again.files.iter().all(|file| file.outcome.edits.is_empty()),
        "{name}: a second pass edits"
    );
}

#[test]
fn rewrite_cases_match_their_expected_output() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/rewrite");
    let mut names: Vec<_> = fs::read_dir(cases)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert!(names.len() >= 6, "the cases are gone");
    names.iter().for_each(|case| check(case));
}

#[cfg(unix)]
#[test]
fn rewrite_skips_links_and_keeps_permissions() {
    use std::os::unix::fs::PermissionsExt as _;
    let (outside, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let text = "x: ghcr.io/a/b:1.1 # {\"$imagepolicy\": \"ns:n\"}\n";
    fs::write(outside.path().join("real.yaml"), text).unwrap();
    fs::write(inside.path().join("own.yaml"), text).unwrap();
    let long = format!("{}\n{text}", "# long\n".repeat(50_000));
    fs::write(inside.path().join("zz.yaml"), &long).unwrap();
    fs::create_dir(inside.path().join(".git")).unwrap();
    fs::write(inside.path().join(".git/own.yaml"), text).unwrap();
    fs::set_permissions(
        inside.path().join("own.yaml"),
        fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    std::os::unix::fs::symlink(
        outside.path().join("real.yaml"),
        inside.path().join("link.yaml"),
    )
    .unwrap();
    std::os::unix::fs::symlink(outside.path(), inside.path().join("folder")).unwrap();
    let mut choices = Choices::new(true);
    let choice = Choice {
        policy: "ns/n".into(),
        image: "ghcr.io/a/b:1.5".into(),
        digest_reflection: String::new(),
        unpin: false,
        allow_downgrade: false,
    };
    choices.add(choice.decision());
    let dry = set::rewrite(
        inside.path(),
        &choices,
        set::SetOptions {
            write: false,
            keep_bytes: true,
            ..set::SetOptions::default()
        },
    )
    .unwrap();
    assert_eq!(
        fs::read_to_string(inside.path().join("own.yaml")).unwrap(),
        text
    );
    assert_eq!(
        dry.files[0].bytes,
        Some((text.into(), text.replace("1.1", "1.5").into()))
    );
    let report = set::rewrite(inside.path(), &choices, set::SetOptions::default()).unwrap();
    assert_eq!(
        report
            .files
            .iter()
            .map(|file| file.path.as_str())
            .collect::<Vec<_>>(),
        ["own.yaml", "zz.yaml"]
    );
    assert_eq!(
        fs::read_to_string(inside.path().join("zz.yaml")).unwrap(),
        long.replace("1.1", "1.5")
    );
    assert!(report.files.iter().all(|file| file.bytes.is_none()));
    assert_eq!(
        fs::read_to_string(outside.path().join("real.yaml")).unwrap(),
        text
    );
    assert_eq!(
        fs::read_to_string(inside.path().join(".git/own.yaml")).unwrap(),
        text
    );
    let own = inside.path().join("own.yaml");
    assert_eq!(
        fs::read_to_string(&own).unwrap(),
        text.replace("1.1", "1.5")
    );
    assert_eq!(
        fs::metadata(&own).unwrap().permissions().mode() & 0o777,
        0o640
    );
    assert!(
        set::rewrite(
            &inside.path().join("none"),
            &choices,
            set::SetOptions::default()
        )
        .is_err()
    );
}
