//! Reading cmdlets: one object by identity, or a list in pages.

use exops_filter::{Filter, Operator};
use exops_psobject::{ErrorRecord, Value};
use exops_runspace::Ended;
use exops_store::{Listing, Object, Position};

use crate::Run;
use crate::filters;
use crate::nouns::{Form, Noun, noun};
use crate::organization::Entity;
use crate::output::Flow;
use crate::parameters::{DEFAULT_RESULT_SIZE, ResultSize};
use crate::values::{fold, smtp_address};

/// Objects that are read at once: enough to hide the query, little enough to hold.
const PAGE: u32 = 100;
/// Matches of one name that are looked at before it is called ambiguous.
const MATCHES: u32 = 1000;

/// Parameters that restrict a list to members of the enumeration property of the same name.
const KINDS: [&str; 2] = ["RecipientType", "RecipientTypeDetails"];

impl Run {
    pub(crate) async fn get(&self, view: &'static Noun) -> Flow {
        let size = self.result_size()?;
        let condition = self.condition(view)?;
        match self.identity() {
            Some(identity) => self.get_one(view, &identity, &condition).await,
            // -Identity $null shows everything, as Exchange does.
            None => self.get_list(view, &condition, size).await,
        }
    }

    async fn get_one(&self, view: &'static Noun, identity: &str, condition: &Filter) -> Flow {
        match self.resolve(view, identity).await? {
            Ok(entity) if self.matches(&entity, view, condition) => self.show(&entity, view).await,
            Ok(_) => self.output.error(self.origin().not_found(identity)).await,
            Err(record) => self.output.error(record).await,
        }
    }

    async fn get_list(&self, view: &'static Noun, condition: &Filter, size: ResultSize) -> Flow {
        let listing = if view.view { &*view.name } else { view.listed_as() };
        let indexed = noun(listing).unwrap_or(view);
        let mut pages = Pages {
            listing: if view.view { Listing::Wider(&view.name) } else { Listing::Noun(&view.name) },
            candidates: filters::candidates(self.store(), listing, indexed, condition)
                .await
                .map_err(|e| self.storage(&e))?
                .map(|found| found.into_iter().collect::<Vec<_>>().into_iter()),
            after: None,
        };
        let mut left = size.limit();
        loop {
            let page = pages.next(self).await?;
            if page.is_empty() {
                return Ok(());
            }
            for object in page {
                self.output.check()?;
                let entity = Entity::read(&object).map_err(|e| self.storage(&e))?;
                if !shows(view, entity.noun) || !self.matches(&entity, view, condition) {
                    continue;
                }
                if left == 0 {
                    return self.output.warning(more_results(size)).await;
                }
                left -= 1;
                self.show(&entity, view).await?;
            }
        }
    }

    /// The object that an identity leads to, or the error record of why there is none.
    pub(crate) async fn resolve(&self, view: &'static Noun, identity: &str) -> Flow<Result<Entity, Box<ErrorRecord>>> {
        let plain = smtp_address(identity).unwrap_or(identity);
        let folded = match uuid::Uuid::try_parse(plain) {
            Ok(id) => id.to_string(),
            Err(_) => fold(plain),
        };
        let mut matches = self.store().resolve(&folded, MATCHES).await.map_err(|e| self.storage(&e))?;
        matches.retain(|m| noun(&m.noun).is_some_and(|n| shows(view, n)));
        // What is unique by rule names its object even where another one bears it as a display name.
        if matches.iter().any(|m| m.exclusive) {
            matches.retain(|m| m.exclusive);
        }
        matches.sort_by_key(|m| m.id);
        matches.dedup_by_key(|m| m.id);
        let id = match matches.as_slice() {
            [] => return Ok(Err(self.origin().not_found(identity))),
            [one] => one.id,
            _ => return Ok(Err(self.origin().ambiguous(identity))),
        };
        match self.store().object(id).await.map_err(|e| self.storage(&e))? {
            Some(object) => Entity::read(&object).map(Ok).map_err(|e| self.storage(&e)),
            None => Ok(Err(self.origin().not_found(identity))),
        }
    }

    /// `-Filter` and the parameters that restrict by kind, as one filter.
    fn condition(&self, view: &'static Noun) -> Flow<Filter> {
        let mut parts = Vec::new();
        for parameter in KINDS {
            let names = self.list(parameter);
            let Some(property) = view.property(parameter).filter(|_| !names.is_empty()) else { continue };
            let Form::Enum { members, .. } = &property.kind.form else { continue };
            let mut kinds = Vec::new();
            for name in names {
                let Some((member, _)) = members.iter().find(|(m, _)| m.eq_ignore_ascii_case(&name)) else {
                    let legal = members.iter().map(|(m, _)| &**m).collect::<Vec<_>>().join(", ");
                    let kind = property.kind.chain.first().map_or("", |t| t);
                    return Err(self.conversion(parameter, &name.into(), kind, &format!("It must be one of {legal}.")));
                };
                let (property, value) = (property.name.to_string(), Value::String(member.clone()));
                kinds.push(Filter::Compare { property, operator: Operator::Equal, value });
            }
            parts.push(Filter::Or(kinds));
        }
        if let Some(text) = self.command.argument("Filter").map(Value::display).filter(|text| !text.trim().is_empty()) {
            let read = filters::read(&text, view, &self.permit.obligations().hidden_properties);
            parts.push(read.map_err(|reason| Ended::Failed(self.origin().filter(&text, &reason)))?);
        }
        Ok(if parts.is_empty() { Filter::All } else { Filter::And(parts) })
    }

    fn matches(&self, entity: &Entity, view: &'static Noun, condition: &Filter) -> bool {
        condition.matches(&|name| self.organization().filter_value(entity, view, name))
    }

    async fn show(&self, entity: &Entity, view: &'static Noun) -> Flow {
        let hidden = &self.permit.obligations().hidden_properties;
        self.output.object(self.organization().show(entity, view, hidden)).await
    }
}

/// Whether a cmdlet of `view` shows objects of that noun.
fn shows(view: &Noun, noun: &Noun) -> bool {
    if view.view { noun.listing.as_ref() == Some(&view.name) } else { noun.name == view.name }
}

fn more_results(size: ResultSize) -> String {
    match size {
        ResultSize::Default => format!(
            "By default, only the first {DEFAULT_RESULT_SIZE} items are returned. Use the ResultSize parameter to ask for another number of \
             items, or for all of them with -ResultSize Unlimited."
        ),
        _ => {
            "There are more results available than are currently displayed. To view them, increase the value for the ResultSize parameter."
                .to_owned()
        }
    }
}

/// The next objects of a list: where the index answered, by id; else by position, so that nothing but one page is held.
struct Pages<'a> {
    listing: Listing<'a>,
    candidates: Option<std::vec::IntoIter<Position>>,
    after: Option<Position>,
}

impl Pages<'_> {
    async fn next(&mut self, run: &Run) -> Flow<Vec<Object>> {
        let store = run.store();
        let read = match &mut self.candidates {
            Some(positions) => loop {
                let ids: Vec<_> = positions.by_ref().take(PAGE as usize).map(|p| p.id).collect();
                // Objects that went away since the index answered leave a page empty that is not the last.
                let end = ids.is_empty();
                let page = store.objects(&ids).await;
                if end || !matches!(&page, Ok(found) if found.is_empty()) {
                    break page;
                }
            },
            None => store.page(self.listing, self.after.as_ref(), PAGE).await,
        };
        let page = read.map_err(|e| run.storage(&e))?;
        self.after = page.last().map(|object| Position { sort: object.sort.clone(), id: object.id });
        Ok(page)
    }
}
