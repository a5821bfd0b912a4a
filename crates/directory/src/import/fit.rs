//! From an object of a file to an object of the directory, by the noun table.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;

use exops_psobject::{DateTime, DateTimeKind, Properties, PsObject, TimeSpan, Value, exported, json};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::{ImportError, LIMITS, stored_noun};
use crate::addresses;
use crate::nouns::{self, Form, Noun, Property, Type, nouns};
use crate::organization::{Entity, MORE, Organization};
use crate::seed::{dn, escape_dn};
use crate::values::{UNLIMITED, fold, is_smtp_address, parse_size};
use crate::{FOREST, parameters};

/// What PowerShell's client and jobs add to objects on receipt.
const NOISE: [&str; 4] = ["PSComputerName", "RunspaceId", "PSShowComputerName", "PSSourceJobInstanceId"];
/// What is true of one accepted domain only, which the organisation has from its beginning.
const OWN: [&str; 2] = ["Default", "InitialDomain"];
/// Longest value that a reason or warning shows.
const SHOWN: usize = 80;
/// Properties that hold the text of an object whose string form a conversion lost, best first.
const TEXTS: [&str; 7] = ["ProxyAddressString", "Address", "Name", "Value", "DistinguishedName", "OriginalString", "Guid"];

/// What objects are fitted to.
pub(super) struct Fit {
    pub(super) organization: Organization,
    /// What objects are that do not say it themselves.
    pub(super) wanted: Option<&'static Noun>,
}

/// An object, and what is to be said about it.
pub(super) struct Fitted {
    pub(super) entity: Entity,
    pub(super) warnings: Vec<String>,
    /// Properties and the recipients that they name.
    pub(super) references: Vec<(String, String)>,
}

/// Why a value was not taken.
enum Problem {
    /// It is none of its type.
    Bad(&'static str),
    /// A conversion of PowerShell left no more than the name of a type.
    Lost,
    /// A member of an enumeration that is not known here: the service has newer ones than any table.
    Unknown,
}

impl Fit {
    /// The directory's object of one of a file, or why it is none. `row`: it comes from CSV.
    pub(super) fn object(&self, value: &Value, row: bool) -> Result<Fitted, String> {
        let object = match value {
            Value::Object(object) if object.list().is_none() => object,
            _ => return Err("it is no object with properties".to_owned()),
        };
        let noun = self.noun(object)?;
        let mut entity = Entity { id: Uuid::nil(), noun, values: Map::new() };
        let (mut warnings, mut more) = (Vec::new(), Properties::default());
        for (name, value) in object.properties() {
            if name.contains('@') || NOISE.iter().any(|noise| noise.eq_ignore_ascii_case(name)) {
                continue;
            }
            let empty = row && value.as_str() == Some("");
            let Some(property) = property(noun, name) else {
                if !empty {
                    more.set(name, value.clone());
                }
                continue;
            };
            if empty {
                entity.values.extend(emptied(property).map(|json| (property.name.to_string(), json)));
                continue;
            }
            match stored(property, &property.kind, value) {
                Ok(Json::Bool(true)) if &*noun.name == "AcceptedDomain" && OWN.contains(&&*property.name) => {
                    warnings.push(format!("{} stays with the organisation's own domain", property.name));
                }
                Ok(json) => {
                    entity.values.insert(property.name.to_string(), json);
                }
                Err(Problem::Bad(reason)) => return Err(format!("{} \"{}\": {reason}", property.name, shown(value))),
                Err(Problem::Lost) => {
                    let instead = if row { "Export-Csv writes no lists: Export-Clixml does" } else { "ConvertTo-Json -Depth 5" };
                    warnings.push(format!("{} lost its value in the export; its default is taken ({instead})", property.name));
                }
                Err(Problem::Unknown) => {
                    let text = "is not among the values that are known here; its default is taken";
                    warnings.push(format!("{} \"{}\" {text}", property.name, shown(value)));
                }
            }
        }
        self.complete(&mut entity)?;
        let references = references(&entity);
        if !more.is_empty() {
            entity.values.insert(MORE.to_owned(), json::to_rest(&PsObject::notes(more).into()));
        }
        // What equals the default is not stored.
        let blank = Entity { values: identifying(&entity), ..entity.clone() };
        let same = |name: &str, json: &Json| !blank.values.contains_key(name) && self.organization.stored(&blank, noun, name) == json;
        entity.values.retain(|name, json| name == MORE || !same(name, json));
        Ok(Fitted { entity, warnings, references })
    }

    /// Takes out of references those to objects of the file itself.
    pub(super) fn without_own(&self, file: &mut File, references: &mut Vec<(String, String)>) -> Result<(), ImportError> {
        let mut open: HashSet<String> = references.iter().map(|(_, text)| fold(text)).collect();
        for entry in exported::read(file, &LIMITS)? {
            let entry = entry?;
            let fitted = entry.value.ok().and_then(|value| self.object(&value, entry.row).ok());
            if let Some(fitted) = fitted {
                let (_, identities, _) = self.organization.rows(&fitted.entity)?;
                for identity in identities {
                    open.remove(&identity.value);
                }
            }
        }
        references.retain(|(_, text)| open.contains(&fold(text)));
        Ok(())
    }

    /// The noun: by type name, kind of recipient or class, else the one that was asked for.
    fn noun(&self, object: &PsObject) -> Result<&'static Noun, String> {
        let typed = object.type_name().and_then(|name| name.rsplit('.').next()).and_then(stored_noun);
        if let Some(noun) = typed {
            return Ok(noun);
        }
        if let Some(value) = object.property("RecipientTypeDetails").filter(|value| !value.is_null()) {
            let kind = nouns().iter().find_map(|noun| noun.property("RecipientTypeDetails")).map(|property| &property.kind);
            let kind = kind.and_then(|kind| member(kind, value)).unwrap_or_else(|| text(value).into_owned());
            let found =
                nouns().iter().find(|noun| stored_noun(&noun.name).is_some() && noun.kinds.iter().any(|k| k.eq_ignore_ascii_case(&kind)));
            return found.ok_or_else(|| format!("no object of this directory can be of RecipientTypeDetails \"{kind}\""));
        }
        let class = object.property("ObjectClass").map(list_text).unwrap_or_default();
        if class.iter().any(|class| class == "msExchAcceptedDomain") {
            return stored_noun("AcceptedDomain").ok_or_else(String::new);
        }
        self.wanted.ok_or_else(|| match object.type_name() {
            Some(name) if name.contains('.') && !name.ends_with("PSCustomObject") && !name.ends_with(".PSObject") => {
                format!("objects of type {name} are not held by this directory")
            }
            _ => format!(
                "nothing says what it is (no type, RecipientTypeDetails or class); say it with --noun {}",
                super::importable().join("|")
            ),
        })
    }

    /// Adds what an object of the noun cannot be without.
    fn complete(&self, entity: &mut Entity) -> Result<(), String> {
        let noun = entity.noun;
        let has = |entity: &Entity, name: &str| entity.values.get(name).and_then(Json::as_str).is_some_and(|text| !text.is_empty());
        if noun.property("EmailAddresses").is_some() {
            self.addresses(entity)?;
        }
        if !has(entity, "Name") {
            let other = ["DisplayName", "Alias", "DomainName", "Identity"].into_iter().find(|name| has(entity, name));
            let Some(name) = other.and_then(|name| entity.values.get(name)).cloned() else {
                return Err("it has no Name, DisplayName or Alias".to_owned());
            };
            entity.values.insert("Name".to_owned(), name);
        }
        if noun.property("DomainName").is_some() && !has(entity, "DomainName") {
            let name = entity.values.get("Name").cloned().unwrap_or_default();
            entity.values.insert("DomainName".to_owned(), name);
        }
        let name = entity.values.get("Name").and_then(Json::as_str).unwrap_or_default().to_owned();
        let id = |entity: &Entity, name: &str| {
            entity.values.get(name).and_then(Json::as_str).and_then(|text| Uuid::try_parse(text).ok()).filter(|id| !id.is_nil())
        };
        let known = ["Guid", "ExchangeObjectId", "ObjectGuid"].into_iter().find_map(|name| id(entity, name));
        entity.id = known.unwrap_or_else(|| {
            let named = ["PrimarySmtpAddress", "Name"].into_iter().find_map(|name| entity.values.get(name).and_then(Json::as_str));
            let text = format!("{}/{}/{}", self.organization.name(), noun.name, named.unwrap_or_default().to_lowercase());
            Uuid::new_v5(&Uuid::NAMESPACE_DNS, text.as_bytes())
        });
        entity.values.insert("Guid".to_owned(), entity.id.to_string().into());
        if noun.property("DistinguishedName").is_some() && !has(entity, "DistinguishedName") {
            let organization = self.organization.name();
            let path = format!("CN={},OU={organization},OU=Microsoft Exchange Hosted Organizations,{}", escape_dn(&name), dn(FOREST));
            entity.values.insert("DistinguishedName".to_owned(), path.into());
        }
        Ok(())
    }

    /// One primary address, the same in all properties, and an alias.
    fn addresses(&self, entity: &mut Entity) -> Result<(), String> {
        let named =
            |entity: &Entity, name: &str| entity.values.get(name).and_then(Json::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let bare = |text: String| crate::values::smtp_address(&text).map_or(text.clone(), str::to_owned);
        let primary = ["PrimarySmtpAddress", "WindowsEmailAddress", "ExternalEmailAddress"]
            .into_iter()
            .find_map(|name| named(entity, name))
            .map(bare);
        let listed = entity.values.get("EmailAddresses").and_then(Json::as_array).cloned().unwrap_or_default();
        let mut list: Vec<String> = listed.iter().filter_map(Json::as_str).map(str::to_owned).collect();
        if let Some(primary) = &primary
            && !list.iter().any(|item| item.starts_with("SMTP:"))
        {
            list = addresses::promote(&list.iter().map(String::as_str).collect::<Vec<_>>(), primary);
        }
        if list.is_empty() {
            return Err("it has no PrimarySmtpAddress and no EmailAddresses".to_owned());
        }
        let list = addresses::replace(&list.iter().map(String::as_str).collect::<Vec<_>>())
            .map_err(|reason| format!("EmailAddresses: {reason}"))?;
        let address = addresses::primary(&list).map(str::to_owned).unwrap_or_default();
        if named(entity, "PrimarySmtpAddress").is_none() {
            entity.values.insert("PrimarySmtpAddress".to_owned(), address.clone().into());
        }
        if named(entity, "Alias").is_none() {
            let alias = address.split('@').next().unwrap_or_default().to_owned();
            entity.values.insert("Alias".to_owned(), alias.into());
        }
        entity.values.insert("EmailAddresses".to_owned(), list.into());
        Ok(())
    }
}

/// The beginning of a value, for a sentence.
fn shown(value: &Value) -> String {
    value.display().chars().take(SHOWN).collect()
}

/// The property of that name: of the noun, else of a view that shows it.
fn property(noun: &'static Noun, name: &str) -> Option<&'static Property> {
    let shows =
        |view: &&'static Noun| view.view && (view.shows.as_deref() == Some(&noun.name) || noun.listing.as_deref() == Some(&view.name));
    noun.property(name).or_else(|| nouns().iter().filter(shows).find_map(|view| view.property(name)))
}

/// What an empty cell says of a property: that it had no value where there can be none, else nothing.
fn emptied(property: &Property) -> Option<Json> {
    match (&property.kind.form, &property.default) {
        (Form::List(_), _) => Some(Json::Array(Vec::new())),
        (Form::Text | Form::Uri, nouns::Default::Raw(Json::Null)) => None,
        (Form::Text | Form::Uri, _) => Some("".into()),
        (Form::Guid | Form::DateTime | Form::DateTimeUtc | Form::Object, _) => Some(Json::Null),
        _ => None,
    }
}

/// Values from which defaults of other properties follow.
fn identifying(entity: &Entity) -> Map<String, Json> {
    let sources: Vec<_> = entity
        .noun
        .properties
        .iter()
        .filter_map(|p| if let nouns::Default::Same(other) = &p.default { Some(&**other) } else { None })
        .collect();
    entity.values.iter().filter(|(name, _)| sources.contains(&name.as_str())).map(|(name, json)| (name.clone(), json.clone())).collect()
}

/// Recipients that an object names.
fn references(entity: &Entity) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for property in entity.noun.properties.iter().filter(|property| property.reference) {
        let named = match entity.values.get(&*property.name) {
            Some(Json::Array(items)) => items.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => continue,
        };
        found.extend(
            named.iter().filter_map(Json::as_str).filter(|t| !t.is_empty()).map(|text| (property.name.to_string(), text.to_owned())),
        );
    }
    found
}

/// The stored form of a value as exports have it.
fn stored(property: &Property, kind: &Type, value: &Value) -> Result<Json, Problem> {
    if let Form::List(item) = &kind.form {
        return list(property, item, value);
    }
    if value.is_null() {
        return Ok(Json::Null);
    }
    if let (Some(span), "EnhancedTimeSpan") = (span(value), &*kind.name) {
        return Ok(span.to_string().into());
    }
    let text = text(value);
    let text = text.trim();
    if value.as_bool().is_none() && is_cut(text) {
        return Err(Problem::Lost);
    }
    let whole = |range: std::ops::RangeInclusive<i64>, reason| {
        let number = value.as_i64().or_else(|| text.parse().ok()).filter(|n| range.contains(n));
        number.map(Json::from).ok_or(Problem::Bad(reason))
    };
    match &kind.form {
        Form::Text | Form::Uri => Ok(text.into()),
        Form::Bool => match (value.as_bool(), text.to_ascii_lowercase().as_str()) {
            (Some(flag), _) => Ok(flag.into()),
            (None, "true" | "1") => Ok(true.into()),
            (None, "false" | "0") => Ok(false.into()),
            (None, "") => Ok(Json::Null),
            _ => Err(Problem::Bad("it is neither true nor false")),
        },
        _ if text.is_empty() => Ok(Json::Null),
        Form::Int16 => whole(i64::from(i16::MIN)..=i64::from(i16::MAX), "it is no number of 16 bits"),
        Form::Int32 => whole(i64::from(i32::MIN)..=i64::from(i32::MAX), "it is no number of 32 bits"),
        Form::UInt32 => whole(0..=i64::from(u32::MAX), "it is no number of 32 bits without sign"),
        Form::Guid => Uuid::try_parse(text).map(|id| id.to_string().into()).map_err(|_| Problem::Bad("it is no GUID")),
        Form::DateTime | Form::DateTimeUtc => {
            time(value).map(|time| time.unix_milliseconds().into()).ok_or(Problem::Bad("it is no time such as 2026-11-24T09:30:00Z"))
        }
        Form::UnlimitedSize | Form::UnlimitedNumber if text.eq_ignore_ascii_case(UNLIMITED) => Ok(UNLIMITED.into()),
        Form::UnlimitedNumber => whole(0..=i64::from(i32::MAX), "it is neither a number nor Unlimited"),
        Form::Size | Form::UnlimitedSize => {
            let bytes = value.as_i64().and_then(|n| u64::try_from(n).ok()).or_else(|| parse_size(text));
            let bytes = bytes.filter(|bytes| i64::try_from(*bytes).is_ok());
            bytes.map(Json::from).ok_or(Problem::Bad("it is no size such as \"49.5 GB (53,150,220,288 bytes)\""))
        }
        Form::Enum { .. } => member(kind, value).map(Json::from).ok_or(Problem::Unknown),
        Form::Object => match &*kind.name {
            "SmtpAddress" if !is_smtp_address(text) => Err(Problem::Bad("it is no SMTP address")),
            "ProxyAddress" => {
                addresses::read(text).map(Json::from).map_err(|_| Problem::Bad("it is no address such as smtp:ann@contoso.com"))
            }
            "EnhancedTimeSpan" => {
                let span = TimeSpan::parse(text).ok_or(Problem::Bad("it is no time span such as 14.00:00:00"))?;
                Ok(span.to_string().into())
            }
            _ => Ok(text.into()),
        },
        Form::List(_) => Err(Problem::Bad("it is a list of lists")),
    }
}

fn list(property: &Property, item: &Type, value: &Value) -> Result<Json, Problem> {
    let items: Vec<Value> = match value {
        Value::Null => Vec::new(),
        value => match (value.as_list(), value) {
            (Some(items), _) => items.to_vec(),
            (None, Value::String(text)) if is_cut(text) => return Err(Problem::Lost),
            (None, Value::String(text)) => split(property, item, text).into_iter().map(Value::from).collect(),
            (None, one) => vec![one.clone()],
        },
    };
    items.iter().filter(|item| !item.is_null()).map(|one| stored(property, item, one)).collect()
}

/// The items of a list that an export joined. Blanks separate only what has none itself: addresses and members of closed
/// lists.
fn split<'a>(property: &Property, item: &Type, text: &'a str) -> Vec<&'a str> {
    let separator = |c: char| matches!(c, ';' | '\n' | '\r');
    let mut items: Vec<&str> = if text.contains(separator) { text.split(separator).collect() } else { text.split(',').collect() };
    let is_address = matches!(&*item.name, "ProxyAddress" | "SmtpAddress");
    if item.name.starts_with("ADObjectId") && text.contains("DC=") {
        // A distinguished name has commas.
        items = text.split(separator).collect();
    } else if is_address {
        items = items.into_iter().flat_map(split_addresses).collect();
    } else if property.members.is_some() {
        items = items.into_iter().flat_map(str::split_whitespace).collect();
    }
    items.into_iter().map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// Splits at blanks behind which another address begins: `X500:/o=First Organization/…` holds blanks of its own.
fn split_addresses(text: &str) -> Vec<&str> {
    let (mut items, mut start) = (Vec::new(), 0);
    for (at, _) in text.match_indices(' ') {
        let rest = text.get(at + 1..).unwrap_or_default();
        let word = rest.split(' ').next().unwrap_or_default();
        let prefixed =
            word.split_once(':').is_some_and(|(p, _)| !p.is_empty() && p.len() <= 16 && p.bytes().all(|b| b.is_ascii_alphanumeric()));
        if prefixed || is_smtp_address(word) {
            items.extend(text.get(start..at));
            start = at + 1;
        }
    }
    items.extend(text.get(start..));
    items
}

/// What ConvertTo-Json below its depth, and Export-Csv of a list, leave.
fn is_cut(text: &str) -> bool {
    let name = text.strip_prefix("Deserialized.").unwrap_or(text);
    let typed = [
        "System.Collections.",
        "System.Object",
        "System.String[]",
        "System.Byte[]",
        "System.Management.Automation.",
        "Microsoft.Exchange.",
    ];
    text.starts_with("@{") || (typed.iter().any(|prefix| name.starts_with(prefix)) && (!name.contains(' ') || name.contains("[[")))
}

/// The text of a value: its string form, else the property of a bag that says most.
fn text(value: &Value) -> Cow<'_, str> {
    let Value::Object(object) = value else { return Cow::Owned(value.display()) };
    if let Some(text) = &object.to_string {
        return Cow::Borrowed(text);
    }
    if object.property("IsUnlimited").and_then(Value::as_bool) == Some(true) {
        return Cow::Borrowed(UNLIMITED);
    }
    if let (Some(local), Some(domain)) = (object.property("Local"), object.property("Domain")) {
        return Cow::Owned(format!("{}@{}", local.display(), domain.display()));
    }
    let inner = |name: &&str| object.properties().find(|(n, v)| ***n == **name && !v.is_null()).or(None);
    match TEXTS.iter().find_map(inner).map(|(_, value)| value).or_else(|| object.property("value")) {
        Some(inner) if inner.as_list().is_none() => text(inner),
        // Below its depth a conversion leaves nothing of some types.
        None if object.properties().next().is_none() && object.primitive().is_none() => Cow::Borrowed("@{}"),
        _ => Cow::Owned(object.display()),
    }
}

fn list_text(value: &Value) -> Vec<String> {
    match value.as_list() {
        Some(items) => items.iter().map(|item| text(item).into_owned()).collect(),
        None => text(value).split([' ', ',', ';', '\n']).map(str::to_owned).collect(),
    }
}

/// A member of an enumeration, by name or number.
fn member(kind: &Type, value: &Value) -> Option<String> {
    let Form::Enum { members, .. } = &kind.form else { return None };
    let text = text(value);
    let number = value.as_i64().or_else(|| text.trim().parse().ok());
    let found = members.iter().find(|(name, n)| name.eq_ignore_ascii_case(text.trim()) || Some(*n) == number);
    found.map(|(name, _)| name.to_string())
}

/// A time: a value, `/Date(…)/`, ISO 8601 or en-US text.
fn time(value: &Value) -> Option<DateTime> {
    match value {
        Value::DateTime(time) => Some(*time),
        Value::Object(object) => object.primitive().and_then(time),
        _ => {
            let text = value.display();
            match text.trim().strip_prefix("/Date(").and_then(|rest| rest.strip_suffix(")/")) {
                Some(ticks) => {
                    // Behind the milliseconds, which are UTC, an offset may stand that says how they were shown.
                    let end = ticks.char_indices().skip(1).find(|(_, c)| matches!(c, '+' | '-')).map_or(ticks.len(), |(at, _)| at);
                    let milliseconds: i64 = ticks.get(..end)?.parse().ok()?;
                    let ticks = milliseconds.checked_mul(10_000)?.checked_add(621_355_968_000_000_000)?;
                    DateTime::from_ticks(ticks, DateTimeKind::Utc)
                }
                None => parameters::parse_time(&text),
            }
        }
    }
}

/// A time span: a value, or what became of its properties.
fn span(value: &Value) -> Option<TimeSpan> {
    match value {
        Value::TimeSpan(span) => Some(*span),
        _ => value.as_object()?.property("Ticks").and_then(Value::as_i64).map(TimeSpan),
    }
}
