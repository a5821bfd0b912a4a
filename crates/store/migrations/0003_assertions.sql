-- Names of client assertions that were used, until their end: none is used twice where that is asked for.
CREATE TABLE assertions (
    tenant BLOB NOT NULL,
    application BLOB NOT NULL,
    jti TEXT NOT NULL,
    expires BIGINT NOT NULL,
    PRIMARY KEY (tenant, application, jti)
);
CREATE INDEX assertions_by_end ON assertions (tenant, expires);
