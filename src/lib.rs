//! tagboat keeps the images of a fleet current: from the container registry, through Git, to the
//! cluster.
//!
//! This page is the map. Data flows one way, in two passes that meet only at a Git revision:
//!
//! ```text
//!  registry ──facts──┐
//!                    ▼
//!  references ──▶ policy ──choices──▶ rewrite ──edits──▶ publish ──change sets──▶ git ══▶ the config repository
//!    (pure)       (pure)              (pure)             (pure)                  (edge)
//!
//!  the config repository ══▶ render ──objects──▶ plan ──actions──▶ cluster ──what is live──▶ health ──▶ status
//!                            (edge)              (pure)            (edge)                    (pure)
//! ```
//!
//! Start reading at [`update`], the first pass top to bottom, then the pure rooms it calls:
//! [`references`], [`policy`], [`rewrite`]; the second pass is [`reconcile`], with [`plan`] and
//! [`health`]. [`declare`] says what people write. `tests/tidy.rs` holds the directions and the
//! purity named here.
//!
//! Deliberately absent: mirrors of registries, OpenPGP signatures, calver.
//!
//! # Rooms, in reading order
//!
//! | room | takes → gives | kind |
//! |---|---|---|
//! | [`error`] | what went wrong, and whose fault it is | pure |
//! | [`image`] | the words: repository, tag, digest, image reference, platform | pure |
//! | [`name`] | `namespace/name` of declared things | pure |
//! | [`version`] | tags as versions, and Masterminds ranges over them | pure |
//! | [`schedule`] | intervals, cron lines and windows | pure |
//! | [`yaml`] | text → a tree in which everything knows its place | pure |
//! | [`secret`] | passwords and tokens that cannot be printed | pure |
//! | [`declare`] | files → checked ImagePolicy, Environment, Application, and `tagboat.yaml` | pure |
//! | [`references`] | file bytes → the image references in them, and why each was found | pure |
//! | [`policy`] | policy + facts + present value + holds → a choice, or the facts it needs | pure |
//! | [`rewrite`] | bytes + references + choices → edits | pure |
//! | [`object`] | the words of a cluster: kind, key, object, and what annotations ask for | pure |
//! | [`manifest`] | text → values and objects, as kubectl reads them, and back | pure |
//! | [`plan`] | wanted + owned + live → actions, prunes, refusals | pure |
//! | [`health`] | object → status and message | pure |
//! | [`http`] | what every client of HTTP here shares: ways out, bounds, budgets, pages | edge |
//! | [`registry`] | repository → facts: tags, digests, dates, platforms | edge |
//! | [`store`] | the embedded database: caches and first-seen times | edge |
//! | [`git`] | the only room that talks Git: mirror, index, history, commit, sign, push | edge |
//! | [`render`] | an Application's folder at a revision → objects; kustomize and helm behind one door | edge |
//! | [`cluster`] | one action → what came of it; what a cluster serves, holds and changes | edge |
//! | [`forge`] | requests for review: opened, read, merged, on GitHub, GitLab, Gitea | edge |
//! | [`connect`] | `tagboat.yaml` + files + environment → registries, remotes, keys | edge |
//! | [`scan`] | what a policy needs → facts, from the registry or the store | edge |
//! | [`folder`] | a folder in place, for `tagboat set` | edge |
//! | [`publish`] | changes → change sets, their messages, and the next step of a request | pure |
//! | [`findings`] | declarations and files → what is wrong beside the declarations themselves | pure |
//! | [`update`] | the pass, from registry to commit or request | – |
//! | [`reconcile`] | the pass, from Git to the clusters | – |
//! | [`talking`] | merged requests + what became of them on the clusters → statuses and comments on the forge | edge |
//! | [`preview`] | two revisions → what becomes different on clusters, and what their dry run says | edge |
//! | [`survey`] | a folder → what a pass would see in it, for `tagboat check` and `init` | edge |
//! | [`daemon`] | timers, the local socket, shutdown | – |
//! | [`cli`] | what was typed → what is needed; one file a subcommand | – |
//! | [`sandbox`] | a registry, a Git server and a small Kubernetes API in this process (feature `demo`) | edge |
//!
//! # Rules
//!
//! 1. Git is the only truth. Everything else is a cache and can be deleted.
//! 2. A diff that the bot makes contains the change and nothing else.
//! 3. Running a pass twice changes nothing the second time.
//! 4. Work is proportional to change.
//! 5. Fail closed, and say why.
//! 6. Nothing is ignored silently.
//! 7. Pure rooms have no async, file system, process, environment, clock or network; time is an
//!    argument.
//! 8. Messages and titles are functions of the change set, so that a retry finds its own work.
//! 9. No secret prints itself.
//! 10. A pass is never dropped between commit and push.
//! 11. Every error says whose fault it is: [`error::Kind`].

#![forbid(unsafe_code)]

// In reading order: words, what people write, what files hold, the choice, the edges, the passes.
pub mod error;
pub mod image;
pub mod name;
pub mod secret;
pub mod version;
pub mod schedule;
pub mod yaml;

pub mod declare;
pub mod references;
pub mod policy;
pub mod rewrite;
pub mod object;
pub mod manifest;
pub mod plan;
pub mod health;

pub mod http;
pub mod registry;
pub mod store;
pub mod git;
pub mod render;
pub mod cluster;
pub mod forge;
pub mod reconcile;
pub mod connect;
pub mod scan;
pub mod folder;
pub mod publish;

pub mod findings;
pub mod update;
pub mod talking;
pub mod preview;
pub mod survey;

pub mod daemon;
pub mod cli;
#[cfg(feature = "demo")]
pub mod sandbox;
