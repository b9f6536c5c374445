//! Commands that need nothing but files.

use super::cli_support::{Case, cases, tree};
use serde_json::Value;
use std::fs;

#[test]
fn commands_match_their_transcripts() {
    let mut seen = 0;
    let mut folders: Vec<_> = fs::read_dir(cases())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    for folder in folders {
        let Ok(commands) = fs::read_to_string(folder.join("commands")) else {
            continue;
        };
        let mut case = Case::new(folder.file_name().unwrap().to_str().unwrap());
        for line in commands
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            case.run(line);
        }
        case.finish();
        seen += 1;
    }
    assert!(seen >= 8, "only {seen} cases in {}", cases().display());
}

const MARKED: &str = "x: ghcr.io/a/b:1.1.0 # {\"$imagepolicy\": \"ns:n\"}\n";
const POLICY: &str = "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {name: n, namespace: ns}\nspec:\n  image: ghcr.io/a/b\n  policy: {semver: {range: 1.x}}\n";

#[test]
fn set_does_not_follow_symbolic_links() {
    let mut case = Case::new("links");
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("real.yaml"), MARKED).unwrap();
    case.file("repo/own.yaml", MARKED);
    std::os::unix::fs::symlink(outside.path(), case.work().join("repo/folder")).unwrap();
    std::os::unix::fs::symlink(
        outside.path().join("real.yaml"),
        case.work().join("repo/link.yaml"),
    )
    .unwrap();
    std::os::unix::fs::symlink("repo", case.work().join("way")).unwrap();
    case.run("check repo");
    case.run("init repo");
    case.run("set repo ns:n=ghcr.io/a/b:1.2.0");
    // The folder itself may be a link.
    case.run("set way ns:n=ghcr.io/a/b:1.3.0");
    case.run("check way");
    assert_eq!(
        fs::read_to_string(outside.path().join("real.yaml")).unwrap(),
        MARKED
    );
    assert_eq!(
        fs::read_to_string(case.work().join("repo/own.yaml")).unwrap(),
        MARKED.replace("1.1.0", "1.3.0")
    );
    assert!(case.work().join("repo/link.yaml").is_symlink());
    case.finish();
}

#[test]
fn set_unwritable_file_does_not_stop_others() {
    let mut case = Case::new("partly");
    // A name that fits the limit, while the name of a temporary file beside it does not.
    let long = format!("{}.yaml", "n".repeat(245));
    case.file(&long, MARKED);
    case.file("own.yaml", MARKED);
    case.run("set . ns:n=ghcr.io/a/b:1.2.0");
    case.run("set . ns:n=ghcr.io/a/b:1.2.0 -o json");
    let after = tree(&case.work());
    assert_eq!(
        String::from_utf8_lossy(&after["own.yaml"]),
        MARKED.replace("1.1.0", "1.2.0")
    );
    assert_eq!(String::from_utf8_lossy(&after[&long]), MARKED);
    assert_eq!(after.len(), 2, "nothing is left beside them");
    case.finish();
}

#[test]
fn check_reports_on_part_of_a_repository() {
    let mut case = Case::new("check_part");
    case.file("repo/.git/HEAD", "ref: refs/heads/main\n");
    case.file("repo/.gitignore", "build/\n");
    case.file("repo/build/x.yaml", "kind: {\n# $imagepolicy\n");
    case.file("repo/policies/n.yaml", POLICY);
    case.file(
        "repo/policies/dev.yaml",
        "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['envs/dev/**'], update: {via: commit}}\n",
    );
    case.file("repo/envs/dev/a.yaml", MARKED);
    case.file(
        "repo/envs/dev/b.yaml",
        "x: 1 # {\"$imagepolicy\": \"ns:nn\"}\n",
    );
    assert_eq!(case.run("check repo/policies").exit, 0);
    assert_eq!(
        case.run("check repo/envs/dev/a.yaml repo/policies/n.yaml")
            .exit,
        0
    );
    assert_eq!(case.run("check repo/envs").exit, 1);
    assert_eq!(case.run("check repo -o json").exit, 1);
    case.finish();
}

#[test]
fn set_reads_twenty_megabytes() {
    let case = Case::new("large");
    let line = "- {name: something, value: \"of no interest at all, and long enough to be cheap to parse\"}\n";
    let text = format!("{}- {MARKED}", line.repeat((20 << 20) / line.len()));
    case.file("large.yaml", &text);
    case.file("policies/n.yaml", POLICY);
    let mut case = case;
    assert_eq!(case.run("set . ns:n=ghcr.io/a/b:1.2.0").exit, 0);
    assert!(
        fs::read_to_string(case.work().join("large.yaml")).unwrap()
            == text.replace("1.1.0", "1.2.0")
    );
    // Larger than any declaration may be: reported, and the other files are still read.
    case.file(
        "large-policy.yaml",
        format!("{text}# tagboat.dev/\n# {}\n", "x".repeat(1 << 20)),
    );
    case.run("check");
    case.finish();
}

/// Drafts of `init` pass `check` for any repository.
#[test]
fn init_drafts_pass_check() {
    for (number, files) in [
        vec![("a.yaml", "nginx:1.25.3")],
        vec![
            ("envs/dev/a.yaml", "ghcr.io/a/b:1.2.3"),
            ("envs/prod/a.yaml", "ghcr.io/a/b:1.2.0"),
            ("base/x.yaml", "redis:7"),
        ],
        vec![
            ("apps/x/overlays/on/a.yaml", "ghcr.io/a/null:latest"),
            (
                "apps/y/overlays/on/a.yaml",
                "ghcr.io/b/null:main-0a1b2c3-1700000000",
            ),
        ],
        vec![
            (
                "clusters/Eu [West]/a.yaml",
                "localhost:5000/team/a__b:1.2.3-rc.1",
            ),
            ("clusters/it's/a.yaml", "quay.io/1/2:3456"),
        ],
        vec![
            (
                "policies/web.yaml",
                "ghcr.io/a/web:RELEASE.2024-01-01T00-00-00Z",
            ),
            ("x.yaml", "ghcr.io/c/web:sha-0a1b2c3"),
        ],
        vec![
            ("x.yaml", "[::1]:5000/app:1.0.0"),
            ("environments/prod/y.yaml", "nginx:1.27-alpine"),
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let mut case = Case::new("no-case-of-this-name");
        for (path, image) in &files {
            case.file(
                path,
                format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\nspec:\n  containers: [{{name: x, image: '{image}'}}]\n"),
            );
        }
        let drafted = case.run("init");
        let written = case.run("init --write -o json");
        assert_eq!(
            (drafted.exit, written.exit),
            (0, 0),
            "{number}: {}{}",
            drafted.err,
            written.err
        );
        let answer: Value = serde_json::from_str(&written.out).unwrap();
        assert!(
            answer["files"].as_array().unwrap().len() >= 3,
            "{number}: {answer:#}"
        );
        let checked = case.run("check");
        // A policy file of the repository may block a draft, which is reported.
        if number == 4 {
            assert!(
                written.out.contains("\"state\": \"exists\""),
                "{}",
                written.out
            );
        } else {
            assert_eq!(
                (checked.exit, checked.out.as_str()),
                (0, ""),
                "{number}: {}",
                drafted.out
            );
        }
    }
}

/// Settings of a clone go to its remote, without the secret in its URL.
#[test]
fn init_drafts_forge_of_origin() {
    for (url, expected) in [
        (
            "https://bot:secret@github.com/acme/fleet.git",
            "  - url: https://github.com/acme/fleet.git\n    branch: trunk\n    policies: policies\n    \
             # TODO: set GITHUB_TOKEN, a secret of the environment, or write {file: PATH}\n    \
             forge: {kind: github, token: {env: GITHUB_TOKEN}}   # for pull requests\n    \
             token: {env: GITHUB_TOKEN}   # for pushes\n",
        ),
        (
            "git@gitlab.com:acme/fleet.git",
            "  - url: 'git@gitlab.com:acme/fleet.git'\n    branch: trunk\n    policies: policies\n    \
             # TODO: set GITLAB_TOKEN, a secret of the environment, or write {file: PATH}\n    \
             forge: {kind: gitlab, token: {env: GITLAB_TOKEN}}   # for pull requests\n",
        ),
        (
            "https://code.example.com/acme/fleet",
            "  - url: https://code.example.com/acme/fleet\n    branch: trunk\n    policies: policies\n    \
             # TODO: the forge that opens pull requests: github, gitlab or gitea\n    \
             # forge: {kind: github, token: {env: FORGE_TOKEN}}\n",
        ),
    ] {
        let mut case = Case::new("no-case-of-this-name");
        case.file(".git/HEAD", "ref: refs/heads/trunk\n");
        case.file(".git/objects/info/x", "");
        case.file(".git/refs/heads/x", "");
        case.file(
            ".git/config",
            format!("[core]\n\trepositoryformatversion = 0\n[remote \"origin\"]\n\turl = {url}\n"),
        );
        case.file("envs/prod/a.yaml", MARKED.split(" #").next().unwrap());
        case.file(
            "envs/prod/b.yaml",
            "kind: Pod\napiVersion: v1\nspec:\n  containers: [{image: ghcr.io/a/b:1.1.0}]\n",
        );
        let written = case.run("init --write");
        assert_eq!(written.exit, 0, "{}", written.err);
        let read = |path: &str| fs::read_to_string(case.work().join(path)).unwrap();
        let settings = read("tagboat.yaml");
        assert!(settings.contains(expected), "{settings}");
        assert!(!settings.contains("secret@"), "{settings}");
        assert!(read("policies/environments.yaml").contains("    via: pullRequest\n"));
        let checked = case.run("check");
        let unmarked = "envs/prod/a.yaml:1:4: warning: ghcr.io/a/b:1.1.0 is named here and not updated: write a marker to manage it\n";
        assert_eq!(
            (checked.exit, checked.out.as_str()),
            (0, unmarked),
            "{}",
            checked.err
        );
    }
}

#[test]
fn completions_and_schemas_are_printed() {
    let mut case = Case::new("no-case-of-this-name");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = case.run(&format!("completions {shell}"));
        assert!(
            output.exit == 0 && output.out.contains("TAGBOAT_COMPLETE"),
            "{shell}: {}",
            output.err
        );
    }
    let mut titles = Vec::new();
    for kind in [
        "",
        "ImagePolicy",
        "Environment",
        "Application",
        "tagboat.yaml",
    ] {
        let output = case.run(&format!("schema {kind}"));
        let schema: Value = serde_json::from_str(&output.out)
            .unwrap_or_else(|error| panic!("{kind}: {error}: {}", output.err));
        assert!(schema["$schema"].is_string(), "{kind}");
        titles.push(output.out);
    }
    titles.dedup();
    assert_eq!(titles.len(), 5);
}

#[test]
fn man_writes_a_page_for_each_command() {
    let mut case = Case::new("no-case-of-this-name");
    let page = case.run("man");
    assert!(page.out.contains(".TH tagboat 1"), "{}", page.out);
    assert_eq!(case.run("man --dir share/man1").exit, 0);
    let scan = fs::read_to_string(case.work().join("share/man1/tagboat-scan.1")).unwrap();
    assert!(scan.contains("Exit codes"), "{scan}");
    case.file("file", "");
    assert_eq!(case.run("man --dir file/man1").exit, 2);
}

#[test]
fn set_that_writes_nothing_exits_with_2() {
    let mut case = Case::new("no-case-of-this-name");
    // The name of a temporary file beside it would be too long.
    case.file(&format!("{}.yaml", "n".repeat(245)), MARKED);
    assert_eq!(case.run("set . ns:n=ghcr.io/a/b:1.2.0").exit, 2);
    case.file("own.yaml", MARKED);
    assert_eq!(case.run("set . ns:n=ghcr.io/a/b:1.2.0").exit, 4);
}

#[test]
fn hostile_file_names_are_escaped() {
    let mut case = Case::new("hostile_names");
    let pod = "kind: Pod\napiVersion: v1\nspec:\n  containers: [{image: ghcr.io/a/b:1.1.0}]\n";
    case.file("envs/de\nv: '#\u{1b}[31m/a\r.yaml", pod);
    case.file(
        "envs/prod/x\u{1b}]0;title\u{7}.yaml",
        format!("{pod}  y: 1 # {{\"$imagepolicy\": \"a b\"}}\n"),
    );
    case.run("init");
    case.run("init --write");
    case.run("check");
    case.run("set . b=ghcr.io/a/b:1.2.0 --diff");
    case.run("set . b=ghcr.io/a/b:1.2.0 -f policies");
    case.run("set . b=ghcr.io/a/b:1.2.0 -f policies -o json");
    case.finish();
}
