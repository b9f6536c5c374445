//! Repositories: where the tags of one image live.

use super::ImageError;
use std::{fmt, str::FromStr};

/// The host that short names mean, in the form it is compared and shown in.
const DOCKER_HUB: &str = "docker.io";

/// An image repository in canonical form, `host[:port]/path`.
///
/// Short names mean Docker Hub (`nginx` is `docker.io/library/nginx`), so that two spellings of one
/// repository are equal. [`super::ImageRef`] keeps the spelling of a file.
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
pub struct ImageRepository {
    text: String,
    host: usize,
}

impl ImageRepository {
    /// Reads a name without tag and digest.
    pub fn new(name: &str) -> Result<Self, ImageError> {
        let bad = |why| ImageError::new("repository", name, why);
        if name.is_empty() {
            return Err(bad("is empty"));
        }
        if name.contains("://") {
            return Err(bad("must be written without a scheme"));
        }
        let (host, path) = match name.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest),
            _ => (DOCKER_HUB, name),
        };
        // Hosts have no case, but without upper case a single word would be read as no host.
        let lower = host.to_ascii_lowercase();
        let host = if is_host(&lower) { &lower } else { host };
        let host = match host {
            "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
            host => host,
        };
        if !valid_host(host) {
            return Err(bad("has a host that is none"));
        }
        if !path.split('/').all(valid_component) {
            return Err(bad(
                "must be lower-case words divided by '/', each of letters, digits and single separators (. _ __ -)",
            ));
        }
        let library = if host == DOCKER_HUB && !path.contains('/') {
            "library/"
        } else {
            ""
        };
        let text = [host, "/", library, path].concat();
        if text.len() - host.len() > 256 {
            return Err(bad("is longer than 255 characters"));
        }
        Ok(Self {
            host: host.len(),
            text,
        })
    }

    /// `host[:port]` as people write it; for Docker Hub `docker.io`.
    pub fn registry(&self) -> &str {
        &self.text[..self.host]
    }

    /// The path below the registry, `library/nginx`.
    pub fn path(&self) -> &str {
        &self.text[self.host + 1..]
    }

    /// The last word of the path: what every spelling of the repository contains.
    pub fn last_segment(&self) -> &str {
        self.text.rsplit('/').next().unwrap_or_default()
    }

    /// The canonical text, `docker.io/library/nginx`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// The first component is a host if it has a dot or a port, is `localhost`, or has upper-case
/// letters (the rule of the distribution reference).
fn is_host(first: &str) -> bool {
    first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn valid_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            return address.parse::<std::net::Ipv6Addr>().is_ok()
                && (port.is_empty() || port.strip_prefix(':').is_some_and(valid_port));
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    port.is_none_or(valid_port)
        && name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

fn valid_port(port: &str) -> bool {
    (1..=5).contains(&port.len())
        && port.bytes().all(|b| b.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn valid_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alnum(first) || !alnum(last) {
        return false;
    }
    bytes.split(|&b| alnum(b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-')
    })
}

impl fmt::Display for ImageRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ImageRepository {
    type Err = ImageError;
    fn from_str(text: &str) -> Result<Self, ImageError> {
        Self::new(text)
    }
}

impl TryFrom<String> for ImageRepository {
    type Error = ImageError;
    fn try_from(text: String) -> Result<Self, ImageError> {
        Self::new(&text)
    }
}

impl From<ImageRepository> for String {
    fn from(repository: ImageRepository) -> Self {
        repository.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_spellings_are_equal() {
        for (written, canonical) in [
            ("nginx", "docker.io/library/nginx"),
            ("library/nginx", "docker.io/library/nginx"),
            ("docker.io/nginx", "docker.io/library/nginx"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx"),
            ("Docker.IO/nginx", "docker.io/library/nginx"),
            ("Index.Docker.io/nginx", "docker.io/library/nginx"),
            ("grafana/grafana", "docker.io/grafana/grafana"),
            (
                "ghcr.io/stefanprodan/podinfo",
                "ghcr.io/stefanprodan/podinfo",
            ),
            ("localhost/app", "localhost/app"),
            ("127.0.0.1:5000/team/app", "127.0.0.1:5000/team/app"),
            ("[::1]:5000/app", "[::1]:5000/app"),
            (
                "Registry.Example.com/a__b/c--d.e",
                "registry.example.com/a__b/c--d.e",
            ),
            ("Registry/team/app", "Registry/team/app"),
            ("LOCALHOST/app", "localhost/app"),
        ] {
            let repository = ImageRepository::new(written).unwrap();
            assert_eq!(repository.as_str(), canonical);
            assert_eq!(ImageRepository::new(canonical), Ok(repository.clone()));
            assert_eq!(
                format!("{}/{}", repository.registry(), repository.path()),
                canonical
            );
        }
    }

    #[test]
    fn repository_invalid_name_is_refused() {
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "Nginx",
            "a b",
            "https://ghcr.io/a",
            "ghcr.io/",
            "a:b",
            "ghcr.io/a:1",
            "ghcr.io/a@b",
            "ghcr.io/A",
            "host.io:x/a",
            "host.io:0/a",
            "-x.io/a",
            "a___b",
            "a..b",
            "a-",
            "é",
            "a\n",
        ] {
            assert!(ImageRepository::new(bad).is_err(), "{bad:?}");
        }
    }
}
