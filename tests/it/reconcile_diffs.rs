//! Scenarios of diffs of many Applications, for the sandbox's API server and for the real one.

use super::{
    reconcile_repairs::{edit, workload},
    support::fleet::{Backend, Fleet, config},
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use tagboat::{
    core::name::Name,
    io::{
        cluster::RequestStats,
        render::{RenderMethod, Rendered},
    },
    objects::object::{CompactObject, Object},
    reconcile::{self, ChangeKind, ClusterReads, ObjectDiff},
    spec::{self, Declarations},
};

/// Calls a macro with the names of all scenarios.
macro_rules! for_each_diff_scenario {
    ($run:ident) => {
        $run!(reconcile_diffs:
            diff_of_many_reads_lists_alone,
            diff_of_one_lists_its_objects,
            diff_asks_only_about_what_differs,
        );
    };
}
pub(crate) use for_each_diff_scenario;

/// The Applications of a fleet, with their objects.
type Declared = BTreeMap<String, Vec<Value>>;

fn declared(applications: usize) -> Declared {
    let objects = |number: usize| {
        let name = |part: &str| format!("app-{number}-{part}");
        vec![
            config(&name("one"), "1"),
            config(&name("two"), "2"),
            workload(&name("web"), json!({})),
        ]
    };
    let all = 0..applications;
    all.map(|number| (format!("app-{number:02}"), objects(number)))
        .collect()
}

/// Declares and applies Applications, then ends the reconciler, whose requests would count.
async fn apply<K: Backend>(fleet: &mut Fleet<K>, applications: &Declared) {
    fleet.restart().await;
    for (name, objects) in applications {
        fleet.application(name, "");
        fleet.manifests(name, objects.clone());
    }
    fleet.applied().await;
    fleet.end().await;
}

fn parse<K: Backend>(fleet: &Fleet<K>, applications: &Declared) -> Declarations {
    let mut text = "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['**'], update: {via: commit}}\n".to_owned();
    for name in applications.keys() {
        text.push_str(&format!(
            "---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}, namespace: {0}}}\nspec: {{environment: dev, path: {name}, cluster: test, targetNamespace: {0}}}\n",
            fleet.namespace
        ));
    }
    spec::read([("apps.yaml", text.as_bytes())], None)
}

/// Compares Applications with the cluster; returns the diffs by name, and the requests sent.
async fn compare<K: Backend>(
    fleet: &Fleet<K>,
    applications: &Declared,
) -> (BTreeMap<String, Vec<ObjectDiff>>, RequestStats) {
    let cluster = fleet.reconciler.cluster("test").unwrap();
    let declarations = parse(fleet, applications);
    let before = fleet.stats();
    let names: HashSet<Name> = declarations.applications.keys().cloned().collect();
    let reads = ClusterReads::new(cluster, &names).await.unwrap();
    let mut diffs = BTreeMap::new();
    for application in declarations.applications.values() {
        let name = application.name.name();
        let objects = applications[name].iter().cloned();
        let manifests = objects.map(|value| CompactObject::new(Object::new(value).unwrap()));
        let rendered = Rendered {
            manifests: manifests.collect(),
            how: RenderMethod::Plain,
            warnings: Vec::new(),
            left_out: Vec::new(),
            hash: String::new(),
            inputs: None,
        };
        let diff = reconcile::diff_objects(cluster, application, &rendered, &reads).await;
        diffs.insert(name.to_owned(), diff.unwrap());
    }
    (diffs, fleet.stats().since(&before))
}

fn counts(sent: &RequestStats) -> [u64; 3] {
    ["list", "get", "apply"].map(|verb| sent.of(verb))
}

fn changed(diffs: &BTreeMap<String, Vec<ObjectDiff>>) -> Vec<&ObjectDiff> {
    let all = diffs.values().flatten();
    all.filter(|diff| diff.change != ChangeKind::None).collect()
}

/// The records are one list, and each kind is one, whatever the number of Applications.
pub(super) async fn diff_of_many_reads_lists_alone<K: Backend>(mut fleet: Fleet<K>) {
    let few = declared(10);
    apply(&mut fleet, &few).await;
    let (diffs, sent) = compare(&fleet, &few).await;
    assert_eq!(changed(&diffs), Vec::<&ObjectDiff>::new());
    assert_eq!(diffs.values().map(Vec::len).sum::<usize>(), 30);
    assert_eq!(counts(&sent), [3, 0, 0], "{sent:?}");

    let more = declared(25);
    apply(&mut fleet, &more).await;
    let (diffs, sent) = compare(&fleet, &more).await;
    assert_eq!(changed(&diffs), Vec::<&ObjectDiff>::new());
    assert_eq!(counts(&sent), [3, 0, 0], "{sent:?}");
}

/// One Application reads its own record and lists its own objects, not those of all.
pub(super) async fn diff_of_one_lists_its_objects<K: Backend>(mut fleet: Fleet<K>) {
    let mut all = declared(12);
    let many = (0..9).map(|number| config(&format!("map-{number}"), "1"));
    all.insert("large".to_owned(), many.collect());
    apply(&mut fleet, &all).await;
    all.retain(|name, _| name == "large");
    let (diffs, sent) = compare(&fleet, &all).await;
    assert_eq!(changed(&diffs), Vec::<&ObjectDiff>::new());
    assert_eq!(counts(&sent), [1, 1, 0], "{sent:?}");

    let mut one = declared(1);
    let (diffs, sent) = compare(&fleet, &one).await;
    assert_eq!(changed(&diffs), Vec::<&ObjectDiff>::new());
    assert_eq!(counts(&sent), [0, 4, 0], "{sent:?}");

    one.values_mut().for_each(|objects| objects.truncate(0));
    let (diffs, sent) = compare(&fleet, &one).await;
    assert_eq!(diffs["app-00"].len(), 0, "{diffs:#?}");
    assert_eq!(counts(&sent), [0, 1, 0], "{sent:?}");
}

/// Only what changed in Git or in the cluster costs a read and a dry run.
pub(super) async fn diff_asks_only_about_what_differs<K: Backend>(mut fleet: Fleet<K>) {
    let mut all = declared(10);
    apply(&mut fleet, &all).await;
    edit(&fleet, ("configmaps", "app-3-one"), "harbour", |live| {
        live["data"]["value"] = json!("theirs");
    })
    .await;
    all.get_mut("app-05").unwrap()[1] = config("app-5-two", "new");
    all.get_mut("app-07")
        .unwrap()
        .push(config("app-7-new", "1"));
    let (diffs, sent) = compare(&fleet, &all).await;
    let changed: Vec<(&str, ChangeKind)> = changed(&diffs)
        .into_iter()
        .map(|diff| (diff.object.rsplit('/').next().unwrap(), diff.change))
        .collect();
    let expected = [
        ("app-3-one", ChangeKind::Change),
        ("app-5-two", ChangeKind::Change),
        ("app-7-new", ChangeKind::Create),
    ];
    assert_eq!(changed, expected);
    let drifted = &diffs["app-03"][0];
    assert!(drifted.diff.contains("-  value: theirs"), "{drifted:#?}");
    assert_eq!(
        drifted.changed_by[0].manager.as_deref(),
        Some("harbour"),
        "{drifted:#?}"
    );
    let [lists, gets, applies] = counts(&sent);
    assert_eq!((lists, gets), (3, 3), "{sent:?}");
    // A field of another manager is asked for twice: the second time with force.
    assert_eq!(applies, 4, "{sent:?}");
}
