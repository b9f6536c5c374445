//! The environment of child processes: empty, except for the clock.

use std::process::Command;

/// The variables by which `faketime` shifts a process's clock.
const CLOCK: &[&str] = &[
    "LD_PRELOAD",
    "FAKETIME",
    "FAKETIME_SHARED",
    "FAKETIME_DONT_FAKE_MONOTONIC",
    "DONT_FAKE_MONOTONIC",
];

/// Clears the environment of a program.
///
/// `tests/run calendar` runs tests under a clock that is ahead. Programs must see the same clock as
/// the test that started them, or a commit that git dates is a year older than the hold that
/// tagboat derives from it.
pub(crate) fn clear(command: &mut Command) -> &mut Command {
    command.env_clear();
    if std::env::var_os("FAKETIME").is_some() {
        command.envs(
            CLOCK
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        );
    }
    command
}

/// Returns the program under test, with nothing but the clock in its environment.
pub(crate) fn tagboat() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagboat"));
    clear(&mut command);
    command
}
