//! Pages that are written from code, so that they cannot say anything else.

use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::interrupt::Interrupt;
use crate::{build, progress};

/// What the example `page` of `twinlane-service` prints.
const PAGES: [&str; 3] = ["docs/metrics.md", "docs/pipeline-file.md", "docs/settings.md"];

/// Writes all pages; with `check` it writes none and fails where one differs.
pub(crate) fn write(check: bool, interrupt: &Interrupt) -> Result<ExitCode> {
    for page in PAGES {
        let mut printing = build::cargo();
        printing
            .args(["run", "--quiet", "--package", "twinlane-service", "--example", "page", "--", page])
            .stderr(Stdio::inherit());
        let printed = printing.output().with_context(|| format!("printing {page}"))?;
        ensure!(!interrupt.asked(), "interrupted");
        ensure!(printed.status.success(), "{page} cannot be written");
        let path = build::repository().join(page);
        if std::fs::read(&path).is_ok_and(|written| written == printed.stdout) {
            progress::say(&format!("{page} is as the code says"));
        } else if check {
            bail!("{page} is stale: run `cargo xtask docs`");
        } else {
            std::fs::write(&path, printed.stdout).with_context(|| format!("writing {}", path.display()))?;
            progress::say(&format!("{page} is written"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
