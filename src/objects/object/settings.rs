//! What annotations say about applying an object, under our prefix and under Flux's, whose meanings
//! they keep.

use super::{Object, PREFIX};

/// Flux's prefix of the same annotations.
const FLUX: &str = "kustomize.toolkit.fluxcd.io";

/// How an object is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ApplyMode {
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
pub struct ObjectSettings {
    /// `reconcile: disabled`: left alone in every way, drift included.
    pub reconcile_disabled: bool,
    /// `prune: disabled`: never deleted.
    pub prune_disabled: bool,
    /// `ssa`.
    pub ssa: ApplyMode,
    /// `force: enabled`: created anew where a field cannot be changed.
    pub force: bool,
}

/// The annotations by their last part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectSetting {
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

impl ObjectSetting {
    fn last_part(self) -> &'static str {
        match self {
            ObjectSetting::Reconcile => "reconcile",
            ObjectSetting::Prune => "prune",
            ObjectSetting::Ssa => "ssa",
            ObjectSetting::Force => "force",
            ObjectSetting::DependsOn => "depends-on",
        }
    }

    /// Its text: ours before Flux's.
    pub fn of(self, object: &Object) -> Option<&str> {
        [PREFIX, FLUX]
            .iter()
            .find_map(|prefix| object.annotation(&format!("{prefix}/{}", self.last_part())))
    }
}

impl ObjectSettings {
    pub(crate) fn of(object: &Object) -> Self {
        let says = |setting: ObjectSetting, word: &str| {
            setting
                .of(object)
                .is_some_and(|text| text.eq_ignore_ascii_case(word))
        };
        Self {
            reconcile_disabled: says(ObjectSetting::Reconcile, "disabled"),
            prune_disabled: says(ObjectSetting::Prune, "disabled"),
            ssa: match ObjectSetting::Ssa.of(object) {
                Some(text) if text.eq_ignore_ascii_case("merge") => ApplyMode::Merge,
                Some(text) if text.eq_ignore_ascii_case("ifnotpresent") => ApplyMode::IfNotPresent,
                Some(text) if text.eq_ignore_ascii_case("ignore") => ApplyMode::Ignore,
                _ => ApplyMode::Override,
            },
            force: says(ObjectSetting::Force, "enabled"),
        }
    }
}
