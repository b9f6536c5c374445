//! The exit codes of each command, for its help.

use clap::Command;
use std::fmt::Write as _;

/// The exit codes of all commands, for the program's help.
pub(super) const SUMMARY: &str = "\
Exit codes:
  0    done, also if there was nothing to do
  1    something needs attention; the help of each command says what
  2    wrong input, or a problem of this machine such as a store in use
  3    a remote could not be reached, or refused
  4    partly done
  130  interrupted by a signal, at a safe point";

/// The exit codes of one command beside 0, 2 and 130, which all commands have.
struct ExitCodes {
    command: &'static str,
    /// The meaning of 0, where it is not [`DONE`].
    done: Option<&'static str>,
    /// The meaning of 1.
    attention: Option<&'static str>,
    /// True if the command talks to remotes: 3.
    remote: bool,
    /// The meaning of 4.
    partly: Option<&'static str>,
}

const DONE: &str = "done, also if there was nothing to do";
const LOCAL: &str = "wrong input, or a problem of this machine such as a store in use";
const REMOTE: &str = "a remote could not be reached, or refused";
const INTERRUPTED: &str = "interrupted by a signal, at a safe point";

const fn codes(
    command: &'static str,
    attention: Option<&'static str>,
    remote: bool,
    partly: Option<&'static str>,
) -> ExitCodes {
    ExitCodes {
        command,
        done: None,
        attention,
        remote,
        partly,
    }
}

const FAILED_IN_PART: Option<&str> =
    Some("partly done: a registry, Git server, forge or cluster failed");

const COMMANDS: &[ExitCodes] = &[
    codes(
        "demo",
        None,
        true,
        Some("a statement of the demo was not true"),
    ),
    codes(
        "init",
        None,
        false,
        Some("a file could not be read or written"),
    ),
    ExitCodes {
        done: Some("a signal stopped the daemon; with --once: done"),
        ..codes(
            "run",
            Some("with --once: an Application needs confirmation"),
            true,
            Some("with --once, partly done: a registry, forge or cluster failed"),
        )
    },
    codes(
        "scan",
        None,
        true,
        Some("partly done: a registry failed, the others were scanned"),
    ),
    codes(
        "plan",
        Some("with --check: a pass would change something"),
        true,
        FAILED_IN_PART,
    ),
    codes("requests", None, true, FAILED_IN_PART),
    codes(
        "preview",
        Some("an object would be refused, or cannot be rendered"),
        true,
        Some("a cluster could not be asked"),
    ),
    codes(
        "status",
        Some("an Application is drifted, failed, degraded or needs confirmation"),
        true,
        Some("some clusters could not be reached"),
    ),
    codes(
        "sync",
        Some("a deletion needs confirmation"),
        true,
        Some("an Application was not applied, or did not become healthy"),
    ),
    codes(
        "diff",
        Some("a cluster differs from Git"),
        true,
        Some("an Application could not be compared"),
    ),
    codes("history", None, true, None),
    codes(
        "policies",
        Some("the last scan of an image failed"),
        false,
        None,
    ),
    codes("explain", None, true, FAILED_IN_PART),
    codes("holds", None, true, FAILED_IN_PART),
    codes(
        "release",
        None,
        true,
        Some("a forge failed, so that a hold may be unknown"),
    ),
    codes("suspend", None, true, None),
    codes("resume", None, true, None),
    codes("rollback", None, true, None),
    codes("select", Some("no tag was selected"), false, None),
    codes(
        "set",
        Some("with --check: something would change"),
        false,
        Some("a file could not be read or written"),
    ),
    codes(
        "check",
        Some("there is an error; with --strict: or a warning"),
        false,
        Some("a file could not be read"),
    ),
    codes("tags", None, true, Some("a tag could not be described")),
    codes("render", None, false, None),
    codes("health", Some("an object has failed"), false, None),
    codes("schema", None, false, None),
    codes("completions", None, false, None),
    codes("man", None, false, None),
];

/// Adds the exit codes to the long help of every command.
pub(super) fn document(mut program: Command) -> Command {
    for exits in COMMANDS {
        if program.find_subcommand(exits.command).is_some() {
            program = program.mut_subcommand(exits.command, |command| {
                let before = command
                    .get_after_long_help()
                    .or(command.get_after_help())
                    .map(|text| format!("{text}\n\n"))
                    .unwrap_or_default();
                command.after_long_help(format!("{before}{}", section(exits)))
            });
        }
    }
    program
}

/// Returns the section of one command.
fn section(exits: &ExitCodes) -> String {
    let rows = [
        (0, exits.done.or(Some(DONE))),
        (1, exits.attention),
        (2, Some(LOCAL)),
        (3, exits.remote.then_some(REMOTE)),
        (4, exits.partly),
        (130, Some(INTERRUPTED)),
    ];
    let mut text = "Exit codes:".to_owned();
    for (code, meaning) in rows {
        if let Some(meaning) = meaning {
            // Writing to a String does not fail.
            let _ = write!(text, "\n  {code:<3}  {meaning}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_of_every_command_are_documented() {
        let mut program = super::super::command();
        program.build();
        for command in program.get_subcommands() {
            let name = command.get_name();
            let is_listed = COMMANDS.iter().any(|exits| exits.command == name);
            assert!(is_listed || name == "help", "{name} is missing");
        }
        for exits in COMMANDS {
            let section = section(exits);
            let is_narrow = |line: &str| line.chars().count() <= 80;
            assert!(section.lines().all(is_narrow), "{section}");
        }
    }
}
