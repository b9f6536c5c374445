//! Docker's `config.json` and its credential helpers.
//!
//! The docker_credential crate reads the same files but waits for a helper without bound and takes
//! its whole output, so the small protocol is spoken here.

use super::{RegistryProblem, identity::RegistryIdentity};
use crate::core::{
    image::{ImageRepository, shown},
    secret::Secret,
};
use base64::Engine;
use serde::Deserialize;
use std::{collections::BTreeMap, process::Stdio, time::Duration};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// Docker Hub's name in docker's files, from its first protocol.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// A helper's answer is three short strings; a token may be some kilobytes.
const HELPER_OUTPUT: u64 = 64 * 1024;

/// The entry of a docker config for a repository.
pub(crate) enum DockerLogin {
    /// Credentials in the file.
    Inline {
        key: String,
        identity: RegistryIdentity,
    },
    /// A helper knows them, under this key.
    Helper { key: String, helper: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
struct DockerAuth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// The key under which docker's tools keep a registry: its host, or Docker Hub's old URL.
pub(crate) fn server(repository: &ImageRepository) -> String {
    if repository.registry() == "docker.io" {
        HUB_KEY.to_owned()
    } else {
        repository.registry().to_owned()
    }
}

/// Looks `repository` up: `credHelpers`, then `auths` (the longest `host/path` first, as Kubernetes
/// and podman write them), then `credsStore`.
pub(crate) fn find(
    text: &str,
    repository: &ImageRepository,
) -> Result<Option<DockerLogin>, String> {
    // serde_json's own message would quote the secret it stumbled over.
    let config: DockerConfig = serde_json::from_str(text).map_err(|error| {
        format!(
            "is no docker config (line {}, column {})",
            error.line(),
            error.column()
        )
    })?;
    let hosts = match repository.registry() {
        "docker.io" => vec!["docker.io", "index.docker.io", "registry-1.docker.io"],
        host => vec![host],
    };
    if let Some((key, helper)) = config
        .cred_helpers
        .iter()
        .find(|(key, _)| hosts.contains(&bare(key)))
    {
        return Ok(Some(DockerLogin::Helper {
            key: key.clone(),
            helper: helper.clone(),
        }));
    }
    let mut path = Some(repository.path());
    loop {
        let place = |host: &str| path.map_or(host.to_owned(), |path| format!("{host}/{path}"));
        let entry = config
            .auths
            .iter()
            .find(|(key, _)| hosts.iter().any(|host| bare(key) == place(host)));
        if let Some((key, auth)) = entry
            && let Some(identity) =
                inline(auth).map_err(|why| format!("auths {}: {why}", shown(key)))?
        {
            return Ok(Some(DockerLogin::Inline {
                key: key.clone(),
                identity,
            }));
        }
        match path {
            None => break,
            Some(text) => path = text.rsplit_once('/').map(|(parent, _)| parent),
        }
    }
    Ok(config
        .creds_store
        .filter(|helper| !helper.is_empty())
        .map(|helper| DockerLogin::Helper {
            key: server(repository),
            helper,
        }))
}

/// A key without scheme and the version paths of docker's protocols.
fn bare(key: &str) -> &str {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let key = key.trim_end_matches('/');
    key.strip_suffix("/v1")
        .or_else(|| key.strip_suffix("/v2"))
        .unwrap_or(key)
}

fn inline(auth: &DockerAuth) -> Result<Option<RegistryIdentity>, String> {
    if let Some(token) = auth
        .identitytoken
        .as_deref()
        .filter(|token| !token.is_empty())
    {
        return Ok(Some(RegistryIdentity::Refresh(Secret::new(token))));
    }
    if let Some(encoded) = auth.auth.as_deref().filter(|text| !text.is_empty()) {
        let lenient = base64::engine::GeneralPurpose::new(
            &base64::alphabet::STANDARD,
            base64::engine::GeneralPurposeConfig::new()
                .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
        );
        let decoded = lenient
            .decode(encoded.trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or("`auth` is not base64 of text")?;
        let (username, password) = decoded
            .split_once(':')
            .ok_or("`auth` has no user:password in it")?;
        return Ok(Some(basic(username, password.trim_end_matches('\0'))));
    }
    match (&auth.username, &auth.password) {
        (Some(username), Some(password)) => Ok(Some(basic(username, password))),
        _ => Ok(None),
    }
}

/// `<token>` as a user name says that the password is a refresh token (docker-credential-helpers).
fn basic(username: &str, password: &str) -> RegistryIdentity {
    match username {
        "<token>" => RegistryIdentity::Refresh(Secret::new(password)),
        _ => RegistryIdentity::Basic {
            username: username.to_owned(),
            password: Secret::new(password),
        },
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// Runs `docker-credential-<name> get` and tells it the server.
///
/// # Errors
/// If it cannot be started, says no, says too much or nothing readable, or takes longer than
/// `patience`; then it is killed.
pub(crate) async fn ask_helper(
    helper: &str,
    server: &str,
    patience: Duration,
) -> Result<RegistryIdentity, RegistryProblem> {
    let program = match helper {
        path if path.contains('/') => path.to_owned(),
        name if name.starts_with("docker-credential-") => name.to_owned(),
        name => format!("docker-credential-{name}"),
    };
    let trouble = |why: String| RegistryProblem::Credentials {
        origin: format!("credential helper {}", shown(&program)),
        why,
    };
    if program.contains('/') && !program.starts_with('/') {
        // It would be looked for in the folder of the user, which may be a checkout.
        return Err(trouble("is a relative path".to_owned()));
    }
    let mut child = tokio::process::Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| trouble(format!("cannot be started: {error}")))?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(trouble("has no pipes".to_owned()));
    };
    let talk = async {
        let say = async {
            // A helper that reads nothing closes the pipe; its answer counts, not the error here.
            let _ = stdin.write_all(server.as_bytes()).await;
            drop(stdin);
        };
        let ((), output, complaint) = tokio::join!(say, bounded(stdout), bounded(stderr));
        child.wait().await.map(|status| (status, output, complaint))
    };
    let (status, output, complaint) = tokio::time::timeout(patience, talk)
        .await
        .map_err(|_| {
            trouble(format!(
                "gave no answer within {} ms and was stopped",
                patience.as_millis()
            ))
        })?
        .map_err(|error| trouble(error.to_string()))?;
    if output.len() as u64 > HELPER_OUTPUT {
        return Err(trouble(format!("said more than {HELPER_OUTPUT} bytes")));
    }
    if !status.success() {
        // Helpers complain on their standard output; that is no secret when they fail.
        let words = String::from_utf8_lossy(if output.is_empty() {
            &complaint
        } else {
            &output
        })
        .trim()
        .to_owned();
        if words.contains("credentials not found") {
            return Ok(RegistryIdentity::Anonymous);
        }
        return Err(trouble(format!("failed ({status}): {}", shown(&words))));
    }
    let answer: HelperAnswer = serde_json::from_slice(&output)
        .map_err(|_| trouble("its answer is not the JSON of a credential".to_owned()))?;
    Ok(basic(&answer.username, &answer.secret))
}

async fn bounded(pipe: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut text = Vec::new();
    let _ = pipe.take(HELPER_OUTPUT + 1).read_to_end(&mut text).await;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, repository: &str) -> String {
        match find(text, &ImageRepository::new(repository).unwrap()) {
            Ok(None) => "nobody".to_owned(),
            Ok(Some(DockerLogin::Helper { key, helper })) => format!("{helper}({key})"),
            Ok(Some(DockerLogin::Inline {
                identity: RegistryIdentity::Basic { username, password },
                ..
            })) => format!("{username}:{}", password.expose()),
            Ok(Some(DockerLogin::Inline {
                identity: RegistryIdentity::Refresh(token),
                ..
            })) => format!("refresh:{}", token.expose()),
            Ok(Some(DockerLogin::Inline { identity, .. })) => format!("{identity:?}"),
            Err(why) => format!("error: {why}"),
        }
    }

    #[test]
    fn docker_config_every_form_is_read() {
        // "dTpwOnc=" is "u:p:w".
        for (config, repository, expected) in [
            ("{}", "ghcr.io/a/b", "nobody"),
            (
                r#"{"auths":{"ghcr.io":{"auth":"dTpwOnc="}}}"#,
                "ghcr.io/a/b",
                "u:p:w",
            ),
            (
                r#"{"auths":{"ghcr.io":{"auth":"dTpwOnc"}}}"#,
                "ghcr.io/a/b",
                "u:p:w",
            ),
            (
                r#"{"auths":{"https://ghcr.io/v2/":{"auth":"dTpwOnc="}}}"#,
                "ghcr.io/a/b",
                "u:p:w",
            ),
            (
                r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpwOnc="}}}"#,
                "nginx",
                "u:p:w",
            ),
            (
                r#"{"auths":{"docker.io":{"username":"x","password":"y"}}}"#,
                "nginx",
                "x:y",
            ),
            (
                r#"{"auths":{"q.io":{"auth":"dTpwOnc="},"q.io/team":{"username":"t","password":"p"}}}"#,
                "q.io/team/app",
                "t:p",
            ),
            (
                r#"{"auths":{"q.io":{"auth":"dTpwOnc="},"q.io/team":{"username":"t","password":"p"}}}"#,
                "q.io/teams/app",
                "u:p:w",
            ),
            (
                r#"{"auths":{"a.io":{"identitytoken":"idt","auth":"dTpwOnc="}}}"#,
                "a.io/x",
                "refresh:idt",
            ),
            (
                r#"{"auths":{"a.io":{"username":"<token>","password":"idt"}}}"#,
                "a.io/x",
                "refresh:idt",
            ),
            (
                r#"{"auths":{"a.io":{}},"credsStore":"desktop"}"#,
                "a.io/x",
                "desktop(a.io)",
            ),
            (
                r#"{"credsStore":"desktop"}"#,
                "nginx",
                "desktop(https://index.docker.io/v1/)",
            ),
            (
                r#"{"credHelpers":{"a.io":"ecr-login"},"credsStore":"desktop"}"#,
                "a.io/x",
                "ecr-login(a.io)",
            ),
            (
                r#"{"auths":{"b.io":{"auth":"dTpwOnc="}}}"#,
                "a.io/x",
                "nobody",
            ),
            (
                r#"{"auths":{"a.io":{"auth":"%%"}}}"#,
                "a.io/x",
                "error: auths \"a.io\": `auth` is not base64 of text",
            ),
            (
                r#"{"auths":{"a.io":{"auth":"dQ=="}}}"#,
                "a.io/x",
                "error: auths \"a.io\": `auth` has no user:password in it",
            ),
            (
                r#"{"auths": ["s3cret"]}"#,
                "a.io/x",
                "error: is no docker config (line 1, column 10)",
            ),
        ] {
            assert_eq!(told(config, repository), expected, "{config}");
        }
    }
}
