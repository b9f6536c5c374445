//! tagboat updates container images in a GitOps repository and deploys the result to Kubernetes.
//!
//! This page is the map. Data flows one way, in two passes that meet only at a Git revision and a
//! rollout record:
//!
//! ```text
//!  update pass      registry ─facts─┐
//!                   references ─▶ policy ─choices─▶ rewrite ─change set─▶ review ═▶ Git (commit or pull request)
//!
//!  reconcile pass   Git ═▶ render ─objects─▶ plan ─actions─▶ cluster ─live state─▶ health ─▶ status ─▶ rollout
//!
//!  preview          two revisions ─▶ rendered diff and server-side dry run
//!  service          Query ─▶ Answer (typed), asked by the command line and the local socket
//! ```
//!
//! Start reading at [`update`], the first pass from top to bottom, then the pure modules it calls
//! in [`images`]. The second pass is [`reconcile`], with [`objects`]. [`spec`] has the kinds that
//! users declare. `tests/tidy.rs` enforces the layers and the purity named here.
//!
//! Deliberately absent: registry mirrors, OpenPGP signatures, calendar versioning.
//!
//! # Layers, lowest first
//!
//! | layer | what belongs there | kind |
//! |---|---|---|
//! | [`core`] | vocabulary without I/O: errors, names, secrets, schedules, images, versions, YAML | pure |
//! | [`spec`] | declared kinds and settings, parsed and checked, with diagnostics | pure |
//! | [`images`] | references, policies, rewriting: the pure half of the update pass | pure |
//! | [`objects`] | objects, manifests, plans, health: the pure half of the reconcile pass | pure |
//! | [`review`] | change sets, commit messages, pull request texts and their lifecycle | pure |
//! | [`events`] | one typed fact for each thing that happened, and the sinks it goes to | edge |
//! | [`io`] | clients of everything outside: HTTP, registries, store, Git, render, clusters, forges | edge |
//! | [`update`] | the update pass: from the registry to a commit or a pull request | edge |
//! | [`reconcile`] | the reconcile pass: from Git to the clusters | edge |
//! | [`rollout`] | reports to the forge what became of a merged pull request | edge |
//! | [`preview`] | what a change does to the clusters: rendered diff and dry run | edge |
//! | [`service`] | one typed answer for each query, without printing | edge |
//! | [`daemon`] | schedule, local socket, shutdown | edge |
//! | [`sandbox`] | a registry, a Git server, a forge and a Kubernetes API in this process (feature `demo`) | edge |
//! | [`cli`] | arguments and printing | edge |
//!
//! # Invariants
//!
//! 1. Git is the only source of truth. Everything else is a cache and can be deleted.
//! 2. A diff made by the bot contains the change and nothing else.
//! 3. A second pass over the same world changes nothing.
//! 4. Work is proportional to change.
//! 5. Fail closed, with a reason.
//! 6. Nothing is ignored silently.
//! 7. Pure layers have no async, file system, process, environment, clock or network; time is an
//!    argument.
//! 8. Branch names, titles and messages are functions of the change set, so that a retry finds its
//!    own work.
//! 9. No secret is printed or serialised.
//! 10. A pass is never dropped between commit and push.
//! 11. Every error is classified: [`core::error::ErrorKind`].
//! 12. One tenant's input never stops another's: every input has a bound, and what exceeds it fails
//!     alone.
//! 13. Blocking and CPU-bound work never runs on the async runtime's workers.

#![forbid(unsafe_code)]

// In reading order, lowest layer first.
pub mod core;
pub mod spec;
pub mod images;
pub mod objects;
pub mod review;
pub mod events;
pub mod io;
pub mod update;
pub mod reconcile;
pub mod rollout;
pub mod preview;
pub mod service;
pub mod daemon;
#[cfg(feature = "demo")]
pub mod sandbox;
pub mod cli;
