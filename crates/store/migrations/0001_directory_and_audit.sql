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

-- What finds an object by name: `term` is the digest of the folded name. `slot` is empty where no two objects may share a
-- name of that kind, else the object's id. WITHOUT ROWID (here and below) is of SQLite alone and may be left out elsewhere:
-- the row stands in its key instead of beside it.
CREATE TABLE identities (
    tenant BLOB NOT NULL,
    term BLOB NOT NULL,
    kind TEXT NOT NULL,
    slot BLOB NOT NULL,
    id BLOB NOT NULL,
    PRIMARY KEY (tenant, term, kind, slot)
) WITHOUT ROWID;

-- Beginnings of folded values of filterable properties that differ from the default. `field` is the digest of listing and
-- property. A list has one row an item.
CREATE TABLE properties (
    tenant BLOB NOT NULL,
    field BIGINT NOT NULL,
    text TEXT NOT NULL,
    id BLOB NOT NULL,
    PRIMARY KEY (tenant, field, text, id)
) WITHOUT ROWID;

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
