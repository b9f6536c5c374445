//! `tagboat schema`.

use super::{Failure, Outcome, Screen};
use crate::{
    service::schema,
    spec::{self, SchemaKind},
};
use clap::{ValueEnum, builder::PossibleValuesParser};

/// Print the JSON schema of a declared kind, of the settings, or of an answer
///
/// Without a kind, prints one schema for all kinds of tagboat.dev/v1alpha1. For completion in an
/// editor, save the schema to a file and name it at the top of a declaration:
/// # yaml-language-server: $schema=FILE
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The kind
    #[arg(value_enum, default_value_t = SchemaTarget::All)]
    kind: SchemaTarget,

    /// The command whose `-o json` answer to describe, or "error" for the error object; after
    /// "answer"
    #[arg(
        value_name = "ANSWER",
        value_parser = PossibleValuesParser::new(schema::names()),
        required_if_eq("kind", "answer")
    )]
    answer: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
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
    /// The settings
    #[value(name = "tagboat.yaml", alias = "tagboat")]
    Settings,
    /// The answer of a command
    Answer,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let answer = arguments.answer.as_deref();
    let kind = match arguments.kind {
        SchemaTarget::Answer => {
            let schema = answer.and_then(schema::answer);
            screen.json(&schema.ok_or_else(|| Failure::input("no answer of this name"))?);
            return Ok(Outcome::Done);
        }
        _ if answer.is_some() => {
            return Err(Failure::input(
                "only `tagboat schema answer` takes a second argument",
            ));
        }
        SchemaTarget::All => SchemaKind::All,
        SchemaTarget::ImagePolicy => SchemaKind::ImagePolicy,
        SchemaTarget::Environment => SchemaKind::Environment,
        SchemaTarget::Application => SchemaKind::Application,
        SchemaTarget::Settings => SchemaKind::Settings,
    };
    screen.json(&spec::schema(kind));
    Ok(Outcome::Done)
}
