//! Pull requests end to end, driven only by files, pushes and actions of people on the forge:
//! `tagboat run` with a registry, a real Gitea and a real Kubernetes API server. Environment `dev`
//! merges automatically when its check is green, `prod` waits for people.

use super::{fleet::Fleet, rollout::statuses};
use crate::{
    it::{support::process::Running, update_support::semver},
    servers::{
        git::{Program, git},
        kube::Kube,
    },
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use tagboat::io::forge::{PullRequest, RequestFilter, RequestStatus, StatusState};

const WEB: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 1\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      containers:\n        - name: web\n          image: {host}/team/web:1.0.0\n";
/// The file of each Environment.
const FILES: [(&str, &str); 2] = [
    ("dev", "envs/dev/web/all.yaml"),
    ("prod", "envs/prod/web/all.yaml"),
];
/// Enough for many passes that wait for Gitea, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The running program and its servers.
struct Stage {
    fleet: Fleet,
    kube: &'static Kube,
    dev: String,
    prod: String,
    daemon: Running,
    log: PathBuf,
}

impl Stage {
    /// Starts the program; both Environments are synced at 1.0.0, and prod's namespace refuses
    /// 1.0.1.
    fn new() -> Self {
        let kube = Kube::shared();
        let cluster = format!(
            "    interval: 1s\nclusters:\n  - {{name: test, kubeconfig: {}}}\n",
            kube.kubeconfig.display()
        );
        let fleet = Fleet::bare(&cluster);
        fleet.publish("web", &["1.0.0"]);
        let (dev, prod) = fleet
            .runtime
            .block_on(async { (kube.namespace("dev").await, kube.namespace("prod").await) });
        let environment = |name: &str, update: &str, namespace: &str| {
            format!(
                "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {{name: {name}}}\nspec: {{paths: ['envs/{name}/**'], update: {{via: pullRequest{update}}}}}\n---\n\
                 apiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: web, namespace: {namespace}}}\nspec: {{environment: {name}, path: envs/{name}/web, cluster: test, targetNamespace: {namespace}, wait: true, timeout: 60s}}\n---\n"
            )
        };
        let merging = ", request: {mergeMethod: squash, labels: [images]}, autoMerge: {bump: [patch], requireChecks: [ci/test]}";
        let declared = semver("web", "1.x", "  interval: 1s\n")
            + &environment("dev", merging, &dev)
            + &environment("prod", "", &prod);
        fleet.person(&[
            ("policies/all.yaml", &declared),
            (FILES[0].1, WEB),
            (FILES[1].1, WEB),
        ]);
        let log = fleet.dir.path().join("log");
        let daemon = Running::start(
            fleet
                .tagboat(&["run"])
                .stderr(std::fs::File::create(&log).unwrap()),
        );
        let stage = Self {
            fleet,
            kube,
            dev,
            prod,
            daemon,
            log,
        };
        stage.refuse();
        stage.until("both are rolled out", || {
            (stage.image(&stage.dev) == "1.0.0" && stage.image(&stage.prod) == "1.0.0")
                .then_some(())
        });
        stage
    }

    /// Makes prod's namespace refuse one version.
    fn refuse(&self) {
        let group = "/apis/admissionregistration.k8s.io/v1";
        let rules = json!([{"apiGroups": ["apps"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}]);
        let expression =
            "!object.spec.template.spec.containers.exists(c, c.image.endsWith(':1.0.1'))";
        let spec = json!({
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": rules},
            "validations": [{"expression": expression, "message": "prod takes no 1.0.1"}],
        });
        let here = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.prod}}});
        let binding =
            json!({"policyName": self.prod, "validationActions": ["Deny"], "matchResources": here});
        for (kind, spec) in [
            ("validatingadmissionpolicies", spec),
            ("validatingadmissionpolicybindings", binding),
        ] {
            let body = json!({"metadata": {"name": self.prod}, "spec": spec});
            let (status, answer) = self.fleet.runtime.block_on(self.kube.call(
                Method::POST,
                &format!("{group}/{kind}"),
                Some(&body),
            ));
            assert!(status.is_success(), "{answer}");
        }
        let probe = [
            "-n",
            &self.prod,
            "create",
            "deployment",
            "probe",
            "--image=example.org/web:1.0.1",
            "--dry-run=server",
        ];
        self.until("the policy is in effect", || {
            String::from_utf8_lossy(&self.kube.kubectl(&probe).stderr)
                .contains("prod takes no 1.0.1")
                .then_some(())
        });
    }

    /// Waits for an effect of the program.
    fn until<T>(&self, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = done() {
                return value;
            }
            assert!(
                Instant::now() < end,
                "not within {PATIENCE:?}: {what}\n{}\n{}",
                self.run(&["requests"]),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Runs a command, which the running program answers.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.fleet.tagboat(arguments).output().unwrap();
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    }

    /// The rows of `tagboat requests` for an Environment.
    fn rows(&self, environment: &str) -> Vec<Value> {
        let output = self
            .fleet
            .tagboat(&["requests", "-o", "json"])
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        let answer: Value = serde_json::from_str(&shown).unwrap_or_else(|error| {
            panic!(
                "{error}: {shown}{}",
                String::from_utf8_lossy(&output.stderr)
            )
        });
        let rows = answer["pullRequests"].as_array().unwrap();
        rows.iter()
            .filter(|row| row["environment"] == environment)
            .cloned()
            .collect()
    }

    /// Waits until the only request of an Environment has this state and this reason.
    fn waits(&self, environment: &str, number: u64, state: &str, why: &str) {
        self.until(&format!("{environment} is {state}: {why}"), || {
            let rows = self.rows(environment);
            let [row] = rows.as_slice() else { return None };
            let waits = row["waits"].to_string();
            (row["number"] == number && row["state"] == state && waits.contains(why)).then_some(())
        });
    }

    /// The open request with this title.
    fn request(&self, title: &str) -> PullRequest {
        self.until(title, || {
            let open = self
                .fleet
                .runtime
                .block_on(self.fleet.world.forge.list(RequestFilter::Open, "tagboat/"))
                .unwrap();
            open.into_iter().find(|request| request.title == title)
        })
    }

    fn merged(&self, number: u64) -> PullRequest {
        self.until("it is merged", || {
            Some(self.fleet.get(number)).filter(|request| request.state == RequestStatus::Merged)
        })
    }

    /// The tag that runs in a namespace, once it is ready.
    fn image(&self, namespace: &str) -> String {
        let path = "jsonpath={.status.readyReplicas} {.spec.template.spec.containers[0].image}";
        let output = self
            .kube
            .kubectl(&["-n", namespace, "get", "deployment", "web", "-o", path]);
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let ready = shown.strip_prefix("1 ").unwrap_or_default();
        ready.rsplit(':').next().unwrap_or_default().to_owned()
    }

    fn runs(&self, namespace: &str, tag: &str) {
        self.until(&format!("{tag} runs in {namespace}"), || {
            (self.image(namespace) == tag).then_some(())
        });
    }

    /// Checks the rollout report of a merged request: its commit status and its comment.
    fn check_report(&self, request: &PullRequest, environment: &str, namespace: &str) {
        let commit = request
            .ended
            .as_ref()
            .and_then(|ended| ended.commit.clone())
            .unwrap();
        let wanted = format!("tagboat/rollout/{environment}@test success: rolled out in ");
        self.until(&wanted, || {
            let all = self
                .fleet
                .runtime
                .block_on(statuses(&self.fleet.world, &commit));
            all.last()
                .is_some_and(|last| last.starts_with(&wanted))
                .then_some(())
        });
        self.until("the comment", || {
            let comments = self.fleet.comments(request.number);
            let row = format!("- ✅ `{namespace}/web` on `test` rolled out in ");
            let own: Vec<&String> = comments
                .iter()
                .filter(|text| text.contains("<!-- tagboat:rollout -->"))
                .collect();
            (own.len() == 1 && own[0].contains(&row) && own[0].contains(&commit[..10]))
                .then_some(())
        });
    }

    /// Checks that an Environment has no request and would open none, because of a hold.
    fn stays_away(&self, environment: &str, held: &str) {
        self.until(held, || {
            let plan = self.run(&["plan"]);
            (plan.contains(held) && self.rows(environment).is_empty()).then_some(())
        });
        let open = self
            .fleet
            .runtime
            .block_on(
                self.fleet
                    .world
                    .forge
                    .list(RequestFilter::Open, &format!("tagboat/{environment}/")),
            )
            .unwrap();
        assert!(open.is_empty(), "{open:#?}");
    }
}

#[test]
#[ignore = "needs Gitea and kube-apiserver: run tests/run forge"]
fn dev_auto_merges_while_prod_waits_for_people() {
    let mut stage = Stage::new();
    let no_check = "The check ci/test has not reported yet";

    // A new tag: both have a request; dev waits for its check, prod for people.
    stage.fleet.publish("web", &["1.0.1"]);
    let dev = stage.request("dev: web 1.0.0 → 1.0.1");
    let prod = stage.request("prod: web 1.0.0 → 1.0.1");
    stage.waits("dev", dev.number, "open", no_check);
    stage.waits(
        "prod",
        prod.number,
        "open",
        "It waits for a person to merge it: autoMerge is not declared.",
    );
    let text = stage.run(&["requests"]);
    for line in [
        format!(
            "open #{} dev: web 1.0.0 → 1.0.1\n      {}\n      {no_check}",
            dev.number, dev.url
        ),
        format!(
            "open #{} prod: web 1.0.0 → 1.0.1\n      {}\n      It waits for a person",
            prod.number, prod.url
        ),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
    assert_eq!(stage.fleet.get(dev.number).labels, ["images"]);
    // The reviewer sees the change, and that the cluster would refuse it.
    let body = prod.body.replace(&stage.fleet.registry.host(), "{host}");
    let diff = |sign: char, tag: &str| {
        body.lines().any(|line| {
            line.starts_with(sign) && line.ends_with(&format!("image: {{host}}/team/web:{tag}"))
        })
    };
    assert!(diff('-', "1.0.0") && diff('+', "1.0.1"), "{body}");
    assert!(
        body.contains("**1 object would be refused.**") && body.contains("prod takes no 1.0.1"),
        "{body}"
    );
    assert!(!dev.body.contains("would be refused"), "{}", dev.body);

    // Dev's check turns green: it merges automatically, is rolled out, and is reported.
    assert_eq!(stage.image(&stage.dev), "1.0.0");
    stage.fleet.check(dev.number, StatusState::Success);
    let dev = stage.merged(dev.number);
    stage.runs(&stage.dev, "1.0.1");
    stage.check_report(&dev, "dev", &stage.dev);
    assert_eq!(stage.fleet.head("tagboat/dev/all"), None);
    assert!(stage.rows("dev").is_empty());
    assert_eq!(
        (
            stage.fleet.get(prod.number).state,
            stage.image(&stage.prod).as_str()
        ),
        (RequestStatus::Open, "1.0.0")
    );

    // A person closes prod's request: that version is held.
    stage.fleet.close(prod.number);
    stage.stays_away(
        "prod",
        &format!(
            "holds 1.0.1: {} closed pull request #{} (1.0.1) on ",
            stage.fleet.world.ann, prod.number
        ),
    );

    // A newer version comes, and the cluster accepts it. A person merges it.
    stage.fleet.publish("web", &["1.0.2"]);
    let again = stage.request("prod: web 1.0.0 → 1.0.2");
    assert_ne!(again.number, prod.number);
    assert!(
        again.body.contains("accepted") && !again.body.contains("would be refused"),
        "{}",
        again.body
    );
    let dev = stage.request("dev: web 1.0.1 → 1.0.2");
    let merge = format!(
        "repos/{}/pulls/{}/merge",
        stage.fleet.world.project, again.number
    );
    stage.until("Gitea has checked it", || {
        let world = &stage.fleet.world;
        let call = world.gitea.call(
            &world.ann_token,
            Method::POST,
            &merge,
            Some(json!({"Do": "merge"})),
        );
        let (status, answer) = stage.fleet.runtime.block_on(call);
        assert!(status.is_success() || status == 405, "{status} {answer}");
        status.is_success().then_some(())
    });
    let again = stage.merged(again.number);
    stage.runs(&stage.prod, "1.0.2");
    stage.check_report(&again, "prod", &stage.prod);
    stage.fleet.check(dev.number, StatusState::Success);
    stage.merged(dev.number);
    stage.runs(&stage.dev, "1.0.2");

    // A person reverts it in Git: the cluster follows, and the version is held.
    stage.fleet.person(&[(FILES[1].1, WEB)]);
    stage.runs(&stage.prod, "1.0.0");
    stage.stays_away("prod", "holds 1.0.2: ");

    // A newer version comes. A person commits to dev's branch, which makes it hers, even with a
    // green check.
    stage.fleet.publish("web", &["1.0.3"]);
    let dev = stage.request("dev: web 1.0.2 → 1.0.3");
    let prod = stage.request("prod: web 1.0.0 → 1.0.3");
    let hers = stage
        .fleet
        .meddle_on("tagboat/dev/all", &[("envs/dev/web/note.txt", "by ann\n")]);
    stage.until("Gitea has seen it", || {
        (stage.fleet.get(dev.number).head_commit == hers).then_some(())
    });
    stage.fleet.check(dev.number, StatusState::Success);
    let why = format!(
        "Its branch has commit {} by Ann, which is not the bot's",
        &hers[..10]
    );
    stage.waits("dev", dev.number, "stopped", &why);
    let text = stage.run(&["requests"]);
    assert!(
        text.contains(&format!(
            "stopped #{} dev: web 1.0.2 → 1.0.3\n      {}\n      {why}",
            dev.number, dev.url
        )),
        "{text}"
    );
    let comment_count = |number: u64| {
        stage
            .fleet
            .comments(number)
            .iter()
            .filter(|text| text.contains(&hers[..10]))
            .count()
    };
    stage.until("the comment reports it", || {
        (comment_count(dev.number) == 1).then_some(())
    });
    // A newer tag does not change it either; prod's request is updated in place.
    stage.fleet.publish("web", &["1.0.4"]);
    assert_eq!(stage.request("prod: web 1.0.0 → 1.0.4").number, prod.number);
    stage.waits("dev", dev.number, "stopped", &why);
    assert_eq!(stage.fleet.head("tagboat/dev/all"), Some(hers.clone()));
    let dev = stage.fleet.get(dev.number);
    assert_eq!(
        (dev.state, dev.title.as_str(), comment_count(dev.number)),
        (RequestStatus::Open, "dev: web 1.0.2 → 1.0.3", 1)
    );
    assert_eq!(stage.image(&stage.dev), "1.0.2");

    // All commits of the bot on main came by pull requests.
    let clone = &stage.fleet.world.clone;
    git(clone, &["fetch", "-q", "origin"]).ok();
    let log = git(
        clone,
        &["log", "--first-parent", "--format=%cn %s", "origin/main"],
    )
    .text();
    assert!(
        !log.lines().any(|line| line.starts_with("tagboat prod:")),
        "{log}"
    );
    stage.daemon.signal("TERM");
    stage.daemon.ended();
    assert!(
        stage.log().ends_with("stopped reason=Stopped\n") && !stage.log().contains(" ERROR "),
        "{}",
        stage.log()
    );
}
