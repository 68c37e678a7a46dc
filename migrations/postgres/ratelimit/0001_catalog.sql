-- What is limited, as far as it was set over the API. The columns mean what services/ratelimit/src/store/catalog.rs says.

-- One row: how often something was changed. Whoever changes it holds the row until the commit, so that revisions
-- become visible in their order and none is missed.
CREATE TABLE ratelimit.catalog (
    one      BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    revision BIGINT  NOT NULL
);
INSERT INTO ratelimit.catalog (revision) VALUES (0);

-- What is there now.
CREATE TABLE ratelimit.entries (
    kind       TEXT   COLLATE "C" NOT NULL CHECK (kind IN ('policy', 'plan', 'override', 'assignment')),
    scope      TEXT   COLLATE "C" NOT NULL,
    name       TEXT   COLLATE "C" NOT NULL,
    id         UUID   NOT NULL UNIQUE,
    body       JSON   NOT NULL,
    version    BIGINT NOT NULL,
    created_us BIGINT NOT NULL,
    changed_us BIGINT NOT NULL,
    PRIMARY KEY (kind, scope, name)
);

-- Everything that was ever there, and when it went: history and change feed in one. It is only added to.
CREATE TABLE ratelimit.changes (
    version    BIGINT NOT NULL,
    position   BIGINT NOT NULL,
    kind       TEXT   COLLATE "C" NOT NULL,
    scope      TEXT   COLLATE "C" NOT NULL,
    name       TEXT   COLLATE "C" NOT NULL,
    id         UUID   NOT NULL,
    body       JSON,
    created_us BIGINT NOT NULL,
    changed_us BIGINT NOT NULL,
    PRIMARY KEY (version, position)
);
CREATE INDEX changes_of_one ON ratelimit.changes (kind, scope, name, version);
