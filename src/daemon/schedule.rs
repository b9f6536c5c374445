//! The times of scans, and the sleep between passes.

use crate::{
    core::{image::ImageRepository, retry, schedule::Schedule},
    spec::ImagePolicy,
    update::{ImageUpdater, PassReport, Rescan},
};
use jiff::Timestamp;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// The first back-off after a failure; each further one is twice as long.
const MIN_BACK_OFF: Duration = Duration::from_secs(10);
const MAX_BACK_OFF: Duration = Duration::from_secs(600);

/// The shortest sleep between two passes, so that no clock or schedule causes a busy loop.
pub(super) const MIN_SLEEP: Duration = Duration::from_millis(200);

/// The scans of one image repository.
#[derive(Debug, Clone, Copy)]
struct ScanTimes {
    last: Timestamp,
    next: Option<Timestamp>,
}

/// The scans of all image repositories of one config repository.
#[derive(Debug, Default)]
pub(super) struct ScanQueue {
    times: HashMap<ImageRepository, ScanTimes>,
    /// Failed scans in a row.
    failures: HashMap<ImageRepository, u32>,
    /// Scans that go on beyond the last pass; their end wakes the loop.
    running: BTreeSet<ImageRepository>,
}

impl ScanQueue {
    /// Returns what to scan now: what is due, and what commands have asked for. The first pass
    /// scans everything that an earlier process has not scanned recently.
    pub(super) fn rescan<'i>(
        &'i self,
        asked: impl IntoIterator<Item = &'i ImageRepository>,
        now: Timestamp,
    ) -> Rescan {
        let is_due = |times: &ScanTimes| times.next.is_some_and(|next| next <= now);
        let due: HashSet<ImageRepository> = self
            .times
            .iter()
            .filter(|(_, times)| is_due(times))
            .map(|(repository, _)| repository)
            .chain(asked)
            .cloned()
            .collect();
        let backing_off = self
            .failures
            .keys()
            .filter(|repository| !due.contains(*repository))
            .cloned()
            .collect();
        Rescan::Only { due, backing_off }
    }

    /// Schedules the next scans from the policies of the last pass. A repository follows its
    /// shortest interval, or its back-off or the registry's `Retry-After` after a failure.
    pub(super) async fn update(
        &mut self,
        updater: &ImageUpdater,
        rescan: &Rescan,
        report: &PassReport,
        now: Timestamp,
    ) {
        self.running = report.running.clone();
        let Some(declared) = updater.repo.declared() else {
            return;
        };
        let mut policies: HashMap<&ImageRepository, Vec<&ImagePolicy>> = HashMap::new();
        for policy in declared.policies.values().filter(|policy| !policy.suspend) {
            policies.entry(&policy.image).or_default().push(policy);
        }
        self.times
            .retain(|repository, _| policies.contains_key(repository));
        self.failures
            .retain(|repository, _| policies.contains_key(repository));
        let failed: HashMap<&ImageRepository, Option<u64>> = report
            .failures
            .iter()
            .filter_map(|failure| Some((failure.repository.as_ref()?, failure.retry_after)))
            .collect();
        for (repository, policies) in policies {
            if self.running.contains(repository) {
                let unscanned = ScanTimes {
                    last: now,
                    next: None,
                };
                self.times.entry(repository.clone()).or_insert(unscanned);
                continue;
            }
            if let Some(retry_after) = failed.get(repository) {
                self.fail(repository, *retry_after, now);
                continue;
            }
            // A pass that did not reach the revision has scanned nothing.
            let was_scanned = report.revision.is_some()
                && match rescan {
                    Rescan::All => true,
                    Rescan::Only { due, .. } => due.contains(repository),
                };
            let last = match self.times.get(repository) {
                _ if was_scanned => now,
                // It waits for the end of its back-off.
                Some(_) if self.failures.contains_key(repository) => continue,
                Some(times) => times.last,
                // The time of a scan by an earlier process; the first pass scanned the others.
                None => updater
                    .scanner
                    .last(repository)
                    .await
                    .ok()
                    .flatten()
                    .map_or(now, |(_, fetched)| fetched),
            };
            self.failures.remove(repository);
            // Computed in every pass, since an interval may have changed.
            let next = policies
                .iter()
                .filter_map(|policy| {
                    let floor = updater.scanner.registries.config(repository);
                    let scan = at_least(&policy.scan, floor.minimum_interval);
                    let next = scan.next(last)?;
                    Some(spread(repository, &scan, next))
                })
                .min();
            self.times
                .insert(repository.clone(), ScanTimes { last, next });
        }
    }

    fn fail(&mut self, repository: &ImageRepository, retry_after: Option<u64>, now: Timestamp) {
        let failures = self.failures.entry(repository.clone()).or_default();
        *failures = failures.saturating_add(1);
        let wait = match retry_after {
            Some(seconds) => Duration::from_secs(seconds).max(MIN_SLEEP),
            None => back_off(*failures),
        };
        let times = ScanTimes {
            last: now,
            next: now.checked_add(wait).ok(),
        };
        self.times.insert(repository.clone(), times);
    }

    /// Returns the time of the next scan of each image repository.
    pub(super) fn next(&self) -> HashMap<ImageRepository, Timestamp> {
        let next = |(repository, times): (&ImageRepository, &ScanTimes)| {
            Some((repository.clone(), times.next?))
        };
        self.times.iter().filter_map(next).collect()
    }

    fn first(&self) -> Option<Timestamp> {
        self.times
            .iter()
            .filter(|(repository, _)| !self.running.contains(*repository))
            .filter_map(|(_, times)| times.next)
            .min()
    }
}

/// Returns a schedule whose interval is not below a floor. Cron has no line for seconds.
fn at_least(schedule: &Schedule, floor: Duration) -> Schedule {
    match schedule {
        Schedule::Every(interval) => Schedule::Every(floor.max(*interval)),
        cron => cron.clone(),
    }
}

/// Moves a scan by up to a tenth of its interval, always the same for a repository, so that a
/// thousand repositories are not scanned in the same second. Cron schedules are exact.
fn spread(repository: &ImageRepository, schedule: &Schedule, at: Timestamp) -> Timestamp {
    let Schedule::Every(interval) = schedule else {
        return at;
    };
    let mut hash = DefaultHasher::new();
    repository.hash(&mut hash);
    let tenth = u64::try_from(interval.as_millis() / 10)
        .unwrap_or(u64::MAX)
        .max(1);
    at.checked_sub(Duration::from_millis(hash.finish() % tenth))
        .unwrap_or(at)
}

/// Returns the time until the next pass: the first scan, Git poll, window or age that comes, but
/// not before the back-off of the config repository itself has passed.
pub(super) fn sleep_time(
    updater: &ImageUpdater,
    report: &PassReport,
    queue: &ScanQueue,
    failures: u32,
    now: Timestamp,
) -> Duration {
    let ages = report
        .environments
        .iter()
        .flat_map(|environment| &environment.policies)
        .filter_map(|policy| policy.free_at);
    let windows = report
        .environments
        .iter()
        .filter_map(|environment| environment.until);
    let mut sleep = updater.repo.config.interval;
    for at in queue.first().into_iter().chain(ages).chain(windows) {
        // A time in the past is due now.
        let until = Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
        sleep = sleep.min(until);
    }
    if failures > 0 {
        sleep = sleep.max(back_off(failures));
    }
    sleep.max(MIN_SLEEP)
}

/// Returns the wait after a number of failures in a row.
fn back_off(failures: u32) -> Duration {
    retry::delay(failures, MIN_BACK_OFF, MAX_BACK_OFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_up_to_ten_minutes() {
        let seconds = |failures| back_off(failures).as_secs();
        assert_eq!([1, 2, 3, 7, 100].map(seconds), [10, 20, 40, 600, 600]);
    }

    #[test]
    fn interval_is_not_below_the_floor() {
        let floor = Duration::from_secs(10);
        for (declared, expected) in [(1, 10), (10, 10), (60, 60)] {
            let schedule = at_least(&Schedule::Every(Duration::from_secs(declared)), floor);
            let Schedule::Every(interval) = schedule else {
                panic!("{schedule:?}");
            };
            assert_eq!(interval.as_secs(), expected);
        }
    }

    #[test]
    fn spread_moves_intervals_by_a_tenth_at_most() {
        let repository: ImageRepository = "ghcr.io/a/b".parse().unwrap();
        let at = Timestamp::from_second(1_000_000).unwrap();
        let moved = spread(&repository, &Schedule::Every(Duration::from_secs(600)), at);
        assert!(moved <= at && at.duration_since(moved).as_secs() <= 60);
    }
}
