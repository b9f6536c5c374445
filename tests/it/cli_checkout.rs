//! Commands in a checkout that somebody else wrote: it chooses no program, credential or cluster.

use super::{
    git_support::{ANN, NOW},
    render_support::script,
};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
};
use tagboat::{io::git::ObjectId, sandbox::git::BareRepository};

const DECLARED: &str = "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['**'], update: {via: commit}}\n---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {name: a, namespace: shop}\nspec: {environment: dev, path: apps/a, cluster: prod, targetNamespace: shop}\n";

const SETTINGS: &str = "repositories: [{url: 'https://git.example.com/fleet.git'}]\n";

/// Prints a ConfigMap, as kustomize does, and leaves a trace.
const PROGRAM: &str = "touch \"$(dirname \"$0\")/ran\"\n[ \"$1\" = version ] && echo v1 && exit\nprintf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: a}\\ndata: {sum: \"%s\"}\\n' \"$(cksum < kustomization.yaml)\"";

/// A checkout with a program in it, and a folder beside it with another one.
struct Checkout {
    folder: tempfile::TempDir,
    repository: BareRepository,
}

impl Checkout {
    fn new(settings: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().canonicalize().unwrap().join("work");
        fs::create_dir_all(&work).unwrap();
        let mut files = vec![
            ("all.yaml", DECLARED),
            ("apps/a/kustomization.yaml", "resources: [a.yaml]\n"),
        ];
        files.extend(settings.map(|text| ("tagboat.yaml", text)));
        let repository =
            BareRepository::create(&work.join(".git"), &files, ANN, NOW, "first").unwrap();
        script(&work, "evil.sh", PROGRAM);
        let checkout = Self { folder, repository };
        fs::create_dir(checkout.outside()).unwrap();
        script(&checkout.outside(), "kustomize", PROGRAM);
        if let Some(settings) = settings {
            checkout.write("tagboat.yaml", settings);
        }
        checkout
    }

    fn work(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("work")
    }

    fn outside(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("outside")
    }

    /// Writes a file of the working copy, which the change under review brings.
    fn write(&self, path: &str, text: &str) {
        fs::write(self.work().join(path), text).unwrap();
    }

    /// Commits a change of the kustomization and of the settings.
    fn change(&self, settings: &str) {
        let files = [
            ("apps/a/kustomization.yaml", "resources: [b.yaml]\n"),
            ("tagboat.yaml", settings),
        ];
        self.repository
            .commit(&files, ANN, NOW + 1, "change")
            .unwrap();
        self.write("tagboat.yaml", settings);
    }

    /// The newest commit of the branch.
    fn head(&self) -> ObjectId {
        self.repository.head().unwrap().unwrap()
    }

    /// Runs a command in the working copy.
    fn run(&self, arguments: &[&str], code: i32) -> String {
        let mut command = crate::servers::environment::tagboat();
        command
            .env("HOME", self.folder.path())
            .env(
                "PATH",
                format!("{}:/usr/bin:/bin", self.outside().display()),
            )
            .env("TAGBOAT_SANDBOX", "disabled")
            .current_dir(self.work())
            .args(arguments);
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        text
    }

    /// The programs that ran: of the checkout, and of the folder beside it.
    fn ran(&self) -> (bool, bool) {
        let ran = |folder: &Path| folder.join("ran").exists();
        (ran(&self.work()), ran(&self.outside()))
    }
}

fn naming(kustomize: &str) -> String {
    format!("{SETTINGS}render: {{kustomize: {kustomize}, sandbox: disabled}}\n")
}

#[test]
fn preview_takes_settings_of_the_base_revision() {
    let checkout = Checkout::new(Some(&format!("{SETTINGS}render: {{timeout: 2m}}\n")));
    checkout.change(&naming("./evil.sh"));
    let text = checkout.run(&["preview", "-C", "."], 0);
    assert!(text.contains("shop/a on prod: 1 object changes"), "{text}");
    assert!(!checkout.ran().0);
    // The user may name the file of the change.
    checkout.run(&["preview", "-C", ".", "-c", "tagboat.yaml"], 0);
    assert!(checkout.ran().0);
}

/// A shallow clone of a merge request has no branch of `origin`: its base is the author's own.
#[test]
fn preview_distrusts_settings_of_any_revision() {
    let outside = |checkout: &Checkout| checkout.outside().join("kustomize").display().to_string();
    for (settings, field) in [
        ("render: {kustomize: PROGRAM}", "render.kustomize"),
        ("render: {sandbox: disabled}", "render.sandbox"),
        (
            "render: {allowRemoteBases: true}",
            "render.allowRemoteBases",
        ),
        (
            "clusters: [{name: prod, kubeconfig: /etc/kube}]",
            "clusters",
        ),
        (
            "registries: [{prefix: a.example.com, credentials: {helper: evil}}]",
            "registries[0].credentials",
        ),
    ] {
        let checkout = Checkout::new(None);
        let text = format!("{SETTINGS}{settings}\n").replace("PROGRAM", &outside(&checkout));
        let first = checkout.head();
        checkout.change(&text);
        let second = checkout.head();
        let more = [("apps/a/kustomization.yaml", "resources: [c.yaml]\n")];
        checkout
            .repository
            .commit(&more, ANN, NOW + 2, "more")
            .unwrap();
        // Detached, and cut off below the two commits of the change.
        let git = checkout.work().join(".git");
        fs::write(git.join("HEAD"), format!("{}\n", checkout.head())).unwrap();
        fs::write(git.join("shallow"), format!("{second}\n")).unwrap();
        assert_ne!(first, second);
        let text = checkout.run(&["preview", "-C", "."], 2);
        assert!(
            text.contains(&format!(
                "these settings count only in a file that you name: {field}"
            )) && text.contains("outside of the checkout"),
            "{settings}: {text}"
        );
        // The same settings count in a file outside of the checkout.
        let named = checkout.outside().join("tagboat.yaml");
        fs::write(&named, naming(&outside(&checkout))).unwrap();
        assert_eq!(checkout.ran(), (false, false));
        checkout.run(&["preview", "-C", ".", "-c", named.to_str().unwrap()], 0);
        assert_eq!(checkout.ran(), (false, true));
    }
}

#[test]
fn preview_uses_nothing_inside_the_checkout() {
    let inside = "lies inside the working copy that is previewed, and is not used";
    let cluster =
        |path: &str| format!("{SETTINGS}clusters: [{{name: prod, kubeconfig: {path}}}]\n");
    for settings in [
        naming("../work/evil.sh"),
        cluster("../work/kube"),
        cluster("link"),
    ] {
        let checkout = Checkout::new(None);
        checkout.write("kube", "{}");
        symlink(
            checkout.work().join("kube"),
            checkout.outside().join("link"),
        )
        .unwrap();
        checkout.change(SETTINGS);
        // Settings elsewhere that lead into it.
        fs::write(checkout.outside().join("tagboat.yaml"), &settings).unwrap();
        let mut command = crate::servers::environment::tagboat();
        let output = command
            .current_dir(checkout.outside())
            .args(["preview", "-C", "../work"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(inside), "{settings}: {text}");
        assert_eq!(checkout.ran(), (false, false));
    }
}

#[test]
fn preview_ignores_settings_that_the_change_adds() {
    let checkout = Checkout::new(None);
    checkout.change(&naming("./evil.sh"));
    let program = checkout.outside().join("kustomize");
    let text = checkout.run(
        &[
            "preview",
            "-C",
            ".",
            "--kustomize",
            program.to_str().unwrap(),
        ],
        0,
    );
    assert!(
        text.contains("tagboat.yaml is not in the base revision, and is not used; name it with"),
        "{text}"
    );
    assert_eq!(checkout.ran(), (false, true));
}

#[test]
fn settings_of_a_checkout_need_to_be_named() {
    for (more, field) in [
        ("render: {kustomize: ./evil.sh}", "render.kustomize"),
        ("clusters: [{name: prod, kubeconfig: kube}]", "clusters"),
        ("store: here", "store"),
    ] {
        let checkout = Checkout::new(Some(&format!("{SETTINGS}{more}\n")));
        for command in ["plan", "status", "scan", "policies", "run", "preview"] {
            let text = checkout.run(&[command], 2);
            assert!(
                text.contains(&format!(
                    "tagboat.yaml lies in a Git working copy, and these settings count only in a file that you name: {field}"
                )) && text.contains("--config tagboat.yaml"),
                "{command}: {text}"
            );
        }
        assert!(!checkout.work().join("here").exists());
        assert_eq!(checkout.ran(), (false, false));
    }
    // Settings without such a field need no trust, and a named file has it.
    let checkout = Checkout::new(Some(SETTINGS));
    let read = "no pass has read fleet yet";
    assert!(checkout.run(&["policies"], 2).contains(read));
    let checkout = Checkout::new(Some(&format!("{SETTINGS}store: ../outside/store\n")));
    assert!(
        checkout
            .run(&["policies", "-c", "tagboat.yaml"], 2)
            .contains(read)
    );
    assert!(checkout.outside().join("store").exists());
}

/// Starts a registry that lets nobody in; returns its address.
fn closed_registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // It ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    address
}

#[test]
fn tags_asks_no_credential_helper_of_a_checkout() {
    let host = closed_registry();
    let settings = format!(
        "registries: [{{prefix: '{host}', insecure: true, credentials: {{dockerConfig: docker.json}}}}]\n"
    );
    let checkout = Checkout::new(Some(&settings));
    let helpers = |program: &str| {
        let text = format!("{{\"credHelpers\": {{\"{host}\": \"{program}\"}}}}");
        checkout.write("docker.json", &text);
    };
    helpers(&checkout.work().join("evil.sh").display().to_string());
    let image = format!("{host}/team/app");
    let text = checkout.run(&["tags", &image], 3);
    assert!(!checkout.ran().0, "{text}");
    // Not even one that is named may be a relative path.
    helpers("./evil.sh");
    let text = checkout.run(&["tags", &image, "-c", "tagboat.yaml"], 3);
    assert!(text.contains("\"./evil.sh\": is a relative path"), "{text}");
    assert!(!checkout.ran().0);
    helpers(&checkout.work().join("evil.sh").display().to_string());
    checkout.run(&["tags", &image, "-c", "tagboat.yaml"], 3);
    assert!(checkout.ran().0, "nothing to refuse");
}

#[test]
fn init_writes_through_no_symbolic_link() {
    let checkout = Checkout::new(None);
    checkout.write("web.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec:\n      containers: [{name: web, image: ghcr.io/a/web:1.2.3}]\n");
    symlink(checkout.outside(), checkout.work().join("policies")).unwrap();
    let text = checkout.run(&["init", "--write"], 4);
    assert!(
        text.contains(
            "cannot write policies/web.yaml: policies is a symbolic link, which is not followed"
        ),
        "{text}"
    );
    let names: Vec<_> = fs::read_dir(checkout.outside()).unwrap().collect();
    assert_eq!(names.len(), 1, "the program alone: {names:?}");
}
