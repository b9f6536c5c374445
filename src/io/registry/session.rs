//! A request with sign-in and redirects: credentials go to the registry and its token service, and
//! nowhere else.

use super::{
    RegistryProblem, SignIn,
    challenge::Challenge,
    http::{ErrorBody, HttpResponse, RegistryRequest, RequestKind, RequestSender, host_of},
};
use crate::core::image::ImageRepository;
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

    /// Sends a request, signed in if the registry wants it, and follows redirects: within the
    /// registry always, elsewhere only for content that its digest verifies, and then without
    /// credentials.
    pub(crate) async fn send(
        &self,
        request: &RegistryRequest,
    ) -> Result<HttpResponse, RegistryProblem> {
        let mut request = request.clone();
        let mut elsewhere = false;
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
            let to = host_of(&target);
            if target.origin() != self.base.origin() {
                if request.kind == RequestKind::Tags {
                    return Err(refuse(&to, "a tag list comes from its own host"));
                }
                if target.scheme() != "https" && !(self.insecure && target.scheme() == "http") {
                    return Err(refuse(&to, "the new place is not reached over TLS"));
                }
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
