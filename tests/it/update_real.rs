//! The whole update pass against a real docker-registry, git and OpenSSH; git itself checks the
//! result.

use super::{git_support::runtime, registry_real::Pusher, support::process::Running};
use crate::servers::{
    docker_registry::{DockerRegistry, Options, USER},
    git::{HttpBackend, Program, Sshd, git, seed},
};
use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const GIT_PASSWORD: &str = "git-gut-9";
const DECLARED: &str = "apiVersion: tagboat.dev/v1alpha1
kind: ImagePolicy
metadata: {name: web}
spec:
  image: HOST/team/web
  policy: {semver: {range: 1.x}}
---
apiVersion: tagboat.dev/v1alpha1
kind: ImagePolicy
metadata: {name: db}
spec:
  image: HOST/team/db
  policy: {digest: {tag: stable}}
---
apiVersion: tagboat.dev/v1alpha1
kind: Environment
metadata: {name: dev}
spec:
  paths: ['envs/dev/**']
  update: {via: commit}
";
const FILE: &str = "# kept  as it is\nkind: Pod\napiVersion: v1\nspec:\n  containers:\n    - {name: web, image: \"HOST/team/web:1.0.0\"} # web\n    - name: db\n      image:   'HOST/team/db:stable'\n";

/// A registry with images, a repository, a signing key; each test adds the URL and access.
struct Real {
    dir: TempDir,
    registry: DockerRegistry,
    runtime: tokio::runtime::Runtime,
    bare: PathBuf,
}

impl Real {
    fn start(options: Options) -> Self {
        let (dir, registry, runtime) = (
            tempfile::tempdir().unwrap(),
            DockerRegistry::start(options),
            runtime(),
        );
        let text = |text: &str| text.replace("HOST", &registry.host);
        let bare = seed(
            dir.path(),
            &[
                ("p.yaml", &text(DECLARED)),
                ("envs/dev/a.yaml", &text(FILE)),
                ("README", "hello\n"),
            ],
        );
        git(&bare, &["config", "http.receivepack", "true"]).ok();
        let key = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(dir.path().join("signing"))
            .output()
            .unwrap();
        key.ok();
        let real = Self {
            dir,
            registry,
            runtime,
            bare,
        };
        for tag in ["web:1.0.0", "web:1.1.0", "web:2.0.0", "db:stable"] {
            real.push(tag, "2026-01-01T00:00:00Z");
        }
        real
    }

    fn push(&self, name: &str, created: &str) -> String {
        self.runtime.block_on(async {
            let pusher = Pusher::new(&self.registry).await;
            pusher
                .image(&format!("team/{name}"), ("linux", "amd64"), created)
                .await
                .to_string()
        })
    }

    /// Writes a settings file with a store of its own.
    fn configure(&self, name: &str, url: &str, access: &str) -> PathBuf {
        let Options { tls, sign_in } = self.registry.options;
        let way = match tls {
            true => format!("    caFile: {}\n", self.registry.ca_file().display()),
            false => "    insecure: true\n".to_owned(),
        };
        let credentials = match sign_in {
            true => format!(
                "    credentials: {{basic: {{username: {}, password: {{env: REGISTRY_PASSWORD}}}}}}\n",
                USER.0
            ),
            false => String::new(),
        };
        let text = format!(
            "store: {name}\nregistries:\n  - prefix: {}\n    minimumInterval: 1s\n{way}{credentials}repositories:\n  - name: fleet\n    url: {url}\n    author: {{name: Bot, email: bot@example.org}}\n    signingKey: {{key: {{file: signing}}}}\n{access}",
            self.registry.host
        );
        let file = self.dir.path().join(format!("{name}.yaml"));
        std::fs::write(&file, text).unwrap();
        file
    }

    fn command(&self, config: &Path, arguments: &[&str]) -> Command {
        let mut command = crate::servers::environment::tagboat();
        command
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.dir.path());
        command
            .env("REGISTRY_PASSWORD", USER.1)
            .env("GIT_PASSWORD", GIT_PASSWORD);
        command
            .args(arguments)
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, config: &Path, arguments: &[&str]) -> Output {
        self.command(config, arguments).output().unwrap()
    }

    fn text(&self) -> String {
        git(&self.bare, &["show", "main:envs/dev/a.yaml"]).text() + "\n"
    }

    /// Plan, update, nothing to do, a new tag and a moved digest, nothing lost.
    fn once_around(&self, config: &Path) {
        let expected = |web: &str, digest: &str| {
            FILE.replace("web:1.0.0", &format!("web:{web}"))
                .replace("db:stable", &format!("db:stable@{digest}"))
                .replace("HOST", &self.registry.host)
        };
        let plan = self.run(config, &["plan", "--check"]);
        assert_eq!(plan.status.code(), Some(1), "{plan:?}");
        let first = self.push("db:stable", "2026-01-01T00:00:00Z");
        self.run(config, &["run", "--once"]).ok();
        assert_eq!(self.text(), expected("1.1.0", &first));
        assert_eq!(
            git(&self.bare, &["diff", "--numstat", "main~1", "main"]).text(),
            "2\t2\tenvs/dev/a.yaml"
        );
        self.judged(2);
        let plan = self.run(config, &["plan", "-o", "json"]);
        let reports: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
        assert_eq!(
            reports["passes"][0]["environments"][0]["state"], "upToDate",
            "{reports:#}"
        );
        let requests = &reports["passes"][0]["requestsSent"];
        assert_eq!(
            (
                &requests["listings"],
                &requests["heads"],
                &requests["lsRefs"]
            ),
            (&2.into(), &1.into(), &1.into()),
            "{reports:#}"
        );
        let second = self.push("db:stable", "2026-02-01T00:00:00Z");
        assert_ne!(first, second);
        self.push("web:1.2.0", "2026-02-01T00:00:00Z");
        self.run(config, &["run", "--once"]).ok();
        assert_eq!(self.text(), expected("1.2.0", &second));
        self.run(config, &["run", "--once"]).ok();
        self.judged(3);
        for output in [
            self.run(config, &["plan"]),
            self.run(config, &["explain", "default/web"]),
        ] {
            let shown = [output.stdout, output.stderr].concat();
            let shown = String::from_utf8_lossy(&shown);
            assert!(
                !shown.contains(USER.1) && !shown.contains(GIT_PASSWORD),
                "{shown}"
            );
        }
    }

    /// Checks with git: the number of commits, all objects, and the bot's signature on the last
    /// one.
    fn judged(&self, commits: usize) {
        git(&self.bare, &["fsck", "--strict"]).ok();
        assert_eq!(
            git(&self.bare, &["rev-list", "--count", "main"]).text(),
            commits.to_string()
        );
        let public = std::fs::read_to_string(self.dir.path().join("signing.pub")).unwrap();
        let signers = self.dir.path().join("signers");
        std::fs::write(&signers, format!("bot@example.org {public}")).unwrap();
        let config = format!("gpg.ssh.allowedSignersFile={}", signers.display());
        git(
            &self.bare,
            &[
                "-c",
                &config,
                "-c",
                "gpg.format=ssh",
                "verify-commit",
                "main",
            ],
        )
        .ok();
        let log = git(
            &self.bare,
            &[
                "log",
                "-1",
                "--format=%an <%ae>|%cn|%(trailers:key=Tagboat-Update,valueonly)",
                "main",
            ],
        )
        .text();
        assert_eq!(log, "Bot <bot@example.org>|Bot|dev");
    }
}

#[test]
#[ignore = "needs docker-registry and git: run tests/run update"]
fn updates_plain_registry_and_file_repository() {
    let real = Real::start(Options::default());
    let config = real.configure("store", &format!("file://{}", real.bare.display()), "");
    real.once_around(&config);
}

#[test]
#[ignore = "needs docker-registry and git: run tests/run update"]
fn updates_tls_registry_and_git_over_http() {
    let real = Real::start(Options {
        tls: true,
        sign_in: false,
    });
    let backend = HttpBackend::start(real.dir.path(), Some(&format!("bot:{GIT_PASSWORD}")));
    let access = "    basic: {username: bot, password: {env: GIT_PASSWORD}}\n";
    let config = real.configure("store", &backend.url("fleet.git"), access);
    // Without the CA, or with a wrong password, nothing happens, and the exit code names the kind
    // of failure.
    let text = std::fs::read_to_string(&config).unwrap();
    let other = real.dir.path().join("other.yaml");
    std::fs::write(
        &other,
        text.replace("store: store", "store: other")
            .replace("    caFile", "    # caFile"),
    )
    .unwrap();
    let output = real.run(&other, &["run", "--once"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("certificate"),
        "{output:?}"
    );
    let output = real
        .command(&config, &["run", "--once"])
        .env("GIT_PASSWORD", "wr0ng")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(
        !String::from_utf8_lossy(&output.stderr).contains("wr0ng"),
        "{output:?}"
    );
    real.once_around(&config);
}

#[test]
#[ignore = "needs docker-registry, git and openssh-server: run tests/run update"]
fn updates_login_registry_and_git_over_ssh() {
    let real = Real::start(Options {
        tls: false,
        sign_in: true,
    });
    let sshd = Sshd::start(real.dir.path());
    let user = Command::new("id").arg("-un").output().unwrap().text();
    let url = format!(
        "ssh://{user}@127.0.0.1:{}{}",
        sshd.port,
        real.bare.display()
    );
    let access = format!(
        "    ssh: {{identity: {}, knownHosts: {}}}\n",
        sshd.identity.display(),
        sshd.known_hosts.display()
    );
    let config = real.configure("store", &url, &access);
    let output = real
        .command(&config, &["run", "--once"])
        .env("REGISTRY_PASSWORD", "wr0ng")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(
        !String::from_utf8_lossy(&output.stderr).contains("wr0ng"),
        "{output:?}"
    );
    real.once_around(&config);
}

#[test]
#[ignore = "needs docker-registry and git: run tests/run update"]
fn declined_push_has_reason_and_leaves_nothing() {
    let real = Real::start(Options::default());
    let hook = real.bare.join("hooks/pre-receive");
    std::fs::write(
        &hook,
        "#!/bin/sh\necho 'bots open requests here' >&2\nexit 1\n",
    )
    .unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let backend = HttpBackend::start(real.dir.path(), None);
    let config = real.configure("store", &backend.url("fleet.git"), "");
    let output = real.run(&config, &["run", "--once"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("bots open requests here"),
        "{output:?}"
    );
    assert_eq!(
        git(&real.bare, &["rev-list", "--count", "main"]).text(),
        "1"
    );
    std::fs::remove_file(hook).unwrap();
    real.run(&config, &["run", "--once"]).ok();
    real.judged(2);
}

#[test]
#[ignore = "needs docker-registry and git: run tests/run update"]
fn concurrent_pushes_with_git_lose_nothing() {
    const EACH: usize = 5;
    let real = Real::start(Options::default());
    let backend = HttpBackend::start(real.dir.path(), None);
    let configs = ["one", "two"]
        .map(|name| real.configure(name, &backend.url("fleet.git"), "    interval: 1s\n"));
    let work = real.dir.path().join("work");
    let commit_and_push = |path: &str, text: &str| {
        std::fs::write(work.join(path), text).unwrap();
        git(&work, &["add", "-A"]).ok();
        git(&work, &["commit", "-q", "-m", &format!("ann {path}")]).ok();
        for tries in 0.. {
            assert!(tries < 50, "never got through");
            if git(&work, &["push", "-q", "origin", "main"])
                .status
                .success()
            {
                return;
            }
            git(&work, &["pull", "-q", "--rebase", "origin", "main"]).ok();
        }
    };
    let fast = DECLARED
        .replace("HOST", &real.registry.host)
        .replace("spec:\n  image", "spec:\n  interval: 1s\n  image");
    commit_and_push("p.yaml", &fast);
    let mut bots: Vec<_> = configs
        .iter()
        .map(|config| {
            let log = std::fs::File::create(config.with_extension("log")).unwrap();
            Running::start(
                real.command(config, &["run"])
                    .stderr(log)
                    .stdout(Stdio::null()),
            )
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    for n in 0..EACH {
        let tag = format!("1.2.{n}");
        real.push(&format!("web:{tag}"), "2026-01-01T00:00:00Z");
        for m in 0..3 {
            commit_and_push(&format!("ann-{n}-{m}"), "x\n");
        }
        while !real.text().contains(&format!("web:{tag}")) {
            assert!(Instant::now() < deadline, "{tag} does not arrive");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    for bot in &mut bots {
        bot.signal("TERM");
        assert!(bot.ended().success());
    }
    git(&real.bare, &["fsck", "--strict"]).ok();
    assert_eq!(
        git(&real.bare, &["rev-list", "--merges", "--count", "main"]).text(),
        "0"
    );
    let subjects = git(&real.bare, &["log", "--reverse", "--format=%s", "main"]).text();
    let ann = subjects
        .lines()
        .filter(|subject| subject.starts_with("ann "))
        .count();
    assert_eq!(ann, 3 * EACH + 1, "{subjects}");
    let unique: std::collections::BTreeSet<_> = subjects.lines().collect();
    assert_eq!(
        unique.len(),
        subjects.lines().count(),
        "no commit twice: {subjects}"
    );
}
