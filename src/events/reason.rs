//! Reason codes, which programs read instead of messages. They are part of the interface;
//! `docs/reference/events.md` lists them.

use serde::Serialize;
use std::fmt;

/// Defines the codes once: the variants, their text and the list for the docs.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// The reason code of an event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub enum EventReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl EventReason {
            /// All codes with their meaning, for the reference.
            pub const ALL: &[(EventReason, &str)] =
                &[$((EventReason::$name, concat!($($doc),+)),)+];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(EventReason::$name => stringify!($name),)+
                }
            }
        }
    };
}

reasons! {
    /// The process started.
    Started,
    /// A signal asked the process to stop, at a safe point.
    Stopping,
    /// The process has stopped.
    Stopped,
    /// SIGHUP: the settings file has changed, and the daemon starts again with it.
    SettingsReloaded,
    /// SIGHUP: the settings file has not changed.
    SettingsUnchanged,
    /// SIGHUP: the settings file cannot be used; the old settings stay in force.
    SettingsRejected,
    /// A setting has no effect, or a folder of tagboat had to be repaired.
    SetupWarning,
    /// A cache of tagboat cannot be written, so that the next start takes longer.
    CacheUnavailable,
    /// A user of this machine queried the daemon over the local socket.
    QueryReceived,
    /// The local socket failed, or a client disconnected.
    SocketFailed,
    /// A background task exited unexpectedly, which ends the process.
    TaskExited,
    /// A task panicked, which is a bug; it alone is started again.
    TaskPanicked,
    /// A worker of the async runtime was blocked for a second or more.
    WorkerBlocked,

    /// A pass over a config repository ended.
    PassCompleted,
    /// A pass noticed something that does not stop it.
    PassWarning,
    /// A pass failed at a registry, the Git server or the forge.
    PassFailed,
    /// A declaration or a file has a problem.
    DiagnosticFound,
    /// The bot pushed a commit with updates.
    UpdateCommitted,
    /// Updates could not be published.
    UpdateFailed,
    /// Updates wait for a window.
    WindowClosed,
    /// The bot opened, updated, merged or closed a pull request.
    PullRequestChanged,
    /// A pull request waits for a person.
    PullRequestBlocked,
    /// The rollout of a merged pull request was reported to the forge.
    RolloutReported,
    /// The rollout of a merged pull request cannot be reported.
    RolloutReportFailed,
    /// A merged pull request reaches no Application.
    RolloutEmpty,

    /// The head of a branch is not deployed, because it is not signed as `verify` wants it.
    RevisionRefused,
    /// A revision of an Application was applied and is healthy.
    SyncSucceeded,
    /// A revision was applied; its health is awaited.
    SyncProgressing,
    /// A revision could not be applied.
    SyncFailed,
    /// A revision was applied and did not become healthy in time.
    HealthDegraded,
    /// Objects would be deleted, and a user must confirm that first.
    ConfirmationRequired,
    /// An Application cannot be read at a revision: its manifests or its declaration.
    SourceUnreadable,
    /// An Application may not or cannot run on its cluster.
    ApplicationRefused,
    /// A pass over an Application failed at its cluster.
    ReconcileFailed,
    /// The reconciler created or changed an object.
    ObjectApplied,
    /// An object could not be applied.
    ApplyFailed,
    /// A namespace was created, because an Application needs it.
    NamespaceCreated,
    /// A created namespace was deleted with the last Application in it.
    NamespaceDeleted,
    /// A created namespace was kept although its Application was deleted.
    NamespaceKept,
    /// A change outside Git was reverted.
    DriftRepaired,
    /// Fields of other managers were overwritten or taken over.
    FieldsTakenOver,
    /// An object that Git no longer has was deleted.
    ObjectPruned,
    /// An object that Git no longer has was kept on purpose.
    PruneSkipped,
    /// An object that Git no longer has could not be deleted.
    PruneFailed,
    /// Two Applications repeatedly take an object from each other.
    OwnerConflict,
    /// An Application was removed from Git; its objects were kept.
    ApplicationOrphaned,
    /// An Application was deleted with its objects.
    ApplicationDeleted,
    /// The inventory of an Application was damaged and is rebuilt.
    InventoryDamaged,
    /// A record in the cluster belongs to another repository of the same name.
    ForeignRecord,

    /// A cluster cannot be reached or used.
    ClusterUnreachable,
    /// The credentials of a cluster could not be renewed; the present ones are used on.
    CredentialsNotRenewed,
    /// A request to a cluster failed and is sent again.
    RequestRetried,
    /// A record left the namespace of its Application for that of tagboat.
    RecordMoved,
    /// A part of an old record could not be deleted yet.
    RecordNotCleared,
    /// An API group of a cluster does not answer.
    ApiGroupUnavailable,
    /// Objects of a kind cannot be watched; changes may go unnoticed.
    WatchFailed,
    /// A kind may not be watched in the whole cluster, and is watched in single namespaces.
    WatchNarrowed,
    /// Objects of a kind are watched again.
    WatchRecovered,
}

impl fmt::Display for EventReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
