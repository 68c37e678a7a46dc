//! Levels that are shared, policies in the place of others, limits of nothing, and namespaces that look at the first descriptor only.

use super::*;

const SPECIAL: &str = r#"
builtin = false

[namespaces.first]
first_descriptor_only = true

[[policies]]
name = "files"
namespace = "shop"
descriptor = [{ key = "path", value = "/files/*.png", shared = true }, { key = "user" }]
limits = [{ name = "day", limit = 2, period = "1d" }]

[[policies]]
name = "reads"
namespace = "shop"
descriptor = [{ key = "kind", value = "read" }]
limits = [{ name = "day", limit = 2, period = "1d" }]

[[policies]]
name = "lists"
namespace = "shop"
descriptor = [{ key = "path", value = "/list" }]
replaces = ["reads"]
limits = [{ name = "day", limit = 5, period = "1d" }]

[[policies]]
name = "rarities"
namespace = "shop"
enforcement = "shadow"
descriptor = [{ key = "path", value = "/rare" }]
replaces = ["reads", "drafts"]
limits = [{ name = "day", limit = 5, period = "1d" }]

[[policies]]
name = "drafts"
namespace = "shop"
enforcement = "shadow"
descriptor = [{ key = "kind", value = "draft" }]
limits = [{ name = "day", limit = 1, period = "1d" }]

[[policies]]
name = "banned"
namespace = "shop"
descriptor = [{ key = "user", value = "mallory" }]
limits = [{ name = "day", limit = 0, period = "1d" }]

[[policies]]
name = "staff"
namespace = "shop"
descriptor = [{ key = "user", value = "root" }]
unlimited = true

[[policies]]
name = "users"
namespace = "first"
key_by = ["user"]
limits = [{ name = "day", limit = 3, period = "1d" }]
"#;

fn special() -> [Limiter; 2] {
    [Counters::Memory(memory()), Counters::Shared { store: memory(), local: memory() }]
        .map(|counters| limiter_by(SPECIAL, counters, 1))
}

#[tokio::test]
async fn values_that_fit_a_shared_level_are_counted_as_one() {
    for limiter in special() {
        let policies = limiter.policies();
        let ask = async |path: &str, user: &str| {
            let entries = [("path", Cow::from(path)), ("user", Cow::from(user))];
            let descriptor = Descriptor { entries: &entries, hits: 1, gives_back: false, limit: None };
            limiter.check_descriptors(&policies, "shop", &[descriptor]).await[0].allowed
        };
        assert!(ask("/files/a.png", "ada").await && ask("/files/b.png", "ada").await);
        assert!(!ask("/files/c.png", "ada").await, "the third file of ada");
        assert!(ask("/files/c.png", "eve").await, "users are counted apart");
        assert!(ask("/files/c.txt", "ada").await, "no policy is for it");
    }
}

#[tokio::test]
async fn policy_takes_the_place_of_another_where_one_request_meets_both() {
    for limiter in special() {
        let both = [("kind", "read", 1), ("path", "/list", 1)];
        for left in [4, 3, 2] {
            assert_eq!(decided(&limiter, "shop", &both).await, [(true, None), (true, Some(left))]);
        }
        assert_eq!(decided(&limiter, "shop", &both[..1]).await, [(true, Some(1))], "nothing was charged");
    }
}

#[tokio::test]
async fn policy_in_shadow_takes_the_place_of_none_that_denies() {
    for limiter in special() {
        let trial = [("kind", "read", 1), ("path", "/rare", 1)];
        assert_eq!(decided(&limiter, "shop", &trial).await, [(true, Some(1)), (true, Some(4))]);
        assert_eq!(decided(&limiter, "shop", &trial).await, [(true, Some(0)), (true, Some(3))]);
        assert!(!decided(&limiter, "shop", &trial).await[0].0);
        let both_in_shadow = [("kind", "draft", 1), ("path", "/rare", 1)];
        assert_eq!(decided(&limiter, "shop", &both_in_shadow).await, [(true, None), (true, Some(2))]);
    }
}

#[tokio::test]
async fn limit_of_nothing_denies_all_and_no_limit_at_all_is_told() {
    for limiter in special() {
        assert_eq!(decided(&limiter, "shop", &[("user", "mallory", 1)]).await, [(false, Some(0))]);
        assert_eq!(decided(&limiter, "shop", &[("user", "mallory", 0)]).await, [(false, Some(0))]);
        let policies = limiter.policies();
        for (user, exempt) in [("root", true), ("nobody", false)] {
            let entries = [("user", Cow::from(user))];
            let descriptor = Descriptor { entries: &entries, hits: 1, gives_back: false, limit: None };
            let verdict = &limiter.check_descriptors(&policies, "shop", &[descriptor]).await[0];
            assert_eq!((verdict.allowed, verdict.exempt, verdict.limits.len()), (true, exempt, 0), "{user}");
        }
    }
}

#[tokio::test]
async fn namespace_may_look_at_the_first_descriptor_only() {
    for limiter in special() {
        let two = [("user", "ada", 2), ("user", "eve", 9)];
        assert_eq!(decided(&limiter, "first", &two).await, [(true, Some(1)), (true, None)]);
        assert_eq!(decided(&limiter, "first", &[two[1], two[0]]).await, [(false, Some(3)), (true, None)]);
    }
}
