//! A connection pool to an API server, renewed when its credentials are no longer accepted.
//!
//! HTTP/1.1, one connection per request in flight. Impersonation is a header of each request, so
//! all identities share the pool. No compression: the server offers it for large lists only, and
//! within a data centre it costs more time than the bytes are worth.

use super::{
    RequestIdentity,
    config::{self, ClusterEndpoint},
    credential::{self, AuthorizationSource},
    error::ClusterProblem,
};
use crate::{events::Recorder, io::http::is_loopback};
use hyper::Request;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper_util::{
    client::{
        legacy::{
            Client,
            connect::{
                HttpConnector,
                proxy::{SocksV5, Tunnel},
            },
        },
        proxy::matcher::Matcher,
    },
    rt::{TokioExecutor, TokioTimer},
};
use jiff::Timestamp;
use kube::client::{Body, ConfigExt};
use std::time::Duration;
use tower::{BoxError, ServiceBuilder};

/// The connect timeout.
const CONNECT: Duration = Duration::from_secs(10);
/// An idle connection is tried after this, every so often, so many times: a peer that is gone is
/// noticed within 45 s.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(5), 3);

/// A pool with the credentials it uses.
pub(crate) struct Connection {
    pub client: kube::Client,
    pub server: String,
    credentials: AuthorizationSource,
    own: Vec<(hyper::header::HeaderName, HeaderValue)>,
    renew: Option<Timestamp>,
    /// Counts the connections of a cluster, to know which one failed.
    pub generation: u64,
}

impl Connection {
    pub(crate) async fn open(
        way: ClusterEndpoint,
        generation: u64,
        events: Recorder,
    ) -> Result<Self, ClusterProblem> {
        let ClusterEndpoint {
            mut config,
            source,
            own,
            server,
            file,
            ..
        } = way;
        let (credentials, given) = AuthorizationSource::open(source, events).await?;
        let mut renew = None;
        if let Some((certificate, key)) = given.certificate {
            config.auth_info.client_certificate_data = Some(credential::in_base64(&certificate));
            config.auth_info.client_key_data = Some(credential::in_base64(&key).into());
            renew = given
                .expires
                .map(|expires| credential::renewal(Timestamp::now(), expires));
        }
        // Keys and certificates are read from files here.
        let client = client(config).map_err(|why| ClusterProblem::Kubeconfig { file, why })?;
        Ok(Self {
            client,
            server,
            credentials,
            own,
            renew,
            generation,
        })
    }

    /// Returns whether the client certificate is about to expire.
    pub(crate) fn is_expiring(&self) -> bool {
        self.renew.is_some_and(|renew| Timestamp::now() >= renew)
    }

    /// Adds who we are, and for whom we act, to a request.
    pub(crate) async fn sign<B>(
        &self,
        request: &mut Request<B>,
        identity: &RequestIdentity,
    ) -> Result<(), ClusterProblem> {
        let headers = request.headers_mut();
        if let Some(header) = self.credentials.header().await? {
            headers.insert(AUTHORIZATION, header);
        }
        match identity {
            RequestIdentity::Own => {
                for (name, value) in &self.own {
                    headers.append(name, value.clone());
                }
            }
            // The server adds the groups of the account: naming them would need the right to
            // impersonate groups.
            RequestIdentity::ServiceAccount { namespace, name } => {
                let value = |text: String| {
                    HeaderValue::from_str(&text).map_err(|_| ClusterProblem::Address {
                        why: format!(
                            "serviceAccountName {} is no name",
                            crate::core::image::shown(&text)
                        ),
                    })
                };
                headers.insert(
                    "impersonate-user",
                    value(format!("system:serviceaccount:{namespace}:{name}"))?,
                );
            }
        }
        Ok(())
    }
}

fn client(mut config: kube::Config) -> Result<kube::Client, String> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(KEEPALIVE.0));
    tcp.set_keepalive_interval(Some(KEEPALIVE.1));
    tcp.set_keepalive_retries(Some(KEEPALIVE.2));
    let declared = config.proxy_url.take();
    let proxies = match &declared {
        Some(proxy) => Matcher::builder().all(proxy.to_string()).build(),
        // As in kubectl: the environment's proxy does not apply to loopback.
        None if is_loopback(config.cluster_url.host().unwrap_or_default()) => {
            return pool(&config, tcp);
        }
        None => Matcher::from_env(),
    };
    let proxy = match proxies.intercept(&config.cluster_url) {
        Some(proxy) => proxy,
        None if declared.is_none() => return pool(&config, tcp),
        // Not gone round: it may be there for a reason.
        None => return Err("proxy-url is not understood: http and socks5 are".to_owned()),
    };
    match proxy.uri().scheme_str() {
        Some("http") => {
            let tunnel = Tunnel::new(proxy.uri().clone(), tcp);
            pool(
                &config,
                proxy
                    .basic_auth()
                    .map_or(tunnel.clone(), |auth| tunnel.with_auth(auth.clone())),
            )
        }
        Some("socks5" | "socks5h") => {
            let socks = SocksV5::new(proxy.uri().clone(), tcp);
            match proxy.raw_auth() {
                Some((user, password)) => pool(
                    &config,
                    socks.with_auth(user.to_owned(), password.to_owned()),
                ),
                None => pool(&config, socks),
            }
        }
        other => Err(format!(
            "a proxy with the scheme {other:?} is not supported, http and socks5 are"
        )),
    }
}

fn pool<C>(config: &kube::Config, connector: C) -> Result<kube::Client, String>
where
    C: tower::Service<hyper::Uri> + Clone + Send + Sync + 'static,
    C::Response: hyper_util::client::legacy::connect::Connection
        + hyper::rt::Read
        + hyper::rt::Write
        + Send
        + Unpin
        + 'static,
    C::Future: Send + 'static,
    C::Error: std::error::Error + Send + Sync + 'static,
{
    let tls = config
        .rustls_https_connector_with_connector(connector)
        .map_err(|error| chain(&error))?;
    let http = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .build::<_, Body>(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(|_| {
            "its auth-provider gives no credentials: use exec or a token".to_owned()
        })?)
        .map_err(BoxError::from)
        .service(http);
    Ok(kube::Client::new(service, config.default_namespace.clone()))
}

/// Formats an error with its causes, without repetitions.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text.chars()
        .filter(|c| !c.is_control())
        .take(1000)
        .collect()
}

/// Reads the way again and connects, for a cluster whose connection is missing, expiring or
/// refused. All that is known of a cluster is of one address: another one may be another cluster,
/// with which nothing of it may be mixed.
pub(crate) async fn reopen(
    kubeconfig: Option<&std::path::Path>,
    context: Option<&str>,
    server: &str,
    generation: u64,
    events: Recorder,
) -> Result<Connection, ClusterProblem> {
    let way = config::read(kubeconfig, context).await?;
    if way.server != server {
        let why = format!(
            "its server changed from {server} to {}: restart tagboat if that is intended",
            way.server
        );
        return Err(ClusterProblem::Kubeconfig {
            file: way.file,
            why,
        });
    }
    Connection::open(way, generation, events).await
}
