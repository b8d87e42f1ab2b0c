//! Prints a page that is written from code, such as `docs/metrics.md`; `cargo xtask docs` puts it there.

fn main() -> Result<(), String> {
    let asked = std::env::args().nth(1).unwrap_or_default();
    let page = twinlane_service::PAGES.iter().find(|(path, _)| *path == asked);
    let (_, write) = page.ok_or_else(|| format!("no page `{asked}` is written from code"))?;
    print!("{}", write());
    Ok(())
}
