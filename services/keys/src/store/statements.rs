//! Everything that is asked of the database. What is written of single rows is in [`super::changes`].
//!
//! A cursor that is absent is a value before (or after) all that there are, so that every list is read along its index.

use super::{rows::columns, sql::statements};

/// `$3`: pattern, `$4`: word of a status or empty, `$5`: when it is so.
///
/// By `CASE` PostgreSQL does not take it for certain that few keys are found, and so reads them along the index.
macro_rules! filtered {
    () => {
        "CASE WHEN $3 = '%%' THEN TRUE \
         ELSE lower(k.name) LIKE $3 ESCAPE '\\' OR lower(k.key_prefix) LIKE $3 ESCAPE '\\' END \
         AND CASE WHEN $4 = '' THEN TRUE WHEN k.revoked_us <= $5 THEN $4 = 'revoked' WHEN k.expires_us <= $5 THEN $4 = 'expired' \
         WHEN k.disabled_us IS NOT NULL THEN $4 = 'disabled' ELSE $4 = 'active' END"
    };
}

statements!(
    ORGANIZATION = ("SELECT ", columns!(organization), " FROM keys.organizations o WHERE o.id = $1");
    ORGANIZATIONS = (
        "SELECT ", columns!(organization), " FROM keys.organizations o \
         WHERE (o.name, o.id) > ($2, $3) AND lower(o.name) LIKE $1 ESCAPE '\\' ORDER BY o.name, o.id LIMIT $4",
    );

    USER = ("SELECT ", columns!(user), " FROM keys.users u WHERE u.id = $1");
    USER_BY_EMAIL = ("SELECT ", columns!(user), " FROM keys.users u WHERE u.email = $1");
    USER_BY_EXTERNAL = (
        "SELECT ", columns!(user), " FROM keys.users u WHERE u.external_issuer = $1 AND u.external_subject = $2",
    );
    HAS_ADMIN = ("SELECT count(*) FROM (SELECT 1 FROM keys.users u WHERE u.is_admin LIMIT 1) AS admins");

    MEMBERSHIP = (
        "SELECT ", columns!(membership), " FROM keys.memberships m WHERE m.organization_id = $1 AND m.user_id = $2",
    );
    MEMBERSHIPS_OF = (
        "SELECT ", columns!(membership), ", ", columns!(organization), " FROM keys.memberships m \
         JOIN keys.organizations o ON o.id = m.organization_id \
         WHERE m.user_id = $1 ORDER BY m.joined_us, m.organization_id",
    );
    MEMBERS = (
        "SELECT ", columns!(membership), ", ", columns!(user), " FROM keys.memberships m JOIN keys.users u ON u.id = m.user_id \
         WHERE m.organization_id = $1 AND (m.joined_us, m.user_id) > ($2, $3) \
         ORDER BY m.joined_us, m.user_id LIMIT $4",
    );
    COUNT_MEMBERS = (
        "SELECT count(*) FROM keys.memberships m WHERE m.organization_id = $1 AND m.role = $2",
    );

    INVITATION_BY_TOKEN = ("SELECT ", columns!(invitation), " FROM keys.invitations i WHERE i.token_hash = $1");
    INVITATION = (
        "SELECT ", columns!(invitation), " FROM keys.invitations i WHERE i.organization_id = $1 AND i.id = $2",
    );
    INVITATIONS = (
        "SELECT ", columns!(invitation), " FROM keys.invitations i WHERE i.organization_id = $1 AND i.id > $3 \
         AND i.ended_us IS NULL AND i.expires_us > $2 ORDER BY i.id LIMIT $4",
    );

    PASSWORD_RESET = (
        "SELECT r.token_hash, r.user_id, r.created_us, r.expires_us, r.used_us, r.version \
         FROM keys.password_resets r WHERE r.token_hash = $1",
    );
    REFRESH_TOKEN = (
        "SELECT t.token_hash, t.family_id, t.issued_us, t.expires_us, t.used_us, t.version, ", columns!(family),
        " FROM keys.refresh_tokens t JOIN keys.refresh_families f ON f.id = t.family_id WHERE t.token_hash = $1",
    );
    REFRESH_FAMILY = ("SELECT ", columns!(family), " FROM keys.refresh_families f WHERE f.id = $1");
    LIVING_FAMILIES = (
        "SELECT ", columns!(family), " FROM keys.refresh_families f WHERE f.user_id = $1 AND f.ended_us IS NULL ORDER BY f.id",
    );
    LIVING_FAMILIES_IN = (
        "SELECT ", columns!(family), " FROM keys.refresh_families f \
         WHERE f.user_id = $1 AND f.organization_id = $2 AND f.ended_us IS NULL ORDER BY f.id",
    );

    API_KEY = ("SELECT ", columns!(api_key), " FROM keys.api_keys k WHERE k.organization_id = $1 AND k.id = $2");
    API_KEYS = (
        "SELECT ", columns!(api_key), " FROM keys.api_keys k WHERE k.organization_id = $1 AND k.id < $2 AND ",
        filtered!(), " ORDER BY k.id DESC LIMIT $6",
    );
    API_KEYS_OF_LINEAGE = (
        "SELECT ", columns!(api_key), " FROM keys.api_keys k WHERE k.organization_id = $1 AND k.id < $2 AND ",
        filtered!(), " AND k.lineage_id = $7 ORDER BY k.id DESC LIMIT $6",
    );
    KEY_BY_HASH = (
        "SELECT ", columns!(api_key), ", ", columns!(organization), " FROM keys.key_secrets s \
         JOIN keys.api_keys k ON k.id = s.api_key_id AND k.organization_id = s.organization_id \
         JOIN keys.organizations o ON o.id = s.organization_id WHERE s.hash = $1 OR s.hash = $2 \
         ORDER BY CASE WHEN s.hash = $1 THEN 0 ELSE 1 END LIMIT 1",
    );
    KEY_HASHES = ("SELECT s.hash FROM keys.key_secrets s WHERE s.hash > $1 ORDER BY s.hash LIMIT $2");
    EXPIRING_KEYS = (
        "SELECT ", columns!(api_key), " FROM keys.api_keys k WHERE k.expires_us > $1 AND k.expires_us < $2 \
         AND k.expiry_announced_us IS NULL AND (k.revoked_us IS NULL OR k.revoked_us > $1) \
         ORDER BY k.expires_us, k.id LIMIT $3",
    );

    USAGE = (
        "SELECT c.day, c.outcome, c.count FROM keys.usage c WHERE c.organization_id = $1 AND c.api_key_id = $2 \
         AND c.day >= $3 AND c.day <= $4 ORDER BY c.day, c.outcome",
    );
    PUT_USAGE_REPORT = (
        "INSERT INTO keys.usage_reports (id, at_us) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
    );
    /// `$1`: `[[key, organization, day, outcome, count, last used], …]`, ids in hexadecimal digits.
    ///
    /// Rows are taken in one order by all, so that two reports do not wait for each other. What is read from JSON is made a table first:
    /// under row-level security an index is only asked for values, not for what a function makes of them.
    ADD_USAGE = {
        postgres: "WITH e AS MATERIALIZED (SELECT (e ->> 0)::UUID AS key, (e ->> 1)::UUID AS organization, e ->> 2 AS day, \
             e ->> 3 AS outcome, (e ->> 4)::BIGINT AS count FROM json_array_elements($1::JSON) AS e) \
             INSERT INTO keys.usage AS c (api_key_id, organization_id, day, outcome, count) \
             SELECT k.id, k.organization_id, e.day, e.outcome, sum(e.count)::BIGINT \
             FROM e JOIN keys.api_keys k ON k.id = e.key AND k.organization_id = e.organization \
             GROUP BY k.id, k.organization_id, e.day, e.outcome ORDER BY 2, 1, 3, 4 \
             ON CONFLICT (organization_id, api_key_id, day, outcome) DO UPDATE SET count = c.count + excluded.count",
        sqlite: "INSERT INTO keys_usage AS c (api_key_id, organization_id, day, outcome, count) \
             SELECT k.id, k.organization_id, e.value ->> 2, e.value ->> 3, sum(e.value ->> 4) \
             FROM json_each($1) AS e JOIN keys_api_keys k \
             ON k.id = unhex(e.value ->> 0) AND k.organization_id = unhex(e.value ->> 1) \
             WHERE TRUE GROUP BY k.id, k.organization_id, e.value ->> 2, e.value ->> 3 \
             ON CONFLICT (organization_id, api_key_id, day, outcome) DO UPDATE SET count = c.count + excluded.count",
    };
    SET_LAST_USED = {
        postgres: "WITH used AS MATERIALIZED (SELECT (e ->> 0)::UUID AS id, (e ->> 1)::UUID AS organization_id, \
             max((e ->> 5)::BIGINT) AS at_us FROM json_array_elements($1::JSON) AS e GROUP BY 1, 2), \
             held AS (SELECT k.id, used.at_us FROM keys.api_keys k JOIN used ON used.id = k.id \
             AND used.organization_id = k.organization_id ORDER BY k.id FOR NO KEY UPDATE OF k) \
             UPDATE keys.api_keys AS k SET last_used_us = held.at_us FROM held \
             WHERE k.id = held.id AND (k.last_used_us IS NULL OR k.last_used_us < held.at_us)",
        sqlite: "UPDATE keys_api_keys AS k SET last_used_us = used.at_us \
             FROM (SELECT unhex(e.value ->> 0) AS id, unhex(e.value ->> 1) AS organization_id, \
             max(e.value ->> 5) AS at_us FROM json_each($1) AS e GROUP BY 1, 2) AS used \
             WHERE k.id = used.id AND k.organization_id = used.organization_id \
             AND (k.last_used_us IS NULL OR k.last_used_us < used.at_us)",
    };

    CREDITS = (
        "SELECT a.lineage_id, a.organization_id, a.balance, a.refill_amount, a.refill_every_days, a.next_refill_us, \
         a.version FROM keys.credit_accounts a WHERE a.organization_id = $1 AND a.lineage_id = $2",
    );
    LEDGER_ENTRY = ("SELECT ", columns!(ledger_entry), " FROM keys.ledger l WHERE l.organization_id = $1 AND l.id = $2");
    LEDGER = (
        "SELECT ", columns!(ledger_entry), " FROM keys.ledger l WHERE l.organization_id = $1 AND l.lineage_id = $2 \
         AND (l.at_us, l.id) > ($3, $4) ORDER BY l.at_us, l.id LIMIT $5",
    );

    SERVICE_TOKEN = ("SELECT ", columns!(service_token), " FROM keys.service_tokens t WHERE t.id = $1");
    SERVICE_TOKENS = (
        "SELECT ", columns!(service_token), " FROM keys.service_tokens t WHERE t.id < $1 ORDER BY t.id DESC LIMIT $2",
    );
    SERVICE_TOKENS_OF = (
        "SELECT ", columns!(service_token), " FROM keys.service_tokens t WHERE t.organization_id = $3 AND t.id < $1 \
         ORDER BY t.id DESC LIMIT $2",
    );
    REVOKED_SERVICE_TOKENS = (
        "SELECT t.id FROM keys.service_tokens t WHERE t.revoked_us IS NOT NULL AND t.expires_us > $1 ORDER BY t.id",
    );

    SIGNING_KEYS = (
        "SELECT g.kid, g.public_key, g.sealed_private_key, g.created_us, g.retired_us, g.version \
         FROM keys.signing_keys g ORDER BY g.created_us DESC, g.kid DESC",
    );

    IDEMPOTENT = (
        "SELECT d.caller, d.key, d.request, d.sealed_answer, d.expires_us FROM keys.idempotency d \
         WHERE d.caller = $1 AND d.key = $2 AND d.expires_us > $3",
    );
    /// Takes the place of one that is over, and of none else. Another with the same key waits here for the end of this transaction.
    PUT_IDEMPOTENCY = (
        "INSERT INTO keys.idempotency AS d (caller, key, request, sealed_answer, expires_us) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (caller, key) DO UPDATE SET request = excluded.request, \
         sealed_answer = excluded.sealed_answer, expires_us = excluded.expires_us WHERE d.expires_us <= $6",
    );

    REVISION = ("SELECT h.revision FROM keys.feed_head h");
    COMPLETE_AFTER = ("SELECT h.complete_after FROM keys.feed_head h");
    /// Takes the row until the commit: the next writer waits here.
    ADVANCE = ("UPDATE keys.feed_head SET revision = revision + 1 RETURNING revision");
    FEED = (
        "SELECT ", columns!(feed_entry), " FROM keys.feed e WHERE e.revision > $1 ORDER BY e.revision, e.position LIMIT $2",
    );
    FEED_OF_ONE = (
        "SELECT ", columns!(feed_entry), " FROM keys.feed e WHERE e.revision = $1 ORDER BY e.position",
    );
    PUT_FEED = (
        "INSERT INTO keys.feed (revision, position, at_us, organization_id, generation, api_key_id, new_hashes, imported, \
         revoked_service_token_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    );

    OUTBOX = (
        "SELECT x.id, x.organization_id, x.action, x.outcome, x.actor, x.actor_type, x.resource_type, x.resource_id, \
         x.ip_address, x.user_agent, x.request_id, x.details, x.at_us \
         FROM keys.outbox x WHERE x.id > $1 ORDER BY x.id LIMIT $2",
    );
    PUT_EVENT = (
        "INSERT INTO keys.outbox (id, organization_id, action, outcome, actor, actor_type, resource_type, resource_id, \
         ip_address, user_agent, request_id, details, at_us) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    );
    /// `$1`: ids in hexadecimal digits, as a JSON list.
    REMOVE_EVENTS = {
        postgres: "WITH e AS MATERIALIZED (SELECT e::UUID AS id FROM json_array_elements_text($1::JSON) AS e) \
             DELETE FROM keys.outbox x USING e WHERE x.id = e.id",
        sqlite: "DELETE FROM keys_outbox WHERE id IN (SELECT unhex(e.value) FROM json_each($1) AS e)",
    };

    FORGET_IDEMPOTENCY = ("DELETE FROM keys.idempotency WHERE expires_us <= $1");
    FORGET_TOKENS = ("DELETE FROM keys.refresh_tokens WHERE expires_us < $1");
    FORGET_FAMILIES = (
        "DELETE FROM keys.refresh_families AS f WHERE f.created_us < $1 \
         AND NOT EXISTS (SELECT 1 FROM keys.refresh_tokens t WHERE t.family_id = f.id)",
    );
    FORGET_INVITATIONS = ("DELETE FROM keys.invitations WHERE expires_us < $1");
    FORGET_RESETS = ("DELETE FROM keys.password_resets WHERE expires_us < $1");
    FORGET_REPORTS = ("DELETE FROM keys.usage_reports WHERE at_us < $1");
    /// The oldest first; at most `$2` rows.
    FORGET_USAGE = (
        "DELETE FROM keys.usage WHERE (organization_id, api_key_id, day, outcome) IN \
         (SELECT u.organization_id, u.api_key_id, u.day, u.outcome FROM keys.usage u WHERE u.day < $1 ORDER BY u.day LIMIT $2)",
    );
    FORGET_SIGNING_KEYS = ("DELETE FROM keys.signing_keys WHERE retired_us < $1");
    FORGET_SERVICE_TOKENS = ("DELETE FROM keys.service_tokens WHERE expires_us < $1");
    /// Up to the revision before the first that is young enough, so that what remains has no holes, whatever the clocks said.
    FEED_TO_FORGET = (
        "SELECT COALESCE((SELECT min(e.revision) - 1 FROM keys.feed e WHERE e.at_us >= $1), \
         (SELECT max(e.revision) FROM keys.feed e), 0)",
    );
    FORGET_FEED = ("DELETE FROM keys.feed WHERE revision <= $1");
    SET_COMPLETE_AFTER = ("UPDATE keys.feed_head SET complete_after = $1 WHERE complete_after < $1");
);
