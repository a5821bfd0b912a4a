//! Seeds: the same organisation every time, with recipients of every kind.
//!
//! Ids follow from the organisation's name (UUID version 5), times from a fixed day, so that two labs of one name hold
//! equal objects.

use exops_store::{Load, Row, StoreError, TenantStore};
use serde_json::{Map, Value as Json, json};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::FOREST;
use crate::nouns::noun;
use crate::organization::{Entity, Organization};

/// Setting that says which seed an organisation has: what an administrator deleted does not come back.
const MARK: &str = "directory.seed";
/// 2023-03-01T08:00:00Z in milliseconds: when the first object was made.
const FIRST_DAY: i64 = 1_677_657_600_000;
const DAY: i64 = 86_400_000;
const GIB: u64 = 1 << 30;

const USERS: usize = 126;
/// Mailboxes of the large seed.
const LARGE: usize = 100_000;
/// Objects that are handed over at once.
const BATCH: usize = 500;
/// Pairs of first and last name; after so many users they come again.
const PAIRS: usize = FIRST_NAMES.len() * LAST_NAMES.len();
/// The first with the first is Ann Beebe, and no display name of the seed sorts before hers.
const FIRST_NAMES: [&str; 42] = [
    "Ann",
    "Benjamin",
    "Carla",
    "David",
    "Elena",
    "Frank",
    "Grace",
    "Henry",
    "Irene",
    "Jürgen",
    "Karin",
    "Lars",
    "María",
    "Nora",
    "Oliver",
    "Paula",
    "Quentin",
    "Renée",
    "Søren",
    "Tove",
    "Ursula",
    "Viktor",
    "Wanda",
    "Xavier",
    "Yasmin",
    "Zoë",
    "Boris",
    "Céline",
    "Dmitri",
    "Émile",
    "François",
    "Gülsen",
    "Håkan",
    "Inés",
    "José",
    "Kateřina",
    "Łukasz",
    "Michal",
    "Niamh",
    "Olav",
    "Petra",
    "Siobhán",
];
const LAST_NAMES: [&str; 42] = [
    "Beebe",
    "Brandt",
    "Carter",
    "Dubois",
    "Eriksson",
    "Fischer",
    "García",
    "Hansen",
    "Ivanova",
    "Jensen",
    "Kowalski",
    "Lefèvre",
    "Müller",
    "Novák",
    "O'Brien",
    "Petrov",
    "Quinn",
    "Rossi",
    "Schäfer",
    "Tanaka",
    "Underwood",
    "Visser",
    "Weiß",
    "Yilmaz",
    "Zimmermann",
    "Bergström",
    "Costa",
    "Diaz",
    "Edwards",
    "Fontaine",
    "Green",
    "Hughes",
    "Iversen",
    "Johansson",
    "Khan",
    "Lindqvist",
    "Moreau",
    "Nowak",
    "Ørsted",
    "Park",
    "Reyes",
    "Smith",
];
/// Department and a title in it.
const DEPARTMENTS: [(&str, &str); 7] = [
    ("Engineering", "Engineer"),
    ("Sales", "Account Manager"),
    ("Finance", "Controller"),
    ("Human Resources", "Recruiter"),
    ("Legal", "Counsel"),
    ("Marketing", "Copywriter"),
    ("Operations", "Dispatcher"),
];
/// City, country, postal code and telephone prefix of an office.
const OFFICES: [(&str, &str, &str, &str); 6] = [
    ("Oslo", "NO", "0150", "+47 22"),
    ("Zürich", "CH", "8001", "+41 44"),
    ("Dublin", "IE", "D02", "+353 1"),
    ("Kraków", "PL", "30-001", "+48 12"),
    ("Lyon", "FR", "69001", "+33 4"),
    ("Málaga", "ES", "29001", "+34 95"),
];
const SHARED: [&str; 24] = [
    "Billing",
    "Careers",
    "Compliance Inbox",
    "Customer Care",
    "Events",
    "Facilities",
    "Finance Inbox",
    "Help Desk",
    "Info",
    "Invoices",
    "Legal Inbox",
    "Marketing Inbox",
    "Newsroom",
    "Office Management",
    "Orders",
    "Payroll",
    "Press",
    "Privacy",
    "Procurement",
    "Sales Inbox",
    "Security Reports",
    "Support",
    "Training",
    "Travel Desk",
];
const EQUIPMENT: [&str; 8] =
    ["Camera Set", "Delivery Van", "Electric Car", "Laser Cutter", "Projector 1", "Projector 2", "Video Wall", "Whiteboard Cart"];
const GROUPS: [&str; 16] = [
    "Board",
    "Carpool",
    "Climbing Club",
    "Dublin Office",
    "Engineering Team",
    "Finance Team",
    "Friday Lunch",
    "Heads of Department",
    "Kraków Office",
    "Lyon Office",
    "Marketing Team",
    "Newcomers",
    "Oslo Office",
    "Project Aurora",
    "Sales Team",
    "Zürich Office",
];
const SECURITY_GROUPS: [&str; 6] =
    ["Budget Owners", "Help Desk Operators", "Intranet Editors", "Payroll Access", "Source Readers", "VPN Users"];
const CONTACTS: [(&str, &str, &str); 16] = [
    ("Dana", "Novotná", "fabrikam.example"),
    ("Erik", "Lund", "fabrikam.example"),
    ("Fatima", "Haddad", "fabrikam.example"),
    ("Georg", "Bauer", "fabrikam.example"),
    ("Hélène", "Mercier", "northwind.example"),
    ("Ivo", "Marić", "northwind.example"),
    ("Joan", "D'Arcy", "northwind.example"),
    ("Kofi", "Mensah", "northwind.example"),
    ("Leila", "Rahimi", "tailspin.example"),
    ("Marek", "Dvořák", "tailspin.example"),
    ("Noor", "Jansen", "tailspin.example"),
    ("Oskar", "Nyström", "tailspin.example"),
    ("Pilar", "Núñez", "wingtip.example"),
    ("Rosa", "Conti", "wingtip.example"),
    ("Stefan", "Krüger", "wingtip.example"),
    ("Tomás", "Ó Briain", "wingtip.example"),
];

/// What an organisation holds at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Seed {
    /// 214 recipients of every kind, the organisation's configuration and its accepted domains.
    #[default]
    Standard,
    /// The same and so many further users that there are 100,000 mailboxes.
    Large,
}

impl Seed {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Large => "large",
        }
    }

    /// What an organisation was filled with; `None` when it was not yet.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn of(store: &TenantStore) -> Result<Option<Self>, StoreError> {
        let mark = store.setting(MARK).await?;
        Ok(mark.map(|mark| if mark.starts_with(Self::Large.name().as_bytes()) { Self::Large } else { Self::Standard }))
    }

    /// Fills an organisation (its initial domain) that was not filled yet, in one transaction.
    ///
    /// # Errors
    /// When it could not be written; then the organisation is as empty as before.
    pub async fn fill(self, store: &TenantStore, organization: &str) -> Result<(), StoreError> {
        match Self::of(store).await? {
            Some(_) => Ok(()),
            None => self.write(store, organization).await,
        }
    }

    /// Takes an organisation back to its first day: its objects become those of its seed, and its audit trail begins
    /// anew. One transaction.
    ///
    /// # Errors
    /// When it could not be written; then everything is as it was.
    pub async fn reset(store: &TenantStore, organization: &str) -> Result<Self, StoreError> {
        let seed = Self::of(store).await?.unwrap_or_default();
        seed.write(store, organization).await?;
        Ok(seed)
    }

    async fn write(self, store: &TenantStore, organization: &str) -> Result<(), StoreError> {
        let organization = organization.to_owned();
        let (sender, receiver) = mpsc::channel(4);
        // One thread makes them while the store's writes them.
        let made = tokio::task::spawn_blocking(move || self.make(&organization, &sender));
        let written = store.replace_stream(receiver, (MARK, format!("{} 1", self.name()).into_bytes())).await;
        made.await.map_err(|error| StoreError::NotCommitted(error.to_string()))??;
        written
    }

    fn make(self, organization: &str, sender: &mpsc::Sender<Load>) -> Result<(), StoreError> {
        let defaults = Organization::new(organization, FOREST, "");
        let mut seeding = Seeding::new(organization);
        seeding.standard();
        let mailboxes = seeding.objects.iter().filter(|entity| &*entity.noun.name == "Mailbox").count();
        let further = if self == Self::Large { LARGE.saturating_sub(mailboxes) } else { 0 };
        let mut users = USERS..USERS + further;
        while !seeding.objects.is_empty() {
            let rows = seeding.objects.drain(..).map(|entity| defaults.rows(&entity)).collect::<Result<Vec<Row>, _>>()?;
            // Where nobody takes them any more, the writer knows why.
            if sender.blocking_send(Load::Rows(rows)).is_err() {
                return Ok(());
            }
            users.by_ref().take(BATCH).for_each(|index| seeding.user(index));
        }
        let _ = sender.blocking_send(Load::End);
        Ok(())
    }
}

struct Seeding<'a> {
    organization: &'a str,
    /// The custom domain.
    domain: String,
    namespace: Uuid,
    /// What all mailboxes name.
    shared: Shared,
    objects: Vec<Entity>,
}

/// Ids that many objects name.
struct Shared {
    address_policy: Uuid,
    database: Uuid,
    enterprise_plan: Uuid,
    standard_plan: Uuid,
}

impl<'a> Seeding<'a> {
    fn new(organization: &'a str) -> Self {
        let label = organization.split('.').next().unwrap_or(organization);
        let domain = format!("{label}.com");
        let domain = if domain == organization { format!("{label}.net") } else { domain };
        let namespace = Uuid::new_v5(&Uuid::NAMESPACE_DNS, organization.as_bytes());
        let id = |what: &str| Uuid::new_v5(&namespace, what.as_bytes());
        let shared = Shared {
            address_policy: id("address policy"),
            database: id("database"),
            enterprise_plan: id("plan enterprise"),
            standard_plan: id("plan standard"),
        };
        Self { organization, domain, namespace, shared, objects: Vec::new() }
    }

    fn standard(&mut self) {
        self.configuration();
        (0..USERS).for_each(|index| self.user(index));
        SHARED.iter().enumerate().for_each(|(index, name)| self.shared(index, name));
        (0..18).for_each(|index| self.room(index));
        EQUIPMENT.iter().enumerate().for_each(|(index, name)| self.equipment(index, name));
        GROUPS.iter().enumerate().for_each(|(index, name)| self.group(index, name, false));
        SECURITY_GROUPS.iter().enumerate().for_each(|(index, name)| self.group(index, name, true));
        CONTACTS.iter().for_each(|contact| self.contact(*contact));
    }

    fn id(&self, what: &str) -> Uuid {
        Uuid::new_v5(&self.namespace, what.as_bytes())
    }

    fn push(&mut self, name: &str, id: Uuid, values: Json) {
        if let (Some(noun), Json::Object(values)) = (noun(name), values) {
            self.objects.push(Entity { id, noun, values });
        }
    }

    fn configuration(&mut self) {
        let (organization, forest) = (self.organization.to_owned(), dn(FOREST));
        let unit = format!("CN=Configuration,CN={organization},CN=ConfigurationUnits,{forest}");
        let id = self.id("organization");
        let values =
            json!({"Name": organization, "Guid": id, "DistinguishedName": unit, "WhenCreated": FIRST_DAY, "WhenChanged": FIRST_DAY});
        self.push("OrganizationConfig", id, values);
        for (domain, first) in [(organization, true), (self.domain.clone(), false)] {
            let id = self.id(&format!("domain:{domain}"));
            let path = format!("CN={domain},CN=Accepted Domains,CN=Transport Settings,{unit}");
            let mut values = json!({"Name": domain, "DomainName": domain, "Guid": id, "DistinguishedName": path,
                "WhenCreated": FIRST_DAY, "WhenChanged": FIRST_DAY});
            if first {
                merge(&mut values, json!({"Default": true, "InitialDomain": true}));
            }
            self.push("AcceptedDomain", id, values);
        }
    }

    /// What every recipient has. `number` spreads the dates.
    fn recipient(&self, id: Uuid, name: &str, display: &str, alias: &str, number: usize) -> Json {
        let (organization, day) = (self.organization, i64::try_from(number).unwrap_or_default());
        let (created, external) = (FIRST_DAY + day * DAY * 3 + day * 61_000, self.id(&format!("entra:{id}")));
        json!({
            "Name": name, "DisplayName": display, "Alias": alias, "Guid": id, "ExternalDirectoryObjectId": external,
            "PrimarySmtpAddress": format!("{alias}@{organization}"),
            "EmailAddresses": [format!("SMTP:{alias}@{organization}"), format!("smtp:{alias}@{}", self.domain)],
            "DistinguishedName": format!("CN={},OU={organization},OU=Microsoft Exchange Hosted Organizations,{}", escape_dn(name), dn(FOREST)),
            "LegacyExchangeDN": format!("/o=ExchangeLabs/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Recipients/cn={}-{alias}", id.simple()),
            "PoliciesIncluded": [self.shared.address_policy, "{26491cfc-9e50-4857-861b-0cb8df22b5d7}"],
            "WhenCreated": created, "WhenChanged": created + DAY * 17,
        })
    }

    /// What every mailbox has beside.
    fn mailbox(&mut self, id: Uuid, name: &str, display: &str, alias: &str, number: usize, more: Json) {
        let exchange = self.id(&format!("mailbox:{id}"));
        let mut values = self.recipient(id, name, display, alias, number);
        let external = values["ExternalDirectoryObjectId"].clone();
        let external = external.as_str().unwrap_or_default();
        let address = format!("{alias}@{}", self.organization);
        let simple = exchange.simple().to_string();
        merge(
            &mut values,
            json!({
                "ExchangeGuid": exchange, "UserPrincipalName": address, "ServerLegacyDN":
                    "/o=ExchangeLabs/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Configuration/cn=Servers/cn=eurpr00mb0001",
                "SamAccountName": format!("${}", &simple[..16]), "NetID": simple[16..].to_uppercase(),
                "MailboxLocations": [format!("1;{exchange};Primary;{};{}", FOREST.to_lowercase(), self.shared.database)],
                "MailboxPlan": format!("ExchangeOnlineEnterprise-{}", self.shared.enterprise_plan),
            }),
        );
        append(&mut values, "EmailAddresses", [format!("SPO:SPO_{external}@SPO_{}", self.namespace)]);
        merge(&mut values, more);
        self.push("Mailbox", id, values);
    }

    fn user(&mut self, index: usize) {
        let round = index / FIRST_NAMES.len();
        let last_index = index + 11 * round;
        let (first, last) = (FIRST_NAMES[index % FIRST_NAMES.len()], LAST_NAMES[last_index % LAST_NAMES.len()]);
        // Display names are not unique in practice: the last user has the one of an earlier user.
        let twin = index + 1 == USERS;
        let (first, last) = if twin { (FIRST_NAMES[8], LAST_NAMES[8]) } else { (first, last) };
        // The twin has the 2.
        let number = match (twin, index / PAIRS) {
            (true, _) => "2".to_owned(),
            (_, 0) => String::new(),
            (_, round) => (round + 2).to_string(),
        };
        let display = if twin || number.is_empty() { format!("{first} {last}") } else { format!("{first} {last} {number}") };
        let alias = format!("{}.{}{number}", latin(first), latin(last));
        let id = self.id(&format!("user:{alias}"));
        // Newer mailboxes are named by their object id, as Exchange Online does since 2023.
        let external = self.id(&format!("entra:{id}")).to_string();
        let name = if index >= 60 { external } else { display.clone() };
        let (department, title) = DEPARTMENTS[index % DEPARTMENTS.len()];
        let (city, country, postal, telephone) = OFFICES[index % OFFICES.len()];
        let address = format!("{alias}@{}", self.organization);
        let mut more = json!({
            "FirstName": first, "LastName": last, "Department": department, "Title": title, "Company": "Contoso", "City": city,
            "CountryOrRegion": country, "UsageLocation": country, "PostalCode": postal, "Office": format!("{city} {}", 100 + index % 9),
            "Phone": format!("{telephone} 55 {:04}", 1000 + index * 7 % 9000), "Languages": ["en-GB"], "SKUAssigned": true,
            "PersistedCapabilities": ["BPOS_S_Enterprise"], "CustomAttribute10": format!("CC-{:04}", 4000 + index % 12),
        });
        if index.is_multiple_of(3) {
            merge(
                &mut more,
                json!({"IssueWarningQuota": 49 * GIB, "ProhibitSendQuota": 99 * GIB / 2, "ProhibitSendReceiveQuota": 50 * GIB,
                "PersistedCapabilities": ["BPOS_S_Standard"],
                "MailboxPlan": format!("ExchangeOnline-{}", self.shared.standard_plan)}),
            );
        }
        if index % 29 == 28 {
            merge(&mut more, json!({"HiddenFromAddressListsEnabled": true, "AddressListMembership": []}));
        }
        if index % 31 == 30 {
            merge(
                &mut more,
                json!({"ForwardingSmtpAddress": format!("smtp:{alias}@fabrikam.example"), "DeliverToMailboxAndForward": true}),
            );
        }
        if index % 17 == 16 {
            merge(
                &mut more,
                json!({"LitigationHoldEnabled": true, "LitigationHoldOwner": address, "LitigationHoldDate": FIRST_DAY + DAY * 500}),
            );
        }
        self.mailbox(id, &name, &display, &alias, index % 365, more);
        let mut extra = vec![format!("SIP:{address}")];
        if index == 0 {
            extra.push(format!("smtp:ann@{}", self.domain));
        }
        if let Some(entity) = self.objects.last_mut() {
            append_map(&mut entity.values, "EmailAddresses", extra);
        }
    }

    fn shared(&mut self, index: usize, display: &str) {
        let alias = latin(display);
        // The admin center names a new shared mailbox by alias and time.
        let name = format!("{alias}2026{:02}{:02}0915{:02}", 1 + index % 9, 1 + index, 10 + index);
        let mut more = json!({"RecipientTypeDetails": "SharedMailbox", "IsShared": true, "AccountDisabled": true,
            "ExchangeUserAccountControl": "AccountDisabled"});
        quota_of_the_unlicensed(&mut more);
        self.mailbox(self.id(&format!("shared:{alias}")), &name, display, &alias, 130 + index, more);
    }

    fn room(&mut self, index: usize) {
        let (city, country, postal, _) = OFFICES[index % OFFICES.len()];
        let display = format!("Room {city} {}", 101 + index / OFFICES.len());
        let mut more = json!({"RecipientTypeDetails": "RoomMailbox", "IsResource": true, "ResourceType": "Room", "AccountDisabled": true,
            "ExchangeUserAccountControl": "AccountDisabled", "ResourceCapacity": 4 + index % 5 * 4, "City": city, "CountryOrRegion": country,
            "PostalCode": postal, "ResourceCustom": if index.is_multiple_of(2) { json!(["Video"]) } else { json!([]) },
            "AddressListMembership": ["\\Default Global Address List", "\\All Rooms"]});
        quota_of_the_unlicensed(&mut more);
        let alias = latin(&display);
        self.mailbox(self.id(&format!("room:{alias}")), &display, &display, &alias, 160 + index, more);
    }

    fn equipment(&mut self, index: usize, display: &str) {
        let mut more = json!({"RecipientTypeDetails": "EquipmentMailbox", "IsResource": true, "ResourceType": "Equipment",
            "AccountDisabled": true, "ExchangeUserAccountControl": "AccountDisabled"});
        quota_of_the_unlicensed(&mut more);
        let alias = latin(display);
        self.mailbox(self.id(&format!("equipment:{alias}")), display, display, &alias, 180 + index, more);
    }

    fn group(&mut self, index: usize, display: &str, security: bool) {
        let alias = latin(display);
        let id = self.id(&format!("group:{alias}"));
        let mut values = self.recipient(id, display, display, &alias, 190 + index);
        let users: Vec<_> = self.objects.iter().filter(|o| o.values.contains_key("Department")).collect();
        let name = |entity: &&Entity| entity.values.get("Name").cloned().unwrap_or_default();
        let offset = index * 5 + usize::from(security);
        let members: Vec<_> = users.iter().skip(offset).step_by(7 + index % 4).take(12).map(name).collect();
        let owner: Vec<_> = users.get(offset).map(name).into_iter().collect();
        merge(&mut values, json!({"Members": members, "ManagedBy": owner, "Notes": format!("{display} of Contoso")}));
        if security {
            merge(
                &mut values,
                json!({"RecipientType": "MailUniversalSecurityGroup", "RecipientTypeDetails": "MailUniversalSecurityGroup",
                "GroupType": "Universal, SecurityEnabled", "HiddenFromAddressListsEnabled": index.is_multiple_of(3)}),
            );
        }
        self.push("DistributionGroup", id, values);
    }

    fn contact(&mut self, (first, last, domain): (&str, &str, &str)) {
        let display = format!("{first} {last}");
        let alias = format!("{}.{}", latin(first), latin(last));
        let id = self.id(&format!("contact:{alias}"));
        let address = format!("{alias}@{domain}");
        let mut values = self.recipient(id, &display, &display, &alias, 215);
        merge(
            &mut values,
            json!({"FirstName": first, "LastName": last, "Company": domain.split('.').next().unwrap_or_default(),
            "PrimarySmtpAddress": address, "ExternalEmailAddress": format!("SMTP:{address}"), "EmailAddresses": [format!("SMTP:{address}")]}),
        );
        self.push("MailContact", id, values);
    }
}

/// Quotas of a mailbox without licence.
fn quota_of_the_unlicensed(values: &mut Json) {
    merge(values, json!({"IssueWarningQuota": 49 * GIB, "ProhibitSendQuota": 99 * GIB / 2, "ProhibitSendReceiveQuota": 50 * GIB}));
}

fn merge(values: &mut Json, more: Json) {
    if let (Json::Object(values), Json::Object(more)) = (values, more) {
        values.extend(more);
    }
}

fn append<const N: usize>(values: &mut Json, list: &str, items: [String; N]) {
    if let Json::Object(values) = values {
        append_map(values, list, items);
    }
}

fn append_map(values: &mut Map<String, Json>, list: &str, items: impl IntoIterator<Item = String>) {
    if let Some(Json::Array(list)) = values.get_mut(list) {
        list.extend(items.into_iter().map(Json::String));
    }
}

/// `a.b` as `DC=a,DC=b`.
pub(crate) fn dn(host: &str) -> String {
    host.split('.').map(|label| format!("DC={label}")).collect::<Vec<_>>().join(",")
}

pub(crate) fn escape_dn(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for (index, letter) in name.char_indices() {
        let at_edge = letter == ' ' && (index == 0 || index + 1 == name.len());
        if at_edge || (letter == '#' && index == 0) || ",+\"\\<>;=".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// A name as the left side of an address: lower case, letters without marks, nothing else.
fn latin(name: &str) -> String {
    let mut out = String::new();
    for letter in name.to_lowercase().chars() {
        match letter {
            'a'..='z' | '0'..='9' => out.push(letter),
            'ä' => out.push_str("ae"),
            'ö' | 'ø' => out.push_str("oe"),
            'ü' => out.push_str("ue"),
            'ß' => out.push_str("ss"),
            'å' => out.push_str("aa"),
            'á' => out.push('a'),
            'ç' | 'ć' => out.push('c'),
            'é' | 'è' | 'ë' => out.push('e'),
            'í' => out.push('i'),
            'ł' => out.push('l'),
            'ñ' => out.push('n'),
            'ó' => out.push('o'),
            'ř' => out.push('r'),
            'ú' => out.push('u'),
            _ => {}
        }
    }
    out
}
