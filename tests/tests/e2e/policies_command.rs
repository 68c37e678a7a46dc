//! `tidegate policies` and `tidegate overrides`: what a running service goes by, from the command line.

mod overrides;

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use tidegate_tests::{
    rpc,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    tools, turn,
};

/// What the service has as its own file.
const OWN: &str = r#"
[[policies]]
name = "fixed"
namespace = "own"
key_by = ["user"]
limits = [{ name = "hour", limit = 5, period = "1h" }]

[[overrides]]
namespace = "own"
policy = "fixed"
limit = "hour"
key = ["ann"]
rate = "9/hour"
"#;

const FILE: &str = r#"
[defaults]
failure_mode = "local"

[[policies]]
name = "calls"
namespace = "shop"
key_by = ["user"]
match = { path = ["/v1/*"] }
limits = [{ name = "hour", rate = "5/hour" }]

[[policies]]
name = "by-plan"
namespace = "shop"
key_by = ["organization"]
plan = { attribute = "plan", default = "gold" }

[[plans]]
name = "gold"
limits = [{ name = "minute", limit = 100, period = "1m" }]

[assignments.organization]
acme = "gold"
"#;

/// A service with a database, and a folder for files.
struct Fixture {
    service: Service,
    folder: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Fixture {
    async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let toml = format!("[database]\nurl = \"sqlite://{}/policies.db\"\n", folder.path().display());
        let policies = Some(OWN.to_owned());
        let settings = RateLimitSettings { toml, policies, ..RateLimitSettings::default() };
        Ok(Self { service: Service::ratelimit(&settings).await?, folder })
    }

    fn run(&self, verb: &str, more: &[&str]) -> anyhow::Result<Ended> {
        self.run_of("policies", verb, more)
    }

    /// Of another noun than policies.
    fn run_of(&self, noun: &str, verb: &str, more: &[&str]) -> anyhow::Result<Ended> {
        let mut command = Command::new(tools::binary("tidegate")?);
        command.args([noun, verb, "--addr", self.service.address()]).args(more);
        let output = command.output()?;
        Ok(Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    fn file(&self, text: &str) -> anyhow::Result<String> {
        let path = self.folder.path().join("policies.toml");
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    fn json(&self, verb: &str, more: &[&str]) -> anyhow::Result<Value> {
        self.json_of("policies", verb, more)
    }

    fn json_of(&self, noun: &str, verb: &str, more: &[&str]) -> anyhow::Result<Value> {
        let ended = self.run_of(noun, verb, &[more, &["--json"]].concat())?;
        anyhow::ensure!(ended.code == Some(0), "{ended:?}");
        Ok(serde_json::from_str(&ended.stdout)?)
    }

    /// The entries that `apply` names, each with what becomes of it.
    fn applied(&self, file: &str, more: &[&str]) -> anyhow::Result<Vec<(String, String)>> {
        let changes = self.json("apply", &[&[file], more].concat())?;
        let text = |change: &Value, name: &str| change[name].as_str().unwrap_or_default().to_owned();
        let changes = changes.as_array().into_iter().flatten();
        Ok(changes.map(|change| (text(change, "entry"), text(change, "change"))).collect())
    }
}

fn all(change: &str) -> Vec<(String, String)> {
    let entries = ["plan gold", "policy shop:calls", "policy shop:by-plan", "assignment organization=acme"];
    entries.map(|entry| (entry.to_owned(), change.to_owned())).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_applied_once_and_what_it_changes_is_shown() -> TestResult {
    let _turn = turn::shared().await;
    let fixture = Fixture::start().await?;
    let file = fixture.file(FILE)?;
    assert_eq!(fixture.applied(&file, &["--dry-run"])?, all("create"));
    assert_eq!(fixture.run("get", &["shop:calls"])?.code, Some(1), "a dry run changes nothing");
    assert_eq!(fixture.applied(&file, &[])?, all("create"));
    assert_eq!(fixture.applied(&file, &[])?, all("unchanged"));

    let usage = rpc::check("shop", &[("organization", "acme")]);
    let mut client = rpc::client(fixture.service.address())?;
    let limits = rpc::usage(&mut client, &usage).await?;
    assert_eq!(
        limits.iter().map(|limit| (&*limit.name, limit.limit)).collect::<Vec<_>>(),
        [("gold/minute", 100)]
    );

    let raised = fixture.file(&FILE.replace("5/hour", "7/hour"))?;
    let shown = fixture.run("apply", &[&raised, "--dry-run"])?;
    let expected = "\
unchanged  plan gold
update     policy shop:calls
  -     { name = \"hour\", algorithm = \"sliding_window\", rate = \"5/hour\" },
  +     { name = \"hour\", algorithm = \"sliding_window\", rate = \"7/hour\" },
unchanged  policy shop:by-plan
unchanged  assignment organization=acme
";
    assert_eq!((shown.code, &*shown.stdout), (Some(0), expected), "{}", shown.stderr);
    assert!(shown.stderr.contains("0 to create, 1 to update, 3 unchanged"), "{}", shown.stderr);
    assert_eq!(fixture.run("apply", &[&raised])?.code, Some(0));
    let policy = fixture.json("get", &["shop:calls"])?;
    assert_eq!(
        (&policy["limits"][0]["rate"], &policy["failure_mode"], &policy["meta"]["origin"]),
        (&json!("7/hour"), &json!("local"), &json!("database"))
    );
    fixture.service.assert_no_panic().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_get_prints_is_applied_again_and_changes_nothing() -> TestResult {
    let _turn = turn::shared().await;
    let fixture = Fixture::start().await?;
    assert_eq!(fixture.run("apply", &[&fixture.file(FILE)?])?.code, Some(0));
    let stored = fixture.run("get", &["--stored"])?;
    assert!(stored.stdout.starts_with("# database, version "), "{stored:?}");
    let mut unchanged = fixture.applied(&fixture.file(&stored.stdout)?, &[])?;
    let mut expected = all("unchanged");
    unchanged.sort();
    expected.sort();
    assert_eq!(unchanged, expected, "{}", stored.stdout);

    let elsewhere = Fixture::start().await?;
    assert_eq!(elsewhere.run("apply", &[&elsewhere.file(&stored.stdout)?])?.code, Some(0));
    let fields = |fixture: &Fixture, which: &[&str]| -> anyhow::Result<Value> {
        let mut entry = fixture.json("get", which)?;
        entry.as_object_mut().map(|entry| entry.remove("meta"));
        Ok(entry)
    };
    for which in
        [&["shop:calls"][..], &["shop:by-plan"], &["--plan", "gold"], &["--assignment", "organization=acme"]]
    {
        assert_eq!(fields(&elsewhere, which)?, fields(&fixture, which)?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_file_is_named_and_nothing_is_changed() -> TestResult {
    let _turn = turn::shared().await;
    let fixture = Fixture::start().await?;
    let faulty = r#"
        [namespaces.shop]
        envoy_compatible = true
        [[plans]]
        name = "silver"
        limits = [{ name = "minute", limit = 1, period = "1m" }]
        [[policies]]
        name = "calls"
        namespace = "shop eu"
        key_bye = ["user"]
        limits = [{ name = "hour", limit = 0, period = "1y" }]
        [[policies]]
        name = "more"
        namespace = "shop"
        key_by = []
        plan = "lead"
        [assignments.organization]
        acme = "tin"
    "#;
    for more in [&["--dry-run"][..], &[]] {
        let file = fixture.file(faulty)?;
        let refused = fixture.run("apply", &[&[&*file], more].concat())?;
        assert_eq!((refused.code, &*refused.stdout), (Some(1), ""));
        for place in [
            "namespaces",
            "policies[0].namespace",
            "policies[0].key_bye",
            "policies[0].key_by",
            "policies[0].limits[0].limit",
            "policies[0].limits[0].period",
            "policies[1].plan",
            "assignments.organization.acme",
        ] {
            assert!(
                refused.stderr.contains(&format!("policies.toml: {place}: ")),
                "{place}: {}",
                refused.stderr
            );
        }
        assert!(refused.stderr.contains("8 faults; nothing was changed"), "{}", refused.stderr);
    }
    // What only the service knows is told before anything changes, too.
    let plan = "[[plans]]\nname = \"silver\"\nunlimited = true\n";
    let misnamed = format!("{plan}[assignments.\"no name\"]\nacme = \"silver\"\n");
    let refused = fixture.run("apply", &[&fixture.file(&misnamed)?])?;
    assert_eq!((refused.code, &*refused.stdout), (Some(1), ""));
    let told = "policies.toml: assignments.no name.acme.attribute: ";
    assert!(refused.stderr.contains(told) && refused.stderr.contains("1 fault;"), "{}", refused.stderr);
    assert_eq!(fixture.run("get", &["--plan", "silver"])?.code, Some(1));

    // The service's own file goes first.
    let own = fixture.applied(&fixture.file(OWN)?, &[])?;
    let unchanged = ["policy own:fixed", "override own:fixed hour of user=ann"];
    assert_eq!(own, unchanged.map(|entry| (entry.to_owned(), "unchanged".to_owned())));
    let other = fixture.run("apply", &[&fixture.file(&OWN.replace("9/hour", "8/hour"))?])?;
    assert_eq!(other.code, Some(1));
    let told = "overrides[0]: override own:fixed hour of user=ann is in the policy file";
    assert!(other.stderr.contains(told), "{}", other.stderr);
    let other = fixture.run("apply", &[&fixture.file(&OWN.replace("limit = 5", "limit = 9"))?])?;
    assert_eq!(other.code, Some(1));
    assert!(other.stderr.contains("policies[0]: policy own:fixed is in the policy file"), "{}", other.stderr);
    assert_eq!(fixture.run("apply", &["no-such-file.toml"])?.code, Some(1));
    assert!(!Path::new("no-such-file.toml").exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_listed_deleted_and_had_back() -> TestResult {
    let _turn = turn::shared().await;
    let fixture = Fixture::start().await?;
    assert_eq!(fixture.run("apply", &[&fixture.file(FILE)?])?.code, Some(0));
    let raised = fixture.file(&FILE.replace("5/hour", "7/hour"))?;
    let etag = fixture.json("get", &["shop:calls"])?["meta"]["etag"].as_str().unwrap_or_default().to_owned();
    assert_eq!(fixture.run("apply", &[&raised])?.code, Some(0));

    let listed = fixture.run("list", &[])?.stdout;
    for shown in
        ["shop", "calls", "hour 7/hour", "plan by plan, else gold", "builtin", "file", "organization=acme"]
    {
        assert!(listed.contains(shown), "{shown} is not in\n{listed}");
    }
    let listed = fixture.json("list", &["--namespace", "shop"])?;
    let names: Vec<_> =
        listed["policies"].as_array().into_iter().flatten().map(|policy| &policy["name"]).collect();
    assert_eq!((names, &listed["plans"]), (vec![&json!("by-plan"), &json!("calls")], &json!([])));

    let stale = fixture.run("delete", &["shop:calls", "--etag", &etag])?;
    assert!(stale.code == Some(1) && stale.stderr.contains("ETAG_MISMATCH"), "{stale:?}");
    let needed = fixture.run("delete", &["--plan", "gold"])?;
    assert!(needed.code == Some(1) && needed.stderr.contains("ENTRY_IN_USE"), "{needed:?}");
    assert_eq!(fixture.run("delete", &["shop:calls", "--dry-run"])?.code, Some(0));
    assert_eq!(fixture.run("get", &["shop:calls"])?.code, Some(0), "a dry run changes nothing");
    assert_eq!(fixture.run("delete", &["shop:calls"])?.stdout, "policy shop:calls is deleted\n");
    assert_eq!(fixture.run("get", &["shop:calls"])?.code, Some(1));
    assert_eq!(fixture.run("delete", &[])?.code, Some(1), "nothing is named");

    let history = fixture.json("history", &["shop:calls"])?;
    let told: Vec<_> = history
        .as_array()
        .into_iter()
        .flatten()
        .map(|version| (version["deleted"].clone(), version["policy"]["limits"][0]["rate"].clone()))
        .collect();
    let expected = [(true, Value::Null), (false, json!("7/hour")), (false, json!("5/hour"))];
    assert_eq!(told, expected.map(|(deleted, rate)| (json!(deleted), rate)));
    let shown = fixture.run("history", &["shop:calls"])?.stdout;
    assert!(shown.contains("deleted") && shown.contains("hour 5/hour"), "{shown}");
    let first = history[2]["version"].to_string();
    let earlier = fixture.run("get", &["shop:calls", "--version", &first])?;
    assert!(earlier.stdout.contains("5/hour"), "{earlier:?}");
    let back = fixture.run("rollback", &["shop:calls", "--to", &first])?;
    assert!(back.stdout.starts_with(&format!("policy shop:calls is as in version {first}")), "{back:?}");
    assert_eq!(fixture.json("get", &["shop:calls"])?["limits"][0]["rate"], json!("5/hour"));
    assert_eq!(fixture.run("delete", &["--assignment", "organization=acme"])?.code, Some(0));
    Ok(())
}
