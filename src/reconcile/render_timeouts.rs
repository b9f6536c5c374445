//! The back-offs of renderings that took too long, by their inputs.
//!
//! A repository may get a commit each minute. A chart that is too slow, and that no commit touches,
//! waits for its back-off nevertheless, and takes no slot before.

use super::render_stage::{RenderFailure, TIMEOUT_RETRY, back_off};
use crate::io::render::InputsKey;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;

/// Inputs that are remembered; beyond it, those whose attempt is due the soonest are forgotten.
const LIMIT: usize = 4096;

/// The renderings that took too long.
#[derive(Debug, Default)]
pub(super) struct RenderTimeouts {
    by_inputs: Mutex<HashMap<InputsKey, TimedOut>>,
}

#[derive(Debug)]
struct TimedOut {
    failures: u32,
    due: Instant,
    failure: RenderFailure,
}

impl RenderTimeouts {
    /// Returns the failure of these inputs and the time of the next attempt, if that is later.
    pub(super) fn pending(
        &self,
        inputs: InputsKey,
        now: Instant,
    ) -> Option<(RenderFailure, Instant)> {
        let by_inputs = self.lock();
        let found = by_inputs.get(&inputs).filter(|found| now < found.due)?;
        Some((found.failure.clone(), found.due))
    }

    /// Notes the end of a rendering; returns the time of the next attempt after a time-out.
    pub(super) fn ended(
        &self,
        inputs: InputsKey,
        failure: Option<&RenderFailure>,
        now: Instant,
    ) -> Option<Instant> {
        let mut by_inputs = self.lock();
        let timed_out = failure.and_then(|failure| {
            let first = failure.retry.filter(|first| *first >= TIMEOUT_RETRY)?;
            Some((failure, first))
        });
        let Some((failure, first)) = timed_out else {
            by_inputs.remove(&inputs);
            return None;
        };
        let failures = by_inputs.get(&inputs).map_or(0, |found| found.failures) + 1;
        let due = now + back_off(first, failures);
        let failure = failure.clone();
        by_inputs.insert(
            inputs,
            TimedOut {
                failures,
                due,
                failure,
            },
        );
        if by_inputs.len() > LIMIT {
            let soonest = by_inputs.iter().min_by_key(|(_, found)| found.due);
            if let Some(inputs) = soonest.map(|(inputs, _)| *inputs) {
                by_inputs.remove(&inputs);
            }
        }
        Some(due)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InputsKey, TimedOut>> {
        self.by_inputs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Message;
    use std::time::Duration;

    fn slow() -> RenderFailure {
        RenderFailure {
            message: Message::application("it took longer than 60 s".to_owned()),
            retry: Some(TIMEOUT_RETRY),
        }
    }

    #[test]
    fn timeout_backs_off_across_revisions() {
        let (timeouts, start) = (RenderTimeouts::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(timeouts.pending([1; 32], at(0)), None);
        assert_eq!(timeouts.ended([1; 32], Some(&slow()), at(0)), Some(at(300)));
        // A later revision with the same inputs waits; other inputs do not.
        assert_eq!(timeouts.pending([1; 32], at(60)), Some((slow(), at(300))));
        assert_eq!(timeouts.pending([2; 32], at(60)), None);
        assert_eq!(timeouts.pending([1; 32], at(300)), None);
        assert_eq!(
            timeouts.ended([1; 32], Some(&slow()), at(300)),
            Some(at(900))
        );
        assert_eq!(timeouts.pending([1; 32], at(899)), Some((slow(), at(900))));
        // A result ends it.
        assert_eq!(timeouts.ended([1; 32], None, at(900)), None);
        assert_eq!(
            timeouts.ended([1; 32], Some(&slow()), at(900)),
            Some(at(1200))
        );
    }

    #[test]
    fn timeouts_are_bounded() {
        let (timeouts, now) = (RenderTimeouts::default(), Instant::now());
        for number in 0..LIMIT + 10 {
            let mut inputs = [0; 32];
            inputs[..8].copy_from_slice(&number.to_le_bytes());
            timeouts.ended(inputs, Some(&slow()), now);
        }
        assert_eq!(timeouts.lock().len(), LIMIT);
    }
}
