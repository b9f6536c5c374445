//! What annotations say about applying an object, under our prefix and under Flux's, whose meanings
//! they keep.

use super::{Object, PREFIX};

/// Flux's prefix of the same annotations.
const FLUX: &str = "kustomize.toolkit.fluxcd.io";

/// How an object is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ssa {
    /// What the manifest says counts, whoever wrote it before.
    #[default]
    Override,
    /// Fields that other tools own and the manifest does not name stay theirs: nothing is taken
    /// over.
    Merge,
    /// Created where it is missing, then left alone.
    IfNotPresent,
    /// Never applied.
    Ignore,
}

/// What the annotations of an object ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// `reconcile: disabled`: left alone in every way, drift included.
    pub reconcile_disabled: bool,
    /// `prune: disabled`: never deleted.
    pub prune_disabled: bool,
    /// `ssa`.
    pub ssa: Ssa,
    /// `force: enabled`: created anew where a field cannot be changed.
    pub force: bool,
}

/// The annotations by their last part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// `reconcile`
    Reconcile,
    /// `prune`
    Prune,
    /// `ssa`
    Ssa,
    /// `force`
    Force,
    /// `depends-on`, ours alone.
    DependsOn,
}

impl Setting {
    fn last_part(self) -> &'static str {
        match self {
            Setting::Reconcile => "reconcile",
            Setting::Prune => "prune",
            Setting::Ssa => "ssa",
            Setting::Force => "force",
            Setting::DependsOn => "depends-on",
        }
    }

    /// Its text: ours before Flux's.
    pub fn of(self, object: &Object) -> Option<&str> {
        [PREFIX, FLUX]
            .iter()
            .find_map(|prefix| object.annotation(&format!("{prefix}/{}", self.last_part())))
    }
}

impl Settings {
    pub(super) fn of(object: &Object) -> Self {
        let says = |setting: Setting, word: &str| {
            setting
                .of(object)
                .is_some_and(|text| text.eq_ignore_ascii_case(word))
        };
        Self {
            reconcile_disabled: says(Setting::Reconcile, "disabled"),
            prune_disabled: says(Setting::Prune, "disabled"),
            ssa: match Setting::Ssa.of(object) {
                Some(text) if text.eq_ignore_ascii_case("merge") => Ssa::Merge,
                Some(text) if text.eq_ignore_ascii_case("ifnotpresent") => Ssa::IfNotPresent,
                Some(text) if text.eq_ignore_ascii_case("ignore") => Ssa::Ignore,
                _ => Ssa::Override,
            },
            force: says(Setting::Force, "enabled"),
        }
    }
}
