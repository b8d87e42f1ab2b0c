//! Where downloads live: outside the repository, in the user's cache folder, so that a fresh clone starts fast and
//! `git clean` costs nothing.

use std::path::PathBuf;

/// The value of an environment variable, unless it is empty or unset.
#[expect(clippy::disallowed_methods, reason = "tests and tools have no service settings to read from")]
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Twinlane's cache folder: `XTASK_CACHE`, or `twinlane` in `XDG_CACHE_HOME`, or `~/.cache/twinlane`.
pub fn folder() -> PathBuf {
    if let Some(folder) = setting("XTASK_CACHE") {
        return PathBuf::from(folder);
    }
    let base = setting("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| setting("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_else(std::env::temp_dir);
    base.join("twinlane")
}
