//! Credentials that change: token files, and client-go credential plugins.
//!
//! Each cluster has one holder, whatever identity a request impersonates. A plugin runs before its
//! token expires; meanwhile requests use the token that is still valid. Its output is the
//! credential and is never shown.

use super::{config::CredentialSource, error::ClusterProblem};
use crate::events::{Event, EventReason, Recorder};
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::header::HeaderValue;
use jiff::Timestamp;
use kube::config::ExecConfig;
use serde::Deserialize;
use std::{
    path::Path,
    process::Stdio,
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};
use tokio::{process::Command, sync::Mutex};

/// The time limit of a plugin: some open a browser, which a daemon has no user for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The interval for reading a token file: service account tokens live an hour and are rotated well
/// before.
const REREAD: Duration = Duration::from_secs(30);
/// After a failure nothing is tried for this long.
const PAUSE: Duration = Duration::from_secs(2);
/// A token is renewed this long before it expires, or after four fifths of its life if that is
/// later.
const MARGIN: Duration = Duration::from_secs(60);

/// The source of the `Authorization` header.
pub(crate) struct AuthorizationSource {
    source: CredentialSource,
    events: Recorder,
    held: RwLock<CachedHeader>,
    /// The last failure to renew; held while that is tried.
    renewing: Mutex<Option<(Instant, ClusterProblem)>>,
}

#[derive(Clone, Default)]
struct CachedHeader {
    header: Option<HeaderValue>,
    renew: Option<Timestamp>,
    expires: Option<Timestamp>,
}

/// The credentials returned by a plugin.
#[derive(Default)]
pub(crate) struct ExecResult {
    held: CachedHeader,
    /// A certificate and its key, PEM.
    pub certificate: Option<(String, String)>,
    pub expires: Option<Timestamp>,
}

impl AuthorizationSource {
    /// Reads or runs the source for the first time. A certificate is for the caller: it belongs to
    /// the connection.
    pub(crate) async fn open(
        source: CredentialSource,
        events: Recorder,
    ) -> Result<(Self, ExecResult), ClusterProblem> {
        let mut given = fetch(&source).await?;
        let held = std::mem::take(&mut given.held);
        Ok((
            Self {
                source,
                events,
                held: RwLock::new(held),
                renewing: Mutex::new(None),
            },
            given,
        ))
    }

    /// The header to send now; none where the connection itself says who we are.
    pub(crate) async fn header(&self) -> Result<Option<HeaderValue>, ClusterProblem> {
        let now = Timestamp::now();
        let held = self
            .held
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if held.header.is_none() || held.renew.is_none_or(|renew| now < renew) {
            return Ok(held.header);
        }
        let good = held.expires.is_none_or(|expires| now < expires);
        let mut failed = match self.renewing.try_lock() {
            Ok(guard) => guard,
            Err(_) if good => return Ok(held.header),
            Err(_) => self.renewing.lock().await,
        };
        let now = Timestamp::now();
        let held = self
            .held
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if held.renew.is_none_or(|renew| now < renew) {
            return Ok(held.header);
        }
        // A caller that waited for a failed attempt does not start the next one.
        let fresh = failed.take().filter(|(at, _)| at.elapsed() < PAUSE);
        let given = match fresh {
            Some((at, problem)) => {
                *failed = Some((at, problem.clone()));
                Err(problem)
            }
            None => fetch(&self.source).await.inspect_err(|problem| {
                let message = format!("cannot renew credentials: {problem}");
                self.events
                    .record(Event::warning(EventReason::CredentialsNotRenewed, message));
                *failed = Some((Instant::now(), problem.clone()));
            }),
        };
        match given {
            Ok(given) => {
                let header = given.held.header.clone();
                *self.held.write().unwrap_or_else(PoisonError::into_inner) = given.held;
                Ok(header)
            }
            // The present credentials are used until they expire.
            Err(_) if good => Ok(held.header),
            Err(problem) => Err(problem),
        }
    }
}

async fn fetch(source: &CredentialSource) -> Result<ExecResult, ClusterProblem> {
    match source {
        CredentialSource::Constant => Ok(ExecResult::default()),
        CredentialSource::File(path) => from_file(path).await,
        CredentialSource::Program(exec) => from_program(exec).await,
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("Bearer {}", token.trim())).ok()?;
    header.set_sensitive(true);
    Some(header)
}

async fn from_file(path: &Path) -> Result<ExecResult, ClusterProblem> {
    let fault = |why: String| ClusterProblem::Credentials {
        source_name: path.display().to_string(),
        why,
    };
    let token = tokio::fs::read_to_string(path)
        .await
        .map_err(|error| fault(error.to_string()))?;
    if token.trim().is_empty() {
        return Err(fault("the file is empty".to_owned()));
    }
    let header =
        bearer(&token).ok_or_else(|| fault("it holds characters that no token has".to_owned()))?;
    let renew = Timestamp::now().checked_add(REREAD).ok();
    // If a file can no longer be read, the token stays in use: it may have been removed on purpose
    // after the start.
    Ok(ExecResult {
        held: CachedHeader {
            header: Some(header),
            renew,
            expires: None,
        },
        certificate: None,
        expires: None,
    })
}

/// The parsed part of `ExecCredential`.
#[derive(Deserialize)]
struct ExecCredential {
    status: Option<ExecStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecStatus {
    expiration_timestamp: Option<String>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

async fn from_program(exec: &ExecConfig) -> Result<ExecResult, ClusterProblem> {
    let program = exec.command.clone().unwrap_or_default();
    let fault = |why: String| ClusterProblem::Credentials {
        source_name: program.clone(),
        why,
    };
    let mut spec = serde_json::json!({"interactive": false});
    if exec.provide_cluster_info {
        spec["cluster"] = serde_json::to_value(&exec.cluster).unwrap_or_default();
    }
    let version = exec
        .api_version
        .as_deref()
        .unwrap_or("client.authentication.k8s.io/v1");
    let info = serde_json::json!({"apiVersion": version, "kind": "ExecCredential", "spec": spec});
    let mut command = Command::new(&program);
    command
        .args(exec.args.iter().flatten())
        .envs(
            exec.env
                .iter()
                .flatten()
                .filter_map(|pair| Some((pair.get("name")?, pair.get("value")?))),
        )
        .env("KUBERNETES_EXEC_INFO", info.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let hint = exec
        .install_hint
        .as_deref()
        .map(|hint| format!(" ({})", hint.trim()))
        .unwrap_or_default();
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .map_err(|_| {
            fault(format!(
                "it gave no answer in {} s and was stopped",
                PATIENCE.as_secs()
            ))
        })?
        .map_err(|error| fault(format!("cannot be run: {error}{hint}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(fault(format!(
            "it ended with {}: {}",
            output.status,
            crate::core::image::shown(said.trim())
        )));
    }
    // JSON as a rule; some write YAML, of which JSON is a part.
    let status = serde_saphyr::from_slice::<ExecCredential>(&output.stdout)
        .map_err(|_| fault("its output is no ExecCredential".to_owned()))?
        .status
        .ok_or_else(|| fault("its output has no status".to_owned()))?;
    let expires = match status.expiration_timestamp {
        Some(text) => Some(
            text.parse::<Timestamp>()
                .map_err(|_| fault("its expirationTimestamp is no time".to_owned()))?,
        ),
        None => None,
    };
    let header = match &status.token {
        Some(token) => Some(
            bearer(token)
                .ok_or_else(|| fault("its token holds characters that no token has".to_owned()))?,
        ),
        None => None,
    };
    let certificate = status.client_certificate_data.zip(status.client_key_data);
    if header.is_none() && certificate.is_none() {
        return Err(fault(
            "it gave neither a token nor a certificate".to_owned(),
        ));
    }
    Ok(ExecResult {
        held: CachedHeader {
            header,
            renew: expires.map(|expires| renewal(Timestamp::now(), expires)),
            expires,
        },
        certificate,
        expires,
    })
}

/// Returns when to renew credentials with this expiry.
pub(crate) fn renewal(now: Timestamp, expires: Timestamp) -> Timestamp {
    let life = Duration::try_from(expires.duration_since(now)).unwrap_or_default();
    expires.checked_sub(MARGIN.min(life / 5)).unwrap_or(expires)
}

/// PEM as a kubeconfig carries it.
pub(crate) fn in_base64(pem: &str) -> String {
    STANDARD.encode(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credential_renewal_precedes_expiry() {
        let now: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        for (life, left) in [(3600, 60), (300, 60), (100, 20), (5, 1), (0, 0), (-9, 0)] {
            let expires = now
                .checked_add(jiff::SignedDuration::from_secs(life))
                .unwrap();
            assert_eq!(
                expires.duration_since(renewal(now, expires)).as_secs(),
                left,
                "{life}"
            );
        }
    }
}
