-- Organizations, accounts and keys. The columns mean what services/keys/src/domain says, words are those of
-- services/keys/src/store/words.rs. Times are Unix microseconds. A hash has 32 bytes,
-- an id the 16 of the UUID.

CREATE TABLE keys_organizations (
    id            BLOB    NOT NULL PRIMARY KEY,
    name          TEXT    NOT NULL,
    plan          TEXT    NOT NULL,
    status        TEXT    NOT NULL,
    monthly_quota INTEGER NOT NULL,
    generation    INTEGER NOT NULL,
    created_us    INTEGER NOT NULL,
    changed_us    INTEGER NOT NULL,
    version       INTEGER NOT NULL
) STRICT;
CREATE INDEX keys_organizations_by_name ON keys_organizations (name, id);

CREATE TABLE keys_users (
    id               BLOB    NOT NULL PRIMARY KEY,
    email            TEXT    NOT NULL,
    password_hash    TEXT,
    is_admin         INTEGER NOT NULL CHECK (is_admin IN (0, 1)),
    external_issuer  TEXT,
    external_subject TEXT,
    created_us       INTEGER NOT NULL,
    changed_us       INTEGER NOT NULL,
    version          INTEGER NOT NULL,
    CONSTRAINT users_email UNIQUE (email),
    CONSTRAINT users_external UNIQUE (external_issuer, external_subject),
    CHECK ((external_issuer IS NULL) = (external_subject IS NULL))
) STRICT;
CREATE INDEX keys_users_admins ON keys_users (id) WHERE is_admin;

CREATE TABLE keys_memberships (
    organization_id BLOB    NOT NULL REFERENCES keys_organizations (id),
    user_id         BLOB    NOT NULL REFERENCES keys_users (id),
    role            TEXT    NOT NULL CHECK (role IN ('tenant_admin', 'user')),
    joined_us       INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    PRIMARY KEY (organization_id, user_id)
) STRICT;
CREATE INDEX keys_memberships_by_joining ON keys_memberships (organization_id, joined_us, user_id);
CREATE INDEX keys_memberships_of_user ON keys_memberships (user_id, joined_us);

CREATE TABLE keys_invitations (
    id              BLOB    NOT NULL PRIMARY KEY,
    organization_id BLOB    NOT NULL REFERENCES keys_organizations (id),
    email           TEXT    NOT NULL,
    role            TEXT    NOT NULL CHECK (role IN ('tenant_admin', 'user')),
    token_hash      BLOB    NOT NULL UNIQUE,
    created_us      INTEGER NOT NULL,
    expires_us      INTEGER NOT NULL,
    ended_us        INTEGER,
    version         INTEGER NOT NULL
) STRICT;
CREATE INDEX keys_invitations_open ON keys_invitations (organization_id, id) WHERE ended_us IS NULL;
CREATE INDEX keys_invitations_by_expiry ON keys_invitations (expires_us);

CREATE TABLE keys_password_resets (
    token_hash BLOB    NOT NULL PRIMARY KEY,
    user_id    BLOB    NOT NULL REFERENCES keys_users (id),
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    used_us    INTEGER,
    version    INTEGER NOT NULL
) STRICT;
CREATE INDEX keys_password_resets_by_expiry ON keys_password_resets (expires_us);

CREATE TABLE keys_refresh_families (
    id              BLOB    NOT NULL PRIMARY KEY,
    user_id         BLOB    NOT NULL REFERENCES keys_users (id),
    organization_id BLOB    REFERENCES keys_organizations (id),
    created_us      INTEGER NOT NULL,
    ended_us        INTEGER,
    end_reason      TEXT,
    version         INTEGER NOT NULL,
    CHECK ((ended_us IS NULL) = (end_reason IS NULL))
) STRICT;
CREATE INDEX keys_refresh_families_living ON keys_refresh_families (user_id, id) WHERE ended_us IS NULL;
CREATE INDEX keys_refresh_families_by_age ON keys_refresh_families (created_us);

CREATE TABLE keys_refresh_tokens (
    token_hash BLOB    NOT NULL PRIMARY KEY,
    family_id  BLOB    NOT NULL REFERENCES keys_refresh_families (id),
    issued_us  INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    used_us    INTEGER,
    version    INTEGER NOT NULL
) STRICT;
CREATE INDEX keys_refresh_tokens_of_family ON keys_refresh_tokens (family_id);
CREATE INDEX keys_refresh_tokens_by_expiry ON keys_refresh_tokens (expires_us);

CREATE TABLE keys_api_keys (
    id                  BLOB    NOT NULL PRIMARY KEY,
    organization_id     BLOB    NOT NULL REFERENCES keys_organizations (id),
    lineage_id          BLOB    NOT NULL,
    name                TEXT    NOT NULL,
    key_prefix          TEXT    NOT NULL,
    environment         TEXT    NOT NULL,
    scopes              TEXT    NOT NULL CHECK (json_valid(scopes)),
    allowed_cidrs       TEXT    NOT NULL CHECK (json_valid(allowed_cidrs)),
    metadata            TEXT    NOT NULL CHECK (json_valid(metadata)),
    limits              TEXT    NOT NULL CHECK (json_valid(limits)),
    created_us          INTEGER NOT NULL,
    created_by          BLOB,
    expires_us          INTEGER,
    disabled_us         INTEGER,
    revoked_us          INTEGER,
    revoke_reason       TEXT,
    replaced_by         BLOB,
    has_credits         INTEGER NOT NULL CHECK (has_credits IN (0, 1)),
    last_used_us        INTEGER,
    expiry_announced_us INTEGER,
    changed_us          INTEGER NOT NULL,
    version             INTEGER NOT NULL,
    UNIQUE (organization_id, id),
    CHECK ((revoked_us IS NULL) = (revoke_reason IS NULL))
) STRICT;
CREATE INDEX keys_api_keys_of_lineage ON keys_api_keys (organization_id, lineage_id, id);
CREATE INDEX keys_api_keys_expiring ON keys_api_keys (expires_us, id)
    WHERE expires_us IS NOT NULL AND expiry_announced_us IS NULL;

CREATE TABLE keys_key_secrets (
    hash            BLOB    NOT NULL PRIMARY KEY,
    pepper_version  INTEGER NOT NULL,
    api_key_id      BLOB    NOT NULL,
    organization_id BLOB    NOT NULL,
    FOREIGN KEY (organization_id, api_key_id) REFERENCES keys_api_keys (organization_id, id)
) STRICT;
CREATE INDEX keys_key_secrets_of_key ON keys_key_secrets (organization_id, api_key_id);

CREATE TABLE keys_credit_accounts (
    lineage_id        BLOB    NOT NULL PRIMARY KEY,
    organization_id   BLOB    NOT NULL REFERENCES keys_organizations (id),
    balance           INTEGER NOT NULL CHECK (balance >= 0),
    refill_amount     INTEGER NOT NULL,
    refill_every_days INTEGER NOT NULL,
    next_refill_us    INTEGER,
    version           INTEGER NOT NULL,
    UNIQUE (organization_id, lineage_id)
) STRICT;

CREATE TABLE keys_ledger (
    id              BLOB    NOT NULL PRIMARY KEY,
    lineage_id      BLOB    NOT NULL,
    organization_id BLOB    NOT NULL,
    kind            TEXT    NOT NULL,
    amount          INTEGER NOT NULL,
    balance_after   INTEGER NOT NULL,
    at_us           INTEGER NOT NULL,
    FOREIGN KEY (organization_id, lineage_id) REFERENCES keys_credit_accounts (organization_id, lineage_id)
) STRICT;
CREATE INDEX keys_ledger_of_lineage ON keys_ledger (organization_id, lineage_id, at_us, id);

CREATE TABLE keys_service_tokens (
    id              BLOB    NOT NULL PRIMARY KEY,
    name            TEXT    NOT NULL,
    organization_id BLOB    REFERENCES keys_organizations (id),
    created_us      INTEGER NOT NULL,
    created_by      BLOB,
    expires_us      INTEGER NOT NULL,
    revoked_us      INTEGER,
    version         INTEGER NOT NULL
) STRICT;
CREATE INDEX keys_service_tokens_of_organization ON keys_service_tokens (organization_id, id);
CREATE INDEX keys_service_tokens_revoked ON keys_service_tokens (expires_us) WHERE revoked_us IS NOT NULL;

CREATE TABLE keys_signing_keys (
    kid                TEXT    NOT NULL PRIMARY KEY,
    public_key         BLOB    NOT NULL,
    sealed_private_key BLOB    NOT NULL,
    created_us         INTEGER NOT NULL,
    retired_us         INTEGER,
    version            INTEGER NOT NULL
) STRICT;

-- How often each key was used, by day (YYYY-MM-DD) and code of the answer.
CREATE TABLE keys_usage (
    api_key_id      BLOB    NOT NULL,
    organization_id BLOB    NOT NULL,
    day             TEXT    NOT NULL,
    outcome         TEXT    NOT NULL,
    count           INTEGER NOT NULL,
    PRIMARY KEY (organization_id, api_key_id, day, outcome),
    FOREIGN KEY (organization_id, api_key_id) REFERENCES keys_api_keys (organization_id, id)
) STRICT;
-- By which days are found that are to be forgotten.
CREATE INDEX keys_usage_by_day ON keys_usage (day);

-- Reports of use that were counted, so that none is counted twice.
CREATE TABLE keys_usage_reports (
    id    BLOB    NOT NULL PRIMARY KEY,
    at_us INTEGER NOT NULL
) STRICT;
CREATE INDEX keys_usage_reports_by_age ON keys_usage_reports (at_us);

CREATE TABLE keys_idempotency (
    caller        TEXT    NOT NULL,
    key           TEXT    NOT NULL,
    request       BLOB    NOT NULL,
    sealed_answer BLOB    NOT NULL,
    expires_us    INTEGER NOT NULL,
    PRIMARY KEY (caller, key)
) STRICT;
CREATE INDEX keys_idempotency_by_expiry ON keys_idempotency (expires_us);

-- One row: how often the feed grew, and since when it is complete. Whoever lets it grow holds the row until the commit, so that
-- revisions become visible in their order and none is missed.
CREATE TABLE keys_feed_head (
    one            INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    revision       INTEGER NOT NULL,
    complete_after INTEGER NOT NULL
) STRICT;
INSERT INTO keys_feed_head (revision, complete_after) VALUES (0, 0);

-- What replicas are told. new_hashes: one after the other.
CREATE TABLE keys_feed (
    revision                 INTEGER NOT NULL,
    position                 INTEGER NOT NULL,
    at_us                    INTEGER NOT NULL,
    organization_id          BLOB,
    generation               INTEGER NOT NULL,
    api_key_id               BLOB,
    new_hashes               BLOB    NOT NULL,
    imported                 INTEGER NOT NULL CHECK (imported IN (0, 1)),
    revoked_service_token_id BLOB,
    PRIMARY KEY (revision, position)
) STRICT;

-- What the audit service is told, until it has stored it.
CREATE TABLE keys_outbox (
    id              BLOB    NOT NULL PRIMARY KEY,
    organization_id BLOB,
    action          TEXT    NOT NULL,
    outcome         TEXT    NOT NULL,
    actor           TEXT    NOT NULL,
    actor_type      TEXT    NOT NULL,
    resource_type   TEXT    NOT NULL,
    resource_id     TEXT    NOT NULL,
    ip_address      TEXT,
    user_agent      TEXT,
    request_id      TEXT,
    details         TEXT    NOT NULL CHECK (json_valid(details)),
    at_us           INTEGER NOT NULL
) STRICT;
