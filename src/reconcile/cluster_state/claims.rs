//! The Applications that declare one object.

use crate::core::name::Name;
use std::collections::BTreeSet;

/// The claimants of an object: nearly always one.
///
/// A set for each of ten thousand objects would take more memory than everything else known of
/// them.
#[derive(Debug)]
pub(crate) enum Claimants {
    One(Name),
    Several(BTreeSet<Name>),
}

impl Claimants {
    pub(crate) fn new(name: &Name) -> Self {
        Claimants::One(name.clone())
    }

    pub(crate) fn add(&mut self, name: &Name) {
        match self {
            Claimants::One(first) if first == name => {}
            Claimants::One(first) => {
                *self = Claimants::Several([first.clone(), name.clone()].into())
            }
            Claimants::Several(names) => drop(names.insert(name.clone())),
        }
    }

    /// Removes a claimant; returns whether any are left.
    pub(crate) fn remove(&mut self, name: &Name) -> bool {
        match self {
            Claimants::One(first) => first != name,
            Claimants::Several(names) => {
                names.remove(name);
                !names.is_empty()
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Name> {
        let (one, several) = match self {
            Claimants::One(name) => (Some(name), None),
            Claimants::Several(names) => (None, Some(names)),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claimants_added_and_removed_stay_sorted() {
        let [a, b, c]: [Name; 3] = ["x/a", "x/b", "x/c"].map(|name| name.parse().unwrap());
        let names = |claimants: &Claimants| {
            claimants
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let mut claimants = Claimants::new(&b);
        claimants.add(&b);
        assert_eq!(names(&claimants), ["x/b"]);
        assert!(claimants.remove(&a));
        claimants.add(&a);
        claimants.add(&c);
        assert_eq!(names(&claimants), ["x/a", "x/b", "x/c"]);
        assert!(claimants.remove(&b) && claimants.remove(&a));
        assert_eq!(names(&claimants), ["x/c"]);
        assert!(!claimants.remove(&c));
        assert!(!Claimants::new(&a).remove(&a));
    }
}
