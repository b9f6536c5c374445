//! The forge of a config repository: its kind, the base URL of its API, and the project's path.

use super::{
    document::SpecReader,
    forge_kind::ForgeKind,
    plain_http::{PLAIN_HTTP, is_readable_on_the_way},
    secret_source::SecretSource,
    settings_raw::{self as raw, RawApp},
};
use url::Url;

/// A repository on a forge. `Debug` shows no secret: secrets are only referenced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgeSpec {
    pub kind: ForgeKind,
    /// The address of the API, without a slash at its end.
    pub api: Url,
    /// The address that people open, without a slash at its end: the repository is at
    /// `web/project`.
    pub web: Url,
    /// `owner/name`; on GitLab with as many groups as there are.
    pub project: String,
    pub credentials: ForgeCredentials,
}

/// The credentials for a forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForgeCredentials {
    /// None: public projects can be read.
    Anonymous,
    Token(SecretSource),
    App {
        id: u64,
        /// The id of its installation; asked for by the repository's name if none is written.
        installation: Option<u64>,
        private_key: SecretSource,
    },
}

impl ForgeSpec {
    /// Derives the forge from a repository's URL alone, for anonymous reads such as an image's
    /// source.
    pub fn of(url: &str) -> Option<Self> {
        let at = ForgeLocation::of(url)?;
        let kind = ForgeKind::guess(at.host())?;
        Some(Self {
            kind,
            api: api(kind, &at.web),
            project: project(kind, &at.path)?,
            web: at.web,
            credentials: ForgeCredentials::Anonymous,
        })
    }

    /// Returns the project at this URL, if it is on this forge: the same host and port, below the
    /// same path.
    pub fn project_at(&self, url: &str) -> Option<String> {
        let at = ForgeLocation::of(url)?;
        let same = at.web.host_str() == self.web.host_str()
            && at.web.port_or_known_default() == self.web.port_or_known_default();
        let below = self.web.path().trim_matches('/');
        let path = match below {
            "" => at.path.as_str(),
            below => at.path.strip_prefix(below)?.strip_prefix('/')?,
        };
        if same { project(self.kind, path) } else { None }
    }
}

/// The host of a repository as people open it, and the path below it.
struct ForgeLocation {
    web: Url,
    path: String,
}

impl ForgeLocation {
    /// Reads `https://host/path`, `ssh://git@host:22/path` and `git@host:path`. SSH tells nothing
    /// of the port of HTTPS.
    fn of(url: &str) -> Option<Self> {
        let (web, path) = match url.split_once("://") {
            Some(("https" | "http", _)) => {
                let parsed = Url::parse(url).ok()?;
                let mut web = parsed.clone();
                web.set_path("");
                web.set_query(None);
                web.set_fragment(None);
                (web, parsed.path().to_owned())
            }
            Some(("ssh", rest)) => {
                let (authority, path) = rest.split_once('/')?;
                let host = authority.rsplit('@').next()?;
                let bare = Url::parse(&format!("https://{host}")).ok()?;
                (
                    Url::parse(&format!("https://{}", bare.host_str()?)).ok()?,
                    path.to_owned(),
                )
            }
            Some(_) => return None,
            None => {
                let (authority, path) = url.split_once(':')?;
                (
                    Url::parse(&format!("https://{}", authority.rsplit('@').next()?)).ok()?,
                    path.to_owned(),
                )
            }
        };
        let path = path.trim_matches('/');
        let path = path
            .strip_suffix(".git")
            .unwrap_or(path)
            .trim_end_matches('/')
            .to_owned();
        (web.has_host() && web.username().is_empty() && web.password().is_none())
            .then_some(Self { web, path })
    }

    fn host(&self) -> &str {
        self.web.host_str().unwrap_or_default()
    }
}

/// Returns the usual API URL for a forge's web URL.
fn api(kind: ForgeKind, web: &Url) -> Url {
    let mut api = web.clone();
    match (kind, web.host_str()) {
        (ForgeKind::Github, Some("github.com")) => {
            let _ = api.set_host(Some("api.github.com"));
        }
        (ForgeKind::Github, Some(host)) if host.ends_with(".ghe.com") => {
            let _ = api.set_host(Some(&format!("api.{host}")));
        }
        _ => api.set_path(&format!(
            "{}{}",
            web.path().trim_end_matches('/'),
            kind.api_path()
        )),
    }
    api
}

/// Returns the web URL for an explicit API URL.
fn web(kind: ForgeKind, api: &Url) -> Url {
    let mut web = api.clone();
    let host = api.host_str().unwrap_or_default();
    if kind == ForgeKind::Github && (host == "api.github.com" || host.ends_with(".ghe.com")) {
        let bare = host.strip_prefix("api.").unwrap_or(host).to_owned();
        // Both are hosts, so this cannot fail.
        let _ = web.set_host(Some(&bare));
        web.set_path("");
    } else {
        let path = api.path().trim_end_matches('/');
        web.set_path(path.strip_suffix(kind.api_path()).unwrap_or(path));
    }
    web
}

/// The name of a project, if the path is one.
fn project(kind: ForgeKind, path: &str) -> Option<String> {
    let segments: Vec<&str> = path.split('/').collect();
    let plain = |segment: &&str| {
        !segment.is_empty()
            && !segment.starts_with('.')
            && segment.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'+')
            })
    };
    let depth = match kind {
        ForgeKind::Gitlab => 2..=21,
        ForgeKind::Github | ForgeKind::Gitea => 2..=2,
    };
    (depth.contains(&segments.len()) && segments.iter().all(plain)).then(|| path.to_owned())
}

/// Checks the forge settings of the repository at `url`; `own_token` is the token of the repository
/// itself, if it has one.
pub(crate) fn check(
    at: &mut SpecReader<'_>,
    pointer: &str,
    url: &str,
    own_token: Option<SecretSource>,
    raw: raw::RawForge,
) -> Option<ForgeSpec> {
    let raw::RawForge {
        kind,
        url: written,
        token,
        app,
        insecure,
    } = raw;
    let Some(location) = ForgeLocation::of(url) else {
        at.error(pointer, "a forge belongs to a repository at https://… or ssh, without user and password in its address");
        return None;
    };
    let Some(kind) = kind.or_else(|| ForgeKind::guess(location.host())) else {
        at.error(
            pointer,
            format!(
                "the name {} does not tell which forge it is; write kind: github, gitlab or gitea",
                location.host()
            ),
        );
        return None;
    };
    let (api, web) = match written {
        None => (api(kind, &location.web), location.web),
        Some(text) => {
            let api = written_api(kind, &text);
            let api = at.check(&format!("{pointer}/url"), api)?;
            let web = web(kind, &api);
            (api, web)
        }
    };
    // A forge below a path of its host: the repository's path begins with it.
    let below = web.path().trim_matches('/');
    let path = location
        .path
        .strip_prefix(below)
        .map_or(location.path.as_str(), |rest| rest.trim_start_matches('/'));
    let Some(project) = project(kind, path) else {
        let form = if kind == ForgeKind::Gitlab {
            "group/project"
        } else {
            "owner/name"
        };
        at.error(
            pointer,
            format!(
                "{path:?}, the path of the repository, is no {form} of {}",
                kind.name()
            ),
        );
        return None;
    };
    let credentials = credentials(at, pointer, kind, (token, app, own_token))?;
    if !insecure && is_readable_on_the_way(api.as_str()) {
        at.error(pointer, PLAIN_HTTP);
    }
    Some(ForgeSpec {
        kind,
        api,
        web,
        project,
        credentials,
    })
}

/// Reads the credentials: a token, an App, or the token of the repository itself.
fn credentials(
    at: &mut SpecReader<'_>,
    pointer: &str,
    kind: ForgeKind,
    written: (Option<SecretSource>, Option<RawApp>, Option<SecretSource>),
) -> Option<ForgeCredentials> {
    match written {
        (Some(_), Some(_), _) => {
            at.error(pointer, "write either token or app");
            None
        }
        (None, Some(_), _) if kind != ForgeKind::Github => {
            at.error(
                &format!("{pointer}/app"),
                format!("{} has no Apps; write token", kind.name()),
            );
            None
        }
        (
            None,
            Some(RawApp {
                id,
                installation,
                private_key,
            }),
            _,
        ) => Some(ForgeCredentials::App {
            id,
            installation,
            private_key,
        }),
        (Some(token), None, _) | (None, None, Some(token)) => Some(ForgeCredentials::Token(token)),
        (None, None, None) => {
            at.error(
                pointer,
                "a forge needs a token, or an app on GitHub: write token: {env: NAME}",
            );
            None
        }
    }
}

/// Reads the address of an API; where only the forge's own is written, the usual path is added.
fn written_api(kind: ForgeKind, text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| format!("this is no address: {error}"))?;
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
        return Err(format!(
            "write the address as https://host{}",
            kind.api_path()
        ));
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(
            "write only scheme, host and path; what convinces it goes into token or app".to_owned(),
        );
    }
    let path = url.path().trim_end_matches('/').to_owned();
    let public =
        kind == ForgeKind::Github && url.host_str().is_some_and(|host| host.starts_with("api."));
    if public || path.ends_with(kind.api_path()) {
        url.set_path(&path);
    } else {
        let bare = url.clone();
        url = api(kind, &bare);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forge_url_gives_api_and_project() {
        for (url, kind, at_api, at_web, project) in [
            (
                "https://github.com/acme/fleet.git",
                ForgeKind::Github,
                "https://api.github.com/",
                "https://github.com/",
                "acme/fleet",
            ),
            (
                "git@github.com:acme/fleet",
                ForgeKind::Github,
                "https://api.github.com/",
                "https://github.com/",
                "acme/fleet",
            ),
            (
                "ssh://git@gitlab.com:22/a/b/c.git",
                ForgeKind::Gitlab,
                "https://gitlab.com/api/v4",
                "https://gitlab.com/",
                "a/b/c",
            ),
            (
                "https://gitlab.example.org:8443/a/b/",
                ForgeKind::Gitlab,
                "https://gitlab.example.org:8443/api/v4",
                "https://gitlab.example.org:8443/",
                "a/b",
            ),
            (
                "https://codeberg.org/a/b",
                ForgeKind::Gitea,
                "https://codeberg.org/api/v1",
                "https://codeberg.org/",
                "a/b",
            ),
            (
                "https://acme.ghe.com/a/b",
                ForgeKind::Github,
                "https://api.acme.ghe.com/",
                "https://acme.ghe.com/",
                "a/b",
            ),
            (
                "https://github.example.org/a/b",
                ForgeKind::Github,
                "https://github.example.org/api/v3",
                "https://github.example.org/",
                "a/b",
            ),
        ] {
            let forge = ForgeSpec::of(url).unwrap();
            assert_eq!(
                (
                    forge.kind,
                    forge.api.as_str(),
                    forge.web.as_str(),
                    forge.project.as_str()
                ),
                (kind, at_api, at_web, project),
                "{url}"
            );
            assert_eq!(
                web(kind, &forge.api).as_str(),
                at_web,
                "back from the API of {url}"
            );
        }
    }

    #[test]
    fn forge_project_needs_same_host_port_and_path() {
        let mut forge = ForgeSpec::of("https://gitlab.example.org:8443/a/b").unwrap();
        for (url, project) in [
            ("https://gitlab.example.org:8443/x/y/z.git", Some("x/y/z")),
            ("https://GITLAB.example.org:8443/x/y/", Some("x/y")),
            ("https://gitlab.example.org/x/y", None),
            ("http://gitlab.example.org:80/x/y", None),
            ("https://gitlab.example.org.evil.example:8443/x/y", None),
            ("https://gitlab.example.org:8443@evil.example/x/y", None),
            ("https://evil.example/gitlab.example.org:8443/x/y", None),
            ("https://gitlab.example.org:8443/../x", None),
            ("https://169.254.169.254/latest/meta-data", None),
            ("file:///x/y", None),
        ] {
            assert_eq!(forge.project_at(url).as_deref(), project, "{url}");
        }
        forge.web.set_path("/git");
        assert_eq!(
            forge
                .project_at("https://gitlab.example.org:8443/git/x/y")
                .as_deref(),
            Some("x/y")
        );
        assert_eq!(
            forge.project_at("https://gitlab.example.org:8443/gitx/y"),
            None
        );
        assert_eq!(
            forge.project_at("https://gitlab.example.org:8443/x/y"),
            None
        );
    }

    #[test]
    fn forge_url_without_project_is_none() {
        for url in [
            "file:///srv/git/github.com/a/b",
            "https://git.example.org/a/b",
            "https://github.com/a",
            "https://github.com/a/b/c",
            "https://github.com/a/..",
            "https://github.com/a/b%2f..",
            "https://user:secret@github.com/a/b",
            "https:///a/b",
            "git@github.com",
            "",
        ] {
            assert_eq!(ForgeSpec::of(url), None, "{url}");
        }
    }
}
