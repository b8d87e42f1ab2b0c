//! Pages that are written from code, so that they cannot say anything else.

use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::interrupt::Interrupt;
use crate::{build, progress};

/// A page, the package that knows it, and the package's example that prints it.
const PAGES: [(&str, &str, &str); 1] = [("docs/metrics.md", "twinlane-service", "metrics_page")];

/// Writes all pages; with `check` it writes none and fails where one differs.
pub(crate) fn write(check: bool, interrupt: &Interrupt) -> Result<ExitCode> {
    for (page, package, example) in PAGES {
        let mut printing = build::cargo();
        printing
            .args(["run", "--quiet", "--package", package, "--example", example])
            .stderr(Stdio::inherit());
        let printed = printing.output().with_context(|| format!("printing {page}"))?;
        ensure!(!interrupt.asked(), "interrupted");
        ensure!(printed.status.success(), "{example} of {package} failed");
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
