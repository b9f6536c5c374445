//! `WWW-Authenticate`: how a registry asks for sign-in (RFC 9110 §11.6.1, distribution token
//! specification).

use reqwest::Url;

/// Longer headers are not read: a challenge has a URL, a service and a scope.
const LONGEST: usize = 4096;

/// A way to sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token from a service.
    Bearer {
        /// The URL of the token service.
        realm: Url,
        /// The name of the registry at that service.
        service: Option<String>,
        /// The required scope of the token.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best of the headers' challenges: Bearer before Basic.
    ///
    /// `plain` says that the registry speaks plain HTTP; only then may the token service.
    pub(crate) fn choose<'a>(
        headers: impl Iterator<Item = &'a str>,
        plain: bool,
    ) -> Result<Self, String> {
        let mut basic = false;
        let mut why = "no WWW-Authenticate header".to_owned();
        for header in headers {
            if header.len() > LONGEST {
                why = format!("a challenge of more than {LONGEST} bytes");
                continue;
            }
            for (scheme, parameters) in split(header) {
                if scheme.eq_ignore_ascii_case("basic") {
                    basic = true;
                } else if scheme.eq_ignore_ascii_case("bearer") {
                    match bearer(parameters, plain) {
                        Ok(challenge) => return Ok(challenge),
                        Err(reason) => why = reason,
                    }
                } else if why.starts_with("no ") {
                    why = format!("unknown scheme {}", crate::core::image::shown(&scheme));
                }
            }
        }
        if basic {
            Ok(Challenge::Basic)
        } else {
            Err(why)
        }
    }
}

fn bearer(parameters: Vec<(String, String)>, plain: bool) -> Result<Challenge, String> {
    let (mut realm, mut service, mut scope) = (None, None, None);
    for (name, value) in parameters {
        let place = match name.to_ascii_lowercase().as_str() {
            "realm" => &mut realm,
            "service" => &mut service,
            "scope" => &mut scope,
            _ => continue,
        };
        if place.replace(value).is_some() {
            return Err(format!(
                "two values for {}",
                crate::core::image::shown(&name)
            ));
        }
    }
    let realm = realm.ok_or("a Bearer challenge without realm")?;
    let realm = Url::parse(&realm)
        .map_err(|_| format!("the realm {} is no URL", crate::core::image::shown(&realm)))?;
    match realm.scheme() {
        "https" => {}
        "http" if plain => {}
        "http" => {
            return Err(
                "the token service speaks plain HTTP while the registry speaks TLS".to_owned(),
            );
        }
        other => {
            return Err(format!(
                "the token service has scheme {}",
                crate::core::image::shown(other)
            ));
        }
    }
    if !realm.username().is_empty() || realm.password().is_some() {
        return Err("the token service's URL carries credentials".to_owned());
    }
    if realm.host_str().is_none() {
        return Err("the token service's URL has no host".to_owned());
    }
    Ok(Challenge::Bearer {
        realm,
        service,
        scope,
    })
}

/// Cuts a header into schemes with their parameters. What breaks the grammar ends the header.
fn split(header: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let word = &rest[..rest.find(|c: char| !is_token(c)).unwrap_or(rest.len())];
        if word.is_empty() {
            return found;
        }
        rest = rest[word.len()..].trim_start_matches([' ', '\t']);
        match rest.strip_prefix('=').zip(found.last_mut()) {
            Some((value, (_, parameters))) => {
                let Some((value, after)) = parameter(value.trim_start_matches([' ', '\t'])) else {
                    return found;
                };
                parameters.push((word.to_owned(), value));
                rest = after;
            }
            None if rest.starts_with('=') => return found,
            None => found.push((word.to_owned(), Vec::new())),
        }
    }
}

/// A token or a quoted string, and what follows it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let (mut value, mut chars) = (String::new(), quoted.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(header: &str, plain: bool) -> Result<Challenge, String> {
        Challenge::choose(std::iter::once(header), plain)
    }

    #[test]
    fn challenge_of_real_registries_is_parsed() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
            realm: realm.parse().unwrap(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        };
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.example.com/token",service="registry.example.com",scope="repository:library/nginx:pull""#,
                bearer(
                    "https://auth.example.com/token",
                    Some("registry.example.com"),
                    Some("repository:library/nginx:pull"),
                ),
            ),
            (
                r#"bearer realm=https://a.example/t , scope="a,b \"c\"""#,
                bearer("https://a.example/t", None, Some("a,b \"c\"")),
            ),
            (r#"Basic realm="Registry""#, Challenge::Basic),
            (
                r#"Basic realm="x", Bearer realm="https://a.example/t""#,
                bearer("https://a.example/t", None, None),
            ),
            (r#"Negotiate, Basic realm="x""#, Challenge::Basic),
            ("Basic", Challenge::Basic),
        ] {
            assert_eq!(choose(header, false).as_ref(), Ok(&expected), "{header}");
        }
    }

    #[test]
    fn challenge_hostile_is_refused_with_reason() {
        let long = format!("Bearer realm=\"https://a.example/{}\"", "a".repeat(5000));
        for (header, reason) in [
            ("", "no WWW-Authenticate"),
            ("Bearer", "without realm"),
            (r#"Bearer realm="http://a.example/t""#, "plain HTTP"),
            (r#"Bearer realm="file:///etc/passwd""#, "scheme \"file\""),
            (
                r#"Bearer realm="https://u:p@a.example/t""#,
                "carries credentials",
            ),
            (r#"Bearer realm="/token""#, "is no URL"),
            (
                r#"Bearer realm="https://a.example/t",realm="https://b.example/t""#,
                "two values",
            ),
            (r#"Bearer realm="https://a.example"#, "without realm"),
            ("Digest realm=x", "unknown scheme \"Digest\""),
            ("=x", "no WWW-Authenticate"),
            (&long, "more than 4096"),
        ] {
            let refused = choose(header, false).unwrap_err();
            assert!(refused.contains(reason), "{header}: {refused}");
        }
        assert!(choose(r#"Bearer realm="http://a.example/t""#, true).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn challenge_any_header_ends_without_panic(header in "[ -~é\t]{0,200}") {
            let _ = choose(&header, true);
        }
    }
}
