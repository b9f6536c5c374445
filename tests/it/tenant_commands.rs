//! Tenants at the command line: refusals of every command alike, and clusters that are never asked.

use super::{
    git_support::Sandbox,
    reconcile_tenants::rights,
    render_support::{script, settings, source},
    support::{cluster::kubeconfig, process::Running},
    update_support::{Fleet, Setup, wait},
};
use serde_json::json;
use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tagboat::{
    io::render::{RenderSource, Renderer},
    reconcile::{RenderStage, from_git},
    spec::{self, settings::RenderSettings},
};

const ENVIRONMENT: &str = "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['**'], update: {via: commit}}\n---\n";

fn application(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{environment: dev, path: apps/{name}, cluster: prod, targetNamespace: shop{spec}}}\n---\n"
    )
}

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";

/// A repository that is a tenant, beside a cluster that counts its connections.
struct TenantFleet {
    fleet: Fleet,
    connections: Arc<AtomicUsize>,
}

impl TenantFleet {
    fn new(clusters: &str, files: &[(&str, &str)]) -> Self {
        let fleet = Fleet::with(
            files,
            &Setup {
                repository: "    interval: 1h\n",
                ..Setup::default()
            },
        );
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                drop(connection);
            }
        });
        let kubeconfig = kubeconfig(&json!({"server": server}), &json!({"token": "t0ken"}));
        let folder = fleet.dir.path();
        std::fs::write(folder.join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let mut text = std::fs::read_to_string(fleet.config()).unwrap();
        text.push_str(&format!(
            "    tenant:\n      clusters: [{clusters}]\n      namespaces: [shop]\n      serviceAccountName: deployer\nclusters:\n- {{name: prod, kubeconfig: kubeconfig}}\n"
        ));
        std::fs::write(fleet.config(), text).unwrap();
        Self { fleet, connections }
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.fleet.tagboat(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }
}

#[test]
fn cluster_closed_to_a_tenant_is_never_asked() {
    let declared = format!("{ENVIRONMENT}{}", application("web", ""));
    let files = [("all.yaml", declared.as_str()), ("apps/web/a.yaml", MAP)];
    let tenant = TenantFleet::new("other", &files);
    let refusal =
        "repository fleet may not deploy to cluster prod: its tenant.clusters do not name it";
    tenant.fleet.person(
        &[("apps/web/a.yaml", &format!("{MAP}data: {{a: b}}\n"))],
        "change",
    );
    for arguments in [
        &["status"][..],
        &["sync", "shop/web"],
        &["sync", "shop/web", "--dry-run"],
        &["diff", "--all"],
        &["preview"],
    ] {
        let (code, text) = tenant.run(arguments);
        assert!(
            code != Some(0) && text.contains(refusal),
            "{arguments:?}: {code:?} {text}"
        );
    }
    let (code, text) = tenant.run(&["history", "shop/web"]);
    assert_ne!(code, Some(0), "{text}");
    let mut daemon = Running::start(tenant.fleet.tagboat_std(&["run"]).stderr(Stdio::null()));
    let socket = tenant.fleet.dir.path().join("store/tagboat.sock");
    wait("the daemon", || socket.exists().then_some(()));
    let (_, text) = wait("the refusal", || {
        Some(tenant.run(&["status"])).filter(|(_, text)| text.contains(refusal))
    });
    assert!(text.contains("shop/web"), "{text}");
    daemon.signal("TERM");
    assert!(daemon.ended().success());
    assert_eq!(tenant.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn check_tells_refusals_of_a_tenant() {
    let declared = format!(
        "{ENVIRONMENT}{}{}",
        application("web", ""),
        application("wide", ", serviceAccountName: x, createNamespace: true")
            .replace("targetNamespace: shop", "targetNamespace: kube-system"),
    );
    let manifests = format!(
        "{MAP}---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: evil}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: b, namespace: kube-system}}\n"
    );
    let files = [
        ("all.yaml", declared.as_str()),
        ("apps/web/a.yaml", &manifests),
    ];
    let tenant = TenantFleet::new("prod", &files);
    let copy = tenant.fleet.dir.path().join("copy");
    for (path, text) in files {
        let path = copy.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let (folder, config) = (copy.display().to_string(), tenant.fleet.config());
    let config = config.display().to_string();
    let (code, text) = tenant.run(&["check", &folder]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = tenant.run(&[
        "check",
        &folder,
        "--config",
        &config,
        "--repository",
        "fleet",
    ]);
    assert_eq!(code, Some(1), "{text}");
    for told in [
        "all.yaml:13:12: error: targetNamespace: the tenant may not deploy into namespace kube-system",
        "apps/web/a.yaml:5:1: error: ClusterRole evil: the tenant may not deploy rbac.authorization.k8s.io/ClusterRole, which belongs to no namespace (tenant.clusterScoped)",
        "apps/web/a.yaml:9:1: error: ConfigMap kube-system/b: the tenant may not deploy into namespace kube-system",
    ] {
        assert!(text.contains(told), "{told}:\n{text}");
    }
    assert_eq!(text.matches("error: ").count(), 3, "{text}");
    assert_eq!(tenant.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn preview_refuses_what_a_tenant_may_not() {
    let declared = format!("{ENVIRONMENT}{}", application("web", ""));
    let files = [("all.yaml", declared.as_str()), ("apps/web/a.yaml", MAP)];
    let tenant = TenantFleet::new("prod", &files);
    let manifests = format!(
        "{MAP}---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: evil}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: b, namespace: kube-system}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: fine}}\n"
    );
    tenant
        .fleet
        .person(&[("apps/web/a.yaml", &manifests)], "wishes");
    let (code, text) = tenant.run(&["preview", "--no-cluster"]);
    assert_eq!(code, Some(1), "{text}");
    for told in [
        "ClusterRole evil",
        "which belongs to no namespace (tenant.clusterScoped)",
        "ConfigMap kube-system/b",
        "the tenant may not deploy into namespace kube-system, only into shop (tenant.namespaces)",
        "ConfigMap shop/fine",
    ] {
        assert!(text.contains(told), "{told}:\n{text}");
    }
    assert_eq!(tenant.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn render_refuses_files_beyond_the_limit() {
    let large = format!("{MAP}data: {{a: {}}}\n", "x".repeat(2000));
    let sandbox = Sandbox::new(&[
        ("plain/a.yaml", large.as_str()),
        ("built/kustomization.yaml", "resources: [a.yaml]\n"),
        ("built/a.yaml", &large),
        ("fine/a.yaml", MAP),
    ]);
    let mirror = sandbox.mirror("m");
    let commit = mirror.fetch().unwrap().commit;
    let programs = RenderSettings {
        kustomize: script(sandbox.dir.path(), "kustomize", "echo v0.0.0-test"),
        ..settings()
    };
    let renderer = Renderer::new(&programs, &sandbox.dir.path().join("copies"));
    let rendered = |folder: &str| {
        let source = RenderSource {
            file_limit: Some(1024),
            ..source(folder)
        };
        renderer.render(&mirror, commit, &source).map(drop)
    };
    for folder in ["plain", "built"] {
        let error = rendered(folder).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{folder}/a.yaml: the file has "))
                && error.contains("more than 1024 (tenant.limits.fileSize)"),
            "{error}"
        );
    }
    assert!(rendered("fine").is_ok());
}

#[test]
fn reconcile_refuses_files_beyond_the_limit() {
    let large = format!("{MAP}data: {{a: {}}}\n", "x".repeat(2000));
    let sandbox = Sandbox::new(&[
        ("plain/a.yaml", large.as_str()),
        ("built/kustomization.yaml", "resources: [a.yaml]\n"),
        ("built/a.yaml", &large),
    ]);
    let mirror = sandbox.mirror("m");
    let commit = mirror.fetch().unwrap().commit;
    let programs = RenderSettings {
        kustomize: script(sandbox.dir.path(), "kustomize", "echo v0.0.0-test"),
        ..settings()
    };
    let renderer = Renderer::new(&programs, &sandbox.dir.path().join("copies"));
    let render = from_git(Arc::new(renderer), Arc::new(mirror), commit);
    let rendered = |folder: &str, limits: &str| {
        let text = format!(
            "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {{name: dev}}\nspec: {{paths: ['**'], update: {{via: commit}}}}\n---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: web, namespace: shop}}\nspec: {{environment: dev, path: {folder}, cluster: test}}\n"
        );
        let mut declared = spec::read([("apps.yaml", text.as_bytes())], None);
        assert!(!declared.has_errors(), "{:?}", declared.mistakes);
        declared.restrict(&rights("tagboat", &["shop"], limits));
        let application = declared.applications.values().next().unwrap();
        render.begin(application).and_then(RenderStage::finish)
    };
    // What was rendered without the limit is not served under it.
    assert!(rendered("plain", "").is_ok());
    for folder in ["plain", "built"] {
        let error = rendered(folder, "    limits: {fileSize: 1Ki}\n").unwrap_err();
        let told = error.message.to_string();
        assert!(
            told.contains(&format!("{folder}/a.yaml: the file has "))
                && told.contains("more than 1024 (tenant.limits.fileSize)"),
            "{told}"
        );
    }
    assert!(rendered("plain", "").is_ok());
}
