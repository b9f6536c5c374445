//! The remote `origin` of the folder: the URL, branch and forge of the drafted settings.

use crate::spec::{ForgeKind, ForgeSpec};
use std::path::Path;
use url::Url;

/// The remote of a working copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// The URL, without user and password.
    pub url: String,
    /// The default branch of the remote, or the branch that is checked out.
    pub branch: Option<String>,
    /// The forge, if the name of the host tells.
    pub forge: Option<ForgeKind>,
}

impl Origin {
    /// Reads the remote of a working copy; none if there is none that tagboat can reach. The
    /// user's own Git settings are not read.
    pub(super) fn of(folder: &Path) -> Option<Self> {
        let repository = gix::open_opts(folder, gix::open::Options::isolated()).ok()?;
        let config = repository.config_snapshot();
        let written = config.string("remote.origin.url")?;
        let url = public_url(std::str::from_utf8(&written).ok()?)?;
        let branch = |reference: &str, prefix: &str| {
            let found = repository.try_find_reference(reference).ok()??;
            let target = found.target();
            let name = std::str::from_utf8(target.try_name()?.as_bstr()).ok()?;
            name.strip_prefix(prefix).map(str::to_owned)
        };
        Some(Self {
            branch: branch("refs/remotes/origin/HEAD", "refs/remotes/origin/")
                .or_else(|| branch("HEAD", "refs/heads/")),
            forge: ForgeSpec::of(&url).map(|forge| forge.kind),
            url,
        })
    }
}

/// Returns a URL as `tagboat.yaml` takes it, without a secret; none for a local path.
fn public_url(written: &str) -> Option<String> {
    if written.chars().any(char::is_control) {
        return None;
    }
    match written.split_once("://") {
        Some(("https" | "http", _)) => {
            let mut url = Url::parse(written).ok()?;
            url.set_username("").ok()?;
            url.set_password(None).ok()?;
            url.set_query(None);
            url.set_fragment(None);
            Some(url.to_string())
        }
        Some(("ssh", _)) => {
            let mut url = Url::parse(written).ok()?;
            url.set_password(None).ok()?;
            Some(url.to_string())
        }
        Some(_) => None,
        None => {
            // `git@host:path`; a path with a colon begins with a slash or a point.
            let (authority, path) = written.split_once(':')?;
            let is_remote = !authority.contains('/') && authority.len() > 1 && !path.is_empty();
            is_remote.then(|| written.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn origin_url_has_no_secret() {
        for (written, url) in [
            (
                "https://github.com/acme/fleet.git",
                Some("https://github.com/acme/fleet.git"),
            ),
            (
                "https://bot:ghp_x@github.com/acme/fleet",
                Some("https://github.com/acme/fleet"),
            ),
            (
                "ssh://git:x@gitlab.com:22/a/b.git",
                Some("ssh://git@gitlab.com:22/a/b.git"),
            ),
            (
                "git@github.com:acme/fleet.git",
                Some("git@github.com:acme/fleet.git"),
            ),
            ("/srv/git/fleet.git", None),
            ("../fleet", None),
            ("C:\\fleet", None),
            ("file:///srv/git/fleet.git", None),
            ("https://github.com/a\nb", None),
        ] {
            assert_eq!(public_url(written).as_deref(), url, "{written}");
        }
    }

    #[test]
    fn origin_gives_branch_and_forge() {
        let folder = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(Origin::of(folder.path()), None);
        file(".git/HEAD", "ref: refs/heads/feature\n");
        file(".git/objects/info/x", "");
        file(".git/refs/heads/x", "");
        file(
            ".git/config",
            "[core]\n\trepositoryformatversion = 0\n[remote \"origin\"]\n\turl = git@gitlab.com:a/b/c.git\n",
        );
        let mut origin = Origin {
            url: "git@gitlab.com:a/b/c.git".to_owned(),
            branch: Some("feature".to_owned()),
            forge: Some(ForgeKind::Gitlab),
        };
        assert_eq!(Origin::of(folder.path()), Some(origin.clone()));
        file(
            ".git/refs/remotes/origin/HEAD",
            "ref: refs/remotes/origin/trunk\n",
        );
        origin.branch = Some("trunk".to_owned());
        assert_eq!(Origin::of(folder.path()), Some(origin));
    }
}
