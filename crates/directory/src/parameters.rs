//! Values of parameters that cmdlets share, with Exchange's conversion errors.

use exops_psobject::{DateTime, Value};
use exops_runspace::Ended;

use crate::Run;
use crate::output::Flow;
use crate::values::UNLIMITED;

/// Objects that a reading cmdlet shows when no size is asked for.
pub(crate) const DEFAULT_RESULT_SIZE: u64 = 1000;

/// How many objects are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResultSize {
    /// Nothing was said: [`DEFAULT_RESULT_SIZE`].
    Default,
    /// That many.
    Count(u64),
    /// All.
    Unlimited,
}

impl ResultSize {
    pub(crate) fn limit(self) -> u64 {
        match self {
            Self::Default => DEFAULT_RESULT_SIZE,
            Self::Count(count) => count,
            Self::Unlimited => u64::MAX,
        }
    }
}

impl Run {
    /// A terminating conversion error.
    pub(crate) fn conversion(&self, parameter: &str, value: &Value, to: &str, reason: &str) -> Ended {
        Ended::Failed(self.origin().conversion(parameter, &value.display(), to, reason))
    }

    /// The text by which `-Identity` names an object; `None` when it is not given, null or empty.
    pub(crate) fn identity(&self) -> Option<String> {
        self.named_by("Identity")
    }

    /// The same of another parameter that names an object.
    pub(crate) fn named_by(&self, parameter: &str) -> Option<String> {
        let value = self.command.argument(parameter)?;
        let text = match value.as_object() {
            // A piped or nested object is named by what cannot be ambiguous.
            Some(object) if object.to_string.is_none() || !object.adapted.is_empty() => {
                let id = ["Guid", "DistinguishedName", "Identity"].iter().find_map(|name| object.property(name));
                id.map_or_else(|| value.display(), Value::display)
            }
            _ => value.display(),
        };
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// [`Run::identity`] of a reading cmdlet: null names everything, as Exchange has it; text of nothing but blanks and
    /// a list are no identity.
    pub(crate) fn wanted_identity(&self) -> Flow<Option<String>> {
        let Some(value) = self.command.argument("Identity").filter(|v| !v.is_null()) else { return Ok(None) };
        let reason = if value.as_list().is_some() {
            "It takes one identity, not a list; run the cmdlet once for each."
        } else {
            "An identity can't be empty; leave the parameter out to list everything."
        };
        let text = self.identity().filter(|_| value.as_list().is_none());
        let kind = self.command.cmdlet.parameter("Identity").map_or("", |p| &p.type_name);
        text.map(Some).ok_or_else(|| self.conversion("Identity", value, &format!("Microsoft.Exchange.Configuration.Tasks.{kind}"), reason))
    }

    pub(crate) fn result_size(&self) -> Flow<ResultSize> {
        let Some(value) = self.command.argument("ResultSize").filter(|v| !v.is_null()) else { return Ok(ResultSize::Default) };
        let text = value.display();
        if text.trim().eq_ignore_ascii_case(UNLIMITED) {
            return Ok(ResultSize::Unlimited);
        }
        match text.trim().parse::<u32>() {
            Ok(count) if count > 0 => Ok(ResultSize::Count(u64::from(count))),
            _ => {
                let reason = "It must be a number from 1 on, or Unlimited.";
                Err(self.conversion("ResultSize", value, "Microsoft.Exchange.Data.Unlimited`1[System.UInt32]", reason))
            }
        }
    }

    /// A list parameter: items of a list, or text separated by commas.
    pub(crate) fn list(&self, parameter: &str) -> Vec<String> {
        let Some(value) = self.command.argument(parameter) else { return Vec::new() };
        let items: Vec<String> = match value.as_list() {
            Some(items) => items.iter().map(Value::display).collect(),
            None => value.display().split(',').map(str::to_owned).collect(),
        };
        items.iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
    }

    /// A point in time as Unix milliseconds.
    pub(crate) fn time(&self, parameter: &str) -> Flow<Option<i64>> {
        let Some(value) = self.command.argument(parameter).filter(|v| !v.is_null()) else { return Ok(None) };
        match value {
            Value::DateTime(time) => Ok(Some(time.unix_milliseconds())),
            _ => parse_time(&value.display()).map(|time| Some(time.unix_milliseconds())).ok_or_else(|| {
                self.conversion(
                    parameter,
                    value,
                    "System.DateTime",
                    "It must be a time such as 2026-11-24T09:30:00Z or 11/24/2026 9:30 AM.",
                )
            }),
        }
    }
}

/// ISO 8601, or the en-US forms that scripts write; without an offset it is UTC.
pub(crate) fn parse_time(text: &str) -> Option<DateTime> {
    let text = text.trim();
    let iso = DateTime::parse(text).or_else(|| DateTime::parse(&format!("{text}T00:00:00")));
    if iso.is_some() {
        return iso;
    }
    ["%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M"]
        .iter()
        .find_map(|format| jiff::civil::DateTime::strptime(format, text).ok())
        .or_else(|| jiff::civil::Date::strptime("%m/%d/%Y", text).ok().map(|date| date.at(0, 0, 0, 0)))
        .and_then(|civil| jiff::tz::TimeZone::UTC.to_timestamp(civil).ok())
        .map(|instant| DateTime::from_unix_milliseconds(instant.as_millisecond()))
}
