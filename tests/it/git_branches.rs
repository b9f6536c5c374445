//! Branches beside the followed one: fetched with it, classified by the authors of their commits,
//! and changed by compare-and-swap only. Against the sandbox server here, and against git itself in
//! `git_real`.

use super::git_support::{NOW, Sandbox, bot, draft, edit, mirror, text};
use std::path::Path;
use tagboat::{
    core::error::ErrorKind,
    io::git::{
        BranchHead, CommitDraft, CommitMeta, Mirror, ObjectId, Person, PushOutcome, RemoteAccess,
    },
};

const UPDATE: &str = "dev: web 2\n\nTagboat-Update: dev\n";

fn on(
    mirror: &Mirror,
    parent: ObjectId,
    who: &Person,
    seconds: i64,
    content: &str,
    message: &str,
) -> CommitDraft {
    let message = CommitMeta {
        author: who,
        committer: who,
        seconds,
        text: message,
        key: None,
    };
    mirror
        .draft(parent, &[edit("web.yaml", content)], &message)
        .unwrap()
        .unwrap()
}

fn names(mirror: &Mirror) -> Vec<String> {
    mirror.branches().unwrap().into_keys().collect()
}

/// The life cycle of a branch on any server with `web.yaml` on `main`, with two clones of it in
/// `dir`.
pub(super) fn life(dir: &Path, url: &str) {
    let open = |name: &str| {
        mirror(&dir.join(name), url, RemoteAccess::default()).with_branches("tagboat/")
    };
    let (ours, anns) = (open("ours"), open("anns"));
    let ann = Person::new("Ann", "ann@example.org").unwrap();
    let head = ours.fetch().unwrap();
    anns.fetch().unwrap();
    assert_eq!(names(&ours), Vec::<String>::new());
    assert!(!ours.fetch().unwrap().changed);

    // Created only if it does not exist.
    let made = draft(&ours, head, &[edit("web.yaml", "web: 2\n")], UPDATE).unwrap();
    assert_eq!(
        ours.push_branch(&made, "tagboat/dev/all", None).unwrap(),
        PushOutcome::Done
    );
    assert_eq!(
        anns.push_branch(
            &on(&anns, head.commit, &ann, NOW, "web: 9\n", "mine"),
            "other/branch",
            None
        )
        .unwrap(),
        PushOutcome::Done
    );
    assert_eq!(names(&ours), Vec::<String>::new(), "a fetch shows the push");
    assert_eq!(
        ours.fetch().unwrap(),
        BranchHead {
            commit: head.commit,
            changed: false
        }
    );
    assert_eq!(ours.branches().unwrap()["tagboat/dev/all"], made.commit);
    assert_eq!(text(&ours, made.commit, "web.yaml").unwrap(), "web: 2\n");
    let PushOutcome::Rejected(refusals) = ours.push_branch(&made, "tagboat/dev/all", None).unwrap()
    else {
        panic!("it is there")
    };
    assert_eq!(refusals[0].kind, ErrorKind::Conflict);
    let own = ours.beyond(made.commit, head.commit, 50).unwrap().unwrap();
    assert_eq!(
        (own.len(), own[0].id, own[0].parents.as_slice()),
        (1, made.commit, &[head.commit][..])
    );
    assert!(own[0].is_by(&bot()) && !own[0].is_by(&ann));

    // Ann commits to it: the commit is seen, and an update with the old value is refused.
    anns.fetch().unwrap();
    let hers = on(
        &anns,
        made.commit,
        &ann,
        NOW + 300,
        "web: 3\n",
        "by hand\n\nTagboat-Update: dev\n",
    );
    assert_eq!(
        anns.push_branch(&hers, "tagboat/dev/all", Some(made.commit))
            .unwrap(),
        PushOutcome::Done
    );
    let second = draft(&ours, head, &[edit("web.yaml", "web: 4\n")], UPDATE).unwrap();
    let PushOutcome::Rejected(refusals) = ours
        .push_branch(&second, "tagboat/dev/all", Some(made.commit))
        .unwrap()
    else {
        panic!("it moved")
    };
    assert_eq!(refusals[0].kind, ErrorKind::Conflict);
    assert!(matches!(
        ours.delete_branch("tagboat/dev/all", made.commit).unwrap(),
        PushOutcome::Rejected(_)
    ));
    ours.fetch().unwrap();
    let own = ours.beyond(hers.commit, head.commit, 50).unwrap().unwrap();
    assert_eq!(
        own.iter().map(|own| own.id).collect::<Vec<_>>(),
        [hers.commit, made.commit]
    );
    assert_eq!(
        (
            own[0].author.as_str(),
            own[0].subject.as_str(),
            own[0].is_by(&bot())
        ),
        ("Ann", "by hand", false)
    );
    assert_eq!(
        ours.beyond(hers.commit, head.commit, 1).unwrap(),
        None,
        "more than the limit"
    );
    assert_eq!(
        ours.beyond(head.commit, hers.commit, 50).unwrap(),
        Some(Vec::new()),
        "the target has it"
    );

    // Replaced and deleted only from the current value.
    assert_eq!(
        ours.push_branch(&second, "tagboat/dev/all", Some(hers.commit))
            .unwrap(),
        PushOutcome::Done
    );
    ours.fetch().unwrap();
    assert_eq!(ours.branches().unwrap()["tagboat/dev/all"], second.commit);
    assert_eq!(
        ours.delete_branch("tagboat/dev/all", second.commit)
            .unwrap(),
        PushOutcome::Done
    );
    ours.fetch().unwrap();
    assert_eq!(names(&ours), Vec::<String>::new());
    // A folder of branches becomes a branch, and back.
    for name in ["tagboat/dev", "tagboat/dev/all", "tagboat/dev"] {
        for (gone, id) in ours.branches().unwrap() {
            assert_eq!(anns.delete_branch(&gone, id).unwrap(), PushOutcome::Done);
        }
        assert_eq!(
            anns.push_branch(&second, name, None).unwrap(),
            PushOutcome::Done
        );
        ours.fetch().unwrap();
        assert_eq!(names(&ours), [name]);
    }

    // The target moves on with any clock; the branch is still one commit ahead.
    let mut target = head.commit;
    for n in 0..12 {
        let seconds = if n % 3 == 0 {
            NOW - 100_000
        } else {
            NOW + 1000 + n
        };
        let more = on(
            &ours,
            target,
            &ann,
            seconds,
            &format!("web: 1 # {n}\n"),
            "more",
        );
        assert_eq!(ours.push(&more).unwrap(), PushOutcome::Done);
        target = ours.fetch().unwrap().commit;
    }
    assert_eq!(
        ours.beyond(second.commit, target, 50)
            .unwrap()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(ours.beyond(head.commit, target, 50).unwrap().unwrap(), []);
    // A second process, and one without branches, see theirs.
    drop(ours);
    assert_eq!(names(&open("ours")), ["tagboat/dev"]);
    let plain = mirror(&dir.join("plain"), url, RemoteAccess::default());
    plain.fetch().unwrap();
    assert_eq!(names(&plain), Vec::<String>::new());
}

#[test]
fn branch_life_cycle_on_the_sandbox() {
    let sandbox = Sandbox::new(&[("web.yaml", "web: 1\n")]);
    life(sandbox.dir.path(), &sandbox.server.url());
}
