//! tagboat keeps the images of a fleet current: from the container registry, through Git, to the cluster.
//!
//! This page is the map. Data flows one way:
//!
//! ```text
//!  registry ──facts──┐
//!                    ▼
//!  references ──▶ policy ──choices──▶ rewrite ──change set──▶ publish ══▶ Git
//!    (pure)       (pure)              (pure)                  (edge)
//! ```
//!
//! # Rooms, in reading order
//!
//! | room | takes → gives | kind |
//! |---|---|---|
//! | [`error`] | what went wrong, and whose fault it is | pure |
//! | [`image`] | the words: repository, tag, digest, image reference, platform | pure |
//! | [`name`] | `namespace/name` of declared things | pure |
//! | [`git`] | the only room that talks Git: mirror, index of trees, history, commit, sign, push | edge |
//! | `sandbox` | a Git server and a registry in this process, for the demo and tests (feature `demo`) | edge |
//! | [`secret`] | passwords and tokens that cannot be printed | pure |
//!
//! # Rules
//!
//! 1. Git is the only truth. Everything else is a cache and can be deleted.
//! 2. A diff that the bot makes contains the change and nothing else.
//! 3. Running a pass twice changes nothing the second time.
//! 4. Work is proportional to change.
//! 5. Fail closed, and say why.
//! 6. Nothing is ignored silently.
//! 7. Pure rooms have no async, file system, process, environment, clock or network; time is an argument.
//! 8. Messages and titles are functions of the change set, so that a retry finds its own work.
//! 9. No secret prints itself.
//! 10. A pass is never dropped between commit and push.
//! 11. Every error says whose fault it is: [`error::Kind`].

pub mod error;
pub mod git;
pub mod image;
pub mod name;
#[cfg(feature = "demo")]
pub mod sandbox;
pub mod secret;
