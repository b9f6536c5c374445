//! Resolves a kubeconfig, or the in-cluster configuration: API server, trust anchors, identity.

use super::error::ClusterProblem;
use hyper::header::{HeaderName, HeaderValue};
use kube::config::{AuthInfo, ExecConfig, KubeConfigOptions, Kubeconfig, KubeconfigError};
use std::path::{Path, PathBuf};

/// A way into a cluster, read but not used yet.
pub(crate) struct ClusterEndpoint {
    /// The configuration without the parts in `source` and `own` and without the environment's
    /// proxies.
    pub config: kube::Config,
    /// The source of the bearer token, if it is not constant.
    pub source: CredentialSource,
    /// Impersonation headers of the kubeconfig itself.
    pub own: Vec<(HeaderName, HeaderValue)>,
    /// The context that it is, of a kubeconfig.
    pub context: Option<String>,
    pub server: String,
    /// The user of the kubeconfig, for messages.
    pub user: String,
    /// The origin of the configuration, for messages.
    pub file: String,
}

/// The source of a credential that changes.
#[derive(Clone)]
pub(crate) enum CredentialSource {
    /// None: it is constant, a certificate, or not needed.
    Constant,
    /// A token file, rotated by another process.
    File(PathBuf),
    Program(Box<ExecConfig>),
}

/// Reads the way into a cluster; sends nothing and runs nothing.
pub(crate) async fn read(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> Result<ClusterEndpoint, ClusterProblem> {
    let (mut config, context, proxy, user, file) = match kubeconfig {
        Some(path) => from_file(path, context).await?,
        None => {
            let file = "the service account of this pod".to_owned();
            let config =
                kube::Config::incluster_env().map_err(|error| ClusterProblem::Kubeconfig {
                    file: file.clone(),
                    why: format!("not inside a cluster: {error}"),
                })?;
            (config, None, None, "of this pod".to_owned(), file)
        }
    };
    let server = config.cluster_url.to_string();
    let fault = |why: String| ClusterProblem::Kubeconfig {
        file: file.clone(),
        why,
    };
    if !matches!(config.cluster_url.scheme_str(), Some("https" | "http"))
        || config.cluster_url.host().is_none_or(str::is_empty)
    {
        return Err(fault(format!(
            "server {} is no address, as \"https://host:6443\"",
            crate::core::image::shown(&server)
        )));
    }
    config.proxy_url = proxy
        .map(|proxy| proxy.parse())
        .transpose()
        .map_err(|_| fault("proxy-url is no URL".to_owned()))?;
    config.default_retry = false;
    let source = source_of(&mut config.auth_info).map_err(fault)?;
    let own = acting_as(&mut config.auth_info)
        .ok_or_else(|| fault("\"as\" holds characters that no header can carry".to_owned()))?;
    Ok(ClusterEndpoint {
        config,
        source,
        own,
        context,
        server,
        user,
        file,
    })
}

type KubeconfigFile = (kube::Config, Option<String>, Option<String>, String, String);

async fn from_file(path: &Path, context: Option<&str>) -> Result<KubeconfigFile, ClusterProblem> {
    let file = path.display().to_string();
    let fault = |why: String| ClusterProblem::Kubeconfig {
        file: file.clone(),
        why,
    };
    let kubeconfig = {
        let path = path.to_owned();
        crate::io::try_blocking(move || Kubeconfig::read_from(path))
            .await
            .map_err(|error| fault(error.to_string()))?
            .map_err(|error| fault(why(&error)))?
    };
    if kubeconfig.contexts.is_empty() {
        return Err(fault("it has no contexts".to_owned()));
    }
    let known = || {
        kubeconfig
            .contexts
            .iter()
            .map(|context| context.name.as_str())
            .take(20)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let Some(name) = context
        .or(kubeconfig.current_context.as_deref())
        .filter(|name| !name.is_empty())
    else {
        return Err(fault(format!(
            "it has no current-context, and none is named; it has {}",
            known()
        )));
    };
    let Some(chosen) = kubeconfig
        .contexts
        .iter()
        .find(|context| context.name == name)
        .and_then(|context| context.context.clone())
    else {
        return Err(fault(format!(
            "it has no context {name:?}; it has {}",
            known()
        )));
    };
    let proxy = kubeconfig
        .clusters
        .iter()
        .find(|cluster| cluster.name == chosen.cluster)
        .and_then(|cluster| cluster.cluster.as_ref()?.proxy_url.clone())
        .filter(|proxy| !proxy.is_empty());
    let user = chosen.user.unwrap_or_else(|| "(none)".to_owned());
    let context = Some(name.to_owned());
    let options = KubeConfigOptions {
        context: context.clone(),
        cluster: None,
        user: None,
    };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| fault(why(&error)))?;
    Ok((config, context, proxy, user, file))
}

/// Describes a kubeconfig error without text of the file, which contains keys and tokens.
fn why(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(error, _) => format!("cannot be read: {error}"),
        KubeconfigError::Parse(error) => match error.location() {
            Some(at) => format!(
                "is no kubeconfig: line {}, column {} is not what stands there in one",
                at.line(),
                at.column()
            ),
            None => "is no kubeconfig".to_owned(),
        },
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("the context names the cluster {name:?}, which is not in it")
        }
        other => other.to_string(),
    }
}

/// Extracts the changing credential, with the precedence that all Kubernetes clients share.
fn source_of(auth: &mut AuthInfo) -> Result<CredentialSource, String> {
    if auth.auth_provider.is_some()
        || (auth.username.is_some() && auth.password.is_some())
        || auth.token.is_some()
    {
        return Ok(CredentialSource::Constant);
    }
    if let Some(file) = auth.token_file.take() {
        return Ok(CredentialSource::File(file.into()));
    }
    match auth.exec.take() {
        Some(exec) if exec.command.as_deref().is_none_or(str::is_empty) => {
            Err("users[].user.exec has no command".to_owned())
        }
        Some(exec) => Ok(CredentialSource::Program(Box::new(exec))),
        None => Ok(CredentialSource::Constant),
    }
}

/// Extracts `as`, `as-uid`, `as-groups` and `as-user-extra`: they are our identity, not that of an
/// impersonated account.
fn acting_as(auth: &mut AuthInfo) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = Vec::new();
    let mut add = |name: &str, value: &str| -> Option<()> {
        headers.push((
            HeaderName::from_bytes(name.to_lowercase().as_bytes()).ok()?,
            HeaderValue::from_str(value).ok()?,
        ));
        Some(())
    };
    if let Some(user) = auth.impersonate.take() {
        add("impersonate-user", &user)?;
    }
    if let Some(uid) = auth.impersonate_uid.take() {
        add("impersonate-uid", &uid)?;
    }
    for group in auth.impersonate_groups.take().unwrap_or_default() {
        add("impersonate-group", &group)?;
    }
    for (key, values) in auth.impersonate_user_extra.take().unwrap_or_default() {
        for value in values {
            add(&format!("impersonate-extra-{key}"), &value)?;
        }
    }
    Some(headers)
}
