//! Leaves, places and order, actions, prunes, and the inventory's text, as tables.

use super::*;
use crate::{
    objects::object::{DeletionRule, Gvk, Object, Retention},
    spec::{self, Application, rights::RepositoryRights},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

mod guards;

fn hash_live(
    manifest: &Object,
    live: &Object,
    ownership: FieldOwnership<'_>,
    is_released: &mut dyn FnMut(&FieldPath, &Value, Option<&Value>) -> bool,
) -> ValueHash {
    super::hash_live(manifest, live, ownership, is_released).0
}

fn object(value: Value) -> Object {
    Object::new(value).unwrap()
}

fn key(text: &str) -> ObjectKey {
    let (kind, rest) = text.split_once(' ').unwrap();
    let (namespace, name) = rest
        .split_once('/')
        .map_or((None, rest), |(namespace, name)| {
            (Some(namespace.to_owned()), name)
        });
    let group = match kind {
        "Deployment" => "apps",
        "CustomResourceDefinition" => "apiextensions.k8s.io",
        "Issuer" => "acme.io",
        _ => "",
    };
    ObjectKey::new(group, kind, namespace, name)
}

fn application(more: &str) -> Application {
    let text = format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {{name: dev}}\nspec: {{paths: ['**'], update: {{via: commit}}}}\n---\n\
         apiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: shop, namespace: dev}}\n\
         spec: {{environment: dev, path: a, cluster: c{more}}}\n"
    );
    let read = spec::read([("a.yaml", text.as_bytes())], None);
    assert!(!read.has_errors(), "{:?}", read.mistakes);
    read.applications.into_values().next().unwrap()
}

struct BuiltinKinds;
impl KindScopes for BuiltinKinds {
    fn namespaced(&self, gvk: &Gvk) -> Option<bool> {
        match gvk.kind.as_str() {
            "Namespace" | "CustomResourceDefinition" | "ClusterRole" => Some(false),
            "Issuer" | "Thing" => None,
            _ => Some(true),
        }
    }
}

fn config(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}, "data": {"a": "1"}})
}

/// The leaves that differ, as text.
fn differing(manifest: Value, live: Value) -> Vec<String> {
    let mut found = Vec::new();
    visit_leaves(
        &object(manifest),
        &object(live),
        FieldOwnership::default(),
        &mut |path, desired, there| {
            if Some(desired) != there {
                found.push(format!(
                    "{path}: {} {desired}",
                    there.map_or("-".to_owned(), Value::to_string)
                ));
            }
        },
    );
    found
}

#[test]
fn leaves_match_lists_like_server_side_apply() {
    let pod = |containers: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": containers}});
    for (manifest, live, found) in [
        // A side-car in front moves nothing; a changed image is found behind it.
        (
            json!([{"name": "web", "image": "a:1"}]),
            json!([{"name": "proxy", "image": "p"}, {"name": "web", "image": "a:2"}]),
            vec!["/spec/containers[name=web]/image: \"a:2\" \"a:1\""],
        ),
        // A default that the manifest leaves out identifies all the same.
        (
            json!([{"name": "web", "ports": [{"containerPort": 80}]}]),
            json!([{"name": "web", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]),
            vec![],
        ),
        // A list of plain values is one value.
        (
            json!([{"name": "web", "args": ["a", "b"]}]),
            json!([{"name": "web", "args": ["b"]}]),
            vec!["/spec/containers[name=web]/args: [\"b\"] [\"a\",\"b\"]"],
        ),
        // Gone is different from empty.
        (
            json!([{"name": "web", "image": "a"}]),
            json!([]),
            vec![
                "/spec/containers[name=web]/image: - \"a\"",
                "/spec/containers[name=web]/name: - \"web\"",
            ],
        ),
    ] {
        assert_eq!(differing(pod(manifest), pod(live)), found);
    }
}

#[test]
fn hash_live_ignores_additions() {
    let manifest = json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "labels": {"x": "1"}, "finalizers": ["ours"]}, "spec": {"a": {}}});
    let live = json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "labels": {"x": "1", "y": "2"}, "uid": "u", "finalizers": ["theirs", "ours"]},
        "spec": {"a": {}, "b": 3}, "status": {"ready": true}});
    let (manifest, live) = (object(manifest), object(live));
    let before = hash_live(
        &manifest,
        &live,
        FieldOwnership::default(),
        &mut |_, _, _| false,
    );
    let mut changed = live.clone();
    changed
        .edit(|fields| fields["spec"]["b"] = json!(4))
        .unwrap();
    assert_eq!(
        before,
        hash_live(
            &manifest,
            &changed,
            FieldOwnership::default(),
            &mut |_, _, _| false
        )
    );
    changed.set_label("x", "2");
    assert_ne!(
        before,
        hash_live(
            &manifest,
            &changed,
            FieldOwnership::default(),
            &mut |_, _, _| false
        )
    );
    let ignoring = |live: &Object| {
        hash_live(
            &manifest,
            live,
            FieldOwnership::default(),
            &mut |path, _, _| path.is_below("/metadata/labels"),
        )
    };
    assert_eq!(ignoring(&changed), ignoring(&live));
}

#[test]
fn hash_live_atomic_field_counts_as_a_whole() {
    let role = |rules: Value| {
        object(
            json!({"apiVersion": "v1", "kind": "Role", "metadata": {"name": "a"}, "spec": {}, "rules": rules}),
        )
    };
    let (git, more) = (
        role(json!([{"verbs": ["get"]}])),
        role(json!([{"verbs": ["get"]}, {"verbs": ["*"]}])),
    );
    let atomic_fields = KindAtomicFields::new(vec!["/rules".into()]);
    let whole = FieldOwnership {
        atomic_fields: &atomic_fields,
        ..FieldOwnership::default()
    };
    let hash = |live: &Object, ownership: FieldOwnership<'_>| {
        hash_live(&git, live, ownership, &mut |_, _, _| false)
    };
    assert_ne!(hash(&git, whole), hash(&more, whole));
    assert_eq!(
        hash(&git, FieldOwnership::default()),
        hash(&more, FieldOwnership::default()),
        "many values: what is added is theirs"
    );
    // A record of a time before atoms were known must not call for a write.
    assert_eq!(
        hash(&more, FieldOwnership::default()).to_string(),
        "6fb49c909bf184cf09cd4a46dbc7a93b"
    );
    // An empty map may be filled by others, unless somebody has written the whole of it.
    let mut filled = git.clone();
    filled
        .edit(|fields| fields["spec"] = json!({"a": 1}))
        .unwrap();
    assert_eq!(hash(&git, whole), hash(&filled, whole));
    let lost = FieldOwnership {
        overwritten: &|path| path.to_string() == "/spec",
        ..whole
    };
    assert_eq!(hash(&git, whole), hash(&git, lost));
    assert_ne!(hash(&git, whole), hash(&filled, lost));
}

#[test]
fn path_is_below_matches_pointers() {
    let mut seen = Vec::new();
    let manifest = object(
        json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "annotations": {"x/y": "1"}},
        "spec": {"list": [{"name": "n", "value": 1}]}}),
    );
    visit_leaves(
        &manifest,
        &manifest,
        FieldOwnership::default(),
        &mut |path, _, _| seen.push(path.clone()),
    );
    let below = |pointer: &str| {
        seen.iter()
            .filter(|path| path.is_below(pointer))
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        below("/metadata/annotations/x~1y"),
        ["/metadata/annotations/x~1y"]
    );
    assert_eq!(below("/spec/list/0/value"), ["/spec/list[name=n]/value"]);
    assert_eq!(below("/spec/list/1/value"), [""; 0]);
    assert_eq!(below("/spec").len(), 2);
    assert!(seen.iter().all(|path| path.of(&manifest).is_some()));
    let live = object(
        json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a"}, "spec": {"list": [{"name": "m"}, {"name": "n", "value": 2}]}}),
    );
    let there: Vec<_> = seen
        .iter()
        .filter_map(|path| path.pointer_in(&live))
        .collect();
    assert_eq!(there, ["/spec/list/1/name", "/spec/list/1/value"]);
}

proptest! {
    /// The hash says "same" exactly when every leaf is the same, whatever else there is and however
    /// fields are ordered.
    #[test]
    fn hash_equals_for_equal_leaves(
        fields in proptest::collection::btree_map("[a-c]{1,2}", "[a-z]{0,3}", 0..5),
        others in proptest::collection::btree_map("[d-f]{1,2}", "[a-z]{0,3}", 0..3),
        changed in proptest::option::of(("[a-c]{1,2}", "[A-Z]{1,3}")),
    ) {
        let of = |data: &BTreeMap<String, String>, reverse: bool| {
            let mut pairs: Vec<_> = data.iter().collect();
            if reverse { pairs.reverse(); }
            let data: serde_json::Map<String, Value> = pairs.into_iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
            object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}))
        };
        let manifest = of(&fields, false);
        prop_assert_eq!(hash_manifest(&manifest), hash_manifest(&of(&fields, true)));
        let mut live = fields.clone();
        live.extend(others);
        let before = hash_live(&manifest, &of(&live, true), FieldOwnership::default(), &mut |_, _, _| false);
        prop_assert_eq!(before, hash_live(&manifest, &of(&fields, false), FieldOwnership::default(), &mut |_, _, _| false));
        if let Some((name, value)) = changed {
            let ours = fields.contains_key(&name);
            live.insert(name, value);
            prop_assert_eq!(before != hash_live(&manifest, &of(&live, false), FieldOwnership::default(), &mut |_, _, _| false), ours);
        }
    }
}

#[test]
fn desired_namespace_set_or_refused() {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r", "namespace": "x"}});
    let bare = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bare"}});
    let all = |more: &str| {
        desired_objects(
            &application(more),
            vec![
                object(role.clone()),
                object(bare.clone()),
                object(config("c")),
            ],
            &BuiltinKinds,
        )
    };
    let (found, refused) = all(", targetNamespace: t");
    assert_eq!(
        found
            .iter()
            .map(|one| one.key.to_string())
            .collect::<Vec<_>>(),
        ["ClusterRole r", "ConfigMap t/bare", "ConfigMap shop/c"]
    );
    assert_eq!(
        owner(&found[1].manifest.object().unwrap()),
        Some(application("").name)
    );
    assert_eq!(refused, []);
    let (found, refused) = all("");
    assert_eq!(found.len(), 2);
    assert_eq!(
        refused[0].why,
        "it names no namespace, and the Application has no targetNamespace"
    );
    let (_, refused) = desired_objects(
        &application(""),
        vec![object(config("c")), object(config("c"))],
        &BuiltinKinds,
    );
    assert_eq!(refused[0].why, "it is declared twice; the first counts");
}

#[test]
fn desired_secret_has_encoded_data() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}, "data": {"a": "eA=="}, "stringData": {"b": "y"}});
    let (found, _) = desired_objects(&application(""), vec![object(secret)], &BuiltinKinds);
    let sent = found[0].manifest.object().unwrap();
    assert_eq!(sent.value()["data"], json!({"a": "eA==", "b": "eQ=="}));
    assert!(!sent.value().contains_key("stringData"));
}

#[test]
fn desired_aggregated_role_has_no_rules() {
    let role = |kind: &str, rule: Value| {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "r", "namespace": "n"}, "aggregationRule": rule, "rules": []});
        let (found, _) = desired_objects(&application(""), vec![object(role)], &BuiltinKinds);
        found[0]
            .manifest
            .object()
            .unwrap()
            .value()
            .contains_key("rules")
    };
    let rule = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    assert!(!role("ClusterRole", rule.clone()));
    assert!(role("ClusterRole", json!(null)) && role("Role", rule));
}

#[test]
fn desired_secret_refuses_non_text() {
    let plain = |plain: Value, data: Value| {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}, "data": data, "stringData": plain});
        let origin = crate::objects::object::ObjectOrigin {
            file: "a.yaml".into(),
            line: 3,
        };
        let (found, refused) = desired_objects(
            &application(""),
            vec![object(secret).at(origin)],
            &BuiltinKinds,
        );
        assert!(refused.iter().all(|refused| refused.origin.is_some()));
        (
            found
                .first()
                .map(|one| one.manifest.object().unwrap().value()["data"].clone()),
            refused.first().map(|refused| refused.why.clone()),
        )
    };
    for (given, data, sent) in [
        (
            json!({"empty": null, "no": ""}),
            json!(null),
            json!({"empty": "", "no": ""}),
        ),
        (
            json!({"a": null}),
            json!({"a": "eA==", "b": "eQ=="}),
            json!({"a": "", "b": "eQ=="}),
        ),
        (json!(null), json!({"b": "eQ=="}), json!({"b": "eQ=="})),
    ] {
        assert_eq!(plain(given, data), (Some(sent), None));
    }
    for (given, data, why) in [
        (
            json!({"a": ["geheim"]}),
            json!(null),
            "stringData.a is a list, not text; put it in quotes",
        ),
        (
            json!({"a": 4711}),
            json!({}),
            "stringData.a is a number, not text; put it in quotes",
        ),
        (
            json!("geheim"),
            json!({}),
            "stringData is text, not a mapping of names to texts",
        ),
        (
            json!({}),
            json!(["geheim"]),
            "data is a list, not a mapping of names to texts in base64",
        ),
    ] {
        assert_eq!(plain(given, data), (None, Some(why.to_owned())));
    }
}

/// A name for each object: its kind and name, with those before it and the wave.
fn order(objects: Vec<Value>) -> (Vec<String>, Vec<String>) {
    let (found, refused) = desired_objects(
        &application(", targetNamespace: shop"),
        objects.into_iter().map(object).collect(),
        &BuiltinKinds,
    );
    let said = found.iter().map(|one| {
        let after: Vec<String> = one
            .after
            .iter()
            .map(|after| {
                format!(
                    "{}{}",
                    found[after.index].key,
                    if after.healthy { "!" } else { "" }
                )
            })
            .collect();
        format!("{} {} <- {}", one.wave, one.key, after.join(", "))
    });
    (
        said.collect(),
        refused
            .iter()
            .map(|refused| format!("{}: {}", refused.key, refused.why))
            .collect(),
    )
}

fn annotated(name: &str, depends: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop", "annotations": {"tagboat.dev/depends-on": depends}}})
}

#[test]
fn order_dependencies_come_first() {
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "issuers.acme.io"},
        "spec": {"group": "acme.io", "scope": "Namespaced", "names": {"kind": "Issuer"}}});
    let (found, refused) = order(vec![
        json!({"apiVersion": "acme.io/v1", "kind": "Issuer", "metadata": {"name": "i"}}),
        crd,
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        annotated("late", "apps/namespaces/shop/Deployment/web"),
    ]);
    assert_eq!(refused, [""; 0]);
    assert_eq!(
        found,
        [
            "4 Issuer.acme.io shop/i <- Namespace shop, CustomResourceDefinition issuers.acme.io!",
            "0 CustomResourceDefinition issuers.acme.io <- ",
            "3 Deployment shop/web <- Namespace shop",
            "0 Namespace shop <- ",
            "1 ConfigMap shop/late <- Namespace shop, Deployment shop/web!",
        ]
    );
}

#[test]
fn order_cycle_refuses_only_its_members() {
    let (found, refused) = order(vec![
        annotated("a", "/namespaces/shop/ConfigMap/b"),
        annotated("b", "/namespaces/shop/ConfigMap/a"),
        annotated("c", "/namespaces/shop/ConfigMap/a"),
        annotated("d", "nothing"),
        annotated("e", "/namespaces/shop/ConfigMap/f"),
        config("f"),
    ]);
    assert_eq!(
        found,
        [
            "1 ConfigMap shop/e <- ConfigMap shop/f!",
            "1 ConfigMap shop/f <- "
        ]
    );
    assert_eq!(
        refused,
        [
            "ConfigMap shop/a: its tagboat.dev/depends-on forms a cycle",
            "ConfigMap shop/b: its tagboat.dev/depends-on forms a cycle",
            "ConfigMap shop/c: it needs ConfigMap shop/a, which cannot be applied",
            "ConfigMap shop/d: tagboat.dev/depends-on: write group/namespaces/NAMESPACE/Kind/name or group/Kind/name, not \"nothing\"",
        ]
    );
}

#[derive(Default)]
struct OtherClaims(Vec<&'static str>, bool);
impl ObjectClaims for OtherClaims {
    fn claims(&self, application: &Name, _: &ObjectKey) -> Option<bool> {
        (!self.1).then(|| self.0.iter().any(|other| application.to_string() == *other))
    }
    fn claimants(&self, _: &ObjectKey) -> Vec<Name> {
        self.0.iter().map(|other| other.parse().unwrap()).collect()
    }
    fn is_tenant(&self, _: &Name) -> bool {
        false
    }
    fn are_foreign(&self, _: &Name, _: &Name) -> bool {
        false
    }
}

/// The rights of the only repository.
static UNRESTRICTED: std::sync::LazyLock<RepositoryRights> =
    std::sync::LazyLock::new(Default::default);

#[test]
fn decide_action_table() {
    let shop = application("").name;
    let one = |value: Value| {
        desired_objects(&application(""), vec![object(value)], &BuiltinKinds)
            .0
            .remove(0)
    };
    let usual = one(config("c"));
    let with = |annotation: &str, value: &str| {
        let mut it = config("c");
        it["metadata"]["annotations"] = json!({annotation: value});
        one(it)
    };
    let live_hash = hash_manifest(&object(config("live")));
    let answered = |manifest: ValueHash| InventoryEntry {
        version: "v1".into(),
        applied: Some(AppliedState {
            uid: "u".into(),
            manifest,
            live: live_hash,
            leaves: LeafHashes::default(),
            atomic_fields: KindAtomicFields::NONE,
            untouched: false,
            replicas: None,
            ended: None,
        }),
    };
    let sent = InventoryEntry {
        version: "v1".into(),
        applied: None,
    };
    let live = LiveObject {
        uid: "u".into(),
        hash: Some(live_hash),
        owner: Some(shop.clone()),
        terminating: false,
        retention: Retention::default(),
        applied_retention: Retention::default(),
        disabled: false,
    };
    let other = |name: &str| LiveObject {
        owner: Some(name.parse().unwrap()),
        ..live.clone()
    };
    let unknown = one(
        json!({"apiVersion": "acme.io/v1", "kind": "Thing", "metadata": {"name": "t", "namespace": "n"}}),
    );
    let drifted = LiveObject {
        hash: Some(usual.hash),
        ..live.clone()
    };
    let anew = LiveObject {
        uid: "v".into(),
        ..live.clone()
    };
    let entry = answered(usual.hash);
    let old = answered(live_hash);
    let once = with("tagboat.dev/ssa", "IfNotPresent");
    let mut found = answered(once.hash);
    found.applied.as_mut().unwrap().untouched = true;
    let nobody = OtherClaims::default();
    let (earlier, later) = (
        OtherClaims(vec!["dev/a"], false),
        OtherClaims(vec!["dev/z"], false),
    );
    for (case, one, entry, live, others, expected) in [
        ("new", &usual, None, None, &nobody, "Apply(New)"),
        (
            "killed before the answer",
            &usual,
            Some(&sent),
            None,
            &nobody,
            "Apply(Unanswered)",
        ),
        (
            "deleted by somebody",
            &usual,
            Some(&entry),
            None,
            &nobody,
            "Apply(Deleted)",
        ),
        (
            "deleted by somebody, changed in Git",
            &usual,
            Some(&old),
            None,
            &nobody,
            "Apply(New)",
        ),
        (
            "as wanted",
            &usual,
            Some(&entry),
            Some(&live),
            &nobody,
            "Leave(Synced)",
        ),
        (
            "changed in Git",
            &usual,
            Some(&old),
            Some(&live),
            &nobody,
            "Apply(Changed)",
        ),
        (
            "changed in the cluster",
            &usual,
            Some(&entry),
            Some(&drifted),
            &nobody,
            "Apply(Drifted)",
        ),
        (
            "created anew by somebody",
            &usual,
            Some(&entry),
            Some(&anew),
            &nobody,
            "Apply(Drifted)",
        ),
        (
            "going",
            &usual,
            Some(&entry),
            Some(&LiveObject {
                terminating: true,
                ..live.clone()
            }),
            &nobody,
            "Wait(\"it is being deleted\")",
        ),
        (
            "handed over",
            &usual,
            None,
            Some(&other("dev/a")),
            &nobody,
            "Apply(Taken)",
        ),
        (
            "claimed by its owner",
            &usual,
            None,
            Some(&other("dev/z")),
            &later,
            "Refuse(\"it belongs to Application dev/z, which declares it too; remove it from one of them\")",
        ),
        (
            "its owner not read yet",
            &usual,
            None,
            Some(&other("dev/z")),
            &OtherClaims(vec![], true),
            "Wait(\"it belongs to Application dev/z, which has not been read at this revision yet\")",
        ),
        (
            "wanted by a later one",
            &usual,
            None,
            None,
            &later,
            "Apply(New)",
        ),
        (
            "wanted by an earlier one",
            &usual,
            None,
            None,
            &earlier,
            "Refuse(\"Application dev/a declares it too, and comes first by name; remove it from one of them\")",
        ),
        (
            "ours, wanted by an earlier one",
            &usual,
            Some(&entry),
            Some(&live),
            &earlier,
            "Leave(Synced)",
        ),
        (
            "kind unknown",
            &unknown,
            None,
            None,
            &nobody,
            "Wait(\"the cluster does not serve acme.io/v1/Thing (yet)\")",
        ),
        (
            "disabled by hand",
            &usual,
            Some(&old),
            Some(&LiveObject {
                disabled: true,
                ..drifted.clone()
            }),
            &nobody,
            "Leave(Frozen)",
        ),
        (
            "disabled, and another's",
            &usual,
            None,
            Some(&LiveObject {
                disabled: true,
                ..other("dev/a")
            }),
            &nobody,
            "Leave(Frozen)",
        ),
        (
            "disabled, and gone",
            &usual,
            Some(&entry),
            None,
            &nobody,
            "Apply(Deleted)",
        ),
        (
            "disabled",
            &with("tagboat.dev/reconcile", "disabled"),
            None,
            None,
            &nobody,
            "Leave(Disabled)",
        ),
        (
            "present",
            &with("tagboat.dev/ssa", "IfNotPresent"),
            Some(&old),
            Some(&drifted),
            &nobody,
            "Leave(Present)",
        ),
        (
            "found, out of sight",
            &once,
            Some(&found),
            None,
            &nobody,
            "Leave(Present)",
        ),
        (
            "made by us, gone",
            &once,
            Some(&answered(once.hash)),
            None,
            &nobody,
            "Apply(Deleted)",
        ),
        (
            "found, and wanted now",
            &usual,
            Some(&found),
            None,
            &nobody,
            "Apply(Taken)",
        ),
        (
            "not present",
            &with("tagboat.dev/ssa", "IfNotPresent"),
            None,
            None,
            &nobody,
            "Apply(New)",
        ),
    ] {
        assert_eq!(
            format!("{:?}", decide_action(&shop, one, entry, live, others)),
            expected,
            "{case}"
        );
    }
}

#[test]
fn plan_job_that_ended_is_not_run_again() {
    let name = application("").name;
    let job = |image: &str, lifetime: Value| {
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate", "namespace": "shop"},
            "spec": {"ttlSecondsAfterFinished": lifetime, "template": {"spec": {"containers": [{"name": "a", "image": image}]}}}});
        let (mut found, _) = desired_objects(&application(""), vec![object(job)], &BuiltinKinds);
        found.remove(0)
    };
    let (short, kept) = (job("a:1", json!(0)), job("a:1", Value::Null));
    let newer = job("a:2", json!(0));
    let entry = |of: &DesiredObject, ended| InventoryEntry {
        version: "v1".into(),
        applied: Some(AppliedState {
            uid: "u".into(),
            manifest: of.hash,
            live: of.hash,
            leaves: LeafHashes::default(),
            atomic_fields: KindAtomicFields::NONE,
            untouched: false,
            replicas: None,
            ended,
        }),
    };
    use crate::objects::health::RunEnd::{Completed, Failed};
    for (case, one, entry, expected) in [
        (
            "still running",
            &short,
            entry(&short, None),
            "Apply(Deleted)",
        ),
        (
            "completed, and expired",
            &short,
            entry(&short, Some(Completed)),
            "Leave(Ended(Completed))",
        ),
        (
            "completed, deleted by hand",
            &kept,
            entry(&kept, Some(Completed)),
            "Leave(Ended(Completed))",
        ),
        (
            "failed, and expired",
            &short,
            entry(&short, Some(Failed)),
            "Leave(Ended(Failed))",
        ),
        (
            "failed, deleted by hand",
            &kept,
            entry(&kept, Some(Failed)),
            "Apply(Deleted)",
        ),
        (
            "of another manifest",
            &newer,
            entry(&short, Some(Completed)),
            "Apply(New)",
        ),
    ] {
        let found = decide_action(&name, one, Some(&entry), None, &OtherClaims::default());
        assert_eq!(format!("{found:?}"), expected, "{case}");
        let is_done = expected == "Leave(Ended(Completed))";
        assert_eq!(is_left_alone(one, Some(&entry), None), is_done, "{case}");
    }
    // The end survives in the record.
    let mut inventory = Inventory::default();
    let before = entry(&short, Some(Completed));
    inventory.entries.insert(short.key.clone(), before.clone());
    let text = inventory.to_string();
    assert!(text.contains(r#""ended":"completed""#), "{text}");
    let read = Inventory::parse(&text).unwrap();
    assert_eq!(read.entries[&short.key], before);
}

fn always_kept() -> Retention {
    let kept = DeletionRule::Kept("prune: disabled");
    Retention {
        prune: kept,
        delete: kept,
    }
}

fn owned(keys: &[&str]) -> Inventory {
    let hash = hash_manifest(&object(config("x")));
    let applied = Some(AppliedState {
        uid: "u".into(),
        manifest: hash,
        live: hash,
        leaves: LeafHashes::default(),
        atomic_fields: KindAtomicFields::NONE,
        untouched: false,
        replicas: None,
        ended: None,
    });
    let entries: BTreeMap<_, _> = keys
        .iter()
        .map(|text| {
            (
                key(text),
                InventoryEntry {
                    version: "v1".into(),
                    applied: applied.clone(),
                },
            )
        })
        .collect();
    Inventory {
        objects: Some(entries.len()),
        entries,
        ..Inventory::default()
    }
}

#[test]
fn plan_prune_sorts_objects_by_fate() {
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
    let all = [
        "Deployment shop/web",
        "ConfigMap shop/gone",
        "ConfigMap shop/theirs",
        "ConfigMap shop/going",
        "ConfigMap shop/frozen",
        "ConfigMap shop/kept",
        "ConfigMap shop/anew",
        "ConfigMap shop/c",
        "ConfigMap shop/old",
        "ConfigMap shop/wanted",
    ];
    let mut inventory = owned(&all);
    inventory.entries.insert(
        key("ConfigMap shop/unanswered"),
        InventoryEntry {
            version: "v1".into(),
            applied: None,
        },
    );
    let live: HashMap<_, _> = [
        ("Deployment shop/web", mine.clone()),
        (
            "ConfigMap shop/theirs",
            LiveObject {
                owner: Some("dev/other".parse().unwrap()),
                ..mine.clone()
            },
        ),
        (
            "ConfigMap shop/going",
            LiveObject {
                terminating: true,
                ..mine.clone()
            },
        ),
        (
            "ConfigMap shop/frozen",
            LiveObject {
                disabled: true,
                ..mine.clone()
            },
        ),
        (
            "ConfigMap shop/kept",
            LiveObject {
                retention: always_kept(),
                ..mine.clone()
            },
        ),
        (
            "ConfigMap shop/anew",
            LiveObject {
                uid: "v".into(),
                ..mine.clone()
            },
        ),
        ("ConfigMap shop/c", mine.clone()),
        ("ConfigMap shop/old", mine.clone()),
        ("ConfigMap shop/wanted", mine),
    ]
    .into_iter()
    .map(|(text, live)| (key(text), live))
    .collect();
    let (keep, _) = desired_objects(&application(""), vec![object(config("c"))], &BuiltinKinds);
    let found = plan_prune(
        ObjectOwner {
            own_namespace: "tagboat-system",
            rights: &UNRESTRICTED,
            cluster: "test",
            application: &shop,
            prune: true,
            deleting: false,
            revision: "r",
        },
        &keep,
        &inventory,
        |key| live.get(key),
        |key| key.name == "wanted",
    );
    assert_eq!(
        found.unanswered,
        [key("ConfigMap shop/unanswered")],
        "it may still come"
    );
    assert_eq!(found.handed_over, [key("ConfigMap shop/wanted")]);
    assert_eq!(
        found
            .delete
            .iter()
            .map(|prune| prune.key.to_string())
            .collect::<Vec<_>>(),
        ["Deployment shop/web", "ConfigMap shop/old"]
    );
    assert_eq!(found.terminating, [key("ConfigMap shop/going")]);
    assert_eq!(
        found
            .drop
            .iter()
            .map(|(key, why)| format!("{}: {}", key.name, why.as_deref().unwrap_or("-")))
            .collect::<Vec<_>>(),
        [
            "anew: it stays in the cluster: it was re-created outside Git",
            "frozen: it stays in the cluster: reconcile: disabled",
            "gone: -",
            "kept: it stays in the cluster: prune: disabled",
            "theirs: -",
        ]
    );
    assert_eq!(found.confirmation, None);
    assert_eq!(
        plan_prune(
            ObjectOwner {
                own_namespace: "tagboat-system",
                rights: &UNRESTRICTED,
                cluster: "test",
                application: &shop,
                prune: false,
                deleting: false,
                revision: "r"
            },
            &keep,
            &owned(&all),
            |key| live.get(key),
            |_| false
        )
        .delete,
        []
    );
}

#[test]
fn confirmation_is_valid_for_one_revision() {
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
    let many: Vec<String> = (0..11).map(|i| format!("ConfigMap shop/n{i:02}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut more = many.clone();
    more.extend(["ConfigMap shop/c", "ConfigMap shop/n00"]);
    let (keep, _) = desired_objects(&application(""), vec![object(config("c"))], &BuiltinKinds);
    for (all, keep, expected) in [
        (
            vec!["ConfigMap shop/a"],
            &[][..],
            Some("nothing is rendered any more, and 1 object would be deleted"),
        ),
        (more, &keep, Some("11 objects of 12 would be deleted")),
        (many[..10].to_vec(), &keep, None),
        (
            vec!["Namespace shop", "ConfigMap shop/a"],
            &keep,
            Some("Namespace shop would be deleted with everything in them"),
        ),
        (
            vec!["PersistentVolumeClaim shop/a"],
            &keep,
            Some("PersistentVolumeClaim shop/a would be deleted with everything in them"),
        ),
        (vec![], &[][..], None),
    ] {
        let mut inventory = owned(&all);
        let found = |inventory: &Inventory| {
            plan_prune(
                ObjectOwner {
                    own_namespace: "tagboat-system",
                    rights: &UNRESTRICTED,
                    cluster: "test",
                    application: &shop,
                    prune: true,
                    deleting: false,
                    revision: "r2",
                },
                keep,
                inventory,
                |_| Some(&mine),
                |_| false,
            )
            .confirmation
        };
        assert_eq!(found(&inventory).as_deref(), expected, "{all:?}");
        let all_keys: BTreeSet<ObjectKey> = inventory.entries.keys().cloned().collect();
        let confirmed = |revision: &str, objects: &BTreeSet<ObjectKey>| {
            Some(Box::new(Confirmation {
                revision: revision.to_owned(),
                objects: objects.clone(),
            }))
        };
        inventory.confirmed = confirmed("r1", &all_keys);
        assert_eq!(
            found(&inventory).as_deref(),
            expected,
            "a yes for another revision"
        );
        inventory.confirmed = confirmed("r2", &BTreeSet::new());
        assert_eq!(
            found(&inventory).as_deref(),
            expected,
            "a yes for other objects"
        );
        inventory.confirmed = confirmed("r2", &all_keys);
        assert_eq!(found(&inventory), None);
    }
    // An Application that is deleted by its policy needs a yes only for what others may have put
    // something into.
    let deleting = ObjectOwner {
        own_namespace: "tagboat-system",
        rights: &UNRESTRICTED,
        cluster: "test",
        application: &shop,
        prune: true,
        deleting: true,
        revision: "r2",
    };
    let found = |all: &[&str]| {
        plan_prune(deleting, &[], &owned(all), |_| Some(&mine), |_| false).confirmation
    };
    assert_eq!(found(&many), None);
    assert_eq!(
        found(&["Namespace shop"]).as_deref(),
        Some("Namespace shop would be deleted with everything in them")
    );
    let doubted = Inventory {
        delete_guard: Some("repository r declares nothing".into()),
        ..owned(&["ConfigMap shop/a"])
    };
    let asked = plan_prune(deleting, &[], &doubted, |_| Some(&mine), |_| false).confirmation;
    assert_eq!(
        asked.as_deref(),
        Some("repository r declares nothing, and 1 object would be deleted")
    );
}

#[test]
fn inventory_round_trip_refuses_damage() {
    let mut inventory = owned(&["Deployment shop/web", "Namespace shop"]);
    inventory
        .entries
        .get_mut(&key("Namespace shop"))
        .unwrap()
        .applied = None;
    inventory.repository = "fleet".into();
    inventory
        .entries
        .get_mut(&key("Deployment shop/web"))
        .unwrap()
        .applied
        .as_mut()
        .unwrap()
        .untouched = true;
    inventory
        .entries
        .get_mut(&key("Deployment shop/web"))
        .unwrap()
        .applied
        .as_mut()
        .unwrap()
        .replicas = Some(3);
    inventory.address = "git.example.org/shop/fleet".into();
    inventory.part = "main:policies".into();
    inventory.confirmed = Some(Box::new(Confirmation {
        revision: "abc".into(),
        objects: [key("Namespace shop")].into(),
    }));
    inventory.incomplete = true;
    inventory.delete_guard = Some("none".into());
    inventory.recovered.insert(key("Namespace shop"));
    let atomic_fields = |inventory: &mut Inventory, atomic_fields| {
        inventory
            .entries
            .get_mut(&key("Deployment shop/web"))
            .unwrap()
            .applied
            .as_mut()
            .unwrap()
            .atomic_fields = atomic_fields
    };
    let before = inventory.to_string();
    atomic_fields(
        &mut inventory,
        KindAtomicFields::new(vec!["/spec/selector".into()]),
    );
    let text = inventory.to_string();
    assert_eq!(Inventory::parse(&text).unwrap(), inventory);
    let missing = text.replace(r#","atomicFields":[["/spec/selector"]]"#, "");
    assert_eq!(
        Inventory::parse(&missing).unwrap_err(),
        "line 3: there are no atomic fields 0"
    );
    // Without atomic fields, none are written.
    assert!(!before.contains("atomic"), "{before}");
    atomic_fields(&mut inventory, KindAtomicFields::NONE);
    assert_eq!(Inventory::parse(&before).unwrap(), inventory);
    let cut = &text[..text.len() - 10];
    assert!(
        Inventory::parse(cut).unwrap_err().starts_with("line 3: "),
        "{cut}"
    );
    assert!(Inventory::parse("").is_err());
}

#[test]
fn history_keeps_twenty_rollouts() {
    let at = |second: i64| jiff::Timestamp::from_second(second).unwrap();
    let rollout = |revision: &str, result, second| Rollout {
        revision: revision.into(),
        result,
        since: at(second),
        message: String::new(),
    };
    let mut history = RolloutHistory::default();
    history.note(rollout("a", RolloutOutcome::Progressing, 1));
    history.note(rollout("a", RolloutOutcome::Applied, 2));
    history.note(rollout("a", RolloutOutcome::Applied, 3));
    assert_eq!(history.0, [rollout("a", RolloutOutcome::Applied, 2)]);
    history.note(rollout("b", RolloutOutcome::Progressing, 4));
    history.note(rollout("c", RolloutOutcome::Failed, 5));
    assert_eq!(
        history
            .0
            .iter()
            .map(|one| format!("{} {}", one.revision, one.result))
            .collect::<Vec<_>>(),
        ["c failed", "b superseded", "a applied"]
    );
    (0..30).for_each(|i| history.note(rollout(&i.to_string(), RolloutOutcome::Applied, 6)));
    assert_eq!(history.0.len(), 20);
    assert_eq!(
        RolloutHistory::parse(&history.to_string()).unwrap(),
        history
    );
}

#[test]
fn redact_pair_masks_secret_values() {
    let secret = |a: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "uid": "u", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": a}}, "data": {"a": a, "b": "same"}});
    let (before, after) = redact_pair(
        Some(&object(secret("geheim"))),
        Some(&object(secret("neu"))),
    );
    let text = format!("{:?}{:?}", before, after);
    assert!(
        !text.contains("geheim")
            && !text.contains("neu")
            && !text.contains("same")
            && !text.contains("last-applied"),
        "{text}"
    );
    assert_eq!(
        before.unwrap().value()["data"],
        json!({"a": "*** (before)", "b": "***"})
    );
    assert_eq!(
        after.unwrap().value()["data"],
        json!({"a": "*** (after)", "b": "***"})
    );
    let (_, alone) = redact_pair(None, Some(&object(secret("geheim"))));
    assert_eq!(
        alone.unwrap().value()["data"],
        json!({"a": "***", "b": "***"})
    );
}

#[test]
fn leaves_of_crd_lists_match_by_server_keys() {
    let route = |spec: Value| {
        object(
            json!({"apiVersion": "acme.io/v1", "kind": "Route", "metadata": {"name": "a"}, "spec": spec}),
        )
    };
    let rule = |host: &str, to: &str| json!({"host": host, "path": "/", "to": to});
    let git = route(json!({"hosts": ["b"], "rules": [rule("b", "ours")]}));
    let list_type = |path: &FieldPath| match path.to_string().as_str() {
        "/spec/rules" => ListType::Keyed(vec!["host".to_owned(), "path".to_owned()]),
        "/spec/hosts" => ListType::Set,
        _ => ListType::Unknown,
    };
    let hash = |live: &Object| {
        let ownership = FieldOwnership {
            list_type: &list_type,
            ..FieldOwnership::default()
        };
        hash_live(&git, live, ownership, &mut |_, _, _| false)
    };
    let before = hash(&git);
    for (spec, equal) in [
        (
            json!({"hosts": ["a", "b"], "rules": [rule("a", "theirs"), rule("b", "ours")]}),
            true,
        ),
        (json!({"hosts": ["a"], "rules": [rule("b", "ours")]}), false),
        (
            json!({"hosts": ["b"], "rules": [rule("a", "ours"), rule("b", "theirs")]}),
            false,
        ),
    ] {
        assert_eq!(hash(&route(spec.clone())) == before, equal, "{spec}");
    }
}
