//! `exops lab import`: what administrators exported comes back as it was; what cannot be taken is named, and then nothing is
//! taken.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use exops_testkit::{python, samples};
use serde_json::{Map, Value as Json, json};

use crate::cli::{Prepared, says};
use crate::program::{Home, LabProgram, Run, root};

/// Objects of the round trip.
const OBJECTS: usize = 500;
/// What all of them have in `CustomAttribute1`.
const MARK: &str = "imported-object";

fn mailbox(index: usize) -> Json {
    let kind = ["UserMailbox", "SharedMailbox", "RoomMailbox", "EquipmentMailbox"][index % 4];
    let id = format!("00000000-0000-4000-8000-{index:012x}");
    json!({
        "Name": format!("Import O'Neil & <{index}>"), "DisplayName": format!("Jürgen Größe {index} \u{1F600}"), "Alias": format!("imp{index}"),
        "PrimarySmtpAddress": format!("imp{index}@contoso.com"), "UserPrincipalName": format!("imp{index}@contoso.com"),
        "EmailAddresses": [format!("SMTP:imp{index}@contoso.com"), format!("X500:/o=First Organization/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=imp{index}"),
            format!("smtp:imp{index}@contoso.onmicrosoft.com")],
        "RecipientTypeDetails": kind, "RecipientType": "UserMailbox", "Guid": id, "ExchangeGuid": format!("00000000-0000-4001-8000-{index:012x}"),
        "WhenCreated": format!("2021-03-04T05:06:{:02}Z", index % 60), "WhenChanged": "2024-02-29T23:59:59Z",
        "IssueWarningQuota": "49.5 GB (53,150,220,288 bytes)", "ProhibitSendQuota": if index.is_multiple_of(7) { "Unlimited" } else { "49.75 GB (53,418,655,744 bytes)" },
        "MaxSendSize": "35 MB (36,700,160 bytes)", "HiddenFromAddressListsEnabled": index.is_multiple_of(5), "ResourceCapacity": index,
        "RetainDeletedItemsFor": "30.00:00:00", "ExtensionCustomAttribute1": ["a b", "c"], "CustomAttribute1": MARK,
        "CustomAttribute15": format!("line one\nline two \"{index}\""), "ContosoBadge": format!("B-{index}"), "ContosoFlags": ["x", "y"],
    })
}

fn lines(objects: impl Iterator<Item = Json>) -> String {
    objects.map(|object| format!("{object}\n")).collect()
}

fn file(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_string_lossy().into_owned()
}

/// What the lab holds of the imported objects, by name.
fn held(lab: &Prepared) -> BTreeMap<String, Map<String, Json>> {
    let read =
        lab.run(&["Get-Mailbox", "-ResultSize", "Unlimited", "-Filter", &format!("CustomAttribute1 -eq '{MARK}'"), "-o", "jsonl"]).exits(0);
    let objects = read.stdout.lines().map(|line| serde_json::from_str::<Map<String, Json>>(line).unwrap());
    objects.map(|object| (object["Name"].as_str().unwrap().to_owned(), object)).collect()
}

#[track_caller]
fn equal(what: &str, before: &BTreeMap<String, Map<String, Json>>, after: &BTreeMap<String, Map<String, Json>>, but: &[&str]) {
    let mut differences = Vec::new();
    for (name, old) in before {
        let Some(new) = after.get(name) else {
            differences.push(format!("{name} is missing"));
            continue;
        };
        for property in old.keys().chain(new.keys()).filter(|p| !but.contains(&p.as_str()) && old.get(*p) != new.get(*p)) {
            differences.push(format!("{name}.{property}: {:?} became {:?}", old.get(property), new.get(property)));
        }
    }
    let shown = differences.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        differences.is_empty() && after.len() == before.len(),
        "{what}: {} of {} objects; {} differences:\n{shown}",
        after.len(),
        before.len(),
        differences.len()
    );
}

#[test]
fn exports_come_back_equal() {
    let lab = Prepared::connected();
    let folder = lab.lab.home.path().to_owned();
    let source = file(&folder, "source.jsonl", lines((0..OBJECTS).map(mailbox)));
    let import = |path: &str| lab.lab.exops(&["lab", "import", path]);
    assert!(import(&source).exits(0).stdout.contains("imported 500 Mailbox"));
    let first = held(&lab);
    assert_eq!(first.len(), OBJECTS);
    let one = &first["Import O'Neil & <6>"];
    for (name, value) in mailbox(6).as_object().unwrap() {
        let same = if name.starts_with("When") {
            one[name].as_str().unwrap().get(..19) == value.as_str().unwrap().get(..19)
        } else {
            &one[name] == value
        };
        assert!(same, "{name}: {value} became {}", one[name]);
    }
    let filter = format!("CustomAttribute1 -eq '{MARK}'");
    let mut exports: Vec<(String, String)> = Vec::new();
    for form in ["json", "jsonl", "clixml", "csv"] {
        let read = lab.run(&["Get-Mailbox", "-ResultSize", "Unlimited", "-Filter", &filter, "-o", form]).exits(0);
        exports.push((format!("our {form}"), file(&folder, &format!("ours.{form}"), read.stdout)));
    }
    if let Some(python) = python() {
        for form in ["5.1", "live", "7", "clixml-5.1", "clixml-7"] {
            let target = folder.join(format!("theirs-{form}")).to_string_lossy().into_owned();
            let mut command = Command::new(&python);
            command.arg(root().join("interop/powershell_json.py")).args([&*folder.join("ours.jsonl").to_string_lossy(), form, &target]);
            let made = command.output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            exports.push((format!("imitated {form}"), target));
        }
    }
    for (what, path) in exports {
        lab.lab.exops(&["lab", "reset"]).exits(0);
        let run = import(&path);
        assert_eq!(run.code, 0, "{what}: {}", run.stderr);
        // A cell of CSV is text, whatever it was, and an empty one is nothing.
        let but: &[&str] = if what == "our csv" { &["ContosoFlags"] } else { &[] };
        equal(&what, &first, &held(&lab), but);
    }
}

/// Hostile files among others: entities, deep nesting and endless fields, foreign encodings.
#[test]
fn what_cannot_be_taken_is_named_and_nothing_is_kept() {
    let lab = LabProgram::start();
    let folder = lab.home.path().to_owned();
    let import = |path: &str, more: &[&str]| lab.exops(&[&["lab", "import", path], more].concat());

    let good = file(&folder, "good.jsonl", lines((0..3).map(mailbox)));
    assert!(import(&good, &["--dry-run"]).exits(0).stdout.contains("would import 3 Mailbox"));
    assert!(import(&good, &[]).exits(0).stdout.contains("imported 3 Mailbox"), "the dry run kept nothing");
    for more in [&["--dry-run"][..], &[]] {
        let run = import(&good, more).exits(3);
        says(&run, &["object 1 (line 1): ", "is taken: Mailbox \"Import O'Neil & <0>\" of the organisation has it", "object 3 (line 3)"]);
    }

    let mut wrong: Vec<Json> = (10..16).map(mailbox).collect();
    wrong[1]["Guid"] = "no-guid".into();
    wrong[3]["Alias"] = wrong[2]["Alias"].clone();
    wrong[4]["RecipientTypeDetails"] = "MailUser".into();
    let run = import(&file(&folder, "wrong.jsonl", lines(wrong.into_iter())), &[]).exits(3);
    says(
        &run,
        &[
            "object 2 (line 2): Guid \"no-guid\": it is no GUID",
            "object 3 (line 3): alias \"imp12\" is also that of object 4 (line 4)",
            "object 4 (line 4): alias \"imp12\" is also that of object 3 (line 3)",
            "object 5 (line 5): no object of this directory can be of RecipientTypeDetails \"MailUser\"",
            "nothing was imported",
        ],
    );
    let rest = file(&folder, "rest.jsonl", lines((10..16).map(mailbox)));
    import(&rest, &["--dry-run"]).exits(0);

    let plain = file(
        &folder,
        "plain.csv",
        "#TYPE System.Management.Automation.PSCustomObject\r\nName;PrimarySmtpAddress;Badge\r\n\"A; \"\"B\"\"\";ab@contoso.com;7\r\nC;c@contoso.com\r\n",
    );
    says(
        &import(&plain, &[]).exits(3),
        &["object 1 (line 3): nothing says what it is", "--noun", "object 2 (line 4): it has 2 cells; the header has 3"],
    );
    says(&import(&plain, &["--noun", "Cat"]).exits(2), &["\"Cat\" is no noun", "Mailbox"]);
    let cut = json!([{"Name": "Cut", "PrimarySmtpAddress": "cut@contoso.com", "InPlaceHolds": "System.Collections.ArrayList", "ForwardingAddress": "Nobody", "SendModerationNotifications": "NeverHeardOf", "ProhibitSendQuota": {"IsUnlimited": false, "Value": {}}}]);
    let run = import(&file(&folder, "cut.json", cut.to_string()), &["--noun", "mailbox"]).exits(0);
    for warning in [
        "InPlaceHolds lost its value in the export",
        "ProhibitSendQuota lost its value in the export",
        "ForwardingAddress names \"Nobody\"",
        "SendModerationNotifications \"NeverHeardOf\" is not among the values",
        "(1 object)",
    ] {
        assert!(run.stderr.contains(warning), "{}", run.stderr);
    }

    let deep = format!("[{}", "{\"a\":".repeat(100_000));
    let long = format!("{{\"Name\":\"{}\"}}", "x".repeat(17 << 20));
    let entities: String = (1..10).map(|n| format!("<!ENTITY a{n} \"{}\">", format!("&a{};", n - 1).repeat(10))).collect();
    let hostile: [(&str, Vec<u8>, &str); 17] = [
        ("empty", b"".to_vec(), "no object in the file"),
        ("blank", b" \n".to_vec(), "no object in the file"),
        ("nothing", b"[]".to_vec(), "no object in the file"),
        ("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), "the file is not text"),
        ("nul", b"[{\"Name\":\"a\0b\"}]".to_vec(), "the file is not text"),
        ("truncated", b"[\n{\"Name\": \"a\",".to_vec(), "ends in the middle of the object that begins on line 2"),
        ("array", b"[{\"Name\":\"a\"}".to_vec(), "ends in the middle"),
        ("deep", deep.into_bytes(), "nested deeper than 100"),
        ("long", long.into_bytes(), "an object has more bytes than 16777216"),
        ("cell", [b"Name,Alias\n\"".to_vec(), vec![b'x'; 17 << 20]].concat(), "line 2: an object has more bytes than 16777216"),
        ("billion-laughs", format!("<?xml version=\"1.0\"?><!DOCTYPE a [{entities}]><Objs><S>&a9;</S></Objs>").into_bytes(), "DOCTYPE"),
        ("windows-1252", b"[\n{\"Name\":\"J\xFCrgen\"}]".to_vec(), "line 2: it is neither UTF-8 nor UTF-16"),
        ("windows-1252-rows", b"Name,Alias\nA,a\nJ\xFCrgen,b\n".to_vec(), "line 3: it is neither UTF-8 nor UTF-16"),
        ("syntax", b"[\n{\"Name\":\n \"a\",}]".to_vec(), "line 3: trailing comma"),
        ("format-table", b"\r\nName  Alias\r\n----  -----\r\nAnn   ann\r\n".to_vec(), "line 2: a header with several columns"),
        ("behind", b"[{\"Name\":\"a\"}] more".to_vec(), "an object is expected"),
        ("xml", b"<html><body/></html>".to_vec(), "another kind of XML"),
    ];
    for (name, content, reason) in hostile {
        let run = import(&file(&folder, name, content), &[]).exits(2);
        says(&run, &[reason, "nothing was imported"]);
    }
    says(&import(folder.to_str().unwrap(), &[]).exits(1), &["cannot read"]);
    says(&import("/nonexistent/file", &[]).exits(1), &["cannot read"]);
    // None of all that left anything.
    import(&rest, &["--dry-run"]).exits(0);
    says(&Home::new().exops(&["lab", "import", &rest, "--data", "/nonexistent/lab"]).exits(8), &["no lab"]);
}

#[test]
fn recorded_exports() {
    let Some(folder) = samples("clixml") else { return };
    let lab = LabProgram::start();
    let mut taken = Vec::new();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in &files {
        let run = lab.exops(&["lab", "import", path.to_str().unwrap(), "--dry-run"]);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match run.code {
            0 => taken.push(name),
            // Every other file holds what no noun is: of another type, nothing at all, or other XML.
            2 => {
                let held = ["no object in the file", "this is another kind of XML"];
                assert!(held.iter().any(|h| run.stderr.contains(h)), "{name}: {}", run.stderr);
            }
            3 => {
                let held = [
                    "are not held by this directory",
                    "no object of this directory can be",
                    "nothing says what it is",
                    "it is no object with properties",
                ];
                let reasons: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("object ")).collect();
                assert!(!reasons.is_empty() && reasons.iter().all(|line| held.iter().any(|h| line.contains(h))), "{name}: {}", run.stderr);
            }
            code => panic!("{name}: exit {code}: {}", run.stderr),
        }
    }
    assert!(taken.contains(&"GetAcceptedDomain.xml".to_owned()), "{taken:?}");
    println!("of {} recorded files {} hold what the directory does: {taken:?}", files.len(), taken.len());
    if let Some(folder) = samples("json") {
        let text = std::fs::read_to_string(folder.join("exchange-online-config.json")).unwrap();
        let recorded: Json = serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap();
        let path = file(lab.home.path(), "domains.json", serde_json::to_string_pretty(&recorded["accepted_domains"]).unwrap());
        let run = lab.exops(&["lab", "import", &path]).exits(0);
        assert!(run.stdout.contains("imported 7 AcceptedDomain"), "{}", run.stdout);
        assert!(run.stderr.contains("Default stays with the organisation's own domain (1 object)"), "{}", run.stderr);
    }
}

/// Peak memory of a process in KiB.
fn peak(process: u64) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").trim().parse().ok()
}

/// Mailboxes of some 3.5 kB each.
fn many(folder: &Path, count: usize, from: usize) -> String {
    let path = folder.join(format!("many-{count}.json"));
    let mut out = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    for index in from..from + count {
        let mut object = mailbox(index);
        object["Notes"] = "n".repeat(2500).into();
        write!(out, "{}{object}", if index == from { "[" } else { ",\n" }).unwrap();
    }
    write!(out, "]").unwrap();
    path.to_string_lossy().into_owned()
}

/// Imports a file and measures: the run, objects a second, peak memory of client and lab in KiB.
fn measured(lab: &LabProgram, path: &str, count: usize) -> (u64, u64) {
    let data = lab.data();
    let begun = Instant::now();
    let mut child = lab.home.command(&["lab", "import", path, "--data", data.to_str().unwrap()]).spawn().unwrap();
    let mut client = 0;
    while child.try_wait().unwrap().is_none() {
        client = peak(child.id().into()).unwrap_or(client).max(client);
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let server = peak(lab.ready["pid"].as_u64().unwrap()).unwrap_or_default();
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    println!("import of {count} mailboxes: {rate:.0} objects/s, client {client} KiB, lab {server} KiB");
    (client, server)
}

#[test]
fn memory_stays_flat_and_a_kill_leaves_nothing() {
    let lab = LabProgram::start();
    let (small, large) = (many(lab.home.path(), 5_000, 0), many(lab.home.path(), 50_000, 5_000));
    let (client, server) = measured(&lab, &small, 5_000);
    let first = lab.kill();
    // Killed while the objects go in: what the first import brought is there, of the second nothing.
    let lab = LabProgram::start_in(first, &[]);
    let data = lab.data();
    let written = || std::fs::metadata(data.join("lab.sqlite-wal")).map_or(0, |file| file.len());
    let (before, begun) = (written(), Instant::now());
    let mut child = lab.home.command(&["lab", "import", &large, "--data", data.to_str().unwrap()]).spawn().unwrap();
    while written() < before + (1 << 20) {
        assert!(child.try_wait().unwrap().is_none(), "the import ended before anything of it was seen in the log");
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing of the import is seen in the log");
        std::thread::sleep(Duration::from_millis(2));
    }
    let home = lab.kill();
    let run = Run::of(child.wait_with_output().unwrap());
    assert_ne!(run.code, 0, "{}", run.stdout);
    let lab = LabProgram::start_in(home, &[]);
    let again = lab.exops(&["lab", "import", &small]).exits(3);
    assert!(again.stderr.contains("is taken"), "{}", again.stderr);
    let (large_client, large_server) = measured(&lab, &large, 50_000);
    if client > 0 && server > 0 {
        assert!(large_client < client * 13 / 10 + 4096, "the client's memory grew from {client} to {large_client} KiB");
        // Ids and places of the objects (24 bytes each), and the pages of a larger database that the store keeps.
        assert!(large_server < server * 2 + 64 * 1024, "the lab's memory grew from {server} to {large_server} KiB");
    }
}
