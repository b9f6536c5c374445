//! An HTTP/1.1 server with every byte and pause of the test's choice, for responses that no real
//! registry gives.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tagboat::{
    core::image::ImageRepository,
    io::{
        http::HttpTimeouts,
        registry::{Proxy, Registries, RegistryConfig, RegistryLogin, RegistryTimeouts},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }
}

/// The way a response is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Manner {
    /// At once.
    #[default]
    Whole,
    /// The connection is closed after this many bytes of the body.
    Cut(usize),
    /// One byte of the body at a time, with this pause.
    Drip(Duration),
    /// Nothing at all; the connection stays open.
    Silent,
    /// Headers, then silence.
    Stall,
    /// Headers without end, one at a time with this pause.
    EndlessHeaders(Duration),
}

#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    manner: Manner,
}

pub(crate) fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: body.into(),
        manner: Manner::Whole,
    }
}

/// A tag list of one page.
pub(crate) fn tags<'a>(tags: impl IntoIterator<Item = &'a str>) -> Reply {
    let tags: Vec<&str> = tags.into_iter().collect();
    reply(
        200,
        serde_json::json!({"name": "team/app", "tags": tags}).to_string(),
    )
    .with("Content-Type", "application/json")
}

impl Reply {
    pub(crate) fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn manner(mut self, manner: Manner) -> Self {
        self.manner = manner;
        self
    }
}

type Handler = dyn Fn(&Seen, usize) -> Reply + Send + Sync;

/// A server that ends on drop.
pub(crate) struct Wire {
    pub host: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Wire {
    /// Answers every request with `handler`, which gets the request and the number of earlier ones.
    pub(crate) async fn start(
        handler: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (handler, record): (Arc<Handler>, _) = (Arc::new(handler), seen.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, record) = (handler.clone(), record.clone());
                tokio::spawn(async move {
                    let _ = serve(stream, &*handler, &record).await;
                });
            }
        });
        Self { host, seen, task }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The targets of all requests so far.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.target).collect()
    }

    pub(crate) fn repository(&self) -> ImageRepository {
        ImageRepository::new(&format!("{}/team/app", self.host)).unwrap()
    }

    pub(crate) fn registries(&self, credentials: RegistryLogin) -> Registries {
        registries(vec![config(&self.host, credentials)])
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Plain HTTP, without a proxy of the machine.
pub(crate) fn config(prefix: &str, credentials: RegistryLogin) -> RegistryConfig {
    RegistryConfig {
        credentials,
        insecure: true,
        proxy: Proxy::Direct,
        ..RegistryConfig::new(prefix)
    }
}

/// Bounds short enough for a test, long enough for a busy machine.
pub(crate) fn timing() -> RegistryTimeouts {
    RegistryTimeouts {
        http: HttpTimeouts {
            headers: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            body: Duration::from_secs(20),
            backoff: Duration::from_millis(1),
            ..HttpTimeouts::DEFAULT
        },
        ..RegistryTimeouts::default()
    }
}

pub(crate) fn registries(configs: Vec<RegistryConfig>) -> Registries {
    registries_with(configs, timing())
}

pub(crate) fn registries_with(
    configs: Vec<RegistryConfig>,
    timing: RegistryTimeouts,
) -> Registries {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Registries::new(configs, timing).unwrap()
}

async fn serve(
    mut stream: TcpStream,
    handler: &Handler,
    record: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    let Some(seen) = read(&mut stream).await? else {
        return Ok(());
    };
    let head_only = seen.method == "HEAD";
    let before = {
        let mut record = record.lock().unwrap();
        record.push(seen.clone());
        record.len() - 1
    };
    let reply = handler(&seen, before);
    if matches!(reply.manner, Manner::Silent) {
        // Until the client disconnects.
        let _ = stream.read(&mut [0]).await;
        return Ok(());
    }
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !reply
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        && reply.status != 304
    {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    if let Manner::EndlessHeaders(pause) = reply.manner {
        loop {
            stream.write_all(head.as_bytes()).await?;
            head = "X-More: x\r\n".to_owned();
            tokio::time::sleep(pause).await;
        }
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    if head_only {
        return stream.shutdown().await;
    }
    match reply.manner {
        Manner::Whole | Manner::Silent | Manner::EndlessHeaders(_) => {
            stream.write_all(&reply.body).await?
        }
        Manner::Cut(at) => {
            stream
                .write_all(&reply.body[..at.min(reply.body.len())])
                .await?
        }
        Manner::Drip(pause) => {
            for byte in &reply.body {
                stream.write_all(&[*byte]).await?;
                tokio::time::sleep(pause).await;
            }
        }
        Manner::Stall => {
            let _ = stream.read(&mut [0]).await;
        }
    }
    stream.shutdown().await
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Option<Seen>> {
    let mut text = Vec::new();
    let end = loop {
        if let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut text).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&text[..end]).into_owned();
    let mut lines = head.lines();
    let mut words = lines
        .next()
        .unwrap_or_default()
        .split(' ')
        .map(str::to_owned);
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    while text.len() < end + 4 + length {
        if stream.read_buf(&mut text).await? == 0 {
            break;
        }
    }
    let body = String::from_utf8_lossy(&text[end + 4..]).into_owned();
    Ok(Some(Seen {
        method,
        target,
        headers,
        body,
    }))
}
