//! Pages of `docs/` that are written from code. `cargo xtask docs` puts them there.

use crate::{metrics_page::metrics_page, pipeline_page::pipeline_page, settings_page::settings_page};

/// Every page: its path in the repository, and what writes it.
pub static PAGES: [(&str, fn() -> String); 3] = [
    ("docs/metrics.md", metrics_page),
    ("docs/pipeline-file.md", pipeline_page),
    ("docs/settings.md", settings_page),
];
