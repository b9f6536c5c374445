//! SIGHUP: a daemon reads its settings again.

use super::{
    update_daemon::{Daemon, EVERY_SECOND, fleet, until},
    update_support::wait,
};

fn logged(daemon: &Daemon, word: &str) -> usize {
    daemon.text().matches(word).count()
}

#[test]
fn hangup_starts_with_changed_settings() {
    let fleet = fleet("1h", &EVERY_SECOND);
    let mut daemon = Daemon::start(&fleet, "info");
    until(&fleet, &["web:1.1.0", "db:1.0.0"]);
    let settings = std::fs::read_to_string(fleet.config()).unwrap();
    std::fs::write(fleet.config(), format!("{settings}# changed\n")).unwrap();
    let refused = fleet.tagboat(&["policies"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let hint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(hint.contains("SIGHUP"), "{hint}");
    daemon.child.signal("HUP");
    wait("the new start", || {
        (logged(&daemon, "tagboat started") == 2).then_some(())
    });
    assert_eq!(logged(&daemon, "SettingsReloaded"), 1, "{}", daemon.text());
    wait("an answer", || {
        let output = fleet.tagboat(&["policies"]).output().unwrap();
        output.status.success().then_some(())
    });
    daemon.terminate();
    assert!(daemon.ended().success());
}

#[test]
fn hangup_keeps_settings_that_are_in_force() {
    let fleet = fleet("1h", &EVERY_SECOND);
    let mut daemon = Daemon::start(&fleet, "info");
    until(&fleet, &["web:1.1.0", "db:1.0.0"]);
    daemon.child.signal("HUP");
    wait("the event", || {
        (logged(&daemon, "SettingsUnchanged") == 1).then_some(())
    });
    let settings = std::fs::read_to_string(fleet.config()).unwrap();
    let missing = settings.replace("insecure: true", "insecure: true\n    credentials: {basic: {username: bot, password: {env: NO_SUCH_VARIABLE}}}");
    for (broken, reason) in [
        ("repositories: {}\n", "repositories"),
        (missing.as_str(), "NO_SUCH_VARIABLE"),
    ] {
        let before = logged(&daemon, "SettingsRejected");
        std::fs::write(fleet.config(), broken).unwrap();
        daemon.child.signal("HUP");
        wait("the rejection", || {
            (logged(&daemon, "SettingsRejected") > before).then_some(())
        });
        let text = daemon.text();
        let line = text.lines().rfind(|line| line.contains("SettingsRejected"));
        let line = line.unwrap();
        assert!(
            line.contains(reason) && line.contains("old settings"),
            "{line}"
        );
    }
    // It goes on with its work.
    std::fs::write(fleet.config(), settings).unwrap();
    fleet.publish("team/web", &["1.2.0"]);
    let scan = fleet.tagboat(&["scan"]).output().unwrap();
    assert!(scan.status.success());
    until(&fleet, &["web:1.2.0", "db:1.0.0"]);
    assert_eq!(logged(&daemon, "tagboat started"), 1);
    daemon.terminate();
    assert!(daemon.ended().success());
}
