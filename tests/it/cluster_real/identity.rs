//! Identities: kubeconfigs, tokens that change, credential programs, impersonation, and their
//! failures.

use super::support::*;
use crate::{it::support::cluster, servers::kube::Kube};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tagboat::{
    core::error::{Classify, ErrorKind},
    io::cluster::{ApplyRequest, ClusterClient, ClusterProblem, RequestIdentity},
    objects::object::Gvk,
};

const OWN: RequestIdentity = RequestIdentity::Own;

async fn grant(kube: &Kube, namespace: &str, subject: Value, verbs: &[&str]) {
    let role = json!({"metadata": {"name": "some"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]});
    let binding = json!({"metadata": {"name": "some"}, "subjects": [subject],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "some"}});
    for (plural, body) in [("roles", role), ("rolebindings", binding)] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/{plural}");
        let (status, answer) = kube.call(Method::POST, &path, Some(&body)).await;
        assert_eq!(status, 201, "{answer}");
    }
}

async fn map(
    cluster: &ClusterClient,
    identity: &RequestIdentity,
    namespace: &str,
    name: &str,
) -> Result<(), ClusterProblem> {
    let applied = cluster
        .apply(
            identity,
            &config_map(namespace, name, json!({"a": "1"})),
            &ApplyRequest::default(),
        )
        .await;
    applied.map(drop).map_err(|error| *error.problem)
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn forbidden_request_names_verb_and_resource() {
    let kube = bare();
    let namespace = kube.namespace("identity").await;
    let stranger = open(&kube.kubeconfig_for("stranger", &kube.server, Some(&kube.ca))).await;
    let error = stranger
        .apply(
            &OWN,
            &config_map(&namespace, "one", json!({})),
            &ApplyRequest::default(),
        )
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    match &*error.problem {
        ClusterProblem::Forbidden {
            verb,
            resource,
            namespace: place,
            who,
            ..
        } => {
            assert_eq!(
                (
                    verb.as_str(),
                    resource.as_str(),
                    place.as_deref(),
                    who.as_str()
                ),
                (
                    "patch",
                    "configmaps",
                    Some(namespace.as_str()),
                    "user stranger"
                )
            );
        }
        other => panic!("{other:?}"),
    }
    let message = error.to_string();
    assert!(
        message.contains(&format!(
            "user stranger may not patch configmaps in namespace {namespace}"
        )),
        "{message}"
    );
    assert!(
        error
            .hint()
            .unwrap()
            .contains("grant user stranger the verb patch on configmaps")
    );
    assert!(!message.contains(&kube.tokens["stranger"]));
    grant(
        kube,
        &namespace,
        json!({"kind": "User", "name": "stranger"}),
        &["get", "patch", "create"],
    )
    .await;
    until("the grant is in effect", async || {
        map(&stranger, &OWN, &namespace, "one").await.is_ok()
    })
    .await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn service_account_is_impersonated_where_declared() {
    let kube = bare();
    let namespace = kube.namespace("identity").await;
    let cluster = open(&kube.kubeconfig).await;
    let account = RequestIdentity::ServiceAccount {
        namespace: namespace.clone(),
        name: "deployer".to_owned(),
    };
    match map(&cluster, &account, &namespace, "one")
        .await
        .unwrap_err()
    {
        ClusterProblem::Forbidden { who, message, .. } => {
            assert_eq!(who, format!("ServiceAccount {namespace}/deployer"));
            assert!(
                message.contains(&format!("system:serviceaccount:{namespace}:deployer")),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
    // Groups of a service account grant rights, too.
    let group = json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": format!("system:serviceaccounts:{namespace}")});
    grant(kube, &namespace, group, &["get", "patch", "create"]).await;
    until("the grant is in effect", async || {
        map(&cluster, &account, &namespace, "one").await.is_ok()
    })
    .await;
    assert!(map(&cluster, &account, "default", "one").await.is_err());
    map(&cluster, &OWN, "default", "identity-one")
        .await
        .unwrap();
    // A user who may not impersonate gets an error.
    let stranger = open(&kube.kubeconfig_for("stranger", &kube.server, Some(&kube.ca))).await;
    let refusal = map(&stranger, &account, &namespace, "one")
        .await
        .unwrap_err();
    assert!(
        matches!(&refusal, ClusterProblem::Forbidden { verb, resource, .. } if verb == "impersonate" && resource == "serviceaccounts"),
        "{refusal:?}"
    );
    let hostile = RequestIdentity::ServiceAccount {
        namespace: "a\r\nimpersonate-group: system:masters".to_owned(),
        name: "b".to_owned(),
    };
    assert!(matches!(
        map(&cluster, &hostile, &namespace, "one")
            .await
            .unwrap_err(),
        ClusterProblem::Address { .. }
    ));
}

/// Writes a kubeconfig with this user entry.
fn kubeconfig(kube: &Kube, name: &str, user: &Value) -> PathBuf {
    let config = cluster::kubeconfig(
        &json!({"server": kube.server, "certificate-authority": kube.ca}),
        user,
    );
    file(kube, name, &config.to_string())
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn kubeconfig_impersonation_excludes_an_account() {
    let kube = bare();
    let namespace = kube.namespace("identity").await;
    let path = kubeconfig(
        kube,
        "as",
        &json!({"token": kube.token, "as": "pretender", "as-groups": ["system:masters"]}),
    );
    let cluster = open(&path).await;
    map(&cluster, &OWN, &namespace, "one").await.unwrap();
    let account = RequestIdentity::ServiceAccount {
        namespace: namespace.clone(),
        name: "nobody".to_owned(),
    };
    assert!(
        matches!(
            map(&cluster, &account, &namespace, "two")
                .await
                .unwrap_err(),
            ClusterProblem::Forbidden { .. }
        ),
        "tagboat adds no group"
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn expired_credentials_replaced_file_is_read() {
    let kube = bare();
    let namespace = kube.namespace("identity").await;
    let path = kubeconfig(kube, "replaced", &json!({"token": "expired-token"}));
    let cluster = open(&path).await;
    let error = cluster
        .apply(
            &OWN,
            &config_map(&namespace, "one", json!({})),
            &ApplyRequest::default(),
        )
        .await
        .unwrap_err();
    assert!(
        matches!(&*error.problem, ClusterProblem::Unauthorized { who, .. } if who == "user u"),
        "{error:?}"
    );
    assert!(!format!("{error} {error:?} {cluster:?}").contains("expired-token"));
    kubeconfig(kube, "replaced", &json!({"token": kube.token}));
    until("the new file is read", async || {
        map(&cluster, &OWN, &namespace, "one").await.is_ok()
    })
    .await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn refused_token_file_is_read_again() {
    let kube = bare();
    let namespace = kube.namespace("identity").await;
    let token = file(kube, "token", &format!("{}\n", kube.token));
    let cluster = open(&kubeconfig(
        kube,
        "token-file",
        &json!({"tokenFile": token}),
    ))
    .await;
    map(&cluster, &OWN, &namespace, "one").await.unwrap();
    // Removed: the cached token stays in use.
    std::fs::remove_file(&token).unwrap();
    map(&cluster, &OWN, &namespace, "one").await.unwrap();
    file(kube, "other-token", "old");
    let cluster = open(&kubeconfig(
        kube,
        "other-token-file",
        &json!({"tokenFile": kube.folder().join("other-token")}),
    ))
    .await;
    assert!(matches!(
        map(&cluster, &OWN, &namespace, "one").await.unwrap_err(),
        ClusterProblem::Unauthorized { .. }
    ));
    file(kube, "other-token", &kube.token);
    until("the new token is used", async || {
        map(&cluster, &OWN, &namespace, "one").await.is_ok()
    })
    .await;
}

/// A credential program that prints the token in a file beside it, valid for `life` seconds, and
/// writes a line per run.
fn plugin(kube: &Kube, name: &str, life: u32) -> Value {
    use std::os::unix::fs::PermissionsExt;
    let folder = kube.folder().display();
    let script = format!(
        r#"#!/bin/sh
echo run >> {folder}/{name}.runs
[ -f {folder}/{name}.fails ] && {{ echo "cannot sign in" >&2; exit 3; }}
[ "$WANTED" = yes ] || exit 4
case "$KUBERNETES_EXEC_INFO" in *'"interactive":false'*) ;; *) exit 5 ;; esac
printf '{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{{"token":"%s","expirationTimestamp":"%s"}}}}' \
  "$(cat {folder}/{name}.token)" "$(date -u -d '+{life} seconds' +%Y-%m-%dT%H:%M:%SZ)"
"#
    );
    let path = file(kube, &format!("{name}.sh"), &script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": path, "env": [{"name": "WANTED", "value": "yes"}], "interactiveMode": "Never"}})
}

fn runs(kube: &Kube, name: &str) -> usize {
    std::fs::read_to_string(kube.folder().join(format!("{name}.runs")))
        .map_or(0, |text| text.lines().count())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn exec_credential_is_cached_until_near_expiry() {
    let kube = bare();
    let namespace = kube.namespace("identity").await;
    file(kube, "short.token", &kube.token);
    let cluster = open(&kubeconfig(kube, "short", &plugin(kube, "short", 4))).await;
    assert_eq!(runs(kube, "short"), 0, "opening runs nothing");
    let begun = std::time::Instant::now();
    let all = futures::future::join_all((0..20).map(|number| {
        let (cluster, namespace) = (cluster.clone(), namespace.clone());
        tokio::spawn(async move { map(&cluster, &OWN, &namespace, &format!("map-{number}")).await })
    }));
    for one in all.await {
        one.unwrap().unwrap();
    }
    if begun.elapsed().as_secs() < 2 {
        assert_eq!(runs(kube, "short"), 1, "one run for twenty requests");
    }
    until("it was renewed", async || {
        map(&cluster, &OWN, &namespace, "one").await.unwrap();
        runs(kube, "short") >= 3
    })
    .await;
    assert!(
        begun.elapsed().as_secs() >= 4
            && runs(kube, "short") as u64 <= 2 + begun.elapsed().as_secs() / 2,
        "{} runs",
        runs(kube, "short")
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn exec_credential_failure_hides_its_output() {
    let kube = bare();
    let namespace = kube.namespace("identity").await;
    file(kube, "failing.token", &kube.token);
    file(kube, "failing.fails", "");
    let cluster = open(&kubeconfig(kube, "failing", &plugin(kube, "failing", 3600))).await;
    let error = cluster
        .apply(
            &OWN,
            &config_map(&namespace, "one", json!({})),
            &ApplyRequest::default(),
        )
        .await
        .unwrap_err();
    assert!(
        matches!(&*error.problem, ClusterProblem::Credentials { why, .. } if why.contains("cannot sign in") && why.contains('3')),
        "{error}"
    );
    // A request right after a failure does not run the program again.
    let runs_before = runs(kube, "failing");
    assert!(matches!(
        map(&cluster, &OWN, &namespace, "one").await.unwrap_err(),
        ClusterProblem::Credentials { .. }
    ));
    assert_eq!(runs(kube, "failing"), runs_before);
    std::fs::remove_file(kube.folder().join("failing.fails")).unwrap();
    until("the program is run again", async || {
        map(&cluster, &OWN, &namespace, "one").await.is_ok()
    })
    .await;
    // A token that is refused before it expires is renewed.
    file(kube, "stale.token", "refused");
    let cluster = open(&kubeconfig(kube, "stale", &plugin(kube, "stale", 3600))).await;
    assert!(matches!(
        map(&cluster, &OWN, &namespace, "one").await.unwrap_err(),
        ClusterProblem::Unauthorized { .. }
    ));
    file(kube, "stale.token", &kube.token);
    until("the program is run again", async || {
        map(&cluster, &OWN, &namespace, "one").await.is_ok()
    })
    .await;
    file(kube, "chatty.token", "secret\"]}} what is this");
    let cluster = open(&kubeconfig(kube, "chatty", &plugin(kube, "chatty", 3600))).await;
    let error = cluster
        .get(
            &OWN,
            &cluster_map(),
            &config_map(&namespace, "one", json!({})).key(),
        )
        .await
        .unwrap_err();
    assert!(
        matches!(&*error.problem, ClusterProblem::Credentials { .. })
            && !error.to_string().contains("secret"),
        "{error}"
    );
}

fn cluster_map() -> tagboat::io::cluster::Resource {
    tagboat::io::cluster::Resource {
        gvk: Gvk::new("v1", "ConfigMap"),
        plural: "configmaps".to_owned(),
        namespaced: true,
        verbs: Default::default(),
        has_status: false,
    }
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn kubeconfig_invalid_is_named() {
    let kube = bare();
    let why = async |path: &Path, context: Option<&str>| {
        let mut declared = declared(path);
        declared.context = context.map(str::to_owned);
        let error = open_as(&declared).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let ClusterProblem::Kubeconfig { file, why } = *error.problem else {
            panic!("{error}")
        };
        assert_eq!(file, path.display().to_string());
        why
    };
    assert!(
        why(Path::new("/nowhere/config"), None)
            .await
            .contains("cannot be read")
    );
    let bad = file(kube, "bad", "apiVersion: v1\nusers: {token: s3cr3t}\n");
    let message = why(&bad, None).await;
    assert!(
        message.contains("is no kubeconfig")
            && message.contains("line 2")
            && !message.contains("s3cr3t"),
        "{message}"
    );
    assert!(
        why(&file(kube, "empty", ""), None)
            .await
            .contains("no contexts")
    );
    assert!(
        why(&kube.kubeconfig, Some("prod"))
            .await
            .contains("it has no context \"prod\"; it has test")
    );
    let no_server = json!({"clusters": [{"name": "c", "cluster": {"server": "nonsense"}}], "contexts": [{"name": "x", "context": {"cluster": "c"}}], "current-context": "x"});
    assert!(
        why(&file(kube, "no-server", &no_server.to_string()), None)
            .await
            .contains("nonsense")
    );
    // A valid kubeconfig with an unreachable server.
    let nobody = kube.kubeconfig_for("admin", "https://127.0.0.1:1", None);
    let error = open(&nobody).await.resources().await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Remote
            && error
                .to_string()
                .contains("cannot reach https://127.0.0.1:1"),
        "{error}"
    );
    // A kubeconfig with another CA: the certificate is refused.
    let other = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    let other = file(kube, "other.crt", &other.cert.pem());
    let error = open(&kube.kubeconfig_for("admin", &kube.server, Some(&other)))
        .await
        .resources()
        .await
        .unwrap_err();
    assert!(
        error.to_string().to_lowercase().contains("certificate"),
        "{error}"
    );
}
