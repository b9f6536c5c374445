//! The person who runs a command that commits, as Git has them configured.

use crate::update::{CommandAuthor, CommandCommit};

/// Options of commands that commit.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct CommitArguments {
    /// Add this text to the commit message
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
}

impl CommitArguments {
    /// The person's part of the commit.
    pub(super) fn commit(&self) -> CommandCommit {
        CommandCommit {
            author: author(),
            message: self.message.clone(),
        }
    }
}

/// Reads the author of commits made here: `GIT_AUTHOR_NAME` and `GIT_AUTHOR_EMAIL`, else
/// `user.name` and `user.email` of the repository around the working folder, else those of the
/// user. None if Git has no such person, or an incomplete one.
fn author() -> Option<CommandAuthor> {
    let found = match gix::discover(".") {
        Ok(repository) => {
            let author = repository.author()?.ok()?;
            (author.name.to_string(), author.email.to_string())
        }
        Err(_) => {
            let config = gix::config::File::from_globals().ok()?;
            let variable = |name: &str, key: &str| {
                std::env::var(name)
                    .ok()
                    .or_else(|| Some(config.string(key)?.to_string()))
            };
            (
                variable("GIT_AUTHOR_NAME", "user.name")?,
                variable("GIT_AUTHOR_EMAIL", "user.email")?,
            )
        }
    };
    let (name, email) = found;
    Some(CommandAuthor { name, email })
}
