//! Fault injection in front of a real Kubernetes server: a loopback proxy that forwards, delays,
//! cuts, and answers by itself.
//!
//! It speaks HTTP/1.1, so that a connection carries one request and can be cut for that one.

use super::kube::Kube;
use futures::{Stream, StreamExt, TryStreamExt, future::Either, stream};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TRANSFER_ENCODING},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::broadcast,
};
use tokio_rustls::TlsAcceptor;

#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub method: String,
    pub path: String,
    /// Without the question mark.
    pub query: String,
    pub body: Bytes,
}

impl Seen {
    pub(crate) fn is_watch(&self) -> bool {
        self.query
            .split('&')
            .any(|pair| matches!(pair, "watch=true" | "watch=1"))
    }

    /// The body as JSON; null if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The request is forwarded after this time.
    Delay(Duration),
    /// The connection is closed before the server gets the request.
    Cut,
    /// The server executes the request; the connection is closed before its response.
    CutAnswer,
    /// The connection is closed; the server executes the request after this time, even if the
    /// client is gone.
    Late(Duration),
    /// The server executes the request; the connection is closed after this many bytes of the
    /// response body.
    CutAfter(usize),
    /// The proxy answers with this status and Kubernetes' own message for it.
    Answer {
        status: u16,
        /// In seconds.
        retry_after: Option<u64>,
    },
    /// There is no response; the connection stays open.
    Hang,
    /// A watch starts and reports at once that its resource version is too old.
    WatchExpired,
}

/// The requests that a fault applies to.
struct Rule {
    method: &'static str,
    part: String,
    left: usize,
    fault: Fault,
}

/// A command to open connections and watches.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    CutAll,
    CutWatches,
    ExpireWatches,
}

struct State {
    upstream: String,
    client: reqwest::Client,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    down: AtomicBool,
    /// Request headers that are not forwarded.
    dropped: Mutex<Vec<&'static str>>,
    /// Commands for open connections and watches.
    orders: broadcast::Sender<Order>,
}

pub(crate) struct Proxy {
    /// The proxy's URL, used in place of the server's.
    pub url: String,
    /// The CA of the proxy's certificate, if it speaks TLS.
    pub ca: Option<PathBuf>,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

impl Proxy {
    /// Starts a proxy that clients reach without TLS.
    pub(crate) async fn start(kube: &Kube) -> Self {
        Self::start_with(kube, false).await
    }

    /// Starts a proxy with a certificate of its own; see [`Proxy::ca`].
    pub(crate) async fn start_tls(kube: &Kube) -> Self {
        Self::start_with(kube, true).await
    }

    async fn start_with(kube: &Kube, tls: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(State {
            upstream: kube.server.clone(),
            client: kube.http(),
            rules: Mutex::default(),
            seen: Mutex::default(),
            down: AtomicBool::new(false),
            dropped: Mutex::default(),
            orders: broadcast::channel(16).0,
        });
        let (mut ca, mut acceptor) = (None, None);
        if tls {
            let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
            let path = folder.path().join("ca.crt");
            std::fs::write(&path, made.cert.pem()).unwrap();
            ca = Some(path);
            let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
            let config = rustls::ServerConfig::builder()
                .with_no_client_auth()
                .with_single_cert(vec![CertificateDer::from(made.cert.der().to_vec())], key)
                .unwrap();
            acceptor = Some(TlsAcceptor::from(Arc::new(config)));
        }
        let url = format!("{}://{address}", if tls { "https" } else { "http" });
        let task = tokio::spawn(accept(listener, acceptor, state.clone()));
        Self {
            url,
            ca,
            state,
            task,
            _folder: folder,
        }
    }

    /// Applies a fault to the next `times` requests with this method (empty: any) whose path and
    /// query contain `part`. Rules are tried in the order of their creation.
    pub(crate) fn fault(&self, method: &'static str, part: &str, times: usize, fault: Fault) {
        self.state.rules.lock().unwrap().push(Rule {
            method,
            part: part.to_owned(),
            left: times,
            fault,
        });
    }

    /// Removes all faults.
    pub(crate) fn heal(&self) {
        self.state.rules.lock().unwrap().clear();
        self.state.down.store(false, Ordering::Relaxed);
    }

    /// Closes all open watches.
    pub(crate) fn cut_watches(&self) {
        self.order(Order::CutWatches);
    }

    /// Ends all open watches with the event for an old resource version (410).
    pub(crate) fn expire_watches(&self) {
        self.order(Order::ExpireWatches);
    }

    /// Simulates an outage: cuts all connections, and new ones until [`Proxy::heal`].
    pub(crate) fn vanish(&self) {
        self.state.down.store(true, Ordering::Relaxed);
        self.order(Order::CutAll);
    }

    /// Drops a request header: without `accept` the server answers as old versions do.
    pub(crate) fn drop_header(&self, name: &'static str) {
        self.state.dropped.lock().unwrap().push(name);
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Clears the recorded requests.
    pub(crate) fn forget(&self) {
        self.state.seen.lock().unwrap().clear();
    }

    fn order(&self, order: Order) {
        // An error means that there is no receiver: nothing is open.
        let _ = self.state.orders.send(order);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.order(Order::CutAll);
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        if state.down.load(Ordering::Relaxed) {
            continue;
        }
        let (tls, state) = (tls.clone(), state.clone());
        let orders = state.orders.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                () = until_cut(orders) => {}
                () = connection(stream, tls, state) => {}
            }
        });
    }
}

async fn until_cut(mut orders: broadcast::Receiver<Order>) {
    while orders.recv().await != Ok(Order::CutAll) {}
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let service = service_fn(move |request| answer(state.clone(), request));
    let server = hyper::server::conn::http1::Builder::new();
    // An error is a connection that ended, mostly because of a rule.
    match tls {
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            }
        }
        None => {
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    }
}

/// Forwards one request, or applies a fault. An error closes the connection without a response.
async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map_err(std::io::Error::other)?
        .to_bytes();
    let seen = Seen {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        body: body.clone(),
    };
    let is_watch = seen.is_watch();
    let fault = state.meets(&seen);
    state.seen.lock().unwrap().push(seen);
    match &fault {
        Some(Fault::Delay(time)) => tokio::time::sleep(*time).await,
        Some(Fault::Cut) => return Err(cut()),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Answer {
            status,
            retry_after,
        }) => return Ok(own(*status, *retry_after)),
        Some(Fault::WatchExpired) => return Ok(Response::new(text(expired()))),
        Some(Fault::Late(_) | Fault::CutAnswer | Fault::CutAfter(_)) | None => {}
    }
    let target = format!(
        "{}{}",
        state.upstream,
        head.uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
    );
    let mut headers = head.headers;
    for hop in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(hop);
    }
    for dropped in state.dropped.lock().unwrap().iter() {
        headers.remove(*dropped);
    }
    // Subscribed before the server's response, so that a watch misses no command.
    let orders = state.orders.subscribe();
    let request = state
        .client
        .request(head.method, target)
        .headers(headers)
        .body(body);
    if let Some(Fault::Late(time)) = fault {
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            request.send().await
        });
        return Err(cut());
    }
    let reply = match request.send().await {
        Ok(reply) => reply,
        Err(error) => {
            let unreachable = Response::builder()
                .status(502)
                .body(text(Bytes::from(format!("proxy: {error:?}"))));
            return Ok(unreachable.unwrap());
        }
    };
    if matches!(fault, Some(Fault::CutAnswer)) {
        return Err(cut());
    }
    let mut response = Response::builder().status(reply.status());
    for (name, value) in reply.headers() {
        if ![
            CONNECTION,
            TRANSFER_ENCODING,
            HeaderName::from_static("keep-alive"),
        ]
        .contains(name)
        {
            response = response.header(name, value);
        }
    }
    let bytes = reply.bytes_stream().map_err(std::io::Error::other);
    let bytes = match fault {
        Some(Fault::CutAfter(most)) => Either::Left(cut_after(bytes, most)),
        _ if is_watch => Either::Right(Either::Left(until_ordered(bytes, orders))),
        _ => Either::Right(Either::Right(bytes)),
    };
    Ok(response
        .body(BodyExt::boxed_unsync(StreamBody::new(
            bytes.map_ok(Frame::data),
        )))
        .unwrap())
}

impl State {
    /// Takes the fault for a request; each use counts.
    fn meets(&self, seen: &Seen) -> Option<Fault> {
        let target = format!("{}?{}", seen.path, seen.query);
        let mut rules = self.rules.lock().unwrap();
        let matching = |rule: &&mut Rule| {
            rule.left > 0
                && (rule.method.is_empty() || rule.method == seen.method)
                && target.contains(&rule.part)
        };
        let rule = rules.iter_mut().find(matching)?;
        rule.left -= 1;
        Some(rule.fault.clone())
    }
}

fn cut() -> std::io::Error {
    std::io::Error::other("cut by the test")
}

/// Passes this many bytes, then fails.
fn cut_after(
    bytes: impl Stream<Item = std::io::Result<Bytes>>,
    most: usize,
) -> impl Stream<Item = std::io::Result<Bytes>> {
    bytes
        .scan(Some(most), move |left, chunk| {
            let next = left.map(|room| match chunk {
                Ok(chunk) if chunk.len() <= room => {
                    *left = Some(room - chunk.len());
                    vec![Ok(chunk)]
                }
                Ok(chunk) => {
                    *left = None;
                    vec![Ok(chunk.slice(..room)), Err(cut())]
                }
                Err(error) => vec![Err(error)],
            });
            std::future::ready(next)
        })
        .flat_map(stream::iter)
        .then(|chunk| async {
            if chunk.is_err() {
                // The earlier bytes are sent first.
                tokio::task::yield_now().await;
            }
            chunk
        })
}

/// Passes a watch's events until a command ends it.
fn until_ordered(
    bytes: impl Stream<Item = std::io::Result<Bytes>> + Send,
    orders: broadcast::Receiver<Order>,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    stream::unfold(Some((Box::pin(bytes), orders)), |open| async {
        let (mut bytes, mut orders) = open?;
        tokio::select! {
            order = orders.recv() => Some((if order == Ok(Order::ExpireWatches) { Ok(expired()) } else { Err(cut()) }, None)),
            chunk = bytes.next() => chunk.map(|chunk| (chunk, Some((bytes, orders)))),
        }
    })
}

/// One line of a watch: the resource version is too old.
fn expired() -> Bytes {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version: 1 (2)", "reason": "Expired", "code": 410,
    });
    Bytes::from(format!("{}\n", json!({"type": "ERROR", "object": status})))
}

fn text(bytes: Bytes) -> Body {
    BodyExt::boxed_unsync(StreamBody::new(stream::iter([Ok(Frame::data(bytes))])))
}

/// A response of the proxy itself, in the words of a Kubernetes server.
fn own(status: u16, retry_after: Option<u64>) -> Response<Body> {
    let (reason, message) = match status {
        401 => ("Unauthorized", "Unauthorized"),
        403 => ("Forbidden", "forbidden by the test"),
        409 => (
            "Conflict",
            "the object has been modified; please apply your changes to the latest version and try again",
        ),
        410 => ("Expired", "too old resource version"),
        429 => (
            "TooManyRequests",
            "The server has received too many requests and has asked us to try again later",
        ),
        503 => (
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
        504 => (
            "Timeout",
            "the server was unable to return a response in the time allotted",
        ),
        _ => ("InternalError", "Internal error occurred: said by the test"),
    };
    let mut details = json!({});
    if let Some(seconds) = retry_after {
        details["retryAfterSeconds"] = json!(seconds);
    }
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details, "code": status,
    });
    let mut response = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
    }
    response.body(text(Bytes::from(body.to_string()))).unwrap()
}
