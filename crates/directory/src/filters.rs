//! Filters of reading cmdlets: checked against the noun, and answered from the index where that is possible.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use exops_filter::{Filter, Operator, parse_opath};
use exops_psobject::{DateTime, Value};
use exops_runspace::BoxFuture;
use exops_store::{Lookup, Position, StoreError, TenantStore, Text};
use uuid::Uuid;

use crate::nouns::{Form, Noun, Property, Type, nouns};
use crate::organization::{Organization, index_flag};
use crate::parameters::parse_time;
use crate::values::{UNLIMITED, fold, parse_size, smtp_address};

/// Rows that the index may answer with for one clause of a filter.
const CLAUSE: u32 = 30_000;
/// The same for all clauses together: a filter of a thousand wide ones costs no more than a few.
const CANDIDATES: u32 = 150_000;
/// Objects that are looked at one by one; walking the list is as good when there are more.
const SINGLY: usize = 2000;
/// So few that no further clause is asked to make them fewer.
const FEW: usize = 500;
/// Longest pattern with which the index is searched, in characters and wildcards. Others are compared while the list is
/// walked, in a time that no pattern can stretch.
const PATTERN: (usize, usize) = (256, 2);

/// The groups that somebody is in: kept with these, and known to filters only.
pub(crate) const MEMBER_OF_GROUP: &str = "MemberOfGroup";

/// Reads a filter text for a noun: names become canonical, literals get the type of their property.
///
/// Answers why it is not valid: syntax, a property that cannot be filtered on or is hidden from the caller, a literal
/// that is no value of the property.
pub(crate) fn read(text: &str, noun: &'static Noun, hidden: &[String]) -> Result<Filter, String> {
    let filter = parse_opath(text).map_err(|error| error.to_string())?;
    check(filter, noun, hidden)
}

fn check(filter: Filter, noun: &'static Noun, hidden: &[String]) -> Result<Filter, String> {
    let all = |parts: Vec<Filter>| parts.into_iter().map(|part| check(part, noun, hidden)).collect::<Result<Vec<_>, _>>();
    Ok(match filter {
        Filter::All => Filter::All,
        Filter::And(parts) => Filter::And(all(parts)?),
        Filter::Or(parts) => Filter::Or(all(parts)?),
        Filter::Not(part) => Filter::Not(Box::new(check(*part, noun, hidden)?)),
        Filter::Compare { property, operator, value } => {
            let known = noun.property(&property).filter(|p| p.filterable && !hidden.contains(&p.name.to_lowercase()));
            let cmdlet = noun.get.as_ref().map_or("", |get| &get.cmdlet);
            let Some(known) = known else { return Err(format!("\"{property}\" is not a filterable property of {cmdlet}.")) };
            if known.plain && matches!(operator, Operator::Like | Operator::NotLike) && value.display().contains('*') {
                return Err(format!("the property {} takes no wildcards. Compare it with -eq or -ne.", known.name));
            }
            // Without a wildcard they compare the whole value.
            let operator = match operator {
                Operator::Like if known.plain => Operator::Equal,
                Operator::NotLike if known.plain => Operator::NotEqual,
                other => other,
            };
            if &*known.name == MEMBER_OF_GROUP && !matches!(operator, Operator::Equal | Operator::NotEqual) {
                return Err(format!("the property {MEMBER_OF_GROUP} is compared with -eq or -ne."));
            }
            let value = literal(known, operator, value)?;
            Filter::Compare { property: known.name.to_string(), operator, value }
        }
    })
}

/// A literal in the form in which [`crate::values::to_filter`] gives the property.
fn literal(property: &Property, operator: Operator, value: Value) -> Result<Value, String> {
    if value.is_null() || matches!(operator, Operator::Like | Operator::NotLike) {
        return Ok(value);
    }
    fn typed(kind: &Type, value: &Value) -> Option<Value> {
        let text = value.display();
        Some(match &kind.form {
            Form::List(item) => return typed(item, value),
            Form::Bool => match (value, text.trim_start_matches('$').to_ascii_lowercase().as_str()) {
                (Value::Bool(flag), _) => Value::Bool(*flag),
                (_, "true" | "1") => Value::Bool(true),
                (_, "false" | "0") => Value::Bool(false),
                _ => return None,
            },
            Form::Int16 | Form::Int32 | Form::UInt32 => Value::I64(text.trim().parse().ok()?),
            Form::UnlimitedSize | Form::UnlimitedNumber if text.eq_ignore_ascii_case(UNLIMITED) => UNLIMITED.into(),
            Form::Size | Form::UnlimitedSize => Value::I64(i64::try_from(parse_size(&text)?).ok()?),
            Form::UnlimitedNumber => Value::I64(text.trim().parse().ok()?),
            Form::DateTime | Form::DateTimeUtc => Value::DateTime(match value {
                Value::DateTime(time) => *time,
                _ => parse_time(&text).map(DateTime::to_utc)?,
            }),
            Form::Guid => Uuid::try_parse(text.trim()).ok()?.to_string().into(),
            // By name or number.
            Form::Enum { members, .. } => {
                let is = |(name, number): &&(Arc<str>, i64)| name.eq_ignore_ascii_case(text.trim()) || text.trim() == number.to_string();
                members.iter().find(is)?.0.clone().into()
            }
            Form::Text | Form::Uri | Form::Object => text.into(),
        })
    }
    typed(&property.kind, &value).ok_or_else(|| {
        let members = match &property.kind.form {
            Form::Enum { members, .. } => {
                format!(" It must be one of {}.", members.iter().map(|(name, _)| &**name).collect::<Vec<_>>().join(", "))
            }
            _ => String::new(),
        };
        format!("\"{}\" is not a value of the property {} ({}).{members}", value.display(), property.name, property.kind.name)
    })
}

/// What the recipients that a filter names stand for.
#[derive(Default)]
pub(crate) struct Referenced {
    /// The names that properties hold, by property and literal.
    pub(crate) names: HashMap<(String, String), String>,
    /// The members of groups by the literal that names the group; of all groups where it is null.
    pub(crate) members: HashMap<Option<String>, Vec<String>>,
}

/// Property and literal (null is none) of every comparison for equality of a property that refers to recipients.
pub(crate) fn references<'a>(filter: &'a Filter, noun: &Noun) -> Vec<(&'a str, Option<&'a str>)> {
    let (mut found, mut stack) = (Vec::new(), vec![filter]);
    while let Some(filter) = stack.pop() {
        match filter {
            Filter::All => {}
            Filter::And(parts) | Filter::Or(parts) => stack.extend(parts),
            Filter::Not(part) => stack.push(part),
            Filter::Compare { property, operator: Operator::Equal | Operator::NotEqual, value } => {
                if noun.property(property).is_some_and(|p| p.reference) {
                    found.push((property.as_str(), value.as_str()));
                }
            }
            Filter::Compare { .. } => {}
        }
    }
    found
}

/// The filter with every literal of [`references`] replaced by the name that the properties hold, and with the names of a
/// group's members where it asks who is in one: no object stores that.
pub(crate) fn dereferenced(filter: Filter, referenced: &Referenced) -> Filter {
    let all = |parts: Vec<Filter>| parts.into_iter().map(|part| dereferenced(part, referenced)).collect();
    match filter {
        Filter::And(parts) => Filter::And(all(parts)),
        Filter::Or(parts) => Filter::Or(all(parts)),
        Filter::Not(part) => Filter::Not(Box::new(dereferenced(*part, referenced))),
        Filter::Compare { property, operator, value } if property == MEMBER_OF_GROUP => {
            let members = referenced.members.get(&value.as_str().map(str::to_owned));
            let is =
                |name: &String| Filter::Compare { property: "Name".to_owned(), operator: Operator::Equal, value: name.as_str().into() };
            let inside = Filter::Or(members.into_iter().flatten().map(is).collect());
            // In no group at all is who is not among the members of any.
            if (operator == Operator::Equal) == value.is_null() { Filter::Not(Box::new(inside)) } else { inside }
        }
        Filter::Compare { property, operator, value } => {
            let name = value.as_str().and_then(|text| referenced.names.get(&(property.clone(), text.to_owned())));
            let value =
                name.filter(|_| matches!(operator, Operator::Equal | Operator::NotEqual)).map_or(value.clone(), |n| n.as_str().into());
            Filter::Compare { property, operator, value }
        }
        Filter::All => Filter::All,
    }
}

/// Where the objects stand that can match, from the index, in list order; `None` when the list must be walked. What it
/// answers still has to be evaluated: the index knows beginnings of values, and not every clause.
///
/// `listing` is the noun under which the objects are listed.
pub(crate) async fn candidates(
    store: &TenantStore,
    organization: &Organization,
    listing: &'static Noun,
    filter: &Filter,
) -> Result<Option<BTreeSet<Position>>, StoreError> {
    let mut budget = CANDIDATES;
    let found = matching(store, organization, listing, filter, &mut budget).await?;
    match found.filter(|found| found.len() <= SINGLY) {
        Some(found) => store.positions(found).await.map(Some),
        None => Ok(None),
    }
}

fn matching<'a>(
    store: &'a TenantStore,
    organization: &'a Organization,
    listing: &'static Noun,
    filter: &'a Filter,
    budget: &'a mut u32,
) -> BoxFuture<'a, Result<Option<HashSet<Uuid>>, StoreError>> {
    Box::pin(async move {
        match filter {
            Filter::All | Filter::Not(_) => Ok(None),
            Filter::And(parts) => {
                let mut all: Option<HashSet<Uuid>> = None;
                for part in parts {
                    let Some(found) = matching(store, organization, listing, part, budget).await? else { continue };
                    let both = match all {
                        Some(all) => all.intersection(&found).copied().collect(),
                        None => found,
                    };
                    let few = both.len() <= FEW;
                    all = Some(both);
                    if few {
                        break;
                    }
                }
                Ok(all)
            }
            Filter::Or(parts) => {
                let mut union = HashSet::new();
                for part in parts {
                    match matching(store, organization, listing, part, budget).await? {
                        Some(found) => union.extend(found),
                        None => return Ok(None),
                    }
                }
                Ok(Some(union))
            }
            Filter::Compare { property, operator, value } => {
                let Some(lookups) = lookups(organization, listing, filter, (property, *operator, value)) else { return Ok(None) };
                let mut union = HashSet::new();
                for lookup in lookups {
                    let limit = CLAUSE.min(*budget);
                    let found = store.candidates(&listing.name, &lookup, limit).await?;
                    *budget = budget.saturating_sub(found.as_ref().map_or(limit, |f| u32::try_from(f.len()).unwrap_or(limit)));
                    let Some(found) = found else { return Ok(None) };
                    union.extend(found);
                }
                Ok(Some(union))
            }
        }
    })
}

/// What answers a comparison from the index: names where every noun of the listing is found by that property, the order of
/// the list, or the index of properties with the nouns whose objects match without having a row there.
fn lookups(
    organization: &Organization,
    listing: &'static Noun,
    filter: &Filter,
    (property, operator, value): (&str, Operator, &Value),
) -> Option<Vec<Lookup>> {
    let text = match (operator, value) {
        (Operator::Equal, Value::Bool(flag)) => Text::Is(index_flag(*flag).to_owned()),
        (Operator::Equal, Value::String(text)) => Text::Is(fold(text)),
        (Operator::NotEqual, Value::Null) => Text::Like("*".to_owned()),
        (Operator::Like, Value::String(text)) if text.contains('*') => {
            // Without blanks at the ends, as values are in the index.
            Text::Like(text.split('*').map(fold).collect::<Vec<_>>().join("*"))
        }
        (Operator::Like, Value::String(text)) => Text::Is(fold(text)),
        _ => return None,
    };
    match &text {
        Text::Is(text) if text.is_empty() => return None,
        Text::Like(pattern) if pattern.chars().count() > PATTERN.0 || pattern.matches('*').count() > PATTERN.1 => return None,
        Text::Is(text) => {
            let finds = |noun: &Noun| noun.finders.iter().any(|finder| finder.properties.iter().any(|p| **p == *property));
            if nouns().iter().filter(|noun| !noun.view && noun.listed_as() == &*listing.name).all(finds) {
                return Some(vec![Lookup::Name(fold(smtp_address(text).unwrap_or(text)))]);
            }
        }
        Text::Like(_) => {}
    }
    if property == "DisplayName" {
        return Some(vec![Lookup::Sort(text)]);
    }
    let property = listing.property(property).filter(|p| p.indexed)?;
    let nouns =
        organization.matching_by_default(listing, &property.name, filter).into_iter().map(|noun| Lookup::Noun(noun.name.to_string()));
    Some(nouns.chain([Lookup::Property(property.name.to_string(), text)]).collect())
}
