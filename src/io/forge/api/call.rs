//! A call: the operation that it belongs to, and its request.

use super::MOST_BYTES;
use crate::io::{
    forge::ForgeOperation,
    http::{HttpBody, HttpCall},
};
use reqwest::{Method, Url, header::HeaderValue};
use serde_json::Value;

/// One call of the API.
#[derive(Clone)]
pub(crate) struct ApiCall {
    pub(super) operation: ForgeOperation,
    pub(super) http: HttpCall,
}

impl ApiCall {
    pub(crate) fn get(operation: ForgeOperation, url: Url) -> Self {
        Self {
            operation,
            http: HttpCall::get(url, MOST_BYTES),
        }
    }

    /// Creates a call that is never retried, whatever happens to its response.
    pub(crate) fn once(
        operation: ForgeOperation,
        method: Method,
        url: Url,
        body: impl Into<Option<Value>>,
    ) -> Self {
        let mut call = Self::idempotent(operation, method, url, body);
        call.http.idempotent = false;
        call
    }

    /// Creates an idempotent call, which is retried if its response is lost.
    pub(crate) fn idempotent(
        operation: ForgeOperation,
        method: Method,
        url: Url,
        body: impl Into<Option<Value>>,
    ) -> Self {
        let mut call = Self::get(operation, url);
        call.http.method = method;
        call.http.body = body.into().map_or(HttpBody::Empty, HttpBody::Json);
        call
    }

    /// Makes the call conditional, if there is an ETag of an earlier response.
    pub(super) fn conditional(mut self, etag: Option<HeaderValue>) -> Self {
        self.http = self.http.conditional(etag);
        self
    }

    pub(super) fn endpoint(&self) -> String {
        format!("{} {}", self.http.method, self.http.url.path())
    }
}
