//! What the scalars of one reference should say after one decision.

use super::{Decision, DigestReflection, Order, Reason, inside, scalar};
use crate::{
    image::{Digest, ImageRef, Repository},
    references::{Part, Reference, Slot},
};
use std::ops::Range;

/// The new texts of a reference, at least one, and what they come from.
#[derive(Debug)]
pub(super) struct NewValues {
    pub texts: Vec<Text>,
    pub old_tag: Option<String>,
    pub digest: Option<Digest>,
}

/// The new text of one scalar.
#[derive(Debug)]
pub(super) struct Text {
    /// Which slot of the reference.
    pub slot: usize,
    /// The whole new value.
    pub value: String,
    /// If only a piece of the scalar is replaced: where, in bytes of the scalar as written.
    pub inside: Option<Range<usize>>,
    /// What replaces that piece.
    pub piece: String,
}

impl Text {
    fn whole(slot: usize, value: String) -> Self {
        Self {
            slot,
            value,
            inside: None,
            piece: String::new(),
        }
    }
}

/// What happens to the digest of a reference.
enum Pin {
    /// It stays as it is, present or not.
    Keep,
    /// It is taken away.
    Drop,
    /// It becomes this one.
    Set(Digest),
}

pub(super) fn new_values(
    source: &[u8],
    reference: &Reference,
    decision: &Decision<'_>,
) -> Result<NewValues, Reason> {
    match reference
        .slots
        .iter()
        .position(|slot| slot.part == Part::Whole)
    {
        Some(slot) => whole(source, reference, slot, decision),
        None => parts(reference, decision),
    }
}

/// A scalar that holds a reference, or holds other text with one reference in it.
fn whole(
    source: &[u8],
    reference: &Reference,
    slot: usize,
    decision: &Decision<'_>,
) -> Result<NewValues, Reason> {
    let marker = reference.policy().is_some();
    let scalar = &reference.slots[slot];
    let value = scalar.value.trim();
    let (image, inside) = match ImageRef::new(value) {
        Ok(image) => (image, None),
        Err(_) if !marker => return Err(Reason::NotAReference),
        Err(_) => {
            let (_, image) =
                inside::only(&scalar.value, &decision.repository).ok_or(Reason::NotAReference)?;
            // The same must stand in the bytes, where escapes or line folds could hide it.
            let written = scalar::raw(source, scalar).ok_or(Reason::Unwritable)?;
            let (range, as_written) =
                inside::only(written, &decision.repository).ok_or(Reason::Unwritable)?;
            if as_written != image {
                return Err(Reason::Unwritable);
            }
            (image, Some(range))
        }
    };
    if image.repository != decision.repository {
        return Err(Reason::Foreign {
            present: image.repository,
            policy: decision.repository.clone(),
        });
    }
    if image.tag.is_none() && image.digest.is_none() && !marker {
        return Err(Reason::NoTag);
    }
    let tag = image.tag.as_ref().map(|tag| tag.as_str());
    let changes = judge(
        tag,
        image.digest.as_ref().map(Digest::as_str),
        decision,
        marker,
    )?;
    let (old_tag, pinned) = (tag.map(str::to_owned), image.digest.is_some());
    let mut new = image.clone();
    if changes {
        new.tag = Some(decision.tag.clone());
    }
    match pin(pinned, true, changes, decision)? {
        Pin::Keep => {}
        Pin::Drop => new.digest = None,
        Pin::Set(digest) => new.digest = Some(digest),
    }
    if new == image {
        return Err(Reason::UpToDate);
    }
    let piece = new.to_string();
    let value = match &inside {
        Some(_) => scalar.value.replacen(&image.to_string(), &piece, 1),
        None => piece.clone(),
    };
    Ok(NewValues {
        texts: vec![Text {
            slot,
            value,
            inside,
            piece,
        }],
        old_tag,
        digest: new.digest,
    })
}

/// Scalars that hold the tag, the name and the digest each.
fn parts(reference: &Reference, decision: &Decision<'_>) -> Result<NewValues, Reason> {
    let marker = reference.policy().is_some();
    let find = |part| {
        reference
            .slots
            .iter()
            .enumerate()
            .find(|(_, slot)| slot.part == part)
    };
    let (name, tag, digest) = (
        find(Part::Name).filter(|_| marker),
        find(Part::Tag),
        find(Part::Digest),
    );
    let mut texts = vec![];
    let own = reference.repository.as_ref() == Some(&decision.repository);
    match (name, &reference.repository) {
        (Some((slot, _)), _) if !own => {
            texts.push(Text::whole(slot, spelled(reference, &decision.repository)?))
        }
        (None, Some(present)) if !own => {
            return Err(Reason::Foreign {
                present: present.clone(),
                policy: decision.repository.clone(),
            });
        }
        _ => {}
    }
    if tag.is_none() && digest.is_none() && name.is_none() {
        return Err(Reason::NoTag);
    }
    let (old_tag, glued) = match tag {
        Some((_, slot)) => split(slot),
        None => (None, None),
    };
    if tag.is_some() && old_tag.is_none() && !marker {
        return Err(Reason::EmptyTag);
    }
    let present_digest = digest
        .map(|(_, slot)| slot.value.trim())
        .filter(|value| !value.is_empty());
    // A version of another repository says nothing about this one's order.
    let changes = match texts.is_empty() {
        true if tag.is_some() || digest.is_some() => {
            judge(old_tag, glued.or(present_digest), decision, marker)?
        }
        true => false,
        false => old_tag != Some(decision.tag.as_str()) || present_digest.is_some(),
    };
    let mut written = None;
    if let Some((slot, present)) = tag {
        let tag = if changes {
            decision.tag.as_str()
        } else {
            old_tag.unwrap_or_default()
        };
        let pin = match glued {
            Some(_) => pin(true, false, changes, decision)?,
            None => Pin::Keep,
        };
        let value = match (&pin, glued) {
            (Pin::Set(digest), _) => format!("{tag}@{digest}"),
            (Pin::Keep, Some(digest)) => format!("{tag}@{digest}"),
            (Pin::Drop, _) | (Pin::Keep, None) => tag.to_owned(),
        };
        if value != present.value.trim() {
            texts.push(Text::whole(slot, value));
        }
        if let Pin::Set(digest) = pin {
            written = Some(digest);
        }
    }
    if let Some((slot, _)) = digest {
        // The key stays whatever is wished, so it must hold the right digest.
        let pin = match (decision.unpin, &decision.digest, changes) {
            (true, None, true) => return Err(Reason::PinnedByKey),
            (_, None, true) => return Err(Reason::NeedsDigest),
            (_, Some(digest), true) => Pin::Set(digest.clone()),
            // Only a marker finds an empty digest, and it asks for one.
            (false, None, false) if present_digest.is_none() => return Err(Reason::NeedsDigest),
            (false, Some(digest), false) if present_digest.is_none() => Pin::Set(digest.clone()),
            (true, _, false) => Pin::Keep,
            (false, _, false) => pin(present_digest.is_some(), true, false, decision)?,
        };
        if let Pin::Set(digest) = pin {
            if present_digest != Some(digest.as_str()) {
                texts.push(Text::whole(slot, digest.as_str().to_owned()));
            }
            written = Some(digest);
        }
    }
    if texts.is_empty() {
        return Err(Reason::UpToDate);
    }
    Ok(NewValues {
        texts,
        old_tag: old_tag.map(str::to_owned),
        digest: written,
    })
}

/// Tag and digest in the scalar of a tag.
fn split(slot: &Slot) -> (Option<&str>, Option<&str>) {
    let value = slot.value.trim();
    let (tag, digest) = value
        .split_once('@')
        .map_or((value, None), |(tag, digest)| (tag, Some(digest)));
    (Some(tag).filter(|tag| !tag.is_empty()), digest)
}

/// The policy's repository for the scalar of a name: without the registry where that has a key of
/// its own.
fn spelled(reference: &Reference, repository: &Repository) -> Result<String, Reason> {
    let Some(registry) = &reference.registry else {
        return Ok(repository.as_str().to_owned());
    };
    // Judged by what the registry means beside some path: `index.docker.io` is `docker.io`.
    let means = Repository::new(&format!("{registry}/{}", repository.path()));
    match means.is_ok_and(|means| means == *repository) {
        true => Ok(repository.path().to_owned()),
        false => Err(Reason::ForeignRegistry {
            present: registry.clone(),
        }),
    }
}

/// Whether the tag is to change. Without a tag the present digest stands for the version.
fn judge(
    tag: Option<&str>,
    digest: Option<&str>,
    decision: &Decision<'_>,
    marker: bool,
) -> Result<bool, Reason> {
    let present = match (tag, digest) {
        (Some(tag), _) if tag == decision.tag.as_str() => return Ok(false),
        (None, Some(digest))
            if decision
                .digest
                .as_ref()
                .is_some_and(|chosen| chosen.as_str() == digest) =>
        {
            return Ok(false);
        }
        (Some(present), _) | (None, Some(present)) => present,
        (None, None) => return Ok(true),
    };
    match (decision.compare)(present) {
        Order::Newer | Order::Equal { listed: false } => Ok(true),
        Order::Equal { listed: true } => Err(Reason::EqualVersion {
            present: present.to_owned(),
        }),
        Order::Lower if decision.allow_downgrade => Ok(true),
        Order::Lower => Err(Reason::Downgrade {
            present: present.to_owned(),
            chosen: decision.tag.to_string(),
        }),
        Order::Unorderable if marker => Ok(true),
        Order::Unorderable => Err(Reason::Unorderable {
            present: present.to_owned(),
        }),
    }
}

/// What happens to the digest of a reference; `may_add` says whether the place can take one that it
/// has not.
fn pin(pinned: bool, may_add: bool, changes: bool, decision: &Decision<'_>) -> Result<Pin, Reason> {
    if decision.unpin {
        return Ok(Pin::Drop);
    }
    let wanted = match (pinned, decision.digest_reflection) {
        (true, DigestReflection::Always) => true,
        (true, DigestReflection::Never | DigestReflection::IfNotPresent) => changes,
        (false, DigestReflection::Never) => false,
        (false, DigestReflection::IfNotPresent | DigestReflection::Always) => may_add,
    };
    match (wanted, &decision.digest) {
        (false, _) => Ok(Pin::Keep),
        (true, Some(digest)) => Ok(Pin::Set(digest.clone())),
        (true, None) => Err(Reason::NeedsDigest),
    }
}
