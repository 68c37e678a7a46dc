//! Overrides in a file that is applied, and one by one.

use super::*;

const OVERRIDES: &str = r#"
[[overrides]]
namespace = "shop"
policy = "calls"
limit = "hour"
key = ["ann"]
rate = "9/hour"

[[overrides]]
namespace = "shop"
policy = "by-plan"
limit = "gold/minute"
key = { organization = "trial \" \\ é*" }
tokens = 7
period = "2m"

[[overrides]]
namespace = "default"
policy = "organization"
limit = "minute"
key = { organization = "acme" }
tokens = 50
"#;

const NAMES: [&str; 3] = [
    "override shop:calls hour of user=ann",
    "override shop:by-plan gold/minute of organization=trial \" \\ é*",
    "override default:organization minute of organization=acme",
];

fn all_with_overrides(change: &str) -> Vec<(String, String)> {
    let overrides = NAMES.map(|name| (name.to_owned(), change.to_owned()));
    all(change).into_iter().chain(overrides).collect()
}

/// The first limit of whoever has these attributes.
async fn limit_of(fixture: &Fixture, namespace: &str, attribute: (&str, &str)) -> anyhow::Result<u64> {
    let mut client = rpc::client(fixture.service.address())?;
    let check = rpc::check(namespace, &[attribute, ("path", "/v1/a")]);
    Ok(rpc::usage(&mut client, &check).await?.iter().map(|limit| limit.limit).min().unwrap_or_default())
}

/// What is stored, without what differs from service to service.
fn stored(fixture: &Fixture) -> anyhow::Result<Vec<Value>> {
    let mut listed = fixture.json_of("overrides", "list", &[])?;
    let listed = listed.as_array_mut().map(std::mem::take).unwrap_or_default();
    let stored = listed.into_iter().filter(|entry| entry["meta"]["origin"] == json!("database"));
    Ok(stored
        .map(|mut entry| {
            entry.as_object_mut().map(|entry| entry.remove("meta"));
            entry
        })
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_of_a_file_are_applied_once_and_what_get_prints_of_them_again() -> TestResult {
    let _turn = turn::shared().await;
    let fixture = Fixture::start().await?;
    let text = format!("{FILE}{OVERRIDES}");
    let file = fixture.file(&text)?;
    assert_eq!(fixture.applied(&file, &["--dry-run"])?, all_with_overrides("create"));
    assert_eq!(stored(&fixture)?.len(), 0, "a dry run changes nothing");
    assert_eq!(fixture.applied(&file, &[])?, all_with_overrides("create"));
    assert_eq!(fixture.applied(&file, &[])?, all_with_overrides("unchanged"));
    assert_eq!(limit_of(&fixture, "shop", ("user", "ann")).await?, 9);
    assert_eq!(limit_of(&fixture, "shop", ("user", "bob")).await?, 5);
    assert_eq!(limit_of(&fixture, "shop", ("organization", "trial \" \\ éa")).await?, 7);
    assert_eq!(limit_of(&fixture, "", ("organization", "acme")).await?, 50);

    // Said in another way it is the same; with other numbers it is not.
    let spelt = text.replace("rate = \"9/hour\"", "tokens = 9\nperiod = \"60m\"");
    assert_eq!(fixture.applied(&fixture.file(&spelt)?, &[])?, all_with_overrides("unchanged"));
    let raised = fixture.file(&text.replace("9/hour", "10/hour"))?;
    let shown = fixture.run("apply", &[&raised])?;
    let expected = format!(
        "update     {}\n  - rate = \"9/hour\"\n  + rate = \"10/hour\"\nunchanged  {}\n",
        NAMES[0], NAMES[1]
    );
    assert!(shown.code == Some(0) && shown.stdout.contains(&expected), "{shown:?}");
    assert_eq!(shown.stderr, "0 created, 1 updated, 6 unchanged\n");
    assert_eq!(limit_of(&fixture, "shop", ("user", "ann")).await?, 10);

    let printed = fixture.run("get", &["--stored"])?;
    assert_eq!((printed.code, &*printed.stderr), (Some(0), ""));
    assert!(!printed.stdout.contains("own"), "what is in the policy file of the service is not stored");
    let again = fixture.applied(&fixture.file(&printed.stdout)?, &[])?;
    assert!(again.len() == 7 && again.iter().all(|(_, change)| change == "unchanged"), "{again:?}");
    let elsewhere = Fixture::start().await?;
    assert_eq!(elsewhere.run("apply", &[&elsewhere.file(&printed.stdout)?])?.code, Some(0));
    assert_eq!(stored(&elsewhere)?, stored(&fixture)?);
    fixture.service.assert_no_panic().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_breaks_an_override_is_refused_and_nothing_is_changed() -> TestResult {
    let _turn = turn::shared().await;
    let fixture = Fixture::start().await?;
    assert_eq!(fixture.run("apply", &[&fixture.file(&format!("{FILE}{OVERRIDES}"))?])?.code, Some(0));
    let before = stored(&fixture)?;
    let faulty = r#"
        [[overrides]]
        namespace = "shop"
        policy = "calls"
        limit = "day"
        key = ["ann", "bob"]
        tokens = 9
        burst = 9
        [[overrides]]
        namespace = "shop"
        policy = "call"
        limit = "hour"
        key = { user = "ann" }
        rate = "soon"
    "#;
    // The limit that one in the database is for is gone.
    let renamed = FILE.replace("name = \"hour\", rate", "name = \"hours\", rate");
    for more in [&["--dry-run"][..], &[]] {
        let refused = fixture.run("apply", &[&[&*fixture.file(&renamed)?], more].concat())?;
        assert_eq!((refused.code, &*refused.stdout), (Some(1), ""));
        let told = "policies.toml: override shop:calls hour of user=ann.limit: ";
        assert!(refused.stderr.contains(told), "{}", refused.stderr);
        let refused = fixture.run("apply", &[&[&*fixture.file(faulty)?], more].concat())?;
        assert_eq!((refused.code, &*refused.stdout), (Some(1), ""));
        for place in ["overrides[0].limit", "overrides[0].key", "overrides[1].policy", "overrides[1].rate"] {
            assert!(refused.stderr.contains(&format!("policies.toml: {place}: ")), "{}", refused.stderr);
        }
    }
    assert_eq!(stored(&fixture)?, before);
    // A policy and its override are changed with one file.
    let replaced = format!("{FILE}{}", OVERRIDES.replace("9/hour", "11/hour"));
    let replaced = replaced.replace("rate = \"5/hour\"", "limit = 6, period = \"30m\"");
    let applied = fixture.run("apply", &[&fixture.file(&replaced)?])?;
    assert_eq!((applied.code, &*applied.stderr), (Some(0), "0 created, 2 updated, 5 unchanged\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn very_many_overrides_are_applied_and_few_are_shown() -> TestResult {
    let _turn = turn::shared().await;
    let fixture = Fixture::start().await?;
    let one = |user: usize, tokens: usize| {
        let target = "namespace = \"shop\"\npolicy = \"calls\"\nlimit = \"hour\"";
        format!("\n[[overrides]]\n{target}\nkey = {{ user = \"user-{user}\" }}\ntokens = {tokens}\n")
    };
    let many = |users: std::ops::Range<usize>, tokens: usize| {
        let overrides: String = users.map(|user| one(user, tokens)).collect();
        fixture.file(&format!("{FILE}{overrides}"))
    };
    let created = fixture.run("apply", &[&many(0..2_500, 7)?])?;
    assert_eq!((created.code, &*created.stderr), (Some(0), "2504 created, 0 updated, 0 unchanged\n"));
    assert!(created.stdout.contains("create     override shop:calls hour of user=user-19\n"));
    assert!(!created.stdout.contains("user=user-20\n"), "{}", created.stdout);
    assert!(created.stdout.ends_with("create     2480 more overrides\n"), "{}", created.stdout);
    assert_eq!(stored(&fixture)?.len(), 2_500);

    // What is changed is seen among what is not.
    let changed = fixture.run("apply", &[&many(0..2_500, 7)?, "--dry-run"])?;
    assert!(changed.stderr.contains("0 to create, 0 to update, 2504 unchanged"), "{}", changed.stderr);
    let last = fixture.file(&format!(
        "{FILE}{}{}",
        (0..30).map(|user| one(user, 7)).collect::<String>(),
        one(2_499, 8)
    ))?;
    let changed = fixture.run("apply", &[&last])?;
    assert_eq!((changed.code, &*changed.stderr), (Some(0), "0 created, 1 updated, 34 unchanged\n"));
    let told = "update     override shop:calls hour of user=user-2499\n  - tokens = 7\n  + tokens = 8\n";
    assert!(changed.stdout.contains(told), "{}", changed.stdout);
    assert!(changed.stdout.ends_with("unchanged  10 more overrides\n"), "{}", changed.stdout);

    let listed = fixture.json("list", &["--namespace", "shop"])?;
    let counts =
        listed["policies"].as_array().into_iter().flatten().map(|policy| policy["overrides"].clone());
    assert_eq!(counts.collect::<Vec<_>>(), [json!(0), json!(2_500)]);
    let shown = fixture.run("list", &[])?.stdout;
    assert!(shown.contains("overrides") && shown.contains("2500"), "{shown}");
    fixture.service.assert_no_panic().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_is_set_listed_and_deleted() -> TestResult {
    let _turn = turn::shared().await;
    let fixture = Fixture::start().await?;
    assert_eq!(fixture.run("apply", &[&fixture.file(FILE)?])?.code, Some(0));
    let run = |verb: &str, more: &[&str]| fixture.run_of("overrides", verb, more);
    let ann = ["shop:calls", "hour", "--key", "user=ann"];
    let tried = run("set", &[&ann[..], &["--rate", "9/hour", "--dry-run"]].concat())?;
    let told = "override shop:calls hour of user=ann could be set; nothing was changed\n";
    assert_eq!((tried.code, &*tried.stdout), (Some(0), told));
    assert_eq!(run("get", &ann)?.code, Some(1), "a dry run changes nothing");
    let set = run("set", &[&ann[..], &["--rate", "9/hour"]].concat())?;
    assert!(
        set.stdout.starts_with("override shop:calls hour of user=ann is set, and has version "),
        "{set:?}"
    );
    assert_eq!(limit_of(&fixture, "shop", ("user", "ann")).await?, 9);
    let first = fixture.json_of("overrides", "get", &ann)?;
    assert_eq!((&first["rate"], &first["key"]), (&json!("9/hour"), &json!({"user": "ann"})));
    let (version, etag) =
        (first["meta"]["version"].to_string(), first["meta"]["etag"].as_str().unwrap_or_default());

    let raised = fixture.json_of(
        "overrides",
        "set",
        &[&ann[..], &["--tokens", "12", "--period", "30m", "--etag", etag]].concat(),
    )?;
    assert_eq!(
        (&raised["tokens"], &raised["period"], &raised["rate"]),
        (&json!(12), &json!("30m"), &Value::Null)
    );
    let stale = run("set", &[&ann[..], &["--tokens", "13", "--etag", etag]].concat())?;
    assert!(stale.code == Some(1) && stale.stderr.contains("ETAG_MISMATCH"), "{stale:?}");
    let earlier = run("get", &[&ann[..], &["--version", &version]].concat())?;
    assert!(
        earlier.stdout.contains("[[overrides]]\n") && earlier.stdout.contains("rate = \"9/hour\""),
        "{earlier:?}"
    );
    let unknown = run("set", &["shop:calls", "day", "-k", "user=ann", "--tokens", "0"])?;
    assert!(unknown.code == Some(1) && unknown.stderr.contains("override.tokens"), "{unknown:?}");
    assert_eq!(run("set", &ann)?.code, Some(2), "without numbers");

    assert_eq!(run("set", &["shop:calls", "hour", "-k", "user=an*", "--tokens", "8"])?.code, Some(0));
    let shown = run("list", &[])?.stdout;
    for told in ["shop:calls", "own:fixed", "user=ann", "user=an*", "12/30m", "9/1h", "file", "database"] {
        assert!(shown.contains(told), "{told} is not in\n{shown}");
    }
    let listed = |more: &[&str]| -> anyhow::Result<Vec<String>> {
        let listed = fixture.json_of("overrides", "list", more)?;
        let one = |of: &Value| {
            format!("{}:{} {}", of["namespace"], of["policy"], of["key"]["user"]).replace('"', "")
        };
        Ok(listed.as_array().into_iter().flatten().map(one).collect())
    };
    assert_eq!(listed(&[])?, ["own:fixed ann", "shop:calls an*", "shop:calls ann"]);
    assert_eq!(listed(&["own:fixed"])?, ["own:fixed ann"]);
    assert_eq!(listed(&["--namespace", "shop"])?, ["shop:calls an*", "shop:calls ann"]);
    assert_eq!(listed(&["--key", "user=ann"])?, ["own:fixed ann", "shop:calls ann"]);

    let stale = run("delete", &[&ann[..], &["--etag", etag]].concat())?;
    assert!(stale.code == Some(1) && stale.stderr.contains("ETAG_MISMATCH"), "{stale:?}");
    assert_eq!(run("delete", &[&ann[..], &["--dry-run"]].concat())?.code, Some(0));
    assert_eq!(run("delete", &ann)?.stdout, "override shop:calls hour of user=ann is deleted\n");
    assert_eq!(limit_of(&fixture, "shop", ("user", "ann")).await?, 8, "the less specific one counts");
    assert_eq!(run("delete", &ann)?.code, Some(1));
    let fixed = run("delete", &["own:fixed", "hour", "-k", "user=ann"])?;
    assert!(fixed.code == Some(1) && fixed.stderr.contains("ENTRY_READ_ONLY"), "{fixed:?}");
    Ok(())
}
