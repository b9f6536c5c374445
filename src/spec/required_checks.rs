//! The checks that must have passed before a pull request merges automatically.

use super::{document::SpecReader, raw};

/// The checks that must have passed before a merge. A failed or pending check always blocks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequireChecks {
    /// None need be there.
    No,
    /// The checks that the base branch requires; if it requires none, at least one, followed by a
    /// settling time for others that may start.
    Any,
    /// These checks, by name, in addition to those that the base branch requires.
    Named(Vec<RequiredCheck>),
}

/// A check that must have passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredCheck {
    pub name: String,
    /// The App or account that must have reported it; any if there is none.
    pub app: Option<String>,
}

impl std::fmt::Display for RequiredCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.app {
            None => f.write_str(&self.name),
            Some(app) => write!(f, "{} (by {app})", self.name),
        }
    }
}

/// Reads `autoMerge.requireChecks`.
pub(super) fn read_checks(
    at: &mut SpecReader<'_>,
    raw: Option<raw::RawRequireChecks>,
) -> Option<RequireChecks> {
    let names = match raw {
        None | Some(raw::RawRequireChecks::Whether(true)) => return Some(RequireChecks::Any),
        Some(raw::RawRequireChecks::Whether(false)) => return Some(RequireChecks::No),
        Some(raw::RawRequireChecks::Named(names)) => names,
    };
    let checks: Vec<RequiredCheck> = names.into_iter().map(RequiredCheck::from).collect();
    let is_no_name =
        |text: &str| text.trim() != text || text.is_empty() || text.chars().any(char::is_control);
    for (index, check) in checks.iter().enumerate() {
        let pointer = format!("/spec/update/autoMerge/requireChecks/{index}");
        let RequiredCheck { name, app } = check;
        if is_no_name(name) {
            at.error(
                &pointer,
                format!("{name:?} is no name of a check: write it as the forge shows it"),
            );
        } else if name.starts_with("tagboat/") {
            at.error(
                &pointer,
                format!("{name:?} is a status of tagboat's own, which never counts as a check"),
            );
        } else if checks[..index].contains(check) {
            at.error(&pointer, format!("{:?} is named twice", check.to_string()));
        }
        if let Some(app) = app.as_deref().filter(|app| is_no_name(app)) {
            at.error(
                &format!("{pointer}/app"),
                format!(
                    "{app:?} is no App: write its name as in its URL, or the login of the account"
                ),
            );
        }
    }
    (!at.failed()).then_some(RequireChecks::Named(checks))
}

impl From<raw::RawRequiredCheck> for RequiredCheck {
    fn from(raw: raw::RawRequiredCheck) -> Self {
        match raw {
            raw::RawRequiredCheck::Name(name) => Self { name, app: None },
            raw::RawRequiredCheck::Reported { name, app } => Self {
                name,
                app: Some(app),
            },
        }
    }
}
