//! Every relative link of every Markdown file leads to a file or folder of the repository and, where it names one, to a
//! heading. What lies elsewhere is not asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
    process::Command,
};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files of the repository: those that git has, and new ones that it does not ignore.
fn files() -> BTreeSet<PathBuf> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(repository());
    let listed = git.output().expect("git runs");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("names are UTF-8");
    let files = listed.split_terminator('\0').map(PathBuf::from);
    // One that is deleted and not yet committed is listed, too.
    files.filter(|file| repository().join(file).exists()).collect()
}

/// The lines that are text and not code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// A line with every code span replaced by as many dots: a link in one is none, one around it is.
fn without_code(line: &str) -> String {
    let spans = line.split('`').enumerate();
    let parts =
        spans.map(|(index, part)| if index % 2 == 1 { ".".repeat(part.len()) } else { part.to_owned() });
    parts.collect::<Vec<_>>().join("`")
}

/// The targets of a text's links, `[…](target)` and `[…]: target`.
fn targets(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for line in prose(text) {
        let line = without_code(line);
        let inline = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        targets.extend(inline.map(str::to_owned));
        if let Some((_, target)) = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
            targets.push(target.to_owned());
        }
    }
    targets
}

/// The anchors that a forge gives a text's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen = BTreeMap::<String, usize>::new();
    let headings = prose(text).filter_map(|line| {
        let heading = line.trim_start_matches('#');
        (heading.len() < line.len() && heading.starts_with(' ')).then(|| heading.trim())
    });
    headings
        .map(|heading| {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            let anchor = kept.collect::<String>().to_lowercase().replace(' ', "-");
            let before = seen.entry(anchor.clone()).or_default();
            *before += 1;
            if *before == 1 { anchor } else { format!("{anchor}-{}", *before - 1) }
        })
        .collect()
}

/// The path without `.` and `..`; nothing where it leaves the repository.
fn resolved(path: &Path) -> Option<PathBuf> {
    let mut found = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => found.push(name),
            Component::ParentDir if found.pop() => {}
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(found)
}

/// What is wrong with a link from this file, if anything.
fn broken(
    file: &Path,
    target: &str,
    files: &BTreeSet<PathBuf>,
    texts: &BTreeMap<PathBuf, String>,
) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let place =
        if path.is_empty() { file.to_owned() } else { file.parent().unwrap_or(Path::new("")).join(path) };
    let Some(place) = resolved(&place) else { return Some("leads out of the repository") };
    if !files.contains(&place) && !files.iter().any(|file| file.starts_with(&place)) {
        return Some("leads to nothing");
    }
    match (anchor, texts.get(&place)) {
        (Some(anchor), Some(text)) if !anchors(text).contains(anchor) => Some("names no heading"),
        _ => None,
    }
}

#[test]
fn every_link_leads_somewhere() {
    let files = files();
    let texts: BTreeMap<_, _> = files
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "md"))
        .map(|file| {
            (file.clone(), std::fs::read_to_string(repository().join(file)).expect("a readable page"))
        })
        .collect();
    let (mut looked_at, mut wrong) = (0, Vec::new());
    for (file, text) in &texts {
        for target in targets(text) {
            looked_at += 1;
            if let Some(why) = broken(file, &target, &files, &texts) {
                wrong.push(format!("{}: {target} {why}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(looked_at > 100, "only {looked_at} links were found");
}

#[test]
fn every_page_of_docs_is_in_the_book() {
    let summary = std::fs::read_to_string(repository().join("docs/SUMMARY.md")).expect("a summary");
    let listed: BTreeSet<_> =
        targets(&summary).into_iter().map(|target| Path::new("docs").join(target)).collect();
    let pages = files().into_iter().filter(|file| {
        file.starts_with("docs")
            && file.extension().is_some_and(|e| e == "md")
            && !file.ends_with("SUMMARY.md")
    });
    assert_eq!(listed, pages.collect());
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let page = "# A page\n## It's `so`, here\n## Twice\n## Twice\n```\n[code](nothing.md)\n```\n`[code](nothing.md)`\n";
    let texts = BTreeMap::from([(PathBuf::from("docs/page.md"), page.to_owned())]);
    let files = BTreeSet::from(["docs/page.md", "src/main.rs"].map(PathBuf::from));
    let verdict = |target: &str| broken(Path::new("docs/page.md"), target, &files, &texts);
    for fine in [
        "page.md",
        "#a-page",
        "page.md#its-so-here",
        "#twice-1",
        "../src",
        "../src/main.rs",
        "https://x.example",
    ] {
        assert_eq!(verdict(fine), None, "{fine}");
    }
    assert_eq!(verdict("other.md"), Some("leads to nothing"));
    assert_eq!(verdict("#elsewhere"), Some("names no heading"));
    assert_eq!(verdict("../../other"), Some("leads out of the repository"));
    assert!(targets(page).is_empty(), "links in code are none");
    assert_eq!(targets("[a](b.md#c) and [`d`](e)\n[f]: g.md"), ["b.md#c", "e", "g.md"]);
}
