//! Bounds of what a server sends: references and packs without an end, or byte by byte.
//!
//! gix reads capabilities and references into memory as long as the server sends any. The bounds
//! are on bytes and time of each response, below gix.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Bytes of capabilities and references. Six times as many are in memory for a moment.
const MAX_LISTING: u64 = 16 << 20;

/// Bytes of one pack.
const MAX_PACK: u64 = 4 << 30;

/// Bytes a second below which a pack is given up, on average since its first byte.
const MIN_RATE: u64 = 1024;

/// Time limits of one step, within which a listing must be complete.
const LISTING_STEPS: u32 = 2;

/// Time limits of one step, after which the rate of a pack counts: a server may need minutes to
/// compress the first clone.
const PACK_STEPS: u32 = 10;

/// The beginning of every message about a bound.
pub(super) const EXCEEDED: &str = "the server sends";

/// The bytes of a request that tell what it asks for.
const COMMAND: &[u8] = b"command=ls-refs";

/// Bytes of a request that are searched for [`COMMAND`].
const COMMAND_WITHIN: usize = 64;

/// The first bytes of a request, which tell listings from packs.
#[derive(Debug, Clone, Default)]
pub(super) struct RequestStart(Arc<Mutex<Vec<u8>>>);

impl RequestStart {
    /// Takes bytes of the request.
    pub(super) fn observe(&self, bytes: &[u8]) {
        let mut start = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = COMMAND_WITHIN.saturating_sub(start.len()).min(bytes.len());
        start.extend_from_slice(&bytes[..room]);
    }

    fn asks_for_references(&self) -> bool {
        let start = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        start.windows(COMMAND.len()).any(|part| part == COMMAND)
    }
}

/// The received part of one response, with its limits.
#[derive(Debug)]
pub(super) struct ResponseBounds {
    /// None for the advertisement, which no command asks for.
    request: Option<RequestStart>,
    /// The time limit of one step.
    step: Duration,
    begun: Instant,
    bytes: u64,
}

impl ResponseBounds {
    pub(super) fn new(step: Duration, request: Option<RequestStart>) -> Self {
        Self {
            request,
            step,
            begun: Instant::now(),
            bytes: 0,
        }
    }

    fn is_listing(&self) -> bool {
        let request = self.request.as_ref();
        request.is_none_or(RequestStart::asks_for_references)
    }

    /// Returns how long a server may send nothing at all.
    pub(super) fn longest_silence(&self) -> Duration {
        match self.is_listing() {
            true => (self.step * LISTING_STEPS).saturating_sub(self.begun.elapsed()),
            false => self.step * PACK_STEPS,
        }
    }

    /// Adds bytes; the next [`ResponseBounds::count`] fails if they are too many.
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// If they are too many or too slow.
    pub(super) fn count(&mut self, bytes: usize) -> io::Result<()> {
        self.add(bytes);
        let elapsed = self.begun.elapsed();
        let exceeded = if self.is_listing() {
            let longest = self.step * LISTING_STEPS;
            if self.bytes > MAX_LISTING {
                format!("more than {} MiB of references", MAX_LISTING >> 20)
            } else if elapsed > longest {
                format!("its references for longer than {longest:?}")
            } else {
                return Ok(());
            }
        } else if self.bytes > MAX_PACK {
            format!("more than {} GiB at once", MAX_PACK >> 30)
        } else if elapsed > self.step * PACK_STEPS
            && self.bytes / elapsed.as_secs().max(1) < MIN_RATE
        {
            format!("less than {MIN_RATE} bytes a second")
        } else {
            return Ok(());
        };
        Err(io::Error::other(format!("{EXCEEDED} {exceeded}")))
    }

    /// Returns the error about a server that was silent for [`ResponseBounds::longest_silence`].
    pub(super) fn too_slow(&self) -> io::Error {
        let longest = self.step
            * match self.is_listing() {
                true => LISTING_STEPS,
                false => PACK_STEPS,
            };
        let what = match self.is_listing() && self.bytes > 0 {
            true => "its references",
            false => "nothing",
        };
        io::Error::other(format!("{EXCEEDED} {what} for longer than {longest:?}"))
    }
}
