//! Filters of reading cmdlets: checked against the noun, and answered from the index where that is possible.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use exops_filter::{Filter, Operator, parse_opath};
use exops_psobject::{DateTime, PsObject, Value};
use exops_runspace::BoxFuture;
use exops_store::{Lookup, Position, Text};
use uuid::Uuid;

use crate::Run;
use crate::nouns::{Form, Noun, Property, Type, nouns};
use crate::organization::{Organization, index_flag};
use crate::output::Flow;
use crate::parameters::parse_time;
use crate::values::{UNLIMITED, fold, parse_size, smtp_address};

/// Rows that the index may answer with for one clause of a filter that others make narrower.
const CLAUSE: u32 = 30_000;
/// Rows that it may read for all clauses together: a filter of a thousand wide ones costs no more than a few. A pattern for
/// which it may read more than it answers with counts as a whole clause.
const CANDIDATES: u32 = 150_000;
/// What a search of the index counts as beside its rows.
const SEARCH: u32 = 30;
/// Objects that are looked at one by one; walking the list is as good when there are more.
const SINGLY: u32 = 2000;
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

/// The text that properties hold for the recipients that a filter names, by property and literal.
pub(crate) type Referenced = HashMap<(String, String), String>;

/// The groups that a filter asks about, by the text of their id, and the folded names of those who are in them: no object
/// stores where it is a member.
#[derive(Default)]
pub(crate) struct Groups(pub(crate) HashMap<String, HashSet<String>>);

/// Stands among [`Groups`] for all there are.
pub(crate) const ANY_GROUP: &str = "*";

impl Groups {
    /// Those that somebody is in, as filters compare them.
    pub(crate) fn of(&self, name: &str) -> Value {
        let name = fold(name);
        let inside = self.0.iter().filter(|(_, members)| members.contains(&name));
        PsObject::from_list(inside.map(|(group, _)| group.as_str().into()).collect()).into()
    }

    /// A comparison of names with the same answer; `None` where it asks who is not in a group, or for too many.
    fn named(&self, operator: Operator, group: &Value) -> Option<Filter> {
        let group = match (operator, group.as_str()) {
            (Operator::Equal, Some(group)) => group,
            (Operator::NotEqual, None) => ANY_GROUP,
            _ => return None,
        };
        let members = self.0.get(group).into_iter().flatten();
        let is = |name: &String| Filter::Compare { property: "Name".to_owned(), operator: Operator::Equal, value: name.as_str().into() };
        let all: Vec<_> = members.take(SINGLY as usize + 1).map(is).collect();
        (all.len() <= SINGLY as usize).then_some(Filter::Or(all))
    }
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

/// The filter with every literal of [`references`] replaced by the text that the properties hold.
pub(crate) fn dereferenced(filter: Filter, referenced: &Referenced) -> Filter {
    let all = |parts: Vec<Filter>| parts.into_iter().map(|part| dereferenced(part, referenced)).collect();
    match filter {
        Filter::And(parts) => Filter::And(all(parts)),
        Filter::Or(parts) => Filter::Or(all(parts)),
        Filter::Not(part) => Filter::Not(Box::new(dereferenced(*part, referenced))),
        Filter::Compare { property, operator, value } => {
            let name = value.as_str().and_then(|text| referenced.get(&(property.clone(), text.to_owned())));
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
pub(crate) async fn candidates(run: &Run, listing: &'static Noun, filter: &Filter, groups: &Groups) -> Flow<Option<BTreeSet<Position>>> {
    let mut search = Search { run, listing, groups, budget: CANDIDATES };
    match search.matching(filter, SINGLY).await?.filter(|found| fits(found, SINGLY)) {
        Some(found) => run.store().positions(found).await.map(Some).map_err(|e| run.storage(&e)),
        None => Ok(None),
    }
}

fn fits(found: &HashSet<Uuid>, usable: u32) -> bool {
    found.len() <= usable as usize
}

/// One question to the index.
struct Search<'a> {
    run: &'a Run,
    listing: &'static Noun,
    groups: &'a Groups,
    /// What is left of [`CANDIDATES`].
    budget: u32,
}

impl Search<'_> {
    /// Those that can match, where the index knows; `None` also where they are more than are `usable`.
    fn matching<'f>(&'f mut self, filter: &'f Filter, usable: u32) -> BoxFuture<'f, Flow<Option<HashSet<Uuid>>>> {
        Box::pin(async move {
            match filter {
                Filter::All | Filter::Not(_) => Ok(None),
                Filter::And(parts) => {
                    let parts: Vec<_> = parts.iter().filter(|part| !matches!(part, Filter::All)).collect();
                    let usable = if parts.len() > 1 { CLAUSE } else { usable };
                    let mut all: Option<HashSet<Uuid>> = None;
                    for part in parts {
                        let Some(found) = self.matching(part, usable).await? else { continue };
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
                        let Some(found) = self.matching(part, usable).await? else { return Ok(None) };
                        union.extend(found);
                        if !fits(&union, usable) {
                            return Ok(None);
                        }
                    }
                    Ok(Some(union))
                }
                Filter::Compare { property, operator, value } if property == MEMBER_OF_GROUP => match self.groups.named(*operator, value) {
                    Some(named) => self.matching(&named, usable).await,
                    None => Ok(None),
                },
                Filter::Compare { property, operator, value } => {
                    let lookups = lookups(self.run.organization(), self.listing, filter, (property, *operator, value));
                    let mut union = HashSet::new();
                    for lookup in lookups.iter().flatten() {
                        let Some(found) = self.look_up(lookup, usable).await? else { return Ok(None) };
                        union.extend(found);
                    }
                    Ok(lookups.map(|_| union))
                }
            }
        })
    }

    /// Those that answer one condition, paid for.
    async fn look_up(&mut self, lookup: &Lookup, usable: u32) -> Flow<Option<HashSet<Uuid>>> {
        self.run.output.check()?;
        let limit = usable.min(self.budget);
        if limit == 0 {
            return Ok(None);
        }
        let found = self.run.store().candidates(&self.listing.name, lookup, limit).await.map_err(|e| self.run.storage(&e))?;
        let read = match &found {
            _ if reads_more(lookup) => CLAUSE,
            Some(found) => u32::try_from(found.len()).unwrap_or(limit),
            None => limit,
        };
        self.budget = self.budget.saturating_sub(read + SEARCH);
        Ok(found)
    }
}

/// Whether the index may read more for it than it answers with: it searches by what stands before the first `*`.
fn reads_more(lookup: &Lookup) -> bool {
    match lookup {
        Lookup::Sort(Text::Like(pattern)) | Lookup::Property(_, Text::Like(pattern)) => {
            pattern.split_once('*').is_some_and(|(_, rest)| !rest.is_empty())
        }
        _ => false,
    }
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
