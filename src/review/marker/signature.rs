//! Signature of a marker: HMAC-SHA256 under a key of this tagboat.
//!
//! The signature covers the marker's text, the repository on the forge, the branch, the login of
//! the account that opened the pull request and, once it is open, its number. A copy in another
//! account's pull request, in another repository or of another branch is therefore invalid. A copy
//! of an earlier text of the same pull request is valid, and so is one that was written before its
//! number was known, in a later pull request of the branch.

use super::{BEGIN, enclosed};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::hmac;
use std::borrow::Cow;

/// The word before a signature, behind the marker's JSON.
const ALGORITHM: &str = "hmac-sha256:";

/// Separates these signatures from any other use of the key.
const DOMAIN: &[u8] = b"tagboat pull request marker 1";

/// Characters of a signature, with its separator.
pub(super) const SIGNATURE_LENGTH: usize = 1 + ALGORITHM.len() + 43;

/// The key that signs markers.
#[derive(Debug, Clone)]
pub struct MarkerKey(hmac::Key);

/// The pull request that a marker is signed for.
#[derive(Debug, Clone, Copy)]
pub struct MarkerSubject<'a> {
    /// The repository on its forge.
    pub repository: &'a str,
    /// The branch to merge.
    pub head: &'a str,
    /// The login of the account that opened it.
    pub author: &'a str,
    /// Its number; none before it is opened.
    pub number: Option<u64>,
}

impl MarkerKey {
    /// Creates a key from random bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Signs the text of a marker.
    pub(super) fn sign(&self, subject: MarkerSubject<'_>, json: &str) -> String {
        let tag = hmac::sign(&self.0, &signed_bytes(subject, json));
        format!(" {ALGORITHM}{}", BASE64.encode(tag))
    }

    /// Tells whether the first marker of a text was signed with this key for a pull request.
    pub fn has_signed(&self, subject: MarkerSubject<'_>, text: &str) -> bool {
        let Some((_, rest)) = text.split_once(BEGIN) else {
            return false;
        };
        let Some((json, Some(signature))) = enclosed(rest).map(split) else {
            return false;
        };
        let Ok(tag) = BASE64.decode(signature) else {
            return false;
        };
        hmac::verify(&self.0, &signed_bytes(subject, json), &tag).is_ok()
    }
}

/// Returns a text without the signature of its first marker: two texts that differ in nothing
/// else say the same.
pub fn without_signature(text: &str) -> Cow<'_, str> {
    let inside = text
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, enclosed(rest)?)));
    let Some((before, inside)) = inside else {
        return Cow::Borrowed(text);
    };
    let end = before.len() + BEGIN.len() + inside.len();
    match split(inside) {
        (json, Some(_)) => Cow::Owned(format!("{before}{BEGIN}{json} {}", &text[end..])),
        (_, None) => Cow::Borrowed(text),
    }
}

/// Splits the content of a marker's comment into JSON and signature.
pub(super) fn split(inside: &str) -> (&str, Option<&str>) {
    let inside = inside.trim();
    match inside.rsplit_once(' ') {
        Some((json, word)) if word.starts_with(ALGORITHM) && !word.ends_with('}') => {
            (json.trim(), word.strip_prefix(ALGORITHM))
        }
        _ => (inside, None),
    }
}

/// Joins the parts unambiguously: each with its length before it.
fn signed_bytes(subject: MarkerSubject<'_>, json: &str) -> Vec<u8> {
    // GraphQL of GitHub may call a bot without its ending; no account may have an App's name.
    let author = subject.author.to_ascii_lowercase();
    let author = author.strip_suffix("[bot]").unwrap_or(&author);
    let mut bytes = DOMAIN.to_vec();
    let number = subject.number.map(|number| number.to_string());
    let place = [subject.repository, subject.head, author].into_iter();
    for part in place.chain(number.as_deref()).chain([json]) {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::{super::Marker, *};

    const SUBJECT: MarkerSubject<'_> = MarkerSubject {
        repository: "https://forge.example.org/api/v1 acme/fleet",
        head: "tagboat/prod/all",
        author: "tagboat",
        number: Some(7),
    };

    fn marker() -> Marker {
        Marker::new("prod hmac-sha256:x", None, &[], "c".to_owned())
    }

    #[test]
    fn marker_signature_is_valid_for_its_request_only() {
        let key = MarkerKey::new(&[7; 32]);
        let text = marker().write(10_000, Some((&key, SUBJECT)));
        let whole = format!("before\r\n{text}\r\nafter");
        assert_eq!(Marker::read(&whole), Ok(Some(marker())));
        assert!(key.has_signed(SUBJECT, &whole));
        let same_author = MarkerSubject {
            author: "TagBoat",
            ..SUBJECT
        };
        assert!(key.has_signed(same_author, &whole));
        for other in [
            MarkerSubject {
                repository: "https://forge.example.org/api/v1 acme/other",
                ..SUBJECT
            },
            MarkerSubject {
                head: "tagboat/prod/other",
                ..SUBJECT
            },
            MarkerSubject {
                author: "mallory",
                ..SUBJECT
            },
            MarkerSubject {
                number: Some(8),
                ..SUBJECT
            },
            MarkerSubject {
                number: None,
                ..SUBJECT
            },
            MarkerSubject {
                head: "tagboat/prod/allt",
                author: "agboat",
                ..SUBJECT
            },
        ] {
            assert!(!key.has_signed(other, &whole), "{other:?}");
        }
        assert!(!MarkerKey::new(&[8; 32]).has_signed(SUBJECT, &whole));
        for edited in [
            whole.replace("\"cut\"", "\"cat\"").replace("prod", "dev"),
            whole.replace(ALGORITHM, "hmac-sha256:AA"),
            format!("{}{whole}", marker().write(10_000, None)),
            marker().write(10_000, None),
            String::new(),
        ] {
            assert!(!key.has_signed(SUBJECT, &edited), "{edited}");
        }
    }

    #[test]
    fn marker_signature_fits_the_limit() {
        let key = MarkerKey::new(&[7; 32]);
        let plain = marker().write(10_000, None);
        let signed = marker().write(10_000, Some((&key, SUBJECT)));
        assert_eq!(signed.len(), plain.len() + SIGNATURE_LENGTH);
    }

    #[test]
    fn marker_signature_is_cut_out_of_a_text() {
        let text = |key: Option<u8>| {
            let key = key.map(|byte| MarkerKey::new(&[byte; 32]));
            let line = marker().write(10_000, key.as_ref().map(|key| (key, SUBJECT)));
            format!("before\n{line}\nafter")
        };
        for signed in [text(Some(7)), text(Some(8))] {
            assert_ne!(signed, text(None));
            assert_eq!(without_signature(&signed), text(None));
        }
        for whole in [text(None), "no marker".to_owned(), BEGIN.to_owned()] {
            assert_eq!(without_signature(&whole), whole);
        }
        let other = text(Some(7)).replace("after", "later");
        assert_ne!(without_signature(&other), text(None));
    }
}
