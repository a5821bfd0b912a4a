-- Applications, service principals and what they were granted. The authority owns these rows. `required_access` is the
-- JSON that the set-up call gave and that reads give back.

CREATE TABLE applications (
    tenant BLOB NOT NULL,
    id BLOB NOT NULL,
    app_id BLOB NOT NULL,
    display_name TEXT NOT NULL,
    required_access TEXT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX applications_by_app_id ON applications (tenant, app_id);

-- `material` is the DER of a certificate, or salt and hash of a secret. `position` keeps the order in which they were given.
CREATE TABLE credentials (
    tenant BLOB NOT NULL,
    application BLOB NOT NULL,
    id BLOB NOT NULL,
    kind TEXT NOT NULL,
    position BIGINT NOT NULL,
    material BLOB NOT NULL,
    display_name TEXT NOT NULL,
    hint TEXT NOT NULL,
    starts BIGINT NOT NULL,
    ends BIGINT NOT NULL,
    PRIMARY KEY (tenant, application, id)
);
CREATE INDEX credentials_in_order ON credentials (tenant, application, position, id);

-- `app_roles` is a JSON list, empty for an application that offers none.
CREATE TABLE service_principals (
    tenant BLOB NOT NULL,
    id BLOB NOT NULL,
    app_id BLOB NOT NULL,
    display_name TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    app_roles BLOB NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX service_principals_by_app_id ON service_principals (tenant, app_id);

CREATE TABLE app_role_assignments (
    tenant BLOB NOT NULL,
    id BLOB NOT NULL,
    principal BLOB NOT NULL,
    resource BLOB NOT NULL,
    role BLOB NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX app_role_assignments_once ON app_role_assignments (tenant, principal, resource, role);
CREATE INDEX app_role_assignments_by_resource ON app_role_assignments (tenant, resource);

CREATE TABLE role_assignments (
    tenant BLOB NOT NULL,
    id BLOB NOT NULL,
    principal BLOB NOT NULL,
    role BLOB NOT NULL,
    scope TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX role_assignments_once ON role_assignments (tenant, principal, role, scope);
