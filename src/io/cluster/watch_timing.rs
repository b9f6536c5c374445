//! Durations that watches of objects and of definitions share.

use std::time::Duration;

/// Seconds after which the server ends a watch; up to a fifth is added, so that not all end at
/// once.
pub(crate) const LIFE: u64 = 240;

/// The longest back-off for a server that refuses a watch.
pub(crate) const LONGEST_REFUSED: Duration = Duration::from_secs(60);

/// The time for which the watch of a whole cluster that worked must be refused before its kind is
/// watched in single namespaces: a failing authorizer may refuse once.
pub(crate) const NARROWING: Duration = Duration::from_secs(10);

/// The interval at which a kind that is watched in single namespaces is tried in the whole cluster
/// again: rights are widened seldom.
pub(crate) const WIDENING: Duration = Duration::from_secs(600);
