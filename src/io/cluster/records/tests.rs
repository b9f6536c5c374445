//! Tests of the layout: splitting, joining, damage, names and bounds.

use super::layout::{digest, head_name};
use super::*;
use crate::objects::plan::RECORD_PREFIX;
use proptest::prelude::*;

fn read(objects: &[Object]) -> Vec<ApplicationRecord> {
    assemble(objects.iter().filter_map(ConfigMapBody::of))
}

fn application(name: &str) -> Name {
    Name::new("shop", name).unwrap()
}

/// Returns the objects that a save leaves in the cluster.
fn stored(record: &ApplicationRecord, room: usize) -> Vec<Object> {
    let digest = digest_of(&record.data);
    let pieces = pieces(&record.data, room);
    let split = pieces.len() > 1;
    let head = head_name(&record.application);
    let empty = BTreeMap::new();
    let mut value = config_map(
        "own",
        record,
        &head,
        if split { &empty } else { &record.data },
        "us",
    );
    value["metadata"]["annotations"][note("digest")] = digest.clone().into();
    value["metadata"]["annotations"][note("parts")] =
        if split { pieces.len() } else { 0 }.to_string().into();
    value["metadata"]["resourceVersion"] = "7".into();
    let mut objects = vec![Object::new(value).unwrap()];
    if split {
        for (index, piece) in pieces.iter().enumerate() {
            let name = part_name(&record.application, &digest, index + 1);
            objects.push(Object::new(config_map("own", record, &name, piece, "us")).unwrap());
        }
    }
    objects
}

fn sample(name: &str, text: &str) -> ApplicationRecord {
    ApplicationRecord::new(
        application(name),
        BTreeMap::from([("inventory.json".to_owned(), text.to_owned())]),
    )
}

proptest! {
    #[test]
    fn record_split_into_parts_round_trips(texts in proptest::collection::btree_map("[a-z]{1,8}", "\\PC{0,80}", 0..5), room in 20usize..200) {
        let record = ApplicationRecord::new(application("web"), texts);
        for piece in pieces(&record.data, room) {
            prop_assert!(piece.iter().map(|(name, text)| name.len() + text.len()).sum::<usize>() <= room);
        }
        let read = read(&stored(&record, room));
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!(&read[0].data, &record.data);
        prop_assert_eq!(read[0].damaged.as_ref(), None);
        prop_assert!(read[0].leftovers.is_empty());
    }
}

#[test]
fn record_interrupted_save_keeps_the_old_one() {
    let (old, new) = (
        sample("web", &"old ".repeat(100)),
        sample("web", &"new ".repeat(100)),
    );
    let mut objects = stored(&old, 150);
    // The new parts exist, the new head does not; the last part is missing.
    let parts: Vec<Object> = stored(&new, 150).into_iter().skip(1).collect();
    objects.extend(parts[..parts.len() - 1].to_vec());
    let found = read(&objects);
    assert_eq!(
        (found.len(), &found[0].data, found[0].leftovers.len()),
        (1, &old.data, parts.len() - 1)
    );
    // Never saved before: nothing but parts.
    let found = read(&parts);
    assert_eq!(
        (
            found[0].data.len(),
            found[0].version.as_deref(),
            found[0].leftovers.len()
        ),
        (0, None, parts.len())
    );
}

#[test]
fn record_missing_or_changed_part_is_damage() {
    let record = sample("web", &"old ".repeat(100));
    let mut objects = stored(&record, 150);
    let part = objects.remove(2);
    assert!(
        read(&objects)[0]
            .damaged
            .as_ref()
            .unwrap()
            .contains("is missing")
    );
    let mut value = part.into_value();
    value["data"]["inventory.json"] = "else".into();
    objects.push(Object::new(value).unwrap());
    assert!(
        read(&objects)[0]
            .damaged
            .as_ref()
            .unwrap()
            .contains("digest")
    );
}

#[test]
fn record_ignores_foreign_objects_and_fits_names() {
    let copy = |name: &str| {
        let mut value = stored(&sample("web", "x"), ROOM).remove(0).into_value();
        value["metadata"]["name"] = name.into();
        Object::new(value).unwrap()
    };
    for name in ["copy", "tagboat-web", "tagboat-record.shop.other"] {
        assert_eq!(read(&[copy(name)]), [], "{name}");
    }
    let plain =
        Object::new(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}))
            .unwrap();
    assert_eq!(read(&[plain]), []);
}

#[test]
fn record_names_are_unique_and_fit() {
    let names: Vec<Name> = [
        ("shop", "web"),
        ("shop", "web.0a1b2c3d.1"),
        ("shop.web", "a"),
        ("shop", "web.a"),
        ("part", "web"),
        ("digest", "a"),
        ("shop", &"a".repeat(253)),
        ("shop", &"a".repeat(252)),
        ("a.b", "c"),
        ("a", "b.c"),
    ]
    .into_iter()
    .map(|(namespace, name)| Name::new(namespace, name).unwrap())
    .collect();
    let mut seen = std::collections::HashSet::new();
    for name in &names {
        for text in [head_name(name), part_name(name, &digest(b""), 1)] {
            assert!(
                text.len() <= 240 && crate::core::name::is_subdomain(&text),
                "{text}"
            );
            assert!(text.starts_with(RECORD_PREFIX), "{text}");
            assert!(seen.insert(text.clone()), "{text}");
        }
    }
    assert_eq!(head_name(&names[0]), "tagboat-record.shop.web");
    assert_eq!(
        part_name(&names[0], &digest(b""), 2),
        "tagboat-record-part.e3b0c442.2.shop.web"
    );
}

#[test]
fn record_beyond_a_bound_fails_alone() {
    let maps: Vec<Object> = [("a", 60), ("b", 10), ("c", 50), ("d", 50)]
        .into_iter()
        .flat_map(|(name, length)| stored(&sample(name, &"x".repeat(length)), ROOM))
        .collect();
    let mut budget = RecordBudget::new(70, 130);
    let bodies = maps
        .iter()
        .filter_map(ConfigMapBody::of)
        .map(|body| budget.bound(body));
    let found = assemble(bodies);
    let unread: Vec<(&str, bool, bool)> = found
        .iter()
        .map(|record| {
            let name = record.application.name();
            assert_eq!(record.damaged, None);
            (name, record.unread.is_some(), record.data.is_empty())
        })
        .collect();
    assert_eq!(
        unread,
        [
            ("a", true, true),
            ("b", false, false),
            ("c", false, false),
            ("d", true, true)
        ]
    );
    assert!(found[3].unread.as_ref().unwrap().contains("together"));
}
