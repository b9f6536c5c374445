//! Guards of deletions, and objects that are never applied.

use super::*;

#[test]
fn prune_majority_counts_earlier_objects() {
    let shop = application("").name;
    let mine = LiveObject {
        uid: "u".into(),
        hash: None,
        owner: Some(shop.clone()),
        terminating: false,
        retention: Retention::default(),
        applied_retention: Retention::default(),
        disabled: false,
    };
    let owner = ObjectOwner {
        own_namespace: "tagboat-system",
        rights: &UNRESTRICTED,
        cluster: "test",
        application: &shop,
        prune: true,
        deleting: false,
        revision: "r",
    };
    let named = |prefix: &str, count: usize| {
        (0..count)
            .map(|i| format!("ConfigMap shop/{prefix}{i:02}"))
            .collect::<Vec<_>>()
    };
    let all = [named("old", 12), named("new", 40)].concat();
    let new: Vec<Value> = (0..40)
        .map(|i| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("new{i:02}"), "namespace": "shop"}}))
        .collect();
    let (keep, _) = desired_objects(
        &application(""),
        new.into_iter().map(object).collect(),
        &BuiltinKinds,
    );
    let confirmation = |inventory: &Inventory| {
        plan_prune(owner, &keep, inventory, |_| Some(&mine), |_| false).confirmation
    };
    let mut inventory = owned(&all.iter().map(String::as_str).collect::<Vec<_>>());
    for (objects, expected) in [
        (Some(12), Some("12 objects of 12 would be deleted")),
        (Some(23), Some("12 objects of 23 would be deleted")),
        (Some(24), None),
        // Nothing was ever completely applied: there is nothing to measure against.
        (None, Some("12 objects of 12 would be deleted")),
    ] {
        inventory.objects = objects;
        assert_eq!(confirmation(&inventory).as_deref(), expected, "{objects:?}");
    }
    // Recovered objects are listed beside any other reason.
    inventory.recovered = [
        key("ConfigMap shop/old03"),
        key("ConfigMap shop/old07"),
        key("ConfigMap shop/new01"),
    ]
    .into();
    let recovered = "ConfigMap shop/old03, ConfigMap shop/old07 would be deleted, known by labels alone since a record was lost; \
                remove the label tagboat.dev/name from what is to stay";
    inventory.objects = Some(24);
    assert_eq!(confirmation(&inventory).as_deref(), Some(recovered));
    inventory.objects = Some(12);
    assert_eq!(
        confirmation(&inventory).unwrap(),
        format!("12 objects of 12 would be deleted; {recovered}")
    );
}

#[test]
fn object_like_a_record_is_refused() {
    struct OwnNamespace;
    impl KindScopes for OwnNamespace {
        fn namespaced(&self, gvk: &Gvk) -> Option<bool> {
            BuiltinKinds.namespaced(gvk)
        }
        fn own_namespace(&self) -> Option<&str> {
            Some("fleet-system")
        }
    }
    let placed = |namespace: &str, name: &str| {
        let mut config = config(name);
        config["metadata"]["namespace"] = namespace.into();
        config
    };
    let mut exported = placed("shop", "copy");
    exported["metadata"]["labels"] = json!({"tagboat.dev/record": "v1"});
    let name = "tagboat-record.shop.web";
    let mut secret = placed("fleet-system", name);
    secret["kind"] = "Secret".into();
    let (desired, refused) = desired_objects(
        &application(""),
        vec![
            object(exported),
            object(placed("fleet-system", name)),
            object(placed("fleet-system", "tagboat-record-part.0.1.shop.web")),
            object(placed("fleet-system", "settings")),
            object(placed("shop", name)),
            object(secret),
        ],
        &OwnNamespace,
    );
    let reserved = "names that begin with tagboat-record belong to the records of tagboat in namespace fleet-system; rename it";
    let why: Vec<&str> = refused.iter().map(|refused| &*refused.why).collect();
    assert_eq!(
        why,
        [
            "it carries the label tagboat.dev/record: a record of tagboat is no manifest",
            reserved,
            reserved
        ]
    );
    assert_eq!(desired.len(), 3);
}

#[test]
fn prune_keeps_the_namespace_of_the_records() {
    let shop = application("").name;
    let keys = ["Namespace tagboat-system", "Namespace shop"];
    let inventory = owned(&keys);
    let owner = ObjectOwner {
        application: &shop,
        prune: true,
        deleting: true,
        revision: "r",
        own_namespace: "tagboat-system",
        rights: &UNRESTRICTED,
        cluster: "test",
    };
    let mine = LiveObject {
        uid: "u".into(),
        hash: None,
        owner: Some(shop.clone()),
        terminating: false,
        retention: Retention::default(),
        applied_retention: Retention::default(),
        disabled: false,
    };
    let plan = plan_prune(owner, &[], &inventory, |_| Some(&mine), |_| false);
    let deleted: Vec<&ObjectKey> = plan.delete.iter().map(|target| &target.key).collect();
    assert_eq!(deleted, [&key("Namespace shop")]);
    let kept = "it stays in the cluster: it holds the records of all Applications";
    assert_eq!(
        plan.drop,
        [(key("Namespace tagboat-system"), Some(kept.to_owned()))]
    );
}

#[test]
fn prune_guards_each_condition_raises_its_guard() {
    let shop = application("").name;
    let targets = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| PruneTarget {
                asks: None,
                key: key(text),
                version: "v1".into(),
                uid: "u".into(),
            })
            .collect::<Vec<_>>()
    };
    let few = targets(&["ConfigMap shop/a"]);
    let claim = targets(&["PersistentVolumeClaim shop/a", "ConfigMap shop/b"]);
    let names: Vec<String> = (0..11).map(|i| format!("ConfigMap shop/n{i:02}")).collect();
    let many = targets(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let guarded = Inventory {
        delete_guard: Some("removed from Git".into()),
        ..Inventory::default()
    };
    let recovered = Inventory {
        recovered: [key("ConfigMap shop/a")].into(),
        ..Inventory::default()
    };
    let plain = Inventory::default();
    let large = Inventory {
        objects: Some(22),
        ..Inventory::default()
    };
    // Deletions, inventory, whether the Application was removed, whether nothing is rendered.
    for (delete, inventory, deleting, renders_nothing, expected) in [
        (&few, &plain, false, false, &[][..]),
        (&few, &plain, false, true, &["empty"]),
        (&few, &plain, true, true, &[]),
        (&few, &guarded, false, false, &[]),
        (&few, &guarded, true, true, &["removed"]),
        (&claim, &plain, false, false, &["cascade"]),
        (&claim, &plain, true, true, &["cascade"]),
        (&claim, &plain, false, true, &["empty"]),
        (&many, &plain, false, false, &["majority"]),
        (&many, &large, false, false, &[]),
        (&many, &plain, true, true, &[]),
        (&few, &recovered, false, false, &["recovered"]),
        (&few, &recovered, false, true, &["empty", "recovered"]),
    ] {
        let raised = prune::raised_guards(&prune::GuardInput {
            owner: ObjectOwner {
                own_namespace: "tagboat-system",
                rights: &UNRESTRICTED,
                cluster: "test",
                application: &shop,
                prune: true,
                deleting,
                revision: "r",
            },
            inventory,
            delete,
            renders_nothing,
        });
        let raised: Vec<&str> = raised.iter().map(|(name, _)| *name).collect();
        assert_eq!(raised, expected, "{delete:?} {deleting} {renders_nothing}");
    }
}

#[test]
fn prune_annotations_of_other_tools_are_honoured() {
    let shop = application("").name;
    let live = |retention: Retention| LiveObject {
        uid: "u".into(),
        hash: None,
        owner: Some(shop.clone()),
        terminating: false,
        retention,
        applied_retention: Retention::default(),
        disabled: false,
    };
    let (keep, _) = desired_objects(&application(""), vec![object(config("c"))], &BuiltinKinds);
    let kept = DeletionRule::Kept("sync-options: Delete=false");
    let asks = DeletionRule::Confirmed("sync-options: Prune=confirm");
    let only_delete = live(Retention {
        delete: kept,
        ..Retention::default()
    });
    let asking = live(Retention {
        prune: asks,
        ..Retention::default()
    });
    let always = live(always_kept());
    let plain = live(Retention::default());
    for (name, object, deleting, deleted, confirmation) in [
        ("a", &only_delete, false, true, None),
        ("a", &only_delete, true, false, None),
        ("a", &always, false, false, None),
        ("a", &always, true, false, None),
        (
            "a",
            &asking,
            false,
            true,
            Some("ConfigMap shop/a would be deleted, with sync-options: Prune=confirm"),
        ),
        ("a", &asking, true, true, None),
    ] {
        let owner = ObjectOwner {
            own_namespace: "tagboat-system",
            rights: &UNRESTRICTED,
            cluster: "test",
            application: &shop,
            prune: true,
            deleting,
            revision: "r",
        };
        let desired = if deleting { &[][..] } else { &keep };
        let all = owned(&[&format!("ConfigMap shop/{name}")]);
        let found = plan_prune(owner, desired, &all, |_| Some(object), |_| false);
        assert_eq!(
            found.delete.len(),
            usize::from(deleted),
            "{object:?} {deleting}"
        );
        assert_eq!(found.confirmation.as_deref(), confirmation);
    }
    // What contains a kept object is kept with it.
    let owner = ObjectOwner {
        own_namespace: "tagboat-system",
        rights: &UNRESTRICTED,
        cluster: "test",
        application: &shop,
        prune: true,
        deleting: true,
        revision: "r",
    };
    let all = owned(&[
        "Namespace shop",
        "Namespace other",
        "ConfigMap shop/a",
        "CustomResourceDefinition issuers.acme.io",
        "Issuer shop/b",
    ]);
    let object = |key: &ObjectKey| match key.kind.as_str() {
        "ConfigMap" | "Issuer" => Some(&always),
        _ => Some(&plain),
    };
    let found = plan_prune(owner, &[], &all, object, |_| false);
    let names = |keys: Vec<&ObjectKey>| {
        let mut names: Vec<String> = keys.iter().map(ToString::to_string).collect();
        names.sort();
        names
    };
    let deleted: Vec<&ObjectKey> = found.delete.iter().map(|target| &target.key).collect();
    assert_eq!(names(deleted), ["Namespace other"]);
    let why = found.drop.iter().find(|(key, _)| key.kind == "Namespace");
    assert_eq!(
        why.unwrap().1.as_deref(),
        Some("it stays in the cluster: ConfigMap shop/a in it stays")
    );
}
