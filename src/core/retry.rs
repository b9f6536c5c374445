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
    fn jitter_stays_below_its_limit() {
        for _ in 0..100 {
            assert!(jitter(Duration::from_millis(50)) < Duration::from_millis(50));
        }
        assert_eq!(jitter(Duration::ZERO), Duration::ZERO);
    }
}
