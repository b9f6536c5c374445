//! Bounds of what a server sends: references and packs without an end, or byte by byte.
//!
//! gix reads capabilities and references into memory as long as the server sends any. The bounds
//! are on bytes and time of each response, below gix.

use gix_transport::client::blocking_io::http::{
    GetResponse, Http, PostBodyDataKind, PostResponse, reqwest::Remote,
};
use std::{
    any::Any,
    io::{self, BufRead, Read, Write},
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

/// gix's HTTP client with bounds on every response.
pub(super) struct BoundedHttp {
    inner: Remote,
    /// The time limit of one step.
    step: Duration,
}

/// The first bytes of a request, which tell listings from packs.
type RequestStart = Arc<Mutex<Vec<u8>>>;

/// The body of a response.
pub(super) struct BoundedBody<B> {
    inner: B,
    /// None for the advertisement, which no command asks for.
    request: Option<RequestStart>,
    step: Duration,
    begun: Instant,
    bytes: u64,
}

/// The body of a request.
pub(super) struct ObservedBody<B> {
    inner: B,
    start: RequestStart,
}

impl BoundedHttp {
    pub(super) fn new(step: Duration) -> Self {
        Self {
            inner: Remote::default(),
            step,
        }
    }

    fn bounded<B>(&self, inner: B, request: Option<RequestStart>) -> BoundedBody<B> {
        BoundedBody {
            inner,
            request,
            step: self.step,
            begun: Instant::now(),
            bytes: 0,
        }
    }
}

impl Http for BoundedHttp {
    type Headers = <Remote as Http>::Headers;
    type ResponseBody = BoundedBody<<Remote as Http>::ResponseBody>;
    type PostBody = ObservedBody<<Remote as Http>::PostBody>;

    fn get(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<GetResponse<Self::Headers, Self::ResponseBody>, gix::Error> {
        let GetResponse { headers, body } = self.inner.get(url, base_url, headers)?;
        let body = self.bounded(body, None);
        Ok(GetResponse { headers, body })
    }

    fn post(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        kind: PostBodyDataKind,
    ) -> Result<PostResponse<Self::Headers, Self::ResponseBody, Self::PostBody>, gix::Error> {
        let PostResponse {
            post_body,
            headers,
            body,
        } = self.inner.post(url, base_url, headers, kind)?;
        let start = RequestStart::default();
        Ok(PostResponse {
            post_body: ObservedBody {
                inner: post_body,
                start: Arc::clone(&start),
            },
            headers,
            body: self.bounded(body, Some(start)),
        })
    }

    fn configure(&mut self, config: &dyn Any) -> Result<(), gix::Error> {
        self.inner.configure(config)
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.inner.redirected_base_url()
    }
}

impl<B> BoundedBody<B> {
    fn is_listing(&self) -> bool {
        let asks = |start: &RequestStart| {
            let start = start.lock().unwrap_or_else(PoisonError::into_inner);
            start.windows(COMMAND.len()).any(|part| part == COMMAND)
        };
        self.request.as_ref().is_none_or(asks)
    }

    /// Adds bytes, and fails if they are too many or too slow.
    fn count(&mut self, bytes: usize) -> io::Result<()> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
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
}

impl<B: Read> Read for BoundedBody<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count(read)?;
        Ok(read)
    }
}

impl<B: BufRead> BufRead for BoundedBody<B> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.count(0)?;
        self.inner.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.inner.consume(bytes);
        // The next read fails if these were too many.
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

impl<B: Write> Write for ObservedBody<B> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        let mut start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        let room = COMMAND_WITHIN.saturating_sub(start.len()).min(written);
        start.extend_from_slice(&bytes[..room]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
