-- Columns are TEXT, BIGINT or BLOB and nothing else, so that one SQL text serves SQLite and PostgreSQL.
-- Ids are 16 bytes, times are Unix milliseconds, folded text is lower case.

-- Small values by name: keys, revisions, marks. The tenant of zeros holds what belongs to no tenant.
CREATE TABLE settings (
    tenant BLOB NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (tenant, name)
);

-- One row an object. `listing` is the wider noun under which it is also listed (a mailbox is a recipient too),
-- `sort` the folded name by which lists are ordered, `body` its values as the owner of the noun writes them.
CREATE TABLE objects (
    tenant BLOB NOT NULL,
    id BLOB NOT NULL,
    noun TEXT NOT NULL,
    listing TEXT NOT NULL,
    sort TEXT NOT NULL,
    revision BIGINT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX objects_by_noun ON objects (tenant, noun, sort, id);
CREATE INDEX objects_by_listing ON objects (tenant, listing, sort, id);

-- What finds an object by name, folded. `exclusive` is 1 where no two objects may share the value.
CREATE TABLE identities (
    tenant BLOB NOT NULL,
    value TEXT NOT NULL,
    kind TEXT NOT NULL,
    id BLOB NOT NULL,
    exclusive BIGINT NOT NULL,
    PRIMARY KEY (tenant, value, kind, id)
);
CREATE UNIQUE INDEX identities_exclusive ON identities (tenant, kind, value) WHERE exclusive = 1;
CREATE INDEX identities_by_object ON identities (tenant, id);

-- Values of filterable properties, folded text or number. A list has one row an item.
CREATE TABLE properties (
    tenant BLOB NOT NULL,
    listing TEXT NOT NULL,
    property TEXT NOT NULL,
    text TEXT NOT NULL,
    number BIGINT NOT NULL,
    id BLOB NOT NULL,
    PRIMARY KEY (tenant, listing, property, text, number, id)
);
CREATE INDEX properties_by_object ON properties (tenant, id);

-- The trail: records in the order in which they became durable, each with the hash of all before it.
CREATE TABLE audit_log (
    tenant BLOB NOT NULL,
    seq BIGINT NOT NULL,
    body BLOB NOT NULL,
    link BLOB NOT NULL,
    PRIMARY KEY (tenant, seq)
);

-- One row an entry: where its intent and its outcome stand in the trail. `ending` is empty and `outcome` 0 while it runs.
CREATE TABLE audit_entries (
    tenant BLOB NOT NULL,
    id BLOB NOT NULL,
    time BIGINT NOT NULL,
    ending TEXT NOT NULL,
    intent BIGINT NOT NULL,
    outcome BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX audit_entries_by_time ON audit_entries (tenant, time, id);
CREATE INDEX audit_entries_open ON audit_entries (tenant, id) WHERE ending = '';

-- Words by which entries are found: `cmdlet:…`, `actor:…`, `object:…`, folded.
CREATE TABLE audit_terms (
    tenant BLOB NOT NULL,
    term TEXT NOT NULL,
    time BIGINT NOT NULL,
    id BLOB NOT NULL,
    PRIMARY KEY (tenant, term, time, id)
);
