//! Sign-in: what a host asked for, the tokens got from its token service, and the header to send.

use super::{
    RegistryProblem,
    challenge::Challenge,
    config::RegistryTimeouts,
    credentials::{Keyring, Resolved},
    http::{ErrorBody, HttpResponse, RegistryRequest, RequestKind, RequestSender, host_of},
    identity::RegistryIdentity,
};
use crate::{
    core::{image::ImageRepository, secret::Secret},
    io::http::{HttpBody, lock},
};
use base64::Engine;
use reqwest::{Method, Url, header::HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// A token service that names no lifetime means 60 seconds (distribution token specification).
const LIFETIME: Duration = Duration::from_secs(60);
/// The longest lifetime of a cached token, whatever the token service says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Tokens are one to four kilobytes; beyond this many the expired ones go, and if none is, all.
const TOKENS: usize = 4096;
/// A token answer: the token, perhaps twice, and a refresh token.
const ANSWER: usize = 256 * 1024;
const TOKEN_REQUEST: &str = "a token request";

/// The header of a signed-in request.
#[derive(Debug, Clone)]
pub(crate) struct Authorization {
    pub(crate) header: HeaderValue,
    /// The identity; named when it is refused.
    pub(crate) who: Resolved,
    /// True if it was created for this request. A refused older one may only have expired.
    pub(crate) fresh: bool,
}

/// The authentication that a host requires for one kind of request.
#[derive(Debug, Clone)]
enum TokenScope {
    Basic,
    Bearer {
        realm: Url,
        service: Option<String>,
        actions: String,
    },
}

struct Token {
    text: Secret,
    who: Resolved,
    renew: Instant,
}

/// A cell of its own for each scope: callers of one scope wait for one request, not for those of
/// others.
type TokenCell = Arc<tokio::sync::Mutex<Option<Token>>>;

/// The sign-in of one prefix: token per (host, scope, credential).
pub(crate) struct SignIn {
    keyring: Keyring,
    wishes: Mutex<HashMap<(String, RequestKind), TokenScope>>,
    tokens: Mutex<HashMap<(String, String), TokenCell>>,
}

impl SignIn {
    pub(crate) fn new(credentials: super::RegistryLogin, timing: RegistryTimeouts) -> Self {
        Self {
            keyring: Keyring::new(credentials, timing),
            wishes: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    /// Returns the authorization for the first attempt: none for a host that never asked, except a
    /// configured token.
    pub(crate) async fn known(
        &self,
        sender: &RequestSender<'_>,
        host: &str,
        repository: &ImageRepository,
        kind: RequestKind,
    ) -> Result<Option<Authorization>, RegistryProblem> {
        let wish = {
            let wishes = lock(&self.wishes);
            let other = || {
                wishes
                    .iter()
                    .find(|((known, _), _)| known == host)
                    .map(|(_, wish)| wish)
            };
            wishes.get(&(host.to_owned(), kind)).or_else(other).cloned()
        };
        match wish {
            Some(wish) => self
                .fulfil(sender, host, repository, wish, false)
                .await
                .map(Some),
            None if self.keyring.is_anonymous() => Ok(None),
            None => {
                let who = self.keyring.resolve(repository).await?;
                match &who.identity {
                    RegistryIdentity::Bearer(token) => Ok(Some(bearer(token, who.clone(), true)?)),
                    _ => Ok(None),
                }
            }
        }
    }

    /// The answer to a 401.
    pub(crate) async fn answer(
        &self,
        sender: &RequestSender<'_>,
        host: &str,
        repository: &ImageRepository,
        kind: RequestKind,
        challenge: Challenge,
    ) -> Result<Authorization, RegistryProblem> {
        let wish = match challenge {
            Challenge::Basic => TokenScope::Basic,
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => TokenScope::Bearer {
                realm,
                service,
                actions: actions(scope.as_deref(), repository)
                    .unwrap_or("pull")
                    .to_owned(),
            },
        };
        lock(&self.wishes).insert((host.to_owned(), kind), wish.clone());
        self.fulfil(sender, host, repository, wish, true).await
    }

    /// Reads the credentials again and returns whether they differ from the refused ones.
    pub(crate) async fn changed(
        &self,
        repository: &ImageRepository,
        refused: &Resolved,
    ) -> Result<bool, RegistryProblem> {
        self.keyring.changed(repository, refused).await
    }

    /// Returns the source of the credentials for `repository`, for messages.
    pub(crate) async fn origin(&self, repository: &ImageRepository) -> String {
        match self.keyring.resolve(repository).await {
            Ok(resolved) => resolved.origin,
            Err(problem) => problem.to_string(),
        }
    }

    async fn fulfil(
        &self,
        sender: &RequestSender<'_>,
        host: &str,
        repository: &ImageRepository,
        wish: TokenScope,
        renew: bool,
    ) -> Result<Authorization, RegistryProblem> {
        let who = self.keyring.resolve(repository).await?;
        let (realm, service, actions) = match (wish, &who.identity) {
            (_, RegistryIdentity::Bearer(token)) => return bearer(token, who.clone(), true),
            (TokenScope::Basic, RegistryIdentity::Basic { username, password }) => {
                let header = basic(username, password)?;
                return Ok(Authorization {
                    header,
                    who,
                    fresh: true,
                });
            }
            (TokenScope::Basic, _) => {
                return Err(RegistryProblem::Unauthorized {
                    host: host.to_owned(),
                    status: 401,
                    credentials: who.origin,
                    message: None,
                });
            }
            (
                TokenScope::Bearer {
                    realm,
                    service,
                    actions,
                },
                _,
            ) => (realm, service, actions),
        };
        let scope = format!("repository:{}:{actions}", repository.path());
        let cell = self.cell(host, &scope);
        let mut token = cell.lock().await;
        if let Some(kept) = token
            .as_ref()
            .filter(|kept| !renew && kept.who == who && Instant::now() < kept.renew)
        {
            return bearer(&kept.text, who, false);
        }
        *token = None;
        let (text, lifetime) = fetch(sender, &realm, service.as_deref(), &scope, &who).await?;
        let header = bearer(&text, who.clone(), true)?;
        // A quarter of the lifetime, at most half a minute, covers the way of the request and a
        // clock a little off.
        let renew =
            Instant::now() + lifetime.saturating_sub((lifetime / 4).min(Duration::from_secs(30)));
        *token = Some(Token { text, who, renew });
        Ok(header)
    }

    fn cell(&self, host: &str, scope: &str) -> TokenCell {
        let mut tokens = lock(&self.tokens);
        if tokens.len() >= TOKENS {
            let now = Instant::now();
            // A locked cell is in use.
            tokens.retain(|_, cell| {
                cell.try_lock().map_or(true, |token| {
                    token.as_ref().is_some_and(|token| now < token.renew)
                })
            });
            if tokens.len() >= TOKENS {
                tokens.clear();
            }
        }
        tokens
            .entry((host.to_owned(), scope.to_owned()))
            .or_default()
            .clone()
    }
}

/// The actions of a scope for this very repository, `repository:PATH:ACTIONS`: they hold for other
/// repositories, too (one registry wants `pull` for tag lists, another `metadata_read`).
fn actions<'a>(scope: Option<&'a str>, repository: &ImageRepository) -> Option<&'a str> {
    let actions = scope?
        .strip_prefix("repository:")?
        .strip_prefix(repository.path())?
        .strip_prefix(':')?;
    let plain = |b: u8| b.is_ascii_lowercase() || matches!(b, b'_' | b',' | b'*');
    (!actions.is_empty() && actions.len() <= 64 && actions.bytes().all(plain)).then_some(actions)
}

fn basic(username: &str, password: &Secret) -> Result<HeaderValue, RegistryProblem> {
    let pair = format!("{username}:{}", password.expose());
    sensitive(
        &format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(pair)
        ),
        "the user name or password",
    )
}

fn bearer(token: &Secret, who: Resolved, fresh: bool) -> Result<Authorization, RegistryProblem> {
    let header = sensitive(&format!("Bearer {}", token.expose()), &who.origin)?;
    Ok(Authorization { header, who, fresh })
}

fn sensitive(text: &str, origin: &str) -> Result<HeaderValue, RegistryProblem> {
    let mut value = HeaderValue::from_str(text).map_err(|_| RegistryProblem::Credentials {
        origin: origin.to_owned(),
        why: "has characters that no header may have".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    /// A number, which some services write as text.
    expires_in: Option<Value>,
}

/// Requests a token from a token service.
async fn fetch(
    sender: &RequestSender<'_>,
    realm: &Url,
    service: Option<&str>,
    scope: &str,
    who: &Resolved,
) -> Result<(Secret, Duration), RegistryProblem> {
    let question = TokenQuestion {
        realm,
        fields: service
            .map(|service| ("service", service))
            .into_iter()
            .chain([("scope", scope)])
            .collect(),
    };
    let response = ask(sender, &question, &who.identity).await?;
    match response.status.as_u16() {
        200 => read_token(&response),
        status @ (400 | 401 | 403) => Err(RegistryProblem::Unauthorized {
            host: host_of(realm),
            status,
            credentials: who.origin.clone(),
            message: response.message(),
        }),
        _ => Err(response.unexpected(TOKEN_REQUEST)),
    }
}

/// Sends the question as the identity allows: GET with the password or anonymously; POST with a
/// refresh token, and with a password if the service does not support GET.
async fn ask(
    sender: &RequestSender<'_>,
    question: &TokenQuestion<'_>,
    identity: &RegistryIdentity,
) -> Result<HttpResponse, RegistryProblem> {
    match identity {
        RegistryIdentity::Refresh(token) => {
            let grant = [
                ("grant_type", "refresh_token"),
                ("refresh_token", token.expose()),
            ];
            sender.send(&question.post(&grant), None).await
        }
        RegistryIdentity::Basic { username, password } => {
            let authorization = basic(username, password)?;
            let response = sender.send(&question.get(), Some(&authorization)).await?;
            if !matches!(response.status.as_u16(), 404 | 405) {
                return Ok(response);
            }
            let grant = [
                ("grant_type", "password"),
                ("username", username.as_str()),
                ("password", password.expose()),
            ];
            sender.send(&question.post(&grant), None).await
        }
        RegistryIdentity::Anonymous | RegistryIdentity::Bearer(_) => {
            sender.send(&question.get(), None).await
        }
    }
}

/// The token service, and the token wanted from it.
struct TokenQuestion<'a> {
    realm: &'a Url,
    fields: Vec<(&'static str, &'a str)>,
}

impl TokenQuestion<'_> {
    fn get(&self) -> RegistryRequest {
        let mut request = self.request();
        request
            .call
            .url
            .query_pairs_mut()
            .extend_pairs(&self.fields);
        request
    }

    /// The form of OAuth 2. It is sent once, since a refresh token may be good for one use.
    fn post(&self, grant: &[(&str, &str)]) -> RegistryRequest {
        let form = [("client_id", "tagboat")]
            .iter()
            .chain(grant)
            .chain(&self.fields)
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut request = self.request();
        request.call.method = Method::POST;
        request.call.body = HttpBody::Form(form);
        request.call.idempotent = false;
        request
    }

    fn request(&self) -> RegistryRequest {
        RegistryRequest::get(
            self.realm.clone(),
            "application/json",
            RequestKind::Token,
            TOKEN_REQUEST,
            ANSWER,
        )
    }
}

/// Reads the token and its lifetime.
fn read_token(response: &HttpResponse) -> Result<(Secret, Duration), RegistryProblem> {
    let wrong = |why: &str| RegistryProblem::Content {
        host: response.host(),
        what: TOKEN_REQUEST,
        why: why.to_owned(),
    };
    // The reason of the JSON parser could quote a token.
    let body: TokenAnswer = serde_json::from_slice(&response.body).map_err(|_| {
        wrong(if response.is_html() {
            "HTML instead of a token"
        } else {
            "no JSON with a token"
        })
    })?;
    let text = body
        .token
        .filter(|token| !token.is_empty())
        .or(body.access_token)
        .filter(|token| !token.is_empty());
    let text = text.ok_or_else(|| wrong("no token in it"))?;
    let lifetime = body.expires_in.as_ref().and_then(lifetime);
    Ok((Secret::new(text), lifetime.unwrap_or(LIFETIME).min(LONGEST)))
}

/// Reads a lifetime in seconds; none if it is no positive number.
fn lifetime(seconds: &Value) -> Option<Duration> {
    let seconds = match seconds {
        Value::String(text) => text.trim().parse().ok()?,
        other => other.as_f64()?,
    };
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|lifetime| !lifetime.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auth_actions_come_from_own_scope_only() {
        let repository = ImageRepository::new("r.example/team/app").unwrap();
        for (scope, expected) in [
            (Some("repository:team/app:pull"), Some("pull")),
            (
                Some("repository:team/app:metadata_read"),
                Some("metadata_read"),
            ),
            (Some("repository:team/app:pull,push"), Some("pull,push")),
            (Some("repository:team/other:pull"), None),
            (Some("repository:team/app:pull repository:x:push"), None),
            (Some("registry:catalog:*"), None),
            (Some("repository:team/app:"), None),
            (None, None),
        ] {
            assert_eq!(actions(scope, &repository), expected, "{scope:?}");
        }
    }

    #[test]
    fn auth_lifetime_is_a_number_or_its_text() {
        for (json, expected) in [
            ("300", Some(300.0)),
            ("299.5", Some(299.5)),
            ("\"300\"", Some(300.0)),
            ("\" 60 \"", Some(60.0)),
            ("0", None),
            ("-1", None),
            ("\"soon\"", None),
            ("\"inf\"", None),
            ("null", None),
            ("[300]", None),
        ] {
            let found = lifetime(&serde_json::from_str(json).unwrap());
            assert_eq!(found, expected.map(Duration::from_secs_f64), "{json}");
        }
    }

    #[test]
    fn auth_header_debug_hides_the_secret() {
        let header = basic("user", &Secret::new("hunter2")).unwrap();
        assert!(
            !format!("{header:?}").contains("dXNlcjpodW50ZXIy"),
            "{header:?}"
        );
        assert_eq!(header.to_str().unwrap(), "Basic dXNlcjpodW50ZXIy");
    }
}
