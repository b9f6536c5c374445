//! Credentials over plain HTTP: only where the settings say so, or where they stay on the machine.

use url::{Host, Url};

/// The message for credentials that would be sent over plain HTTP.
pub(super) const PLAIN_HTTP: &str = "credentials would be sent over plain HTTP, where anyone on the way reads them: write https://, or insecure: true here";

/// Tells whether what is sent to a URL leaves the machine unencrypted.
pub(super) fn is_readable_on_the_way(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else {
        return false;
    };
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => true,
    };
    url.scheme() == "http" && !is_loopback
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_to_other_machines_is_readable() {
        for (url, expected) in [
            ("http://git.example.org/a", true),
            ("HTTP://git.example.org/a", true),
            ("http://10.0.0.1:3000/a", true),
            ("http://localhost.example.org/a", true),
            // Any resolver may be asked for it.
            ("http://git.localhost/a", true),
            ("https://git.example.org/a", false),
            ("http://localhost:3000/a", false),
            ("http://127.0.0.2/a", false),
            ("http://[::1]:3000/a", false),
            ("ssh://git@example.org/a", false),
            ("git@example.org:a", false),
            ("file:///srv/a", false),
        ] {
            assert_eq!(is_readable_on_the_way(url), expected, "{url}");
        }
    }
}
