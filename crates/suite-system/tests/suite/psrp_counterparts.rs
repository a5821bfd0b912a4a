//! psrpcore at the other end of a pipe: as client of our server half, as server of our client half. What psrpcore is pinned to stands
//! in `interop/requirements.txt`.

use std::path::Path;
use std::process::{Command, Stdio};

use exops_testkit::python;
use serde_json::{Value, json};

/// What each step must have said, whole. `interop/counterpart_psrpcore.py` says what is done in it.
fn conversation() -> Value {
    json!([
        {"step": "client: open", "ours": ["opened"], "theirs": ["SessionCapability", "ApplicationPrivateData", "RunspacePoolState"],
            "state": "Opened", "peer": "2.3", "private": ["ImplicitRemoting", "PSVersionTable"]},
        {"step": "client: runspaces", "available": [2], "same": [], "more": [false], "fewer at least": [true], "reset": [true]},
        {"step": "client: metadata", "names": ["Get-*", "Set-Mailbox"], "types": 10, "count": 1, "name": "Set-Mailbox",
            "parameters": ["Identity", "WhatIf"], "switch": ["WhatIf"], "aliases": ["wi"]},
        {"step": "client: run", "no_input": true, "history": "Get-Mailbox a | Set-Mailbox", "has_ui": true, "output": ["first"], "states": ["Completed"],
            "statements": [
                [{"name": "Get-Mailbox", "script": false, "arguments": [[null, "a"], ["ResultSize", 5], ["Archive", true]]},
                    {"name": "Set-Mailbox", "script": false, "arguments": [["CustomAttribute1", ["x", "y"]]]}],
                [{"name": "Get-User", "script": false, "arguments": []}]]},
        {"step": "client: input", "wrong": [], "inputs": 19, "ended": "end of input", "states": ["Completed"]},
        {"step": "client: streams", "error": ["one error record", "OneError", "InvalidArgument"], "output": ["one output"],
            "texts": {"Debug": "one debug record", "Verbose": "one verbose record", "Warning": "one warning record"},
            "information": ["one information record", "psrp-pipe", ["PSHOST"]], "progress": ["Working", 50, 9],
            "calls": ["WriteDebugLine", "WriteLine2", "WriteProgress", "WriteVerboseLine", "WriteWarningLine"]},
        {"step": "client: failed", "state": "Failed", "reason": "went wrong", "id": "ItFailed"},
        {"step": "client: host", "method": "ReadLine", "parameters": 0, "value": "typed here", "error": null, "same_call": true},
        {"step": "client: host", "method": "PromptForChoice", "parameters": 4, "value": 0, "error": null, "same_call": true},
        {"step": "client: host", "method": "ReadLine", "parameters": 0, "value": null, "error": "nobody is here", "same_call": true},
        {"step": "client: line", "method": "WriteLine2", "parameters": ["a line"], "ci": -100},
        {"step": "client: key", "ours": ["key"], "theirs": ["PublicKeyRequest", "EncryptedSessionKey"]},
        {"step": "client: ask for credential", "method": "PromptForCredential1", "asked": ["Cap", "Give it", "bob", "there"],
            "value": {"UserName": "bob", "Password": {"secret": "hidden"}}},
        {"step": "client: ask for fields", "method": "Prompt", "asked": [["Name", "System.String"], ["Pw", "System.Security.SecureString"]],
            "value": {"Name": "typed", "Pw": {"secret": "hidden"}}},
        {"step": "client: secret", "got": [["Secret", {"secret": "p@ss w\u{f6}rd \u{1F600}"}]], "type": "PSSecureString", "sent": "p@ss w\u{f6}rd",
            "typed": {"secret": "hidden"}},
        {"step": "client: stop", "running": [0, 1], "early": [[2, "Stopped", "PipelineStopped"]], "stops": [0, 0],
            "late": [["Stopped"], ["Stopped"]], "after": []},
        {"step": "client: nested", "nested": [false, true], "states": [["Completed"], ["Completed"]]},
        {"step": "client: close", "theirs": ["Closed"], "state": "Closed"},
        {"step": "client: end", "refusals": [], "status": 0},
        {"step": "server: open", "ours": "opened", "private": ["PSVersionTable", "Private"], "theirs": ["SessionCapability", "InitRunspacePool"],
            "runspaces": [1, 1], "ui": [false, false], "peer": "2.3"},
        {"step": "server: run", "command": "Set-Mailbox", "script": false, "no_input": true, "nested": false, "states": ["completed"],
            "parameters": [["-Identity:", "a"], ["-Languages:", ["de", "en"]], ["-Confirm:", false]]},
        {"step": "server: input", "wrong": [], "no_input": false, "outputs": 19, "ended": ["EndOfPipelineInput"], "states": ["completed"]},
        {"step": "server: streams", "records": [
            {"event": "debug", "text": "one debug record"},
            {"event": "verbose", "text": "one verbose record"},
            {"event": "warning", "text": "one warning record"},
            {"event": "error", "text": "one error record", "id": "OneError", "type": "System.Exception", "category": "InvalidArgument"},
            {"event": "information", "text": "one information record", "source": "psrpcore", "tags": ["PSHOST"]},
            {"event": "progress", "activity": "Working", "number": 7, "text": "one progress record", "percent": 50, "seconds": 9, "operation": "counting"},
            {"event": "output", "value": "one output"}]},
        {"step": "server: failed", "end": "failed", "reason": "went wrong", "id": "ItFailed"},
        {"step": "server: host", "ours": [[11, true, []], [16, false, ["a line"]]], "value": "typed here", "same_call": true, "method": "ReadLine",
            "states": ["completed"]},
        {"step": "server: nested", "nested": true, "states": ["completed"]},
        {"step": "server: secret", "asked": ["key requested"], "ours": ["key", "output"], "got": "p@ss w\u{f6}rd \u{1F600}",
            "sent": {"secret": "p@ss w\u{f6}rd"}, "states": ["completed"]},
        {"step": "server: stop", "ends": [["end", "stopped"]], "late": []},
        {"step": "server: event", "after": ["after the event"], "states": ["completed"]},
        {"step": "server: broken", "ours": "ended", "reason": "the pool broke"},
        {"step": "server: end", "refusals": [], "status": 0},
    ])
}

/// Once in large pieces, once with every message in many.
#[test]
fn psrpcore_at_both_ends() {
    let Some(python) = python() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop/counterpart_psrpcore.py");
    for capacity in ["32768", "60"] {
        let mut command = Command::new(&python);
        let output = command.arg(&script).args([env!("CARGO_BIN_EXE_psrp-pipe"), capacity]).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let said: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = conversation();
        for (said, expected) in said.iter().zip(expected.as_array().unwrap()) {
            assert_eq!(said, expected, "in pieces of {capacity} bytes");
        }
        assert_eq!(Some(said.len()), expected.as_array().map(Vec::len));
    }
}

/// The conversations that the tests of the protocol replay are what the pinned counterparts say, byte for byte.
#[test]
fn conversations_are_recorded_again_as_they_are() {
    let Some(python) = python() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let again = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conversations");
    let _ = std::fs::remove_dir_all(&again);
    let script = root.join("interop/record_conversations.py");
    let output = Command::new(&python).arg(script).arg(&again).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = |folder: &Path| -> std::collections::BTreeMap<_, _> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| (entry.file_name(), std::fs::read_to_string(entry.path()).unwrap())).collect()
    };
    let (kept, again) = (files(&root.join("crates/suite-core/tests/conversations")), files(&again));
    assert!(kept.keys().eq(again.keys()), "{:?} {:?}", kept.keys(), again.keys());
    for (name, text) in &kept {
        let differs = text.lines().zip(again[name].lines()).position(|(kept, again)| kept != again);
        assert!(*text == again[name], "{name:?} differs from line {:?} on", differs.map(|line| line + 1));
    }
    assert!(kept.values().map(String::len).sum::<usize>() < 1 << 20);
}
