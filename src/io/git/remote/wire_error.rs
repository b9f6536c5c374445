//! The meaning of what gix reports about a server.

use super::{Remote, RemoteCredentials, bounds::EXCEEDED, is_http};
use crate::io::{
    git::{
        error::{GitError, chain, plain},
        object_limit::{TOO_LARGE, is_too_large},
    },
    supervise::panic_text,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Remote {
    /// Runs the Git library on what the server sends. A panic there is an error of this remote: the
    /// library has some that a server can provoke.
    pub(crate) fn guard<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce() -> Result<T, GitError>,
    ) -> Result<T, GitError> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            Err(GitError::Wire {
                remote: self.shown.clone(),
                doing,
                why: format!(
                    "the Git library panicked on the server's response ({})",
                    panic_text(&*panic)
                ),
            })
        })
    }

    /// Classifies an error on the way to the server: access denied, or a failed connection.
    pub(crate) fn wire(&self, doing: &'static str, error: &gix::Error) -> GitError {
        let why = chain(error);
        if let Some(to) = self.refused_redirect.take() {
            return GitError::Redirected {
                remote: self.shown.clone(),
                doing,
                to: plain(&to),
            };
        }
        let unauthenticated = error.is_unauthenticated()
            || error
                .downcast_any_ref::<gix_transport::client::AuthenticationRequired>()
                .is_some();
        let remote = self.shown.clone();
        if unauthenticated {
            let why = match self.access.credentials {
                RemoteCredentials::None if is_http(&self.url) => {
                    "the server wants credentials and none are given (401)"
                }
                _ => "the credentials were not accepted (401)",
            };
            return GitError::Denied {
                remote,
                doing,
                why: why.into(),
            };
        }
        if error.is_resource_exhausted() || is_too_large(&why) {
            return GitError::Limit {
                place: format!("git remote {remote}"),
                why: TOO_LARGE.to_owned(),
            };
        }
        if let Some(at) = why.find(EXCEEDED) {
            return GitError::Wire {
                remote,
                doing,
                why: why[at..].to_owned(),
            };
        }
        for (status, text) in [("403", "forbidden (403)"), ("404", "not found (404)")] {
            if why.contains(&format!("HTTP status {status}")) {
                return GitError::Denied {
                    remote,
                    doing,
                    why: text.into(),
                };
            }
        }
        if let Some((_, cause)) = UNSUPPORTED.iter().find(|(part, _)| why.contains(part)) {
            return GitError::Remote {
                remote,
                why: (*cause).into(),
            };
        }
        if why.contains("to indicate 'smart' protocol") {
            return GitError::Wire {
                remote,
                doing,
                why: "the answer is not Git's (a web page, or a proxy's sign-in?)".into(),
            };
        }
        if why.contains("Permission denied") || why.contains("Host key verification failed") {
            return GitError::Denied { remote, doing, why };
        }
        GitError::Wire { remote, doing, why }
    }
}

/// Parts of gix's messages about servers that it cannot fetch from, and their meaning.
const UNSUPPORTED: [(&str, &str); 3] = [
    (
        "sized 64 hexadecimal characters is invalid",
        "has SHA-256 object ids; only SHA-1 repositories are supported",
    ),
    (
        "object format used by the remote is unsupported",
        "has SHA-256 object ids; only SHA-1 repositories are supported",
    ),
    (
        "\"multi_ack_detailed\"",
        "its server speaks neither Git protocol 2 nor multi_ack_detailed, of which a fetch needs one; use a mirror of it on another server",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::git::RemoteAccess;

    #[test]
    fn remote_unsupported_server_is_told_in_clear_words() {
        let remote = Remote::new("https://example.org/a", None, RemoteAccess::default()).unwrap();
        for (text, expected) in [
            (
                "Could not decode object ID: A hash sized 64 hexadecimal characters is invalid",
                "git remote https://example.org/a: has SHA-256 object ids",
            ),
            (
                "Currently we require feature \"multi_ack_detailed\", which is not supported by the server",
                "git remote https://example.org/a: its server speaks neither",
            ),
        ] {
            let error = gix::Error::from_error(std::io::Error::other(text));
            let told = remote.wire("fetch", &error);
            assert!(told.to_string().starts_with(expected), "{told}");
        }
    }
}
