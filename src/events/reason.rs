//! Reason codes: what programs read instead of messages. The list is part of the interface; `docs/` has it for users.

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
            pub const ALL: &[(EventReason, &str)] = &[$((EventReason::$name, concat!($($doc),+)),)+];

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
    /// The process is shutting down, or has.
    Stopped,
    /// A setting has no effect, or another one than it seems.
    SettingsWarning,
    /// The local socket failed, or a client broke off.
    SocketFailed,
    /// A background task exited unexpectedly.
    TaskExited,

    /// A pass over a config repository ended.
    PassCompleted,
    /// A pass noticed something that does not stop it.
    PassWarning,
    /// A declaration or a file has a problem.
    DiagnosticFound,
    /// An image repository could not be scanned.
    ScanFailed,
    /// A pass failed at the config repository or the forge.
    PassFailed,
    /// A commit with updates was pushed.
    UpdateCommitted,
    /// Updates could not be published.
    UpdateFailed,
    /// Updates wait for a window.
    WindowClosed,
    /// A pull request was opened, updated, merged or closed by the bot.
    PullRequestChanged,
    /// A pull request waits, for the reason in the message.
    PullRequestBlocked,

    /// A revision of an Application was applied and is healthy.
    SyncSucceeded,
    /// A revision was applied; its health is awaited.
    SyncProgressing,
    /// A revision could not be applied.
    SyncFailed,
    /// A revision was applied and did not become healthy in time.
    HealthDegraded,
    /// An Application could not be rendered.
    RenderFailed,
    /// Rendering skipped something or found something suspicious.
    RenderWarning,
    /// An Application waits or fails for the reason in the message.
    ReconcileBlocked,
    /// An object was created or changed.
    ObjectApplied,
    /// An object could not be applied.
    ApplyFailed,
    /// A change by another manager was reverted.
    DriftRepaired,
    /// Fields of other managers were overwritten or taken over.
    FieldsTakenOver,
    /// An object that Git no longer has was deleted.
    ObjectPruned,
    /// An object that Git no longer has was kept on purpose.
    PruneSkipped,
    /// An object that Git no longer has could not be deleted.
    PruneFailed,
    /// An object is deleted or changed by another owner again.
    OwnerConflict,
    /// An Application was deleted with its objects.
    ApplicationDeleted,
    /// The inventory of an Application was damaged and is rebuilt.
    InventoryDamaged,
    /// A record in the cluster belongs to another repository of the same name.
    ForeignRecord,

    /// A cluster cannot be reached or used.
    ClusterUnreachable,
    /// Objects of a kind cannot be watched; changes may go unnoticed.
    WatchFailed,
    /// Objects of a kind are watched again.
    WatchRecovered,

    /// The rollout of a merged pull request was reported to the forge.
    RolloutReported,
    /// The rollout of a merged pull request could not be reported.
    RolloutReportFailed,
}

impl fmt::Display for EventReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
