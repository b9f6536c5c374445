//! The program is killed again and again while it applies: the next process continues, and nothing
//! is lost or orphaned.

use crate::{
    it::{
        support::process::Running,
        update_support::{Fleet, Setup, env, wait},
    },
    servers::kube::Kube,
};
use std::{
    collections::BTreeSet,
    fs::File,
    process::Stdio,
    time::{Duration, Instant},
};
use tagboat::objects::plan::{Inventory, text};

/// Objects of every commit; some more belong to one commit each.
const ALWAYS: usize = 100;
const PASSING: usize = 12;
const KILLS: usize = 15;

struct Shop {
    fleet: Fleet,
    kube: &'static Kube,
    namespace: String,
}

impl Shop {
    fn new() -> Self {
        let kube = Kube::shared();
        let namespace = tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(kube.namespace("killed"));
        let declared = format!(
            "{}apiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: shop, namespace: {namespace}}}\nspec: {{environment: dev, path: envs/dev/shop, cluster: test, targetNamespace: {namespace}, prune: true}}\n",
            env("dev", "")
        );
        let fleet = Fleet::with(
            &[
                ("policies/all.yaml", declared.as_str()),
                ("envs/dev/shop/all.yaml", &config_maps(&names(0), 0)),
            ],
            &Setup {
                repository: "    interval: 1s\n",
                ..Setup::default()
            },
        );
        let mut config = std::fs::read_to_string(fleet.config()).unwrap();
        config.push_str(&format!(
            "clusters:\n  - {{name: test, kubeconfig: {}}}\n",
            kube.kubeconfig.display()
        ));
        std::fs::write(fleet.config(), config).unwrap();
        Self {
            fleet,
            kube,
            namespace,
        }
    }

    fn commit(&self, names: &BTreeSet<String>, value: usize) {
        self.fleet.person(
            &[("envs/dev/shop/all.yaml", &config_maps(names, value))],
            "another shop",
        );
    }

    fn run(&self) -> Daemon {
        let log = self.fleet.dir.path().join("log");
        let process = Running::start(
            self.fleet
                .tagboat_std(&["run"])
                .stderr(File::create(&log).unwrap()),
        );
        Daemon { process, log }
    }

    fn get(&self, arguments: &[&str]) -> String {
        let output = self
            .kube
            .kubectl(&[&["-n", &self.namespace, "get"], arguments].concat());
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The objects with the Application's label.
    fn live(&self) -> BTreeSet<String> {
        let names = self.get(&["configmaps", "-l", "tagboat.dev/name=shop", "-o", "name"]);
        names
            .lines()
            .filter_map(|line| line.strip_prefix("configmap/"))
            .map(str::to_owned)
            .collect()
    }

    /// The inventory of the record; empty before there is one.
    fn inventory(&self) -> Inventory {
        let path = format!(
            "jsonpath={{.data['{}']}}",
            text::INVENTORY.replace('.', "\\.")
        );
        let found = self.get(&[
            "-n",
            "tagboat-system",
            "configmap",
            &format!("tagboat-record.{}.shop", self.namespace),
            "--ignore-not-found",
            "-o",
            &path,
        ]);
        if found.is_empty() {
            Inventory::default()
        } else {
            Inventory::parse(&found).unwrap()
        }
    }

    fn owned(&self) -> BTreeSet<String> {
        self.inventory()
            .entries
            .into_keys()
            .map(|key| key.name.clone())
            .collect()
    }
}

struct Daemon {
    process: Running,
    log: std::path::PathBuf,
}

impl Daemon {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for this many answers to applies, or until a time is over.
    fn until_answers(&mut self, count: usize, most: Duration) {
        let end = Instant::now() + most;
        let sent = |line: &str| {
            ["create: ", "change: ", "apply again: "]
                .iter()
                .any(|word| line.contains(word))
        };
        while self.log().lines().filter(|line| sent(line)).count() < count && Instant::now() < end {
            assert!(self.process.try_wait().unwrap().is_none(), "{}", self.log());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Daemon {
    /// Prints its log if the test fails.
    #[allow(
        clippy::print_stderr,
        reason = "the only place for it when a test fails"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// The objects of the commit of a round.
fn names(round: usize) -> BTreeSet<String> {
    let always = (0..ALWAYS).map(|number| format!("c{number:03}"));
    always
        .chain((0..PASSING).map(|number| format!("r{round:02}-{number:02}")))
        .collect()
}

fn config_maps(names: &BTreeSet<String>, value: usize) -> String {
    let one = |name: &String| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{value: '{value}'}}\n"
        )
    };
    names.iter().map(one).collect::<Vec<_>>().join("---\n")
}

#[test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
fn kill_during_apply_loses_and_orphans_nothing() {
    let shop = Shop::new();
    let mut in_the_middle = 0;
    for round in 1..=KILLS {
        // Before the record, between record and objects, among the objects, during deletion, and at
        // random.
        let answers = [0, 1, 7, 30, 80, ALWAYS + PASSING][round % 6];
        let chance = Duration::from_millis((round * 89 % 60) as u64);
        let wanted = names(round);
        shop.commit(&wanted, round);
        let mut running = shop.run();
        running.until_answers(answers, Duration::from_secs(30));
        std::thread::sleep(chance);
        drop(running);
        let live = shop.live();
        let owned = shop.owned();
        let orphans: Vec<&String> = live.difference(&owned).collect();
        assert!(orphans.is_empty(), "round {round}: orphans: {orphans:?}");
        let path = "jsonpath={range .items[*]}{.data.value} {end}";
        let values = shop.get(&["configmaps", "-l", "tagboat.dev/name=shop", "-o", path]);
        let new = values
            .split_whitespace()
            .filter(|value| *value == round.to_string())
            .count();
        in_the_middle += usize::from(new > 0 && new < wanted.len());
    }
    assert!(
        in_the_middle >= 3,
        "only {in_the_middle} processes died in the middle of their applies"
    );
    // One process survives: every object exists and is owned, and nothing else is left.
    let last = names(99);
    shop.commit(&last, 99);
    let mut running = shop.run();
    // A command that starts before the daemon would hold the store.
    running.until_answers(1, Duration::from_secs(30));
    let is = |wanted: &BTreeSet<String>| {
        let path = "jsonpath={range .items[*]}{.metadata.name}={.data.value} {end}";
        let live = shop.get(&["configmaps", "-l", "tagboat.dev/name=shop", "-o", path]);
        live.split_whitespace()
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
            == wanted.iter().map(|name| format!("{name}=99")).collect()
    };
    // If no process lived long enough to note the number of objects, deleting the old ones of many
    // rounds needs a confirmation.
    let name = format!("{}/shop", shop.namespace);
    let say_yes = || {
        shop.fleet
            .tagboat_std(&["sync", &name, "--confirm-prune"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    };
    wait("the state in Git", || {
        let done = is(&last);
        done.then_some(())
            .or_else(|| say_yes().map(|_| None).unwrap())
    });
    // Until the record has the last answers. Announced objects that were never created are kept for
    // a while.
    let complete = |wanted: &BTreeSet<String>| {
        let (answered, other): (Vec<_>, Vec<_>) = shop
            .inventory()
            .entries
            .into_iter()
            .partition(|(_, entry)| entry.applied.is_some());
        let live = shop.live();
        let answered: BTreeSet<String> = answered
            .into_iter()
            .map(|(key, _)| key.name.clone())
            .collect();
        answered == *wanted && other.iter().all(|(key, _)| !live.contains(&key.name))
    };
    wait("a complete record", || complete(&last).then_some(()));
    // The next commit lacks some: exactly those are deleted.
    let deleted = || running.log().matches("deleted ConfigMap").count();
    let before = deleted();
    let fewer: BTreeSet<String> = last
        .iter()
        .filter(|name| !name.ends_with('7'))
        .cloned()
        .collect();
    shop.commit(&fewer, 99);
    wait("the deletions", || is(&fewer).then_some(()));
    wait("a record of the rest", || complete(&fewer).then_some(()));
    wait("the log of the deletions", || {
        (deleted() - before >= last.len() - fewer.len()).then_some(())
    });
    assert_eq!(
        deleted() - before,
        last.len() - fewer.len(),
        "{}",
        running.log()
    );
}
