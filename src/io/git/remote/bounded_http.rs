//! gix's HTTP client, within the bounds of responses.

use super::bounds::{RequestStart, ResponseBounds};
use gix_transport::client::blocking_io::http::{
    GetResponse, Http, PostBodyDataKind, PostResponse, reqwest::Remote,
};
use std::{
    any::Any,
    io::{self, BufRead, Read, Write},
    time::Duration,
};

/// gix's HTTP client with bounds on every response.
pub(super) struct BoundedHttp {
    inner: Remote,
    /// The time limit of one step.
    step: Duration,
}

/// The body of a response.
pub(super) struct BoundedBody<B> {
    inner: B,
    bounds: ResponseBounds,
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
            bounds: ResponseBounds::new(self.step, request),
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
                start: start.clone(),
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

impl<B: Read> Read for BoundedBody<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bounds.count(read)?;
        Ok(read)
    }
}

impl<B: BufRead> BufRead for BoundedBody<B> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.bounds.count(0)?;
        self.inner.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.inner.consume(bytes);
        self.bounds.add(bytes);
    }
}

impl<B: Write> Write for ObservedBody<B> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.start.observe(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
