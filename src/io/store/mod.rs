//! The embedded database: what was learnt from registries and forges, so that a restart does not
//! ask again.
//!
//! All of it can be deleted (rule 1): then lists, dates and platforms are fetched again and
//! first-seen clocks begin anew, so that things wait longer and never run ahead; so do changes that
//! people may have refused at a forge, until it has been asked. A file that cannot be read is moved
//! aside and begun anew; the caller is told ([`OpenReport`]) and says so.
//!
//! Tags are read from here when a policy is judged and dropped afterwards, so that an idle daemon
//! holds none in memory. The calls block, each for one small transaction.

mod error;
mod open;
mod tables;

pub use error::StoreError;
pub use open::{OpenReport, Store};
pub use tables::{FirstSeen, KeptTags, TagsState};
