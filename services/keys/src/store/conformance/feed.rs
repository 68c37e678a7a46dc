//! What replicas and the audit service are told, and when it is forgotten.

use futures_util::future::{join, join_all};

use super::*;
use crate::store::Feed;

fn told(entries: impl IntoIterator<Item = FeedEntry>) -> Write {
    Write { feed: entries.into_iter().collect(), ..changes([]) }
}

pub(crate) async fn the_feed_tells_in_the_order_of_revisions(store: &dyn KeysStore) {
    let full = FeedEntry {
        organization: Some(OrganizationId(id(1))),
        generation: 7,
        key: Some(KeyId(id(2))),
        new_hashes: vec![hash(1), hash(2)],
        imported: true,
        revoked_service_token: None,
    };
    let of_token = FeedEntry {
        organization: None,
        revoked_service_token: Some(ServiceTokenId(id(3))),
        ..feed_entry(1, 0)
    };
    assert_eq!(store.write(&told([full.clone(), feed_entry(2, 1)])).await, Ok(1));
    assert_eq!(store.write(&changes([])).await, Ok(1), "what tells nothing has no revision of its own");
    assert_eq!(store.write(&told([of_token.clone()])).await, Ok(2));
    assert_eq!(store.revision().await, Ok(2));
    let all = vec![(1, full), (1, feed_entry(2, 1)), (2, of_token)];
    let feed = |entries: &[(u64, FeedEntry)]| Ok(Feed { entries: entries.to_vec(), complete_after: 0 });
    assert_eq!(store.feed(0, 9).await, feed(&all));
    assert_eq!(store.feed(1, 9).await, feed(&all[2..]));
    assert_eq!(store.feed(2, 9).await, feed(&[]));
}

pub(crate) async fn entries_of_one_revision_are_told_together(store: &dyn KeysStore) {
    for (revision, count) in [(1, 2), (2, 1), (3, 4), (4, 1)] {
        let entries = (1..=count).map(|generation| feed_entry(1, generation));
        assert_eq!(store.write(&told(entries)).await, Ok(revision));
    }
    let revisions = async |after, limit| -> Vec<u64> {
        let feed = store.feed(after, limit).await.expect("asked");
        feed.entries.iter().map(|(revision, _)| *revision).collect()
    };
    assert_eq!(revisions(0, 1).await, [1, 1], "the first is told, even if it has more");
    assert_eq!(revisions(0, 2).await, [1, 1]);
    assert_eq!(revisions(0, 3).await, [1, 1, 2]);
    assert_eq!(revisions(0, 6).await, [1, 1, 2], "nothing of the third, since not all of it");
    assert_eq!(revisions(0, 7).await, [1, 1, 2, 3, 3, 3, 3]);
    assert_eq!(revisions(2, 2).await, [3, 3, 3, 3]);
    assert_eq!(revisions(3, 1).await, [4]);
    let third = store.feed(2, 1).await.expect("asked").entries;
    assert!(third.iter().map(|(_, entry)| entry.generation).eq(1..=4), "in the order of the write");
}

/// The trap of change feeds: a number is given out, and becomes visible after a later one, which a reader has passed by then.
pub(crate) async fn no_reader_of_the_feed_misses_a_revision(store: &dyn KeysStore) {
    const WRITERS: u32 = 6;
    const EACH: u64 = 10;
    let all = u64::from(WRITERS) * EACH;
    put(store, (1..=WRITERS).map(|number| Change::Organization(organization(number)))).await;
    let writers = (1..=WRITERS).map(|number| async move {
        for generation in 1..=EACH {
            let row = Organization { version: generation, generation, ..organization(number) };
            let write =
                Write { feed: vec![feed_entry(number, generation)], ..changes([Change::Organization(row)]) };
            store.write(&write).await.expect("written");
        }
    });
    let reader = async {
        let mut seen = Vec::new();
        while (seen.len() as u64) < all {
            let after = seen.last().map_or(0, |(revision, _)| *revision);
            seen.extend(store.feed(after, 7).await.expect("asked").entries);
        }
        seen
    };
    let (_, seen) = join(join_all(writers), reader).await;
    assert!(seen.iter().map(|(revision, _)| *revision).eq(1..=all), "none is missing: {seen:?}");
    for number in 1..=WRITERS {
        let one = OrganizationId(id(number));
        let of_one = seen.iter().filter(|(_, entry)| entry.organization == Some(one));
        assert!(of_one.map(|(_, entry)| entry.generation).eq(1..=EACH), "in the order of the writes");
    }
    assert_eq!(store.revision().await, Ok(all));
}

pub(crate) async fn events_stay_until_they_are_taken_away(store: &dyn KeysStore) {
    let full = Event {
        action: Action::RefreshReuse,
        outcome: Outcome::Denied,
        actor: String::new(),
        actor_type: ActorType::Anonymous,
        resource_type: ResourceType::Session,
        ip_address: Some("2001:db8::1".to_owned()),
        user_agent: Some("agent/1.0 \"é\"".to_owned()),
        request_id: Some("request".to_owned()),
        details: [("n".to_owned(), serde_json::json!([1, null, "x"]))].into_iter().collect(),
        at_us: AT_US + 9,
        ..event(2, None)
    };
    let events = [event(1, Some(1)), full, event(3, Some(2))];
    let write = Write { events: [2, 0, 1].map(|index: usize| events[index].clone()).into(), ..changes([]) };
    store.write(&write).await.expect("written");
    assert_eq!(store.outbox(None, 9).await, Ok(events.to_vec()));
    assert_eq!(store.outbox(None, 2).await, Ok(events[..2].to_vec()));
    assert_eq!(store.outbox(Some(id(1)), 9).await, Ok(events[1..].to_vec()));
    store.remove_from_outbox(&[id(1), id(3), id(9)]).await.expect("removed");
    store.remove_from_outbox(&[]).await.expect("nothing to remove");
    assert_eq!(store.outbox(None, 9).await, Ok(events[1..2].to_vec()));
    // Every word that can be written can be read.
    let each =
        (10..).zip(Action::ALL).map(|(number, action)| Event { action: *action, ..event(number, None) });
    let each: Vec<_> = each.collect();
    store.write(&Write { events: each.clone(), ..changes([]) }).await.expect("written");
    assert_eq!(store.outbox(Some(id(2)), 99).await, Ok(each));
}

pub(crate) async fn what_is_over_is_forgotten(store: &dyn KeysStore) {
    put_tenants(store).await;
    let now_us = AT_US + 100 * DAY_US;
    let old_us = now_us - 30 * DAY_US - 1;
    let young_us = now_us - 30 * DAY_US;
    let rows = [
        Change::Invitation(Invitation { expires_us: old_us, ..invitation(1, 1) }),
        Change::Invitation(Invitation { expires_us: young_us, ..invitation(2, 1) }),
        Change::PasswordReset(PasswordReset { expires_us: old_us, ..password_reset(1, 1) }),
        Change::PasswordReset(PasswordReset { expires_us: young_us, ..password_reset(2, 1) }),
        Change::RefreshFamily(family(1, 1, Some(1))),
        Change::RefreshFamily(family(2, 1, None)),
        Change::RefreshFamily(RefreshFamily { created_us: now_us, ..family(3, 1, None) }),
        Change::RefreshToken(RefreshToken { expires_us: old_us, ..refresh_token(1, 1) }),
        Change::RefreshToken(RefreshToken { expires_us: old_us, ..refresh_token(2, 2) }),
        Change::RefreshToken(RefreshToken { expires_us: young_us, ..refresh_token(3, 2) }),
        Change::ApiKey(api_key(1, 1)),
        Change::ServiceToken(ServiceToken { expires_us: old_us, ..service_token(1, None) }),
        Change::ServiceToken(ServiceToken { expires_us: young_us, ..service_token(2, Some(1)) }),
        Change::SigningKey(SigningKey { retired_us: Some(old_us), ..signing_key(1) }),
        Change::SigningKey(SigningKey { retired_us: Some(young_us), ..signing_key(2) }),
        Change::SigningKey(SigningKey { retired_us: None, ..signing_key(3) }),
    ];
    put(store, rows).await;
    let over = IdempotencyRecord { expires_us: now_us, ..idempotency("caller", "over") };
    let kept = IdempotencyRecord { expires_us: now_us + 1, ..idempotency("caller", "kept") };
    for record in [over, kept] {
        store.write(&Write { idempotency: Some(record), ..changes([]) }).await.expect("written");
    }
    let report = [usage::used(1, 1, "2026-01-01", "allowed", 1)];
    for (number, at_us) in [(1, now_us - 7 * DAY_US - 1), (2, now_us - 7 * DAY_US)] {
        assert_eq!(store.add_usage(id(number), at_us, &report).await, Ok(true));
    }

    for _ in 0..2 {
        store.forget(now_us).await.expect("forgotten");
    }
    let service_tokens = store.service_tokens(None, None, 9).await.expect("asked");
    assert_eq!(service_tokens.iter().map(|token| token.id.0).collect::<Vec<_>>(), [id(2)]);
    let mut kids: Vec<_> =
        store.signing_keys().await.expect("asked").into_iter().map(|key| key.kid).collect();
    kids.sort();
    assert_eq!(kids, [2, 3].map(|number| signing_key(number).kid));
    let one = OrganizationId(id(1));
    assert_eq!(found(store.invitation(one, InvitationId(id(1))).await), None);
    assert!(found(store.invitation(one, InvitationId(id(2))).await).is_some());
    assert_eq!(found(store.password_reset(&hash(1)).await), None);
    assert!(found(store.password_reset(&hash(2)).await).is_some());
    assert_eq!(found(store.refresh_token(&hash(1)).await), None);
    assert_eq!(found(store.refresh_family(FamilyId(id(1))).await), None);
    assert_eq!(found(store.refresh_token(&hash(2)).await), None);
    assert!(found(store.refresh_token(&hash(3)).await).is_some(), "its family lives");
    assert!(found(store.refresh_family(FamilyId(id(3))).await).is_some(), "it is young");
    assert_eq!(found(store.idempotent("caller", "over", 0).await), None);
    assert!(found(store.idempotent("caller", "kept", 0).await).is_some());
    assert_eq!(store.add_usage(id(2), now_us, &report).await, Ok(false), "it is remembered");
    assert_eq!(store.add_usage(id(1), now_us, &report).await, Ok(true), "it is forgotten");
    assert!(found(store.api_key(one, KeyId(id(1))).await).is_some());
}

pub(crate) async fn the_feed_is_complete_after_what_was_forgotten(store: &dyn KeysStore) {
    let now_us = AT_US + 100 * DAY_US;
    let (old_us, young_us) = (now_us - 7 * DAY_US - 1, now_us - 7 * DAY_US);
    // The clock of the fourth writer is behind: an entry that is old comes after one that is not.
    for at_us in [old_us, old_us, young_us, old_us, young_us] {
        store.write(&Write { at_us, ..told([feed_entry(1, 1), feed_entry(2, 1)]) }).await.expect("written");
    }
    assert_eq!(store.feed(0, 99).await.expect("asked").complete_after, 0);
    store.forget(now_us).await.expect("forgotten");
    let feed = store.feed(0, 99).await.expect("asked");
    let revisions: Vec<_> = feed.entries.iter().map(|(revision, _)| *revision).collect();
    assert_eq!((revisions, feed.complete_after), (vec![3, 3, 4, 4, 5, 5], 2), "what is left has no holes");
    store.forget(now_us + DAY_US).await.expect("forgotten");
    assert_eq!(store.feed(0, 99).await, Ok(Feed { entries: Vec::new(), complete_after: 5 }));
    store.forget(now_us + 2 * DAY_US).await.expect("forgotten");
    assert_eq!(store.write(&told([feed_entry(1, 2)])).await, Ok(6), "revisions go on");
    assert_eq!(store.feed(5, 9).await, Ok(Feed { entries: vec![(6, feed_entry(1, 2))], complete_after: 5 }));
}
