//! The arguments that name the settings.

use crate::service::{engine::SettingsFile, survey::SETTINGS_FILE};
use std::path::PathBuf;

/// The settings file, and the repository to use of it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SettingsArguments {
    /// Read the settings from FILE; by default from tagboat.yaml, which in a Git working copy may
    /// then choose no program, credential or cluster
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "TAGBOAT_CONFIG",
        help_heading = "Settings"
    )]
    config: Option<PathBuf>,

    /// Use only this config repository of the settings, by name
    #[arg(
        short,
        long,
        value_name = "NAME",
        env = "TAGBOAT_REPOSITORY",
        help_heading = "Settings"
    )]
    repository: Option<String>,
}

impl SettingsArguments {
    pub(super) fn file(&self) -> SettingsFile {
        SettingsFile {
            is_named: self.config.is_some(),
            config: self.config.clone().unwrap_or_else(|| SETTINGS_FILE.into()),
            repository: self.repository.clone(),
        }
    }
}
