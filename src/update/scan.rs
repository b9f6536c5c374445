//! Facts for a pass: every repository is listed once, and between its scans nothing is asked again.

use super::{
    EnvironmentScope, FailureReport, ImageUpdater, MOST_CONFIRMED, PassReport, PassState, Rescan,
    SCANS, Scans,
};
use crate::{
    core::image::ImageRepository,
    images::policy::TagFacts,
    io::facts::{RepositoryScan, ScanError},
};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use std::{
    collections::{BTreeSet, HashMap},
    sync::PoisonError,
};

impl ImageUpdater {
    /// Lists the tags of every repository that has references, each once in a pass.
    pub(crate) async fn scan(
        &self,
        locals: &[EnvironmentScope<'_>],
        pass: &mut PassState<'_>,
        report: &mut PassReport,
    ) {
        let (rescan, now) = (pass.rescan, pass.now);
        let known = |repository: &ImageRepository| {
            pass.scans.contains_key(repository) || pass.failed.contains(repository)
        };
        let wanted: BTreeSet<ImageRepository> = locals
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
        let results: Vec<(ImageRepository, Result<RepositoryScan, ScanError>)> =
            stream::iter(wanted)
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
    fn rests(&self, repository: &ImageRepository, rescan: &Rescan) -> bool {
        matches!(rescan, Rescan::Only { resting, .. } if resting.contains(repository))
            && self
                .scanner
                .last(repository)
                .is_ok_and(|known| known.is_none())
    }

    async fn scan_one(
        &self,
        repository: &ImageRepository,
        rescan: &Rescan,
        now: Timestamp,
    ) -> Result<RepositoryScan, ScanError> {
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

/// Forgets what earlier passes have confirmed for the policies of an Environment; says whether
/// there was something.
pub(crate) fn doubt(local: &EnvironmentScope<'_>, scans: &mut Scans) -> bool {
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
