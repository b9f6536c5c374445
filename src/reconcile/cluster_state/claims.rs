//! Who wants an object.

use crate::core::name::Name;
use std::collections::BTreeSet;

/// One Application nearly always; a set for each of ten thousand objects would take more room than
/// what is known of them.
#[derive(Debug)]
pub(crate) enum ClaimQueue {
    One(Name),
    Several(BTreeSet<Name>),
}

impl ClaimQueue {
    /// The first.
    pub fn new(name: &Name) -> Self {
        ClaimQueue::One(name.clone())
    }

    /// Adds one.
    pub fn add(&mut self, name: &Name) {
        match self {
            ClaimQueue::One(first) if first == name => {}
            ClaimQueue::One(first) => {
                *self = ClaimQueue::Several([first.clone(), name.clone()].into())
            }
            ClaimQueue::Several(names) => drop(names.insert(name.clone())),
        }
    }

    /// Takes one away; whether any are left.
    pub fn remove(&mut self, name: &Name) -> bool {
        match self {
            ClaimQueue::One(first) => first != name,
            ClaimQueue::Several(names) => {
                names.remove(name);
                !names.is_empty()
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Name> {
        let (one, several) = match self {
            ClaimQueue::One(name) => (Some(name), None),
            ClaimQueue::Several(names) => (None, Some(names)),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_want_an_object_come_and_go() {
        let [a, b, c]: [Name; 3] = ["x/a", "x/b", "x/c"].map(|name| name.parse().unwrap());
        let names = |claimants: &ClaimQueue| {
            claimants
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let mut claimants = ClaimQueue::new(&b);
        claimants.add(&b);
        assert_eq!(names(&claimants), ["x/b"]);
        assert!(claimants.remove(&a));
        claimants.add(&a);
        claimants.add(&c);
        assert_eq!(names(&claimants), ["x/a", "x/b", "x/c"]);
        assert!(claimants.remove(&b) && claimants.remove(&a));
        assert_eq!(names(&claimants), ["x/c"]);
        assert!(!claimants.remove(&c));
        assert!(!ClaimQueue::new(&a).remove(&a));
    }
}
