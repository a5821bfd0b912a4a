//! Checks the workspace against the arrows of ARCHITECTURE.md and tiers 0 and 1 against input and output.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::arrows::{Arrows, INTERNAL};
use crate::{Outcome, run};

/// Crates with sockets, executors or databases: none may be in the normal dependency tree of tiers 0 and 1.
const NO_INPUT_OUTPUT: [&str; 11] =
    ["tokio", "hyper", "hyper-util", "axum", "reqwest", "rustls", "tokio-rustls", "sqlx", "sqlx-core", "mio", "socket2"];

/// What the sources of tiers 0 and 1 must not name, after comments, strings and blanks are taken out.
const FORBIDDEN_MODULES: [&str; 5] = ["net", "fs", "process", "env", "thread"];
const FORBIDDEN_CALLS: [&str; 8] =
    ["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now", "Uuid::new_v4", "Uuid::now_v7", "Uuid::now_v6", "Uuid::now_v1"];

/// One package of the workspace as cargo sees it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Package {
    /// Crates of the workspace that it names, by folder.
    pub(crate) workspace: BTreeSet<String>,
    /// External crates that it names as normal dependencies.
    pub(crate) external: BTreeSet<String>,
    /// Names of everything in its normal dependency tree.
    pub(crate) tree: BTreeSet<String>,
    /// Its sources: path and text.
    pub(crate) sources: Vec<(String, String)>,
}

/// The task.
pub(crate) fn run() -> Outcome {
    let root = run::root();
    let arrows = Arrows::read(&run::read(&root.join("ARCHITECTURE.md"))?)?;
    let metadata = run::output(&mut run::cargo(&["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;
    let mut packages = packages(&metadata)?;
    for (name, package) in &mut packages {
        for path in run::files(&root.join("crates").join(name).join("src"), ".rs") {
            package.sources.push((path.strip_prefix(&root).unwrap_or(&path).display().to_string(), run::read(&path)?));
        }
    }
    let problems = check(&arrows, &packages);
    if problems.is_empty() {
        eprintln!("tiers: {} crates keep to their arrows", packages.len());
        return Ok(());
    }
    Err(format!("{} (change the code, or the arrows in ARCHITECTURE.md in the open):\n  {}", "tiers do not hold", problems.join("\n  ")))
}

/// Everything that does not hold, one line each.
pub(crate) fn check(arrows: &Arrows, packages: &BTreeMap<String, Package>) -> Vec<String> {
    let mut problems = Vec::new();
    for name in packages.keys().filter(|name| !arrows.crates.contains_key(*name)) {
        problems.push(format!("{name} is in the workspace but has no row among the arrows"));
    }
    for (name, row) in &arrows.crates {
        let Some(package) = packages.get(name) else {
            problems.push(format!("{name} has a row among the arrows but is not in the workspace"));
            continue;
        };
        for target in package.workspace.difference(&row.arrows) {
            problems.push(format!("{name} depends on {target}: there is no such arrow"));
        }
        for target in row.arrows.difference(&package.workspace).filter(|_| !row.open) {
            problems.push(format!("{name} has an arrow to {target} that its Cargo.toml does not use"));
        }
        if row.tier > 1 || row.tier == INTERNAL {
            continue;
        }
        for external in package.external.difference(&row.external) {
            problems.push(format!("{name} (tier {}) names the external crate {external}, which is not listed for it", row.tier));
        }
        for forbidden in NO_INPUT_OUTPUT.into_iter().filter(|name| package.tree.contains(*name)) {
            problems.push(format!("{name} (tier {}) has {forbidden} in its dependency tree", row.tier));
        }
        for (path, text) in &package.sources {
            problems
                .extend(forbidden(text).into_iter().map(|what| format!("{path} names {what}: tier {} does no input or output", row.tier)));
        }
    }
    problems
}

/// The workspace's packages by folder name, without sources.
fn packages(metadata: &Value) -> Result<BTreeMap<String, Package>, String> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let members: BTreeSet<String> = list(metadata, "workspace_members").iter().map(text).collect();
    let folder = |name: &str| match name {
        "exops" => "cli".to_owned(),
        other => other.strip_prefix("exops-").unwrap_or(other).to_owned(),
    };
    let all = list(metadata, "packages");
    let names: BTreeMap<String, String> = all.iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
    // Edges that are followed: normal dependencies, whatever the platform.
    let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in list(&metadata["resolve"], "nodes") {
        let normal = |dependency: &&Value| list(dependency, "dep_kinds").iter().any(|kind| kind["kind"].is_null());
        let targets = list(&node, "deps").iter().filter(normal).map(|dependency| text(&dependency["pkg"])).collect();
        edges.insert(text(&node["id"]), targets);
    }
    let mut packages = BTreeMap::new();
    for package in all.iter().filter(|package| members.contains(&text(&package["id"]))) {
        let name = folder(&text(&package["name"]));
        let manifest = text(&package["manifest_path"]).replace('\\', "/");
        if name != "xtask" && !manifest.ends_with(&format!("crates/{name}/Cargo.toml")) {
            return Err(format!("{manifest}: the folder of {name} is not crates/{name}"));
        }
        let mut entry = Package::default();
        for dependency in list(package, "dependencies") {
            let target = text(&dependency["name"]);
            if target.starts_with("exops") {
                entry.workspace.insert(folder(&target));
            } else if dependency["kind"].is_null() {
                entry.external.insert(target);
            }
        }
        let mut open = vec![text(&package["id"])];
        while let Some(id) = open.pop() {
            for next in edges.get(&id).into_iter().flatten() {
                if entry.tree.insert(names.get(next).cloned().unwrap_or_default()) {
                    open.push(next.clone());
                }
            }
        }
        packages.insert(name, entry);
    }
    Ok(packages)
}

/// Forbidden paths in a source text.
fn forbidden(source: &str) -> Vec<String> {
    let code: String = bare(source).chars().filter(|c| !c.is_whitespace()).collect();
    let mut found: BTreeSet<String> = FORBIDDEN_CALLS.iter().filter(|call| code.contains(**call)).map(|call| (*call).to_owned()).collect();
    for after in code.match_indices("std::").map(|(at, _)| code.get(at + 5..).unwrap_or_default()) {
        // `std::fs…` or a group `std::{fs, io::…}`, of which the first word of each item counts.
        let group = after.strip_prefix('{').map_or(vec![after], |inner| items(inner));
        for item in group {
            let word: String = item.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if FORBIDDEN_MODULES.contains(&word.as_str()) {
                found.insert(format!("std::{word}"));
            }
        }
    }
    found.into_iter().collect()
}

/// The items of a braced group up to its closing brace.
fn items(inner: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0usize, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(inner.get(start..at).unwrap_or_default());
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(inner.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// The source without line comments, block comments and what stands in string literals.
fn bare(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if c == '"' {
            let mut escaped = false;
            let end = rest.char_indices().skip(1).find(|(_, c)| {
                let closes = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                closes
            });
            end.map_or(rest.len(), |(at, _)| at + 1)
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\\"'") {
            4
        } else {
            code.push(c);
            c.len_utf8()
        };
        rest = rest.get(skip..).unwrap_or_default();
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "words\n```arrows\ntier 0: uuid\n  ground\n  wire -> ground : bytes\ntier 2\n  rows -> wire\n```\nmore words";

    fn package(workspace: &[&str], external: &[&str], tree: &[&str], source: &str) -> Package {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Package {
            workspace: set(workspace),
            external: set(external),
            tree: set(tree),
            sources: vec![("lib.rs".to_owned(), source.to_owned())],
        }
    }

    fn problems(ground: Package, wire: Package, rows: Package) -> String {
        let arrows = Arrows::read(DOCUMENT).unwrap_or_default();
        let packages = [("ground", ground), ("wire", wire), ("rows", rows)];
        check(&arrows, &packages.into_iter().map(|(name, package)| (name.to_owned(), package)).collect()).join("\n")
    }

    #[test]
    fn a_workspace_that_keeps_to_its_arrows_passes_and_each_breach_is_named() {
        let ground = || package(&[], &["uuid"], &["uuid"], "// std::fs\nfn f() { let _ = \"std::env\"; }");
        let wire = || package(&["ground"], &["bytes"], &["bytes", "uuid"], "use std::{fmt, sync::{Arc}};");
        let rows = || package(&["wire"], &["sqlx"], &["sqlx", "tokio"], "use std::fs;");
        assert_eq!(problems(ground(), wire(), rows()), "");

        let said = |text: String, expected: &str| assert!(text.contains(expected), "{expected:?} is not said in {text:?}");
        said(problems(package(&["rows"], &[], &[], ""), wire(), rows()), "ground depends on rows: there is no such arrow");
        said(problems(ground(), wire(), package(&[], &[], &[], "")), "rows has an arrow to wire that its Cargo.toml does not use");
        said(problems(package(&[], &["bytes"], &[], ""), wire(), rows()), "names the external crate bytes");
        said(problems(package(&[], &[], &["mio"], ""), wire(), rows()), "has mio in its dependency tree");
        for (source, path) in [
            ("use std :: fs;", "std::fs"),
            ("use std::{fmt, io::{Read}, net::TcpStream};", "std::net"),
            ("fn f() { std::thread::sleep(d) }", "std::thread"),
            ("fn f() { let t = SystemTime::now(); }", "SystemTime::now"),
            ("fn f() { let q = '\"'; std::env::var(\"x\") }", "std::env"),
        ] {
            said(problems(package(&[], &[], &[], source), wire(), rows()), &format!("names {path}"));
        }
    }

    #[test]
    fn arrows_that_go_up_or_nowhere_are_refused() {
        for (block, expected) in [
            ("tier 0\n  a -> b\ntier 1\n  b", "arrows only go down"),
            ("tier 1\n  a -> b\n  b", "arrows only go down"),
            ("tier 0\n  a -> b", "which is no crate here"),
            ("tier 0\n  a\n  a", "stands there twice"),
            ("  a", "before the first tier"),
        ] {
            let answer = Arrows::read(&format!("```arrows\n{block}\n```")).err().unwrap_or_default();
            assert!(answer.contains(expected), "{block}: {answer}");
        }
    }
}
