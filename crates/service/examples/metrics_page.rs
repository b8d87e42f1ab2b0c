//! Prints `docs/metrics.md`; `cargo xtask docs` puts it there.

fn main() {
    print!("{}", twinlane_service::metrics_page());
}
