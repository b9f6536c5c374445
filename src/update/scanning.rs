//! Facts for a pass: every repository is listed once, and between its scans nothing is asked again.

use super::{FailureReport, Local, MOST_CONFIRMED, Pass, Report, Rescan, SCANS, Scans, Updater};
use crate::{
    image::Repository,
    policy::Details,
    scan::{Scan, ScanError},
};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use std::{
    collections::{BTreeSet, HashMap},
    sync::PoisonError,
};

impl Updater {
    /// Lists the tags of every repository that has references, each once in a pass.
    pub(super) async fn scan(
        &self,
        locals: &[Local<'_>],
        pass: &mut Pass<'_>,
        report: &mut Report,
    ) {
        let (rescan, now) = (pass.rescan, pass.now);
        let known = |repository: &Repository| {
            pass.scans.contains_key(repository) || pass.failed.contains(repository)
        };
        let wanted: BTreeSet<Repository> = locals
            .iter()
            .filter(|local| !local.environment.suspend)
            .flat_map(|local| local.policies.values())
            .filter(|present| {
                !present.policy.suspend
                    && !known(&present.policy.image)
                    && !self.rests(&present.policy.image, rescan)
            })
            .map(|present| present.policy.image.clone())
            .collect();
        let results: Vec<(Repository, Result<Scan, ScanError>)> = stream::iter(wanted)
            .map(|repository| async move {
                let result = self.scan_one(&repository, rescan, now).await;
                (repository, result)
            })
            .buffer_unordered(SCANS)
            .collect()
            .await;
        let mut failed = Vec::new();
        for (repository, result) in results {
            match result {
                Ok(scan) => {
                    if scan.hostile > 0 {
                        report.warnings.push(format!(
                            "{repository}: the registry lists {} names that no tag can have",
                            scan.hostile
                        ));
                    }
                    pass.scans.insert(repository, scan);
                }
                Err(error) => {
                    failed.push(FailureReport::new(&error).of(&repository));
                    pass.failed.insert(repository);
                }
            }
        }
        failed.sort_by(|left, right| left.message.cmp(&right.message));
        for failure in failed {
            if !report.failures.contains(&failure) {
                report.failures.push(failure);
            }
        }
    }

    /// Whether a repository waits for the end of its trouble.
    fn rests(&self, repository: &Repository, rescan: &Rescan) -> bool {
        matches!(rescan, Rescan::Only { resting, .. } if resting.contains(repository))
            && self
                .scanner
                .last(repository)
                .is_ok_and(|known| known.is_none())
    }

    async fn scan_one(
        &self,
        repository: &Repository,
        rescan: &Rescan,
        now: Timestamp,
    ) -> Result<Scan, ScanError> {
        let config = self.scanner.registries.config(repository);
        if !config.allowed_repositories.is_empty()
            && !config.allowed_repositories.contains(&self.config.name)
        {
            return Err(ScanError::Forbidden {
                repository: repository.clone(),
                prefix: config.prefix.clone(),
                config: self.config.name.clone(),
            });
        }
        if let Rescan::Only { due, .. } = rescan
            && !due.contains(repository)
            && let Some((mut scan, _)) = self.scanner.last(repository)?
        {
            let confirmed = self
                .confirmed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(details) = confirmed.get(repository) {
                (scan.details, scan.remembered) = (details.clone(), true);
            }
            return Ok(scan);
        }
        self.scanner.scan(repository, now).await
    }
}

/// What a pass leaves for those until the next scan: the tags that the registry has confirmed.
pub(super) fn confirmed(
    (repository, scan): (Repository, Scan),
) -> Option<(Repository, HashMap<String, Details>)> {
    let fresh: HashMap<String, Details> = scan
        .details
        .into_iter()
        .filter(|(_, details)| details.fresh)
        .collect();
    (1..=MOST_CONFIRMED)
        .contains(&fresh.len())
        .then_some((repository, fresh))
}

/// Forgets what earlier passes have confirmed for the policies of an Environment; says whether
/// there was something.
pub(super) fn doubt(local: &Local<'_>, scans: &mut Scans) -> bool {
    let mut any = false;
    for present in local.policies.values() {
        if let Some(scan) = scans
            .get_mut(&present.policy.image)
            .filter(|scan| scan.remembered)
        {
            (scan.remembered, any) = (false, true);
            scan.details.clear();
        }
    }
    any
}
