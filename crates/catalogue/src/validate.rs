use exops_psobject::Value;

use crate::Validator;

/// Runs one check on a converted value. The error is the sentence that PowerShell adds after naming the parameter.
pub(crate) fn validate(validator: &Validator, value: &Value) -> Result<(), String> {
    match validator {
        Validator::AllowNull | Validator::AllowEmptyList => Ok(()),
        Validator::NotNull => not_null(value),
        Validator::NotNullOrEmpty => {
            not_null(value)?;
            let empty = match value.as_list() {
                Some(items) => items.is_empty() || items.iter().any(|item| item.as_str() == Some("")),
                None => value.as_str() == Some(""),
            };
            if empty {
                return Err(
                    "The argument is null or empty. Provide an argument that is not null or empty, and then try the command again.".into(),
                );
            }
            Ok(())
        }
        Validator::Count(low, high) => {
            let count = value.as_list().map_or(1, <[Value]>::len);
            let fits = (u64::from(*low)..=u64::from(*high)).contains(&(count as u64));
            let text = || {
                format!("The parameter requires at least {low} value(s) and no more than {high} value(s) - {count} value(s) were provided.")
            };
            fits.then_some(()).ok_or_else(text)
        }
        _ => match value.as_list() {
            Some(items) => items.iter().try_for_each(|item| validate_item(validator, item)),
            None => validate_item(validator, value),
        },
    }
}

fn not_null(value: &Value) -> Result<(), String> {
    if value.is_null() {
        return Err("The argument is null. Provide a valid value for the argument, and then try running the command again.".into());
    }
    if value.as_list().is_some_and(|items| items.iter().any(Value::is_null)) {
        return Err("The argument collection contains a null value. Supply a collection that does not contain any null values and then \
                    try the command again."
            .into());
    }
    Ok(())
}

fn validate_item(validator: &Validator, item: &Value) -> Result<(), String> {
    match validator {
        Validator::Length(low, high) => {
            // .NET counts UTF-16 code units.
            let length = item.display().encode_utf16().count() as u64;
            if length < u64::from(*low) {
                return Err(format!(
                    "The character length ({length}) of the argument is too short. Specify an argument with a length that is greater than \
                     or equal to \"{low}\", and then try the command again."
                ));
            }
            if length > u64::from(*high) {
                return Err(format!(
                    "The character length of the {length} argument is too long. Shorten the character length of the argument so it is \
                     fewer than or equal to \"{high}\" characters, and then try the command again."
                ));
            }
            Ok(())
        }
        Validator::Range(low, high) => {
            // A number behind a type of its own arrives here unconverted: text that is a number counts as one.
            let Some(number) = item.as_i64().or_else(|| item.as_str().and_then(|s| s.trim().parse().ok())) else {
                return Err("The argument cannot be validated because its type is not a number.".into());
            };
            if number < *low {
                return Err(format!(
                    "The {number} argument is less than the minimum allowed range of {low}. Supply an argument that is greater than or \
                     equal to {low} and then try the command again."
                ));
            }
            if number > *high {
                return Err(format!(
                    "The {number} argument is greater than the maximum allowed range of {high}. Supply an argument that is less than or \
                     equal to {high} and then try the command again."
                ));
            }
            Ok(())
        }
        Validator::Set(members) => {
            let text = item.display();
            if members.iter().any(|m| m.eq_ignore_ascii_case(&text)) {
                return Ok(());
            }
            Err(format!(
                "The argument \"{}\" does not belong to the set \"{}\" specified by the ValidateSet attribute. Supply an argument that is \
                 in the set and then try the command again.",
                crate::refusal::clip(&text),
                members.join(",")
            ))
        }
        _ => Ok(()),
    }
}
