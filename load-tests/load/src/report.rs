//! The report: figures, ratios against the limits of the same run, and plots; as JSON, as one page of HTML, and in words.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plot::Plot;
use crate::rounds::Range;

/// A speed as a part of a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ratio {
    pub(crate) value: Option<f64>,
    pub(crate) target: f64,
    pub(crate) met: Met,
    /// What the value is a part of.
    pub(crate) baseline: String,
    /// Where it was measured several times: `value` is the median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) range: Option<Range>,
}

/// Whether a target is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Met {
    Yes,
    No,
    NotMeasured,
}

impl Ratio {
    /// A part that should be `target` at least.
    pub(crate) fn at_least(target: f64, value: Option<f64>, baseline: impl Into<String>) -> Self {
        Self::new(target, value, value.map(|value| value >= target), baseline.into())
    }

    /// A part that should be `target` at most.
    pub(crate) fn at_most(target: f64, value: Option<f64>, baseline: impl Into<String>) -> Self {
        Self::new(target, value, value.map(|value| value <= target), baseline.into())
    }

    fn new(target: f64, value: Option<f64>, reached: Option<bool>, baseline: String) -> Self {
        Self { value, target, met: Met::of(reached), baseline, range: None }
    }

    /// The value, and between which it lies where it was measured several times.
    fn shown(&self) -> Option<String> {
        let value = format!("{:.3}", self.value?);
        Some(match self.range {
            Some([lowest, highest]) => format!("{value} ({lowest:.3} to {highest:.3})"),
            None => value,
        })
    }
}

impl Met {
    fn of(reached: Option<bool>) -> Self {
        match reached {
            Some(true) => Self::Yes,
            Some(false) => Self::No,
            None => Self::NotMeasured,
        }
    }
}

/// All that a scenario found out.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) scenario: String,
    pub(crate) about: String,
    /// Cores, settings and versions that the figures depend on.
    pub(crate) machine: BTreeMap<String, Value>,
    /// Name to number, flat.
    pub(crate) figures: BTreeMap<String, f64>,
    pub(crate) ratios: BTreeMap<String, Ratio>,
    /// Between which values a figure lies that was measured several times.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) ranges: BTreeMap<String, Range>,
    #[serde(skip)]
    pub(crate) plots: Vec<Plot>,
}

impl Report {
    pub(crate) fn figure(&mut self, name: impl Into<String>, value: f64) {
        self.figures.insert(name.into(), value);
    }

    /// Writes `report.json` and `report.html` into the folder.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let json = serde_json::to_string_pretty(self).context("writing JSON")?;
        for (name, text) in [("report.json", json + "\n"), ("report.html", self.html()?)] {
            let file = folder.join(name);
            std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(())
    }

    /// Reads a `report.json`.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a report", file.display()))
    }

    /// The report in words.
    pub(crate) fn print(&self) {
        println!("\n{}: {}\n", self.scenario, self.about);
        for (name, value) in &self.machine {
            println!("  {name}: {}", plain(value));
        }
        println!();
        let width = self.figures.keys().chain(self.ratios.keys()).map(String::len).max().unwrap_or(0);
        for (name, value) in &self.figures {
            println!("  {name:<width$}  {:>12}", number(*value));
        }
        println!();
        for (name, ratio) in &self.ratios {
            let value = ratio.shown().unwrap_or("not measured".into());
            println!("  {name:<width$}  {value:>22}  target {:.2}  {}", ratio.target, word(ratio.met));
        }
    }

    fn html(&self) -> Result<String> {
        let mut page = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style>\
             <h1>{0}</h1><p>{1}</p>",
            escape(&self.scenario),
            escape(&self.about)
        );
        page.push_str(
            "<h2>Against the limits</h2><table><tr><th>ratio<th>value<th>target<th>met<th>baseline",
        );
        for (name, ratio) in &self.ratios {
            let value = ratio.shown().unwrap_or("–".into());
            write!(
                page,
                "<tr class=\"{3:?}\"><td>{0}<td>{1}<td>{2:.2}<td>{4}<td>{5}",
                escape(name),
                value,
                ratio.target,
                ratio.met,
                word(ratio.met),
                escape(&ratio.baseline)
            )?;
        }
        page.push_str("</table>");
        for plot in &self.plots {
            page.push_str(&plot.svg()?);
        }
        page.push_str("<h2>Figures</h2><table>");
        for (name, value) in &self.figures {
            let range =
                self.ranges.get(name).map(|&[low, high]| format!("{} to {}", number(low), number(high)));
            write!(page, "<tr><td>{}<td>{}<td>{}", escape(name), number(*value), range.unwrap_or_default())?;
        }
        page.push_str("</table><h2>Machine and settings</h2><table>");
        for (name, value) in &self.machine {
            write!(page, "<tr><td>{}<td>{}", escape(name), escape(&plain(value)))?;
        }
        page.push_str("</table></html>\n");
        Ok(page)
    }
}

const STYLE: &str = "body{font:15px/1.4 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}\
    table{border-collapse:collapse}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:left}\
    td:nth-child(2){text-align:right;font-variant-numeric:tabular-nums}tr.Yes td:nth-child(4){color:#197d2c}\
    tr.No td:nth-child(4){color:#b3261e;font-weight:bold}svg{max-width:100%}";

fn word(met: Met) -> &'static str {
    match met {
        Met::Yes => "met",
        Met::No => "not met",
        Met::NotMeasured => "not measured",
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Four digits at least, and no more behind the point than say something.
fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        1.0..100.0 => format!("{value:.2}"),
        _ => format!("{value:.5}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_never_met() {
        assert_eq!(Ratio::at_least(0.9, None, "").met, Met::NotMeasured);
        assert_eq!(Ratio::at_least(0.9, Some(0.899), "").met, Met::No);
        assert_eq!(Ratio::at_least(0.9, Some(0.9), "").met, Met::Yes);
        assert_eq!(Ratio::at_least(0.9, Some(f64::NAN), "").met, Met::No);
    }

    #[test]
    fn a_report_is_read_as_it_was_written_and_its_page_escapes_what_it_shows() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut report = Report { scenario: "a<b".into(), ..Default::default() };
        report.figure("x.events_per_s", 1234.5);
        report.ratios.insert("x.of".into(), Ratio::at_least(0.5, Some(0.75), "y"));
        report.write(folder.path()).expect("written");
        let read = Report::read(&folder.path().join("report.json")).expect("read");
        assert_eq!((read.figures, read.ratios), (report.figures, report.ratios));
        let page = std::fs::read_to_string(folder.path().join("report.html")).expect("written");
        assert!(page.contains("a&lt;b") && page.contains("0.750"), "{page}");
    }
}
