//! The index of extracted records.

use super::git_support::{Sandbox, draft, edit};
use proptest::prelude::*;
use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
};
use tagboat::{
    core::error::{Classify as _, ErrorKind},
    io::git::{EntryKind, Extractor, Index, IndexOrigin, ObjectId, PushOutcome},
};

/// Extractor of lines with `image:` in YAML files; counts the files that it reads.
#[derive(Default)]
struct Lines {
    read: AtomicUsize,
    version: u8,
}

impl Extractor for Lines {
    fn class(&self, path: &str) -> Option<u8> {
        path.ends_with(".yaml").then_some(1)
    }

    fn fingerprint(&self) -> [u8; 16] {
        [self.version; 16]
    }

    fn extract(&self, class: u8, bytes: &[u8]) -> Vec<u8> {
        assert_eq!(class, 1);
        self.read.fetch_add(1, Ordering::Relaxed);
        bytes
            .split_inclusive(|b| *b == b'\n')
            .filter(|line| line.starts_with(b"image:"))
            .flatten()
            .copied()
            .collect()
    }
}

fn flat(index: &Index) -> Vec<(String, String)> {
    index
        .records()
        .map(|r| {
            (
                r.path.to_owned(),
                String::from_utf8(r.bytes.to_vec()).unwrap(),
            )
        })
        .collect()
}

#[test]
fn index_unchanged_blob_is_not_read_again() {
    let files: Vec<(String, String)> = (0..300)
        .map(|n| {
            (
                format!("a/{:02}/{n:03}.yaml", n % 20),
                format!("image: x:{n}\n"),
            )
        })
        .collect();
    let mut seed: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    seed.extend([
        ("b.yaml", "nothing\n"),
        ("readme", "image: no\n"),
        ("a.yaml", "image: y\n"),
    ]);
    let sandbox = Sandbox::new(&seed);
    let mirror = sandbox.mirror("m");
    let file = sandbox.dir.path().join("index");
    let lines = Lines::default();
    let open = |commit| Index::open(&mirror, commit, &file, &lines).unwrap();

    let head = mirror.fetch().unwrap();
    let built = open(head.commit);
    assert_eq!(
        (built.how, built.unsaved, built.index.len()),
        (IndexOrigin::Built(302, None), None, 301)
    );
    assert_eq!(lines.read.swap(0, Ordering::Relaxed), 302);
    let paths: Vec<_> = flat(&built.index)
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert!(paths.is_sorted());

    let same = open(head.commit);
    assert_eq!((same.how, &same.index), (IndexOrigin::Same, &built.index));
    assert_eq!(lines.read.load(Ordering::Relaxed), 0);

    sandbox.person(
        &[
            ("a/00/000.yaml", "image: x:1000\n"),
            ("new/z.yaml", "image: z\n"),
            ("readme", "image: other\n"),
        ],
        "more",
    );
    let updated = open(mirror.fetch().unwrap().commit);
    assert_eq!(
        (updated.how, lines.read.swap(0, Ordering::Relaxed)),
        (IndexOrigin::Updated(2), 2)
    );
    assert_eq!(updated.index.len(), 302);
    // Back again: one record changes, one is removed.
    let back = open(head.commit);
    assert_eq!(
        (back.how, &back.index),
        (IndexOrigin::Updated(1), &built.index)
    );

    let other = Lines {
        version: 1,
        ..Lines::default()
    };
    assert!(matches!(
        Index::open(&mirror, head.commit, &file, &other)
            .unwrap()
            .how,
        IndexOrigin::Built(302, None)
    ));
}

#[test]
fn index_moved_folder_is_not_read_again() {
    let files: Vec<(String, String)> = (0..40)
        .map(|n| (format!("old/{n}.yaml"), format!("image: x:{n}\n")))
        .collect();
    let seed: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let sandbox = Sandbox::new(&seed);
    let mirror = sandbox.mirror("m");
    let file = sandbox.dir.path().join("index");
    let lines = Lines::default();
    Index::open(&mirror, mirror.fetch().unwrap().commit, &file, &lines).unwrap();
    lines.read.store(0, Ordering::Relaxed);
    let copies: Vec<(String, &str)> = seed
        .iter()
        .map(|(path, text)| (path.replace("old", "new"), *text))
        .collect();
    sandbox.person(
        &copies
            .iter()
            .map(|(path, text)| (path.as_str(), *text))
            .collect::<Vec<_>>(),
        "copy",
    );
    let updated = Index::open(&mirror, mirror.fetch().unwrap().commit, &file, &lines).unwrap();
    assert_eq!(
        (
            updated.how,
            updated.index.len(),
            lines.read.load(Ordering::Relaxed)
        ),
        (IndexOrigin::Updated(0), 80, 0)
    );
}

#[test]
fn index_is_kept_where_no_record_can_change() {
    let sandbox = Sandbox::new(&[("a.yaml", "image: a\n"), ("README.md", "one\n")]);
    let mirror = sandbox.mirror("m");
    let head = mirror.fetch().unwrap().commit;
    let (file, lines) = (sandbox.dir.path().join("index"), Lines::default());
    let first = Index::open(&mirror, head, &file, &lines).unwrap().index;
    let saved = fs::read(&file).unwrap();
    sandbox.person(&[("README.md", "two\n")], "docs");
    let commit = mirror.fetch().unwrap().commit;
    let followed = first.follow(&mirror, commit, &file, &lines).unwrap();
    assert_eq!(followed.how, IndexOrigin::Untouched);
    assert_eq!(followed.index.commit(), commit);
    assert_eq!(fs::read(&file).unwrap(), saved);
    // Another process begins with the older file.
    let opened = Index::open(&mirror, commit, &file, &lines).unwrap();
    assert_eq!(opened.how, IndexOrigin::Untouched);
    assert_eq!(opened.index, followed.index);
    sandbox.person(&[("a.yaml", "image: b\n")], "change");
    let commit = mirror.fetch().unwrap().commit;
    let changed = opened.index.follow(&mirror, commit, &file, &lines).unwrap();
    assert_eq!(changed.how, IndexOrigin::Updated(1));
}

#[test]
fn index_damaged_file_is_rebuilt_with_warning() {
    let sandbox = Sandbox::new(&[("a.yaml", "image: a\n")]);
    let mirror = sandbox.mirror("m");
    let head = mirror.fetch().unwrap().commit;
    let (file, lines) = (sandbox.dir.path().join("index"), Lines::default());
    let good = Index::open(&mirror, head, &file, &lines).unwrap().index;
    for damage in [b"".to_vec(), b"nonsense".to_vec(), {
        let mut data = fs::read(&file).unwrap();
        data[90] ^= 1;
        data
    }] {
        fs::write(&file, damage).unwrap();
        let opened = Index::open(&mirror, head, &file, &lines).unwrap();
        assert!(
            matches!(&opened.how, IndexOrigin::Built(1, Some(why)) if why.contains("index")),
            "{:?}",
            opened.how
        );
        assert_eq!(opened.index, good);
        assert!(matches!(
            Index::open(&mirror, head, &file, &lines).unwrap().how,
            IndexOrigin::Same
        ));
    }
    // An index that cannot be saved is still usable.
    let nowhere = sandbox.dir.path().join("missing/index");
    let opened = Index::open(&mirror, head, &nowhere, &lines).unwrap();
    assert!(opened.unsaved.is_some() && opened.index == good);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    /// After any edits, an updated index equals one that is built at once. Files replace folders
    /// and the reverse.
    #[test]
    fn index_update_equals_a_full_build(steps in prop::collection::vec(prop::collection::vec((0..8usize, 0..4u8), 1..6), 1..5)) {
        let names = ["a.yaml", "a/b.yaml", "a/b/c.yaml", "a-b.yaml", "a0.yaml", "z/z/z.yaml", "z.yaml", "a/b.c/d.yaml"];
        let sandbox = Sandbox::new(&[("a.yaml", "image: first\n")]);
        let mirror = sandbox.mirror("m");
        let lines = Lines::default();
        let file = |name: &str| sandbox.dir.path().join(name);
        for step in steps {
            let head = mirror.fetch().unwrap();
            let mut edits = std::collections::BTreeMap::new();
            for (name, value) in step {
                edits.insert(names[name], if value == 0 { "nothing\n".to_owned() } else { format!("image: {value}\n") });
            }
            let edits: Vec<_> = edits.iter().map(|(path, text)| edit(path, text)).collect();
            if let Some(made) = draft(&mirror, head, &edits, "step") {
                prop_assert_eq!(mirror.push(&made).unwrap(), PushOutcome::Done);
            }
            let head = mirror.fetch().unwrap().commit;
            let updated = Index::open(&mirror, head, &file("index"), &lines).unwrap().index;
            let _ = fs::remove_file(file("fresh"));
            let built = Index::open(&mirror, head, &file("fresh"), &lines).unwrap().index;
            prop_assert_eq!(flat(&updated), flat(&built));
        }
    }
}

/// A commit whose trees are `levels` of ten folders each, all of one tree: 10 to the power of
/// `levels` files from a few hundred bytes.
fn tree_bomb(repository: &gix::Repository, levels: u32, file: &[u8]) -> ObjectId {
    use gix::objs::{Tree, tree::Entry};
    let blob = repository.write_blob(file).unwrap().detach();
    let tree = |mode: EntryKind, oid: ObjectId| {
        let entries = (0..10).map(|number| Entry {
            mode: mode.into(),
            filename: format!("{number}.yaml").into(),
            oid,
        });
        let tree = Tree {
            entries: entries.collect(),
        };
        repository.write_object(&tree).unwrap().detach()
    };
    let mut top = tree(EntryKind::Blob, blob);
    for _ in 1..levels {
        top = tree(EntryKind::Tree, top);
    }
    let who = gix::actor::SignatureRef {
        name: "Eve".into(),
        email: "eve@example.org".into(),
        time: "1790000100 +0000",
    };
    let parents: [ObjectId; 0] = [];
    let commit = repository.new_commit_as(who, who, "bomb", top, parents);
    commit.unwrap().id
}

#[test]
fn index_tree_bomb_is_refused() {
    let sandbox = Sandbox::new(&[("a.yaml", "a")]);
    let repository = gix::open(sandbox.repository.dir()).unwrap();
    let mirror = sandbox.mirror("mirror");
    let head = mirror.fetch().unwrap().commit;
    let file = sandbox.dir.path().join("files.index");
    let before = Index::open(&mirror, head, &file, &Lines::default())
        .unwrap()
        .index;
    let commit = tree_bomb(&repository, 10, b"a");
    point_main_at(&repository, commit);
    let bomb = mirror.fetch().unwrap().commit;
    assert_eq!(bomb, commit);
    let refused = before.update(&mirror, bomb, &Lines::default()).unwrap_err();
    let why = "a commit has more than 500000 files and folders";
    assert!(refused.to_string().ends_with(why), "{refused}");
    assert_eq!(refused.kind(), ErrorKind::Config);
    // So are a full reading, and a listing.
    fs::remove_file(&file).unwrap();
    let refused = Index::open(&mirror, bomb, &file, &Lines::default()).unwrap_err();
    assert!(refused.to_string().ends_with(why), "{refused}");
    let refused = mirror.at(bomb).unwrap().list("").unwrap_err();
    assert!(refused.to_string().ends_with(why), "{refused}");
    // A later commit without it is read.
    let repaired = sandbox.person(&[("b.yaml", "b")], "without it");
    assert_eq!(mirror.fetch().unwrap().commit, repaired);
}

/// A blob, and a tree, that are small in a pack and large outside.
#[test]
fn fetch_of_a_huge_object_is_refused() {
    let sandbox = Sandbox::new(&[("a.yaml", "a")]);
    let repository = gix::open(sandbox.repository.dir()).unwrap();
    let mirror = sandbox.mirror("mirror");
    let head = mirror.fetch().unwrap().commit;
    let commit = tree_bomb(&repository, 1, &vec![b'a'; (64 << 20) + 1]);
    point_main_at(&repository, commit);
    let refused = mirror.fetch().unwrap_err();
    let why = "a file or folder is larger than 64 MiB";
    assert!(refused.to_string().ends_with(why), "{refused}");
    assert_eq!(refused.kind(), ErrorKind::Config);
    // What was there before is still read, and a later commit without it is.
    assert!(mirror.at(head).unwrap().read("a.yaml").unwrap().is_some());
    point_main_at(&repository, head);
    let repaired = sandbox.person(&[("b.yaml", "b")], "without it");
    assert_eq!(mirror.fetch().unwrap().commit, repaired);
}

fn point_main_at(repository: &gix::Repository, commit: ObjectId) {
    let any = gix::refs::transaction::PreviousValue::Any;
    let main = "refs/heads/main";
    repository.reference(main, commit, any, "test").unwrap();
}
