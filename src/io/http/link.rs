//! `Link: <…>; rel="next"`, the only way a list may be continued (RFC 8288).

use reqwest::Url;

/// The reason why a link is not followed.
#[derive(Debug, PartialEq, Eq)]
pub enum LinkError {
    /// Another origin, which is named.
    Elsewhere(String),
    /// Not a URL.
    Unreadable,
}

/// Returns the URL of the next page that `headers` of the page at `page` name.
///
/// # Errors
/// If there is one that leaves the origin (scheme, host and port) or cannot be read: the list would
/// be cut.
pub fn next<'a>(
    headers: impl Iterator<Item = &'a str>,
    page: &Url,
) -> Result<Option<Url>, LinkError> {
    let Some(target) = next_target(headers)? else {
        return Ok(None);
    };
    let url = page.join(target).map_err(|_| LinkError::Unreadable)?;
    if url.origin() == page.origin() && url.username().is_empty() && url.password().is_none() {
        Ok(Some(url))
    } else {
        Err(LinkError::Elsewhere(
            url.host_str().unwrap_or("?").to_owned(),
        ))
    }
}

/// Returns the reference to the next page as the server wrote it.
///
/// # Errors
/// [`LinkError::Unreadable`] if a reference has no end.
pub fn next_target<'a>(
    headers: impl Iterator<Item = &'a str>,
) -> Result<Option<&'a str>, LinkError> {
    for header in headers {
        let mut rest = header;
        while let Some(open) = rest.find('<') {
            let Some(close) = rest[open..].find('>').map(|at| open + at) else {
                return Err(LinkError::Unreadable);
            };
            let (target, after) = (&rest[open + 1..close], &rest[close + 1..]);
            let end = after.find('<').unwrap_or(after.len());
            if is_next(&after[..end]) {
                return Ok(Some(target));
            }
            rest = &after[end..];
        }
    }
    Ok(None)
}

fn is_next(parameters: &str) -> bool {
    parameters.split([';', ',']).any(|parameter| {
        let Some((name, value)) = parameter.split_once('=') else {
            return false;
        };
        name.trim().eq_ignore_ascii_case("rel")
            && value
                .trim()
                .trim_matches('"')
                .split_ascii_whitespace()
                .any(|word| word.eq_ignore_ascii_case("next"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_next_of_another_origin_is_ignored() {
        let page: Url = "https://r.example/v2/a/tags/list?n=2".parse().unwrap();
        let url = |text: &str| Ok(Some(text.parse().unwrap()));
        for (header, expected) in [
            (
                r#"</v2/a/tags/list?last=b&n=2>; rel="next""#,
                url("https://r.example/v2/a/tags/list?last=b&n=2"),
            ),
            (
                "<?last=b>;rel=next",
                url("https://r.example/v2/a/tags/list?last=b"),
            ),
            (
                r#"</p>; rel="prev", </n>; title="x"; REL="start next""#,
                url("https://r.example/n"),
            ),
            (
                r#"<https://r.example:443/n>; rel="next""#,
                url("https://r.example/n"),
            ),
            (r#"</p>; rel="prev""#, Ok(None)),
            ("", Ok(None)),
            (
                r#"<https://evil.example/n>; rel="next""#,
                Err(LinkError::Elsewhere("evil.example".into())),
            ),
            (
                r#"<//evil.example/n>; rel="next""#,
                Err(LinkError::Elsewhere("evil.example".into())),
            ),
            (
                r#"<http://r.example/n>; rel="next""#,
                Err(LinkError::Elsewhere("r.example".into())),
            ),
            (
                r#"<https://r.example:444/n>; rel="next""#,
                Err(LinkError::Elsewhere("r.example".into())),
            ),
            (
                r#"<https://u@r.example/n>; rel="next""#,
                Err(LinkError::Elsewhere("r.example".into())),
            ),
            (r#"<https://[>; rel="next""#, Err(LinkError::Unreadable)),
            (r#"</n; rel="next""#, Err(LinkError::Unreadable)),
        ] {
            assert_eq!(next(std::iter::once(header), &page), expected, "{header}");
        }
    }
}
