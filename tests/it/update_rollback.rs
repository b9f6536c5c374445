//! `tagboat rollback`: restores a folder byte for byte, by one commit that the update pass
//! respects.

use super::{
    support::process::Running,
    update_support::{Act, Fleet, Setup, deployment, env, hours, now, policy, semver},
};
use gix::objs::tree::EntryKind;
use jiff::Timestamp;
use tagboat::{
    io::git::ObjectId,
    service::Outcome,
    update::{CommandCommit, CommandError, EnvironmentState, FileChangeKind, RollbackOutcome},
};

const FILE: &str = "envs/dev/web/a.yaml";

fn app(path: &str) -> String {
    format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: web, namespace: dev}}\nspec:\n  environment: dev\n  path: {path}\n  cluster: c\n---\n"
    )
}

fn fleet() -> Fleet {
    let declared = semver("web", "1.x", "") + &env("dev", "") + &app("envs/dev/web");
    let fleet = Fleet::new(&[
        ("p.yaml", &declared),
        (FILE, &deployment(&["web:1.0.0"])),
        ("envs/dev/other/b.yaml", "kind: X\n"),
    ]);
    fleet.publish("team/web", &["1.0.0", "1.1.0"]);
    fleet
}

fn roll_back(fleet: &Fleet, to: Option<&str>) -> Result<RollbackOutcome, CommandError> {
    let engine = fleet.engine();
    let updater = &engine.updaters[0];
    fleet.runtime.block_on(async {
        let to = match to {
            Some(text) => Some(updater.repo.resolve(text).await?),
            None => None,
        };
        updater
            .roll_back(
                &"dev/web".parse().unwrap(),
                to,
                &CommandCommit::default(),
                now(),
            )
            .await
    })
}

fn run(fleet: &Fleet, arguments: &[&str], exit: Outcome) -> (String, String) {
    let output = fleet
        .tagboat(arguments)
        .assert()
        .code(exit as i32)
        .get_output()
        .clone();
    (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Every entry of a commit: path, mode, object.
fn listed(fleet: &Fleet, revision: &str, below: &str) -> Vec<(String, EntryKind, ObjectId)> {
    let repo = fleet.repo();
    let tree = repo
        .rev_parse_single(revision)
        .unwrap()
        .object()
        .unwrap()
        .peel_to_tree()
        .unwrap();
    let mut recorder = gix::traverse::tree::Recorder::default();
    tree.traverse().breadthfirst(&mut recorder).unwrap();
    let mut all: Vec<_> = recorder
        .records
        .into_iter()
        .filter(|entry| !entry.mode.is_tree())
        .map(|entry| (entry.filepath.to_string(), entry.mode.kind(), entry.oid))
        .filter(|(path, ..)| path.starts_with(below))
        .collect();
    all.sort();
    all
}

/// Commits this tree below `envs/dev/web`, with modes.
fn raw(fleet: &Fleet, entries: &[(&str, EntryKind, &[u8])], gone: &[&str]) {
    let repo = fleet.repo();
    let main = repo.rev_parse_single("main").unwrap().detach();
    let tree = repo.find_commit(main).unwrap().tree_id().unwrap().detach();
    let mut editor = repo.edit_tree(tree).unwrap();
    for (path, kind, bytes) in entries {
        let id = if *kind == EntryKind::Commit {
            main
        } else {
            repo.write_blob(bytes).unwrap().detach()
        };
        editor.upsert(*path, *kind, id).unwrap();
    }
    for path in gone {
        editor.remove(*path).unwrap();
    }
    let mut commit = repo
        .find_commit(main)
        .unwrap()
        .decode()
        .unwrap()
        .to_owned()
        .unwrap();
    (commit.tree, commit.parents, commit.message) = (
        editor.write().unwrap().detach(),
        [main].into_iter().collect(),
        "raw\n".into(),
    );
    let commit = repo.write_object(commit).unwrap().detach();
    fleet.set_main(commit);
}

/// The bot updates, a user rolls back, and the bot holds until a newer version comes.
#[test]
fn rollback_holds_until_a_newer_version() {
    let fleet = fleet();
    assert_eq!(fleet.good_pass(now()).pushed(), 1);
    let (updated, first) = (fleet.log()[1].id.clone(), fleet.log()[0].id.clone());
    let (out, err) = run(&fleet, &["rollback", "dev/web"], Outcome::Done);
    let commit = fleet.log().pop().unwrap();
    let expected = format!(
        "dev/web is back at {} by {} (1 file)\n  restored  {FILE}\nreverted commits:\n  {} dev: web 1.0.0 → 1.1.0 (tagboat)\nheld from now on: dev default/web: 1.1.0, and the versions listed below it\n  lift it with: tagboat release dev default/web\n",
        &first[..10],
        &commit.id[..10],
        &updated[..10]
    );
    assert_eq!((out, err), (expected, String::new()));
    assert_eq!(fleet.text(FILE), deployment(&["web:1.0.0"]));
    assert_eq!(
        commit.subject,
        format!("Roll back dev/web to {}", &first[..10])
    );
    assert!(
        commit
            .message
            .contains(&format!("- {} dev: web 1.0.0 → 1.1.0\n", &updated[..10])),
        "{}",
        commit.message
    );
    assert_eq!(
        listed(&fleet, "main", ""),
        listed(&fleet, &first, ""),
        "nothing else is different"
    );
    // The commands use the machine's clock, and so do the passes after them.
    let later = |n: i64| Timestamp::now() + jiff::SignedDuration::from_hours(n);
    for n in 1..3 {
        let report = fleet.good_pass(later(n));
        assert_eq!(
            (report.pushed(), report.environments[0].state),
            (0, EnvironmentState::UpToDate)
        );
        assert!(
            policy(&report, "dev", "default/web").held[0]
                .starts_with("1.1.0: tagboat went back from 1.1.0 to 1.0.0"),
            "{report:#?}"
        );
    }
    let (holds, _) = run(&fleet, &["holds"], Outcome::Done);
    assert!(
        holds.starts_with("dev default/web: versions up to 1.1.0 — ")
            && holds.contains(&commit.id[..10]),
        "{holds}"
    );
    fleet.publish("team/web", &["1.2.0"]);
    assert_eq!(fleet.good_pass(later(4)).pushed(), 1);
    assert_eq!(fleet.text(FILE), deployment(&["web:1.2.0"]));
    // The rollback can be rolled back, too; the second one undoes the first.
    let done = roll_back(&fleet, None).unwrap();
    assert_eq!(
        (fleet.text(FILE), done.to.as_str()),
        (deployment(&["web:1.0.0"]), commit.id.as_str())
    );
    roll_back(&fleet, None).unwrap();
    assert_eq!(fleet.text(FILE), deployment(&["web:1.2.0"]));
}

/// Contents, modes, links, added and removed files; nothing outside of the folder.
#[test]
fn rollback_restores_a_folder_byte_for_byte() {
    let fleet = fleet();
    let script: &[u8] = b"#!/bin/sh\r\n\xff\x00";
    raw(
        &fleet,
        &[
            ("envs/dev/web/run.sh", EntryKind::BlobExecutable, script),
            ("envs/dev/web/link", EntryKind::Link, b"a.yaml"),
            ("envs/dev/web/sub/module", EntryKind::Commit, b""),
            ("envs/dev/web/deep/er/c.yaml", EntryKind::Blob, b"c: 1\n"),
            ("envs/dev/web/turns", EntryKind::Blob, b"a file\n"),
        ],
        &[],
    );
    let target = fleet.log().pop().unwrap().id;
    let before = listed(&fleet, "main", "envs/dev/web/");
    raw(
        &fleet,
        &[
            ("envs/dev/web/run.sh", EntryKind::Blob, script),
            ("envs/dev/web/new.yaml", EntryKind::Blob, b"n: 1\n"),
            ("envs/dev/web/turns/into", EntryKind::Blob, b"a folder\n"),
            ("envs/dev/other/b.yaml", EntryKind::Blob, b"kind: Y\n"),
            ("envs/dev/web2/z.yaml", EntryKind::Blob, b"kind: Z\n"),
        ],
        &["envs/dev/web/link", "envs/dev/web/deep", "envs/dev/web/sub"],
    );
    let outside: Vec<_> = listed(&fleet, "main", "")
        .into_iter()
        .filter(|(path, ..)| !path.starts_with("envs/dev/web/"))
        .collect();
    fleet.person(&[("README", "x")], "something else");
    let done = roll_back(&fleet, Some(&target[..7])).unwrap();
    assert_eq!(listed(&fleet, "main", "envs/dev/web/"), before);
    let now: Vec<_> = listed(&fleet, "main", "")
        .into_iter()
        .filter(|(path, ..)| !path.starts_with("envs/dev/web/") && path != "README")
        .collect();
    assert_eq!(now, outside);
    let ways: Vec<(&str, FileChangeKind)> = done
        .files
        .iter()
        .map(|file| (file.path.trim_start_matches("envs/dev/web/"), file.change))
        .collect();
    assert_eq!(
        ways,
        [
            ("deep/er/c.yaml", FileChangeKind::Added),
            ("link", FileChangeKind::Added),
            ("new.yaml", FileChangeKind::Deleted),
            ("run.sh", FileChangeKind::Restored),
            ("sub/module", FileChangeKind::Added),
            ("turns", FileChangeKind::Added),
            ("turns/into", FileChangeKind::Deleted),
        ]
    );
    assert_eq!(
        (done.to.as_str(), done.reverted.len(), done.held.len()),
        (target.as_str(), 1, 0)
    );
    // A second rollback to it changes nothing.
    let again = roll_back(&fleet, Some(&target)).unwrap();
    assert_eq!(
        (again.commit, again.files.len(), fleet.log().len()),
        (None, 0, 5)
    );
}

/// Declarations below the folder define the deployment; rolling them back would undo a person's
/// decisions.
#[test]
fn rollback_keeps_declarations_below_the_folder() {
    let own = "envs/dev/web/app.yaml";
    let fleet = Fleet::new(&[
        ("p.yaml", &(semver("web", "1.x", "") + &env("dev", ""))),
        (own, &app("envs/dev/web")),
        (FILE, &deployment(&["web:1.0.0"])),
        ("envs/dev/web/gone.yaml", &env("gone", "")),
    ]);
    let first = fleet.log()[0].id.clone();
    fleet.person(&[(FILE, &deployment(&["web:1.1.0"]))], "up");
    raw(&fleet, &[], &["envs/dev/web/gone.yaml"]);
    let changed = app("envs/dev/web").replace("cluster: c", "cluster: other");
    fleet.person(
        &[(own, &changed), ("envs/dev/web/new.yaml", &env("new", ""))],
        "declarations",
    );
    // The newest commits changed declarations only, so they are not rolled back.
    let done = roll_back(&fleet, None).unwrap();
    assert_eq!((done.to.as_str(), done.files.len()), (first.as_str(), 1));
    assert_eq!(
        done.kept,
        [own, "envs/dev/web/gone.yaml", "envs/dev/web/new.yaml"]
    );
    assert_eq!(
        (fleet.text(FILE), fleet.text(own)),
        (deployment(&["web:1.0.0"]), changed)
    );
    let names: Vec<String> = listed(&fleet, "main", "envs/dev/web/")
        .into_iter()
        .map(|(path, ..)| path)
        .collect();
    assert_eq!(
        names,
        [FILE, own, "envs/dev/web/new.yaml"],
        "no declaration is restored or removed"
    );
    let again = roll_back(&fleet, Some(&first)).unwrap();
    assert_eq!((again.commit, again.kept.len()), (None, 3));
}

#[test]
fn rollback_names_and_keeps_a_shared_base() {
    let fleet = Fleet::new(&[
        ("p.yaml", &(env("dev", "") + &app("envs/dev/web"))),
        (
            "envs/dev/web/kustomization.yaml",
            "resources: [../../../base]\n",
        ),
        ("base/kustomization.yaml", "resources: [a.yaml]\n"),
        ("base/a.yaml", "kind: A\n"),
    ]);
    let first = fleet.log()[0].id.clone();
    fleet.person(&[("base/a.yaml", "kind: B\n")], "base");
    let (out, err) = run(
        &fleet,
        &["rollback", "dev/web", "--to", &first[..8]],
        Outcome::Done,
    );
    assert_eq!(
        out,
        format!(
            "dev/web: nothing in envs/dev/web differs between {} and now; nothing was committed\n",
            &first[..10]
        )
    );
    assert!(err.contains("dev/web also reads base"), "{err}");
    assert_eq!(fleet.log().len(), 2);
    let (_, err) = run(&fleet, &["rollback", "dev/web"], Outcome::BadInput);
    assert!(
        err.contains("no commit of the branch has changed envs/dev/web"),
        "{err}"
    );
    let (out, _) = run(
        &fleet,
        &["rollback", "dev/web", "--to", &first, "-o", "json"],
        Outcome::Done,
    );
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (
            value["outside"][0].as_str(),
            value["commit"].is_null(),
            value["repository"].as_str()
        ),
        (Some("base"), true, Some("fleet"))
    );
}

#[test]
fn rollback_accepts_only_commits_of_the_branch() {
    let fleet = fleet();
    // A commit of no branch, one of another branch, and one before the folder existed.
    let before = fleet.log()[0].id.clone();
    raw(&fleet, &[], &["envs/dev/web"]);
    let without = fleet.log()[1].id.clone();
    fleet.person(&[(FILE, &deployment(&["web:1.1.0"]))], "again");
    for (to, says) in [
        ("zzzz", "is no commit id"),
        ("abc", "is no commit id"),
        ("HEAD~1", "is no commit id"),
        (
            "0000000000000000000000000000000000000000",
            "begins no commit of the branch \"main\"",
        ),
        (without.as_str(), "it has no folder envs/dev/web there"),
    ] {
        let (_, err) = run(
            &fleet,
            &["rollback", "dev/web", "--to", to],
            Outcome::BadInput,
        );
        assert!(err.contains(says), "{to}: {err}");
    }
    let (_, err) = run(&fleet, &["rollback", "dev/wep"], Outcome::BadInput);
    assert!(
        err.contains("there is no Application dev/wep; did you mean dev/web?"),
        "{err}"
    );
    assert_eq!(fleet.log().len(), 3, "nothing was committed");
    // A commit that only the mirror knows, and the branch no longer has, is refused.
    let lost: ObjectId = fleet.log()[2].id.parse().unwrap();
    fleet.set_main(before.parse().unwrap());
    fleet.person(&[(FILE, &deployment(&["web:1.0.5"]))], "another way");
    let error = roll_back(&fleet, Some(&lost.to_string())).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is not in the history of the branch"),
        "{error}"
    );
    assert_eq!(roll_back(&fleet, Some(&before[..6])).unwrap().to, before);
}

/// A merge is one step of the branch; commits of the merged side can be targets, too.
#[test]
fn rollback_treats_a_merge_as_one_step() {
    let fleet = fleet();
    let first = fleet.log()[0].id.clone();
    fleet.merge(&[(FILE, &deployment(&["web:1.1.0"]))], "Merge branch 'up'");
    let merge = fleet.log()[1].id.clone();
    let side = fleet.repo().rev_parse_single("main^2").unwrap().to_string();
    fleet.person(&[(FILE, &deployment(&["web:1.1.0", "db:1"]))], "more");
    let done = roll_back(&fleet, Some(&side)).unwrap();
    assert_eq!(
        (fleet.text(FILE), done.reverted.len()),
        (deployment(&["web:1.1.0"]), 2)
    );
    let done = roll_back(&fleet, Some(&first)).unwrap();
    assert_eq!(fleet.text(FILE), deployment(&["web:1.0.0"]));
    assert!(
        done.reverted.iter().any(|undone| undone.commit == merge),
        "{done:#?}"
    );
    assert_eq!(
        done.held
            .iter()
            .map(|held| (held.environment.as_str(), held.version.as_str()))
            .collect::<Vec<_>>(),
        [("dev", "1.1.0")]
    );
}

/// The folder of an Application may be the whole repository, with declarations in a folder of their
/// own.
#[test]
fn rollback_of_repository_keeps_declarations() {
    let setup = Setup {
        repository: "    policies: policies\n",
        ..Setup::default()
    };
    let declared = semver("web", "1.x", "") + &env("dev", "") + &app(".");
    // Only the folder of declarations declares anything.
    let example = env("example", "");
    let fleet = Fleet::with(
        &[
            ("policies/p.yaml", &declared),
            (FILE, &deployment(&["web:1.0.0"])),
            ("docs/x.yaml", &example),
        ],
        &setup,
    );
    let first = fleet.log()[0].id.clone();
    let wider = declared.replace("1.x", ">=1.0");
    fleet.person(
        &[
            ("policies/p.yaml", &wider),
            (FILE, &deployment(&["web:1.1.0"])),
            ("docs/x.yaml", "x: 1\n"),
            ("new", "n"),
        ],
        "all",
    );
    let done = roll_back(&fleet, None).unwrap();
    assert_eq!(
        (done.to.as_str(), done.kept.as_slice()),
        (first.as_str(), ["policies/p.yaml".to_owned()].as_slice())
    );
    let paths: Vec<&str> = done.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["docs/x.yaml", FILE, "new"]);
    assert_eq!(
        (
            fleet.text("policies/p.yaml"),
            fleet.text(FILE),
            fleet.text("docs/x.yaml")
        ),
        (wider, deployment(&["web:1.0.0"]), example)
    );
    assert!(
        !listed(&fleet, "main", "")
            .iter()
            .any(|(path, ..)| path == "new")
    );
    assert_eq!(done.held.len(), 1);
}

/// Four digits that match two commits are refused.
#[test]
fn rollback_ambiguous_id_prefix_is_refused() {
    let fleet = fleet();
    let repo = fleet.repo();
    let mut commit = repo
        .rev_parse_single("main")
        .unwrap()
        .object()
        .unwrap()
        .into_commit()
        .decode()
        .unwrap()
        .to_owned()
        .unwrap();
    let mut parent = repo.rev_parse_single("main").unwrap().detach();
    let mut seen = std::collections::HashMap::from([(parent.to_string()[..4].to_owned(), parent)]);
    // Two of some hundred IDs share one of 65,536 prefixes, and two of 65,537 always do.
    let (one, other) = loop {
        (commit.parents, commit.message) = ([parent].into_iter().collect(), "more\n".into());
        parent = repo.write_object(&commit).unwrap().detach();
        if let Some(before) = seen.insert(parent.to_string()[..4].to_owned(), parent) {
            break (before, parent);
        }
    };
    fleet.set_main(parent);
    let error = roll_back(&fleet, Some(&one.to_string()[..4])).unwrap_err();
    let both = [one, other].map(|id| id.to_string()[..12].to_owned());
    assert!(
        error.to_string().contains("begins several commits")
            && both.iter().all(|id| error.to_string().contains(id)),
        "{error}"
    );
    assert_eq!(
        roll_back(&fleet, Some(&one.to_string())).unwrap().to,
        one.to_string()
    );
}

#[test]
fn rollback_builds_on_unrelated_concurrent_push() {
    let fleet = fleet();
    fleet.good_pass(now());
    let repository = fleet.repository.clone();
    fleet.git.once(
        "POST /fleet.git/git-receive-pack",
        Act::Before(Box::new(move || {
            repository
                .commit(
                    &[("envs/dev/other/b.yaml", "kind: Z\n")],
                    super::git_support::ANN,
                    1,
                    "in between",
                )
                .unwrap();
        })),
    );
    let done = roll_back(&fleet, None).unwrap();
    assert_eq!(
        (
            fleet.text(FILE),
            fleet.text("envs/dev/other/b.yaml").as_str()
        ),
        (deployment(&["web:1.0.0"]), "kind: Z\n")
    );
    assert_eq!((done.held.len(), fleet.log().len()), (1, 4));
}

#[test]
fn rollback_refuses_concurrent_push_to_its_folder() {
    let fleet = fleet();
    fleet.good_pass(now());
    let (repository, theirs) = (fleet.repository.clone(), deployment(&["web:1.1.0", "db:1"]));
    fleet.git.once(
        "POST /fleet.git/git-receive-pack",
        Act::Before(Box::new(move || {
            repository
                .commit(
                    &[(FILE, theirs.as_str())],
                    super::git_support::ANN,
                    1,
                    "in between",
                )
                .unwrap();
        })),
    );
    let error = roll_back(&fleet, None).unwrap_err();
    assert!(matches!(error, CommandError::Changed { .. }), "{error}");
    assert_eq!(fleet.subjects().pop().unwrap(), "in between");
}

/// Starting again after a lost response would undo the rollback itself.
#[test]
fn rollback_with_lost_response_is_not_repeated() {
    let fleet = fleet();
    fleet.good_pass(now());
    fleet
        .git
        .once("POST /fleet.git/git-receive-pack", Act::LoseAnswer);
    let done = roll_back(&fleet, None).unwrap();
    assert_eq!(
        (fleet.log().len(), done.commit),
        (3, Some(fleet.log()[2].id.clone()))
    );
    assert_eq!(
        (fleet.text(FILE), done.held.len()),
        (deployment(&["web:1.0.0"]), 1)
    );
    // A push that never arrived is repeated.
    fleet.person(&[(FILE, &deployment(&["web:1.1.0"]))], "up");
    fleet.git.once("POST /fleet.git/git-receive-pack", Act::Die);
    roll_back(&fleet, None).unwrap();
    assert_eq!(
        (fleet.log().len(), fleet.text(FILE)),
        (5, deployment(&["web:1.0.0"]))
    );
}

/// By the socket of a daemon, with the same result as without one.
#[test]
fn rollback_by_daemon_writes_the_same() {
    let fleet = fleet();
    fleet.good_pass(now());
    let mut command = fleet.tagboat_std(&["run", "--log", "error"]);
    let child = Running::start(
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null()),
    );
    let socket = fleet.dir.path().join("store/tagboat.sock");
    super::update_support::wait("the socket", || {
        std::os::unix::net::UnixStream::connect(&socket).ok()
    });
    let (out, _) = run(&fleet, &["rollback", "dev/web"], Outcome::Done);
    assert!(
        out.starts_with("dev/web is back at ")
            && out.contains(
                "held from now on: dev default/web: 1.1.0, and the versions listed below it"
            ),
        "{out}"
    );
    let (out, _) = run(&fleet, &["suspend", "app/dev/web"], Outcome::Done);
    assert!(
        out.starts_with("Application dev/web is suspended by "),
        "{out}"
    );
    let (_, err) = run(&fleet, &["suspend", "app/dev/wep"], Outcome::BadInput);
    assert!(err.contains("did you mean dev/web?"), "{err}");
    assert_eq!(
        run(&fleet, &["suspend", "app/dev/web"], Outcome::Done).0,
        "Application dev/web is suspended already (p.yaml:17:12)\n"
    );
    let (out, err) = run(
        &fleet,
        &["rollback", "dev/web", "--to", &fleet.log()[1].id],
        Outcome::Done,
    );
    assert!(
        out.starts_with("dev/web is back at ") && err.contains("is suspended: nothing is applied"),
        "{out}{err}"
    );
    drop(child);
    assert_eq!(fleet.text(FILE), deployment(&["web:1.1.0"]));
    assert!(fleet.pass(hours(1)).failures.is_empty());
}
