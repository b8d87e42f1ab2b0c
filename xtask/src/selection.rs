//! Which packages `cargo test` is asked for, so that what those need beside it is built too.

/// What the arguments before `--` choose.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection<'a> {
    packages: Vec<&'a str>,
    workspace: bool,
    release: bool,
}

impl<'a> Selection<'a> {
    pub(crate) fn of(arguments: &'a [String]) -> Self {
        let mut selection = Self::default();
        let mut words = before_dashes(arguments);
        while let Some(word) = words.next() {
            match word {
                "-p" | "--package" => selection.packages.extend(words.next()),
                "--workspace" | "--all" => selection.workspace = true,
                "--release" | "-r" => selection.release = true,
                _ => selection.packages.extend(attached_package(word)),
            }
        }
        selection
    }

    /// What has to be added: all packages, where none is named.
    pub(crate) fn scope(&self) -> &'static [&'static str] {
        if self.workspace || !self.packages.is_empty() { &[] } else { &["--workspace"] }
    }

    /// The flag of the profile that tests are built with; binaries beside them must have the same.
    pub(crate) fn profile(&self) -> &'static [&'static str] {
        if self.release { &["--release"] } else { &[] }
    }

    /// Whether `package` is among them. A pattern may mean any.
    pub(crate) fn includes(&self, package: &str) -> bool {
        self.workspace
            || self.packages.is_empty()
            || self.packages.iter().any(|&name| name == package || name.contains(['*', '?', '[']))
    }
}

/// The arguments that are cargo's own.
pub(crate) fn before_dashes(arguments: &[String]) -> impl Iterator<Item = &str> {
    arguments.iter().map(String::as_str).take_while(|argument| *argument != "--")
}

/// The package in `--package=name`, `-pname` and `-p=name`.
fn attached_package(word: &str) -> Option<&str> {
    if let Some(name) = word.strip_prefix("--package=") {
        return Some(name);
    }
    let name = word.strip_prefix("-p")?;
    Some(name.strip_prefix('=').unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_package_is_recognised_however_it_is_written() {
        for line in ["-p a", "-pa", "-p=a", "--package a", "--package=a", "-q -pa some_test"] {
            let words = words(line);
            let selection = Selection::of(&words);
            assert_eq!(selection.packages, ["a"], "{line}");
            assert!(selection.scope().is_empty() && selection.includes("a"), "{line}");
            assert!(!selection.includes("b"), "{line}");
        }
    }

    #[test]
    fn without_a_package_all_are_meant() {
        for line in ["", "some_test", "-- -p", "--release -- --package=a"] {
            let words = words(line);
            let selection = Selection::of(&words);
            assert_eq!(selection.scope(), ["--workspace"], "{line}");
            assert!(selection.includes("a"), "{line}");
        }
        let words = words("--workspace --exclude a");
        assert!(Selection::of(&words).scope().is_empty(), "cargo refuses a second --workspace");
    }

    #[test]
    fn a_pattern_may_mean_any_package() {
        let words = words("-p twinlane-*");
        assert!(Selection::of(&words).includes("twinlane-tests"));
    }

    #[test]
    fn binaries_are_built_in_the_profile_of_the_tests() {
        assert_eq!(Selection::of(&words("-p a --release")).profile(), ["--release"]);
        assert!(Selection::of(&words("-- --release")).profile().is_empty(), "that is the test's own flag");
    }
}
