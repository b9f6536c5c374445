//! Reason codes of application states, for programs that must not parse sentences.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The cause of an application state, as a CamelCase code.
///
/// A state says what an Application is; the reason says why, as the condition reasons of
/// Kubernetes do.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub enum Reason {
    /// No pass has finished yet.
    Pending,
    /// The cluster has what Git says.
    Synced,
    /// Objects are being applied.
    Applying,
    /// Git says something that has not been applied, in a mode that applies nothing.
    OutOfSync,
    /// Everything was applied; some objects are not healthy yet.
    Progressing,
    /// An object failed, or did not become healthy in time.
    HealthDegraded,
    /// An object was refused or could not be applied.
    SyncFailed,
    /// Objects wait for others of the same Application, or for their owner.
    SyncPending,
    /// The cluster does not serve a kind (yet).
    KindNotServed,
    /// The manifests cannot be rendered.
    RenderFailed,
    /// The declaration is invalid or missing while declarations have errors.
    DeclarationInvalid,
    /// `dependsOn` forms a cycle.
    DependencyCycle,
    /// A dependency is not ready.
    DependencyNotReady,
    /// tagboat.yaml does not name the cluster.
    ClusterUnknown,
    /// The kubeconfig of the cluster cannot be used.
    ClusterUnusable,
    /// The repository may not deploy to the cluster.
    RepositoryNotAllowed,
    /// The rights of its tenant do not allow the Application.
    TenantRefused,
    /// Another repository has an Application of this name on the cluster.
    NameConflict,
    /// The API server does not answer.
    ClusterUnreachable,
    /// The API server refuses what every pass needs.
    ClusterRequestRefused,
    /// A bug of tagboat ended the pass; it starts over.
    TaskPanicked,
    /// The first list of a kind is on its way.
    WatchPending,
    /// A kind cannot be watched.
    WatchFailed,
    /// Live objects differ from Git, and are only reported.
    DriftReported,
    /// Live objects keep being changed, and their repair backs off.
    DriftRepairDelayed,
    /// Objects to delete wait for their finalizers, a hand-over or unread declarations.
    PrunePending,
    /// A prune waits for a confirmation.
    PruneBlocked,
    /// An object could not be deleted.
    PruneFailed,
    /// `suspend: true` is committed.
    Suspended,
    /// The Application was removed from Git; its objects are kept.
    Orphaned,
    /// The Application was removed from Git; its objects are being deleted.
    Deleting,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
