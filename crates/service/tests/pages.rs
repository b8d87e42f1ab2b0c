//! Pages that are written from code.

use std::path::Path;

#[test]
fn the_pages_in_the_repository_are_those_that_the_code_gives() {
    for (page, write) in &twinlane_service::PAGES {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(page);
        let written = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(written == write(), "{page} is stale: run `cargo xtask docs`");
    }
}
