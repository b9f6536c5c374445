use super::*;
use serde_json::json;

/// A Deployment as a 1.3x server shows it: applied by kubectl, edited, and scaled by an
/// autoscaler.
fn deployment() -> Object {
    Object::new(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "shop",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a/b": "c"},
            "finalizers": ["x/one", "x/two"],
            "managedFields": [
                {"manager": "tagboat", "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-11-20T10:00:00Z", "fieldsType": "FieldsV1",
                 "fieldsV1": {"f:metadata": {"f:finalizers": {"v:\"x/one\"": {}}},
                    "f:spec": {"f:selector": {}, "f:template": {"f:spec": {"f:containers": {
                        "k:{\"name\":\"web\"}": {".": {}, "f:name": {}, "f:image": {}, "f:ports": {
                            "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}}}},
                {"manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "apps/v1", "time": "2026-11-19T10:00:00Z",
                 "fieldsV1": {"f:metadata": {"f:annotations": {".": {}, "f:a/b": {}, "f:kubectl.kubernetes.io/last-applied-configuration": {}}},
                    "f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:image": {}, "f:env": {".": {}}}}}}}}},
                {"manager": "kubectl-edit", "operation": "Update", "apiVersion": "apps/v1", "time": "2026-11-21T10:00:00Z",
                 "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:image": {}}}}}}}},
                {"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "apps/v1", "time": "2026-11-21T11:00:00Z", "subresource": "status",
                 "fieldsV1": {"f:status": {"f:conditions": {".": {}, "k:{\"type\":\"Available\"}": {".": {}, "f:status": {}}}}}},
                {"manager": "hpa", "operation": "Update", "apiVersion": "autoscaling/v1", "time": "2026-11-21T12:00:00Z", "subresource": "scale",
                 "fieldsV1": {"f:spec": {"f:replicas": {}}}}
            ]
        },
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"spec": {"containers": [{"name": "side"}, {"name": "web", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}},
        "status": {"conditions": [{"type": "Available", "status": "True"}]}
    }))
    .unwrap()
}

fn names(pointer: &str) -> Vec<String> {
    managers_of(&deployment(), pointer)
        .into_iter()
        .map(|manager| manager.name)
        .collect()
}

#[test]
fn managers_found_through_keys_sets_and_atomic() {
    assert_eq!(
        names("/spec/template/spec/containers/1/image"),
        ["kubectl-edit", "tagboat", "kubectl-client-side-apply"]
    );
    assert_eq!(
        names("/spec/template/spec/containers/1/ports/0/containerPort"),
        ["tagboat"]
    );
    assert_eq!(names("/spec/template/spec/containers/0/image"), [""; 0]);
    assert_eq!(names("/spec/selector/matchLabels/app"), ["tagboat"]);
    assert_eq!(names("/spec/replicas"), ["hpa"]);
    assert_eq!(
        names("/metadata/annotations/a~1b"),
        ["kubectl-client-side-apply"]
    );
    assert_eq!(names("/metadata/finalizers/0"), ["tagboat"]);
    assert_eq!(names("/metadata/finalizers/1"), [""; 0]);
    assert_eq!(
        names("/status/conditions/0/status"),
        ["kube-controller-manager"]
    );
    for nothing in [
        "",
        "/",
        "/spec/none",
        "/spec/template/spec/containers/9/image",
        "/spec/template/spec/containers/x",
    ] {
        assert_eq!(names(nothing), [""; 0], "{nothing:?}");
    }
    let edit = &managers_of(&deployment(), "/spec/template/spec/containers/1/image")[0];
    assert_eq!(
        (edit.operation, edit.time),
        (
            ManagerOperation::Update,
            Some("2026-11-21T10:00:00Z".parse().unwrap())
        )
    );
}

#[test]
fn scaled_by_ignores_manifests() {
    assert_eq!(scaled_by(&deployment()).as_deref(), Some("hpa"));
    let plain =
        Object::new(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}})).unwrap();
    assert_eq!(scaled_by(&plain), None);
    assert_eq!(managers_of(&plain, "/metadata/name"), []);
}

#[test]
fn scaled_by_recognises_a_scale_to_zero() {
    let live = |replicas: u8, owner: Value| {
        let entries = json!([{"manager": "tagboat", "operation": "Apply", "fieldsV1": {"f:spec": {"f:paused": {}}}}, owner]);
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "managedFields": entries}, "spec": {"replicas": replicas}});
        scaled_by(&Object::new(object).unwrap())
    };
    let edited = json!({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}});
    let status = json!({"manager": "kube-controller-manager", "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}});
    assert_eq!(live(0, status.clone()).as_deref(), Some(UNKNOWN_SCALER));
    assert_eq!(live(1, status), None);
    assert_eq!(live(0, edited), None);
}

fn rules<'r>(managers: &'r [String], kept: &'r [String]) -> TakeOverRules<'r> {
    TakeOverRules { managers, kept }
}

/// The Deployment of [`deployment`] as Git has it.
fn manifest() -> Object {
    Object::new(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "finalizers": ["x/one"]},
        "spec": {"selector": {"matchLabels": {"app": "web"}},
            "template": {"spec": {"containers": [{"name": "web", "image": "i", "ports": [{"containerPort": 80}]}]}}},
    }))
    .unwrap()
}

#[test]
fn take_over_merges_but_skips_subresources() {
    let tools = ["kubectl", "hpa", "kube-controller-manager"].map(str::to_owned);
    let taken = rules(&tools, &[]).take(&deployment(), &manifest()).unwrap();
    assert_eq!(
        taken.managers,
        ["kubectl-client-side-apply", "kubectl-edit"]
    );
    let managers: Vec<_> = taken
        .entries
        .iter()
        .map(|entry| text(entry, "manager"))
        .collect();
    assert_eq!(managers, ["kube-controller-manager", "hpa", "tagboat"]);
    let ours = &taken.entries[2];
    let container =
        &ours["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"web\"}"];
    assert!(
        container.get("f:env").is_some() && container.get("f:ports").is_some(),
        "{container}"
    );
    assert_eq!(ours["operation"], "Apply");
    let nobody = ["nobody".to_owned(), String::new()];
    assert_eq!(rules(&nobody, &[]).take(&deployment(), &manifest()), None);
}

#[test]
fn take_over_without_own_entry_starts_one() {
    let mut live = deployment();
    live.edit(|fields| {
        let entries = fields["metadata"]["managedFields"].as_array_mut().unwrap();
        entries.retain(|entry| text(entry, "manager") != "tagboat");
    })
    .unwrap();
    let tools = ["kubectl-edit".to_owned()];
    let taken = rules(&tools, &[]).take(&live, &manifest()).unwrap();
    let ours = |entry: &&Value| text(entry, "manager") == "tagboat";
    assert_eq!(
        taken.entries.iter().find(ours).unwrap()["operation"],
        "Apply"
    );
}

/// A Deployment with fields that Git does not name, all owned by one manager.
fn with_additions(manager: &str) -> Object {
    let mut live = deployment();
    let fields = json!({
        "f:metadata": {"f:annotations": {".": {}, "f:a/b": {}, "f:tagboat.dev/prune": {}, "f:helm.sh/resource-policy": {}}},
        "f:spec": {"f:replicas": {}, "f:paused": {}, "f:template": {
            "f:metadata": {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/restartedAt": {}, "f:why": {}}},
            "f:spec": {
                "f:hostPID": {}, "f:securityContext": {},
                "f:containers": {
                    "k:{\"name\":\"side\"}": {".": {}, "f:name": {}},
                    "k:{\"name\":\"web\"}": {"f:image": {}, "f:env": {".": {}, "k:{\"name\":\"DEBUG\"}": {".": {}, "f:name": {}, "f:value": {}}},
                        "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}},
        "f:status": {"f:replicas": {}},
    });
    live.edit(|object| {
        object["metadata"]["annotations"] =
            json!({"a/b": "c", "tagboat.dev/prune": "disabled", "helm.sh/resource-policy": "keep"});
        object["metadata"]["managedFields"] =
            json!([{"manager": manager, "operation": "Update", "fieldsV1": fields}]);
        object["spec"]["paused"] = true.into();
        let template = &mut object["spec"]["template"];
        template["metadata"] =
            json!({"annotations": {"kubectl.kubernetes.io/restartedAt": "now", "why": "so"}});
        template["spec"]["hostPID"] = true.into();
        template["spec"]["securityContext"] = json!({});
        template["spec"]["containers"][1]["env"] = json!([{"name": "DEBUG", "value": "1"}]);
        object["status"] = json!({"replicas": 3});
    })
    .unwrap();
    live
}

fn paths(fields: Vec<AddedField>) -> Vec<String> {
    fields.into_iter().map(|field| field.path).collect()
}

#[test]
fn additions_of_tools_are_named() {
    let tools = ["kubectl".to_owned()];
    let take_over = rules(&tools, &[]);
    let added = take_over.additions(&with_additions("kubectl-edit"), &manifest());
    assert!(added.iter().all(|field| field.manager == "kubectl-edit"));
    assert_eq!(
        paths(added),
        [
            "/metadata/annotations/a~1b",
            "/spec/paused",
            "/spec/template/metadata/annotations/why",
            "/spec/template/spec/containers[name=side]",
            "/spec/template/spec/containers[name=web]/env[name=DEBUG]",
            "/spec/template/spec/hostPID",
        ],
        "the replicas, a restart, annotations for tools and the status stay"
    );
    // What stays keeps its manager, and is not taken over again.
    let mut live = with_additions("kubectl-edit");
    let taken = take_over.take(&live, &manifest()).unwrap();
    let staying = &taken.entries[0];
    assert_eq!(
        staying["fieldsV1"],
        json!({
            "f:metadata": {"f:annotations": {"f:tagboat.dev/prune": {}, "f:helm.sh/resource-policy": {}}},
            "f:spec": {"f:template": {"f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/restartedAt": {}}}}},
            "f:status": {"f:replicas": {}},
        })
    );
    live.edit(|object| object["metadata"]["managedFields"] = taken.entries.clone().into())
        .unwrap();
    assert_eq!(take_over.take(&live, &manifest()), None);
    assert_eq!(take_over.additions(&live, &manifest()), []);
}

/// The CA of a webhook that a script has patched in, and restarts by plugins of kubectl.
#[test]
fn additions_that_tools_rely_on_stay() {
    let tools = ["kubectl".to_owned()];
    let object = |api: &str, kind: &str, rest: Value, fields: Value| {
        let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": "a",
            "managedFields": [{"manager": "kubectl-patch", "operation": "Update", "fieldsV1": fields}]}});
        json_patch::merge(&mut object, &rest);
        Object::new(object).unwrap()
    };
    let webhook = json!({"k:{\"name\":\"w\"}": {"f:clientConfig": {"f:caBundle": {}}}});
    let note = json!({"f:kubectl.kubernetes.io/restartedAt": {}});
    for (live, manifest) in [
        (
            object(
                "admissionregistration.k8s.io/v1",
                "ValidatingWebhookConfiguration",
                json!({"webhooks": [{"name": "w", "clientConfig": {"caBundle": "Q0E="}}]}),
                json!({"f:webhooks": webhook}),
            ),
            json!({"webhooks": [{"name": "w", "clientConfig": {}}]}),
        ),
        (
            object(
                "argoproj.io/v1alpha1",
                "Rollout",
                json!({"spec": {"restartAt": "2026-11-30T10:00:00Z"}}),
                json!({"f:spec": {"f:restartAt": {}}}),
            ),
            json!({"spec": {}}),
        ),
        (
            object(
                "postgresql.cnpg.io/v1",
                "Cluster",
                json!({"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}),
                json!({"f:metadata": {"f:annotations": note}}),
            ),
            json!({}),
        ),
    ] {
        let gvk = live.gvk();
        let mut desired =
            json!({"apiVersion": gvk.api_version(), "kind": gvk.kind, "metadata": {"name": "a"}});
        json_patch::merge(&mut desired, &manifest);
        let desired = Object::new(desired).unwrap();
        let take_over = rules(&tools, &[]);
        assert_eq!(take_over.additions(&live, &desired), [], "{}", gvk.kind);
        assert_eq!(take_over.take(&live, &desired), None, "{}", gvk.kind);
    }
}

#[test]
fn additions_named_to_be_kept_stay() {
    let tools = ["kubectl".to_owned()];
    let kept = [
        "/spec/template/spec/containers[name=web]/env",
        "/spec/template/spec/containers/0",
        "/metadata/annotations",
        "/spec/paused",
        "/spec/template/spec/host",
    ]
    .map(str::to_owned);
    let take_over = rules(&tools, &kept);
    let live = with_additions("kubectl-patch");
    assert_eq!(
        paths(take_over.additions(&live, &manifest())),
        [
            "/spec/template/metadata/annotations/why",
            "/spec/template/spec/hostPID"
        ]
    );
    assert_eq!(
        paths(take_over.template_additions(&live, &manifest())),
        ["/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt"]
    );
}

#[test]
fn template_additions_of_others_are_named() {
    let tools = ["kubectl".to_owned()];
    let take_over = rules(&tools, &[]);
    let live = with_additions("injector");
    assert_eq!(take_over.additions(&live, &manifest()), []);
    assert_eq!(
        paths(take_over.template_additions(&live, &manifest())),
        [
            "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt",
            "/spec/template/metadata/annotations/why",
            "/spec/template/spec/containers[name=side]",
            "/spec/template/spec/containers[name=web]/env[name=DEBUG]",
            "/spec/template/spec/hostPID",
        ]
    );
    let ours = with_additions("tagboat");
    assert_eq!(take_over.template_additions(&ours, &manifest()), []);
}

#[test]
fn additions_leave_a_dry_run() {
    let tools = ["kubectl".to_owned()];
    let live = with_additions("kubectl-edit");
    let take_over = rules(&tools, &[]);
    let remaining = |live: &Object| {
        let additions = take_over.removable_additions(live, &manifest());
        without(live, &additions, &manifest()).0
    };
    let without = remaining(&live);
    let template = without.pointer("/spec/template").unwrap();
    assert_eq!(
        template["spec"],
        json!({"containers": [{"name": "web", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]}], "securityContext": {}})
    );
    assert!(
        without.annotation("a/b").is_none() && without.annotation("tagboat.dev/prune").is_some()
    );
    // What somebody else owns too remains.
    let mut shared = live;
    shared
        .edit(|object| {
            let entries = object["metadata"]["managedFields"].as_array_mut().unwrap();
            entries.push(json!({"manager": "other", "operation": "Update", "fieldsV1": {"f:spec": {"f:paused": {}}}}));
        })
        .unwrap();
    let without = remaining(&shared);
    assert_eq!(without.pointer("/spec/paused"), Some(&Value::Bool(true)));
}

#[test]
fn atomic_fields_learnt_from_own_apply() {
    let manifest = |spec: Value| {
        Object::new(
            json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a"}, "spec": spec}),
        )
        .unwrap()
    };
    let answer = |fields: Value| {
        let theirs = json!({"manager": "other", "operation": "Apply", "fieldsV1": {"f:spec": {}}});
        let ours =
            json!({"manager": "tagboat", "operation": "Apply", "fieldsV1": {"f:spec": fields}});
        let value = json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "managedFields": [theirs, ours]}});
        Object::new(value).unwrap()
    };
    let ports = json!({"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:from": {}}}});
    for (spec, fields, found) in [
        (
            json!({"rules": [{"a": 1}], "selector": {"a": "b"}, "more": {"a": 1}}),
            json!({"f:rules": {}, "f:selector": {}, "f:more": {"f:a": {}}}),
            "/spec/rules /spec/selector",
        ),
        // Empty maps and lists of scalars reveal nothing.
        (
            json!({"rules": [], "selector": {}, "nulls": {"a": null}, "args": ["a"]}),
            json!({"f:rules": {}, "f:selector": {}, "f:nulls": {}, "f:args": {}}),
            "",
        ),
        // Elements are matched by their keys, of which a manifest may omit defaulted ones.
        (
            json!({"ports": [{"port": 80, "from": {"a": 1}}]}),
            ports.clone(),
            "/spec/ports/*/from",
        ),
        (
            json!({"ports": [{"port": 81, "from": {"a": 1}}]}),
            ports,
            "",
        ),
        // Entries of other managers reveal nothing.
        (json!({"rules": [{"a": 1}]}), json!({".": {}}), ""),
        (json!({"rules": [{"a": 1}]}), json!("what"), ""),
    ] {
        let found_atomic = atomic_fields(&manifest(spec), &answer(fields), "tagboat");
        assert_eq!(
            found_atomic
                .places()
                .iter()
                .map(AsRef::as_ref)
                .collect::<Vec<&str>>()
                .join(" "),
            found
        );
    }
}

#[test]
fn overwritten_empty_map_owned_as_a_whole() {
    let live = |entries: &[(&str, Value)]| {
        let entries: Vec<Value> = entries
            .iter()
            .map(|(name, fields)| json!({"manager": name, "fieldsV1": {"f:spec": fields}}))
            .collect();
        let value = json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "managedFields": entries}, "spec": {"a": {"b": 1}}});
        Object::new(value).unwrap()
    };
    for (entries, lost) in [
        (
            vec![
                ("tagboat", json!({"f:a": {}})),
                ("edit", json!({"f:a": {"f:b": {}}})),
            ],
            false,
        ),
        (
            vec![
                ("tagboat", json!({"f:c": {}})),
                ("edit", json!({"f:a": {}})),
            ],
            true,
        ),
        (
            vec![
                ("tagboat", json!({"f:a": {}})),
                ("edit", json!({"f:a": {}})),
            ],
            false,
        ),
        (vec![("edit", json!({"f:a": {".": {}, "f:b": {}}}))], false),
        (vec![], false),
    ] {
        assert_eq!(
            is_overwritten(&live(&entries), "/spec/a", "tagboat"),
            lost,
            "{entries:?}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn managed_fields_malformed_never_panic(entries in proptest::collection::vec(r#"[a-z{}:",.0-9\[\]]{0,12}"#, 0..4), pointer in "[a-z/~0-9]{0,12}") {
        let fields: Vec<Value> = entries.iter().map(|text| serde_json::from_str(text).unwrap_or_else(|_| json!({"manager": text, "fieldsV1": {text: {}}}))).collect();
        let live = Object::new(json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "managedFields": fields}, "a": [{"b": 1}]})).unwrap();
        managers_of(&live, &pointer);
        scaled_by(&live);
        let tools = [String::new(), "a".to_owned()];
        let take_over = rules(&tools, &[]);
        take_over.take(&live, &live);
        take_over.removable_additions(&live, &live);
        take_over.template_additions(&live, &live);
    }
}

#[test]
fn take_over_skips_records() {
    let map = |label: &str| {
        let fields = json!({"f:metadata": {"f:labels": {".": {}, format!("f:{label}"): {}}}, "f:data": {"f:inventory.json": {}}});
        Object::new(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tagboat-web",
            "managedFields": [{"manager": "tagboat", "operation": "Update", "fieldsV1": fields}]}}),
        )
        .unwrap()
    };
    let take_over = rules(&[], &[]);
    let record = map("tagboat.dev/record");
    assert_eq!(take_over.take(&record, &record), None);
    assert!(take_over.take(&map("app"), &map("app")).is_some());
}

#[test]
fn claimed_fields_move_to_their_new_owner() {
    let live = |ours: Value, theirs: Value| {
        let entries = json!([
            {"manager": "tagboat", "operation": "Apply", "fieldsV1": ours},
            {"manager": "k9s", "operation": "Update", "fieldsV1": theirs},
        ]);
        Object::new(json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "managedFields": entries},
            "spec": {"a": {"b": 1, "c": 2}, "ports": [{"port": 80}, {"port": 81}]}}))
        .unwrap()
    };
    let fields = |entries: &[Value]| -> Vec<Value> {
        entries
            .iter()
            .map(|entry| entry["fieldsV1"].clone())
            .collect()
    };
    for (ours, theirs, pointer, expected, managers) in [
        // Owned by another manager, whose entry vanishes with its last field.
        (
            json!({"f:spec": {"f:a": {"f:c": {}}}}),
            json!({"f:spec": {"f:a": {"f:b": {}}}}),
            "/spec/a/b",
            vec![json!({"f:spec": {"f:a": {"f:c": {}, "f:b": {}}}})],
            vec!["k9s"],
        ),
        // Without a manager.
        (
            json!({"f:spec": {"f:a": {"f:c": {}}}}),
            json!({"f:spec": {"f:x": {}}}),
            "/spec/a/b",
            vec![
                json!({"f:spec": {"f:a": {"f:c": {}, "f:b": {}}}}),
                json!({"f:spec": {"f:x": {}}}),
            ],
            vec![],
        ),
        // An element by its key.
        (
            json!({"f:spec": {"f:ports": {"k:{\"port\":80}": {".": {}}}}}),
            json!({"f:spec": {"f:x": {}, "f:ports": {"k:{\"port\":81}": {".": {}, "f:port": {}}}}}),
            "/spec/ports/1",
            vec![
                json!({"f:spec": {"f:ports": {"k:{\"port\":80}": {".": {}}, "k:{\"port\":81}": {".": {}, "f:port": {}}}}}),
                json!({"f:spec": {"f:x": {}}}),
            ],
            vec!["k9s"],
        ),
    ] {
        let found = claimed(&live(ours, theirs), &[pointer.to_owned()], "tagboat").unwrap();
        assert_eq!(fields(&found.entries), expected, "{pointer}");
        let managers = managers.into_iter().map(str::to_owned).collect();
        assert_eq!(found.fields, [(pointer.to_owned(), managers)]);
    }
    let nothing = live(json!({"f:spec": {}}), json!({}));
    assert_eq!(
        claimed(&nothing, &["/spec/none".to_owned()], "tagboat"),
        None
    );
    assert_eq!(claimed(&nothing, &["/spec/a".to_owned()], "other"), None);
}

#[test]
fn union_of_leaf_and_node_keeps_both() {
    for (mine, other, both) in [
        (json!({}), json!({"f:a": {}}), json!({".": {}, "f:a": {}})),
        (json!({"f:a": {}}), json!({}), json!({".": {}, "f:a": {}})),
        (
            json!({"f:a": {}}),
            json!({"f:b": {"f:c": {}}}),
            json!({"f:a": {}, "f:b": {"f:c": {}}}),
        ),
        (json!({}), json!({}), json!({})),
    ] {
        let mut united = mine;
        union(&mut united, &other);
        assert_eq!(united, both);
    }
}
