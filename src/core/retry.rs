//! Back-off: how long to wait before an attempt is repeated.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    time::Duration,
};

/// Returns the back-off after a number of failures in a row: `first`, doubled with each, at most
/// `cap`.
///
/// Zero failures count as one.
pub fn delay(failures: u32, first: Duration, cap: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    first.saturating_mul(1 << doublings).min(cap)
}

/// Returns the back-offs before repeated attempts: `first`, doubled each time up to 128 times
/// `first`, each ±50 %.
pub fn backoffs(first: Duration, repetitions: u32) -> Backoffs {
    Backoffs {
        first,
        repetitions,
        done: 0,
    }
}

/// An iterator of [`backoffs`].
#[derive(Debug)]
pub struct Backoffs {
    first: Duration,
    repetitions: u32,
    done: u32,
}

impl Iterator for Backoffs {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.done == self.repetitions {
            return None;
        }
        self.done += 1;
        let wait = delay(self.done, self.first, self.first.saturating_mul(128));
        Some(wait / 2 + jitter(wait))
    }
}

/// Returns a random duration below `limit`, so that clients that collided do not collide again.
///
/// The seed of a hasher is random enough for that.
pub fn jitter(limit: Duration) -> Duration {
    let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(RandomState::new().build_hasher().finish() % nanos.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_doubles_up_to_the_cap() {
        let seconds =
            |failures| delay(failures, Duration::from_secs(5), Duration::from_secs(300)).as_secs();
        let delays: Vec<u64> = [0, 1, 2, 3, 6, 7, 8, u32::MAX].map(seconds).to_vec();
        assert_eq!(delays, [5, 5, 10, 20, 160, 300, 300, 300]);
    }

    #[test]
    fn backoffs_double_within_their_jitter() {
        let waits: Vec<u64> = backoffs(Duration::from_secs(1000), 10)
            .map(|wait| wait.as_secs())
            .collect();
        assert_eq!(waits.len(), 10);
        for (index, wait) in waits.into_iter().enumerate() {
            let middle = 1000 << index.min(7);
            assert!(
                (middle / 2..=middle * 3 / 2).contains(&wait),
                "{index}: {wait}"
            );
        }
        assert_eq!(backoffs(Duration::from_secs(1), 0).next(), None);
    }

    #[test]
    fn jitter_stays_below_its_limit() {
        for _ in 0..100 {
            assert!(jitter(Duration::from_millis(50)) < Duration::from_millis(50));
        }
        assert_eq!(jitter(Duration::ZERO), Duration::ZERO);
    }
}
