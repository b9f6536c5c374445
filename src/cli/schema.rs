//! `tagboat schema`.

use super::{Exit, Failure, Screen};
use crate::spec::{self, SchemaKind};
use clap::ValueEnum;

/// Print the JSON schema of a kind, for editors
///
/// Without a kind: one schema for all kinds of tagboat.dev/v1alpha1. Write the answer to a file and
/// name it at the top of a declaration: # yaml-language-server: $schema=FILE
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The kind
    #[arg(value_enum, default_value_t = SchemaTarget::All)]
    kind: SchemaTarget,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SchemaTarget {
    /// Every kind of a config repository
    All,
    /// ImagePolicy
    #[value(name = "ImagePolicy", alias = "imagepolicy")]
    ImagePolicy,
    /// Environment
    #[value(name = "Environment", alias = "environment")]
    Environment,
    /// Application
    #[value(name = "Application", alias = "application")]
    Application,
    /// The process file
    #[value(name = "tagboat.yaml", alias = "tagboat")]
    Process,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let kind = match arguments.kind {
        SchemaTarget::All => SchemaKind::All,
        SchemaTarget::ImagePolicy => SchemaKind::ImagePolicy,
        SchemaTarget::Environment => SchemaKind::Environment,
        SchemaTarget::Application => SchemaKind::Application,
        SchemaTarget::Process => SchemaKind::Process,
    };
    screen.json(&spec::schema(kind));
    Ok(Exit::Done)
}
