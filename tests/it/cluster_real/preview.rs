//! Dry runs of a change on real clusters.

use super::support::{declared, until};
use crate::{
    it::{
        git_support::Sandbox,
        render_support::settings,
        support::process::Running,
        update_support::{Fleet, Setup},
    },
    servers::kube::{Kube, Options},
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{path::Path, sync::Arc, time::Duration};
use tagboat::{
    events::Recorder,
    io::{
        cluster::{ApplyRequest, ClusterClient, RequestIdentity},
        git::Mirror,
        render::Renderer,
    },
    objects::object::Object,
    preview::{PreviewClusters, Previewer, RevisionFiles},
    review::{ApplicationPreview, DryRunVerdict, ObjectChange, Preview},
    spec::{
        rights::{ClusterTerms, RepositoryRights},
        settings,
    },
    update::{DeclarationScope, Previews},
};

const ENV: &str = "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['**'], update: {via: commit}}\n---\n";

fn application(name: &str, cluster: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{environment: dev, path: apps/{name}, cluster: {cluster}, targetNamespace: {namespace}{spec}}}\n---\n"
    )
}

fn config(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{value: '{value}'}}\n---\n"
    )
}

fn deployment(name: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec: {{containers: [{{name: main, image: example.org/web:1}}]}}\n---\n"
    )
}

/// A server with controllers that only these tests share, because their admission policies must
/// affect no other test.
fn kube() -> &'static Kube {
    static KUBE: std::sync::OnceLock<Kube> = std::sync::OnceLock::new();
    KUBE.get_or_init(|| {
        Kube::start(Options {
            controllers: true,
            kubelet: false,
        })
    })
}

fn named(name: &str, kubeconfig: &Path) -> settings::ClusterSettings {
    settings::ClusterSettings {
        name: name.to_owned(),
        ..declared(kubeconfig)
    }
}

/// A repository and its previewer.
struct World {
    sandbox: Sandbox,
    mirror: Arc<Mirror>,
    previewer: Previewer,
}

impl World {
    fn new(files: &[(&str, &str)], clusters: &[settings::ClusterSettings]) -> Self {
        let sandbox = Sandbox::new(files);
        let mirror = Arc::new(sandbox.mirror("mirror"));
        mirror.fetch().unwrap();
        let clusters = sandbox.runtime.block_on(PreviewClusters::open(
            clusters,
            Path::to_path_buf,
            &Recorder::default(),
        ));
        let previewer = Previewer {
            files: RevisionFiles::Mirror(Arc::clone(&mirror)),
            scope: DeclarationScope::default(),
            renderer: Arc::new(Renderer::new(
                &settings(),
                &sandbox.dir.path().join("copies"),
            )),
            clusters,
        };
        Self {
            sandbox,
            mirror,
            previewer,
        }
    }

    /// Takes the right to use a cluster from the repository.
    fn close(&mut self, cluster: &str) {
        let terms = ClusterTerms {
            closed: Some(format!(
                "repository fleet may not deploy to cluster {cluster}"
            )),
            own_namespace: settings::OWN_NAMESPACE.to_owned(),
            honor_live_annotations: true,
        };
        self.previewer.scope.rights = Arc::new(RepositoryRights {
            clusters: [(cluster.to_owned(), terms)].into(),
            ..RepositoryRights::default()
        });
    }

    /// Previews a commit of these files.
    fn change(&self, files: &[(&str, &str)]) -> Preview {
        let base = self.mirror.head().unwrap();
        self.sandbox.person(files, "change");
        let head = self.mirror.fetch().unwrap().commit;
        self.sandbox
            .runtime
            .block_on(self.previewer.preview(base, head))
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.sandbox.runtime.block_on(work)
    }
}

fn verdict<'p>(application: &'p ApplicationPreview, object: &str) -> &'p DryRunVerdict {
    let found = application
        .objects
        .iter()
        .find(|one| one.object.ends_with(object));
    &found
        .unwrap_or_else(|| panic!("no {object}: {application:#?}"))
        .verdict
}

fn refused<'p>(application: &'p ApplicationPreview, object: &str) -> &'p str {
    match verdict(application, object) {
        DryRunVerdict::Refused { reason: why } => why,
        other => panic!("{object}: {other:?}"),
    }
}

fn not_asked<'p>(application: &'p ApplicationPreview, object: &str) -> &'p str {
    match verdict(application, object) {
        DryRunVerdict::NotAsked { reason: why } => why,
        other => panic!("{object}: {other:?}"),
    }
}

fn accepted(application: &ApplicationPreview, object: &str) -> Vec<String> {
    match verdict(application, object) {
        DryRunVerdict::Accepted { warnings } => warnings.clone(),
        other => panic!("{object}: {other:?}"),
    }
}

/// Everything in a namespace that a preview could have changed, with resource versions.
async fn state(kube: &Kube, namespace: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for path in [
        "/api/v1/namespaces/NS/configmaps",
        "/api/v1/namespaces/NS/secrets",
        "/apis/apps/v1/namespaces/NS/deployments",
        "/api/v1/namespaces/NS/events",
    ] {
        let (status, list) = kube
            .call(Method::GET, &path.replace("NS", namespace), None)
            .await;
        assert_eq!(status, 200, "{list}");
        for item in list["items"].as_array().unwrap() {
            let text = |field: &str| {
                item["metadata"][field]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            all.push((format!("{path} {}", text("name")), text("resourceVersion")));
        }
    }
    all.sort();
    all
}

async fn post(kube: &Kube, path: &str, body: &Value) {
    let (status, answer) = kube.call(Method::POST, path, Some(body)).await;
    assert!(status.is_success(), "{answer}");
}

/// Forbids more than five replicas, and quotes an annotation of a Secret, as badly written policies
/// do.
pub(super) async fn policies(kube: &Kube, namespace: &str) {
    let group = "/apis/admissionregistration.k8s.io/v1";
    let rules = |group: &str, resource: &str| json!({"resourceRules": [{"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": [resource]}]});
    let replicas = json!({"expression": "object.spec.replicas <= 5", "messageExpression": "'at most five replicas, not ' + string(object.spec.replicas)"});
    let secret = json!({"expression": "!('forbidden' in object.metadata.labels)", "messageExpression": "'not with ' + object.data.password + ', it begins with ' + object.data.password.substring(0, 8) + (oldObject == null ? '' : ', it was ' + oldObject.data.password)"});
    for (name, rules, validation) in [
        ("replicas", rules("apps", "deployments"), replicas),
        ("secrets", rules("", "secrets"), secret),
    ] {
        let name = format!("{name}-{namespace}");
        let policy = json!({"metadata": {"name": name}, "spec": {"failurePolicy": "Fail", "matchConstraints": rules, "validations": [validation]}});
        post(
            kube,
            &format!("{group}/validatingadmissionpolicies"),
            &policy,
        )
        .await;
        let here = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}});
        let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": here}});
        post(
            kube,
            &format!("{group}/validatingadmissionpolicybindings"),
            &binding,
        )
        .await;
    }
}

#[test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
fn preview_dry_run_reports_and_writes_nothing() {
    let kube = kube();
    let world = World::new(&[("all.yaml", ENV)], &[named("test", &kube.kubeconfig)]);
    let namespace = world.run(kube.namespace("preview"));
    let declared = format!(
        "{ENV}{}",
        application("web", "test", &namespace, ", prune: true")
    );
    let old = format!(
        "{}{}{}",
        config("kept", "1"),
        config("changed", "1"),
        config("gone", "1")
    );
    world.change(&[("all.yaml", &declared), ("apps/web/all.yaml", &old)]);
    // The base is applied to the cluster.
    world.run(async {
        let cluster = ClusterClient::open(&named("test", &kube.kubeconfig), Path::to_path_buf, &Recorder::default()).await.unwrap();
        for name in ["kept", "changed", "gone"] {
            let mut object =
                Object::new(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": "1"}})).unwrap();
            object.set_namespace(Some(&namespace));
            cluster.apply(&RequestIdentity::Own, &object, &ApplyRequest::default()).await.unwrap();
        }
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/changed");
        let (_, mut live) = kube.call(Method::GET, &path, None).await;
        live["data"]["debug"] = json!("1");
        let path = format!("{path}?fieldManager=kubectl-edit");
        let (status, answer) = kube.call(Method::PUT, &path, Some(&live)).await;
        assert!(status.is_success(), "{answer}");
        // A controller creates some objects later.
        until("the namespace stops changing", async || {
            state(kube, &namespace).await.iter().any(|(name, _)| name.ends_with("kube-root-ca.crt"))
        })
        .await;
    });
    let before = world.run(state(kube, &namespace));
    let new = format!(
        "{}{}{}{}",
        config("kept", "1"),
        config("changed", "2"),
        deployment("web", 2).replace(
            "spec: {containers",
            "spec: {nodeSelector: {beta.kubernetes.io/os: linux}, containers"
        ),
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {prots: [], ports: [{port: 80}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 99999}]}\n---\napiVersion: example.org/v1\nkind: Boat\nmetadata: {name: b}\n"
    );
    let preview = world.change(&[("apps/web/all.yaml", &new)]);
    let [web] = preview.applications.as_slice() else {
        panic!("{preview:#?}")
    };
    assert!(web.trouble.is_empty(), "{web:#?}");
    let seen: Vec<(&str, ObjectChange)> = web
        .objects
        .iter()
        .map(|one| (one.object.split('/').next_back().unwrap(), one.change))
        .collect();
    use ObjectChange::{Change, Create, Delete};
    assert_eq!(
        seen,
        [
            ("changed", Change),
            ("web", Create),
            ("web", Create),
            ("bad", Create),
            ("b", Create),
            ("gone", Delete)
        ]
    );
    assert_eq!(
        accepted(web, "/changed"),
        ["/data/debug was added by kubectl-edit, which Git does not name: it is removed"]
    );
    let DryRunVerdict::Accepted { warnings } = &web.objects[1].verdict else {
        panic!("{web:#?}")
    };
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("beta.kubernetes.io/os]: deprecated")),
        "{warnings:?}"
    );
    let DryRunVerdict::Refused { reason: why } = &web.objects[2].verdict else {
        panic!("{web:#?}")
    };
    assert!(
        why.contains(".spec.prots: field not declared in schema"),
        "{why}"
    );
    assert!(
        refused(web, "/bad").contains("spec.ports[0].port"),
        "{web:#?}"
    );
    assert!(
        not_asked(web, "/b").contains("the cluster has no kind example.org/v1/Boat"),
        "{web:#?}"
    );
    assert_eq!(not_asked(web, "/gone"), "it would be deleted");
    assert_eq!(
        world.run(state(kube, &namespace)),
        before,
        "a preview changed something"
    );
}

#[test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
fn preview_shows_admission_text_without_secrets() {
    let kube = kube();
    let world = World::new(&[("all.yaml", ENV)], &[named("test", &kube.kubeconfig)]);
    let namespace = world.run(kube.namespace("preview"));
    // One exists already, with yet another value.
    let old = json!({"metadata": {"name": "s"}, "stringData": {"password": "vorher-geheim"}});
    world.run(post(
        kube,
        &format!("/api/v1/namespaces/{namespace}/secrets"),
        &old,
    ));
    world.run(policies(kube, &namespace));
    let declared = format!("{ENV}{}", application("web", "test", &namespace, ""));
    let secret = |value: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, labels: {{forbidden: 'yes'}}}}\nstringData: {{password: {value}}}\n---\n"
        )
    };
    world.change(&[
        ("all.yaml", &declared),
        ("apps/web/all.yaml", &config("one", "1")),
    ]);
    let mut replicas = 6;
    let mut first = None;
    // A policy takes effect with a delay.
    world.run(until("the policies are in effect", async || {
        let dry = |name: &str| format!("/api/v1/namespaces/{namespace}/{name}?dryRun=All");
        let body = json!({"metadata": {"name": "try", "labels": {"forbidden": "yes"}}, "data": {"password": "a29ycmVrdA=="}});
        let (secrets, _) = kube.call(Method::POST, &dry("secrets"), Some(&body)).await;
        let body = json!({"metadata": {"name": "try"}, "spec": {"replicas": 6, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}}});
        let (deployments, _) = kube.call(Method::POST, &format!("/apis/apps/v1/namespaces/{namespace}/deployments?dryRun=All"), Some(&body)).await;
        !secrets.is_success() && !deployments.is_success()
    }));
    for password in ["korrekt-pferd-7", "batterie-klammer"] {
        let preview = world.change(&[(
            "apps/web/all.yaml",
            &format!(
                "{}{}{}",
                config("one", "2"),
                deployment("web", replicas),
                secret(password)
            ),
        )]);
        let [web] = preview.applications.as_slice() else {
            panic!("{preview:#?}")
        };
        let why = refused(web, "/web");
        assert!(
            why.contains(&format!("at most five replicas, not {replicas}"))
                && why.contains("refused by admission policy"),
            "{why}"
        );
        let why = refused(web, "/s");
        assert!(
            why.contains("not with ***, it begins with ***, it was ***"),
            "{why}"
        );
        let text = format!("{preview:?}");
        for word in [
            "korrekt", "batterie", "vorher", "a29ycmVr", "YmF0dGVy", "dm9yaGVy",
        ] {
            assert!(!text.contains(word), "{text}");
        }
        assert!(preview.is_refused() && !preview.may_tell_more());
        first.get_or_insert(accepted_or_none(web));
        replicas += 1;
    }
    assert_eq!(first, Some(true), "one refused object hides no other");
}

fn accepted_or_none(application: &ApplicationPreview) -> bool {
    application.objects.iter().any(|one| {
        one.object.ends_with("/one") && matches!(one.verdict, DryRunVerdict::Accepted { .. })
    })
}

#[test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
fn preview_forbidden_account_is_named() {
    let kube = kube();
    let world = World::new(&[("all.yaml", ENV)], &[named("test", &kube.kubeconfig)]);
    let namespace = world.run(kube.namespace("preview"));
    let declared = |spec: &str| format!("{ENV}{}", application("web", "test", &namespace, spec));
    world.change(&[
        ("all.yaml", &declared("")),
        ("apps/web/all.yaml", &config("one", "1")),
    ]);
    // The objects stay the same; only the account changes.
    let preview = world.change(&[("all.yaml", &declared(", serviceAccountName: deployer"))]);
    let [web] = preview.applications.as_slice() else {
        panic!("{preview:#?}")
    };
    let why = refused(web, "/one");
    assert!(
        why.contains(&format!(
            "ServiceAccount {namespace}/deployer may not patch configmaps in namespace {namespace}"
        )),
        "{why}"
    );
    let boats = "boats.preview.example.org";
    let definition = format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {boats}}}\nspec: {{group: preview.example.org, scope: Namespaced, names: {{plural: boats, singular: boat, kind: Boat}}, versions: [{{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object}}}}}}]}}\n---\napiVersion: preview.example.org/v1\nkind: Boat\nmetadata: {{name: first}}\n---\n"
    );
    let new =
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}-new}}\n---\n");
    let inside = config("inside", "1").replace(
        "{name: inside}",
        &format!("{{name: inside, namespace: {namespace}-new}}"),
    );
    let lost = config("lost", "1").replace(
        "{name: lost}",
        &format!("{{name: lost, namespace: {namespace}-none}}"),
    );
    let files = format!("{}{definition}{new}{inside}{lost}", config("one", "1"));
    let preview = world.change(&[("all.yaml", &declared("")), ("apps/web/all.yaml", &files)]);
    let [web] = preview.applications.as_slice() else {
        panic!("{preview:#?}")
    };
    assert_eq!(
        not_asked(web, "/first"),
        "its kind comes with the same change: the cluster does not serve it yet"
    );
    assert_eq!(
        not_asked(web, "/inside"),
        format!("namespace {namespace}-new comes with the same change, and is not there yet")
    );
    assert_eq!(
        refused(web, "/lost"),
        format!("namespace {namespace}-none does not exist")
    );
    // A target namespace that is missing is no refusal: the sync creates it.
    let fresh = application("fresh", "test", &format!("{namespace}-fresh"), "");
    let preview = world.change(&[
        ("fresh.yaml", &fresh),
        ("apps/fresh/all.yaml", &config("early", "1")),
    ]);
    let [fresh] = preview.applications.as_slice() else {
        panic!("{preview:#?}")
    };
    assert_eq!(
        not_asked(fresh, "/early"),
        format!(
            "namespace {namespace}-fresh does not exist yet: it is created with the first object"
        )
    );
    assert!(
        accepted(web, boats).is_empty()
            && accepted(web, &format!("Namespace {namespace}-new")).is_empty()
    );
    // Nothing was applied.
    let (status, _) = world.run(kube.call(
        Method::GET,
        &format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{boats}"),
        None,
    ));
    assert_eq!(status, 404);
}

#[test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
fn preview_cluster_down_affects_no_other() {
    let kube = kube();
    // A port without a listener, one that accepts connections and never answers, a missing file.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = |address: std::net::SocketAddr| {
        kube.kubeconfig_for("admin", &format!("http://{address}"), None)
    };
    let clusters = [
        named("test", &kube.kubeconfig),
        named("down", &at(nobody)),
        named("silent", &at(silent.local_addr().unwrap())),
        named("lost", Path::new("/nowhere/kubeconfig")),
        named("closed", &kube.kubeconfig),
        named(
            "stranger",
            &kube.kubeconfig_for("stranger", &kube.server, Some(&kube.ca)),
        ),
    ];
    let mut world = World::new(&[("all.yaml", ENV)], &clusters);
    world.close("closed");
    let namespace = world.run(kube.namespace("preview"));
    let all = [
        "test", "down", "silent", "lost", "closed", "stranger", "unknown",
    ];
    let declared: String = all
        .iter()
        .map(|name| application(name, name, &namespace, ""))
        .collect();
    let mut files = vec![("all.yaml".to_owned(), format!("{ENV}{declared}"))];
    files.extend(all.iter().map(|name| {
        (
            format!("apps/{name}/all.yaml"),
            format!("{}{}", config("one", "1"), config("two", "1")),
        )
    }));
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let begun = std::time::Instant::now();
    let preview = world.change(&files);
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    let of = |name: &str| {
        preview
            .applications
            .iter()
            .find(|one| one.name.name() == name)
            .unwrap()
    };
    assert!(accepted(of("test"), "/one").is_empty() && accepted(of("test"), "/two").is_empty());
    for (name, says) in [
        ("down", "cannot reach"),
        ("silent", "no answer within 10 s"),
        ("lost", "/nowhere/kubeconfig"),
    ] {
        let one = of(name);
        assert!(
            not_asked(one, "/one").starts_with(&format!("cluster {name} cannot be asked: ")),
            "{one:#?}"
        );
        assert!(
            not_asked(one, "/two").contains(says)
                && one.trouble.len() == 1
                && one.trouble[0].transient,
            "{one:#?}"
        );
        assert!(
            one.objects[0].diff.contains("+  value: \"1\""),
            "the rendered object is shown: {one:#?}"
        );
    }
    assert_eq!(
        not_asked(of("closed"), "/one"),
        "repository fleet may not deploy to cluster closed"
    );
    assert!(
        not_asked(of("unknown"), "/one")
            .starts_with("there is no cluster \"unknown\" in tagboat.yaml; known are closed, down")
    );
    assert!(
        refused(of("stranger"), "/one").contains("user stranger may not"),
        "{:#?}",
        of("stranger")
    );
    assert!(preview.may_tell_more() && preview.is_refused());
    let broken = preview.applications.iter().filter(|one| {
        let mut trouble = one.trouble.iter();
        trouble.any(|trouble| !trouble.transient)
    });
    let broken: Vec<&str> = broken.map(|one| one.name.name()).collect();
    assert_eq!(broken, ["closed"]);
}

#[test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
fn preview_command_equals_daemon_answer() {
    let kube = kube();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let namespace = runtime.block_on(kube.namespace("preview"));
    runtime.block_on(policies(kube, &namespace));
    let declared = format!(
        "{ENV}{}",
        application("web", "test", &namespace, ", suspend: false")
    );
    let fleet = Fleet::with(
        &[
            ("all.yaml", declared.as_str()),
            ("apps/web/all.yaml", &deployment("web", 1)),
        ],
        &Setup {
            repository: "    interval: 1h\n",
            ..Setup::default()
        },
    );
    let mut text = std::fs::read_to_string(fleet.config()).unwrap();
    text.push_str(&format!(
        "clusters:\n  - {{name: test, kubeconfig: {}}}\n",
        kube.kubeconfig.display()
    ));
    std::fs::write(fleet.config(), text).unwrap();
    let tagboat_run = |arguments: &[&str]| {
        let output = fleet.tagboat(arguments).output().unwrap();
        (
            output.status.code(),
            format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
        )
    };
    fleet.person(&[("apps/web/all.yaml", &deployment("web", 2))], "two");
    let (code, text) = tagboat_run(&["preview"]);
    assert!(
        code == Some(0)
            && text.contains(&format!(
                "Deployment {namespace}/web changes; accepted by the cluster\n"
            )),
        "{code:?} {text}"
    );
    fleet.person(&[("apps/web/all.yaml", &deployment("web", 9))], "nine");
    let (code, text) = crate::it::update_support::wait("the policy", || {
        Some(tagboat_run(&["preview"])).filter(|(code, _)| *code == Some(1))
    });
    assert!(
        text.contains("; refused by admission policy")
            && text.contains("at most five replicas, not 9"),
        "{code:?} {text}"
    );
    let (code, text) = tagboat_run(&["preview", "--no-cluster"]);
    assert!(
        code == Some(0) && text.contains("not asked: no cluster is asked (--no-cluster)"),
        "{code:?} {text}"
    );
    fleet.person(&[("apps/web/all.yaml", &deployment("web", 1))], "one");
    let mut daemon = Running::start(
        fleet
            .tagboat_std(&["run"])
            .stderr(std::process::Stdio::null()),
    );
    let socket = fleet.dir.path().join("store/tagboat.sock");
    crate::it::update_support::wait("the daemon", || socket.exists().then_some(()));
    let before = runtime.block_on(kube.metrics());
    let (code, text) = tagboat_run(&["preview", "--base", "main", "-o", "json"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap()["applications"],
        json!([])
    );
    let (code, text) = tagboat_run(&["preview"]);
    assert!(
        code == Some(0) && text.contains("accepted by the cluster"),
        "{code:?} {text}"
    );
    assert!(
        runtime
            .block_on(kube.metrics())
            .since(&before)
            .of("APPLY", "deployments")
            > 0
    );
    daemon.signal("TERM");
    daemon.ended();
}
