-- Organizations, accounts and keys. The columns mean what services/keys/src/domain says, words are those of
-- services/keys/src/store/words.rs. Times are Unix microseconds. A hash has 32 bytes.

-- Whether rows of an organization may be seen and written in this transaction. The service says in each for which organization it
-- is, or '*' for what is by nature about several. Unless it is said, there are no rows. It is a CASE since of that the planner
-- expects that many rows pass.
CREATE FUNCTION keys.is_tenant(organization UUID) RETURNS BOOLEAN LANGUAGE SQL STABLE PARALLEL SAFE AS
$$ SELECT CASE current_setting('tidegate.tenant', TRUE)
       WHEN '*' THEN TRUE
       ELSE current_setting('tidegate.tenant', TRUE) = organization::TEXT
   END $$;

CREATE TABLE keys.organizations (
    id            UUID   PRIMARY KEY,
    name          TEXT   COLLATE "C" NOT NULL,
    plan          TEXT   COLLATE "C" NOT NULL,
    status        TEXT   COLLATE "C" NOT NULL,
    monthly_quota BIGINT NOT NULL,
    generation    BIGINT NOT NULL,
    created_us    BIGINT NOT NULL,
    changed_us    BIGINT NOT NULL,
    version       BIGINT NOT NULL
);
CREATE INDEX organizations_by_name ON keys.organizations (name, id);

CREATE TABLE keys.users (
    id               UUID    PRIMARY KEY,
    email            TEXT    COLLATE "C" NOT NULL,
    password_hash    TEXT    COLLATE "C",
    is_admin         BOOLEAN NOT NULL,
    external_issuer  TEXT    COLLATE "C",
    external_subject TEXT    COLLATE "C",
    created_us       BIGINT  NOT NULL,
    changed_us       BIGINT  NOT NULL,
    version          BIGINT  NOT NULL,
    CONSTRAINT users_email UNIQUE (email),
    CONSTRAINT users_external UNIQUE (external_issuer, external_subject),
    CHECK ((external_issuer IS NULL) = (external_subject IS NULL))
);
CREATE INDEX users_admins ON keys.users (id) WHERE is_admin;

CREATE TABLE keys.memberships (
    organization_id UUID   NOT NULL REFERENCES keys.organizations (id),
    user_id         UUID   NOT NULL REFERENCES keys.users (id),
    role            TEXT   COLLATE "C" NOT NULL CHECK (role IN ('tenant_admin', 'user')),
    joined_us       BIGINT NOT NULL,
    version         BIGINT NOT NULL,
    PRIMARY KEY (organization_id, user_id)
);
CREATE INDEX memberships_by_joining ON keys.memberships (organization_id, joined_us, user_id);
CREATE INDEX memberships_of_user ON keys.memberships (user_id, joined_us);

CREATE TABLE keys.invitations (
    id              UUID   PRIMARY KEY,
    organization_id UUID   NOT NULL REFERENCES keys.organizations (id),
    email           TEXT   COLLATE "C" NOT NULL,
    role            TEXT   COLLATE "C" NOT NULL CHECK (role IN ('tenant_admin', 'user')),
    token_hash      BYTEA  NOT NULL UNIQUE,
    created_us      BIGINT NOT NULL,
    expires_us      BIGINT NOT NULL,
    ended_us        BIGINT,
    version         BIGINT NOT NULL
);
CREATE INDEX invitations_open ON keys.invitations (organization_id, id) WHERE ended_us IS NULL;
CREATE INDEX invitations_by_expiry ON keys.invitations (expires_us);

CREATE TABLE keys.password_resets (
    token_hash BYTEA  PRIMARY KEY,
    user_id    UUID   NOT NULL REFERENCES keys.users (id),
    created_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    used_us    BIGINT,
    version    BIGINT NOT NULL
);
CREATE INDEX password_resets_by_expiry ON keys.password_resets (expires_us);

CREATE TABLE keys.refresh_families (
    id              UUID   PRIMARY KEY,
    user_id         UUID   NOT NULL REFERENCES keys.users (id),
    organization_id UUID   REFERENCES keys.organizations (id),
    created_us      BIGINT NOT NULL,
    ended_us        BIGINT,
    end_reason      TEXT   COLLATE "C",
    version         BIGINT NOT NULL,
    CHECK ((ended_us IS NULL) = (end_reason IS NULL))
);
CREATE INDEX refresh_families_living ON keys.refresh_families (user_id, id) WHERE ended_us IS NULL;
CREATE INDEX refresh_families_by_age ON keys.refresh_families (created_us);

CREATE TABLE keys.refresh_tokens (
    token_hash BYTEA  PRIMARY KEY,
    family_id  UUID   NOT NULL REFERENCES keys.refresh_families (id),
    issued_us  BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    used_us    BIGINT,
    version    BIGINT NOT NULL
);
CREATE INDEX refresh_tokens_of_family ON keys.refresh_tokens (family_id);
CREATE INDEX refresh_tokens_by_expiry ON keys.refresh_tokens (expires_us);

CREATE TABLE keys.api_keys (
    id                  UUID    PRIMARY KEY,
    organization_id     UUID    NOT NULL REFERENCES keys.organizations (id),
    lineage_id          UUID    NOT NULL,
    name                TEXT    COLLATE "C" NOT NULL,
    key_prefix          TEXT    COLLATE "C" NOT NULL,
    environment         TEXT    COLLATE "C" NOT NULL,
    scopes              TEXT    COLLATE "C" NOT NULL CHECK (scopes::JSON IS NOT NULL),
    allowed_cidrs       TEXT    COLLATE "C" NOT NULL CHECK (allowed_cidrs::JSON IS NOT NULL),
    metadata            TEXT    COLLATE "C" NOT NULL CHECK (metadata::JSON IS NOT NULL),
    limits              TEXT    COLLATE "C" NOT NULL CHECK (limits::JSON IS NOT NULL),
    created_us          BIGINT  NOT NULL,
    created_by          UUID,
    expires_us          BIGINT,
    disabled_us         BIGINT,
    revoked_us          BIGINT,
    revoke_reason       TEXT    COLLATE "C",
    replaced_by         UUID,
    has_credits         BOOLEAN NOT NULL,
    last_used_us        BIGINT,
    expiry_announced_us BIGINT,
    changed_us          BIGINT  NOT NULL,
    version             BIGINT  NOT NULL,
    UNIQUE (organization_id, id),
    CHECK ((revoked_us IS NULL) = (revoke_reason IS NULL))
);
CREATE INDEX api_keys_of_lineage ON keys.api_keys (organization_id, lineage_id, id);
CREATE INDEX api_keys_expiring ON keys.api_keys (expires_us, id)
    WHERE expires_us IS NOT NULL AND expiry_announced_us IS NULL;

CREATE TABLE keys.key_secrets (
    hash            BYTEA  PRIMARY KEY,
    pepper_version  BIGINT NOT NULL,
    api_key_id      UUID   NOT NULL,
    organization_id UUID   NOT NULL,
    FOREIGN KEY (organization_id, api_key_id) REFERENCES keys.api_keys (organization_id, id)
);
CREATE INDEX key_secrets_of_key ON keys.key_secrets (organization_id, api_key_id);

CREATE TABLE keys.credit_accounts (
    lineage_id        UUID   PRIMARY KEY,
    organization_id   UUID   NOT NULL REFERENCES keys.organizations (id),
    balance           BIGINT NOT NULL CHECK (balance >= 0),
    refill_amount     BIGINT NOT NULL,
    refill_every_days BIGINT NOT NULL,
    next_refill_us    BIGINT,
    version           BIGINT NOT NULL,
    UNIQUE (organization_id, lineage_id)
);

CREATE TABLE keys.ledger (
    id              UUID   PRIMARY KEY,
    lineage_id      UUID   NOT NULL,
    organization_id UUID   NOT NULL,
    kind            TEXT   COLLATE "C" NOT NULL,
    amount          BIGINT NOT NULL,
    balance_after   BIGINT NOT NULL,
    at_us           BIGINT NOT NULL,
    FOREIGN KEY (organization_id, lineage_id) REFERENCES keys.credit_accounts (organization_id, lineage_id)
);
CREATE INDEX ledger_of_lineage ON keys.ledger (organization_id, lineage_id, at_us, id);

CREATE TABLE keys.service_tokens (
    id              UUID   PRIMARY KEY,
    name            TEXT   COLLATE "C" NOT NULL,
    organization_id UUID   REFERENCES keys.organizations (id),
    created_us      BIGINT NOT NULL,
    created_by      UUID,
    expires_us      BIGINT NOT NULL,
    revoked_us      BIGINT,
    version         BIGINT NOT NULL
);
CREATE INDEX service_tokens_of_organization ON keys.service_tokens (organization_id, id);
CREATE INDEX service_tokens_revoked ON keys.service_tokens (expires_us) WHERE revoked_us IS NOT NULL;

CREATE TABLE keys.signing_keys (
    kid                TEXT   COLLATE "C" PRIMARY KEY,
    public_key         BYTEA  NOT NULL,
    sealed_private_key BYTEA  NOT NULL,
    created_us         BIGINT NOT NULL,
    retired_us         BIGINT,
    version            BIGINT NOT NULL
);

-- How often each key was used, by day (YYYY-MM-DD) and code of the answer.
CREATE TABLE keys.usage (
    api_key_id      UUID   NOT NULL,
    organization_id UUID   NOT NULL,
    day             TEXT   COLLATE "C" NOT NULL,
    outcome         TEXT   COLLATE "C" NOT NULL,
    count           BIGINT NOT NULL,
    PRIMARY KEY (organization_id, api_key_id, day, outcome),
    FOREIGN KEY (organization_id, api_key_id) REFERENCES keys.api_keys (organization_id, id)
);
-- By which days are found that are to be forgotten.
CREATE INDEX usage_by_day ON keys.usage (day);

-- Reports of use that were counted, so that none is counted twice.
CREATE TABLE keys.usage_reports (
    id    UUID   PRIMARY KEY,
    at_us BIGINT NOT NULL
);
CREATE INDEX usage_reports_by_age ON keys.usage_reports (at_us);

CREATE TABLE keys.idempotency (
    caller        TEXT   COLLATE "C" NOT NULL,
    key           TEXT   COLLATE "C" NOT NULL,
    request       BYTEA  NOT NULL,
    sealed_answer BYTEA  NOT NULL,
    expires_us    BIGINT NOT NULL,
    PRIMARY KEY (caller, key)
);
CREATE INDEX idempotency_by_expiry ON keys.idempotency (expires_us);

-- One row: how often the feed grew, and since when it is complete. Whoever lets it grow holds the row until the commit, so that
-- revisions become visible in their order and none is missed.
CREATE TABLE keys.feed_head (
    one            BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    revision       BIGINT  NOT NULL,
    complete_after BIGINT  NOT NULL
);
INSERT INTO keys.feed_head (revision, complete_after) VALUES (0, 0);

-- What replicas are told. new_hashes: one after the other.
CREATE TABLE keys.feed (
    revision                 BIGINT  NOT NULL,
    position                 BIGINT  NOT NULL,
    at_us                    BIGINT  NOT NULL,
    organization_id          UUID,
    generation               BIGINT  NOT NULL,
    api_key_id               UUID,
    new_hashes               BYTEA   NOT NULL,
    imported                 BOOLEAN NOT NULL,
    revoked_service_token_id UUID,
    PRIMARY KEY (revision, position)
);

-- What the audit service is told, until it has stored it.
CREATE TABLE keys.outbox (
    id              UUID   PRIMARY KEY,
    organization_id UUID,
    action          TEXT   COLLATE "C" NOT NULL,
    outcome         TEXT   COLLATE "C" NOT NULL,
    actor           TEXT   COLLATE "C" NOT NULL,
    actor_type      TEXT   COLLATE "C" NOT NULL,
    resource_type   TEXT   COLLATE "C" NOT NULL,
    resource_id     TEXT   COLLATE "C" NOT NULL,
    ip_address      TEXT   COLLATE "C",
    user_agent      TEXT   COLLATE "C",
    request_id      TEXT   COLLATE "C",
    details         TEXT   COLLATE "C" NOT NULL CHECK (details::JSON IS NOT NULL),
    at_us           BIGINT NOT NULL
);

-- Every table with an organization shows the rows of the one for which the transaction is, also to its owner.
ALTER TABLE keys.organizations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON keys.organizations USING (keys.is_tenant(id));
ALTER TABLE keys.memberships ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON keys.memberships USING (keys.is_tenant(organization_id));
ALTER TABLE keys.invitations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON keys.invitations USING (keys.is_tenant(organization_id));
ALTER TABLE keys.refresh_families ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON keys.refresh_families USING (keys.is_tenant(organization_id));
ALTER TABLE keys.api_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON keys.api_keys USING (keys.is_tenant(organization_id));
ALTER TABLE keys.key_secrets ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON keys.key_secrets USING (keys.is_tenant(organization_id));
ALTER TABLE keys.credit_accounts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON keys.credit_accounts USING (keys.is_tenant(organization_id));
ALTER TABLE keys.ledger ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON keys.ledger USING (keys.is_tenant(organization_id));
ALTER TABLE keys.service_tokens ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON keys.service_tokens USING (keys.is_tenant(organization_id));
ALTER TABLE keys.usage ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON keys.usage USING (keys.is_tenant(organization_id));
ALTER TABLE keys.feed ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON keys.feed USING (keys.is_tenant(organization_id));
ALTER TABLE keys.outbox ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON keys.outbox USING (keys.is_tenant(organization_id));
