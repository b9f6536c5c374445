//! Exponential back-off.

use std::time::Duration;

/// Returns the wait before the next attempt, doubled after each failure up to `cap`.
///
/// `failures` counts the failures in a row, from 1.
pub fn delay(failures: u32, first: Duration, cap: Duration) -> Duration {
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
    first.saturating_mul(factor).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_many_failures_doubles_up_to_the_cap() {
        let seconds = |failures| delay(failures, Duration::from_secs(1), Duration::from_secs(300));
        let waits: Vec<u64> = [0, 1, 2, 3, 9, 10, 40, u32::MAX]
            .map(|failures| seconds(failures).as_secs())
            .to_vec();
        assert_eq!(waits, [1, 1, 2, 4, 256, 300, 300, 300]);
    }
}
