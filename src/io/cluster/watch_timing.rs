//! Durations that watches of objects and of definitions share.

use std::time::Duration;

/// Seconds after which the server ends a watch; up to a fifth is added, so that not all end at
/// once.
pub(crate) const LIFE: u64 = 240;

/// The longest back-off for a server that refuses a watch.
pub(crate) const LONGEST_REFUSED: Duration = Duration::from_secs(60);
