//! Connections to a remote: options of its client, redirects, bounds.

use super::{GitTimeout, Remote, bounded_http::BoundedHttp, is_http};
use crate::io::git::error::{GitError, chain};
use gix::bstr::ByteSlice;
use gix_transport::client::{
    TransportWithoutIO as _,
    blocking_io::{Transport, connect, http, ssh},
};
use reqwest::Url;
use std::sync::{Arc, Mutex, PoisonError};

impl Remote {
    /// Opens a transport that is set up to the last option; nothing has been sent yet.
    pub(crate) fn transport(
        &self,
        version: gix_transport::Protocol,
    ) -> Result<Box<dyn Transport + Send>, GitError> {
        // What an earlier connection was refused explains no failure of this one.
        self.refused_redirect.take();
        if self.url.scheme == gix::url::Scheme::File
            && !gix::path::from_bstr(self.url.path.as_bstr()).is_ok_and(|path| path.is_dir())
        {
            return Err(GitError::Denied {
                remote: self.shown.clone(),
                doing: "connect",
                why: "there is no such folder".into(),
            });
        }
        if is_http(&self.url) {
            return self.http_transport(version);
        }
        if self.url.scheme == gix::url::Scheme::Ssh {
            return Ok(Box::new(self.ssh_transport(version)?));
        }
        connect::connect(
            self.url.clone(),
            connect::Options {
                version,
                ssh: ssh::connect::Options::default(),
                trace: false,
            },
        )
        .map_err(|error| self.wire("connect", &error))
    }

    fn http_transport(
        &self,
        version: gix_transport::Protocol,
    ) -> Result<Box<dyn Transport + Send>, GitError> {
        let client = BoundedHttp::new(self.access.timeout.0);
        let mut transport = http::Transport::new_http(client, self.url.clone(), version, false);
        transport
            .configure(&self.http_options()?)
            .map_err(|error| self.wire("connect", &error))?;
        if let Some(account) = self.access.credentials.account() {
            transport
                .set_identity(account)
                .map_err(|error| self.wire("connect", &gix::Error::from_error(error)))?;
        }
        Ok(Box::new(transport))
    }

    /// The same options once more, for gix's fetch: it configures the transport a second time.
    pub(crate) fn http_options(&self) -> Result<http::Options, GitError> {
        let roots = match &self.access.ca_file {
            None => Vec::new(),
            Some(file) => {
                let wrong = |why: String| GitError::File {
                    remote: self.shown.clone(),
                    what: "CA file",
                    file: file.clone(),
                    why,
                };
                let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
                let roots = reqwest::Certificate::from_pem_bundle(&pem)
                    .map_err(|error| wrong(chain(&error)))?;
                if roots.is_empty() {
                    return Err(wrong("holds no certificate".into()));
                }
                roots
            }
        };
        let proxy = match &self.access.proxy {
            None => None,
            Some(url) => Some(reqwest::Proxy::all(url).map_err(|_| GitError::Remote {
                remote: self.shown.clone(),
                why: "its proxy is no URL".into(),
            })?),
        };
        let GitTimeout(timeout) = self.access.timeout;
        let redirects = self.redirect_guard();
        let configure = move |builder: reqwest::blocking::ClientBuilder| {
            let builder = builder
                .connect_timeout(timeout)
                .timeout(timeout)
                .tls_certs_merge(roots.clone())
                .referer(false)
                .no_proxy()
                .proxy(redirects.clone());
            Ok(match &proxy {
                Some(proxy) => builder.proxy(proxy.clone()),
                None => builder,
            })
        };
        let backend = http::reqwest::Options {
            configure_client: Some(Box::new(configure)),
            configure_request: None,
        };
        Ok(http::Options {
            backend: Some(Arc::new(Mutex::new(backend))),
            ..http::Options::default()
        })
    }

    /// Keeps requests from hosts that a redirect must not lead to.
    ///
    /// gix replaces the redirect policy of its client, so the guard sits where each connection
    /// begins: as the first proxy. It takes no request of an allowed host. A request to any other
    /// host gets a proxy that no one can connect to.
    fn redirect_guard(&self) -> reqwest::Proxy {
        let origin = Url::parse(&self.url.to_bstring().to_string()).ok();
        let allowed = self.access.allow_redirects_to.clone();
        let refused = self.refused_redirect.clone();
        reqwest::Proxy::custom(move |url| {
            let is_allowed = origin
                .as_ref()
                .is_some_and(|origin| is_redirect_allowed(origin, url, &allowed));
            if is_allowed {
                return None;
            }
            refused.set(authority(url));
            Some(UNREACHABLE)
        })
    }
}

/// A proxy address without a listener: nothing listens on port 0.
const UNREACHABLE: &str = "http://127.0.0.1:0";

/// The host of a refused redirect, until it is reported.
#[derive(Debug, Clone, Default)]
pub(super) struct RefusedRedirect(Arc<Mutex<Option<String>>>);

impl RefusedRedirect {
    fn set(&self, host: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(host);
    }

    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Tells whether a request may go to a URL: to the configured server, also from http to https, or
/// to a host that the settings allow.
fn is_redirect_allowed(origin: &Url, url: &Url, allowed: &[String]) -> bool {
    let ports = (origin.port_or_known_default(), url.port_or_known_default());
    let is_upgrade = origin.scheme() == "http" && url.scheme() == "https";
    let is_same_server = origin.host_str() == url.host_str()
        && (ports.0 == ports.1 || (is_upgrade && ports == (Some(80), Some(443))));
    let named = authority(url);
    is_same_server
        || allowed.iter().any(|host| {
            host.eq_ignore_ascii_case(&named)
                || (url.port().is_none()
                    && url
                        .host_str()
                        .is_some_and(|name| host.eq_ignore_ascii_case(name)))
        })
}

/// Returns host and port of a URL; the host alone with the usual port.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_redirect_ends_with_its_connection() {
        let access = super::super::RemoteAccess::default();
        let remote = Remote::new("file:///missing/fleet.git", Some("main"), access).unwrap();
        let shared = remote.clone();
        shared.refused_redirect.set("elsewhere.example.org".into());
        let error = remote.transport(gix_transport::Protocol::V2);
        assert!(matches!(error, Err(GitError::Denied { .. })));
        assert_eq!(shared.refused_redirect.take(), None);
    }

    #[test]
    fn redirect_hosts_table() {
        let origin = |text: &str| Url::parse(text).unwrap();
        let allowed = [
            "mirror.example.net".to_owned(),
            "Git.example.net:8443".to_owned(),
        ];
        for (from, to, expected) in [
            ("https://example.org/a", "https://example.org/b", true),
            ("https://example.org/a", "https://example.org:443", true),
            ("http://example.org/a", "https://example.org", true),
            (
                "http://example.org:8080/a",
                "https://example.org:8080",
                true,
            ),
            ("http://example.org:8080/a", "https://example.org", false),
            ("https://example.org/a", "https://example.org:8443", false),
            ("https://example.org/a", "https://example.com", false),
            ("https://example.org/a", "https://mirror.example.net", true),
            (
                "https://example.org/a",
                "https://mirror.example.net:8443",
                false,
            ),
            (
                "https://example.org/a",
                "https://git.example.net:8443",
                true,
            ),
            ("https://example.org/a", "https://git.example.net", false),
            ("https://example.org/a", "http://169.254.169.254", false),
        ] {
            let found = is_redirect_allowed(&origin(from), &origin(to), &allowed);
            assert_eq!(found, expected, "{from} {to}");
        }
    }
}
