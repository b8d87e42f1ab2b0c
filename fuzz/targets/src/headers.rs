//! Headers of a record: on a source topic anybody may have written them.

use twinlane_record::{Coordinates, DeadLetter, Header, Headers, Reason, headers};

/// A record with a thousand headers is tried as a whole, but not with each of them in turn.
const LOOKED_AT: usize = 16;

/// One header a line: its name up to the first colon, then its value; a line without a colon is a header without one.
pub fn headers(data: &[u8]) {
    let all = parse(data);
    let own = all.without_reserved();
    assert_eq!(own.without_reserved(), own, "what is left has nothing more to leave out");
    assert!(own.size() <= all.size(), "fewer headers are no larger");
    assert!(headers::deaths(&all).is_none_or(|deaths| deaths.checked_add(1).is_some()), "one more death");
    for header in all.0.iter().take(LOOKED_AT) {
        let last = all.0.iter().rev().find(|other| other.name == header.name).expect("itself at least");
        assert_eq!(all.get(&header.name), last.value.as_deref(), "the last header of a name");
        let text = header.value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
        if let Some(at) = text.and_then(|text| text.parse::<Coordinates>().ok()) {
            assert_eq!(at.to_string().parse(), Ok(at.clone()), "coordinates are read back");
            refused(&all, at, text.unwrap_or_default());
        }
    }
    if let Some(letter) = DeadLetter::from_headers(&all) {
        comes_back(&letter, &all);
    }
    if let Some(source) = headers::source(&all) {
        refused(&all, source, all.text(headers::DEAD_DETAIL).unwrap_or_default());
    }
}

fn parse(data: &[u8]) -> Headers {
    let header = |line: &[u8]| {
        let colon = line.iter().position(|&byte| byte == b':');
        let (name, value) = match colon {
            Some(at) => (&line[..at], Some(line[at + 1..].to_vec().into())),
            None => (line, None),
        };
        // As the Kafka client reads a name.
        Header { name: String::from_utf8_lossy(name).into_owned().into(), value }
    };
    Headers(data.split(|&byte| byte == b'\n').map(header).collect())
}

/// A record with these headers dies.
fn refused(original: &Headers, source: Coordinates, detail: &str) {
    let letter = DeadLetter {
        route: None,
        stage: original.text(headers::DEAD_STAGE).unwrap_or("router").into(),
        reason: Reason::ALL[detail.len() % Reason::ALL.len()],
        detail: detail.to_owned(),
        model_digest: original.text(headers::DEAD_MODEL_DIGEST).map(Into::into),
        time_ms: source.offset,
        deaths: headers::deaths(original).unwrap_or_default(),
        source,
    };
    comes_back(&letter, original);
}

/// A dead letter is read back from its own headers, whatever stood on the record; only its detail may have been cut.
fn comes_back(letter: &DeadLetter, original: &Headers) {
    let written = letter.headers(original);
    let read = DeadLetter::from_headers(&written).expect("a dead letter's headers are one's");
    assert!(letter.detail.starts_with(&read.detail), "the detail is cut at its end");
    let expected = DeadLetter { detail: read.detail.clone(), route: read.route.clone(), ..letter.clone() };
    assert_eq!(read, expected);
    assert_eq!(written.without_reserved(), original.without_reserved(), "the event's own headers stay");
    let believed = headers::source(original).as_ref() == Some(&letter.source);
    assert!(believed || written.get(headers::ROUTE).is_none(), "a forged route is not believed");
}
