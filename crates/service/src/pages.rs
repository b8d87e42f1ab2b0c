//! Pages of `docs/` that are written from code. `cargo xtask docs` puts them there.

use crate::{metrics_page::metrics_page, pipeline_page::pipeline_page, settings_page::settings_page};

/// A page's path in the repository, and what writes it.
type Page = (&'static str, fn() -> String);

/// Every page.
pub static PAGES: [Page; 3] = [
    ("docs/metrics.md", metrics_page),
    ("docs/pipeline-file.md", pipeline_page),
    ("docs/settings.md", settings_page),
];
