//! The protocol of the local socket: one request, then progress, then an answer or a failure. Each
//! message is a line of JSON.

use super::{
    Failure, Progress, Service,
    diff::{DiffAnswer, DiffQuery, diff},
    engine::SettingsIdentity,
    explain::{ExplainAnswer, ExplainQuery, explain},
    history::{HistoryAnswer, HistoryQuery, history},
    holds::{HoldsAnswer, HoldsQuery, holds},
    plan::{PlanAnswer, PlanQuery, plan},
    policies::{PoliciesAnswer, PoliciesQuery, policies},
    preview::{PreviewAnswer, PreviewQuery, preview},
    release::{ReleaseAnswer, ReleaseQuery, release},
    requests::{RequestsAnswer, RequestsQuery, requests},
    rollback::{RollbackAnswer, RollbackQuery, rollback},
    scan::{ScanAnswer, ScanQuery, scan},
    status::{StatusAnswer, StatusQuery, status},
    suspend::{SuspendAnswer, SuspendQuery, suspend},
    sync::{SyncAnswer, SyncQuery, sync},
};
use crate::core::error::ErrorKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// A query to a daemon.
#[derive(Debug, Serialize, Deserialize)]
pub struct SocketRequest {
    /// The query.
    pub query: Query,
    /// The settings of the client.
    pub settings: SettingsIdentity,
    /// The only config repository to use; all if none.
    pub repository: Option<String>,
}

/// A message of a daemon. The last one is an answer or a failure.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SocketReply {
    /// Progress, see [`Progress::update`].
    Progress(String),
    /// The answer to the query.
    Answer(Value),
    /// The reason why there is no answer.
    Failure(Failure),
}

/// A query with the type of its answer.
pub trait TypedQuery: Clone + Into<Query> {
    /// The answer.
    type Answer: Serialize + DeserializeOwned + JsonSchema;

    /// Computes the answer.
    ///
    /// # Errors
    /// The reason why there is no answer.
    fn run(
        &self,
        service: &Service,
        progress: &dyn Progress,
    ) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;
}

macro_rules! queries {
    ($($kind:ident: $query:ty => $answer:ty, $function:ident;)*) => {
        /// A query that a daemon answers.
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub enum Query {
            $(#[doc = concat!("Runs [`", stringify!($function), "`].")]
            $kind($query),)*
        }

        impl Query {
            /// The name of the command that asks.
            pub(crate) fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => stringify!($function),)*
                }
            }

            /// Computes the answer as JSON.
            ///
            /// # Errors
            /// The reason why there is no answer.
            pub async fn run(
                &self,
                service: &Service,
                progress: &dyn Progress,
            ) -> Result<Value, Failure> {
                match self {
                    $(Self::$kind(query) => to_json(&query.run(service, progress).await?),)*
                }
            }
        }

        $(impl From<$query> for Query {
            fn from(query: $query) -> Self {
                Self::$kind(query)
            }
        }

        impl TypedQuery for $query {
            type Answer = $answer;

            fn run(
                &self,
                service: &Service,
                progress: &dyn Progress,
            ) -> impl Future<Output = Result<Self::Answer, Failure>> + Send {
                // Boxed, because some of these futures are tens of kilobytes.
                Box::pin($function(service, self, progress))
            }
        })*
    };
}

queries! {
    Diff: DiffQuery => DiffAnswer, diff;
    Explain: ExplainQuery => ExplainAnswer, explain;
    History: HistoryQuery => HistoryAnswer, history;
    Holds: HoldsQuery => HoldsAnswer, holds;
    Plan: PlanQuery => PlanAnswer, plan;
    Policies: PoliciesQuery => PoliciesAnswer, policies;
    Preview: PreviewQuery => PreviewAnswer, preview;
    Release: ReleaseQuery => ReleaseAnswer, release;
    Requests: RequestsQuery => RequestsAnswer, requests;
    Rollback: RollbackQuery => RollbackAnswer, rollback;
    Scan: ScanQuery => ScanAnswer, scan;
    Status: StatusQuery => StatusAnswer, status;
    Suspend: SuspendQuery => SuspendAnswer, suspend;
    Sync: SyncQuery => SyncAnswer, sync;
}

impl Query {
    /// Returns whether the query has the daemon do something, instead of only answering.
    pub(crate) fn changes_something(&self) -> bool {
        matches!(
            self,
            Self::Release(_) | Self::Rollback(_) | Self::Scan(_) | Self::Suspend(_) | Self::Sync(_)
        )
    }
}

fn to_json(answer: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(answer)
        .map_err(|error| Failure::new(ErrorKind::Bug, format!("cannot serialise: {error}")))
}
