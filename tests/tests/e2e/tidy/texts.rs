//! What every file keeps to.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{files, read, rust_files, shown, with_extension};
use tidegate_tests::tools::workspace;

/// The ceiling; past some 300 lines a file is telling of a second noun.
const LINES: usize = 400;

#[test]
fn hand_written_files_stay_readable() {
    let long: Vec<_> = rust_files("")
        .into_iter()
        .filter(|path| !shown(path).contains("/generated/"))
        .map(|path| (read(&path).lines().count(), shown(&path)))
        .filter(|(lines, _)| *lines > LINES)
        .collect();
    assert!(long.is_empty(), "more than {LINES} lines: {long:#?}");
}

#[test]
fn no_test_is_ignored_and_no_lint_is_merely_allowed() {
    // Put together here, so that this file does not find itself.
    for attribute in [["#[", "ignore"], ["#[", "allow("], ["#![", "allow("]].map(|parts| parts.concat()) {
        let found: Vec<_> = rust_files("")
            .into_iter()
            .filter(|path| !shown(path).contains("/generated/") && read(path).contains(&attribute))
            .map(|path| shown(&path))
            .collect();
        assert!(found.is_empty(), "{attribute}…: {found:#?}");
    }
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    const PLACES: [&str; 4] = ["/root/", "/home/", "/Users/", "C:\\Users"];
    let mut faults = Vec::new();
    let others = files("").into_iter().filter(|path| !path.ends_with(file!()));
    for path in others {
        // What is not text has no lines to look at.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let told =
            |line: &str| PLACES.iter().any(|place| line.contains(place)) || names_folder(line, workspace());
        let lines = (1..).zip(text.lines()).filter(|(_, line)| told(line));
        faults.extend(lines.map(|(number, line)| format!("{}:{number}: {line}", shown(&path))));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Whether a line names something in a folder by its full path. A folder of the root such as `/src` says nothing
/// of a machine, and half of all relative paths look like it.
fn names_folder(line: &str, folder: &Path) -> bool {
    let place = format!("{}/", folder.display());
    let within_longer_path =
        |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || "._-".contains(c));
    let named = line.match_indices(&place).any(|(at, _)| !within_longer_path(&line[..at]));
    named && folder.components().count() > 2
}

#[test]
fn only_a_full_path_names_the_folder_of_the_clone() {
    let clone = Path::new("/build/tidegate");
    assert!(names_folder("see /build/tidegate/proto", clone));
    assert!(names_folder("file:///build/tidegate/proto", clone));
    assert!(!names_folder("target/build/tidegate/out", clone));
    assert!(!names_folder("/build/tidegate-1.0/proto", clone));
    assert!(!names_folder("services/ratelimit/src/main.rs, /src/main.rs", Path::new("/src")));
}

#[test]
fn paths_named_in_documents_exist() {
    let mut faults = Vec::new();
    for document in documents() {
        for name in named_paths(&read(&document)) {
            let beside = document.parent().expect("a file lies in a folder").join(&name);
            if !workspace().join(&name).exists() && !beside.exists() {
                faults.push(format!("{}: {name}", shown(&document)));
            }
        }
    }
    assert!(faults.is_empty(), "named, but not there: {faults:#?}");
}

/// Every document but the change log, which also tells of what is gone.
fn documents() -> Vec<PathBuf> {
    let found: Vec<_> =
        with_extension("", "md").into_iter().filter(|path| !path.ends_with("CHANGELOG.md")).collect();
    assert!(found.iter().any(|path| path.ends_with("ARCHITECTURE.md")), "{found:?}");
    found
}

/// Targets of relative links, and words in backquotes that begin with a folder of the root.
fn named_paths(text: &str) -> BTreeSet<String> {
    const ROOTS: [&str; 13] = [
        "proto/",
        "services/",
        "gateway/",
        "cli/",
        "clients/",
        "examples/",
        "migrations/",
        "tests/",
        "helm/",
        "xtask/",
        "docs/",
        ".ci/",
        ".cargo/",
    ];
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links = links.filter(|target| {
        !target.contains("://") && !target.starts_with(['#', '/']) && !target.starts_with("mailto:")
    });
    let quoted =
        text.split('`').skip(1).step_by(2).filter(|word| ROOTS.iter().any(|root| word.starts_with(root)));
    // Patterns and placeholders name no single path.
    let plain = |word: &&str| {
        !word.contains(['*', '{', '}', '<', '>', '…', ' ', '\n', '(', '|']) && !word.contains("NNNN")
    };
    let trim = |word: &str| {
        let word = word.split('#').next().unwrap_or_default();
        word.split("::").next().unwrap_or_default().split(".rs:").next().unwrap_or_default().to_owned()
    };
    links.chain(quoted).filter(plain).map(trim).filter(|word| !word.is_empty()).collect()
}

#[test]
fn links_and_quoted_paths_are_read_and_patterns_are_not() {
    let text =
        "[a](docs/a.md#part) [b](https://example.com/b) `tests/src/` `cargo test` `proto/**/*.proto` `x`";
    let expected = ["docs/a.md", "tests/src/"].map(str::to_owned);
    assert_eq!(named_paths(text), BTreeSet::from(expected));
}
