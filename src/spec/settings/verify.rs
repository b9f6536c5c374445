//! `repositories[].verify`: whose signature a commit needs before it is deployed.

use super::{SpecReader, raw};
use std::path::PathBuf;

/// The digits of a full commit ID.
const ID_DIGITS: usize = 40;

/// The most keys of a repository.
const MAX_KEYS: usize = 100;

/// The verification of a config repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifySettings {
    pub mode: VerifyMode,
    pub keys: Vec<VerifyKey>,
    /// A commit that needs no signature, as 40 hexadecimal digits. What is deployed is this one or
    /// has it in its history.
    pub from: Option<String>,
}

/// The commits that need a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyMode {
    /// The head of the branch.
    Head,
    /// Every commit on the first-parent line since the last verified one, or since `from`.
    History,
}

/// A public key that may sign commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyKey {
    pub kind: VerifyKeyKind,
    pub text: PublicText,
}

/// The kind of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyKeyKind {
    /// An OpenSSH public key, as in `id_ed25519.pub`.
    Ssh,
    /// An OpenPGP public key block.
    Gpg,
}

/// A public text: in the settings file, or in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicText {
    Inline(String),
    File(PathBuf),
}

pub(super) fn verify(
    at: &mut SpecReader<'_>,
    pointer: &str,
    raw: raw::RawVerify,
) -> Option<VerifySettings> {
    let raw::RawVerify { mode, keys, from } = raw;
    if keys.is_empty() || keys.len() > MAX_KEYS {
        at.error(
            &format!("{pointer}/keys"),
            format!("name between 1 and {MAX_KEYS} keys whose signatures count"),
        );
        return None;
    }
    if let Some(from) = &from
        && !(from.len() == ID_DIGITS && from.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        at.error(
            &format!("{pointer}/from"),
            "write the full commit ID of 40 hexadecimal digits, as `git rev-parse` prints it",
        );
        return None;
    }
    let mode = match mode {
        raw::RawVerifyMode::Head => VerifyMode::Head,
        raw::RawVerifyMode::History => VerifyMode::History,
    };
    let keys = keys.into_iter().map(|key| {
        let (kind, text) = match key {
            raw::RawVerifyKey::Ssh(text) => (VerifyKeyKind::Ssh, text),
            raw::RawVerifyKey::Gpg(text) => (VerifyKeyKind::Gpg, text),
        };
        let text = match text {
            raw::RawPublicText::Inline(text) => PublicText::Inline(text),
            raw::RawPublicText::File { file } => PublicText::File(file),
        };
        VerifyKey { kind, text }
    });
    Some(VerifySettings {
        mode,
        keys: keys.collect(),
        from: from.map(|from| from.to_ascii_lowercase()),
    })
}
