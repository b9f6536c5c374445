//! The store: persistence, and recovery from faults.

use std::{os::unix::fs::PermissionsExt, path::PathBuf};
use tagboat::{
    core::{
        error::Classify,
        image::{Digest, ImageRepository, Tag, TagList},
    },
    io::{
        registry::{ImageDescription, Validator},
        store::{OpenReport, Store, StoreError},
    },
};

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    (folder, path)
}

fn at(text: &str) -> jiff::Timestamp {
    format!("2026-11-20T{text}Z").parse().unwrap()
}

fn digest(letter: char) -> Digest {
    Digest::new(format!("sha256:{}", letter.to_string().repeat(64))).unwrap()
}

fn app() -> ImageRepository {
    ImageRepository::new("ghcr.io/team/app").unwrap()
}

#[test]
fn store_keeps_everything_over_a_restart() {
    let (_folder, path) = folder();
    let tags: TagList = ["1.0", "1.1"].into_iter().collect();
    let validator = Validator("\"v1\"".into());
    let description = ImageDescription {
        created: Some(at("10:00:00")),
        platforms: vec!["linux/arm64".parse().unwrap()],
        labels: [(
            "org.opencontainers.image.version".to_owned(),
            "1".to_owned(),
        )]
        .into(),
        artifact: None,
    };
    {
        let (store, opened) = Store::open(&path).unwrap();
        assert_eq!(opened, OpenReport::New);
        assert!(
            store
                .put_tags(&app(), &tags, Some(&validator), at("10:00:00"))
                .unwrap()
        );
        store
            .put_description(&app(), &digest('a'), &description)
            .unwrap();
        store
            .see(
                &app(),
                &[(Tag::new("1.0").unwrap(), digest('a'))],
                at("10:00:00"),
            )
            .unwrap();
        store.put("index", "key", b"bytes").unwrap();
        store.put("index", "other", b"").unwrap();
        store.put("index2", "x", b"").unwrap();
        store.touch_tags(&app(), at("11:00:00")).unwrap();
        store.flush().unwrap();
    }
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let (store, opened) = Store::open(&path).unwrap();
    assert_eq!(opened, OpenReport::Kept);
    let kept = store.tags(&app()).unwrap().unwrap();
    assert_eq!(
        (kept.tags, kept.state.validator, kept.state.fetched),
        (tags, Some(validator), at("11:00:00"))
    );
    assert_eq!(
        store.description(&app(), &digest('a')).unwrap(),
        Some(description)
    );
    assert_eq!(store.description(&app(), &digest('b')).unwrap(), None);
    assert_eq!(
        store
            .seen(&app(), &Tag::new("1.0").unwrap())
            .unwrap()
            .unwrap()
            .since,
        at("10:00:00")
    );
    assert_eq!(
        store.get("index", "key").unwrap().as_deref(),
        Some(&b"bytes"[..])
    );
    assert_eq!(store.keys("index").unwrap(), ["key", "other"]);
    assert!(store.remove("index", "key").unwrap() && !store.remove("index", "key").unwrap());
    let nobody = ImageRepository::new("ghcr.io/team/none").unwrap();
    assert_eq!(
        (
            store.tags(&nobody).unwrap(),
            store.tags_state(&nobody).unwrap()
        ),
        (None, None)
    );
}

#[test]
fn store_equal_list_is_not_written_again() {
    let (_folder, path) = folder();
    let (store, _) = Store::open(&path).unwrap();
    let tags: TagList = ["1.0"].into_iter().collect();
    assert!(store.put_tags(&app(), &tags, None, at("10:00:00")).unwrap());
    assert!(!store.put_tags(&app(), &tags, None, at("10:05:00")).unwrap());
    assert_eq!(
        store.tags_state(&app()).unwrap().unwrap().fetched,
        at("10:05:00")
    );
    let more: TagList = ["1.0", "1.1"].into_iter().collect();
    assert!(store.put_tags(&app(), &more, None, at("10:10:00")).unwrap());
}

#[test]
fn store_remembers_when_a_tag_appeared() {
    let (_folder, path) = folder();
    let (store, _) = Store::open(&path).unwrap();
    let list = |tags: &[&str], time: &str| {
        let tags: TagList = tags.iter().copied().collect();
        store.put_tags(&app(), &tags, None, at(time)).unwrap();
    };
    let appeared = || store.listed_since(&app()).unwrap();
    list(&["1.0", "1.1"], "10:00:00");
    assert_eq!(appeared(), [], "the first listing says nothing");
    list(&["1.0", "1.1", "1.2"], "10:05:00");
    list(&["1.0", "1.1", "1.2", "1.3"], "10:10:00");
    list(&["1.0", "1.2", "1.3"], "10:15:00");
    let expected = [("1.2", "10:05:00"), ("1.3", "10:10:00")];
    assert_eq!(
        appeared(),
        expected.map(|(tag, time)| (tag.to_owned(), at(time)))
    );
    list(&["1.0", "1.3"], "10:20:00");
    assert_eq!(appeared(), [("1.3".to_owned(), at("10:10:00"))]);
    let other = ImageRepository::new("ghcr.io/acme/app2").unwrap();
    assert_eq!(store.listed_since(&other).unwrap(), []);
}

#[test]
fn store_changed_digest_restarts_the_age() {
    let (_folder, path) = folder();
    let (store, _) = Store::open(&path).unwrap();
    let (one, two) = (Tag::new("1").unwrap(), Tag::new("2").unwrap());
    let see = |letters: [char; 2], time| {
        let tags = [
            (one.clone(), digest(letters[0])),
            (two.clone(), digest(letters[1])),
        ];
        store
            .see(&app(), &tags, at(time))
            .unwrap()
            .into_iter()
            .map(|seen| seen.since)
            .collect::<Vec<_>>()
    };
    for (letters, time, clocks) in [
        (['a', 'a'], "10:00:00", ["10:00:00", "10:00:00"]),
        (['a', 'a'], "10:10:00", ["10:00:00", "10:00:00"]),
        (['b', 'a'], "10:20:00", ["10:20:00", "10:00:00"]),
        (['a', 'a'], "10:30:00", ["10:30:00", "10:00:00"]),
    ] {
        assert_eq!(see(letters, time), clocks.map(at), "{time}");
    }
    // Each repository has its own clock.
    let other = ImageRepository::new("ghcr.io/team/other").unwrap();
    assert_eq!(store.seen(&other, &one).unwrap(), None);
}

#[test]
fn store_damaged_file_is_moved_aside() {
    let noise: Vec<u8> = (0..100_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    type Damage = Box<dyn Fn(Vec<u8>) -> Vec<u8>>;
    let cases: Vec<(&str, Damage)> = vec![
        ("text", Box::new(|_| b"this is no database".to_vec())),
        ("noise", Box::new(move |_| noise.clone())),
        ("cut", Box::new(|whole| whole[..whole.len() / 3].to_vec())),
        (
            "header",
            Box::new(|mut whole| {
                whole[..64].fill(0xff);
                whole
            }),
        ),
    ];
    for (name, damage) in cases {
        let (_folder, path) = folder();
        let (store, _) = Store::open(&path).unwrap();
        store.put("a", "b", b"c").unwrap();
        drop(store);
        let damaged = damage(std::fs::read(&path).unwrap());
        std::fs::write(&path, &damaged).unwrap();
        let (store, opened) = Store::open(&path).unwrap();
        let OpenReport::Rebuilt { moved_to, why } = opened else {
            panic!("{name}: {opened:?}")
        };
        assert_eq!(std::fs::read(&moved_to).unwrap(), damaged, "{name}");
        assert!(!why.is_empty(), "{name}");
        store.put("a", "b", b"again").unwrap();
        drop(store);
        assert_eq!(Store::open(&path).unwrap().1, OpenReport::Kept, "{name}");
    }
}

/// The state after a kill during the creation of the file: it never had any data, so nothing is
/// reported.
#[test]
fn store_unfinished_file_is_replaced() {
    let (_folder, path) = folder();
    drop(Store::open(&path).unwrap());
    let length = path.metadata().unwrap().len() as usize;
    std::fs::write(&path, vec![0; length]).unwrap();
    let (store, opened) = Store::open(&path).unwrap();
    assert_eq!(opened, OpenReport::New);
    store.put("a", "b", b"c").unwrap();
}

#[test]
fn store_of_another_version_is_replaced() {
    let (_folder, path) = folder();
    let meta: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("meta");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(meta)
        .unwrap()
        .insert("version", 999)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let (_, opened) = Store::open(&path).unwrap();
    assert!(
        matches!(&opened, OpenReport::Rebuilt { why, .. } if why.contains("version 999")),
        "{opened:?}"
    );
}

#[test]
fn store_open_twice_is_refused() {
    let (_folder, path) = folder();
    let (store, _) = Store::open(&path).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().ends_with("in use by another process") && error.hint().is_some());
    // A child process that is just starting holds the lock a moment longer.
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            drop(store);
        });
        Store::open(&path).unwrap();
    });
}

#[test]
fn store_missing_folder_is_named() {
    let (folder, _) = folder();
    let path = folder.path().join("none/store.redb");
    let error = Store::open(&path).unwrap_err();
    assert!(
        error.to_string().starts_with(&path.display().to_string()),
        "{error}"
    );
    assert!(matches!(error, StoreError::Io { .. }));
}

#[test]
fn store_keeps_committed_data_after_a_kill() {
    let (_folder, path) = folder();
    let (store, _) = Store::open(&path).unwrap();
    let tags: TagList = ["1.0"].into_iter().collect();
    store.put_tags(&app(), &tags, None, at("10:00:00")).unwrap();
    store.touch_tags(&app(), at("11:00:00")).unwrap();
    // A killed process leaves the file as it is now, not closed.
    let copy = path.with_extension("copy");
    std::fs::copy(&path, &copy).unwrap();
    let (after, opened) = Store::open(&copy).unwrap();
    assert_eq!(opened, OpenReport::Kept);
    let kept = after.tags(&app()).unwrap().unwrap();
    assert_eq!(kept.tags, tags);
    assert!(
        [at("10:00:00"), at("11:00:00")].contains(&kept.state.fetched),
        "{:?}",
        kept.state
    );
}

#[test]
fn store_unfinished_file_is_no_damage() {
    let (_folder, path) = folder();
    for length in [9, 4096, 1 << 20] {
        std::fs::write(&path, vec![0; length]).unwrap();
        assert_eq!(Store::open(&path).unwrap().1, OpenReport::New, "{length}");
        assert_eq!(Store::open(&path).unwrap().1, OpenReport::Kept, "{length}");
    }
    assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 1);
}
