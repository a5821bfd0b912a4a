//! What arrives inside an open shell: fragments, messages and CLIXML.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exops_auth::session_key::{ExchangeKey, SessionKey};
use exops_psobject::{PsObject, Value};
use exops_psrp::{Command, HostMethod, HostResponse, MessageType, PipelineEnd};
use uuid::Uuid;

use super::peer::{SHELL, Shell, Target, fragment, raw_message};

const STOP: &str = "powershell/signal/crtl_c";
/// Megabytes by which one hostile client may make the process larger.
const GROWTH: u64 = 64;

/// C-01: lengths that lie, numbers out of order, objects without start or end, and very many pieces.
#[tokio::test(flavor = "multi_thread")]
async fn c_01_hostile_fragments() {
    let target = Target::start();
    let mut shell = target.open().await;
    let before = target.memory().0;
    let huge = |length: u32| [&fragment(9, 0, 1, b"")[..17], &length.to_be_bytes(), b"xx"].concat();
    let many = |count: u64| (0..count).flat_map(|n| fragment(9, n, u8::from(n == 0), b"x")).collect::<Vec<u8>>();
    for (what, bytes) in [
        ("two gigabytes", huge(1 << 31)),
        ("four gigabytes", huge(u32::MAX)),
        ("an empty one", fragment(9, 0, 3, b"")),
        ("no start", fragment(9, 0, 2, b"x")),
        ("a second number first", fragment(9, 1, 1, b"x")),
        ("a gap", [fragment(9, 0, 1, b"x"), fragment(9, 2, 2, b"x")].concat()),
        ("the same number twice", [fragment(9, 0, 1, b"x"), fragment(9, 0, 1, b"x")].concat()),
        ("unknown flags", fragment(9, 0, 0xFF, b"x")),
        ("a message without its head", fragment(9, 0, 3, &[0; 39])),
        ("a head of nothing", fragment(9, 0, 3, &[0; 40])),
    ] {
        let id = Uuid::new_v4();
        shell.command(id, &bytes).await.is_refused(what);
        shell.send(None, &bytes).await.is_refused(what);
    }
    // Half a head may go on, and so may an object that another one overtook: they wait alone, and nobody else waits for them.
    for unfinished in [fragment(9, 0, 3, b"x")[..13].to_vec(), [fragment(9, 0, 1, b"x"), fragment(10, 0, 1, b"x")].concat()] {
        let answer = shell.command(Uuid::new_v4(), &unfinished).await;
        assert!(answer.status == 200 || answer.fault().is_some(), "{answer:?}");
    }
    // Pieces without an end: taken as long as they are within bounds, refused above.
    let id = shell.invoke(Command::new("Echo-Input"), true).await;
    for round in 0..40 {
        let pieces: Vec<u8> =
            if round == 0 { many(40_000) } else { (0..40_000).flat_map(|n| fragment(9, round * 40_000 + n, 0, b"x")).collect() };
        let answer = shell.send(Some(id), &pieces).await;
        assert!(answer.status == 200 || answer.fault().is_some(), "{answer:?}");
    }
    shell.signal(id, STOP).await.is_done("stop");
    shell.signal(id, &format!("{SHELL}/signal/terminate")).await.is_done("terminate");
    let (_, most) = target.memory();
    assert!(most < before + GROWTH, "{before} MB became {most} MB");
    shell.lives().await;
}

/// C-03 to C-08: objects that are refused, and objects that come back as data. Each goes to a command that gives back what it gets.
#[tokio::test(flavor = "multi_thread")]
async fn c_03_to_c_08_hostile_objects() {
    let target = Target::start();
    let mut shell = target.open().await;
    let before = target.memory().0;
    let id = shell.invoke(Command::new("Echo-Input"), true).await;
    let mut number = 10;
    let obj = |inside: &str| format!("<Obj RefId=\"0\">{inside}</Obj>");
    let fan = {
        let level =
            |n: usize| format!("<Obj RefId=\"{n}\"><LST>{}</LST></Obj>", format!("<Ref RefId=\"{}\"/>", n.saturating_sub(1)).repeat(16));
        format!("<Obj RefId=\"99\"><LST><Obj RefId=\"0\"><LST><S>x</S></LST></Obj>{}</LST></Obj>", (1..20).map(level).collect::<String>())
    };
    for (what, content) in [
        ("C-03 a hundred thousand levels", format!("{}{}", "<Obj RefId=\"0\"><LST>".repeat(50_000), "</LST></Obj>".repeat(50_000))),
        ("C-03 levels without end", "<Obj RefId=\"0\"><LST>".repeat(60_000)),
        ("C-03 an unknown reference", "<Ref RefId=\"7\"/>".to_owned()),
        ("C-03 a reference forward", obj("<LST><Ref RefId=\"1\"/><Obj RefId=\"1\"><LST/></Obj></LST>")),
        ("C-03 a reference to itself", obj("<LST><Ref RefId=\"0\"/></LST>")),
        ("C-03 an unknown type reference", obj("<TNRef RefId=\"5\"/>")),
        ("C-04 references that multiply", fan),
        ("C-07 a large I64", "<I64>9223372036854775808</I64>".to_owned()),
        ("C-07 a small I32", "<I32>-2147483649</I32>".to_owned()),
        ("C-07 a byte of 256", "<By>256</By>".to_owned()),
        ("C-07 year 0", "<DT>0000-01-01T00:00:00Z</DT>".to_owned()),
        ("C-07 year 10000", "<DT>10000-01-01T00:00:00Z</DT>".to_owned()),
        ("C-07 a long time", "<TS>P99999999999999D</TS>".to_owned()),
        ("C-07 no GUID", "<G>7f2e3d5e-0f54-4a5e</G>".to_owned()),
        ("C-07 five parts", "<Version>1.2.3.4.5</Version>".to_owned()),
        ("C-07 a character above all", "<C>1114112</C>".to_owned()),
        ("C-07 no base64", "<BA>!</BA>".to_owned()),
        ("C-07 no boolean", "<B>yes</B>".to_owned()),
        ("no XML", "<S>x".to_owned()),
        ("an unknown element", "<Run>x</Run>".to_owned()),
        ("two roots", "<S>x</S><S>y</S>".to_owned()),
    ] {
        number += 1;
        shell.send(Some(id), &raw_message(number, MessageType::PipelineInput, shell.id, id, &content)).await.is_refused(what);
    }
    // Names of types say nothing here, and a blob is bytes.
    let gadget = "<TN RefId=\"0\"><T>System.Windows.Data.ObjectDataProvider</T><T>Deserialized.System.Diagnostics.Process</T></TN>\
                  <ToString>calc.exe</ToString><Props><S N=\"MethodName\">Start</S><SBK N=\"Script\">Start-Process calc</SBK>\
                  <BA N=\"SerializationData\">AAEAAAD/////AQ==</BA></Props>";
    let escapes = "_x005F_x000A_ _x005F_x005F__xD83D__xDE00_ _xD800_ _x00_ _xZZZZ_";
    // A reference to what it stands in, further out, is a text, never a cycle.
    let cycle = obj("<LST><Obj RefId=\"1\"><LST><Ref RefId=\"0\"/></LST></Obj></LST>");
    let taken = [obj(gadget), format!("<S>{escapes}</S>"), cycle, "<Db>NaN</Db>".to_owned(), "<Db>-INF</Db>".to_owned()];
    for content in &taken {
        number += 1;
        shell.send(Some(id), &raw_message(number, MessageType::PipelineInput, shell.id, id, content)).await.is_done(content);
    }
    number += 1;
    shell.send(Some(id), &fragment_of_end(&shell, id, number)).await.is_done("the end of input");
    let (output, end) = shell.collect(id).await;
    assert_eq!((output.len(), end), (taken.len(), PipelineEnd::Completed));
    let bag: &PsObject = output[0].as_object().unwrap_or_else(|| panic!("{output:?}"));
    assert_eq!((bag.property("MethodName"), bag.property("SerializationData").is_some()), (Some(&"Start".into()), true));
    assert!(!matches!(output[1], Value::Null));
    let (_, most) = target.memory();
    assert!(most < before + GROWTH, "{before} MB became {most} MB");
    shell.lives().await;
}

fn fragment_of_end(shell: &Shell<'_>, id: Uuid, number: u64) -> Vec<u8> {
    raw_message(number, MessageType::EndOfPipelineInput, shell.id, id, "")
}

/// C-09: a key that is none, a key twice, a secret before any key. One text for all that does not decrypt.
#[tokio::test(flavor = "multi_thread")]
async fn c_09_key_exchange() {
    let target = Target::start();
    let key = |text: &str| format!("<Obj RefId=\"0\"><MS><S N=\"PublicKey\">{text}</S></MS></Obj>");
    for (what, content) in [
        ("no base64", key("!")),
        ("too short", key("BgIAAACkAABSU0Ex")),
        ("another algorithm", key(&"A".repeat(368))),
        ("a number", "<Obj RefId=\"0\"><MS><I32 N=\"PublicKey\">1</I32></MS></Obj>".to_owned()),
        ("nothing", "<Obj RefId=\"0\"><MS/></Obj>".to_owned()),
    ] {
        let shell = target.open().await;
        // Refused, or the shell ends: it could not be told anything.
        let answer = shell.send(None, &raw_message(9, MessageType::PublicKey, shell.id, Uuid::nil(), &content)).await;
        if answer.status == 200 {
            shell.delete().await;
        } else {
            answer.is_refused(what);
            shell.delete().await.is_done("delete");
        }
    }
    let mut shell = target.open().await;
    let mut texts = Vec::new();
    for sealed in ["AAAA", "AAAAAAAAAAAAAAAAAAAAAA==", "not base64", ""] {
        let id = Uuid::new_v4();
        let secret = Value::SecureString(sealed.into());
        let command = Command::new("Measure-Secret").with("Secret", secret);
        let request = exops_psrp::PipelineRequest::from(command);
        shell.pool.invoke(id, &request);
        let bytes = shell.pool.take(exops_psrp::Channel::Pipeline(id), usize::MAX);
        shell.command(id, &bytes).await.is_done("Command");
        let (output, end) = shell.collect(id).await;
        let PipelineEnd::Failed(record) = end else { panic!("{sealed:?}: {output:?} {end:?}") };
        assert!(output.is_empty());
        texts.push(record.message.to_string());
    }
    // The same with a key: other bytes, a part of a block, padding that is none, another session's, and nothing that it should be.
    let exchange = ExchangeKey::generate().unwrap();
    let public = raw_message(90, MessageType::PublicKey, shell.id, Uuid::nil(), &key(exchange.public_key()));
    shell.send(None, &public).await.is_done("the key");
    while shell.key.is_none() {
        let answer = shell.receive(None).await;
        shell.read(None, &answer);
    }
    let own = exchange.open(&shell.key.take().unwrap()).unwrap();
    shell.send(None, &public).await.is_refused("the key a second time");
    let good = STANDARD.decode(own.encrypt(&"sixteen".into()).unwrap()).unwrap();
    let [part, longer] = [good[..good.len() - 1].to_vec(), [good.as_slice(), &[7; 5]].concat()].map(|bytes| STANDARD.encode(bytes));
    let foreign = SessionKey::generate().unwrap().encrypt(&"sixteen".into()).unwrap();
    let padding = STANDARD.encode([7; 16]);
    for (sealed, length) in [(STANDARD.encode(&good), Some(7)), (part, None), (longer, None), (padding, None), (foreign, None)] {
        let command = Command::new("Measure-Secret").with("Secret", Value::SecureString(sealed.as_str().into()));
        let id = shell.invoke(command, false).await;
        match (shell.collect(id).await, length) {
            ((output, PipelineEnd::Completed), Some(length)) => assert_eq!(output, [Value::I32(length)]),
            ((output, PipelineEnd::Failed(record)), None) if output.is_empty() => texts.push(record.message.to_string()),
            (other, _) => panic!("{sealed}: {other:?}"),
        }
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    shell.lives().await;
}

/// C-10: nothing begins before the pool is open, no pool has fewer than no runspaces, and nobody is the other side.
#[tokio::test(flavor = "multi_thread")]
async fn c_10_wrong_order() {
    let target = Target::start();
    let numbers = |shell: &Shell<'_>, min: i64, max: i64| {
        let mut creation =
            exops_psrp::ClientPool::new(exops_psrp::ClientPoolConfig::new(shell.id)).take(exops_psrp::Channel::Pool, usize::MAX);
        let text = String::from_utf8_lossy(&creation).into_owned();
        let at = text.find("MinRunspaces").unwrap();
        assert!(at > 0);
        for (name, number) in [("MinRunspaces\">1", min), ("MaxRunspaces\">1", max)] {
            let at = creation.windows(name.len()).position(|w| w == name.as_bytes()).unwrap() + name.len() - 1;
            creation[at] = u8::try_from(number).unwrap() + b'0';
        }
        creation
    };
    for (min, max) in [(2, 1), (0, 1), (0, 0), (9, 8)] {
        let shell = Shell::new(&target);
        let answer = target.post(shell.create_envelope(&numbers(&shell, min, max))).await;
        if answer.status == 200 {
            // The shell is there and says that its pool is broken.
            let answer = shell.command(Uuid::new_v4(), &fragment(9, 0, 3, b"x")).await;
            answer.is_refused("a pipeline in a broken pool");
            shell.delete().await;
        } else {
            answer.is_refused("impossible numbers");
        }
    }
    // A pipeline before the pool is open: only half of the opening came.
    let mut shell = Shell::new(&target);
    let creation = shell.pool.take(exops_psrp::Channel::Pool, 300);
    let answer = target.post(shell.create_envelope(&creation)).await;
    if answer.status == 200 {
        shell.command(Uuid::new_v4(), &fragment(9, 0, 3, b"x")).await.is_refused("a pipeline before the pool is open");
        shell.delete().await;
    }
    // Messages of the other side, and messages at the wrong place.
    let mut shell = target.open().await;
    let nothing = "<Obj RefId=\"0\"><MS/></Obj>";
    for kind in [
        MessageType::RunspacePoolState,
        MessageType::PipelineState,
        MessageType::PipelineOutput,
        MessageType::ApplicationPrivateData,
        MessageType::EncryptedSessionKey,
        MessageType::SessionCapability,
        MessageType::InitRunspacePool,
        MessageType::CreatePipeline,
    ] {
        shell.send(None, &raw_message(50, kind, shell.id, Uuid::nil(), nothing)).await.is_refused(&format!("{kind:?}"));
    }
    // For another pool, and from a server.
    shell
        .send(None, &raw_message(60, MessageType::GetAvailableRunspaces, Uuid::new_v4(), Uuid::nil(), nothing))
        .await
        .is_refused("another pool");
    let mut mine = raw_message(61, MessageType::GetAvailableRunspaces, shell.id, Uuid::nil(), nothing);
    mine[21] = 1;
    shell.send(None, &mine).await.is_refused("a message to a client");
    // A second pool under the id of the first.
    let again = Shell { id: shell.id, ..Shell::new(&target) };
    let creation = exops_psrp::ClientPool::new(exops_psrp::ClientPoolConfig::new(shell.id)).take(exops_psrp::Channel::Pool, usize::MAX);
    target.post(again.create_envelope(&creation)).await.is_refused("the id is in use");
    shell.lives().await;
}

/// C-11: answers to calls that nobody made change nothing, however many come.
#[tokio::test(flavor = "multi_thread")]
async fn c_11_forged_answers() {
    let target = Target::start();
    let mut shell = target.open().await;
    let id = shell.invoke(Command::new("Invoke-HostCall"), false).await;
    while shell.calls.is_empty() {
        let answer = shell.receive(Some(id)).await;
        shell.read(Some(id), &answer);
    }
    let call = shell.calls.pop().unwrap();
    assert_eq!(call.method, HostMethod::ReadLine);
    let answer = |call_id: i64, text: &str| HostResponse { call_id, method: HostMethod::ReadLine, result: Ok(text.into()) };
    for round in 0..10 {
        let mut flood = Vec::new();
        for forged in 0..400 {
            flood.extend(shell.pool.respond(Some(id), &answer(call.call_id + 1 + round * 400 + forged, "forged")));
        }
        shell.send_text(Some(id), "pr", "", &STANDARD.encode(&flood)).await.is_done("forged answers");
    }
    shell.send(None, &shell_answer(&shell, "for the pool")).await;
    let real = shell.pool.respond(Some(id), &answer(call.call_id, "real"));
    shell.send_text(Some(id), "pr", "", &STANDARD.encode(&real)).await.is_done("the answer");
    let second = shell.pool.respond(Some(id), &answer(call.call_id, "second"));
    shell.send_text(Some(id), "pr", "", &STANDARD.encode(&second)).await;
    let (output, end) = shell.collect(id).await;
    assert_eq!((output, end), (vec!["real".into()], PipelineEnd::Completed));
    shell.lives().await;
}

fn shell_answer(shell: &Shell<'_>, text: &str) -> Vec<u8> {
    let content = format!("<Obj RefId=\"0\"><MS><S N=\"mr\">{text}</S><I64 N=\"ci\">1</I64><I32 N=\"mi\">11</I32></MS></Obj>");
    raw_message(70, MessageType::RunspacePoolHostResponse, shell.id, Uuid::nil(), &content)
}

/// C-12: script text is refused as script text, whatever it says; nothing of it runs.
#[tokio::test(flavor = "multi_thread")]
async fn c_12_scripts() {
    let target = Target::start();
    let mut shell = target.open().await;
    for text in [
        "Get-Mailbox -ResultSize 1; Remove-Item x",
        "$(Get-Mailbox -ResultSize 1)",
        "& { Get-Mailbox -ResultSize 1 }",
        "Invoke-Expression 'Get-Mailbox -ResultSize 1'",
        "[System.IO.File]::ReadAllText('/etc/passwd')",
        "Get-Mailbox -ResultSize 1 | ForEach-Object { $_ }",
        "param($x) $x",
        "",
    ] {
        for is_script in [true, false] {
            let id = shell.invoke(Command { is_script, ..Command::new(text) }, false).await;
            let (output, end) = shell.collect(id).await;
            assert!(output.is_empty() && matches!(end, PipelineEnd::Failed(_)), "{text:?}: {output:?} {end:?}");
        }
    }
    shell.lives().await;
}

/// C-13: a flood stops at what its client fetches, on every stream.
#[tokio::test(flavor = "multi_thread")]
async fn c_13_floods() {
    let target = Target::start();
    let mut shell = target.open().await;
    let before = target.memory().0;
    for stream in ["Progress", "Verbose", "Information", "Debug", "Warning", "Error", "Output"] {
        let id = shell.invoke(Command::new("Write-Flood").with("Stream", stream).with("Count", 1_000_000), false).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        // Some of it, and no more.
        for _ in 0..3 {
            shell.receive(Some(id)).await.is_done(stream);
        }
        let (now, _) = target.memory();
        assert!(now < before + GROWTH, "{stream}: {before} MB became {now} MB");
        shell.signal(id, STOP).await.is_done("stop");
        shell.signal(id, &format!("{SHELL}/signal/terminate")).await.is_done("terminate");
    }
    shell.lives().await;
}

/// C-14: one end, whenever and however often a stop comes, and whoever is gone by then.
#[tokio::test(flavor = "multi_thread")]
async fn c_14_stops() {
    let target = Target::start();
    let mut shell = target.open().await;
    let flood = || Command::new("Write-Flood").with("Stream", "Output").with("Count", 1_000_000);
    // During output, twice at once.
    let id = shell.invoke(flood(), false).await;
    let answer = shell.receive(Some(id)).await;
    shell.read(Some(id), &answer);
    let (first, second) = tokio::join!(shell.signal(id, STOP), shell.signal(id, STOP));
    first.is_done("stop");
    assert!(second.status == 200 || second.fault().is_some(), "{second:?}");
    assert_eq!(shell.collect(id).await.1, PipelineEnd::Stopped);
    // After its end, and after it is forgotten.
    let late = shell.signal(id, STOP).await;
    assert!(late.status == 200 || late.fault().is_some(), "{late:?}");
    shell.signal(id, &format!("{SHELL}/signal/terminate")).await;
    shell.signal(id, STOP).await.is_refused("a command that is gone");
    // While it waits for input, and before it began: a second one waits for the runspace.
    let waiting = shell.invoke(Command::new("Echo-Input"), true).await;
    let queued = shell.invoke(Command::new("Get-Mailbox"), false).await;
    shell.signal(queued, STOP).await.is_done("stop");
    assert_eq!(shell.collect(queued).await, (Vec::new(), PipelineEnd::Stopped));
    shell.signal(waiting, STOP).await.is_done("stop");
    assert_eq!(shell.collect(waiting).await, (Vec::new(), PipelineEnd::Stopped));
    shell.lives().await;
    // Gone during the stop: the shell is deleted before anybody reads how it ended.
    for _ in 0..5 {
        let mut gone = target.open().await;
        let id = gone.invoke(flood(), false).await;
        let (_, deleted) = tokio::join!(gone.signal(id, STOP), gone.delete());
        deleted.is_done("delete");
    }
    assert_eq!(target.shells().await.len(), 1);
    shell.lives().await;
}
