//! The rules of the house that no compiler checks.

mod arrows;
mod texts;

use std::{
    fs,
    path::{Path, PathBuf},
};

use tidegate_tests::tools::workspace;

/// Every file under a folder of the workspace that is not hidden, ignored or built.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = workspace().join(folder);
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("the folder can be read").path();
        if path.is_file() {
            found.push(path);
        } else if belongs(&path) {
            found.extend(files(&shown(&path)));
        }
    }
    found.sort();
    found
}

fn belongs(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let hidden = name.starts_with('.') && ![".", ".ci", ".cargo", ".github"].contains(&&*name);
    !hidden && !name.starts_with("target") && name != "node_modules" && name != "tidegate-data"
}

fn with_extension(folder: &str, extension: &str) -> Vec<PathBuf> {
    files(folder).into_iter().filter(|path| path.extension().is_some_and(|e| e == extension)).collect()
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    with_extension(folder, "rs")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The path as a document would name it.
fn shown(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap_or(path).display().to_string()
}
