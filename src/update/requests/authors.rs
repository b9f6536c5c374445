//! Authors of pull requests: anyone may open one from the bot's branch, with a copy of its text.
//!
//! A marker that this store's key signed for exactly this pull request is the bot's, even if its
//! account has changed since. Without a valid signature the forge tells whether the bot's account
//! opened it: an earlier tagboat, one that has lost its store, or another one of several. Such a
//! pull request can only make tagboat wait longer. A pull request of another account decides
//! nothing at all.

use super::RequestContext;
use crate::{
    io::{
        blocking,
        forge::{ForgeError, PullRequest},
        store::StoreError,
    },
    review::{Marker, MarkerKey, MarkerSubject, is_login},
    spec,
};
use std::sync::Arc;

/// Who wrote a pull request, as far as it can be proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Authorship {
    /// This tagboat: its marker is signed.
    Signed,
    /// The bot's account, or one that the forge does not tell apart from it.
    Account,
    /// Another account.
    Stranger,
}

/// The means to tell the bot's pull requests from others.
#[derive(Debug, Clone)]
pub(crate) struct RequestAuthors {
    key: MarkerKey,
    /// The repository on its forge, as signatures name it.
    repository: String,
    /// Logins of the bot's account: the one that the forge tells, and those that pull requests
    /// were opened with.
    logins: Vec<String>,
    /// True once the forge was asked for the login.
    is_asked: bool,
}

impl RequestAuthors {
    fn new(key: MarkerKey, place: &spec::ForgeSpec) -> Self {
        Self {
            key,
            repository: format!("{} {}", place.api, place.project),
            logins: Vec::new(),
            is_asked: false,
        }
    }

    /// Adds a login of the bot's account.
    fn learn(&mut self, login: &str) {
        if !login.is_empty() && !self.logins.iter().any(|known| is_login(known, login)) {
            self.logins.push(login.to_owned());
        }
    }

    pub(crate) fn authorship(&self, request: &PullRequest) -> Authorship {
        let subject = self.subject(&request.head, &request.author);
        let is_own = |known: &String| is_login(known, &request.author);
        if self.key.has_signed(subject, &request.body) {
            Authorship::Signed
        } else if self.logins.is_empty() || self.logins.iter().any(is_own) {
            Authorship::Account
        } else {
            Authorship::Stranger
        }
    }

    /// Returns the marker of a pull request, unless another account wrote it.
    pub(crate) fn marker(&self, request: &PullRequest) -> Option<Marker> {
        match self.authorship(request) {
            Authorship::Signed | Authorship::Account => Marker::of(request),
            Authorship::Stranger => None,
        }
    }

    /// Returns key and subject for the marker of a branch's pull request; none as long as its
    /// author is unknown.
    pub(crate) fn signer<'s>(
        &'s self,
        head: &'s str,
        author: Option<&'s str>,
    ) -> Option<(&'s MarkerKey, MarkerSubject<'s>)> {
        let author = author.or_else(|| self.logins.first().map(String::as_str))?;
        Some((&self.key, self.subject(head, author)))
    }

    fn subject<'s>(&'s self, head: &'s str, author: &'s str) -> MarkerSubject<'s> {
        MarkerSubject {
            repository: &self.repository,
            head,
            author,
        }
    }
}

/// Notes the author of a pull request that the bot has just opened.
pub(crate) fn learn(context: RequestContext<'_>, login: &str) {
    if let Some(authors) = &mut context.cache.lock().authors {
        Arc::make_mut(authors).learn(login);
    }
}

/// Reads the key, once in a process.
pub(crate) async fn load(context: RequestContext<'_>) -> Result<(), StoreError> {
    if context.cache.lock().authors.is_some() {
        return Ok(());
    }
    let store = Arc::clone(&context.scanner.store);
    let key = blocking(move || store.marker_key()).await?;
    let authors = RequestAuthors::new(MarkerKey::new(&key), context.forge.place());
    context
        .cache
        .lock()
        .authors
        .get_or_insert(Arc::new(authors));
    Ok(())
}

/// Asks the forge for the bot's login, once in a process, where a pull request is not signed.
pub(crate) async fn ask(
    context: RequestContext<'_>,
    requests: &[PullRequest],
) -> Result<(), ForgeError> {
    let is_needed = {
        let cache = context.cache.lock();
        let needs = |authors: &Arc<RequestAuthors>| {
            !authors.is_asked
                && requests
                    .iter()
                    .any(|request| authors.authorship(request) != Authorship::Signed)
        };
        cache.authors.as_ref().is_some_and(needs)
    };
    if is_needed {
        ask_login(context).await?;
    }
    Ok(())
}

/// Asks the forge for the bot's login, once in a process.
pub(crate) async fn ask_login(context: RequestContext<'_>) -> Result<(), ForgeError> {
    let is_asked = |authors: &Arc<RequestAuthors>| authors.is_asked;
    if context.cache.lock().authors.as_ref().is_none_or(is_asked) {
        return Ok(());
    }
    let login = context.forge.account().await?;
    if let Some(authors) = &mut context.cache.lock().authors {
        let authors = Arc::make_mut(authors);
        authors.is_asked = true;
        authors.learn(login.as_deref().unwrap_or_default());
    }
    Ok(())
}
