//! Annotations about applying an object, under our prefix and under Flux's, with Flux's meaning.

use super::{Object, PREFIX};

const FLUX: &str = "kustomize.toolkit.fluxcd.io";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ApplyMode {
    /// The manifest wins over other managers.
    #[default]
    Override,
    /// Fields of other managers that the manifest does not name stay theirs.
    Merge,
    /// Created if missing, then left alone.
    IfNotPresent,
    /// Never applied.
    Ignore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObjectSettings {
    /// `reconcile: disabled`: left alone, drift included.
    pub reconcile_disabled: bool,
    pub ssa: ApplyMode,
    /// `force: enabled`: re-created if an immutable field changes.
    pub force: bool,
}

/// An annotation, by the last part of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectSetting {
    Reconcile,
    Prune,
    Ssa,
    Force,
    /// Only under our prefix.
    DependsOn,
}

/// Returns whether an annotation is a setting, under any prefix.
pub(super) fn is_setting(annotation: &str) -> bool {
    const ALL: [ObjectSetting; 5] = [
        ObjectSetting::Reconcile,
        ObjectSetting::Prune,
        ObjectSetting::Ssa,
        ObjectSetting::Force,
        ObjectSetting::DependsOn,
    ];
    annotation.split_once('/').is_some_and(|(prefix, last)| {
        [PREFIX, FLUX].contains(&prefix) && ALL.iter().any(|setting| setting.last_part() == last)
    })
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

    /// Returns the value; our prefix goes before Flux's.
    pub fn of(self, object: &Object) -> Option<&str> {
        self.among(|name| object.annotation(name))
    }

    /// Returns the value among some annotations.
    pub(super) fn among<'o>(self, annotation: impl Fn(&str) -> Option<&'o str>) -> Option<&'o str> {
        [PREFIX, FLUX]
            .iter()
            .find_map(|prefix| annotation(&format!("{prefix}/{}", self.last_part())))
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
