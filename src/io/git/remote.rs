//! The remote of a repository: URL, credentials, TLS, ssh.

mod bounded_http;
mod bounds;
mod ssh;
mod transport;
mod wire_error;

use super::error::{GitError, plain};
use crate::core::secret::Secret;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};
use transport::RefusedRedirect;

/// A branch of a repository on a server (or in a folder).
#[derive(Debug, Clone)]
pub struct Remote {
    url: gix::Url,
    shown: String,
    /// True if the branch is the one that the remote's HEAD names.
    follows_head: bool,
    /// Empty until the first fetch, if it is.
    branch: Arc<OnceLock<String>>,
    access: RemoteAccess,
    refused_redirect: RefusedRedirect,
}

/// Access to a remote. Git's own configuration and the environment are ignored: a proxy is set here
/// or there is none.
#[derive(Debug, Clone, Default)]
pub struct RemoteAccess {
    pub credentials: RemoteCredentials,
    /// A PEM file of certificate authorities in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// The URL of a proxy for http and https.
    pub proxy: Option<String>,
    /// Other hosts that the server may redirect to: `HOST`, or `HOST:PORT`.
    pub allow_redirects_to: Vec<String>,
    pub ssh: SshCommand,
    /// The time limit of each step: connecting, and each wait for a response or for more bytes.
    pub timeout: GitTimeout,
}

/// The credentials for an HTTP server. They are sent to the URL's own scheme, host and port only,
/// never to the target of a redirect.
#[derive(Debug, Clone, Default)]
pub enum RemoteCredentials {
    #[default]
    None,
    /// A user name with a password or token.
    Basic {
        username: String,
        /// The password or token.
        secret: Secret,
    },
    /// A token alone. It is sent as the password of the URL's user, or of `x-access-token` where
    /// the URL names none, which is what GitHub, GitLab, Gitea and Forgejo take.
    Token(Secret),
}

/// The command line of the `ssh` program. The host key must be known: there is no trust on first
/// use.
#[derive(Debug, Clone, Default)]
pub struct SshCommand {
    /// The program; `ssh` on the path by default.
    pub program: Option<PathBuf>,
    /// The private key; the user's own configuration decides without it.
    pub identity: Option<PathBuf>,
    /// The known hosts; the user's own file without it.
    pub known_hosts: Option<PathBuf>,
}

/// The time limit of one step; 60 s by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GitTimeout(pub Duration);

impl Default for GitTimeout {
    fn default() -> Self {
        Self(Duration::from_secs(60))
    }
}

impl Remote {
    /// Checks the URL: `https://`, `http://`, `ssh://`, `user@host:path`, `file://` or an absolute
    /// path. A user and password inside it become [`RemoteCredentials::Basic`] if `access` has
    /// none. Without a branch, that of the remote's HEAD is followed.
    ///
    /// # Errors
    /// [`GitError::Remote`] for any other scheme (`git://` authenticates neither side), a relative
    /// path, and an invalid branch name.
    pub fn new(
        url: &str,
        branch: Option<&str>,
        mut access: RemoteAccess,
    ) -> Result<Self, GitError> {
        let mut parsed = gix::url::parse(url).map_err(|_| GitError::Remote {
            remote: plain(without_password(url)),
            why: "is no URL that Git knows".into(),
        })?;
        let password = parsed.password().map(str::to_owned);
        parsed.set_password(None);
        if let (Some(username), Some(secret), RemoteCredentials::None) =
            (parsed.user(), password, &access.credentials)
        {
            access.credentials = RemoteCredentials::Basic {
                username: username.to_owned(),
                secret: Secret::new(secret),
            };
        }
        if is_http(&parsed)
            && let Some(username) = parsed.user().map(str::to_owned)
        {
            parsed.set_user(None);
            if let RemoteCredentials::Token(secret) = access.credentials {
                access.credentials = RemoteCredentials::Basic { username, secret };
            }
        }
        let shown = plain(&parsed.to_bstring().to_string());
        let refused = |why: &str| {
            Err(GitError::Remote {
                remote: shown.clone(),
                why: why.into(),
            })
        };
        match &parsed.scheme {
            gix::url::Scheme::Https | gix::url::Scheme::Http | gix::url::Scheme::Ssh => {
                if parsed.host().is_none_or(str::is_empty) {
                    return refused("names no host");
                }
            }
            gix::url::Scheme::File => {
                if parsed.host().is_some() || !parsed.path.starts_with(b"/") {
                    return refused("must be an absolute path");
                }
            }
            _ => return refused("must be https, http, ssh or file"),
        }
        if let Some(branch) = branch.filter(|branch| !is_branch_name(branch)) {
            return refused(&format!(
                "{} is no branch name",
                crate::core::image::shown(branch)
            ));
        }
        let named = branch.map(|branch| OnceLock::from(branch.to_owned()));
        Ok(Self {
            url: parsed,
            shown,
            follows_head: branch.is_none(),
            branch: Arc::new(named.unwrap_or_default()),
            access,
            refused_redirect: RefusedRedirect::default(),
        })
    }

    /// The URL for people: without user and password.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The branch, as `main`; `HEAD` until the first fetch has named the default branch.
    pub fn branch(&self) -> &str {
        self.branch.get().map_or("HEAD", String::as_str)
    }

    /// The branch in full, as `refs/heads/main`.
    pub fn reference(&self) -> String {
        format!("refs/heads/{}", self.branch())
    }

    /// The reference that is fetched: that of the branch, or HEAD.
    pub(crate) fn source(&self) -> String {
        if self.follows_head {
            "HEAD".to_owned()
        } else {
            self.reference()
        }
    }

    /// Takes the target of the remote's HEAD for the branch, if HEAD is followed.
    ///
    /// # Errors
    /// If HEAD is detached, its target is no branch, or another one than at the first fetch: work
    /// on the old branch may be under way.
    pub(crate) fn set_default_branch(&self, target: Option<&[u8]>) -> Result<(), GitError> {
        if !self.follows_head {
            return Ok(());
        }
        let refused = |why: String| {
            Err(GitError::Remote {
                remote: self.shown.clone(),
                why,
            })
        };
        let name = target
            .and_then(|target| std::str::from_utf8(target).ok())
            .and_then(|target| target.strip_prefix("refs/heads/"))
            .filter(|name| is_branch_name(name));
        let Some(name) = name else {
            return refused("its HEAD names no branch; write `branch` in tagboat.yaml".to_owned());
        };
        let branch = self.branch.get_or_init(|| name.to_owned());
        if branch == name {
            return Ok(());
        }
        refused(format!(
            "its default branch was {} and is now {}; restart tagboat to follow it",
            plain(branch),
            plain(name)
        ))
    }

    /// The URL as gix wants it: without credentials.
    pub(crate) fn url(&self) -> &gix::Url {
        &self.url
    }
}

impl RemoteCredentials {
    fn account(&self) -> Option<gix::sec::identity::Account> {
        let (username, secret) = match self {
            Self::None => return None,
            Self::Basic { username, secret } => (username.as_str(), secret),
            Self::Token(secret) => ("x-access-token", secret),
        };
        Some(gix::sec::identity::Account {
            username: username.to_owned(),
            password: secret.expose().to_owned(),
            oauth_refresh_token: None,
        })
    }
}

impl RemoteAccess {
    /// Returns the ssh program and its options. `BatchMode`, because no user is there to answer a
    /// prompt; `ServerAlive…`, so that a dead connection ends within the timeout.
    fn ssh_command(&self) -> (OsString, Vec<OsString>) {
        let program = self.ssh.program.as_deref().unwrap_or(Path::new("ssh"));
        let seconds = self.timeout.0.as_secs().max(1);
        let mut arguments: Vec<OsString> = [
            "-oBatchMode=yes".to_owned(),
            "-oStrictHostKeyChecking=yes".to_owned(),
            format!("-oConnectTimeout={seconds}"),
            format!("-oServerAliveInterval={}", (seconds / 3).max(1)),
            "-oServerAliveCountMax=3".to_owned(),
        ]
        .map(Into::into)
        .into();
        if let Some(identity) = &self.ssh.identity {
            arguments.extend(["-oIdentitiesOnly=yes", "-i"].map(Into::into));
            arguments.push(identity.into());
        }
        if let Some(hosts) = &self.ssh.known_hosts {
            arguments.push("-oGlobalKnownHostsFile=/dev/null".into());
            // The value is ssh's own list syntax, where a double quote groups.
            let hosts = format!("-oUserKnownHostsFile=\"{}\"", hosts.display());
            arguments.push(hosts.into());
        }
        (program.into(), arguments)
    }
}

fn is_branch_name(branch: &str) -> bool {
    gix::validate::reference::name(format!("refs/heads/{branch}").as_str().into()).is_ok()
}

fn is_http(url: &gix::Url) -> bool {
    matches!(url.scheme, gix::url::Scheme::Https | gix::url::Scheme::Http)
}

/// Strips the part of text like a URL that could contain a password.
fn without_password(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_url_is_checked_and_shown_without_secret() {
        for (url, shown) in [
            (
                "https://bot:hunter2@example.org/fleet.git",
                Ok("https://example.org/fleet.git"),
            ),
            (
                "http://127.0.0.1:8080/fleet.git",
                Ok("http://127.0.0.1:8080/fleet.git"),
            ),
            (
                "ssh://git@example.org:2222/fleet.git",
                Ok("ssh://git@example.org:2222/fleet.git"),
            ),
            ("git@example.org:fleet.git", Ok("git@example.org:fleet.git")),
            ("file:///srv/fleet.git", Ok("file:///srv/fleet.git")),
            ("/srv/fleet.git", Ok("/srv/fleet.git")),
            (
                "git://example.org/fleet.git",
                Err("must be https, http, ssh or file"),
            ),
            ("../fleet.git", Err("must be an absolute path")),
            ("ext::sh -c true", Err("must be")),
            ("", Err("is no URL")),
        ] {
            match (
                Remote::new(url, Some("main"), RemoteAccess::default()),
                shown,
            ) {
                (Ok(remote), Ok(shown)) => {
                    assert_eq!(remote.shown(), shown);
                    assert!(!format!("{remote:?}").contains("hunter2"));
                }
                (Err(error), Err(why)) => {
                    assert!(error.to_string().contains(why), "{url}: {error}")
                }
                (result, _) => panic!("{url}: {result:?}"),
            }
        }
        for branch in ["", "a b", "a..b", "-x/", "x\n", "/x"] {
            assert!(
                Remote::new("/srv/x", Some(branch), RemoteAccess::default()).is_err(),
                "{branch:?}"
            );
        }
    }

    #[test]
    fn remote_default_branch_is_the_target_of_head() {
        let remote = || Remote::new("/srv/x", None, RemoteAccess::default()).unwrap();
        for target in [
            None,
            Some("refs/tags/v1"),
            Some("refs/heads/a..b"),
            Some("x"),
        ] {
            let error = remote()
                .set_default_branch(target.map(str::as_bytes))
                .unwrap_err();
            assert!(
                error.to_string().contains("its HEAD names no branch"),
                "{error}"
            );
        }
        let remote = remote();
        assert_eq!(
            (remote.branch(), remote.source().as_str()),
            ("HEAD", "HEAD")
        );
        let shared = remote.clone();
        remote
            .set_default_branch(Some(b"refs/heads/release/1"))
            .unwrap();
        assert_eq!(shared.reference(), "refs/heads/release/1");
        assert_eq!(shared.source(), "HEAD");
        let error = remote
            .set_default_branch(Some(b"refs/heads/main"))
            .unwrap_err();
        assert!(
            error.to_string().contains("was release/1 and is now main"),
            "{error}"
        );
        let named = Remote::new("/srv/x", Some("main"), RemoteAccess::default()).unwrap();
        named.set_default_branch(Some(b"refs/heads/other")).unwrap();
        assert_eq!(named.source(), "refs/heads/main");
    }

    #[test]
    fn remote_token_uses_the_user_of_the_url() {
        let token = || RemoteAccess {
            credentials: RemoteCredentials::Token(Secret::new("t")),
            ..RemoteAccess::default()
        };
        for (url, username) in [
            ("https://x-token-auth@example.org/a", "x-token-auth"),
            ("https://example.org/a", "x-access-token"),
        ] {
            let account = Remote::new(url, Some("main"), token())
                .unwrap()
                .access
                .credentials
                .account()
                .unwrap();
            assert_eq!(
                (account.username.as_str(), account.password.as_str()),
                (username, "t")
            );
        }
    }

    #[test]
    fn remote_ssh_files_are_single_arguments() {
        let ssh = SshCommand {
            program: None,
            identity: Some("/tmp/it's $HOME".into()),
            known_hosts: Some("/tmp/a b".into()),
        };
        let access = RemoteAccess {
            ssh,
            ..RemoteAccess::default()
        };
        let (program, arguments) = access.ssh_command();
        assert_eq!(program, "ssh");
        let arguments: Vec<&str> = arguments.iter().filter_map(|one| one.to_str()).collect();
        for expected in [
            "-oStrictHostKeyChecking=yes",
            "/tmp/it's $HOME",
            "-oUserKnownHostsFile=\"/tmp/a b\"",
        ] {
            assert!(arguments.contains(&expected), "{arguments:?}");
        }
    }
}
