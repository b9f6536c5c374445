//! The embedded database: facts learnt from registries and forges, so that a restart does not ask
//! again.
//!
//! All of it can be deleted (invariant 1): lists, dates and platforms are then fetched again and
//! first-seen times start over, so that tagboat waits longer and never goes further; changes that
//! people may have refused at a forge wait until the forge has been asked. An unreadable file is
//! moved aside and replaced, and reported to the caller ([`OpenReport`]).
//!
//! Tags are read from here when a policy is evaluated and dropped afterwards, so that an idle
//! daemon has none in memory, but the version of each list. Calls block, each for one small
//! transaction.

mod error;
mod listings;
mod open;
mod tables;

pub use error::StoreError;
pub use listings::{FactsVersion, KeptListing, KeptTags, ListVersion, TagsState};
pub use open::{OpenReport, Store};
pub use tables::{FirstSeen, KnownFacts};
