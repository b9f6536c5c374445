//! `diff` and `history` of many Applications: requests, order, and failures that stay alone.

use super::{
    git_support::provider,
    render_support::script,
    update_support::{Act, Fleet, Gate, Setup, env},
};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};
use tagboat::sandbox::kube::{SandboxCluster, SandboxOptions};

/// The bound of every wait, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A repository with many Applications on a cluster whose requests are recorded.
struct ManyApplications {
    fleet: Fleet,
    cluster: SandboxCluster,
    gate: Gate,
}

fn declaration(number: usize, cluster: &str) -> String {
    format!(
        "---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: app-{number:02}, namespace: dev}}\nspec: {{environment: dev, path: envs/dev/{number:02}, cluster: {cluster}, targetNamespace: dev, prune: true}}\n"
    )
}

fn declarations(count: usize) -> String {
    let applications = (0..count).map(|number| declaration(number, "test"));
    env("dev", "") + &applications.collect::<String>()
}

fn folder(number: usize) -> String {
    format!("envs/dev/{number:02}/all.yaml")
}

fn maps(number: usize, value: &str) -> String {
    let map = |part: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: app-{number:02}-{part}}}\ndata: {{value: '{value}'}}\n"
        )
    };
    map("one") + "---\n" + &map("two")
}

impl ManyApplications {
    fn new(count: usize) -> Self {
        provider();
        let fleet = Fleet::with(&[("p.yaml", &declarations(0))], &Setup::default());
        let gate = Gate::default();
        let cluster = fleet.runtime.block_on(SandboxCluster::start_with(
            SandboxOptions::default(),
            |app| gate.layer(app),
        ));
        let cluster = cluster.unwrap();
        std::fs::write(fleet.dir.path().join("kubeconfig"), cluster.kubeconfig()).unwrap();
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "dev"}});
        fleet.runtime.block_on(async {
            let request =
                reqwest::Client::new().post(format!("{}/api/v1/namespaces", cluster.url()));
            let request = request.header("content-type", "application/json");
            let answer = request.body(namespace.to_string()).send().await.unwrap();
            assert!(answer.status().is_success());
        });
        let settings = std::fs::read_to_string(fleet.config()).unwrap();
        let clusters = "clusters:\n- {name: test, kubeconfig: kubeconfig}\n";
        std::fs::write(fleet.config(), settings + clusters).unwrap();
        let this = Self {
            fleet,
            cluster,
            gate,
        };
        this.apply(count);
        this
    }

    /// Declares this number of Applications, and applies them.
    fn apply(&self, count: usize) {
        let files: Vec<(String, String)> = (0..count)
            .map(|number| (folder(number), maps(number, "1")))
            .collect();
        let declared = declarations(count);
        let mut all = vec![("p.yaml", declared.as_str())];
        all.extend(
            files
                .iter()
                .map(|(path, text)| (path.as_str(), text.as_str())),
        );
        self.fleet.person(&all, &format!("{count} Applications"));
        assert_eq!(self.ask(&["sync", "--all"]).0, Some(0));
    }

    /// Adds a cluster that nobody answers for.
    fn add_silent_cluster(&self) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let kubeconfig = self
            .cluster
            .kubeconfig()
            .replace(&self.cluster.url(), &silent);
        std::fs::write(self.fleet.dir.path().join("silent"), kubeconfig).unwrap();
        let settings = std::fs::read_to_string(self.fleet.config()).unwrap();
        let more = "- {name: silent, kubeconfig: silent}\n";
        std::fs::write(self.fleet.config(), settings + more).unwrap();
    }

    /// Runs a command with `-o json`; returns its exit code and its answer.
    fn ask(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let output = self
            .fleet
            .tagboat(&[arguments, &["-o", "json"]].concat())
            .output()
            .unwrap();
        let answer = match output.stdout.is_empty() {
            true => &output.stderr,
            false => &output.stdout,
        };
        let text = String::from_utf8_lossy(answer);
        let answer = serde_json::from_str(&text);
        let answer = answer.unwrap_or_else(|_| panic!("{arguments:?}: {text}"));
        (output.status.code(), answer)
    }

    /// Runs a command, and returns its requests about objects beside.
    fn requests(&self, arguments: &[&str]) -> (Option<i32>, Value, Vec<String>) {
        self.gate.take();
        let (code, answer) = self.ask(arguments);
        let mut requests = self.gate.take();
        requests.retain(|line| line.contains("/configmaps"));
        (code, answer, requests)
    }
}

fn names(answer: &Value) -> Vec<&str> {
    let applications = answer["applications"].as_array().unwrap();
    let names = applications.iter().map(|one| one["application"].as_str());
    names.map(Option::unwrap).collect()
}

#[test]
fn diff_all_sends_as_many_requests_as_pages() {
    let many = ManyApplications::new(10);
    let (code, few, sent) = many.requests(&["diff", "--all"]);
    assert_eq!((code, names(&few).len()), (Some(0), 10), "{few:#}");
    assert_eq!(sent.len(), 2, "records and ConfigMaps: {sent:#?}");
    assert!(
        sent.iter().all(|line| line.contains("limit=500")),
        "{sent:#?}"
    );

    many.apply(30);
    let (code, more, sent) = many.requests(&["diff", "--all"]);
    assert_eq!((code, names(&more).len()), (Some(0), 30), "{more:#}");
    assert_eq!(sent.len(), 2, "{sent:#?}");

    // One object that differs is read, and asked about.
    many.fleet
        .person(&[(&folder(7), &maps(7, "2"))], "two maps change");
    let (code, changed, sent) = many.requests(&["diff", "--all"]);
    assert_eq!(code, Some(1), "{changed:#}");
    assert_eq!(changed["applications"][7]["objects"][0]["change"], "change");
    let about = |line: &&String| line.contains("app-07-");
    assert_eq!(sent.iter().filter(about).count(), 4, "{sent:#?}");
    assert_eq!(sent.len(), 6, "{sent:#?}");
}

#[test]
fn history_reads_one_record() {
    let many = ManyApplications::new(12);
    let (code, answer, sent) = many.requests(&["history", "dev/app-07"]);
    assert_eq!((code, sent.len()), (Some(0), 1), "{sent:#?}");
    assert_eq!(answer["clusters"][0]["cluster"], "test", "{answer:#}");
    many.add_silent_cluster();
    let (code, answer) = many.ask(&["history", "dev/app-07"]);
    assert_eq!(code, Some(4), "{answer:#}");
    assert_eq!(answer["clusters"][0]["cluster"], "test", "{answer:#}");
    let failures = answer["failures"].to_string();
    assert!(failures.contains("cluster silent"), "{failures}");
}

#[test]
fn diff_failure_of_one_application_stays_alone() {
    let many = ManyApplications::new(12);
    many.add_silent_cluster();
    let mut declared = declarations(12);
    for number in 12..15 {
        declared += &declaration(number, "silent");
    }
    many.fleet.person(
        &[
            ("p.yaml", &declared),
            (&folder(3), "apiVersion: [\n"),
            (&folder(12), &maps(12, "1")),
            (&folder(13), &maps(13, "1")),
            (&folder(14), &maps(14, "1")),
        ],
        "a file that is not YAML, and a cluster that is not there",
    );
    let (code, answer) = many.ask(&["diff", "--all"]);
    assert_eq!(code, Some(4), "{answer:#}");
    let mut expected: Vec<String> = (0..12).map(|n| format!("dev/app-{n:02}")).collect();
    expected.remove(3);
    assert_eq!(names(&answer), expected, "in the order of their names");
    let failures = answer["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 4, "{failures:#?}");
    let error = |index: usize| failures[index]["error"].as_str().unwrap();
    assert!(error(0).starts_with("dev/app-03: "), "{failures:#?}");
    assert!(error(1).contains("cluster silent"), "{failures:#?}");
}

/// The dry run of the first Application is answered only after that of the last one was asked for.
#[test]
fn diff_slow_application_delays_no_other() {
    let many = ManyApplications::new(12);
    let (first, last) = (maps(0, "2"), maps(11, "2"));
    many.fleet.person(
        &[(&folder(0), &first), (&folder(11), &last)],
        "the first and the last",
    );
    let asked = Arc::new((Mutex::new(false), Condvar::new()));
    let in_time = Arc::new(Mutex::new(None));
    let (gate, result) = (Arc::clone(&asked), Arc::clone(&in_time));
    many.gate.rule(move |line| {
        let (gate, result) = (Arc::clone(&gate), Arc::clone(&result));
        if line.starts_with("PATCH") && line.contains("app-11-one") {
            *gate.0.lock().unwrap() = true;
            gate.1.notify_all();
        }
        if !line.starts_with("PATCH") || !line.contains("app-00-one") {
            return Act::Pass;
        }
        Act::Before(Box::new(move || {
            let asked = gate.0.lock().unwrap();
            let waited = gate.1.wait_timeout_while(asked, PATIENCE, |asked| !*asked);
            *result.lock().unwrap() = Some(*waited.unwrap().0);
        }))
    });
    let (code, answer) = many.ask(&["diff", "--all"]);
    many.gate.open();
    assert_eq!(*in_time.lock().unwrap(), Some(true));
    assert_eq!(code, Some(1), "{answer:#}");
    for index in [0, 11] {
        let object = &answer["applications"][index]["objects"][0];
        assert_eq!(object["change"], "change", "{answer:#}");
    }
    assert_eq!(names(&answer).len(), 12);
}

/// Charts whose program is slow leave the permits to plain manifests, however many they are.
#[test]
fn diff_slow_programs_delay_no_plain_manifests() {
    const CHARTS: usize = 40;
    let many = ManyApplications::new(1);
    let seen = many.fleet.dir.path().join("seen");
    // Rendered only after the plain Application was asked about.
    let helm = script(
        many.fleet.dir.path(),
        "helm",
        &format!(
            "case $1 in version) echo v4.0.0; exit;; esac\nfor try in $(seq 600); do\n  test -e {} && printf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {{name: chart}}\\n' && exit\n  sleep 0.1\ndone\nexit 1",
            seen.display()
        ),
    );
    let settings = std::fs::read_to_string(many.fleet.config()).unwrap();
    let render = format!("render: {{helm: {}, sandbox: disabled}}\n", helm.display());
    std::fs::write(many.fleet.config(), settings + &render).unwrap();
    let mut files = vec![(folder(99), maps(99, "new"))];
    let mut declared = declarations(1) + &declaration(99, "test");
    for number in 1..=CHARTS {
        declared += &declaration(number, "test");
        let chart = format!("envs/dev/{number:02}/Chart.yaml");
        files.push((
            chart,
            format!("apiVersion: v2\nname: c{number}\nversion: 1.0.0\n"),
        ));
    }
    files.push(("p.yaml".to_owned(), declared));
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    many.fleet
        .person(&files, "charts before a plain Application");
    many.gate.rule(move |line| {
        if line.starts_with("PATCH") && line.contains("app-99-one") {
            std::fs::write(&seen, "").unwrap();
        }
        Act::Pass
    });
    let (code, answer) = many.ask(&["diff", "--all"]);
    assert_eq!(code, Some(1), "{answer:#}");
    assert_eq!(
        answer["failures"],
        json!([]),
        "no program ran into its limit"
    );
    assert_eq!(names(&answer).len(), CHARTS + 2);
    let last = &answer["applications"][CHARTS + 1];
    assert_eq!(last["application"], "dev/app-99", "{last:#}");
    assert_eq!(last["objects"][0]["change"], "create", "{last:#}");
}
