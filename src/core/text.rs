//! Foreign text (of a server, a file, a person) made safe to print, and short forms of ids.

/// The longest foreign sentence inside a message of our own, in characters.
const SENTENCE: usize = 500;

/// Tells whether a character is invisible or changes how its neighbours are shown: controls, format
/// characters (bidirectional ones, Unicode TR 36; zero width), fillers, tags and further variation
/// selectors.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Returns foreign text as one line of at most `limit` characters, with hidden characters
/// escaped.
pub fn one_line(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for (index, c) in text.trim().chars().enumerate() {
        if index >= limit {
            out.push('…');
            break;
        }
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if is_hidden(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Returns the end of foreign text as one line, with hidden characters escaped: its lines joined by
/// semicolons, and of these the last `limit` characters.
pub fn one_line_end(text: &str, limit: usize) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let line = lines.join("; ");
    let skipped = line.chars().count().saturating_sub(limit);
    let end: String = line.chars().skip(skipped).collect();
    let lead = if skipped > 0 { "…" } else { "" };
    format!("{lead}{}", escape_control(&end))
}

/// Returns foreign text as one line, for a sentence of our own.
pub fn plain(text: &str) -> String {
    one_line(text, SENTENCE)
}

/// Returns text of any length with hidden characters escaped, line ends and tabs included.
pub fn escape_control(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Returns text of any length with hidden characters escaped, but its line ends and tabs.
pub fn escape_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) && !matches!(c, '\n' | '\t') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Returns JSON with the hidden characters of its strings escaped as JSON escapes them.
///
/// The line ends of a layout stay; within a string JSON has none.
pub fn escape_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hidden(c) && c != '\n' {
            let mut units = [0; 2];
            let units = c.encode_utf16(&mut units).iter();
            out.extend(units.map(|unit| format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// Returns at most `limit` characters of a text, without hidden ones.
pub fn without_controls(text: &str, limit: usize) -> String {
    text.chars()
        .filter(|c| !is_hidden(*c))
        .take(limit)
        .collect()
}

/// Returns a text without hidden characters but its line ends.
pub fn without_controls_but_lines(text: &str) -> String {
    text.chars()
        .filter(|c| !is_hidden(*c) || *c == '\n')
        .collect()
}

/// Returns bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0'))
        .collect()
}

/// Returns the first ten digits of a commit id, as Git's own tools abbreviate it.
pub fn short_id(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_escapes_what_steers_a_terminal() {
        assert_eq!(
            one_line(" a\nb\t\u{1b}[31m\u{202e}c ", 100),
            "a b \\u{1b}[31m\\u{202e}c"
        );
        assert_eq!(one_line("abcdef", 3), "abc…");
    }

    #[test]
    fn escaped_keeps_the_length_of_lines_visible() {
        assert_eq!(escape_control("a\r\nb"), "a\\r\\nb");
        assert_eq!(escape_lines("a\r\n\tb"), "a\\r\n\tb");
    }

    #[test]
    fn hidden_characters_are_known() {
        for c in "\u{7}\u{9b}\u{ad}\u{61c}\u{180e}\u{200d}\u{202e}\u{2066}\u{2069}\u{feff}\u{fffa}\u{e0041}".chars() {
            assert!(is_hidden(c), "{c:?}");
        }
        for c in "aß→“…é\u{301}א한🚀\u{fe0f}".chars() {
            assert!(!is_hidden(c), "{c:?}");
        }
    }

    #[test]
    fn escape_json_keeps_the_value() {
        let value = serde_json::json!({"a\u{202e}": ["\u{e0041}x\n\t", "plain →"]});
        let text = serde_json::to_string_pretty(&value).unwrap();
        let escaped = escape_json(&text);
        assert!(escaped.chars().all(|c| c == '\n' || !is_hidden(c)));
        let read: serde_json::Value = serde_json::from_str(&escaped).unwrap();
        assert_eq!(read, value);
        assert_eq!(escaped.lines().count(), text.lines().count());
    }

    #[test]
    fn hex_has_two_digits_a_byte() {
        assert_eq!(hex(&[0, 9, 0xa0, 0xff]), "0009a0ff");
    }

    #[test]
    fn one_line_end_keeps_the_last_characters() {
        assert_eq!(one_line_end(" a\n\n b\u{1b} \n", 100), "a; b\\u{1b}");
        assert_eq!(one_line_end("first\nlast", 6), "…; last");
    }

    #[test]
    fn short_id_takes_ten_digits_or_all() {
        assert_eq!(short_id("0123456789abcdef"), "0123456789");
        assert_eq!(short_id("0123"), "0123");
    }
}
