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
//! | [`yaml`] | text → a tree in which everything knows its place | pure |
//! | [`references`] | file bytes → the image references in them, and why each was found | pure |
//! | [`rewrite`] | bytes + references + choices → edits | pure |
//! | [`folder`] | a folder rewritten in place | edge |
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
pub mod folder;
pub mod image;
pub mod name;
pub mod references;
pub mod rewrite;
pub mod yaml;
