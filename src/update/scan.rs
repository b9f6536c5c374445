//! Tag lists of a pass: every repository is listed once, and between its scans nothing is asked
//! again.

use super::{
    FailureReport, ImageUpdater, PassReport, Rescan, ScanProgress, Scans, pass_state::PassState,
};
use crate::{
    core::image::ImageRepository,
    images::{policy::TagFacts, scope::EnvironmentScope},
    io::facts::{RepositoryScan, SCAN_TIMEOUT, ScanError, Scanner},
};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError},
    time::Duration,
};

/// Repositories of one registry scanned at once: its requests in flight by default.
const CONCURRENT_SCANS: usize = 8;
/// Registries scanned at once. A slow one delays no other.
const CONCURRENT_HOSTS: usize = 64;

/// Confirmed tags of a repository that are kept between its scans: those of three policies with
/// ages. A repository with more is asked again, so that memory stays small.
const MOST_CONFIRMED: usize = 64;

/// Lists the tags of every repository that has references, each once in a pass.
pub(crate) async fn repositories(
    updater: &ImageUpdater,
    scanner: &Scanner,
    scopes: &[Arc<EnvironmentScope>],
    pass: &mut PassState<'_>,
    report: &mut PassReport,
) {
    let (rescan, now) = (pass.rescan, pass.now);
    let is_known = |repository: &ImageRepository| {
        pass.scans.contains_key(repository) || pass.failed.contains(repository)
    };
    let mut wanted: BTreeMap<ImageRepository, Option<Duration>> = BTreeMap::new();
    for usage in scopes
        .iter()
        .filter(|scope| !scope.environment.suspend)
        .flat_map(|scope| scope.policies.values())
        .filter(|usage| !usage.policy.suspend && !is_known(&usage.policy.image))
    {
        let longest = wanted.entry(usage.policy.image.clone()).or_default();
        *longest = usage.policy.timeout.max(*longest);
    }
    for repository in unusable(scanner, &wanted, rescan).await {
        wanted.remove(&repository);
    }
    let mut by_host: BTreeMap<String, Vec<(ImageRepository, Duration)>> = BTreeMap::new();
    for (repository, timeout) in wanted {
        let host = repository.registry().to_owned();
        let timeout = timeout.unwrap_or(SCAN_TIMEOUT);
        by_host.entry(host).or_default().push((repository, timeout));
    }
    let total = by_host.values().map(Vec::len).sum();
    updater
        .scanned
        .send_replace(ScanProgress { done: 0, total });
    let results: Vec<(ImageRepository, Result<RepositoryScan, ScanError>)> =
        stream::iter(by_host.into_values())
            .map(|repositories| {
                let scans = stream::iter(repositories)
                    .map(|(repository, timeout)| async move {
                        let result =
                            scan(updater, scanner, &repository, timeout, rescan, now).await;
                        updater.scanned.send_modify(|progress| progress.done += 1);
                        (repository, result)
                    })
                    .buffer_unordered(CONCURRENT_SCANS);
                Box::pin(scans)
            })
            .flatten_unordered(CONCURRENT_HOSTS)
            .collect()
            .await;
    let mut failed = Vec::new();
    for (repository, result) in results {
        match result {
            Ok(scan) => {
                if scan.hostile > 0 {
                    report.warnings.push(format!(
                        "{repository}: the registry lists {} names that are not valid tags",
                        scan.hostile
                    ));
                }
                pass.scans.insert(repository, scan);
            }
            Err(error) => {
                if let ScanError::Running { .. } = error {
                    report.add_running(repository.clone(), error.to_string());
                } else {
                    failed.push(FailureReport::new(&error).of(&repository));
                }
                pass.failed.insert(repository);
            }
        }
    }
    failed.sort_by(|left, right| left.message.cmp(&right.message));
    for failure in failed {
        report.add_failure(failure);
    }
}

/// Returns the repositories that are in back-off and have no earlier scan to go by.
async fn unusable(
    scanner: &Scanner,
    wanted: &BTreeMap<ImageRepository, Option<Duration>>,
    rescan: &Rescan,
) -> Vec<ImageRepository> {
    let Rescan::Only { backing_off, .. } = rescan else {
        return Vec::new();
    };
    let mut unusable = Vec::new();
    for repository in wanted.keys().filter(|one| backing_off.contains(*one)) {
        if scanner
            .last(repository)
            .await
            .is_ok_and(|last| last.is_none())
        {
            unusable.push(repository.clone());
        }
    }
    unusable
}

async fn scan(
    updater: &ImageUpdater,
    scanner: &Scanner,
    repository: &ImageRepository,
    timeout: Duration,
    rescan: &Rescan,
    now: Timestamp,
) -> Result<RepositoryScan, ScanError> {
    let config = scanner.registries.config(repository);
    let own = &updater.repo.config.name;
    if !config.allowed_repositories.is_empty() && !config.allowed_repositories.contains(own) {
        return Err(ScanError::Forbidden {
            repository: repository.clone(),
            prefix: config.prefix.clone(),
            config: own.clone(),
        });
    }
    if let Rescan::Only { due, .. } = rescan
        && !due.contains(repository)
        && let Some((mut scan, _)) = scanner.last(repository).await?
    {
        scan.timeout = timeout;
        let confirmed = updater
            .confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(details) = confirmed.get(repository) {
            (scan.details, scan.remembered) = (details.clone(), true);
        }
        return Ok(scan);
    }
    scanner.scan(repository, timeout, now).await
}

/// Returns the tags that a registry confirmed in this pass, for the passes until the next scan.
pub(crate) fn confirmed(
    (repository, scan): (ImageRepository, RepositoryScan),
) -> Option<(ImageRepository, HashMap<String, TagFacts>)> {
    let fresh: HashMap<String, TagFacts> = scan
        .details
        .into_iter()
        .filter(|(_, details)| details.fresh)
        .collect();
    (1..=MOST_CONFIRMED)
        .contains(&fresh.len())
        .then_some((repository, fresh))
}

/// Forgets what earlier passes confirmed for the policies of an Environment; false if that was
/// nothing.
pub(crate) fn forget_confirmed(scope: &EnvironmentScope, scans: &mut Scans) -> bool {
    let mut any = false;
    for usage in scope.policies.values() {
        if let Some(scan) = scans
            .get_mut(&usage.policy.image)
            .filter(|scan| scan.remembered)
        {
            (scan.remembered, any) = (false, true);
            scan.details.clear();
        }
    }
    any
}
