//! Packet lines: four hexadecimal digits of length, then the data (`gitprotocol-common`).

use super::SandboxGitError;

/// One packet line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Data without its line end.
    Data(&'a [u8]),
    /// `0000`
    Flush,
    /// `0001`
    Delimiter,
}

/// Takes the first line off `input`; `None` at its end.
pub(super) fn next<'a>(input: &mut &'a [u8]) -> Result<Option<Line<'a>>, SandboxGitError> {
    if input.is_empty() {
        return Ok(None);
    }
    let wrong = || SandboxGitError::new("a packet line is cut off or malformed");
    let (length, rest) = input.split_at_checked(4).ok_or_else(wrong)?;
    let length = std::str::from_utf8(length)
        .ok()
        .and_then(|hex| usize::from_str_radix(hex, 16).ok())
        .ok_or_else(wrong)?;
    let (line, rest) = match length {
        0 => (Line::Flush, rest),
        1 => (Line::Delimiter, rest),
        _ => {
            let (data, rest) = rest
                .split_at_checked(length.checked_sub(4).ok_or_else(wrong)?)
                .ok_or_else(wrong)?;
            (Line::Data(data.strip_suffix(b"\n").unwrap_or(data)), rest)
        }
    };
    *input = rest;
    Ok(Some(line))
}

/// Appends a line of text.
pub(super) fn text(out: &mut Vec<u8>, line: &str) {
    data(out, format!("{line}\n").as_bytes());
}

/// Appends a line of data, which must fit (65,516 bytes).
pub(super) fn data(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(format!("{:04x}", data.len() + 4).as_bytes());
    out.extend_from_slice(data);
}

/// Appends the end of a section.
pub(super) fn flush(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0000");
}

/// Appends the border between sections.
pub(super) fn delimiter(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0001");
}

/// Appends `payload` on band 1, cut into lines.
pub(super) fn band(out: &mut Vec<u8>, payload: &[u8]) {
    for chunk in payload.chunks(65_000) {
        data(out, &[&[1], chunk].concat());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pkt_lines_round_trip_and_damage_is_an_error() {
        let mut out = Vec::new();
        text(&mut out, "want");
        delimiter(&mut out);
        flush(&mut out);
        let mut input = out.as_slice();
        assert_eq!(next(&mut input).unwrap(), Some(Line::Data(b"want")));
        assert_eq!(next(&mut input).unwrap(), Some(Line::Delimiter));
        assert_eq!(next(&mut input).unwrap(), Some(Line::Flush));
        assert_eq!(next(&mut input).unwrap(), None);
        for bad in ["0", "zzzz", "0003", "0009want", "ffff"] {
            assert!(next(&mut bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
