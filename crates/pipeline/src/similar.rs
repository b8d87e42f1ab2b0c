//! "Did you mean …": the nearest of a few known names.

/// `; there is …` or `; did you mean …`, ready to end a refusal.
pub(crate) fn hint<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let nearest = known.iter().map(|name| (distance(found, name), name)).min();
    match nearest {
        Some((away, name)) if away <= 1 + found.len() / 3 => format!("; did you mean `{name}`?"),
        _ if known.is_empty() => "; there is none".into(),
        _ => format!("; there is {}", known.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_gets_its_name_and_anything_else_the_list() {
        assert_eq!(hint("precison", ["precision", "throughput"]), "; did you mean `precision`?");
        assert_eq!(hint("x", ["orders", "clicks"]), "; there is `orders`, `clicks`");
        assert_eq!(hint("x", []), "; there is none");
    }
}
