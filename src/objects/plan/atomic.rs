//! The maps and lists that an API server treats as one value.
//!
//! A map or list is granular, with owners for each entry, or atomic (`x-kubernetes-map-type:
//! atomic`, `x-kubernetes-list-type: atomic`). An entry added to a granular one belongs to its
//! manager; an entry added to an atomic one changes what Git says. Which is which is learnt from
//! the `managedFields` of our own applies.

use crate::core::pointer;
use std::{collections::HashSet, fmt, sync::Arc};

/// The atomic fields of a manifest, by [`FieldPattern`]. Most objects share theirs with all of
/// their kind, and a clone costs nothing.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct KindAtomicFields(Option<Arc<Vec<Box<str>>>>);

impl KindAtomicFields {
    pub const NONE: Self = Self(None);

    pub fn new(mut places: Vec<Box<str>>) -> Self {
        places.sort();
        places.dedup();
        places.shrink_to_fit();
        Self((!places.is_empty()).then(|| Arc::new(places)))
    }

    /// Returns the patterns, sorted.
    pub fn places(&self) -> &[Box<str>] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Returns whether there are none: all fields are granular, or nothing was learnt yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn contains(&self, place: &FieldPattern) -> bool {
        self.places()
            .binary_search_by(|known| (**known).cmp(place.0.as_str()))
            .is_ok()
    }

    /// Returns the fields that no JSON pointer reaches into. Where a part is released, the parts
    /// are compared.
    #[must_use]
    pub fn not_reached_by(&self, pointers: &[String]) -> Self {
        if self.is_empty() || pointers.is_empty() {
            return self.clone();
        }
        let reached = |place: &str| pointers.iter().any(|pointer| reaches_into(pointer, place));
        match self.places().iter().any(|place| reached(place)) {
            true => Self::new(
                self.places()
                    .iter()
                    .filter(|place| !reached(place))
                    .cloned()
                    .collect(),
            ),
            false => self.clone(),
        }
    }
}

impl fmt::Debug for KindAtomicFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.places().fmt(f)
    }
}

/// Returns whether a JSON pointer names something below a field.
fn reaches_into(pointer: &str, place: &str) -> bool {
    let mut steps = pointer.trim_end_matches('/').split('/').skip(1);
    let fits = place.split('/').skip(1).all(|part| match steps.next() {
        Some(step) if part == ELEMENT => step.parse::<usize>().is_ok(),
        Some(step) => escaped(&pointer::decode(step)) == part,
        None => false,
    });
    fits && steps.next().is_some()
}

/// Matches every element of a list.
const ELEMENT: &str = "*";

/// A field of all objects of a kind, as `/spec/containers/*/env`: a JSON pointer with a star for
/// each list element. A field named `*` is written `~2`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldPattern(String);

impl FieldPattern {
    /// Appends a field; returns a mark for [`Self::back`].
    pub fn field(&mut self, name: &str) -> usize {
        self.step(&escaped(name))
    }

    /// Appends the elements of a list; returns a mark for [`Self::back`].
    pub fn element(&mut self) -> usize {
        self.step(ELEMENT)
    }

    /// Returns to a mark.
    pub fn back(&mut self, mark: usize) {
        self.0.truncate(mark);
    }

    fn step(&mut self, name: &str) -> usize {
        let mark = self.0.len();
        self.0.push('/');
        self.0.push_str(name);
        mark
    }
}

impl fmt::Display for FieldPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn escaped(name: &str) -> String {
    match name {
        ELEMENT => "~2".to_owned(),
        _ => pointer::encode(name),
    }
}

/// Interns the atomic fields in use.
#[derive(Debug, Default)]
pub struct AtomicFields {
    interned: HashSet<KindAtomicFields>,
    /// The size at which unused sets are dropped.
    next_cleanup: usize,
}

impl AtomicFields {
    /// Returns the interned set equal to this one.
    pub fn intern(&mut self, atomic_fields: KindAtomicFields) -> KindAtomicFields {
        if atomic_fields.is_empty() {
            return atomic_fields;
        }
        if let Some(known) = self.interned.get(&atomic_fields) {
            return known.clone();
        }
        if self.interned.len() >= self.next_cleanup {
            self.interned.retain(|known| {
                known
                    .0
                    .as_ref()
                    .is_some_and(|places| Arc::strong_count(places) > 1)
            });
            self.next_cleanup = 2 * self.interned.len() + 64;
        }
        self.interned.insert(atomic_fields.clone());
        atomic_fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(steps: &[Option<&str>]) -> FieldPattern {
        let mut place = FieldPattern::default();
        for step in steps {
            match step {
                Some(name) => place.field(name),
                None => place.element(),
            };
        }
        place
    }

    #[test]
    fn pattern_escapes_stars_and_slashes() {
        let mut there = place(&[Some("spec"), Some("a/b~*"), None]);
        assert_eq!(there.to_string(), "/spec/a~1b~0*/*");
        let mark = there.field("*");
        assert_eq!(there.to_string(), "/spec/a~1b~0*/*/~2");
        there.back(mark);
        let atomic_fields = KindAtomicFields::new(vec![
            there.to_string().into(),
            "/rules".into(),
            "/rules".into(),
        ]);
        assert_eq!(atomic_fields.places().len(), 2);
        assert!(atomic_fields.contains(&there) && atomic_fields.contains(&place(&[Some("rules")])));
        assert!(
            !atomic_fields.contains(&place(&[Some("spec")]))
                && !KindAtomicFields::NONE.contains(&FieldPattern::default())
        );
        assert_eq!(KindAtomicFields::new(Vec::new()), KindAtomicFields::NONE);
    }

    #[test]
    fn not_reached_by_drops_reached_fields() {
        let atomic_fields = KindAtomicFields::new(
            ["/spec/rules", "/spec/list/*/selector", "/spec/~2"]
                .map(Into::into)
                .to_vec(),
        );
        for (pointer, left) in [
            ("/spec/rules", 3),
            ("/spec", 3),
            ("/spec/rules/0/host", 2),
            ("/spec/list/7/selector/app", 2),
            ("/spec/list/x/selector/app", 3),
            ("/spec/list/7/selector/", 3),
            ("/spec/*/a", 2),
            ("", 3),
        ] {
            assert_eq!(
                atomic_fields
                    .not_reached_by(&[pointer.to_owned()])
                    .places()
                    .len(),
                left,
                "{pointer:?}"
            );
        }
    }

    #[test]
    fn intern_shares_equal_sets_and_drops_unused() {
        let mut all = AtomicFields::default();
        let one = |number: usize| KindAtomicFields::new(vec![format!("/{number}").into()]);
        let first = all.intern(one(0));
        assert!(Arc::ptr_eq(
            first.0.as_ref().unwrap(),
            all.intern(one(0)).0.as_ref().unwrap()
        ));
        for number in 1..10_000 {
            all.intern(one(number));
        }
        assert!(
            all.interned.len() < 200 && all.interned.contains(&first),
            "{}",
            all.interned.len()
        );
    }
}
