//! Config repositories of `tagboat.yaml`.

use super::{
    ConfigRepository, GitAccess, SigningKeySettings, default_author, forge, raw, tenant::tenant,
    verify,
};
use crate::{
    core::schedule,
    spec::{
        application::folder,
        document::SpecReader,
        environment::CommitAuthor,
        plain_http::{PLAIN_HTTP, is_readable_on_the_way},
        rights::RepositoryRights,
        secret_source::SecretSource,
    },
};
use std::{sync::Arc, time::Duration};

/// The schemes of Git remotes that are spoken.
const SCHEMES: [&str; 4] = ["https://", "http://", "ssh://", "file://"];

/// Steps of a template with the few rows of [`message_sample`].
const FUEL: u64 = 100_000;

/// Checks a commit message's template: it is rendered once, and an unknown name is an error.
fn template(text: &str) -> Result<(), String> {
    let mut environment = minijinja::Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    let template = environment
        .template_from_str(text)
        .map_err(|error| format!("not a Jinja template: {error}"))?;
    match template.render(minijinja::value::Serde(message_sample())) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == minijinja::ErrorKind::UndefinedError => Err(format!(
            "the template uses a name that does not exist ({error}); \
             available: environment, group, subject, images[] with policy, repository, image, \
             old, new, digest, bump, step, places[] with file and line"
        )),
        Err(error) => Err(format!("cannot render the template: {error}")),
    }
}

/// An example of what a commit message's template sees.
pub fn message_sample() -> serde_json::Value {
    serde_json::json!({
        "environment": "dev",
        "group": "app",
        "subject": "dev: podinfo 6.5.0 → 6.5.1",
        "images": [{
            "policy": "apps/podinfo",
            "repository": "ghcr.io/example/podinfo",
            "image": "podinfo",
            "old": "6.5.0",
            "new": "6.5.1",
            "digest": format!("sha256:{}", "0".repeat(64)),
            "bump": "patch",
            "step": "6.5.0 → 6.5.1",
            "places": [{"file": "apps/dev/podinfo.yaml", "line": 12}],
        }],
    })
}

pub(super) fn repository(
    at: &mut SpecReader<'_>,
    pointer: &str,
    raw: raw::RawRepository,
) -> Option<ConfigRepository> {
    let raw::RawRepository {
        name,
        url,
        branch,
        policies,
        author,
        signing_key,
        verify,
        basic,
        token,
        ssh,
        ca_file,
        proxy,
        insecure,
        allow_redirects_to,
        interval,
        message,
        forge,
        tenant: raw_tenant,
    } = raw;
    check_url(at, pointer, &url);
    if (basic.is_some() || token.is_some()) && !insecure && is_readable_on_the_way(&url) {
        at.error(&format!("{pointer}/url"), PLAIN_HTTP);
    }
    check_hosts(at, pointer, &allow_redirects_to);
    let own_token = token.clone();
    let access = access(at, pointer, is_ssh(&url), (basic, token, ssh));
    let forge = match forge {
        None => Some(None),
        Some(forge) => {
            forge::check(at, &format!("{pointer}/forge"), &url, own_token, forge).map(Some)
        }
    };
    let interval = match interval {
        None => Some(Duration::from_secs(60)),
        Some(text) => at.check(&format!("{pointer}/interval"), schedule::duration(&text)),
    };
    let policies = match policies {
        None => None,
        Some(path) => Some(folder(at, &format!("{pointer}/policies"), &path)?)
            .filter(|folder| !folder.is_empty()),
    };
    if let Some(message) = &message {
        at.check(&format!("{pointer}/message"), template(message));
    }
    let verify = match verify {
        None => None,
        Some(raw) => Some(verify::verify(at, &format!("{pointer}/verify"), raw)?),
    };
    let bounds = match raw_tenant {
        None => None,
        Some(raw) => Some(tenant(at, &format!("{pointer}/tenant"), raw)?),
    };
    let author = author.map_or_else(default_author, |raw::RawAuthor { name, email }| {
        CommitAuthor { name, email }
    });
    check_author(at, pointer, &author);
    let name = name.unwrap_or_else(|| name_in(&url));
    if let Some(branch) = &branch {
        check_branch(at, pointer, branch);
    }
    Some(ConfigRepository {
        name,
        url,
        branch,
        policies,
        author,
        signing_key: signing_key
            .map(|raw::RawSigningKey { key, passphrase }| SigningKeySettings { key, passphrase }),
        verify,
        access: access?,
        ca_file,
        proxy,
        allow_redirects_to,
        interval: interval?,
        message,
        forge: forge?,
        rights: Arc::new(RepositoryRights {
            tenant: bounds,
            ..RepositoryRights::default()
        }),
    })
}

/// Checks the hosts of `allowRedirectsTo`.
fn check_hosts(at: &mut SpecReader<'_>, pointer: &str, hosts: &[String]) {
    for (index, host) in hosts.iter().enumerate() {
        let parsed = url::Url::parse(&format!("https://{host}"));
        let is_host = parsed.is_ok_and(|url| {
            url.has_host() && url.path() == "/" && url.username().is_empty() && !host.ends_with('/')
        });
        if !is_host {
            at.error(
                &format!("{pointer}/allowRedirectsTo/{index}"),
                format!("{host:?} is no host: write it as \"git.example.org\", or with its port"),
            );
        }
    }
}

/// Returns whether a URL has the form `user@host:path` of scp.
fn is_scp_like(url: &str) -> bool {
    !url.contains("://") && url.contains('@') && url.contains(':')
}

fn is_ssh(url: &str) -> bool {
    url.starts_with("ssh://") || is_scp_like(url)
}

fn check_url(at: &mut SpecReader<'_>, pointer: &str, url: &str) {
    let pointer = format!("{pointer}/url");
    if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) && !is_scp_like(url) {
        at.error(
            &pointer,
            "write an address as https://…, ssh://…, git@host:path or file:///…",
        );
    }
    let host = url
        .split("://")
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    if !is_ssh(url) && host.is_some_and(|host| host.contains('@')) {
        at.error(
            &pointer,
            "user and password do not belong into the URL; write basic: or token: beside it",
        );
    }
}

/// Reads the one kind of credentials that is written, which must fit the URL.
fn access(
    at: &mut SpecReader<'_>,
    pointer: &str,
    is_ssh: bool,
    written: (
        Option<raw::RawBasic>,
        Option<SecretSource>,
        Option<raw::RawSsh>,
    ),
) -> Option<GitAccess> {
    match written {
        (None, None, None) if is_ssh => Some(GitAccess::Ssh {
            identity: None,
            known_hosts: None,
        }),
        (None, None, None) => Some(GitAccess::Anonymous),
        (Some(raw::RawBasic { username, password }), None, None) if !is_ssh => {
            Some(GitAccess::Basic { username, password })
        }
        (None, Some(token), None) if !is_ssh => Some(GitAccess::Basic {
            username: "x-access-token".to_owned(),
            password: token,
        }),
        (None, None, Some(ssh)) if is_ssh => Some(GitAccess::Ssh {
            identity: ssh.identity,
            known_hosts: ssh.known_hosts,
        }),
        _ => {
            at.error(
                pointer,
                "write one of basic, token (for https) or ssh (for ssh URLs)",
            );
            None
        }
    }
}

fn check_author(at: &mut SpecReader<'_>, pointer: &str, author: &CommitAuthor) {
    if [&author.name, &author.email]
        .iter()
        .any(|text| text.trim().is_empty() || text.contains(['<', '>', '\n', '\0']))
    {
        at.error(
            &format!("{pointer}/author"),
            "name and email must be written, without '<', '>' and line ends",
        );
    }
}

/// Returns the last part of a URL's path, without `.git`.
fn name_in(url: &str) -> String {
    let last = url
        .trim_end_matches('/')
        .rsplit(['/', ':'])
        .next()
        .unwrap_or_default();
    last.trim_end_matches(".git").to_owned()
}

fn check_branch(at: &mut SpecReader<'_>, pointer: &str, branch: &str) {
    if branch.is_empty()
        || branch.starts_with('-')
        || branch.contains("..")
        || branch.contains([' ', '~', '^', ':', '?', '*', '[', '\\', '\n'])
    {
        at.error(
            &format!("{pointer}/branch"),
            format!("{branch:?} is no branch name"),
        );
    }
}
