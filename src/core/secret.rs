//! Secrets that cannot be printed.

use std::fmt;

/// A password, token or passphrase. It has no `Display` and no serialisation; its `Debug` shows
/// `***`, so a struct that holds one can be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text as it is; the caller has already cut the trailing line end of a file or
    /// variable.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the place that puts it on the wire and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns whether the secret is empty, as an unset variable is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_debug_shows_stars_when_nested() {
        #[derive(Debug)]
        #[expect(dead_code, reason = "read by Debug only")]
        struct Account {
            name: &'static str,
            password: Option<Secret>,
        }
        let account = Account {
            name: "bot",
            password: Some(Secret::new("hunter2")),
        };
        assert_eq!(
            format!("{account:?}"),
            r#"Account { name: "bot", password: Some(***) }"#
        );
        assert!(!format!("{account:#?}").contains("hunter2"));
        assert_eq!(Secret::new("hunter2").expose(), "hunter2");
    }
}
