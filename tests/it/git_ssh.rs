//! Git servers over ssh that misbehave. Scripts stand in for `ssh`; `git_real` has the real one.

use super::{
    git_support::{mirror, provider},
    render_support::script,
};
use std::time::{Duration, Instant};
use tagboat::io::git::{GitTimeout, RemoteAccess, SshCommand};

/// Fetches through a script, and returns the error.
fn fetch(text: &str, step: Duration) -> String {
    provider();
    let folder = tempfile::tempdir().unwrap();
    let access = RemoteAccess {
        ssh: SshCommand {
            program: Some(script(folder.path(), "ssh", text)),
            ..SshCommand::default()
        },
        timeout: GitTimeout(step),
        ..RemoteAccess::default()
    };
    let url = "ssh://git@git.example.org/it's/fleet.git";
    let mirror = mirror(&folder.path().join("mirror"), url, access);
    let begun = Instant::now();
    let error = mirror.fetch().unwrap_err().to_string();
    assert!(begun.elapsed() < Duration::from_secs(100), "{error}");
    error
}

/// The length of a line as Git has it, and the line.
const CAPABILITY: &str = r"printf '000eversion 2\n0010agent=git/2\n'; ";

#[test]
fn ssh_server_without_an_end_is_refused() {
    let long = Duration::from_secs(60);
    let references = format!("0046{} refs/heads/{}", "a".repeat(40), "b".repeat(13));
    for text in [
        format!("{CAPABILITY} yes 0010capability1"),
        format!("{CAPABILITY} printf '000cls-refs\\n0000'; yes '{references}'"),
    ] {
        let error = fetch(&text, long);
        assert!(
            error.contains("the server sends more than 16 MiB of references"),
            "{text}: {error}"
        );
    }
}

#[test]
fn ssh_server_that_is_silent_is_given_up() {
    let error = fetch("sleep 600", Duration::from_secs(1));
    assert!(
        error.contains("the server sends nothing for longer than"),
        "{error}"
    );
    // A byte now and then does not help.
    let drip = format!("{CAPABILITY} printf fff0; while :; do printf a; sleep 0.2; done");
    let error = fetch(&drip, Duration::from_secs(1));
    assert!(
        error.contains("the server sends its references for longer than 2s"),
        "{error}"
    );
}

#[test]
fn ssh_error_is_shown_with_its_reason() {
    let step = Duration::from_secs(60);
    let error = fetch(
        "echo 'banner of the host' >&2; echo 'git@git.example.org: Permission denied (publickey).' >&2; exit 255",
        step,
    );
    assert!(error.ends_with("Permission denied (publickey)."), "{error}");
    assert!(!error.contains("banner"), "{error}");
    let error = fetch("printf 'no such \\033[31mhost\n' >&2; exit 255", step);
    assert!(
        error.contains("no such") && !error.contains('\u{1b}'),
        "{error}"
    );
    // The arguments, of which the last is for the server's shell.
    let error = fetch(
        "for last; do :; done; echo \"got <$last>\" >&2; exit 1",
        step,
    );
    assert!(error.contains(r"got <'/it'\''s/fleet.git'>"), "{error}");
}
