//! `tagboat scan` and `tagboat policies`, with and without a daemon.

use super::{
    update_daemon::{Daemon, EVERY_SECOND, FILE, fleet, until},
    update_support::{Act, Fleet, Setup, deployment, reply, semver, wait},
};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tagboat::{
    io::registry::RegistryTimeouts,
    service::{
        Progress, Service,
        engine::{ServiceContext, SettingsFile},
        plan::{PlanQuery, plan},
        tags::{TagsQuery, tags},
    },
};

/// Runs a command; returns its exit code, output and errors.
fn run(fleet: &Fleet, arguments: &[&str]) -> (i32, String, String) {
    let output = fleet.tagboat(arguments).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn json(fleet: &Fleet, command: &str) -> Value {
    let (_, out, err) = run(fleet, &[command, "-o", "json"]);
    let answer = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    super::answer_schema::validate(command, &answer);
    answer
}

#[test]
fn scan_has_the_daemon_commit_at_once() {
    let fleet = fleet("1h", &EVERY_SECOND);
    let mut daemon = Daemon::start(&fleet, "info");
    until(&fleet, &["web:1.1.0", "db:1.0.0"]);
    fleet.publish("team/web", &["1.2.0"]);
    let (code, out, err) = run(&fleet, &["scan"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("1 new tag"), "{out}");
    assert!(out.contains("dev: web 1.1.0 → 1.2.0"), "{out}");
    assert_eq!(fleet.text(FILE), deployment(&["web:1.2.0", "db:1.0.0"]));
    // An image of no policy is named, with those that there are.
    let (code, _, err) = run(&fleet, &["scan", "ghcr.io/a/b"]);
    assert_eq!(code, 2);
    assert!(err.contains("/team/web"), "{err}");
    let (code, _, err) = run(&fleet, &["scan", "ghcr.io/a/b:1.0.0"]);
    assert_eq!(code, 2);
    assert!(err.contains("Write ghcr.io/a/b."), "{err}");
    daemon.terminate();
    assert!(daemon.ended().success());
}

#[test]
fn scan_does_not_wait_for_a_back_off() {
    let fleet = fleet("1h", &EVERY_SECOND);
    let forbidden = reply(429, &[("retry-after", "3600")], "");
    fleet.images.once("/tags/list", forbidden);
    let daemon = Daemon::start(&fleet, "info");
    wait("the failure", || {
        daemon.text().contains("PassFailed").then_some(())
    });
    let web = format!("{}/team/web", fleet.registry.host());
    let (code, out, err) = run(&fleet, &["policies"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("(failed)") || out.contains("failed"), "{out}");
    let (code, out, err) = run(&fleet, &["scan", &web]);
    // A registry that has named a time is not asked before it; any other error is tried again.
    assert_eq!(code, 3, "{out}{err}");
    assert!(err.contains("next try in"), "{out}{err}");
}

#[test]
fn scan_without_daemon_commits_nothing() {
    let fleet = fleet("1h", &Setup::default());
    let (code, out, err) = run(&fleet, &["scan"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("scanned for the first time"), "{out}");
    assert!(err.contains("tagboat run --once"), "{err}");
    fleet.publish("team/web", &["1.2.0"]);
    assert_eq!(json(&fleet, "scan")["images"][0]["newTags"], 1);
    assert_eq!(json(&fleet, "scan")["images"][0]["newTags"], 0);
    // No pass has decided yet.
    let policy = &json(&fleet, "policies")["policies"][0];
    assert_eq!(policy["latest"], "1.2.0", "{policy:#}");
    assert_eq!(policy["environments"], Value::Array(vec![]));
    let (_, out, _) = run(&fleet, &["policies"]);
    assert!(out.contains("no pass has looked for files"), "{out}");
    assert_eq!(fleet.log().len(), 1);
}

#[test]
fn policies_ask_neither_git_nor_registry() {
    let fleet = fleet("1h", &EVERY_SECOND);
    let (code, _, err) = run(&fleet, &["policies"]);
    assert_eq!(code, 2, "nothing is known yet: {err}");
    assert!(err.contains("tagboat run --once"), "{err}");
    assert_eq!(run(&fleet, &["run", "--once"]).0, 0);
    fleet.images.take();
    fleet.git.take();
    let listed = json(&fleet, "policies");
    let policy = &listed["policies"][0];
    assert_eq!(policy["environments"][0]["selected"]["tag"], "1.1.0");
    assert_eq!(policy["tags"], 2);
    assert!(policy["lastScan"].is_string(), "{listed:#}");
    assert!(policy["nextScan"].is_null(), "{listed:#}");
    assert_eq!(listed["fromDaemon"], false);
    let (code, out, err) = run(&fleet, &["policies"]);
    assert_eq!(code, 0);
    assert!(out.contains("default/web"), "{out}");
    assert!(err.contains("no daemon runs"), "{err}");
    assert_eq!(fleet.images.take(), Vec::<String>::new());
    assert_eq!(fleet.git.take(), Vec::<String>::new());
    let _daemon = Daemon::start(&fleet, "info");
    let scheduled = wait("the first pass", || {
        let listed = json(&fleet, "policies");
        listed["policies"][0]["nextScan"]
            .is_string()
            .then_some(listed)
    });
    assert_eq!(scheduled["fromDaemon"], true);
    fleet.images.take();
    json(&fleet, "policies");
    assert_eq!(fleet.images.take(), Vec::<String>::new());
}

#[test]
fn policies_name_the_last_error() {
    let fleet = fleet("1h", &Setup::default());
    fleet.person(&[("q.yaml", &semver("db", "1.x", ""))], "db");
    assert_eq!(run(&fleet, &["run", "--once"]).0, 0);
    fleet.images.rule(|line| match line.contains("/team/db/") {
        true => reply(503, &[], ""),
        false => Act::Pass,
    });
    assert_eq!(run(&fleet, &["run", "--once"]).0, 4);
    let (code, out, _) = run(&fleet, &["policies"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("error: ") && out.contains("/team/db"), "{out}");
    // What was selected before is still shown.
    let listed = json(&fleet, "policies");
    let db = &listed["policies"][0];
    assert_eq!(db["policy"], "default/db");
    assert_eq!(db["environments"][0]["selected"]["tag"], "1.1.0");
    assert!(db["failure"]["time"].is_string(), "{listed:#}");
    assert!(listed["policies"][1]["failure"].is_null(), "{listed:#}");
    fleet.images.open();
    assert_eq!(run(&fleet, &["run", "--once"]).0, 0);
    assert_eq!(run(&fleet, &["policies"]).0, 0);
}

#[test]
fn run_once_beside_a_daemon_names_scan() {
    let fleet = fleet("1h", &EVERY_SECOND);
    let _daemon = Daemon::start(&fleet, "info");
    let (code, _, err) = run(&fleet, &["run", "--once"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("`tagboat scan`"), "{err}");
}

#[test]
fn completion_offers_declared_names() {
    let fleet = fleet("1h", &Setup::default());
    assert_eq!(run(&fleet, &["run", "--once"]).0, 0);
    // A daemon, or any other process, may have the store open.
    let _engine = fleet.engine();
    fleet.git.take();
    fleet.images.take();
    for (words, expected) in [
        (&["explain", ""] as &[&str], "default/web"),
        (&["release", "d"], "dev"),
        (&["suspend", "env"], "environment/dev"),
        (&["suspend", "imagepolicy/"], "imagepolicy/default/web"),
        (&["sc"], "scan"),
    ] {
        let index = words.len().to_string();
        let output = fleet
            .tagboat_std(&[&["--", "tagboat"], words].concat())
            .env("TAGBOAT_COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", index)
            .env("_CLAP_COMPLETE_COMP_TYPE", "9")
            .env("_CLAP_IFS", "\n")
            .output()
            .unwrap();
        let offered = String::from_utf8(output.stdout).unwrap();
        assert!(
            offered.lines().any(|line| line == expected),
            "{words:?}: {offered}"
        );
    }
    assert_eq!(fleet.images.take(), Vec::<String>::new());
    assert_eq!(fleet.git.take(), Vec::<String>::new());
}

/// Collects the progress of a query.
#[derive(Default)]
struct Collected(Mutex<Vec<String>>);

impl Progress for Collected {
    fn update(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

impl Collected {
    fn contains(&self, part: &str) -> bool {
        self.0
            .lock()
            .unwrap()
            .iter()
            .any(|text| text.contains(part))
    }
}

#[test]
fn progress_counts_images_and_tags() {
    let fleet = fleet("1h", &Setup::default());
    fleet.person(&[("q.yaml", &semver("db", "1.x", ""))], "db");
    let settings = SettingsFile {
        is_named: true,
        config: fleet.config(),
        repository: None,
    };
    let context = Arc::new(ServiceContext::read(&settings).unwrap());
    let engine = context.open(RegistryTimeouts::default()).unwrap();
    let service = Service::new(&context, &engine, None);
    let progress = Collected::default();
    let planned = fleet
        .runtime
        .block_on(plan(&service, &PlanQuery {}, &progress));
    assert!(planned.unwrap().has_changes());
    let image = "planning fleet: 2 of 2 image repositories";
    assert!(progress.contains(image), "{:?}", progress.0);
    let query = TagsQuery {
        image: format!("{}/team/web", fleet.registry.host()),
        limit: None,
        config: Some(fleet.config()),
        insecure: false,
    };
    fleet.runtime.block_on(tags(&query, &progress)).unwrap();
    assert!(
        progress.contains("described 2 of 2 tags"),
        "{:?}",
        progress.0
    );
}

/// Runs a command in a terminal of these columns; returns what the terminal receives.
#[cfg(target_os = "linux")]
fn in_terminal(fleet: &Fleet, term: &str, columns: u16, command: &str) -> String {
    let program = env!("CARGO_BIN_EXE_tagboat");
    let line = format!("stty rows 24 cols {columns}; {program} {command}");
    let tagboat = fleet.tagboat_std(&[]);
    let mut script = std::process::Command::new("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .env_clear()
        .envs(
            tagboat
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("TERM", term)
        .current_dir(fleet.dir.path())
        .stdin(std::process::Stdio::null());
    let output = script.output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn terminal_is_obeyed() {
    let fleet = fleet("1h", &Setup::default());
    assert_eq!(run(&fleet, &["run", "--once"]).0, 0);
    let coloured = in_terminal(&fleet, "xterm", 200, "policies");
    assert!(coloured.contains("\u{1b}[1mdefault/web"), "{coloured:?}");
    for command in ["policies", "plan", "scan", "run --once"] {
        let plain = in_terminal(&fleet, "dumb", 200, command);
        assert!(!plain.is_empty() && !plain.contains('\u{1b}'), "{plain:?}");
    }
    let image = format!("{}/team/web", fleet.registry.host());
    for columns in [40, 80] {
        for command in ["policies".to_owned(), format!("tags {image}")] {
            let narrow = in_terminal(&fleet, "dumb", columns, &command);
            let table = narrow.lines().filter(|line| !line.starts_with("note: "));
            for line in table.map(str::trim_end) {
                assert!(line.chars().count() <= usize::from(columns), "{narrow}");
            }
        }
    }
}
