//! The arguments that name the settings.

use crate::service::engine::SettingsFile;
use std::path::PathBuf;

/// The settings file, and the repository to use of it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SettingsArguments {
    /// Read the settings from FILE
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "tagboat.yaml",
        env = "TAGBOAT_CONFIG",
        help_heading = "Settings"
    )]
    config: PathBuf,

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
            config: self.config.clone(),
            repository: self.repository.clone(),
        }
    }
}
