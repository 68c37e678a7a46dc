-- What is limited, as far as it was set over the API. The columns mean what services/ratelimit/src/store/catalog.rs says.

-- One row: how often something was changed. Whoever changes it holds the row until the commit, so that revisions
-- become visible in their order and none is missed.
CREATE TABLE ratelimit_catalog (
    one      INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    revision INTEGER NOT NULL
) STRICT;
INSERT INTO ratelimit_catalog (revision) VALUES (0);

-- What is there now.
CREATE TABLE ratelimit_entries (
    kind       TEXT    NOT NULL CHECK (kind IN ('policy', 'plan', 'override', 'assignment')),
    scope      TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    id         TEXT    NOT NULL UNIQUE,
    body       TEXT    NOT NULL CHECK (json_valid(body)),
    version    INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    changed_us INTEGER NOT NULL,
    PRIMARY KEY (kind, scope, name)
) STRICT;

-- Everything that was ever there, and when it went: history and change feed in one. It is only added to.
CREATE TABLE ratelimit_changes (
    version    INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    scope      TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    body       TEXT    CHECK (body IS NULL OR json_valid(body)),
    created_us INTEGER NOT NULL,
    changed_us INTEGER NOT NULL,
    PRIMARY KEY (version, position)
) STRICT;
CREATE INDEX ratelimit_changes_of_one ON ratelimit_changes (kind, scope, name, version);
