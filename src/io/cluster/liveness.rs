//! Notices an API server that no longer answers although its connections stay open.
//!
//! A stopped process ends no connection, and the kernel goes on answering TCP keep-alive for it.
//! Bookmarks come once a minute, too seldom to miss. So a server that says nothing to any watch is
//! asked for its version, and one that does not answer is silent: its watches end.

use super::{
    ClusterClient, RequestIdentity,
    error::ClusterProblem,
    request::{ApiRequest, RequestVerb},
};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// The limits of an API server's silence.
#[derive(Debug, Clone, Copy)]
pub struct LivenessLimits {
    /// The time without a byte from any watch after which the server is asked.
    pub silence: Duration,
    /// The time for the answer.
    pub answer: Duration,
}

impl Default for LivenessLimits {
    /// A server that hangs is noticed within 45 s.
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(30),
            answer: Duration::from_secs(15),
        }
    }
}

/// The last sign of life of one cluster's API server.
pub(crate) struct ServerLiveness {
    limits: LivenessLimits,
    heard: Mutex<Instant>,
    /// Counts the times when the server was found silent.
    silent: watch::Sender<u64>,
}

impl ServerLiveness {
    pub(crate) fn new(limits: LivenessLimits) -> Self {
        Self {
            limits,
            heard: Mutex::new(Instant::now()),
            silent: watch::Sender::default(),
        }
    }

    fn last_heard(&self) -> Instant {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the server said something.
    pub(crate) fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Subscribes a watch to the times when the server is found silent.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.silent.subscribe()
    }

    /// Returns the problem of a watch that ends because of the silence.
    pub(crate) fn problem(&self, cluster: &ClusterClient) -> ClusterProblem {
        ClusterProblem::Silent {
            server: cluster.inner.server.clone(),
            silence: self.last_heard().elapsed(),
        }
    }

    /// Asks the server whenever it has been silent, and ends the watches if it does not answer.
    pub(crate) async fn supervise(&self, cluster: &ClusterClient) {
        let LivenessLimits { silence, answer } = self.limits;
        loop {
            tokio::time::sleep_until(self.last_heard() + silence).await;
            if self.silent.receiver_count() == 0 {
                // Nothing listens to the server.
                self.hear();
            } else if self.last_heard().elapsed() < silence {
                continue;
            } else if tokio::time::timeout(answer, cluster.answers()).await == Ok(true) {
                self.hear();
            } else {
                self.silent.send_modify(|count| *count += 1);
                tokio::time::sleep(silence).await;
            }
        }
    }
}

impl ClusterClient {
    /// Returns whether the server answers at all, beside the budget of other requests.
    async fn answers(&self) -> bool {
        let own = RequestIdentity::Own;
        let call = ApiRequest::get(RequestVerb::Discovery, "/version".to_owned(), &own);
        let Ok(connection) = self.connection(None).await else {
            return false;
        };
        let answer = self.send(&call, &connection).await;
        !matches!(answer, Err(ClusterProblem::Unreachable { .. }))
    }
}
