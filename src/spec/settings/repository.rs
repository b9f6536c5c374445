//! Config repositories of `tagboat.yaml`.

use super::*;

/// The schemes of Git remotes that are spoken.
pub(super) const SCHEMES: [&str; 4] = ["https://", "http://", "ssh://", "file://"];

pub(super) fn template(text: &str) -> Result<(), String> {
    minijinja::Environment::new()
        .template_from_str(text)
        .map(drop)
        .map_err(|error| format!("not a Jinja template: {error}"))
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
        basic,
        token,
        ssh,
        ca_file,
        proxy,
        interval,
        message,
        forge,
    } = raw;
    let scp_like = !url.contains("://") && url.contains('@') && url.contains(':');
    let is_ssh = url.starts_with("ssh://") || scp_like;
    if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) && !scp_like {
        at.error(
            &format!("{pointer}/url"),
            "write an address as https://…, ssh://…, git@host:path or file:///…",
        );
    }
    if !is_ssh
        && url.split("://").nth(1).is_some_and(|rest| {
            rest.split('/')
                .next()
                .is_some_and(|host| host.contains('@'))
        })
    {
        at.error(
            &format!("{pointer}/url"),
            "user and password do not belong into the URL; write basic: or token: beside it",
        );
    }
    let own_token = token.clone();
    let access = match (basic, token, ssh) {
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
        (
            None,
            None,
            Some(raw::RawSsh {
                identity,
                known_hosts,
            }),
        ) if is_ssh => Some(GitAccess::Ssh {
            identity,
            known_hosts,
        }),
        _ => {
            at.error(
                pointer,
                "write one of basic, token (for https) or ssh (for ssh URLs)",
            );
            None
        }
    };
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
        Some(folder) => Some(crate::spec::application::folder(
            at,
            &format!("{pointer}/policies"),
            &folder,
        )?)
        .filter(|folder| !folder.is_empty()),
    };
    if let Some(message) = &message {
        at.check(&format!("{pointer}/message"), template(message));
    }
    let author = author.map_or_else(default_author, |raw::RawAuthor { name, email }| {
        CommitAuthor { name, email }
    });
    if [&author.name, &author.email]
        .iter()
        .any(|text| text.trim().is_empty() || text.contains(['<', '>', '\n', '\0']))
    {
        at.error(
            &format!("{pointer}/author"),
            "name and email must be written, without '<', '>' and line ends",
        );
    }
    let name = name.unwrap_or_else(|| {
        let last = url
            .trim_end_matches('/')
            .rsplit(['/', ':'])
            .next()
            .unwrap_or_default();
        last.trim_end_matches(".git").to_owned()
    });
    let branch = branch.unwrap_or_else(|| "main".to_owned());
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
    Some(ConfigRepository {
        name,
        url,
        branch,
        policies,
        author,
        signing_key: signing_key
            .map(|raw::RawSigningKey { key, passphrase }| SigningKeySettings { key, passphrase }),
        access: access?,
        ca_file,
        proxy,
        interval: interval?,
        message,
        forge: forge?,
    })
}
