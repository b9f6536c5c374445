//! The git room against Debian's git, judged by git itself.

#[path = "../servers/git.rs"]
mod servers;

use servers::{Program, git, seed};
use tagboat::{
    error::Kind,
    git::{Access, Edit, EntryKind, Message, Mirror, Person, Pushed, Remote, RepoPath},
};

/// A mirror in `name` below `dir` of a remote.
fn mirror(dir: &std::path::Path, name: &str, url: &str, access: Access) -> Mirror {
    Mirror::open(&dir.join(name), Remote::new(url, "main", access).unwrap()).unwrap()
}

fn edit(path: &str, bytes: &str) -> Edit {
    Edit { path: RepoPath::new(path).unwrap(), bytes: bytes.into() }
}

fn bot() -> Person {
    Person::new("Bot", "bot@example.org").unwrap()
}

fn message<'a>(bot: &'a Person, text: &'a str) -> Message<'a> {
    Message { author: bot, committer: bot, seconds: 1_790_000_000, text, key: None }
}

#[test]
#[ignore = "needs git: run tests/run git"]
fn file_clone_edit_and_push_are_what_git_expects() {
    let dir = tempfile::tempdir().unwrap();
    let bare = seed(dir.path(), &[("apps/web.yaml", "image: web:1\n"), ("apps/db.yaml", "image: db:1\n"), ("README", "hello\n")]);
    git(&bare, &["update-ref", "refs/heads/other", "main"]).ok();
    let mirror = mirror(dir.path(), "mirror", &format!("file://{}", bare.display()), Access::default());
    let head = mirror.fetch().unwrap();
    assert!(head.changed);
    assert!(!mirror.fetch().unwrap().changed);

    let bot = bot();
    let text = "dev: web 2\n\nTagboat-Update: dev\n";
    let draft = mirror.draft(head.commit, &[edit("apps/web.yaml", "image: web:2\n")], &message(&bot, text)).unwrap().unwrap();
    assert_eq!(mirror.push(&draft).unwrap(), Pushed::Done);
    git(&bare, &["fsck", "--strict"]).ok();
    assert_eq!(
        git(&bare, &["log", "-1", "--format=%H|%an|%ct|%(trailers:key=Tagboat-Update,valueonly)", "main"]).text(),
        format!("{}|Bot|1790000000|dev", draft.commit)
    );
    assert_eq!(git(&bare, &["diff", "--stat=80", "main~1", "main"]).text().lines().count(), 2);

    let after = mirror.fetch().unwrap();
    assert_eq!((after.commit, after.changed), (draft.commit, true));
    let file = mirror.at(after.commit).unwrap().read("apps/web.yaml").unwrap().unwrap();
    assert_eq!((file.bytes.as_slice(), file.entry.kind), (b"image: web:2\n".as_slice(), EntryKind::Blob));

    // The same draft once more is stale now, and nothing is lost.
    let Pushed::Rejected(refusals) = mirror.push(&draft).unwrap() else { panic!("a stale push went through") };
    assert_eq!(refusals[0].kind, Kind::Conflict);
}
