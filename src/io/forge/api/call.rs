//! A call: operation, method, URL and body.

use crate::io::forge::ForgeOperation;
use reqwest::{Method, Url, header::HeaderValue};
use serde_json::Value;

/// One call of the API.
#[derive(Clone)]
pub(crate) struct ApiCall {
    pub(super) operation: ForgeOperation,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) body: Option<Value>,
    pub(super) etag: Option<HeaderValue>,
    /// True if the call is idempotent.
    pub(super) again: bool,
}

impl ApiCall {
    pub(crate) fn get(operation: ForgeOperation, url: Url) -> Self {
        Self {
            operation,
            method: Method::GET,
            url,
            body: None,
            etag: None,
            again: true,
        }
    }

    /// Creates a call that is never retried, whatever happens to its response.
    pub(crate) fn once(
        operation: ForgeOperation,
        method: Method,
        url: Url,
        body: impl Into<Option<Value>>,
    ) -> Self {
        Self {
            operation,
            method,
            url,
            body: body.into(),
            etag: None,
            again: false,
        }
    }

    /// Creates an idempotent call, which is retried if its response is lost.
    pub(crate) fn again(
        operation: ForgeOperation,
        method: Method,
        url: Url,
        body: impl Into<Option<Value>>,
    ) -> Self {
        Self {
            again: true,
            ..Self::once(operation, method, url, body)
        }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("{} {}", self.method, self.url.path())
    }
}
