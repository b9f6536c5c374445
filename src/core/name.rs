//! Names of declared things: `namespace/name`.

use std::{fmt, str::FromStr, sync::Arc};

/// The identity of a policy or an Application. Read from `ns/name`, `ns:name` (the form of markers)
/// or `name` (then the namespace is `default`). A clone is a pointer: thousands are kept, each in
/// many places.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<NameParts>);

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct NameParts {
    namespace: Box<str>,
    name: Box<str>,
}

/// Text that names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "name {0:?} is not namespace/name, each of lower-case letters, digits, '-' and '.' (at most 253)"
)]
pub struct NameError(String);

impl Name {
    /// Puts a name together; both parts are checked as Kubernetes checks names (RFC 1123
    /// subdomain).
    pub fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
        if is_subdomain(namespace) && is_subdomain(name) {
            Ok(Self(Arc::new(NameParts {
                namespace: namespace.into(),
                name: name.into(),
            })))
        } else {
            Err(NameError(
                format!("{namespace}/{name}").chars().take(300).collect(),
            ))
        }
    }

    /// The namespace, `default` where none was declared.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// The name within the namespace.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

/// Returns whether `text` is a DNS subdomain (RFC 1123), which Kubernetes requires of names.
pub fn is_subdomain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// Returns whether `text` is a DNS label (RFC 1123), which Kubernetes requires of namespaces.
pub fn is_label(text: &str) -> bool {
    is_subdomain(text) && text.len() <= 63 && !text.contains('.')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace(), self.name())
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once(['/', ':']) {
            Some((namespace, name)) => Self::new(namespace, name),
            None => Self::new("default", text),
        }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_reads_both_separators_and_bare_form() {
        for (text, shown) in [
            ("apps/podinfo", "apps/podinfo"),
            ("apps:podinfo", "apps/podinfo"),
            ("podinfo", "default/podinfo"),
        ] {
            assert_eq!(text.parse::<Name>().unwrap().to_string(), shown);
        }
        for bad in [
            "", "/", "a/", "/a", "a/b/c", "A/b", "a b", "a:b:tag", "-a/b", "a/b\n",
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
