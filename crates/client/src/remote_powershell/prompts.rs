//! Calls of the far end's cmdlets to whoever started them.

use exops_psobject::{ErrorCategory, ErrorRecord, InformationRecord, Value};
use exops_psrp::HostMethod;
use exops_runspace::{Choice, Host, Record};

use crate::rest::now;

pub(super) async fn ask(host: &dyn Host, method: HostMethod, parameters: &[Value]) -> Result<Value, Box<ErrorRecord>> {
    let text = |i: usize| parameters.get(i).map(Value::display).unwrap_or_default();
    let failed = |e: exops_runspace::HostError| Box::new(nobody(&e.to_string()));
    match method {
        HostMethod::ReadLine => host.read_line().await.map(Value::from).map_err(failed),
        HostMethod::PromptForChoice => {
            let choice = |v: &Value| {
                let part = |name: &str| v.as_object().and_then(|o| o.property(name)).map(Value::display).unwrap_or_default();
                Choice { label: part("label"), help: part("helpMessage") }
            };
            let choices: Vec<Choice> = parameters.get(2).and_then(Value::as_list).unwrap_or_default().iter().map(choice).collect();
            let default = parameters.get(3).and_then(Value::as_i64).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
            let chosen = host.prompt_for_choice(&text(0), &text(1), &choices, default).await.map_err(failed)?;
            Ok(Value::I32(i32::try_from(chosen).unwrap_or(i32::MAX)))
        }
        _ => Err(Box::new(nobody("this client's host does not offer that"))),
    }
}

pub(super) fn nobody(why: &str) -> ErrorRecord {
    ErrorRecord::new("System.Management.Automation.Host.HostException", why, ErrorCategory::NotImplemented, "HostFunctionNotImplemented")
}

pub(super) fn line(text: String) -> Record {
    Record::Information(Box::new(InformationRecord {
        message: text.into(),
        source: "Write-Host".into(),
        time: now(),
        tags: vec!["PSHOST".into()],
    }))
}
