//! Candidates of shell completion: the names that the config repositories declare.
//!
//! They come from small files that every fetch leaves in the store, so that completion asks no
//! server, opens no store, and is as fast as the shell expects.

use crate::{
    service::engine::{ServiceContext, SettingsFile},
    update::DeclaredNames,
};
use clap_complete::{ArgValueCandidates, CompletionCandidate};
use std::{collections::BTreeSet, env, ffi::OsString};

/// The variable with the shell's name when the shell asks for completion.
pub(super) const VARIABLE: &str = "TAGBOAT_COMPLETE";

/// Completes policies.
pub(super) fn policies() -> ArgValueCandidates {
    of(|names| names.policies.clone())
}

/// Completes Environments.
pub(super) fn environments() -> ArgValueCandidates {
    of(|names| names.environments.clone())
}

/// Completes Applications.
pub(super) fn applications() -> ArgValueCandidates {
    of(|names| names.applications.clone())
}

/// Completes the image repositories of policies.
pub(super) fn images() -> ArgValueCandidates {
    of(|names| names.images.clone())
}

/// Completes `KIND/NAME`.
pub(super) fn declarations() -> ArgValueCandidates {
    of(|names| {
        let with_kind = |kind: &str, names: &BTreeSet<String>| {
            let name = |name: &String| format!("{kind}/{name}");
            names.iter().map(name).collect::<Vec<_>>()
        };
        [
            with_kind("application", &names.applications),
            with_kind("environment", &names.environments),
            with_kind("imagepolicy", &names.policies),
        ]
        .concat()
    })
}

fn of<N: IntoIterator<Item = String>>(
    select: impl Fn(&DeclaredNames) -> N + Send + Sync + 'static,
) -> ArgValueCandidates {
    ArgValueCandidates::new(move || {
        let names: BTreeSet<String> = declared().iter().flat_map(&select).collect();
        names.into_iter().map(CompletionCandidate::new).collect()
    })
}

/// Returns the names of the config repositories that the command line selects; none without
/// settings.
fn declared() -> Vec<DeclaredNames> {
    let words: Vec<OsString> = env::args_os().collect();
    let config = option(&words, "-c", "--config", "TAGBOAT_CONFIG");
    let repository = option(&words, "-r", "--repository", "TAGBOAT_REPOSITORY");
    let settings = SettingsFile {
        is_named: config.is_some(),
        config: config.map_or_else(|| "tagboat.yaml".into(), Into::into),
        repository: repository.and_then(|name| name.into_string().ok()),
    };
    ServiceContext::read(&settings)
        .map(|context| context.declared_names())
        .unwrap_or_default()
}

/// Returns the value of an option in an unfinished command line, or of its variable.
fn option(words: &[OsString], short: &str, long: &str, variable: &str) -> Option<OsString> {
    let separate = words
        .windows(2)
        .find(|pair| pair[0] == short || pair[0] == long)
        .map(|pair| pair[1].clone());
    let joined = || {
        words.iter().find_map(|word| {
            let value = word.to_str()?.strip_prefix(long)?.strip_prefix('=')?;
            Some(OsString::from(value))
        })
    };
    separate.or_else(joined).or_else(|| env::var_os(variable))
}
