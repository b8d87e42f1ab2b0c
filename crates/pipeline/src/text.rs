//! Texts into the ids of their tokens, with the tokenizer that the model was trained with.

use std::str::FromStr as _;

use tokenizers::{Tokenizer, TruncationParams};

/// A tokenizer, set to at most so many tokens a text.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    tokenizer: Tokenizer,
    max: usize,
}

/// So many bytes of a text are looked at for each token that is kept, at first: words are shorter, as a rule.
const BYTES_PER_TOKEN: usize = 16;
/// And not fewer than these: no word that a tokenizer knows is as long.
const BYTES_AT_LEAST: usize = 1024;

impl Tokens {
    /// `json` is what Hugging Face's tokenizers write. Its own padding and truncation do not count.
    pub(crate) fn new(json: &str, max: usize) -> Result<Self, String> {
        let mut tokenizer = Tokenizer::from_str(json).map_err(|why| format!("not a tokenizer: {why}"))?;
        tokenizer.with_padding(None);
        let truncation = TruncationParams { max_length: max, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|why| why.to_string())?;
        Ok(Self { tokenizer, max })
    }

    /// The ids of a text's first tokens. A long text is not tokenized as a whole: a beginning of it is, cut between two
    /// words, and a longer one where that has too few tokens. The ids are those of the whole text all the same.
    pub(crate) fn of(&self, text: &str) -> Result<Vec<i64>, String> {
        let mut bytes = (self.max * BYTES_PER_TOKEN).max(BYTES_AT_LEAST);
        loop {
            let part = beginning(text, bytes);
            let encoded = self.tokenizer.encode_fast(part, true).map_err(|why| why.to_string())?;
            if part.len() == text.len() || encoded.len() >= self.max {
                return Ok(encoded.get_ids().iter().map(|&id| id.into()).collect());
            }
            // Less than a third of what is looked at last, all of them together.
            bytes *= 4;
        }
    }
}

/// At most so many bytes of a text, up to a white space; a text without one is cut between two characters, and then only
/// if it is longer than any word.
fn beginning(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = text.floor_char_boundary(bytes);
    match text[..end].rfind(char::is_whitespace) {
        Some(space) if space > 0 => &text[..space],
        _ => &text[..end],
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Lower-cases, splits at white space and punctuation, and knows a few words.
    const TOKENIZER: &str = include_str!("../tests/words.tokenizer.json");

    fn tokens(max: usize) -> Tokens {
        Tokens::new(TOKENIZER, max).expect("a tokenizer")
    }

    #[test]
    fn a_text_becomes_its_tokens_between_the_ones_that_the_tokenizer_adds() {
        assert_eq!(tokens(16).of("Good phones.").unwrap(), [0, 4, 5, 6, 7, 2], "neither padded nor cut");
        assert_eq!(tokens(16).of("").unwrap(), [0, 2]);
        assert_eq!(tokens(4).of("good good good good").unwrap(), [0, 4, 4, 2], "the end mark stays");
    }

    #[test]
    fn a_long_text_has_the_tokens_that_all_of_it_would_have() {
        let texts = [
            "good phones. ".repeat(500),
            format!("{}good phone", " ".repeat(5000)),
            format!("{} good", "x".repeat(5000)),
            "é phone ".repeat(900),
            "\u{3000}good".repeat(900),
        ];
        for max in [3, 8, 64] {
            for text in &texts {
                let whole = tokens(max).tokenizer.encode_fast(text.as_str(), true).unwrap();
                let whole: Vec<i64> = whole.get_ids().iter().map(|&id| id.into()).collect();
                assert_eq!(tokens(max).of(text).unwrap(), whole, "{max} tokens of {:.20}…", text);
            }
        }
    }

    #[test]
    fn a_text_of_a_megabyte_costs_a_small_part_of_what_all_of_it_would() {
        let tokens = tokens(128);
        let book = "good phones. ".repeat(1 << 20);
        let book = &book[..1 << 20];
        let took = |work: &dyn Fn() -> usize| {
            let began = Instant::now();
            (work(), began.elapsed())
        };
        let (kept, beginning) = took(&|| tokens.of(book).unwrap().len());
        let (all, whole) = took(&|| tokens.tokenizer.encode_fast(book, true).unwrap().len());
        assert_eq!((kept, all), (128, 128));
        assert!(beginning * 20 < whole, "{beginning:?} of {whole:?}");
    }

    #[test]
    fn what_is_no_tokenizer_is_refused() {
        assert!(Tokens::new("{}", 8).unwrap_err().starts_with("not a tokenizer"));
    }
}
