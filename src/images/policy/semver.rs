//! `semver`: the greatest version in a range.

use super::{Refusal, order::TagOrder};
use crate::core::version::{self, Range, Version};
use std::{borrow::Cow, cmp::Ordering};

pub(super) struct Semver<'p>(pub(super) &'p Range);

/// The numbers, and the start of the pre-release in the text that was compared.
pub(super) struct VersionKey<'a> {
    numbers: [u64; 3],
    pre: Cow<'a, str>,
}

impl VersionKey<'_> {
    fn version(&self) -> Version<'_> {
        Version {
            numbers: self.numbers,
            pre: &self.pre,
        }
    }
}

impl TagOrder for Semver<'_> {
    type Key<'a> = VersionKey<'a>;

    fn key<'a>(&self, text: Cow<'a, str>) -> Result<VersionKey<'a>, Refusal> {
        let refusal = |why| Refusal::NoVersion { why };
        match text {
            Cow::Borrowed(text) => {
                let Version { numbers, pre } = Version::of_tag(text).map_err(refusal)?;
                let pre = Cow::Borrowed(pre);
                Ok(VersionKey { numbers, pre })
            }
            Cow::Owned(text) => {
                let Version { numbers, pre } = Version::of_tag(&text).map_err(refusal)?;
                let pre = Cow::Owned(pre.to_owned());
                Ok(VersionKey { numbers, pre })
            }
        }
    }

    fn admit(&self, key: &VersionKey<'_>) -> Result<(), Refusal> {
        let version = key.version();
        if self.0.contains(&version) {
            return Ok(());
        }
        let range = self.0.to_string();
        let release_is_in_range =
            !version.pre.is_empty() && self.0.contains(&Version { pre: "", ..version });
        Err(if release_is_in_range {
            Refusal::PreRelease { range }
        } else {
            Refusal::OutOfRange { range }
        })
    }

    fn compare_keys(&self, left: &VersionKey<'_>, right: &VersionKey<'_>) -> Ordering {
        left.version().precedence(&right.version())
    }

    /// Compares numbers alone, which spares most tags the grammar of pre-releases.
    fn surely_loses(&self, tag: &str, best: Option<&VersionKey<'_>>) -> bool {
        let Ok((numbers, pre)) = version::split(tag) else {
            return true;
        };
        best.is_some_and(|best| numbers < best.numbers)
            || (!pre.is_empty() && !self.0.takes_pre_releases())
            || !self.0.contains(&Version { numbers, pre })
    }

    fn wanted(&self) -> String {
        format!("versions in {:?} are wanted", self.0.to_string())
    }

    fn summary(&self) -> String {
        format!("semver {}", self.0)
    }
}
