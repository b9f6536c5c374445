//! Compact form of a marker: a text on GitHub has little room, and moves that do not fit are lost.

use super::{Marker, MarkerScope, Proposed, ReleasedVersion};
use crate::core::{image::Digest, text::hex};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};

/// The version that is written. Version 1, with one object for each move, is read, too.
const VERSION: u32 = 2;

/// Prefix of digests that are written in base64 without it.
const SHA256: &str = "sha256:";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SerializedMarker {
    version: u32,
    environment: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// The moves of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moves: Option<Vec<Proposed>>,
    /// Prefixes of the rows' names, up to their last slash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    prefixes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<Vec<SerializedMove>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<MarkerScope>,
    #[serde(default, skip_serializing_if = "is_zero")]
    cut: usize,
    content: String,
    #[serde(default, skip_serializing_if = "is_false")]
    again: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    refused: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    released: Vec<ReleasedVersion>,
}

/// Policy, repository, present value, tag, digest.
type SerializedMove = (
    SerializedName,
    SerializedName,
    Option<String>,
    String,
    Option<String>,
);

/// Index of the prefix, and the rest.
type SerializedName = (usize, String);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_false(word: &bool) -> bool {
    !*word
}

impl From<Marker> for SerializedMarker {
    fn from(marker: Marker) -> Self {
        let Marker {
            environment,
            group,
            moves,
            scope,
            cut,
            content,
            again,
            refused,
            released,
        } = marker;
        let mut prefixes = Vec::new();
        let row = |row: Proposed| {
            let (policy, repository) = (
                divide(row.policy.to_string(), &mut prefixes),
                divide(row.repository.to_string(), &mut prefixes),
            );
            (
                policy,
                repository,
                row.old,
                row.new.as_str().to_owned(),
                row.digest.as_ref().map(shorten),
            )
        };
        let rows = Some(moves.into_iter().map(row).collect());
        Self {
            version: VERSION,
            environment,
            group,
            moves: None,
            prefixes,
            rows,
            scope,
            cut,
            content,
            again,
            refused,
            released,
        }
    }
}

impl TryFrom<SerializedMarker> for Marker {
    type Error = String;

    fn try_from(written: SerializedMarker) -> Result<Self, String> {
        let SerializedMarker {
            version,
            environment,
            group,
            moves,
            prefixes,
            rows,
            scope,
            cut,
            content,
            again,
            refused,
            released,
        } = written;
        let moves = match version {
            1 => moves.ok_or("missing field `moves`")?,
            VERSION => rows
                .ok_or("missing field `rows`")?
                .into_iter()
                .map(|row| proposed(row, &prefixes))
                .collect::<Result<_, _>>()?,
            version => {
                return Err(format!(
                    "it is of version {version}, and this tagboat reads up to version {VERSION}"
                ));
            }
        };
        Ok(Self {
            environment,
            group,
            moves,
            scope,
            cut,
            content,
            again,
            refused,
            released,
        })
    }
}

fn proposed(row: SerializedMove, prefixes: &[String]) -> Result<Proposed, String> {
    let (policy, repository, old, new, digest) = row;
    let joined = |(at, rest): SerializedName| {
        Ok::<_, String>(
            prefixes
                .get(at)
                .ok_or("it names a prefix that it does not have")?
                .clone()
                + &rest,
        )
    };
    // Checked by serde as if each had its name.
    Ok(Proposed {
        policy: read(joined(policy)?)?,
        repository: read(joined(repository)?)?,
        old,
        new: read(new)?,
        digest: digest.map(|text| lengthen(&text)).transpose()?,
    })
}

fn read<T: serde::de::DeserializeOwned>(text: String) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

/// Splits a name behind its last slash, and adds a new prefix.
fn divide(mut name: String, prefixes: &mut Vec<String>) -> SerializedName {
    let rest = name.split_off(name.rfind('/').map_or(0, |slash| slash + 1));
    let at = prefixes
        .iter()
        .position(|prefix| *prefix == name)
        .unwrap_or_else(|| {
            prefixes.push(name);
            prefixes.len() - 1
        });
    (at, rest)
}

/// Returns a SHA-256 digest in 43 characters instead of 71; others unchanged.
fn shorten(digest: &Digest) -> String {
    let bytes = digest.as_str().strip_prefix(SHA256).and_then(|hex| {
        let byte = |at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
        (0..hex.len())
            .step_by(2)
            .map(byte)
            .collect::<Option<Vec<u8>>>()
    });
    bytes.map_or_else(
        || digest.as_str().to_owned(),
        |bytes| STANDARD_NO_PAD.encode(bytes),
    )
}

fn lengthen(text: &str) -> Result<Digest, String> {
    if text.contains(':') {
        return Digest::new(text).map_err(|error| error.to_string());
    }
    let bytes = STANDARD_NO_PAD
        .decode(text)
        .map_err(|error| format!("a digest is not base64: {error}"))?;
    Digest::new(format!("{SHA256}{}", hex(&bytes))).map_err(|error| error.to_string())
}
