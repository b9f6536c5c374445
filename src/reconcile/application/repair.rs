//! Back-off of drift repairs.

use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// Delays of repeated repairs of one field. Without them, two tools that set the same field would
/// overwrite each other for ever, unnoticed.
const DELAYS: [Duration; 3] = [
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(600),
];

/// The time after a delay in which another change of the field counts as the same conflict.
const CONFLICT_WINDOW: Duration = Duration::from_secs(600);

/// Fields of one object whose repairs are counted one by one; further fields count as one.
const COUNTED_FIELDS: usize = 8;

/// The object as a whole, as a field.
pub(super) const WHOLE: &str = "/";

/// The existence of the object, as a field.
pub(super) const EXISTENCE: &str = "";

/// The owner labels, as a field.
pub(super) const OWNER_LABELS: &str = "/metadata/labels";

/// The repairs of one object, by field.
#[derive(Debug, Default)]
pub(crate) struct RepairBackoff(BTreeMap<String, RepairLog>);

#[derive(Debug, Clone, Copy)]
struct RepairLog {
    /// Repairs in a row.
    repairs: usize,
    last: Instant,
}

impl RepairLog {
    /// Returns whether another change now continues the same conflict.
    fn continues(&self, now: Instant) -> bool {
        now.duration_since(self.last) < CONFLICT_WINDOW + DELAYS[2]
    }
}

impl RepairBackoff {
    /// Returns when changed fields may be repaired: at once, unless they change repeatedly.
    pub(crate) fn due(before: Option<&Self>, fields: &[&str], now: Instant) -> Instant {
        let due = |field: &&str| {
            let log = before?
                .0
                .get(before?.counted_as(field, now))
                .filter(|log| log.continues(now))?;
            Some(log.last + DELAYS[(log.repairs - 1).min(DELAYS.len() - 1)])
        };
        fields.iter().filter_map(due).max().unwrap_or(now)
    }

    /// Returns whether a repair of the field would continue a conflict.
    pub(crate) fn is_repeated(&self, field: &str, now: Instant) -> bool {
        self.0
            .get(self.counted_as(field, now))
            .is_some_and(|log| log.continues(now))
    }

    pub(crate) fn record(&mut self, fields: &[&str], now: Instant) {
        self.0.retain(|_, log| log.continues(now));
        let mut counted: Vec<&str> = fields
            .iter()
            .map(|field| self.counted_as(field, now))
            .collect();
        counted.sort_unstable();
        counted.dedup();
        for field in counted {
            let log = self.0.entry(field.to_owned()).or_insert(RepairLog {
                repairs: 0,
                last: now,
            });
            log.repairs += 1;
            log.last = now;
        }
    }

    /// Returns the name under which repairs of a field are counted: its own while there are few.
    fn counted_as<'f>(&self, field: &'f str, now: Instant) -> &'f str {
        let is_counted = self.0.get(field).is_some_and(|log| log.continues(now));
        let others = self
            .0
            .iter()
            .filter(|(name, log)| *name != WHOLE && log.continues(now))
            .count();
        if is_counted || others < COUNTED_FIELDS {
            field
        } else {
            WHOLE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many seconds each of a sequence of changes stands before its repair.
    fn delays(changes: &[&[&str]]) -> Vec<u64> {
        let mut backoff = RepairBackoff::default();
        let mut now = Instant::now();
        let mut delays = Vec::new();
        for fields in changes {
            let due = RepairBackoff::due(Some(&backoff), fields, now).max(now);
            delays.push(due.duration_since(now).as_secs());
            now = due;
            backoff.record(fields, now);
        }
        delays
    }

    #[test]
    fn repair_same_field_backs_off_by_field() {
        assert_eq!(
            delays(&[&["/a"], &["/a"], &["/a"], &["/a"], &["/a"]]),
            [0, 10, 60, 600, 600]
        );
        // Alternating fields do not escape the back-off.
        assert_eq!(
            delays(&[&["/a"], &["/b"], &["/a"], &["/b"], &["/a"], &["/b"]])[..4],
            [0, 0, 10, 0]
        );
        let alternating: Vec<&[&str]> = (0..60)
            .map(|change| {
                if change % 2 == 0 {
                    &["/a"][..]
                } else {
                    &["/b"][..]
                }
            })
            .collect();
        assert!(delays(&alternating).iter().sum::<u64>() > 10_000);
        // Fields that changed together are repaired together, when the slower one is due.
        assert_eq!(
            delays(&[&["/a"], &["/a"], &["/b", "/a"], &["/b"]]),
            [0, 10, 60, 10]
        );
        // Deletion and change are two conflicts.
        assert_eq!(delays(&[&[EXISTENCE], &["/a"], &[EXISTENCE]]), [0, 0, 10]);
    }

    #[test]
    fn repair_many_fields_count_as_one() {
        let names: Vec<String> = (0..60).map(|number| format!("/{number}")).collect();
        let names: Vec<[&str; 1]> = names.iter().map(|name| [name.as_str()]).collect();
        let many: Vec<&[&str]> = names.iter().map(|name| &name[..]).collect();
        assert_eq!(
            delays(&many)[..12],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 60, 600]
        );
    }

    #[test]
    fn repair_after_quiet_time_is_immediate() {
        let mut backoff = RepairBackoff::default();
        let now = Instant::now();
        backoff.record(&["/a"], now);
        backoff.record(&["/a"], now);
        assert_eq!(
            RepairBackoff::due(Some(&backoff), &["/a"], now),
            now + DELAYS[1]
        );
        let later = now + CONFLICT_WINDOW + DELAYS[2];
        assert_eq!(RepairBackoff::due(Some(&backoff), &["/a"], later), later);
        (0..100).for_each(|number| backoff.record(&[&format!("/{number}")], later));
        assert!(backoff.0.len() <= COUNTED_FIELDS + 1, "{backoff:?}");
        assert_eq!(RepairBackoff::due(None, &["/a"], now), now);
    }
}
