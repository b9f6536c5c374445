//! The git module against real git and OpenSSH, and the sandbox server against real git.

use super::git_support::{NOW, Sandbox, bot, draft, edit, mirror, provider, text};
use crate::servers::git::{HttpBackend, Program, Sshd, command, git, seed};
use std::{os::unix::fs::PermissionsExt, path::Path, process::Command};
use tagboat::{
    core::{
        error::{Classify, ErrorKind},
        secret::Secret,
    },
    io::git::{
        Checkout, CommitKeys, CommitMeta, CommitSigner, GitError, Mirror, ObjectId, PushOutcome,
        RefUpdate, Remote, RemoteAccess, RemoteCredentials, SignatureVerdict, SshCommand,
        TreeRestore,
    },
};

const FILES: &[(&str, &str)] = &[
    ("apps/web.yaml", "image: web:1\n"),
    ("apps/db.yaml", "image: db:1\n"),
    ("README", "hello\n"),
];

/// Fetches, edits, pushes and fetches again; then git checks the repository.
fn once_around(mirror: &Mirror, bare: &Path) {
    let head = mirror.fetch().unwrap();
    assert!(head.changed);
    assert!(!mirror.fetch().unwrap().changed);
    let made = draft(
        mirror,
        head,
        &[edit("apps/web.yaml", "image: web:2\n")],
        "dev: web 2\n\nTagboat-Update: dev\n",
    )
    .unwrap();
    assert_eq!(mirror.push(&made).unwrap(), PushOutcome::Done);
    git(bare, &["fsck", "--strict"]).ok();
    let log = git(
        bare,
        &[
            "log",
            "-1",
            "--format=%H|%an|%ct|%(trailers:key=Tagboat-Update,valueonly)",
            "main",
        ],
    )
    .text();
    assert_eq!(log, format!("{}|Bot|{}|dev", made.commit, NOW + 120));
    assert_eq!(
        git(bare, &["diff", "--numstat", "main~1", "main"]).text(),
        "1\t1\tapps/web.yaml"
    );
    let after = mirror.fetch().unwrap();
    assert_eq!((after.commit, after.changed), (made.commit, true));
    assert_eq!(
        text(mirror, after.commit, "apps/web.yaml").unwrap(),
        "image: web:2\n"
    );
    // The old value is stale now.
    let PushOutcome::Rejected(refusals) = mirror.push(&made).unwrap() else {
        panic!("a stale push went through")
    };
    assert_eq!(refusals[0].kind, ErrorKind::Conflict);
    // Other references, created and deleted, two at a time.
    let update = |name: &str, old, new| RefUpdate {
        reference: format!("refs/heads/bot/{name}"),
        old,
        new,
    };
    let (id, none) = (Some(after.commit), None);
    assert_eq!(
        mirror
            .push_references(None, &[update("a", none, id), update("b", none, id)])
            .unwrap(),
        PushOutcome::Done
    );
    assert_eq!(
        git(
            bare,
            &["for-each-ref", "--format=%(refname)", "refs/heads/bot"]
        )
        .text()
        .lines()
        .count(),
        2
    );
    assert_eq!(
        mirror
            .push_references(None, &[update("a", id, none), update("b", id, none)])
            .unwrap(),
        PushOutcome::Done
    );
    assert_eq!(git(bare, &["for-each-ref", "refs/heads/bot"]).text(), "");
}

#[test]
#[ignore = "needs git: run tests/run git"]
fn round_trip_over_file() {
    let dir = tempfile::tempdir().unwrap();
    let bare = seed(dir.path(), FILES);
    once_around(
        &mirror(
            &dir.path().join("m"),
            &format!("file://{}", bare.display()),
            RemoteAccess::default(),
        ),
        &bare,
    );
    let error = mirror(
        &dir.path().join("n"),
        "/nowhere/at/all.git",
        RemoteAccess::default(),
    )
    .fetch()
    .unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all.git"), "{error}");
}

/// A remote that cannot be followed has an error of its own, and leaves no damaged mirror.
#[test]
#[ignore = "needs git: run tests/run git"]
fn unsupported_remotes_are_named_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let bare = seed(dir.path(), FILES);
    let work = dir.path().join("checkout");
    git(
        dir.path(),
        &["clone", "-q", bare.to_str().unwrap(), "checkout"],
    )
    .ok();
    git(&work, &["commit", "-q", "--allow-empty", "-m", "two"]).ok();
    git(&work, &["push", "-q", "origin", "main"]).ok();
    let url = format!("file://{}", bare.display());
    git(
        dir.path(),
        &["clone", "-q", "--depth", "1", &url, "shallow"],
    )
    .ok();
    let shallow = dir.path().join("shallow");
    let mirror = mirror(
        &dir.path().join("m"),
        &format!("file://{}", shallow.display()),
        RemoteAccess::default(),
    );
    for _ in 0..2 {
        let error = mirror.fetch().unwrap_err();
        assert!(error.to_string().contains("is a shallow clone"), "{error}");
        assert!(error.hint().unwrap().contains("fetch-depth: 0"), "{error}");
    }
    // A checkout of a CI job has a detached HEAD.
    git(&work, &["checkout", "-q", "--detach"]).ok();
    let remote = Remote::new(
        &format!("file://{}", work.display()),
        None,
        RemoteAccess::default(),
    );
    let error = Mirror::open(&dir.path().join("d"), remote.unwrap())
        .and_then(|mirror| mirror.fetch())
        .unwrap_err();
    assert!(
        error.to_string().contains("its HEAD names no branch"),
        "{error}"
    );
    git(&shallow, &["fetch", "-q", "--unshallow"]).ok();
    assert!(mirror.fetch().unwrap().changed);
    git(
        dir.path(),
        &["init", "-q", "--object-format=sha256", "-b", "main", "long"],
    )
    .ok();
    let long = dir.path().join("long");
    git(&long, &["commit", "-q", "--allow-empty", "-m", "one"]).ok();
    let error = super::git_support::mirror(
        &dir.path().join("n"),
        &format!("file://{}", long.display()),
        RemoteAccess::default(),
    )
    .fetch()
    .unwrap_err();
    assert!(
        error.to_string().contains("has SHA-256 object ids"),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
#[ignore = "needs git: run tests/run git"]
fn branch_life_cycle_on_real_git() {
    provider();
    let dir = tempfile::tempdir().unwrap();
    let bare = crate::servers::git::seed_at(dir.path(), &[("web.yaml", "web: 1\n")], NOW - 60);
    super::git_branches::life(
        &dir.path().join("over-http"),
        &HttpBackend::start(dir.path(), None).url("fleet.git"),
    );
    git(&bare, &["fsck", "--strict"]).ok();
    let other = tempfile::tempdir().unwrap();
    let bare = crate::servers::git::seed_at(other.path(), &[("web.yaml", "web: 1\n")], NOW - 60);
    super::git_branches::life(
        &other.path().join("over-file"),
        &format!("file://{}", bare.display()),
    );
    git(&bare, &["fsck", "--strict"]).ok();
}

#[test]
#[ignore = "needs git: run tests/run git"]
fn revision_names_resolve_with_their_merge_base() {
    let dir = tempfile::tempdir().unwrap();
    let bare = seed(dir.path(), FILES);
    let work = dir.path().join("work");
    let id = |revision: &str| git(&work, &["rev-parse", &format!("{revision}^{{commit}}")]).text();
    let commit = |message: &str| git(&work, &["commit", "-q", "--allow-empty", "-m", message]).ok();
    git(&work, &["checkout", "-q", "-b", "team/new"]).ok();
    commit("second");
    git(&work, &["tag", "-a", "-m", "words", "v1"]).ok();
    commit("third");
    git(&work, &["push", "-q", "origin", "team/new", "v1"]).ok();
    git(&work, &["checkout", "-q", "-b", "unseen"]).ok();
    commit("fourth");
    git(&work, &["push", "-q", "origin", "unseen"]).ok();
    git(&work, &["checkout", "-q", "main"]).ok();
    commit("meanwhile");
    git(&work, &["push", "-q", "origin", "main"]).ok();

    let url = format!("file://{}", bare.display());
    let mirror = mirror(&dir.path().join("m"), &url, RemoteAccess::default());
    let main = mirror.fetch().unwrap().commit;
    let named = |text: &str| mirror.named(text).map(|id| id.to_string());
    assert_eq!(named("main").unwrap(), id("main"));
    assert_eq!(named("team/new").unwrap(), id("team/new"));
    assert_eq!(
        named("v1").unwrap(),
        id("team/new~1"),
        "an annotated tag stands for its commit"
    );
    assert_eq!(
        named(&id("unseen")).unwrap(),
        id("unseen"),
        "an id that no fetch has brought"
    );
    assert_eq!(named(&id("team/new")[..8]).unwrap(), id("team/new"));
    assert_eq!(
        mirror
            .before(mirror.named("team/new").unwrap(), main)
            .unwrap()
            .to_string(),
        id("main~1")
    );
    assert_eq!(mirror.before(main, main).unwrap().to_string(), id("main~1"));
    // Moved, then deleted: an earlier answer is not reused.
    git(&work, &["push", "-q", "-f", "origin", "main:team/new"]).ok();
    assert_eq!(named("team/new").unwrap(), id("main"));
    git(&work, &["push", "-q", "origin", ":team/new"]).ok();
    for wrong in [
        "team/new",
        "team",
        "no such",
        "-x",
        "HEAD",
        "main~1",
        "",
        "f00d",
        &"0".repeat(40),
    ] {
        let error = mirror.named(wrong).unwrap_err();
        assert!(
            matches!(error, GitError::Revision { .. }) && error.kind() == ErrorKind::Config,
            "{wrong}: {error:?}"
        );
    }
    assert_eq!(mirror.head(), Some(main), "the branch stays where it was");

    // Working copies: with a default branch, shallow, and with shared objects.
    let clone = |name: &str, arguments: &[&str]| {
        git(
            dir.path(),
            &[&["clone", "-q"], arguments, &[&url, name]].concat(),
        )
        .ok();
        Checkout::open(&dir.path().join(name).join("apps")).unwrap()
    };
    let whole = clone("whole", &["-b", "unseen"]);
    let head = whole.head().unwrap();
    assert_eq!(
        (head.to_string(), whole.before(head).unwrap().to_string()),
        (id("unseen"), id("main~1"))
    );
    assert_eq!(whole.named("v1").unwrap().to_string(), id("v1"));
    assert_eq!(whole.named("HEAD~1").unwrap().to_string(), id("unseen~1"));
    assert!(matches!(
        whole.named("HEAD:README"),
        Err(GitError::Revision { .. })
    ));
    let shallow = clone("shallow", &["--depth", "1"]);
    let error = shallow.before(shallow.head().unwrap()).unwrap_err();
    assert!(
        error.to_string().contains("shallow") && error.hint().unwrap().contains("--unshallow"),
        "{error}"
    );
    git(
        &dir.path().join("whole"),
        &["worktree", "add", "-q", "../linked", "v1"],
    )
    .ok();
    let linked = Checkout::open(&dir.path().join("linked")).unwrap();
    assert_eq!(linked.head().unwrap().to_string(), id("v1"));
    assert!(
        linked
            .at(linked.head().unwrap())
            .unwrap()
            .read("README")
            .unwrap()
            .is_some()
    );
    assert!(matches!(
        Checkout::open(&dir.path().join("nowhere")),
        Err(GitError::Checkout { .. })
    ));
}

#[test]
#[ignore = "needs git: run tests/run git"]
fn round_trip_over_http_with_credentials() {
    provider();
    let dir = tempfile::tempdir().unwrap();
    let bare = seed(dir.path(), FILES);
    let backend = HttpBackend::start(dir.path(), Some("x-access-token:s3cret"));
    let with = |name: &str, credentials| {
        mirror(
            &dir.path().join(name),
            &backend.url("fleet.git"),
            RemoteAccess {
                credentials,
                ..RemoteAccess::default()
            },
        )
    };
    let wrong = with("wrong", RemoteCredentials::Token(Secret::new("wr0ng")))
        .fetch()
        .unwrap_err();
    assert!(
        matches!(wrong, GitError::Denied { .. }) && !format!("{wrong:?}").contains("wr0ng"),
        "{wrong}"
    );
    once_around(
        &with("right", RemoteCredentials::Token(Secret::new("s3cret"))),
        &bare,
    );
    let missing = RemoteAccess {
        credentials: RemoteCredentials::Token(Secret::new("s3cret")),
        ..RemoteAccess::default()
    };
    let error = mirror(&dir.path().join("none"), &backend.url("none.git"), missing)
        .fetch()
        .unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
}

#[test]
#[ignore = "needs git and openssh-server: run tests/run git"]
fn round_trip_over_ssh_needs_known_host() {
    let dir = tempfile::tempdir().unwrap();
    let bare = seed(dir.path(), FILES);
    let sshd = Sshd::start(dir.path());
    let user = Command::new("id").arg("-un").output().unwrap().text();
    let url = format!("ssh://{user}@127.0.0.1:{}{}", sshd.port, bare.display());
    let ssh = SshCommand {
        program: None,
        identity: Some(sshd.identity.clone()),
        known_hosts: Some(sshd.known_hosts.clone()),
    };
    let with = |name: &str, ssh| {
        mirror(
            &dir.path().join(name),
            &url,
            RemoteAccess {
                ssh,
                ..RemoteAccess::default()
            },
        )
    };
    once_around(&with("m", ssh.clone()), &bare);
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let error = with(
        "unknown",
        SshCommand {
            known_hosts: Some(empty),
            ..ssh.clone()
        },
    )
    .fetch()
    .unwrap_err();
    assert!(
        error.to_string().contains("127.0.0.1") && error.kind() == ErrorKind::Remote,
        "{error}"
    );
    let error = with(
        "stranger",
        SshCommand {
            identity: Some(dir.path().join("host")),
            ..ssh
        },
    )
    .fetch()
    .unwrap_err();
    assert!(matches!(error, GitError::Denied { .. }), "{error}");
}

#[test]
#[ignore = "needs git: run tests/run git"]
fn push_declined_by_hook_is_no_conflict() {
    provider();
    let dir = tempfile::tempdir().unwrap();
    let bare = seed(dir.path(), FILES);
    let hook = bare.join("hooks/pre-receive");
    std::fs::write(
        &hook,
        "#!/bin/sh\nprintf 'no bots\\033[31m here\\n' >&2\nexit 1\n",
    )
    .unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    git(&bare, &["config", "http.receivepack", "true"]).ok();
    let backend = HttpBackend::start(dir.path(), None);
    let mirror = mirror(
        &dir.path().join("m"),
        &backend.url("fleet.git"),
        RemoteAccess::default(),
    );
    let head = mirror.fetch().unwrap();
    let made = draft(&mirror, head, &[edit("README", "x\n")], "x").unwrap();
    let PushOutcome::Rejected(refusals) = mirror.push(&made).unwrap() else {
        panic!("the hook did not run")
    };
    let text = refusals[0].to_string();
    assert_eq!(refusals[0].kind, ErrorKind::Config, "{text}");
    assert!(
        text.contains("no bots") && text.contains("hook declined") && !text.contains('\u{1b}'),
        "{text:?}"
    );
}

/// A restored folder equals git's own restore, including modes, links and odd names.
#[test]
#[ignore = "needs git: run tests/run git"]
fn restore_of_a_folder_equals_git_restore() {
    let dir = tempfile::tempdir().unwrap();
    let bare = seed(dir.path(), FILES);
    provider();
    git(&bare, &["config", "http.receivepack", "true"]).ok();
    let work = dir.path().join("person");
    git(
        dir.path(),
        &[
            "clone",
            "-q",
            bare.to_str().unwrap(),
            work.to_str().unwrap(),
        ],
    )
    .ok();
    let commit = |message: &str| {
        git(&work, &["add", "-A"]).ok();
        git(&work, &["commit", "-qm", message]).ok();
        git(&work, &["push", "-q", "origin", "HEAD:main"]).ok();
        git(&work, &["rev-parse", "HEAD"]).text()
    };
    let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"apps/\xff odd");
    std::fs::create_dir_all(work.join("apps/deep/er")).unwrap();
    for file in [
        Path::new("apps/run.sh"),
        Path::new("apps/deep/er/x"),
        Path::new(odd),
    ] {
        std::fs::write(work.join(file), "#!/bin/sh\n").unwrap();
    }
    std::fs::set_permissions(
        work.join("apps/run.sh"),
        std::fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    std::os::unix::fs::symlink("web.yaml", work.join("apps/link")).unwrap();
    let then = commit("then");
    std::fs::set_permissions(
        work.join("apps/run.sh"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    std::fs::remove_file(work.join(odd)).unwrap();
    std::fs::remove_file(work.join("apps/link")).unwrap();
    std::fs::remove_dir_all(work.join("apps/deep")).unwrap();
    std::fs::write(work.join("apps/new"), "new\n").unwrap();
    std::fs::write(work.join("README"), "changed\n").unwrap();
    let now = commit("now");
    let backend = HttpBackend::start(dir.path(), None);
    for url in [
        format!("file://{}", bare.display()),
        backend.url("fleet.git"),
    ] {
        git(&bare, &["update-ref", "refs/heads/main", &now]).ok();
        let mirror = mirror(
            &dir.path().join(format!("m{}", url.len())),
            &url,
            RemoteAccess::default(),
        );
        let head = mirror.fetch().unwrap().commit;
        assert_eq!(mirror.revision(head, &then[..8]).unwrap().to_string(), then);
        let target: ObjectId = then.parse().unwrap();
        assert_eq!(
            mirror
                .since(head, target, 10)
                .unwrap()
                .iter()
                .map(|commit| commit.id.to_string())
                .collect::<Vec<_>>(),
            std::slice::from_ref(&now)
        );
        // The name that is not UTF-8 is not listed, but restored.
        assert_eq!(mirror.differences(head, target, "apps").unwrap().len(), 4);
        let apps = mirror.at(target).unwrap().find("apps").unwrap().unwrap();
        let bot = bot();
        let message = CommitMeta {
            author: &bot,
            committer: &bot,
            seconds: NOW,
            text: "back",
            key: None,
        };
        let graft = TreeRestore {
            path: "apps".to_owned(),
            entry: Some((apps.kind, apps.id)),
        };
        let made = mirror
            .graft(head, std::slice::from_ref(&graft), &message)
            .unwrap()
            .unwrap();
        assert_eq!(mirror.push(&made).unwrap(), PushOutcome::Done);
        git(&bare, &["fsck", "--strict"]).ok();
        assert_eq!(
            git(&bare, &["diff", "--name-only", &then, "main", "--", "apps"]).text(),
            "",
            "as it was then"
        );
        assert_eq!(
            git(
                &bare,
                &["diff", "--name-only", &now, "main", "--", ".", ":!apps"]
            )
            .text(),
            "",
            "nothing else"
        );
        assert_eq!(git(&bare, &["show", "main:README"]).text(), "changed");
        let after = mirror.fetch().unwrap().commit;
        assert!(
            mirror.graft(after, &[graft], &message).unwrap().is_none(),
            "a second restore changes nothing"
        );
        // A folder whose last file is removed disappears.
        let nothing = TreeRestore {
            path: "apps/deep/er/x".to_owned(),
            entry: None,
        };
        let made = mirror.graft(after, &[nothing], &message).unwrap().unwrap();
        assert_eq!(mirror.push(&made).unwrap(), PushOutcome::Done);
        git(&bare, &["fsck", "--strict"]).ok();
        assert_eq!(git(&bare, &["ls-tree", "main", "apps/deep"]).text(), "");
    }
    for bad in ["../x", ".git/x", "a//b"] {
        let mirror = mirror(
            &dir.path().join("n"),
            &format!("file://{}", bare.display()),
            RemoteAccess::default(),
        );
        let head = mirror.fetch().unwrap().commit;
        let bot = bot();
        let message = CommitMeta {
            author: &bot,
            committer: &bot,
            seconds: NOW,
            text: "back",
            key: None,
        };
        let error = mirror
            .graft(
                head,
                &[TreeRestore {
                    path: bad.to_owned(),
                    entry: None,
                }],
                &message,
            )
            .unwrap_err();
        assert!(matches!(error, GitError::Path { .. }), "{error}");
    }
}

#[test]
#[ignore = "needs git and ssh-keygen: run tests/run git"]
fn signatures_verify_in_git() {
    let dir = tempfile::tempdir().unwrap();
    let bare = seed(dir.path(), FILES);
    let mirror = mirror(
        &dir.path().join("m"),
        &format!("file://{}", bare.display()),
        RemoteAccess::default(),
    );
    let bot = bot();
    for (n, (kind, passphrase)) in [
        (&["ed25519"][..], ""),
        (&["ed25519"], "open sesame"),
        (&["ecdsa", "-b", "256"], ""),
        (&["ecdsa", "-b", "384"], "p"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = dir.path().join(format!("key{n}"));
        let made = Command::new("ssh-keygen")
            .args(["-q", "-N", passphrase, "-f"])
            .arg(&file)
            .arg("-t")
            .args(kind)
            .output()
            .unwrap();
        made.ok();
        let pem = Secret::new(std::fs::read_to_string(&file).unwrap());
        let secret = Secret::new(passphrase);
        let key = CommitSigner::parse(&pem, Some(&secret)).unwrap();
        if !passphrase.is_empty() {
            assert!(
                CommitSigner::parse(&pem, None).is_err()
                    && CommitSigner::parse(&pem, Some(&Secret::new("wrong"))).is_err()
            );
        }
        assert!(!format!("{key:?}").contains("PRIVATE"));
        let head = mirror.fetch().unwrap().commit;
        let message = CommitMeta {
            author: &bot,
            committer: &bot,
            seconds: NOW,
            text: "signed",
            key: Some(&key),
        };
        let made = mirror
            .draft(head, &[edit("README", &format!("{n}\n"))], &message)
            .unwrap()
            .unwrap();
        assert_eq!(mirror.push(&made).unwrap(), PushOutcome::Done);
        let signers = dir.path().join("signers");
        std::fs::write(&signers, format!("bot@example.org {}\n", key.public())).unwrap();
        let config = format!("gpg.ssh.allowedSignersFile={}", signers.display());
        git(
            &bare,
            &[
                "-c",
                &config,
                "-c",
                "gpg.format=ssh",
                "verify-commit",
                "main",
            ],
        )
        .ok();
        std::fs::write(&signers, "other@example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n")
            .unwrap();
        assert!(
            !git(
                &bare,
                &[
                    "-c",
                    &config,
                    "-c",
                    "gpg.format=ssh",
                    "verify-commit",
                    "main"
                ]
            )
            .status
            .success()
        );
        git(&bare, &["fsck", "--strict"]).ok();
    }
    rsa_key_is_refused(dir.path());
}

/// Signatures that git makes with keys of all kinds are judged as git judges them.
#[test]
#[ignore = "needs git, ssh-keygen, gpg and gpgv: run tests/run git"]
fn signatures_of_git_are_judged() {
    let dir = tempfile::tempdir().unwrap();
    let bare = seed(dir.path(), FILES);
    let work = dir.path().join("person");
    git(
        dir.path(),
        &["clone", "-q", bare.to_str().unwrap(), "person"],
    )
    .ok();
    let mirror = mirror(
        &dir.path().join("m"),
        &format!("file://{}", bare.display()),
        RemoteAccess::default(),
    );
    let judged = |settings: &[&str], keys: &CommitKeys| {
        let commit = ["commit", "-q", "--allow-empty", "-S", "-m", "signed"];
        git(&work, &[settings, &commit].concat()).ok();
        git(&work, &["push", "-q", "origin", "HEAD:main"]).ok();
        let head = mirror.fetch().unwrap().commit;
        mirror.judge_signature(head, keys).unwrap()
    };
    let refused = |verdict, part: &str| match verdict {
        SignatureVerdict::Refused(why) => assert!(why.contains(part), "{why}"),
        verdict => panic!("{verdict:?} instead of {part}"),
    };

    for (n, kind) in [
        &["ed25519"][..],
        &["ecdsa", "-b", "256"],
        &["ecdsa", "-b", "384"],
        &["rsa", "-b", "3072"],
    ]
    .into_iter()
    .enumerate()
    {
        let file = dir.path().join(format!("key{n}"));
        let mut made = Command::new("ssh-keygen");
        made.args(["-q", "-N", "", "-f"]).arg(&file).arg("-t");
        made.args(kind).output().unwrap().ok();
        let public = std::fs::read_to_string(file.with_extension("pub")).unwrap();
        let mut keys = CommitKeys::default();
        let key = format!("user.signingKey={}", file.display());
        let settings = ["-c", "gpg.format=ssh", "-c", &key];
        refused(judged(&settings, &keys), "verify.keys does not name");
        keys.add_ssh(&public).unwrap();
        assert_eq!(
            judged(&settings, &keys),
            SignatureVerdict::Trusted,
            "{kind:?}"
        );
    }

    let home = dir.path().join("gnupg");
    std::fs::create_dir(&home).unwrap();
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
    let gpg = |arguments: &[&str]| {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir")
            .arg(&home)
            .args(["--batch", "--passphrase", ""]);
        let output = gpg.args(arguments).output().unwrap();
        output.ok();
        String::from_utf8(output.stdout).unwrap()
    };
    let script = dir.path().join("gpg.sh");
    let write_script = |arguments: &str| {
        let text = format!(
            "#!/bin/sh\nexec gpg --homedir {} {arguments} \"$@\"\n",
            home.display()
        );
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let program = format!("gpg.program={}", script.display());
    let mut keys = CommitKeys::default();
    for (user, kind) in [
        ("ann@example.org", "ed25519"),
        ("web-flow@example.org", "rsa2048"),
    ] {
        write_script("");
        gpg(&["--quick-generate-key", user, kind, "sign", "never"]);
        let key = format!("user.signingKey={user}");
        let settings = ["-c", &program, "-c", &key];
        refused(judged(&settings, &keys), "verify.keys");
        keys.add_gpg(&gpg(&["--armor", "--export", user]), None)
            .unwrap();
        assert_eq!(
            judged(&settings, &keys),
            SignatureVerdict::Trusted,
            "{user}"
        );
    }
    // A key and a signature of the past: the key has expired since.
    let past = ["--faked-system-time", "20200101T000000"];
    let make = [
        "--quick-generate-key",
        "old@example.org",
        "ed25519",
        "sign",
        "1y",
    ];
    gpg(&[&past[..], &make].concat());
    keys.add_gpg(&gpg(&["--armor", "--export", "old@example.org"]), None)
        .unwrap();
    write_script(&past.join(" "));
    let settings = ["-c", &program, "-c", "user.signingKey=old@example.org"];
    refused(judged(&settings, &keys), "has expired");
    let mut end = Command::new("gpgconf");
    end.arg("--homedir")
        .arg(&home)
        .args(["--kill", "all"])
        .output()
        .unwrap()
        .ok();
}

fn rsa_key_is_refused(folder: &Path) {
    let file = folder.join("rsa");
    Command::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-N", "", "-f"])
        .arg(&file)
        .output()
        .unwrap()
        .ok();
    let error = CommitSigner::parse(&Secret::new(std::fs::read_to_string(&file).unwrap()), None)
        .unwrap_err();
    assert!(
        error.to_string().contains("RSA") && error.kind() == ErrorKind::Config,
        "{error}"
    );
}

#[test]
#[ignore = "needs git: run tests/run git"]
fn concurrent_pushes_with_git_lose_nothing() {
    provider();
    let dir = tempfile::tempdir().unwrap();
    let bare = seed(dir.path(), FILES);
    git(&bare, &["config", "http.receivepack", "true"]).ok();
    let backend = HttpBackend::start(dir.path(), None);
    const EACH: usize = 6;
    std::thread::scope(|scope| {
        for name in ["one", "two"] {
            let mirror = mirror(
                &dir.path().join(name),
                &backend.url("fleet.git"),
                RemoteAccess::default(),
            );
            scope.spawn(move || {
                for n in 0..EACH {
                    for tries in 0.. {
                        assert!(tries < 200, "never got through");
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
                    }
                }
            });
        }
        let work = dir.path().join("work");
        scope.spawn(move || {
            for n in 0..EACH {
                std::fs::write(work.join(format!("ann{n}")), "x\n").unwrap();
                git(&work, &["add", "-A"]).ok();
                git(&work, &["commit", "-q", "-m", &format!("ann {n}")]).ok();
                for tries in 0.. {
                    assert!(tries < 200, "never got through");
                    if git(&work, &["push", "-q", "origin", "main"])
                        .status
                        .success()
                    {
                        break;
                    }
                    git(&work, &["pull", "-q", "--rebase", "origin", "main"]).ok();
                }
            }
        });
    });
    let subjects = git(&bare, &["log", "--format=%s", "main"]).text();
    assert_eq!(subjects.lines().count(), 3 * EACH + 1, "{subjects}");
    let unique: std::collections::BTreeSet<_> = subjects.lines().collect();
    assert_eq!(unique.len(), 3 * EACH + 1, "{subjects}");
    git(&bare, &["fsck", "--strict"]).ok();
}

#[test]
#[ignore = "needs git: run tests/run git"]
fn sandbox_serves_the_git_client() {
    let password = Secret::new("s3cret");
    for version in ["0", "1", "2"] {
        let sandbox = Sandbox::with_account(FILES, Some(("ann", &password)));
        let dir = sandbox.dir.path();
        let url = sandbox
            .server
            .url()
            .replace("http://", "http://ann:s3cret@");
        let protocol = format!("protocol.version={version}");
        let git = |dir: &Path, arguments: &[&str]| {
            command(dir)
                .arg("-c")
                .arg(&protocol)
                .args(arguments)
                .output()
                .unwrap()
        };
        assert!(
            !git(dir, &["ls-remote", &sandbox.server.url()])
                .status
                .success(),
            "without the account"
        );
        git(dir, &["clone", "-q", &url, "clone"]).ok();
        let clone = dir.join("clone");
        assert_eq!(
            std::fs::read_to_string(clone.join("apps/web.yaml")).unwrap(),
            "image: web:1\n"
        );
        assert_eq!(git(&clone, &["branch", "--show-current"]).text(), "main");

        // Enough history that git compresses its request, and sends more than one.
        for n in 0..60 {
            git(
                &clone,
                &["commit", "-q", "--allow-empty", "-m", &format!("empty {n}")],
            )
            .ok();
        }
        std::fs::write(clone.join("big"), "some line\n".repeat(200_000)).unwrap();
        git(&clone, &["add", "-A"]).ok();
        git(&clone, &["commit", "-q", "-m", "big"]).ok();
        git(
            &clone,
            &["push", "-q", "origin", "main", "main:refs/heads/other"],
        )
        .ok();
        git(dir, &["--git-dir", "fleet.git", "fsck", "--strict"]).ok();

        let by_person = sandbox.person(&[("apps/web.yaml", "image: web:3\n")], "person");
        git(&clone, &["fetch", "-q", "--prune"]).ok();
        assert_eq!(
            git(&clone, &["rev-parse", "origin/main"]).text(),
            by_person.to_string()
        );
        git(&clone, &["fsck", "--strict"]).ok();
        // Diverged: git gets the error; a force push with the right lease succeeds.
        git(&clone, &["commit", "-q", "--allow-empty", "-m", "diverged"]).ok();
        assert!(
            !git(&clone, &["push", "-q", "origin", "main"])
                .status
                .success()
        );
        git(&clone, &["rebase", "-q", "origin/main"]).ok();
        git(
            &clone,
            &["push", "-q", "--atomic", "origin", "main", ":other"],
        )
        .ok();
        assert_eq!(
            git(&clone, &["ls-remote", "origin"]).text().lines().count(),
            2,
            "HEAD and main"
        );
        assert_eq!(
            sandbox.repository.head().unwrap().unwrap().to_string(),
            git(&clone, &["rev-parse", "main"]).text()
        );
        assert!(
            !git(dir, &["clone", "-q", "--depth", "1", &url, "shallow"])
                .status
                .success(),
            "no shallow clone is promised"
        );
    }
}
