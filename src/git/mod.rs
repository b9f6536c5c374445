//! The only room that talks Git: mirror, index of trees, history, commit, signature, push.
//!
//! Everything here blocks: callers run it on threads of their own. Nothing here reads Git's
//! configuration of the user or the machine, and no `git` program is needed except for `file://`
//! (its server side) and `ssh` for ssh.
//!
//! ```text
//! Remote ──▶ Mirror::fetch ──▶ Head ──▶ Index (records of the files of a commit)
//!               │                └────▶ Revision (files), history (commits)
//!               └─ Draft (edits in memory, signed) ──▶ Mirror::push ──▶ Done | Rejected
//! ```
//!
//! A mirror is a cache: bare, complete, only read and fetched into. What a commit adds lies in
//! memory until the server has taken it, so nothing of a push that was rejected or killed stays
//! behind.

mod branches;
mod asked;
mod checkout;
mod draft;
mod error;
mod graft;
mod history;
mod index;
mod mirror;
mod pack;
mod path;
mod push;
mod remote;
mod revision;
mod sign;
mod snapshot;
mod trailer;
mod tree;

#[cfg(feature = "demo")]
pub(crate) use {error::plain, pack::pack};

pub use branches::Own;
pub use checkout::Checkout;
pub use draft::{Draft, Edit, Message, Person};
pub use error::GitError;
pub use gix::{ObjectId, objs::tree::EntryKind};
pub use graft::{Different, Graft};
pub use history::{Change, Commit, History};
pub use index::{Extract, How, Index, Indexed};
pub use mirror::{Head, Mirror};
pub use path::RepoPath;
pub use push::{Pushed, Refusal, Update};
pub use remote::{Access, Credentials, Remote, Ssh, Timeout};
pub use revision::{Entry, File, Revision};
pub use sign::SigningKey;
pub use snapshot::Record;
pub use trailer::has_trailer;
