//! Which maps and lists a server takes as one value each.
//!
//! A map or list of a kind is either many values, each of which may be somebody's, or a single one
//! (`x-kubernetes-map-type: atomic`, `x-kubernetes-list-type: atomic`). What somebody adds to the
//! former is theirs; what somebody adds to the latter changes what Git says. Which is which is
//! learnt from the server's books of our own apply.

use std::{collections::HashSet, fmt, sync::Arc};

/// The maps and lists of a manifest that are one value each, by [`FieldPattern`]. Most objects share
/// theirs with all of their kind, and a clone costs nothing.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct KindAtomicFields(Option<Arc<Vec<Box<str>>>>);

impl KindAtomicFields {
    /// None.
    pub const NONE: Self = Self(None);

    /// From their places, in whatever order.
    pub fn new(mut places: Vec<Box<str>>) -> Self {
        places.sort();
        places.dedup();
        places.shrink_to_fit();
        Self((!places.is_empty()).then(|| Arc::new(places)))
    }

    /// Their places, sorted.
    pub fn places(&self) -> &[Box<str>] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Whether there are none: what is empty is an object of many values, or one of which nothing
    /// has been learnt.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the value at a place is one of them.
    pub fn contains(&self, place: &FieldPattern) -> bool {
        self.places()
            .binary_search_by(|known| (**known).cmp(place.0.as_str()))
            .is_ok()
    }

    /// Without those that one of these JSON pointers reaches into: where a part is somebody else's,
    /// parts are looked at.
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

/// Whether a JSON pointer names something below a place.
fn reaches_into(pointer: &str, place: &str) -> bool {
    let mut steps = pointer.trim_end_matches('/').split('/').skip(1);
    let fits = place.split('/').skip(1).all(|part| match steps.next() {
        Some(step) if part == ELEMENT => step.parse::<usize>().is_ok(),
        Some(step) => escaped(&step.replace("~1", "/").replace("~0", "~")) == part,
        None => false,
    });
    fits && steps.next().is_some()
}

/// What stands for each element of a list.
const ELEMENT: &str = "*";

/// Where in all objects of a kind, as `/spec/containers/*/env`: a JSON pointer with a star for each
/// element of a list. A field that is named like one is written `~2`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldPattern(String);

impl FieldPattern {
    /// Steps into a field; the mark leads back.
    pub fn field(&mut self, name: &str) -> usize {
        self.step(&escaped(name))
    }

    /// Steps into the elements of a list; the mark leads back.
    pub fn element(&mut self) -> usize {
        self.step(ELEMENT)
    }

    /// Steps back to where a mark was given.
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
        _ => name.replace('~', "~0").replace('/', "~1"),
    }
}

/// All that are in use, each kept once.
#[derive(Debug, Default)]
pub struct AtomicFields {
    known: HashSet<KindAtomicFields>,
    /// When to look for those that nobody has any more.
    tidy: usize,
}

impl AtomicFields {
    /// The one that is the same as this.
    pub fn shared(&mut self, atoms: KindAtomicFields) -> KindAtomicFields {
        if atoms.is_empty() {
            return atoms;
        }
        if let Some(known) = self.known.get(&atoms) {
            return known.clone();
        }
        if self.known.len() >= self.tidy {
            self.known.retain(|known| {
                known
                    .0
                    .as_ref()
                    .is_some_and(|places| Arc::strong_count(places) > 1)
            });
            self.tidy = 2 * self.known.len() + 64;
        }
        self.known.insert(atoms.clone());
        atoms
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
    fn places_are_the_same_in_all_elements_and_names_stay_apart() {
        let mut there = place(&[Some("spec"), Some("a/b~*"), None]);
        assert_eq!(there.to_string(), "/spec/a~1b~0*/*");
        let mark = there.field("*");
        assert_eq!(there.to_string(), "/spec/a~1b~0*/*/~2");
        there.back(mark);
        let atoms = KindAtomicFields::new(vec![
            there.to_string().into(),
            "/rules".into(),
            "/rules".into(),
        ]);
        assert_eq!(atoms.places().len(), 2);
        assert!(atoms.contains(&there) && atoms.contains(&place(&[Some("rules")])));
        assert!(
            !atoms.contains(&place(&[Some("spec")]))
                && !KindAtomicFields::NONE.contains(&FieldPattern::default())
        );
        assert_eq!(KindAtomicFields::new(Vec::new()), KindAtomicFields::NONE);
    }

    #[test]
    fn what_a_pointer_reaches_into_is_looked_at_in_parts() {
        let atoms = KindAtomicFields::new(
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
                atoms.not_reached_by(&[pointer.to_owned()]).places().len(),
                left,
                "{pointer:?}"
            );
        }
    }

    #[test]
    fn those_that_are_the_same_are_kept_once_and_those_that_nobody_has_are_let_go() {
        let mut all = AtomicFields::default();
        let one = |number: usize| KindAtomicFields::new(vec![format!("/{number}").into()]);
        let first = all.shared(one(0));
        assert!(Arc::ptr_eq(
            first.0.as_ref().unwrap(),
            all.shared(one(0)).0.as_ref().unwrap()
        ));
        for number in 1..10_000 {
            all.shared(one(number));
        }
        assert!(
            all.known.len() < 200 && all.known.contains(&first),
            "{}",
            all.known.len()
        );
    }
}
