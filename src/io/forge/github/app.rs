//! Signing in as a GitHub App: a JWT signed with its key buys a token of its installation, good for
//! an hour.

use crate::io::forge::{
    ForgeLogin, ForgeOperation, ForgeProblem,
    api::{ApiCall, ForgeApi, TokenSource},
};
use crate::{core::secret::Secret, io::http::SecretLocation};
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use ring::{rand::SystemRandom, rsa, signature};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde::Deserialize;
use serde_json::json;

/// GitHub takes a JWT for ten minutes at most; its clock may be behind ours by one.
const JWT_LIFE: i64 = 9 * 60;
const CLOCKS_DIFFER: i64 = 60;
/// A token with less life left is renewed.
const RENEW: SignedDuration = SignedDuration::from_mins(5);

/// An App on one repository.
pub(crate) struct GithubApp {
    id: u64,
    installation: Option<u64>,
    private_key: SecretLocation,
    token: tokio::sync::Mutex<Option<(Secret, Timestamp)>>,
}

#[derive(Deserialize)]
struct Installation {
    id: u64,
}

#[derive(Deserialize)]
struct AccessToken {
    token: String,
    expires_at: Timestamp,
}

impl GithubApp {
    pub(crate) fn new(id: u64, installation: Option<u64>, private_key: SecretLocation) -> Self {
        Self {
            id,
            installation,
            private_key,
            token: tokio::sync::Mutex::default(),
        }
    }
}

/// Creates the source of an App's tokens.
pub(crate) fn source(login: &ForgeLogin) -> Option<Box<dyn TokenSource>> {
    match login {
        ForgeLogin::App {
            id,
            installation,
            private_key,
        } => Some(Box::new(GithubApp::new(
            *id,
            *installation,
            private_key.clone(),
        ))),
        _ => None,
    }
}

#[async_trait]
impl TokenSource for GithubApp {
    async fn token(&self, api: &ForgeApi) -> Result<Secret, ForgeProblem> {
        let mut known = self.token.lock().await;
        let now = Timestamp::now();
        if let Some((token, _)) = known.as_ref().filter(|(_, expires)| now + RENEW < *expires) {
            return Ok(token.clone());
        }
        let pem = self
            .private_key
            .text()
            .await
            .map_err(|(origin, why)| ForgeProblem::Credentials { origin, why })?;
        let jwt = jwt(self.id, &pem, now).map_err(|why| ForgeProblem::Credentials {
            origin: "the App's private key".to_owned(),
            why,
        })?;
        let installation = match self.installation {
            Some(id) => id,
            None => {
                let (owner, name) = api.repository.split_once('/').unwrap_or_default();
                let call = ApiCall::get(
                    ForgeOperation::SignIn,
                    api.url(["repos", owner, name, "installation"], &[]),
                );
                let answer = api.try_send(&call, Some(&jwt)).await?;
                api.parse::<Installation>(&call, &answer)?.id
            }
        };
        let id = installation.to_string();
        let name = api.repository.rsplit('/').next().unwrap_or_default();
        // A second token is harmless, so a lost response is retried. The token is restricted to
        // this repository.
        let body = json!({"repositories": [name]});
        let call = ApiCall::idempotent(
            ForgeOperation::SignIn,
            Method::POST,
            api.url(["app", "installations", &id, "access_tokens"], &[]),
            body,
        );
        let answer = api.try_send(&call, Some(&jwt)).await?;
        let AccessToken { token, expires_at } = api.parse(&call, &answer)?;
        let token = Secret::new(token);
        *known = Some((token.clone(), expires_at));
        Ok(token)
    }

    async fn forget(&self, token: &Secret) {
        self.token.lock().await.take_if(|(known, _)| known == token);
    }
}

/// A JSON Web Token for an App (RFC 7519, RS256).
fn jwt(id: u64, pem: &Secret, now: Timestamp) -> Result<Secret, String> {
    let der = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes())
        .map_err(|_| "it is no PEM file with a private key".to_owned())?;
    let key = match &der {
        PrivateKeyDer::Pkcs1(der) => rsa::KeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => rsa::KeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return Err("it is no RSA key".to_owned()),
    };
    let key = key.map_err(|error| format!("it is no RSA key that can be used: {error}"))?;
    let seconds = now.as_second();
    let header = json!({"alg": "RS256", "typ": "JWT"});
    let claims =
        json!({"iat": seconds - CLOCKS_DIFFER, "exp": seconds + JWT_LIFE, "iss": id.to_string()});
    let signed = format!(
        "{}.{}",
        BASE64.encode(header.to_string()),
        BASE64.encode(claims.to_string())
    );
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        &signature::RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .map_err(|_| "it does not sign".to_owned())?;
    Ok(Secret::new(format!(
        "{signed}.{}",
        BASE64.encode(signature)
    )))
}
