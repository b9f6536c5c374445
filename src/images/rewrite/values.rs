//! The new texts of one reference's scalars after one decision.

use super::{
    DigestReflection, LeaveReason, RewriteDecision, UpdateDirection, inside,
    scalar::{self, ScalarText},
};
use crate::{
    core::image::{Digest, ImageRef, ImageRepository},
    images::references::{
        DigestPlace, Reference, ReferenceOrigin, ReferencePart, ReferenceSlot, is_tag, only_piece,
    },
};

/// The new texts of a reference, at least one, and what they come from.
#[derive(Debug)]
pub(crate) struct NewValues {
    pub texts: Vec<ScalarText>,
    pub old_tag: Option<String>,
    pub digest: Option<Digest>,
}

/// The change of a reference's digest.
enum DigestPin {
    Keep,
    Drop,
    Set(Digest),
}

pub(crate) fn new_values(
    source: &[u8],
    reference: &Reference,
    decision: &RewriteDecision<'_>,
) -> Result<NewValues, LeaveReason> {
    match reference
        .slots
        .iter()
        .position(|slot| slot.part == ReferencePart::Whole)
    {
        Some(slot) => whole(source, reference, slot, decision),
        None => parts(source, reference, decision),
    }
}

/// A scalar that holds a reference, or holds other text with one reference in it.
fn whole(
    source: &[u8],
    reference: &Reference,
    slot: usize,
    decision: &RewriteDecision<'_>,
) -> Result<NewValues, LeaveReason> {
    let marker = reference.policy().is_some();
    let scalar = &reference.slots[slot];
    let value = scalar.value.trim();
    let (image, inside) = match ImageRef::new(value) {
        Ok(image) => (image, None),
        // Argo CD writes `name=repo:tag` into a list of kustomize's images.
        Err(_) if !marker && reference.why != ReferenceOrigin::Kustomize => {
            return Err(LeaveReason::NotAReference);
        }
        Err(_) => {
            let (_, image) = inside::only(&scalar.value, &decision.repository)
                .ok_or(LeaveReason::NotAReference)?;
            // The same text must be in the bytes, where escapes or line folds could hide it.
            let written = scalar::raw(source, scalar).ok_or(LeaveReason::Unwritable)?;
            let (range, as_written) =
                inside::only(written, &decision.repository).ok_or(LeaveReason::Unwritable)?;
            if as_written != image {
                return Err(LeaveReason::Unwritable);
            }
            (image, Some(range))
        }
    };
    if image.repository != decision.repository {
        return Err(LeaveReason::Foreign {
            present: image.repository,
            policy: decision.repository.clone(),
        });
    }
    if image.tag.is_none() && image.digest.is_none() && !marker {
        return Err(LeaveReason::NoTag);
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
        DigestPin::Keep => {}
        DigestPin::Drop => new.digest = None,
        DigestPin::Set(digest) => new.digest = Some(digest),
    }
    if new == image {
        return Err(LeaveReason::UpToDate);
    }
    let piece = new.to_string();
    let value = match &inside {
        Some(_) => scalar.value.replacen(&image.to_string(), &piece, 1),
        None => piece.clone(),
    };
    Ok(NewValues {
        texts: vec![ScalarText {
            slot,
            value,
            inside,
            piece,
        }],
        old_tag,
        digest: new.digest,
    })
}

/// Scalars that hold the name, the tag and the digest each.
fn parts(
    source: &[u8],
    reference: &Reference,
    decision: &RewriteDecision<'_>,
) -> Result<NewValues, LeaveReason> {
    let parts = ReferenceParts::find(reference);
    let name = parts.new_name(reference, decision)?;
    let changes = parts.changes(name.is_some(), decision)?;
    let mut texts: Vec<ScalarText> = name.into_iter().collect();
    let mut written = None;
    if let Some((slot, present)) = parts.tag {
        let (value, digest) = parts.new_tag(changes, decision)?;
        if parts.has_text_around {
            if changes {
                texts.push(piece(source, slot, present, value)?);
            }
        } else if value != present.value.trim() {
            texts.push(ScalarText::whole(slot, value));
        }
        written = digest;
    }
    if let Some((slot, _)) = parts.digest
        && let DigestPin::Set(digest) = parts.new_digest(changes, decision)?
    {
        if parts.present_digest() != Some(digest.as_str()) {
            texts.push(ScalarText::whole(slot, digest.as_str().to_owned()));
        }
        written = Some(digest);
    }
    if texts.is_empty() {
        return Err(LeaveReason::UpToDate);
    }
    Ok(NewValues {
        texts,
        old_tag: parts.old_tag.map(str::to_owned),
        digest: written,
    })
}

/// The new text of a scalar in which the tag is one piece among others.
fn piece(
    source: &[u8],
    slot: usize,
    present: &ReferenceSlot,
    tag: String,
) -> Result<ScalarText, LeaveReason> {
    let range = only_piece(&present.value).ok_or(LeaveReason::NotATag)?;
    // The same piece must be in the bytes, where escapes or line folds could hide it.
    let written = scalar::raw(source, present).ok_or(LeaveReason::Unwritable)?;
    let inside = only_piece(written).ok_or(LeaveReason::Unwritable)?;
    if written[inside.clone()] != present.value[range.clone()] {
        return Err(LeaveReason::Unwritable);
    }
    let mut value = present.value.clone();
    value.replace_range(range, &tag);
    Ok(ScalarText {
        slot,
        value,
        inside: Some(inside),
        piece: tag,
    })
}

/// A scalar with its place in [`Reference::slots`].
type PartSlot<'r> = Option<(usize, &'r ReferenceSlot)>;

/// The scalars of a reference that has one for each part.
struct ReferenceParts<'r> {
    marker: bool,
    name: PartSlot<'r>,
    tag: PartSlot<'r>,
    digest: PartSlot<'r>,
    /// The tag in the scalar of the tag.
    old_tag: Option<&'r str>,
    /// The digest behind it, in the same scalar.
    glued: Option<&'r str>,
    /// The tag is one piece of its scalar's text.
    has_text_around: bool,
    digest_place: DigestPlace,
}

impl<'r> ReferenceParts<'r> {
    fn find(reference: &'r Reference) -> Self {
        let find = |part| {
            reference
                .slots
                .iter()
                .enumerate()
                .find(|(_, slot)| slot.part == part)
        };
        let marker = reference.policy().is_some();
        let tag = find(ReferencePart::Tag);
        let old_tag = tag.and_then(|(_, slot)| reference.tag_in(slot));
        let has_text_around = tag.is_some_and(|(_, slot)| {
            marker && !slot.value.trim().is_empty() && !is_tag(&slot.value)
        });
        let glued = tag
            .filter(|_| !has_text_around)
            .and_then(|(_, slot)| slot.value.trim().split_once('@'))
            .map(|(_, digest)| digest);
        Self {
            marker,
            name: find(ReferencePart::Name).filter(|_| marker),
            tag,
            digest: find(ReferencePart::Digest),
            old_tag,
            glued,
            has_text_around,
            digest_place: reference.digest_place,
        }
    }

    fn present_digest(&self) -> Option<&'r str> {
        self.digest
            .map(|(_, slot)| slot.value.trim())
            .filter(|value| !value.is_empty())
    }

    /// Returns the new text of the name, if the reference is of another repository.
    fn new_name(
        &self,
        reference: &Reference,
        decision: &RewriteDecision<'_>,
    ) -> Result<Option<ScalarText>, LeaveReason> {
        let repository = &decision.repository;
        match (self.name, &reference.repository) {
            (_, Some(present)) if present == repository => Ok(None),
            (Some((slot, _)), _) => {
                let name = spelled(reference, repository)?;
                Ok(Some(ScalarText::whole(slot, name)))
            }
            (None, Some(present)) => Err(LeaveReason::Foreign {
                present: present.clone(),
                policy: repository.clone(),
            }),
            (None, None) => Ok(None),
        }
    }

    /// Returns whether the tag changes.
    fn changes(&self, renamed: bool, decision: &RewriteDecision<'_>) -> Result<bool, LeaveReason> {
        if self.tag.is_none() && self.digest.is_none() && self.name.is_none() {
            return Err(LeaveReason::NoTag);
        }
        if self.tag.is_some() && self.old_tag.is_none() && !self.marker {
            return Err(LeaveReason::EmptyTag);
        }
        if self.has_text_around && self.old_tag.is_none() {
            return Err(LeaveReason::NotATag);
        }
        let present_digest = self.present_digest();
        // A version of another repository says nothing about this one's order.
        if renamed {
            return Ok(self.old_tag != Some(decision.tag.as_str()) || present_digest.is_some());
        }
        if self.tag.is_none() && self.digest.is_none() {
            return Ok(false);
        }
        let digest = self.glued.or(present_digest);
        judge(self.old_tag, digest, decision, self.marker)
    }

    /// Returns the new text of the tag, and the digest that is written behind it.
    fn new_tag(
        &self,
        changes: bool,
        decision: &RewriteDecision<'_>,
    ) -> Result<(String, Option<Digest>), LeaveReason> {
        let tag = if changes {
            decision.tag.as_str()
        } else {
            self.old_tag.unwrap_or_default()
        };
        let may_add = self.digest_place == DigestPlace::BehindTag;
        let pin = pin(self.glued.is_some(), may_add, changes, decision)?;
        Ok(match (pin, self.glued) {
            (DigestPin::Set(digest), _) => (format!("{tag}@{digest}"), Some(digest)),
            (DigestPin::Keep, Some(glued)) => (format!("{tag}@{glued}"), None),
            (DigestPin::Keep, None) | (DigestPin::Drop, _) => (tag.to_owned(), None),
        })
    }

    /// Returns the change of the digest's own scalar. The key stays in any case, so it must have
    /// the right digest.
    fn new_digest(
        &self,
        changes: bool,
        decision: &RewriteDecision<'_>,
    ) -> Result<DigestPin, LeaveReason> {
        let present = self.present_digest();
        if present.is_none() && self.digest_place == DigestPlace::EmptyKey {
            return pin(false, true, changes, decision);
        }
        match (decision.unpin, &decision.digest, changes) {
            (true, None, true) => Err(LeaveReason::PinnedByKey),
            (_, None, true) => Err(LeaveReason::NeedsDigest),
            (_, Some(digest), true) => Ok(DigestPin::Set(digest.clone())),
            // A marker at an empty digest asks for one.
            (false, None, false) if present.is_none() => Err(LeaveReason::NeedsDigest),
            (false, Some(digest), false) if present.is_none() => Ok(DigestPin::Set(digest.clone())),
            (true, _, false) => Ok(DigestPin::Keep),
            (false, _, false) => pin(present.is_some(), true, false, decision),
        }
    }
}

/// The policy's repository for the scalar of a name: without the registry where that has a key of
/// its own.
fn spelled(reference: &Reference, repository: &ImageRepository) -> Result<String, LeaveReason> {
    let Some(registry) = &reference.registry else {
        return Ok(repository.as_str().to_owned());
    };
    // Compared by meaning in front of a path: `index.docker.io` is `docker.io`.
    let means = ImageRepository::new(&format!("{registry}/{}", repository.path()));
    match means.is_ok_and(|means| means == *repository) {
        true => Ok(repository.path().to_owned()),
        false => Err(LeaveReason::ForeignRegistry {
            present: registry.clone(),
        }),
    }
}

/// Returns whether the tag changes. Without a tag, the present digest represents the version.
fn judge(
    tag: Option<&str>,
    digest: Option<&str>,
    decision: &RewriteDecision<'_>,
    marker: bool,
) -> Result<bool, LeaveReason> {
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
        UpdateDirection::Newer | UpdateDirection::Equal { listed: false } => Ok(true),
        UpdateDirection::Equal { listed: true } => Err(LeaveReason::EqualVersion {
            present: present.to_owned(),
        }),
        UpdateDirection::Lower if decision.allow_downgrade => Ok(true),
        UpdateDirection::Lower => Err(LeaveReason::Downgrade {
            present: present.to_owned(),
            chosen: decision.tag.to_string(),
        }),
        UpdateDirection::Unorderable if marker => Ok(true),
        UpdateDirection::Unorderable => Err(LeaveReason::Unorderable {
            present: present.to_owned(),
        }),
    }
}

/// Returns the change of a reference's digest; `may_add` is true if the place can take a digest it
/// does not have.
fn pin(
    pinned: bool,
    may_add: bool,
    changes: bool,
    decision: &RewriteDecision<'_>,
) -> Result<DigestPin, LeaveReason> {
    if decision.unpin {
        return Ok(DigestPin::Drop);
    }
    let wanted = match (pinned, decision.digest_reflection) {
        (true, DigestReflection::Always) => true,
        (true, DigestReflection::Never | DigestReflection::IfNotPresent) => changes,
        (false, DigestReflection::Never) => false,
        (false, DigestReflection::IfNotPresent | DigestReflection::Always) => may_add,
    };
    match (wanted, &decision.digest) {
        (false, _) => Ok(DigestPin::Keep),
        (true, Some(digest)) => Ok(DigestPin::Set(digest.clone())),
        (true, None) => Err(LeaveReason::NeedsDigest),
    }
}
