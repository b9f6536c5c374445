//! Authors of pull requests: anyone may open one from the bot's branch, with a copy of its text.
//!
//! A marker that this store's key signed for the branch and the author of a pull request is the
//! bot's, even if its account has changed since. Only one that is signed for its number, too, lifts
//! a hold: anyone who may edit texts can copy an earlier line of the same branch into it. Without a
//! valid signature the forge tells whether the bot's account opened it: an earlier tagboat, one
//! that has lost its store, or another one of several. Such a pull request can only make tagboat
//! wait longer, and so can one whose author is unknown. A pull request of another account decides
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
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The login that forges show in the place of a deleted account.
const DELETED_ACCOUNT: &str = "ghost";

/// Who wrote a pull request, as far as it can be proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Authorship {
    /// This tagboat: its marker is signed.
    Signed,
    /// The bot's account.
    Account,
    /// Unknown: the author's account is deleted, or the forge does not tell the bot's.
    Unknown,
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

    /// Adds a login of the bot's account; returns false if it is known.
    pub(crate) fn learn(&mut self, login: &str) -> bool {
        let is_new = !login.is_empty() && !self.logins.iter().any(|known| is_login(known, login));
        if is_new {
            self.logins.push(login.to_owned());
        }
        is_new
    }

    pub(crate) fn authorship(&self, request: &PullRequest) -> Authorship {
        let author = request.author.as_str();
        let before_opening = self.subject(&request.head, author, None);
        if self.is_signed_for_number(request) || self.key.has_signed(before_opening, &request.body)
        {
            Authorship::Signed
        } else if self.logins.iter().any(|known| is_login(known, author)) {
            Authorship::Account
        } else if self.logins.is_empty()
            || author.is_empty()
            || author.eq_ignore_ascii_case(DELETED_ACCOUNT)
        {
            Authorship::Unknown
        } else {
            Authorship::Stranger
        }
    }

    /// Tells whether the marker of a pull request was signed after its opening.
    pub(crate) fn is_signed_for_number(&self, request: &PullRequest) -> bool {
        let subject = self.subject(&request.head, &request.author, Some(request.number));
        self.key.has_signed(subject, &request.body)
    }

    /// Tells whether the text that a pull request was opened with must be written again: it is not
    /// signed, or it lifts a hold, for which its number must be signed.
    pub(crate) fn lacks_signature(&self, request: &PullRequest) -> bool {
        let lifts_hold = || Marker::of(request).is_some_and(|marker| !marker.released.is_empty());
        self.authorship(request) != Authorship::Signed
            || (lifts_hold() && !self.is_signed_for_number(request))
    }

    /// Returns the marker of a pull request, unless another account wrote it.
    pub(crate) fn marker(&self, request: &PullRequest) -> Option<Marker> {
        match self.authorship(request) {
            Authorship::Signed | Authorship::Account | Authorship::Unknown => Marker::of(request),
            Authorship::Stranger => None,
        }
    }

    /// Returns key and subject for the marker of a branch's pull request; none as long as its
    /// author is unknown.
    pub(crate) fn signer<'s>(
        &'s self,
        head: &'s str,
        opened: Option<(&'s str, u64)>,
    ) -> Option<(&'s MarkerKey, MarkerSubject<'s>)> {
        let subject = match opened {
            Some((author, number)) => self.subject(head, author, Some(number)),
            None => self.subject(head, self.logins.first()?, None),
        };
        Some((&self.key, subject))
    }

    fn subject<'s>(
        &'s self,
        head: &'s str,
        author: &'s str,
        number: Option<u64>,
    ) -> MarkerSubject<'s> {
        MarkerSubject {
            repository: &self.repository,
            head,
            author,
            number,
        }
    }
}

/// Notes the author of a pull request that the bot has just opened.
pub(crate) fn learn(context: RequestContext<'_>, login: &str) {
    context.cache.lock().add_login(login);
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
    warnings: &mut Vec<String>,
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
        ask_login(context, warnings).await?;
    }
    Ok(())
}

/// Asks the forge for the bot's login, once in a process.
pub(crate) async fn ask_login(
    context: RequestContext<'_>,
    warnings: &mut Vec<String>,
) -> Result<(), ForgeError> {
    let is_asked = |authors: &Arc<RequestAuthors>| authors.is_asked;
    if context.cache.lock().authors.as_ref().is_none_or(is_asked) {
        return Ok(());
    }
    let login = context.forge.account().await?;
    if login.is_none() {
        let place = context.forge.place();
        warnings.push(format!(
            "{} {} does not tell which account the token belongs to: until tagboat has opened a pull request, those of others from its branches count as its own; let the token read its user (Gitea: scope read:user)",
            place.kind, place.project
        ));
    }
    let cache = &mut context.cache.lock();
    if let Some(authors) = &mut cache.authors {
        Arc::make_mut(authors).is_asked = true;
    }
    cache.add_login(login.as_deref().unwrap_or_default());
    Ok(())
}
