//! Times, and bytes of strangers, as a terminal can bear them.

use chrono::{DateTime, SecondsFormat};

/// RFC 3339 in UTC, to the second.
pub(crate) fn time(ms: i64) -> String {
    match DateTime::from_timestamp_millis(ms) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Secs, true),
        None => format!("{ms} ms"),
    }
}

/// Text without anything that moves a cursor, cut at `longest` characters.
pub(crate) fn one_line(text: &str, longest: usize) -> String {
    let cut = text.char_indices().nth(longest).map(|(at, _)| at);
    let shown = text[..cut.unwrap_or(text.len())].chars();
    let mut shown: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
    if cut.is_some() {
        shown.push('…');
    }
    shown
}

/// Bytes as text where they are text, else as hexadecimal; cut with a word about the rest.
pub(crate) fn bytes(bytes: Option<&[u8]>, longest: usize) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    let length = bytes.len();
    match std::str::from_utf8(bytes) {
        _ if length == 0 => "empty (0 bytes)".to_owned(),
        Ok(text) if !text.contains('\0') => {
            let cut = text.char_indices().nth(longest).map(|(at, _)| at);
            let shown: String = text[..cut.unwrap_or(length)]
                .chars()
                .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
                .collect();
            let rest = cut.map(|at| format!("… and {} bytes more", length - at)).unwrap_or_default();
            format!("{shown}{rest}")
        }
        _ => {
            let shown: String = bytes.iter().take(longest / 2).map(|byte| format!("{byte:02x}")).collect();
            let rest = length.saturating_sub(longest / 2);
            let rest = if rest > 0 { format!("… and {rest} bytes more") } else { String::new() };
            format!("0x{shown}{rest}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_text_where_they_are_and_cut_between_characters() {
        assert_eq!(bytes(Some("äöü".as_bytes()), 2), "äö… and 2 bytes more");
        assert_eq!(bytes(Some(b"card-7"), 100), "card-7");
        assert_eq!(bytes(Some(&[0, 255, 16]), 4), "0x00ff… and 1 bytes more");
        assert_eq!((bytes(None, 4), bytes(Some(b""), 4)), ("null".to_owned(), "empty (0 bytes)".to_owned()));
    }

    #[test]
    fn nothing_of_a_stranger_reaches_the_terminal() {
        assert_eq!(one_line("a\x1b[31m\nb", 100), "a [31m b");
        assert_eq!(bytes(Some(b"a\x1b[2J\nb"), 100), "a\u{fffd}[2J\nb");
    }

    #[test]
    fn a_time_is_rfc_3339() {
        assert_eq!(time(1_769_857_200_000), "2026-01-31T11:00:00Z");
        assert_eq!(time(i64::MAX), format!("{} ms", i64::MAX));
    }
}
