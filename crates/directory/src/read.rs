//! Reading cmdlets: one object by identity, or a list in pages.

use std::cell::LazyCell;
use std::collections::HashSet;
use std::sync::Arc;

use exops_filter::{Filter, Operator};
use exops_psobject::{ErrorRecord, Value};
use exops_runspace::Ended;
use exops_store::{Listing, Object, Position, StoreError};
use uuid::Uuid;

use crate::filters::{self, ANY_GROUP, Groups, MEMBER_OF_GROUP, Referenced};
use crate::nouns::{Form, Noun, Property, noun};
use crate::organization::Entity;
use crate::output::Flow;
use crate::parameters::{DEFAULT_RESULT_SIZE, ResultSize};
use crate::references::Accepts;
use crate::values::{fold, smtp_address};
use crate::{FOREST, Run};

/// Objects that are read at once: enough to hide the query, little enough to hold.
const PAGE: u32 = 100;
/// Objects of a list that are looked at, for one page, before a stop or the time is asked about: that many where few are
/// asked for, else no more than the page holds, since a query reads ahead.
const LOOK: u32 = 2000;
/// Matches of one name that are looked at before it is called ambiguous.
const MATCHES: u32 = 1000;
/// Characters of a text by which `-SortBy` orders: what is kept of each object while a list is sorted.
const SORTED: usize = 128;

/// Parameters that restrict a list to members of the enumeration property of the same name.
const KINDS: [&str; 2] = ["RecipientType", "RecipientTypeDetails"];
/// Switches that restrict a list. Objects that were removed, or that no licence holds, are not kept here.
const SWITCHES: [(&str, &str); 5] = [
    ("Archive", "ArchiveState -ne 'None'"),
    ("GroupMailbox", "RecipientTypeDetails -eq 'GroupMailbox'"),
    ("PublicFolder", "RecipientTypeDetails -eq 'PublicFolderMailbox'"),
    ("InactiveMailboxOnly", "Name -eq $null"),
    ("SoftDeletedMailbox", "Name -eq $null"),
];
/// Parameters with a filter.
const FILTERS: [&str; 2] = ["Filter", "RecipientPreviewFilter"];
/// Parameters with a value that the property must have.
const EQUALS: [&str; 2] = ["MailboxPlan", "OrganizationalUnit"];
/// What an identity with a wildcard is compared with.
const PATTERNS: [&str; 4] = ["Name", "DisplayName", "Alias", "DomainName"];
/// What `-Anr` compares with the beginning of.
const ANR: [&str; 5] = ["Name", "DisplayName", "FirstName", "LastName", "Alias"];

/// Which objects are asked for beside an identity.
pub(crate) struct Wanted {
    filter: Filter,
    /// The groups that it asks about.
    groups: Groups,
    /// Folded text of `-Anr`.
    anr: Option<String>,
}

impl Wanted {
    pub(crate) fn all() -> Self {
        Self { filter: Filter::All, groups: Groups::default(), anr: None }
    }

    /// The properties by which objects are chosen.
    fn properties(&self) -> impl Iterator<Item = &str> {
        let anr = if self.anr.is_some() { &ANR[..] } else { &[] };
        // By its name an object is known to be in a group.
        self.filter.properties().into_iter().map(|name| if name == MEMBER_OF_GROUP { "Name" } else { name }).chain(anr.iter().copied())
    }
}

/// What an object is sorted by. Objects without value come last.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum SortKey {
    Number(i64),
    Text(String),
    None,
}

impl Run {
    pub(crate) async fn get(&self, view: &'static Noun) -> Flow {
        let size = self.result_size()?;
        let sort = self.sort_property(view)?;
        let identity = self.wanted_identity()?;
        let wanted = self.wanted(view).await?;
        match identity {
            Some(identity) if identity.contains('*') => self.get_matching(view, &identity, wanted, size, sort).await,
            Some(identity) => self.get_one(view, &identity, &wanted).await,
            None => self.get_list(view, &wanted, size, sort).await.map(|_| ()),
        }
    }

    /// What a pattern names; an error where that is nothing.
    async fn get_matching(
        &self,
        view: &'static Noun,
        pattern: &str,
        wanted: Wanted,
        size: ResultSize,
        sort: Option<&'static Property>,
    ) -> Flow {
        let like = |property: &&str| Filter::Compare { property: (*property).to_owned(), operator: Operator::Like, value: pattern.into() };
        let named = PATTERNS.iter().filter(|name| view.property(name).is_some()).map(like).collect();
        let wanted = Wanted { filter: Filter::And(vec![Filter::Or(named), wanted.filter]), ..wanted };
        if self.get_list(view, &wanted, size, sort).await? {
            return Ok(());
        }
        self.output.error(self.origin().not_found(pattern)).await
    }

    async fn get_one(&self, view: &'static Noun, identity: &str, wanted: &Wanted) -> Flow {
        match self.resolve(view, identity).await? {
            Ok(entity) if self.matches(&entity, view, wanted) => self.show(&entity, view).await,
            Ok(_) => self.output.error(self.origin().not_found(identity)).await,
            Err(record) => self.output.error(record).await,
        }
    }

    /// Answers whether there was anything.
    async fn get_list(&self, view: &'static Noun, wanted: &Wanted, size: ResultSize, sort: Option<&'static Property>) -> Flow<bool> {
        let mut pages = self.pages(view, wanted).await?;
        if let Some(property) = sort {
            let ids = self.sorted(view, wanted, property, pages).await?;
            pages = Pages { ids: Some(ids.into_iter()), ..Pages::of(view) };
        }
        let mut left = size.limit();
        while let Some(entity) = pages.next(self, view, wanted).await? {
            if left == 0 {
                self.output.warning(more_results(size)).await?;
                return Ok(true);
            }
            left -= 1;
            self.show(&entity, view).await?;
        }
        Ok(left < size.limit())
    }

    /// The list to walk: what the index answers, where it can.
    async fn pages(&self, view: &'static Noun, wanted: &Wanted) -> Flow<Pages> {
        let mut pages = Pages::of(view);
        let listing = match pages.listing {
            Listing::Wider(listing) => listing,
            Listing::Noun(name) => noun(name).map_or(name, Noun::listed_as),
        };
        let begins = |property: &str, text: &String| Filter::Compare {
            property: property.to_owned(),
            operator: Operator::Like,
            value: format!("{text}*").into(),
        };
        let anr = wanted.anr.iter().map(|text| Filter::Or(ANR.iter().map(|property| begins(property, text)).collect()));
        let filter = Filter::And(anr.chain([wanted.filter.clone()]).collect());
        let found = filters::candidates(self, noun(listing).unwrap_or(view), &filter, &wanted.groups).await?;
        pages.ids = found.map(|found| found.into_iter().map(|p| p.id).collect::<Vec<_>>().into_iter());
        Ok(pages)
    }

    /// The matching objects in the order of a property. Of each only the key and the id are kept.
    async fn sorted(&self, view: &'static Noun, wanted: &Wanted, property: &Property, mut pages: Pages) -> Flow<Vec<Uuid>> {
        let reads = self.organization().reads(wanted.properties().chain([&*property.name]));
        let mut keys = Vec::new();
        let mut note = |object: &Object| {
            let entity = Entity::read_some(object, &reads)?;
            if self.matches(&entity, view, wanted) {
                let key = match self.organization().filter_value(&entity, view, &property.name).unwrap_or_default() {
                    Value::Null => SortKey::None,
                    Value::DateTime(time) => SortKey::Number(time.unix_milliseconds()),
                    Value::Bool(flag) => SortKey::Number(flag.into()),
                    Value::I64(number) => SortKey::Number(number),
                    other => SortKey::Text(fold(&other.display()).chars().take(SORTED).collect()),
                };
                keys.push((key, entity.id));
            }
            Ok(false)
        };
        while !pages.ended {
            self.output.check()?;
            pages.read(self, &mut note).await?;
        }
        // Stable: objects of one key stay in list order.
        keys.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(keys.into_iter().map(|(_, id)| id).collect())
    }

    fn sort_property(&self, view: &'static Noun) -> Flow<Option<&'static Property>> {
        let Some(value) = self.command.argument("SortBy").filter(|v| !v.is_null()) else { return Ok(None) };
        let hidden = &self.permit.obligations().hidden_properties;
        let name = value.display();
        let property = view.property(name.trim()).filter(|p| !p.unseen && !hidden.contains(&p.name.to_lowercase()));
        property.filter(|p| !matches!(p.kind.form, Form::List(_))).map(Some).ok_or_else(|| {
            let reason = format!("It must be a property with one value that {} shows.", self.command.cmdlet.name);
            self.conversion("SortBy", value, "a property name", &reason)
        })
    }

    /// The object that an identity leads to, or the error record of why there is none.
    pub(crate) async fn resolve(&self, view: &'static Noun, identity: &str) -> Flow<Result<Entity, Box<ErrorRecord>>> {
        let plain = smtp_address(identity).unwrap_or(identity);
        let domain = FOREST.split('.').next().unwrap_or_default();
        // `DOMAIN\user`.
        let plain = match plain.split_once('\\') {
            Some((named, user)) if named.trim().eq_ignore_ascii_case(domain) => user,
            _ => plain,
        };
        let folded = match Uuid::try_parse(plain) {
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

    /// `-Filter`, `-Anr` and the parameters that restrict by kind.
    async fn wanted(&self, view: &'static Noun) -> Flow<Wanted> {
        let (mut parts, mut groups) = (Vec::new(), Groups::default());
        for parameter in KINDS {
            let names = self.list(parameter);
            let Some(property) = view.property(parameter).filter(|_| !names.is_empty()) else { continue };
            let Form::Enum { members, .. } = &property.kind.form else { continue };
            let legal: Vec<_> = match (parameter, view.kinds.as_slice()) {
                ("RecipientTypeDetails", kinds @ [_, ..]) => kinds.iter().collect(),
                _ => members.iter().map(|(member, _)| member).collect(),
            };
            let mut kinds = Vec::new();
            for name in names {
                let Some(member) = legal.iter().find(|m| m.eq_ignore_ascii_case(&name)) else {
                    let legal = legal.iter().map(|m| &***m).collect::<Vec<_>>().join(", ");
                    let kind = property.kind.chain.first().map_or("", |t| t);
                    return Err(self.conversion(parameter, &name.into(), kind, &format!("It must be one of {legal}.")));
                };
                kinds.push(equal(&property.name, member));
            }
            parts.push(Filter::Or(kinds));
        }
        for (switch, filter) in SWITCHES.into_iter().filter(|(switch, _)| self.command.flag(switch)) {
            parts.push(filters::read(filter, view, &[]).map_err(|reason| Ended::Failed(self.origin().filter(switch, &reason)))?);
        }
        for property in EQUALS {
            if let Some(text) = self.named_by(property).filter(|_| view.property(property).is_some()) {
                parts.push(equal(property, &text));
            }
        }
        for text in FILTERS.into_iter().filter_map(|p| self.command.argument(p)).filter(|v| !v.is_null()).map(Value::display) {
            let read = filters::read(&text, view, &self.permit.obligations().hidden_properties);
            let filter = read.map_err(|reason| Ended::Failed(self.origin().filter(&text, &reason)))?;
            let referenced = self.referenced(view, &filter, &mut groups).await?;
            parts.push(filters::dereferenced(filter, &referenced));
        }
        let anr = self.command.argument("Anr").filter(|v| !v.is_null());
        if let Some(value) = anr.filter(|v| v.display().contains('*')) {
            return Err(self.conversion("Anr", value, "System.String", "It takes the beginning of a name, without wildcards."));
        }
        let filter = if parts.is_empty() { Filter::All } else { Filter::And(parts) };
        Ok(Wanted { filter, groups, anr: anr.map(|v| fold(&v.display())) })
    }

    /// For identities that a filter compares properties with that refer to recipients: the text that these hold. The groups
    /// among them are noted.
    async fn referenced(&self, view: &'static Noun, filter: &Filter, groups: &mut Groups) -> Flow<Referenced> {
        let mut referenced = Referenced::new();
        for (property, literal) in filters::references(filter, view) {
            self.output.check()?;
            let member_of = property == MEMBER_OF_GROUP;
            let Some(literal) = literal else {
                if member_of && !groups.0.contains_key(ANY_GROUP) {
                    groups.0.insert(ANY_GROUP.to_owned(), self.members_of_any().await?);
                }
                continue;
            };
            let found = self.recipient(literal, Accepts::Recipients).await?.ok();
            let text = match &found {
                // Nobody is in a group that is not there, whatever it is called.
                None if member_of => Uuid::nil().to_string(),
                None => continue,
                Some(group) if member_of => {
                    let id = group.id.to_string();
                    groups.0.entry(id.clone()).or_insert_with(|| self.members_of(group));
                    id
                }
                Some(entity) => self.organization().text(entity, "Name").to_owned(),
            };
            referenced.insert((property.to_owned(), literal.to_owned()), text);
        }
        Ok(referenced)
    }

    /// Folded names.
    fn members_of(&self, group: &Entity) -> HashSet<String> {
        let members = self.organization().stored(group, group.noun, "Members").as_array();
        members.into_iter().flatten().filter_map(|name| name.as_str().map(fold)).collect()
    }

    /// Everybody who is in some group.
    async fn members_of_any(&self) -> Flow<HashSet<String>> {
        let Some(groups) = noun("DistributionGroup") else { return Ok(HashSet::new()) };
        let (mut pages, wanted, mut all) = (Pages::of(groups), Wanted::all(), HashSet::new());
        while let Some(group) = pages.next(self, groups, &wanted).await? {
            all.extend(self.members_of(&group));
        }
        Ok(all)
    }

    fn matches(&self, entity: &Entity, view: &'static Noun, wanted: &Wanted) -> bool {
        let begins = |text: &String| ANR.iter().any(|property| fold(self.organization().text(entity, property)).starts_with(text));
        let groups = LazyCell::new(|| wanted.groups.of(self.organization().text(entity, "Name")));
        shows(view, entity.noun)
            && wanted.anr.as_ref().is_none_or(begins)
            && wanted.filter.matches(&|name| match name {
                MEMBER_OF_GROUP => Some(groups.clone()),
                _ => self.organization().filter_value(entity, view, name),
            })
    }

    pub(crate) async fn show(&self, entity: &Entity, view: &'static Noun) -> Flow {
        let hidden = &self.permit.obligations().hidden_properties;
        self.output.object(self.organization().show(entity, view, hidden)).await
    }
}

/// Whether a cmdlet of `view` shows objects of that noun.
fn shows(view: &Noun, noun: &Noun) -> bool {
    match &view.shows {
        Some(only) => noun.name == *only,
        None if view.view => noun.listing.as_ref() == Some(&view.name),
        None => noun.name == view.name,
    }
}

fn equal(property: &str, value: &str) -> Filter {
    Filter::Compare { property: property.to_owned(), operator: Operator::Equal, value: value.into() }
}

pub(crate) fn more_results(size: ResultSize) -> String {
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

/// A list of objects: where ids are known, in their order; else by position, so that nothing but one page is held.
pub(crate) struct Pages {
    listing: Listing<'static>,
    ids: Option<std::vec::IntoIter<Uuid>>,
    after: Option<Position>,
    /// Objects to look at next.
    look: u32,
    /// Nothing is left to be read.
    ended: bool,
    page: std::vec::IntoIter<Object>,
    /// What must be read of an object to know whether it is asked for.
    reads: Option<Vec<Arc<str>>>,
}

impl Pages {
    pub(crate) fn of(view: &'static Noun) -> Self {
        let listing = match &view.shows {
            Some(only) => Listing::Noun(only),
            None if view.view => Listing::Wider(&view.name),
            None => Listing::Noun(&view.name),
        };
        Self { listing, ids: None, after: None, look: PAGE, ended: false, page: Vec::new().into_iter(), reads: None }
    }

    /// The next object that a cmdlet of the view shows and that is asked for.
    pub(crate) async fn next(&mut self, run: &Run, view: &'static Noun, wanted: &Wanted) -> Flow<Option<Entity>> {
        loop {
            run.output.check()?;
            if let Some(object) = self.page.next() {
                return Entity::read(&object).map(Some).map_err(|e| run.storage(&e));
            }
            if self.ended {
                return Ok(None);
            }
            let reads = self.reads.take().unwrap_or_else(|| run.organization().reads(wanted.properties()));
            let mut keep = |object: &Object| Ok(run.matches(&Entity::read_some(object, &reads)?, view, wanted));
            self.page = self.read(run, &mut keep).await?.into_iter();
            self.reads = Some(reads);
        }
    }

    /// Some more of the objects that `keep` takes.
    async fn read(&mut self, run: &Run, keep: &mut (dyn FnMut(&Object) -> Result<bool, StoreError> + Send)) -> Flow<Vec<Object>> {
        let store = run.store();
        let read = match &mut self.ids {
            Some(all) => {
                let ids: Vec<_> = all.by_ref().take(PAGE as usize).collect();
                self.ended = ids.is_empty();
                // Objects may have gone since the index answered.
                store.objects(&ids).await.and_then(|found| {
                    let keep = found.into_iter().map(|object| keep(&object).map(|kept| kept.then_some(object)));
                    keep.filter_map(Result::transpose).collect()
                })
            }
            None => store.scan(self.listing, self.after.as_ref(), (self.look, PAGE), keep).await.map(|(found, after)| {
                self.look = if found.len() < PAGE as usize / 4 { LOOK.min(self.look * 2) } else { PAGE };
                self.ended = after.is_none();
                self.after = after;
                found
            }),
        };
        read.map_err(|e| run.storage(&e))
    }
}
