//! Mirror, draft, push and history against the sandbox server.

use super::git_support::{ANN, NOW, Sandbox, bot, draft, edit, mirror, text};
use std::fs;
use tagboat::{
    core::{
        error::{Classify, ErrorKind},
        secret::Secret,
    },
    io::git::{
        CommitMeta, EntryKind, FileDelta, GitError, Mirror, PushOutcome, RefUpdate, Remote,
        RemoteAccess, RemoteCredentials,
    },
    sandbox::git::BareRepository,
};

const FILES: &[(&str, &str)] = &[
    ("apps/db.yaml", "db: 1\n"),
    ("apps/web/web.yaml", "web: 1\n"),
    ("readme", "hello\n"),
];

#[test]
fn fetch_reports_if_the_branch_moved() {
    let sandbox = Sandbox::new(FILES);
    let mirror = sandbox.mirror("m");
    assert_eq!(mirror.head(), None);
    let first = mirror.fetch().unwrap();
    assert!(first.changed && mirror.rebuilt().is_none());
    assert!(!mirror.fetch().unwrap().changed);
    let commit = sandbox.person(&[("readme", "hello again\n")], "more");
    let second = mirror.fetch().unwrap();
    assert_eq!((second.commit, second.changed), (commit, true));
    assert_eq!(text(&mirror, first.commit, "readme").unwrap(), "hello\n");
    assert_eq!(
        text(&mirror, second.commit, "readme").unwrap(),
        "hello again\n"
    );
    assert!(mirror.contains(second.commit, first.commit).unwrap());
    assert!(!mirror.contains(first.commit, second.commit).unwrap());

    let revision = mirror.at(second.commit).unwrap();
    let paths = |below| {
        revision
            .list(below)
            .unwrap()
            .into_iter()
            .map(|entry| entry.path)
            .collect::<Vec<_>>()
    };
    assert_eq!(paths(""), ["apps/db.yaml", "apps/web/web.yaml", "readme"]);
    assert_eq!(paths("apps/web"), ["apps/web/web.yaml"]);
    assert_eq!(paths("nothing"), Vec::<String>::new());
    assert_eq!(
        revision.find("apps").unwrap().unwrap().kind,
        EntryKind::Tree
    );
    assert_eq!(revision.find("readme/below").unwrap(), None);
}

#[test]
fn fetch_follows_a_force_push() {
    let sandbox = Sandbox::new(FILES);
    let mirror = sandbox.mirror("m");
    let first = mirror.fetch().unwrap();
    let gone = sandbox.person(&[("readme", "gone\n")], "gone");
    assert_eq!(mirror.fetch().unwrap().commit, gone);
    let reference = "refs/heads/main".to_owned();
    let back = RefUpdate {
        reference,
        old: Some(gone),
        new: Some(first.commit),
    };
    assert_eq!(
        mirror.push_references(None, &[back]).unwrap(),
        PushOutcome::Done
    );
    let other = sandbox.person(&[("readme", "other\n")], "other");
    let head = mirror.fetch().unwrap();
    assert_eq!((head.commit, head.changed), (other, true));
    assert!(!mirror.contains(other, gone).unwrap());
}

#[test]
fn fetch_many_packs_are_compacted() {
    let sandbox = Sandbox::new(FILES);
    let mirror = sandbox.mirror("m");
    mirror.fetch().unwrap();
    // gix opens a repository with room for 32 packs; each fetch adds one.
    for n in 0..40 {
        let commit = sandbox.person(&[("readme", &format!("{n}\n"))], "more");
        assert_eq!(mirror.fetch().unwrap().commit, commit);
        assert_eq!(text(&mirror, commit, "readme").unwrap(), format!("{n}\n"));
    }
    assert!(!mirror.compact().unwrap());
    for n in 0..300 {
        fs::write(
            mirror
                .dir()
                .join(format!("objects/pack/pack-{n:040x}.pack")),
            "",
        )
        .unwrap();
    }
    assert!(mirror.compact().unwrap());
    let packs = fs::read_dir(mirror.dir().join("objects/pack"))
        .unwrap()
        .count();
    assert!(packs <= 4, "{packs} files of packs after cloning again");
    let head = mirror.head().unwrap();
    assert_eq!(text(&mirror, head, "readme").unwrap(), "39\n");
}

#[test]
fn push_changes_only_the_edited_files() {
    let sandbox = Sandbox::new(FILES);
    let mirror = sandbox.mirror("m");
    let head = mirror.fetch().unwrap();
    let edits = [
        edit("apps/web/web.yaml", "web: 2\n"),
        edit("new/folder/x", "x\n"),
        edit("readme", "hello\n"),
    ];
    let made = draft(&mirror, head, &edits, "dev: web 2\n\nTagboat-Update: dev\n").unwrap();
    assert_eq!(mirror.push(&made).unwrap(), PushOutcome::Done);
    let after = mirror.fetch().unwrap();
    assert_eq!(after.commit, made.commit);
    assert_eq!(sandbox.repository.head().unwrap(), Some(made.commit));
    assert_eq!(text(&mirror, after.commit, "new/folder/x").unwrap(), "x\n");

    let mut history = mirror.history(after.commit, 0, 10);
    let newest = history.next().unwrap().unwrap();
    assert_eq!(
        (
            newest.author.as_str(),
            newest.subject.as_str(),
            newest.update,
            newest.seconds
        ),
        ("Bot", "dev: web 2", true, NOW + 120)
    );
    let changes = history.changes(&newest).unwrap();
    assert_eq!(
        changes.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(),
        ["apps/web/web.yaml", "new/folder/x"]
    );
    assert!(
        matches!(
            changes[0],
            FileDelta {
                old: Some(_),
                new: Some(_),
                ..
            }
        ) && changes[1].old.is_none()
    );
    let first = history.next().unwrap().unwrap();
    assert_eq!(
        (
            first.update,
            first.parent,
            history.changes(&first).unwrap().len()
        ),
        (false, None, 3)
    );
    assert!(history.next().is_none());

    // The same edits again are nothing to commit.
    assert!(draft(&mirror, after, &edits, "again").is_none());
}

#[test]
fn history_ends_at_the_given_commit() {
    let sandbox = Sandbox::new(FILES);
    let mirror = sandbox.mirror("m");
    for n in 0..12 {
        sandbox
            .repository
            .commit(
                &[("readme", &n.to_string())],
                ANN,
                NOW + n * 100,
                &format!("c{n}"),
            )
            .unwrap();
    }
    let head = mirror.fetch().unwrap().commit;
    let subjects = |since, limit| {
        mirror
            .history(head, since, limit)
            .map(|c| c.unwrap().subject)
            .collect::<Vec<_>>()
    };
    assert_eq!(subjects(NOW + 1000, 100), ["c11", "c10"]);
    assert_eq!(subjects(0, 3), ["c11", "c10", "c9"]);
    assert_eq!(subjects(0, 100).len(), 13);
}

#[test]
fn push_refuses_to_write_special_files() {
    let sandbox = Sandbox::new(FILES);
    let repo = gix::open(sandbox.repository.dir()).unwrap();
    let head = sandbox.repository.head().unwrap().unwrap();
    let mut editor = repo
        .edit_tree(repo.find_commit(head).unwrap().tree_id().unwrap())
        .unwrap();
    for (path, kind, bytes) in [
        ("link", EntryKind::Link, "readme"),
        ("run", EntryKind::BlobExecutable, "#!/bin/sh\n"),
    ] {
        editor
            .upsert(path, kind, repo.write_blob(bytes).unwrap())
            .unwrap();
    }
    editor.upsert("module", EntryKind::Commit, head).unwrap();
    let tree = editor.write().unwrap();
    let who = gix::actor::SignatureRef {
        name: "Ann".into(),
        email: "a@b.c".into(),
        time: "1790000000 +0200",
    };
    repo.commit_as(who, who, "refs/heads/main", "odd", tree, [head])
        .unwrap();

    let mirror = sandbox.mirror("m");
    let head = mirror.fetch().unwrap();
    let bot = bot();
    let message = CommitMeta {
        author: &bot,
        committer: &bot,
        seconds: NOW,
        text: "x",
        key: None,
    };
    for (edits, why) in [
        (vec![edit("link", "x")], "symbolic link"),
        (vec![edit("link/below", "x")], "no folder"),
        (vec![edit("module", "x")], "submodule"),
        (vec![edit("apps", "x")], "folder"),
        (vec![edit("readme/below", "x")], "no folder"),
        (vec![edit("readme", "x"), edit("readme", "y")], "twice"),
        (vec![edit("a", "x"), edit("a/b", "y")], "below a file"),
    ] {
        let error = mirror.draft(head.commit, &edits, &message).unwrap_err();
        assert!(
            error.to_string().contains(why) && error.kind() == ErrorKind::Config,
            "{error}"
        );
    }
    for text in ["", "  \n", "a\0b"] {
        assert!(
            mirror
                .draft(
                    head.commit,
                    &[edit("a", "x")],
                    &CommitMeta {
                        text,
                        ..message.clone()
                    }
                )
                .is_err()
        );
    }
    let made = draft(&mirror, head, &[edit("run", "#!/bin/bash\n")], "run").unwrap();
    assert_eq!(mirror.push(&made).unwrap(), PushOutcome::Done);
    let revision_head = mirror.fetch().unwrap().commit;
    let revision = mirror.at(revision_head).unwrap();
    assert_eq!(
        revision.find("run").unwrap().unwrap().kind,
        EntryKind::BlobExecutable
    );
    assert_eq!(
        revision.find("link").unwrap().unwrap().kind,
        EntryKind::Link
    );
    assert_eq!(
        revision.find("module").unwrap().unwrap().kind,
        EntryKind::Commit
    );
    assert_eq!(revision.read("module").unwrap(), None);
}

#[test]
fn ref_update_needs_the_expected_old_value() {
    let sandbox = Sandbox::new(FILES);
    let mirror = sandbox.mirror("m");
    let head = mirror.fetch().unwrap();
    let made = draft(&mirror, head, &[edit("readme", "branch\n")], "branch").unwrap();
    let update = |name: &str, old, new| RefUpdate {
        reference: format!("refs/heads/{name}"),
        old,
        new,
    };
    let create = [
        update("bot/a", None, Some(made.commit)),
        update("bot/b", None, Some(made.commit)),
    ];
    assert_eq!(
        mirror.push_references(Some(&made), &create).unwrap(),
        PushOutcome::Done
    );
    let PushOutcome::Rejected(again) = mirror.push_references(Some(&made), &create).unwrap() else {
        panic!("created twice")
    };
    assert_eq!((again.len(), again[0].kind), (2, ErrorKind::Conflict));
    // All or none: the first of these could succeed alone.
    let mixed = [
        update("bot/a", Some(made.commit), None),
        update("bot/b", Some(head.commit), None),
    ];
    assert!(matches!(
        mirror.push_references(None, &mixed).unwrap(),
        PushOutcome::Rejected(_)
    ));
    let delete = [
        update("bot/a", Some(made.commit), None),
        update("bot/b", Some(made.commit), None),
    ];
    assert_eq!(
        mirror.push_references(None, &delete).unwrap(),
        PushOutcome::Done
    );
    let head = RefUpdate {
        reference: "refs/heads/main".into(),
        old: Some(head.commit),
        new: None,
    };
    let PushOutcome::Rejected(refused) = mirror.push_references(None, &[head]).unwrap() else {
        panic!("the branch was deleted")
    };
    assert_eq!(refused[0].kind, ErrorKind::Config);
    assert!(
        refused[0].to_string().contains("prohibited") && refused[0].hint().is_some(),
        "{}",
        refused[0]
    );
}

#[test]
fn concurrent_pushes_lose_nothing() {
    let sandbox = Sandbox::new(FILES);
    const EACH: usize = 8;
    std::thread::scope(|scope| {
        for name in ["one", "two"] {
            let mirror = sandbox.mirror(name);
            scope.spawn(move || {
                for n in 0..EACH {
                    let mut tries = 0;
                    loop {
                        let head = mirror.fetch().unwrap();
                        let made = draft(
                            &mirror,
                            head,
                            &[edit(&format!("{name}/{n}"), "x\n")],
                            &format!("{name} {n}"),
                        )
                        .unwrap();
                        match mirror.push(&made).unwrap() {
                            PushOutcome::Done => break,
                            PushOutcome::Rejected(refusals) => {
                                assert_eq!(refusals[0].kind, ErrorKind::Conflict, "{}", refusals[0])
                            }
                        }
                        tries += 1;
                        assert!(tries < 200, "never got through");
                    }
                }
            });
        }
        scope.spawn(|| {
            for n in 0..EACH {
                sandbox.person(&[(&format!("ann/{n}"), "x\n")], &format!("ann {n}"));
            }
        });
    });
    let mirror = sandbox.mirror("judge");
    let head = mirror.fetch().unwrap().commit;
    let mut subjects: Vec<_> = mirror
        .history(head, 0, 1000)
        .map(|commit| commit.unwrap().subject)
        .collect();
    assert_eq!(
        subjects.len(),
        3 * EACH + 1,
        "one commit each, and the first"
    );
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len(), 3 * EACH + 1);
    assert_eq!(
        mirror.at(head).unwrap().list("").unwrap().len(),
        FILES.len() + 3 * EACH
    );
}

#[test]
fn kill_before_push_makes_the_same_commit() {
    let sandbox = Sandbox::new(FILES);
    let first = {
        let mirror = sandbox.mirror("m");
        let head = mirror.fetch().unwrap();
        draft(&mirror, head, &[edit("readme", "x\n")], "x")
            .unwrap()
            .commit
    };
    let mirror = sandbox.mirror("m");
    assert_eq!(mirror.rebuilt(), None);
    let head = mirror.fetch().unwrap();
    assert!(!head.changed);
    let made = draft(&mirror, head, &[edit("readme", "x\n")], "x").unwrap();
    assert_eq!(made.commit, first, "a function of its input");
    assert_eq!(mirror.push(&made).unwrap(), PushOutcome::Done);
}

#[test]
fn mirror_broken_is_cloned_again_with_warning() {
    let sandbox = Sandbox::new(FILES);
    let dir = sandbox.dir.path().join("m");
    type Break = fn(&std::path::Path);
    let breaks: [(&str, Break); 5] = [
        ("objects are gone", |dir| {
            fs::remove_dir_all(dir.join("objects/pack")).unwrap()
        }),
        ("a pack is cut off", |dir| {
            for file in fs::read_dir(dir.join("objects/pack")).unwrap().flatten() {
                let path = file.path();
                fs::remove_file(&path).unwrap();
                fs::write(&path, b"PACK").unwrap();
            }
        }),
        ("the config is nonsense", |dir| {
            fs::write(dir.join("config"), "[[[").unwrap()
        }),
        ("there is a file instead", |dir| {
            fs::remove_dir_all(dir).unwrap();
            fs::write(dir, "x").unwrap();
        }),
        ("HEAD is gone", |dir| {
            fs::remove_file(dir.join("HEAD")).unwrap()
        }),
    ];
    let head = sandbox.mirror("m").fetch().unwrap().commit;
    for (what, damage) in breaks {
        damage(&dir);
        let mirror = sandbox.mirror("m");
        assert!(mirror.rebuilt().is_some(), "{what}");
        assert!(mirror.fetch().unwrap().changed, "{what}");
        assert_eq!(text(&mirror, head, "readme").unwrap(), "hello\n", "{what}");
    }
    // Remains of a killed fetch are removed; the mirror stays.
    sandbox.person(&[("readme", "next\n")], "next");
    fs::write(dir.join("refs/remotes/origin/main.lock"), "").unwrap();
    let mirror = sandbox.mirror("m");
    assert_eq!(mirror.rebuilt(), None);
    assert!(mirror.fetch().unwrap().changed);
}

#[test]
fn mirror_is_locked_by_one_process() {
    let sandbox = Sandbox::new(FILES);
    let mirror = sandbox.mirror("m");
    let remote =
        || Remote::new(&sandbox.server.url(), Some("main"), RemoteAccess::default()).unwrap();
    let error = Mirror::open(mirror.dir(), remote()).unwrap_err();
    assert!(matches!(error, GitError::InUse { .. }), "{error}");
    // A child process that is just starting holds the lock a moment longer.
    let dir = mirror.dir().to_owned();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            drop(mirror);
        });
        Mirror::open(&dir, remote()).unwrap();
    });
}

#[test]
fn credentials_are_required_and_never_shown() {
    let password = Secret::new("s3cret");
    let sandbox = Sandbox::with_account(FILES, Some(("bot", &password)));
    let basic = |secret: &str| RemoteCredentials::Basic {
        username: "bot".into(),
        secret: Secret::new(secret),
    };
    let with = |name: &str, credentials| {
        mirror(
            &sandbox.dir.path().join(name),
            &sandbox.server.url(),
            RemoteAccess {
                credentials,
                ..RemoteAccess::default()
            },
        )
    };
    for (name, credentials, why) in [
        ("none", RemoteCredentials::None, "none are given"),
        ("wrong", basic("wr0ng"), "not accepted"),
    ] {
        let error = with(name, credentials).fetch().unwrap_err();
        let all = format!("{error} {error:?} {:?}", error.hint());
        assert!(
            matches!(error, GitError::Denied { .. }) && all.contains(why),
            "{all}"
        );
        assert!(
            !all.contains("wr0ng") && all.contains(&sandbox.server.url()),
            "{all}"
        );
    }
    let mirror = with("right", basic("s3cret"));
    let head = mirror.fetch().unwrap();
    let made = draft(&mirror, head, &[edit("readme", "x\n")], "x").unwrap();
    assert_eq!(mirror.push(&made).unwrap(), PushOutcome::Done);
    assert!(!format!("{mirror:?}").contains("s3cret"));
    for file in ["config", "HEAD", "packed-refs"] {
        let text = fs::read_to_string(mirror.dir().join(file)).unwrap_or_default();
        assert!(!text.contains("s3cret"), "{file}");
    }
}

#[test]
fn fetch_missing_branch_is_named() {
    let sandbox = Sandbox::new(FILES);
    let remote = Remote::new(
        &sandbox.server.url(),
        Some("release"),
        RemoteAccess::default(),
    )
    .unwrap();
    let error = Mirror::open(&sandbox.dir.path().join("m"), remote)
        .unwrap()
        .fetch()
        .unwrap_err();
    assert!(
        matches!(&error, GitError::NoBranch { branch, .. } if branch == "release"),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        BareRepository::create(sandbox.repository.dir(), FILES, ANN, NOW, "again").is_err(),
        "a folder that is not empty"
    );
}

/// Without a branch in the settings, that of the remote's HEAD is read.
#[test]
fn fetch_without_a_branch_takes_that_of_head() {
    let sandbox = Sandbox::new(FILES);
    let dir = sandbox.repository.dir();
    let main = fs::read(dir.join("refs/heads/main")).unwrap();
    fs::write(dir.join("refs/heads/trunk"), main).unwrap();
    fs::write(dir.join("HEAD"), "ref: refs/heads/trunk\n").unwrap();
    let open = || {
        let remote = Remote::new(&sandbox.server.url(), None, RemoteAccess::default()).unwrap();
        Mirror::open(&sandbox.dir.path().join("m"), remote).unwrap()
    };
    let mirror = open();
    assert_eq!(mirror.remote().branch(), "HEAD");
    assert!(mirror.fetch().unwrap().changed);
    assert_eq!(mirror.remote().branch(), "trunk");
    assert!(!mirror.fetch().unwrap().changed);
    drop(mirror);
    let mirror = open();
    assert!(mirror.head().is_some(), "what was fetched before counts");
    assert!(!mirror.fetch().unwrap().changed);
}

#[test]
fn mirror_unfinished_clone_is_no_damage() {
    let sandbox = Sandbox::new(FILES);
    drop(sandbox.mirror("m"));
    let dir = sandbox.dir.path().join("m");
    fs::remove_file(dir.join("HEAD")).unwrap();
    let mirror = sandbox.mirror("m");
    assert_eq!(mirror.rebuilt(), None);
    mirror.fetch().unwrap();
}
