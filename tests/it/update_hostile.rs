//! A daemon beside hostile repositories and registries: the honest ones go on.

use super::{
    git_support::ANN,
    support::wire::{Manner, Wire, reply, tags},
    update_daemon::{Daemon, EVERY_SECOND, FILE, fleet, until},
    update_support::{Fleet, Setup, deployment, env, now, semver, wait},
};
use std::time::{Duration, Instant};
use tagboat::sandbox::git::{BareRepository, GitServer};

const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

/// A policy and a file for an image of another registry.
fn declare_slow(fleet: &Fleet, host: &str) {
    let policy = semver("slow", "1.x", "  interval: 1s\n").replace("{host}", host);
    let file = deployment(&["slow:1.0.0"]).replace("{host}", host);
    fleet.person(
        &[("s.yaml", &policy), ("envs/dev/slow.yaml", &file)],
        "slow",
    );
}

#[test]
fn slow_registry_stops_no_update_of_another() {
    let fleet = fleet("1s", &EVERY_SECOND);
    let slow = fleet.runtime.block_on(Wire::start(|seen, _| {
        if seen.path().ends_with("/tags/list") {
            // Nine seconds: longer than a pass waits, shorter than the time limit.
            tags(["1.0.0", "1.1.0"]).manner(Manner::Drip(Duration::from_millis(200)))
        } else {
            reply(200, "").with("Docker-Content-Digest", DIGEST)
        }
    }));
    let registry = format!("  - prefix: {}\n    insecure: true\n", slow.host);
    fleet.configure(
        &fleet.server.url(),
        &Setup {
            registry: registry.leak(),
            ..EVERY_SECOND
        },
    );
    declare_slow(&fleet, &slow.host);
    let daemon = Daemon::start(&fleet, "info");
    until(&fleet, &["web:1.1.0", "db:1.0.0"]);
    let slow_file = |tag: &str| deployment(&[&format!("slow:{tag}")]).replace("{host}", &slow.host);
    assert_eq!(
        fleet.text("envs/dev/slow.yaml"),
        slow_file("1.0.0"),
        "the commit for one registry did not wait for the other: {}",
        daemon.text()
    );
    wait("the slow image", || {
        (fleet.text("envs/dev/slow.yaml") == slow_file("1.1.0")).then_some(())
    });
    let named = format!(
        "{}/team/slow: this pass has waited 5s for its registry",
        slow.host
    );
    assert_eq!(
        daemon.text().matches(&named).count(),
        1,
        "{}",
        daemon.text()
    );
}

/// The time of a question to the daemon: the shortest of three, because other work of the machine
/// only adds to it.
fn answer_time(fleet: &Fleet) -> Duration {
    let ask = |_| {
        let begun = Instant::now();
        let answered = fleet.tagboat(&["policies"]).output().unwrap();
        let errors = String::from_utf8_lossy(&answered.stderr).into_owned();
        assert!(!errors.contains("no daemon runs"), "{errors}");
        begun.elapsed()
    };
    (0..3).map(ask).min().unwrap()
}

/// The time from SIGTERM to the end of the process.
fn ending_time(mut daemon: Daemon) -> Duration {
    let begun = Instant::now();
    daemon.terminate();
    assert!(daemon.ended().success());
    begun.elapsed()
}

#[test]
fn comments_without_end_leave_the_daemon_alive() {
    let fleet = fleet("1s", &EVERY_SECOND);
    // The same machine without the hostile repositories.
    let daemon = Daemon::start(&fleet, "info");
    until(&fleet, &["web:1.1.0", "db:1.0.0"]);
    let quiet = (answer_time(&fleet), ending_time(daemon));
    fleet.publish("team/web", &["1.2.0"]);
    let marked: String = (0..200_000)
        .map(|index| format!("v{index}: 1.0.0 # {{\"$imagepolicy\": \"default:web:tag\"}}\n"))
        .collect();
    let lost = "# {\"$imagepolicy\": \"default:web:part\"}\n".repeat(200_000);
    let declared =
        (semver("web", "1.x", "") + &env("dev", "")).replace("{host}", &fleet.registry.host());
    let mut servers = Vec::new();
    let mut more = String::new();
    for (name, text) in [("marked", marked), ("lost", lost)] {
        let text = format!("# {}/team/web\n{text}", fleet.registry.host());
        let repository = BareRepository::create(
            &fleet.dir.path().join(format!("{name}.git")),
            &[("p.yaml", &declared), (FILE, &text)],
            ANN,
            now().as_second(),
            "first",
        )
        .unwrap();
        let server = fleet
            .runtime
            .block_on(GitServer::start(repository, None))
            .unwrap();
        more += &format!(
            "  - name: {name}\n    url: {}\n    interval: 1s\n",
            server.url()
        );
        servers.push(server);
    }
    fleet.configure(
        &fleet.server.url(),
        &Setup {
            repository: format!("    interval: 1s\n{more}").leak(),
            ..EVERY_SECOND
        },
    );
    let daemon = Daemon::start(&fleet, "info");
    let answered = answer_time(&fleet);
    until(&fleet, &["web:1.2.0", "db:1.0.0"]);
    for said in [
        "has 200000 image references",
        "further notes about this file",
    ] {
        wait(said, || daemon.text().contains(said).then_some(()));
    }
    let told = daemon.text().lines().count();
    assert!(told < 2_000, "{told} lines");
    let loaded = (answered, ending_time(daemon));
    let second = Duration::from_secs(1);
    assert!(
        loaded.0 < quiet.0 * 2 + second && loaded.1 < quiet.1 * 2 + second,
        "answer and end: {loaded:?}, without hostile repositories {quiet:?}"
    );
    println!("answer and end: {loaded:?}, without hostile repositories {quiet:?}");
}
