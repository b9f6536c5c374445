//! A smart-HTTP Git server over one bare repository on disk, without any Git program.
//!
//! It speaks protocol versions 0, 1 and 2 for fetching and 0 for pushing: enough for `git clone`,
//! `git fetch`, `git push` and for tagboat. It does not make shallow or partial clones, and it is
//! for loopback only: everything is held in memory.

mod merge;
mod receive;
mod repository;
mod upload;
mod wire;

pub use merge::MergeOutcome;
pub use repository::{BareRepository, SandboxGitError};

use crate::core::secret::Secret;
use axum::{
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use base64::Engine;
use std::{io::Read, net::SocketAddr, sync::Arc};

/// Bytes of a request, unpacked: far beyond what a demo pushes, far within the memory of any
/// machine.
const BODY: usize = 64 << 20;

/// A running server; it stops when dropped.
#[derive(Debug)]
pub struct GitServer {
    address: SocketAddr,
    path: String,
    task: tokio::task::JoinHandle<()>,
}

/// The state of the server.
struct GitService {
    repository: BareRepository,
    /// The path it is served under, without a slash before it.
    path: String,
    /// The required `Authorization` header.
    authorization: Option<String>,
}

impl GitServer {
    /// Serves `repository` on a loopback port of the system's choice, under its folder's name. With
    /// an account (name and password) every request must carry it.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(
        repository: BareRepository,
        account: Option<(&str, &Secret)>,
    ) -> std::io::Result<Self> {
        Self::start_with(repository, account, |app| app).await
    }

    /// Starts one behind a layer, which sees every request first: tests put their faults there.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start_with(
        repository: BareRepository,
        account: Option<(&str, &Secret)>,
        layer: impl FnOnce(axum::Router) -> axum::Router,
    ) -> std::io::Result<Self> {
        let path = repository
            .dir()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Self::start_at(repository, path, account, layer).await
    }

    /// Serves it under a custom path: `shop/fleet.git`.
    ///
    /// # Errors
    /// If no port is available.
    pub async fn start_at(
        repository: BareRepository,
        path: String,
        account: Option<(&str, &Secret)>,
        layer: impl FnOnce(axum::Router) -> axum::Router,
    ) -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let authorization = account.map(|(user, password)| {
            let both = format!("{user}:{}", password.expose());
            format!(
                "Basic {}",
                base64::engine::general_purpose::STANDARD.encode(both)
            )
        });
        let served = Arc::new(GitService {
            repository,
            path: path.clone(),
            authorization,
        });
        let router = layer(
            axum::Router::new()
                .fallback(answer)
                .layer(DefaultBodyLimit::max(BODY))
                .with_state(served),
        );
        let task = tokio::spawn(async move {
            // It ends with the task; its result has no receiver.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            path,
            task,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the clone URL, without credentials.
    pub fn url(&self) -> String {
        format!("http://{}/{}", self.address, self.path)
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    State(served): State<Arc<GitService>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(wanted) = &served.authorization
        && headers
            .get(header::AUTHORIZATION)
            .is_none_or(|sent| sent.as_bytes() != wanted.as_bytes())
    {
        let realm = [(header::WWW_AUTHENTICATE, "Basic realm=\"tagboat sandbox\"")];
        return (StatusCode::UNAUTHORIZED, realm, "sign in\n").into_response();
    }
    // gix works in this thread's time: it belongs on a thread that may block.
    match crate::io::try_blocking(move || route(&served, &method, &uri, &headers, &body)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn route(
    served: &GitService,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, SandboxGitError> {
    let repository = &served.repository;
    let missing = || Ok((StatusCode::NOT_FOUND, "no such repository\n").into_response());
    let Some(path) = uri
        .path()
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(served.path.as_str()))
    else {
        return missing();
    };
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let version = text("git-protocol")
        .split(':')
        .find_map(|part| part.strip_prefix("version=")?.parse().ok())
        .unwrap_or(0u8);
    let unpacked = match text("content-encoding").as_str() {
        "gzip" | "x-gzip" => Some(gunzip(body)?),
        _ => None,
    };
    let body = unpacked.as_deref().unwrap_or(body);
    let (kind, bytes) = match (method, path, uri.query()) {
        (&Method::GET, "/info/refs", Some("service=git-upload-pack")) => (
            "upload-pack-advertisement",
            upload::advertise(&repository.open()?, version)?,
        ),
        (&Method::GET, "/info/refs", Some("service=git-receive-pack")) => (
            "receive-pack-advertisement",
            receive::advertise(&repository.open()?)?,
        ),
        (&Method::POST, "/git-upload-pack", _) if version == 2 => (
            "upload-pack-result",
            upload::answer_v2(&repository.open()?, body)?,
        ),
        (&Method::POST, "/git-upload-pack", _) => (
            "upload-pack-result",
            upload::answer_v0(&repository.open()?, body)?,
        ),
        (&Method::POST, "/git-receive-pack", _) => {
            ("receive-pack-result", receive::answer(repository, body)?)
        }
        _ => return missing(),
    };
    let headers = [
        (header::CONTENT_TYPE, format!("application/x-git-{kind}")),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    Ok((headers, Body::from(bytes)).into_response())
}

/// Git compresses long request bodies.
fn gunzip(body: &[u8]) -> Result<Vec<u8>, SandboxGitError> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(body)
        .take(BODY as u64 + 1)
        .read_to_end(&mut out)
        .map_err(SandboxGitError::new)?;
    if out.len() > BODY {
        return Err(SandboxGitError::new("the request is too long"));
    }
    Ok(out)
}
