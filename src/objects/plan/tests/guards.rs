//! What is asked about before it is deleted, and what is never applied.

use super::*;

#[test]
fn a_prune_is_measured_against_what_there_was_and_never_guesses() {
    let shop = application("").name;
    let mine = LiveObject {
        uid: "u".into(),
        hash: None,
        owner: Some(shop.clone()),
        terminating: false,
        keep: false,
        disabled: false,
    };
    let owner = ObjectOwner {
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
    let asked = |inventory: &Inventory| {
        plan_prune(owner, &keep, inventory, |_| Some(&mine), |_| false).needs_yes
    };
    let mut inventory = owned(&all.iter().map(String::as_str).collect::<Vec<_>>());
    for (objects, expected) in [
        (Some(12), Some("12 objects of 12 would be deleted")),
        (Some(23), Some("12 objects of 23 would be deleted")),
        (Some(24), None),
        // It has never come to rest: there is nothing to measure against.
        (None, Some("12 objects of 12 would be deleted")),
    ] {
        inventory.objects = objects;
        assert_eq!(asked(&inventory).as_deref(), expected, "{objects:?}");
    }
    // What only its labels name is listed, with whatever else there is to say.
    inventory.found = [
        key("ConfigMap shop/old03"),
        key("ConfigMap shop/old07"),
        key("ConfigMap shop/new01"),
    ]
    .into();
    let said = "ConfigMap shop/old03, ConfigMap shop/old07 would be deleted, known by labels alone since a record was lost; \
                take the label tagboat.dev/name off what is to stay";
    inventory.objects = Some(24);
    assert_eq!(asked(&inventory).as_deref(), Some(said));
    inventory.objects = Some(12);
    assert_eq!(
        asked(&inventory).unwrap(),
        format!("12 objects of 12 would be deleted; {said}")
    );
}

#[test]
fn what_holds_or_would_hide_a_record_is_refused() {
    struct Recorded;
    impl ObjectClaims for Recorded {
        fn wants(&self, _: &Name, _: &ObjectKey) -> Option<bool> {
            Some(false)
        }
        fn wanted_by(&self, _: &ObjectKey) -> Vec<Name> {
            Vec::new()
        }
        fn record_of(&self, key: &ObjectKey) -> Option<Name> {
            (key.name == "tagboat-web").then(|| "dev/web".parse().unwrap())
        }
    }
    let mut exported = config("copy");
    exported["metadata"]["labels"] = json!({"tagboat.dev/record": "v1"});
    let (desired, refused) = desired_objects(
        &application(""),
        vec![object(exported), object(config("tagboat-web"))],
        &BuiltinKinds,
    );
    assert_eq!(
        refused[0].why,
        "it carries the label tagboat.dev/record: a record of tagboat is no manifest"
    );
    let found = decide_action(&application("").name, &desired[0], None, None, &Recorded);
    assert_eq!(
        found,
        ObjectAction::Refuse(
            "it has the name of tagboat's record of Application dev/web; give it another one"
                .to_owned()
        )
    );
}
