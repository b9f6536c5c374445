//! The fixture of the reconcile tests, over the real server.

pub(super) use crate::it::support::fleet::{Fleet, config, problems, repository, states};
