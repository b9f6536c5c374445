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
mod changes;
mod commit_demand;
mod rev_parse;
mod checkout;
mod draft;
mod object_limit;
mod error;
mod entry_budget;
mod restore;
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
mod tree_cache;
mod verify;

#[cfg(feature = "demo")]
pub(crate) use error::plain;
#[cfg(feature = "demo")]
pub(crate) use pack::pack;

pub use branches::BranchCommit;
pub use checkout::Checkout;
pub use draft::{CommitDraft, CommitMeta, FileEdit, Person};
pub use error::GitError;
pub use gix::{ObjectId, objs::tree::EntryKind};
pub use history::{FileDelta, FirstParents, HistoryCommit};
pub use index::{Extractor, Index, IndexOrigin, Indexed};
pub use mirror::{BranchHead, Mirror};
pub use path::RepoPath;
pub use push::{PushOutcome, PushRejection, RefUpdate};
pub use remote::{GitTimeout, Remote, RemoteAccess, RemoteCredentials, SshCommand};
pub use restore::{ChangedPath, TreeRestore};
pub use revision::{FileBlob, Revision, TreeEntry};
pub use sign::CommitSigner;
pub use snapshot::IndexRecord;
pub use trailer::has_trailer;
pub use verify::{CommitKeys, SignatureVerdict};
