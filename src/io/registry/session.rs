//! A request with sign-in and redirects: credentials go to the registry and its token service, and
//! nowhere else.

use super::{
    RegistryProblem, SignIn,
    challenge::Challenge,
    http::{ErrorBody, HttpResponse, RegistryRequest, RequestSender, host_of},
};
use crate::{core::image::ImageRepository, io::http::is_private};
use reqwest::{Url, header::WWW_AUTHENTICATE};

/// Hops of one request. Storage redirects are one hop.
const HOPS: usize = 5;
/// Sign-ins of one request: the first, one after a token grew old, one after credentials changed.
const SIGN_INS: usize = 3;

/// Requests about one repository.
pub(crate) struct Session<'a> {
    pub(crate) sender: RequestSender<'a>,
    pub(crate) sign_in: &'a SignIn,
    pub(crate) repository: &'a ImageRepository,
    /// Scheme, host and port of the registry's API.
    pub(crate) base: Url,
    pub(crate) insecure: bool,
}

impl Session<'_> {
    /// Returns a URL below the repository; `rest` is `tags/list`, `manifests/…` or `blobs/…`, whose
    /// parts are already validated.
    pub(crate) fn url(&self, rest: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{}/{rest}", self.repository.path()));
        url
    }

    /// Sends a request, signed in if the registry wants it, and follows redirects.
    ///
    /// To another origin it goes without credentials, never from TLS to plain HTTP, and never from
    /// a public registry into a private network.
    ///
    /// A request that begins at another origin is a further page of a list that was redirected.
    pub(crate) async fn send(
        &self,
        request: &RegistryRequest,
    ) -> Result<HttpResponse, RegistryProblem> {
        let mut request = request.clone();
        let mut elsewhere = self.is_elsewhere(&request.call.url);
        for _ in 0..=HOPS {
            let response = if elsewhere {
                self.sender.send(&request, None).await?
            } else {
                self.send_signed(&request).await?
            };
            if !matches!(response.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let refuse = |to: &str, why| RegistryProblem::Redirect {
                host: response.host(),
                what: request.what,
                to: to.to_owned(),
                why,
            };
            let target = response
                .location()
                .ok_or_else(|| refuse("?", "the place cannot be read"))?;
            if self.is_elsewhere(&target) {
                self.check_redirect(&target)
                    .await
                    .map_err(|why| refuse(&host_of(&target), why))?;
                elsewhere = true;
            }
            request.call.url = target;
        }
        Err(RegistryProblem::Redirect {
            host: host_of(&self.base),
            what: request.what,
            to: host_of(&request.call.url),
            why: "too many in a row",
        })
    }

    /// Returns whether a URL has another scheme, host or port than the registry's API.
    fn is_elsewhere(&self, url: &Url) -> bool {
        url.origin() != self.base.origin()
    }

    /// Checks the target of a redirect to another origin.
    async fn check_redirect(&self, target: &Url) -> Result<(), &'static str> {
        match target.scheme() {
            "https" => {}
            "http" if self.insecure => {}
            _ => return Err("the new place is not reached over TLS"),
        }
        if !target.username().is_empty() || target.password().is_some() {
            return Err("the URL carries credentials");
        }
        if is_private(target).await && !is_private(&self.base).await {
            return Err("it leads from a public registry into a private network");
        }
        Ok(())
    }

    async fn send_signed(
        &self,
        request: &RegistryRequest,
    ) -> Result<HttpResponse, RegistryProblem> {
        let host = host_of(&self.base);
        let mut authorization = self
            .sign_in
            .known(&self.sender, &host, self.repository, request.kind)
            .await?;
        for _ in 0..SIGN_INS {
            let answer = self
                .sender
                .send(request, authorization.as_ref().map(|known| &known.header))
                .await?;
            match answer.status.as_u16() {
                401 => {}
                403 => return Err(self.refused(&answer).await),
                _ => return Ok(answer),
            }
            if let Some(refused) = authorization.filter(|known| known.fresh)
                && !self.sign_in.changed(self.repository, &refused.who).await?
            {
                return Err(self.refused(&answer).await);
            }
            let headers = answer
                .headers
                .get_all(WWW_AUTHENTICATE)
                .iter()
                .filter_map(|value| value.to_str().ok());
            let challenge = Challenge::choose(headers, self.insecure).map_err(|why| {
                RegistryProblem::Challenge {
                    host: host.clone(),
                    why,
                }
            })?;
            authorization = Some(
                self.sign_in
                    .answer(
                        &self.sender,
                        &host,
                        self.repository,
                        request.kind,
                        challenge,
                    )
                    .await?,
            );
        }
        let credentials = self.sign_in.origin(self.repository).await;
        Err(RegistryProblem::Unauthorized {
            host,
            status: 401,
            credentials,
            message: None,
        })
    }

    async fn refused(&self, answer: &HttpResponse) -> RegistryProblem {
        RegistryProblem::Unauthorized {
            host: answer.host(),
            status: answer.status.as_u16(),
            credentials: self.sign_in.origin(self.repository).await,
            message: answer.message(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Registries, RegistryConfig, RegistryTimeouts};
    use crate::core::image::ImageRepository;

    #[tokio::test]
    async fn redirect_to_a_worse_place_is_refused() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut plain = RegistryConfig::new("192.0.2.1:5000");
        plain.insecure = true;
        let registries = Registries::new(vec![plain], RegistryTimeouts::default()).unwrap();
        for (repository, target, expected) in [
            ("198.51.100.1/a/b", "https://198.51.100.2/x", None),
            ("198.51.100.1/a/b", "http://198.51.100.1/x", Some("TLS")),
            ("198.51.100.1/a/b", "ftp://198.51.100.1/x", Some("TLS")),
            (
                "198.51.100.1/a/b",
                "https://u:p@198.51.100.2/x",
                Some("credentials"),
            ),
            (
                "198.51.100.1/a/b",
                "https://u@198.51.100.2/x",
                Some("credentials"),
            ),
            (
                "198.51.100.1/a/b",
                "https://169.254.169.254/x",
                Some("private"),
            ),
            (
                "198.51.100.1/a/b",
                "https://127.0.0.1:8443/x",
                Some("private"),
            ),
            ("198.51.100.1/a/b", "https://localhost/x", Some("private")),
            ("10.0.0.1/a/b", "https://10.0.0.2/x", None),
            ("192.0.2.1:5000/a/b", "http://192.0.2.2/x", None),
            ("192.0.2.1:5000/a/b", "http://10.0.0.2/x", Some("private")),
        ] {
            let name = ImageRepository::new(repository).unwrap();
            let session = registries.session(&name).unwrap();
            let refused = session.check_redirect(&target.parse().unwrap()).await.err();
            let fits = match (refused, expected) {
                (Some(why), Some(part)) => why.contains(part),
                (refused, expected) => refused == expected,
            };
            assert!(fits, "{repository} to {target}: {refused:?}");
        }
    }
}
