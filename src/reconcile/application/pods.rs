//! Pod reports: why the workloads of an Application do not become healthy.

use super::AppReconciler;
use crate::objects::{
    health::{self, Health, HealthStatus, PodProblem},
    object::ObjectKey,
};
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// Delays between two queries of an unhealthy workload's pods; the last one repeats while its
/// rollout waits.
const QUERY_DELAYS: [Duration; 4] = [
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// Problems shown for one workload.
const SHOWN: usize = 3;

/// The pod problems of unhealthy workloads.
#[derive(Debug, Default)]
pub(crate) struct PodReports(HashMap<ObjectKey, PodReport>);

#[derive(Debug)]
struct PodReport {
    problems: Vec<PodProblem>,
    queries: usize,
    next_query: Instant,
}

impl PodReports {
    /// Clears the reports, because another revision has other pods.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl PodReport {
    fn to_text(&self) -> Option<String> {
        let problems = self.problems.iter().take(SHOWN);
        let mut shown: Vec<String> = problems.map(ToString::to_string).collect();
        if self.problems.len() > SHOWN {
            shown.push(format!("and {} more", self.problems.len() - SHOWN));
        }
        (!shown.is_empty()).then(|| shown.join("; "))
    }
}

impl AppReconciler {
    /// Adds pod problems to unhealthy workloads; returns when to query again.
    ///
    /// Queried while the rollout waits; otherwise a few times, since nothing is asked at rest.
    pub(super) async fn report_pods(
        &mut self,
        unhealthy: &mut [(ObjectKey, Health)],
        is_rolling_out: bool,
    ) -> Option<Instant> {
        let is_unhealthy = |key: &ObjectKey| unhealthy.iter().any(|(other, _)| other == key);
        self.pod_reports.0.retain(|key, _| is_unhealthy(key));
        let mut next = None;
        for (key, health) in unhealthy {
            let due = self.add_pod_problems(key, health, is_rolling_out).await;
            next = due.into_iter().chain(next).min();
        }
        next
    }

    /// Adds the pod problems of a workload to its health; returns the time of the next query.
    ///
    /// A failed query is no problem of the workload.
    async fn add_pod_problems(
        &mut self,
        key: &ObjectKey,
        health: &mut Health,
        is_rolling_out: bool,
    ) -> Option<Instant> {
        let desired = &self.target.as_ref()?.desired;
        let one = desired.iter().find(|one| one.key == *key)?;
        let (namespace, selector) = health::pod_selector(&one.manifest.object().ok()?)?;
        let now = Instant::now();
        // A workload that was just applied gets time to start; a command asks only once.
        let first_delay = if health.status == HealthStatus::Failed || self.context.is_plan() {
            Duration::ZERO
        } else {
            QUERY_DELAYS[0]
        };
        let report = self
            .pod_reports
            .0
            .entry(key.clone())
            .or_insert_with(|| PodReport {
                problems: Vec::new(),
                queries: 0,
                next_query: now + first_delay,
            });
        let may_query = |report: &PodReport| is_rolling_out || report.queries < QUERY_DELAYS.len();
        if report.next_query <= now && may_query(report) {
            report.queries += 1;
            report.next_query = now + QUERY_DELAYS[report.queries.min(QUERY_DELAYS.len() - 1)];
            if let Ok(pods) = self.cluster.client.pods(&namespace, &selector).await {
                report.problems = health::pod_problems(&pods);
            }
        }
        if let Some(text) = report.to_text() {
            *health = Health::new(health.status, format!("{}; {text}", health.message));
        }
        may_query(report).then_some(report.next_query)
    }
}
