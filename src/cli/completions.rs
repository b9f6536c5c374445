//! `tagboat completions`.

use super::{Failure, Outcome, Screen, complete};
use clap::ValueEnum;
use clap_complete::env::Shells;

const EXAMPLES: &str = "\
Examples:
  source <(tagboat completions bash)          in ~/.bashrc
  source <(tagboat completions zsh)           in ~/.zshrc, after compinit
  tagboat completions fish | source           in ~/.config/fish/config.fish
  eval (tagboat completions elvish | slurp)   in ~/.config/elvish/rc.elv
  tagboat completions powershell | Out-String | Invoke-Expression

Evaluate the script in each shell, and do not save it: it has to fit the program. Names of \
policies, Environments and Applications are those that the last pass has read with the settings \
of the command line.";

/// Print a script that completes commands, options and declared names in a shell
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let name = match arguments.shell {
        Shell::Bash => "bash",
        Shell::Elvish => "elvish",
        Shell::Fish => "fish",
        Shell::Powershell => "powershell",
        Shell::Zsh => "zsh",
    };
    let mut script = Vec::new();
    if let Some(shell) = Shells::builtins().completer(name) {
        let (variable, program) = (complete::VARIABLE, "tagboat");
        shell
            .write_registration(variable, program, program, program, &mut script)
            .map_err(|error| Failure::input(format!("cannot write the script: {error}")))?;
    }
    screen.print(String::from_utf8_lossy(&script));
    Ok(Outcome::Done)
}
