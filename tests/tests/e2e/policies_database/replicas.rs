//! Several services on one database.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use tidegate_tests::{eventually::eventually, ports, process::Process, tools};

use super::*;

/// What is promised of a change: so soon it is in force everywhere.
const PROMISED: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_four_replicas_within_a_second() -> TestResult {
    let _turn = turn::alone().await;
    let folder = tempfile::tempdir()?;
    let file = format!("sqlite://{}", folder.path().join("shared.db").display());
    for url in [PostgresServer::shared().await?.database().await?, file] {
        let mut services = Vec::new();
        for _ in 0..4 {
            services.push(on(&url, "").await?);
        }
        let mut clients = Vec::new();
        for service in &services {
            clients.push(rpc::client(service.address())?);
        }
        let created = create(&mut clients[0].clone(), policy("calls", 1)).await?;
        let check = rpc::check("shop", &[("user", "ann")]);
        let mut took = Vec::new();
        let mut last = created;
        for limit in 2..=21 {
            last = update(&mut clients[0].clone(), policy("calls", limit), &etag(&last)).await?;
            let committed = Instant::now();
            for client in &mut clients {
                let seen = async || {
                    Ok(rpc::usage(client, &check).await.is_ok_and(|limits| limits[0].limit == limit))
                };
                eventually("the change is in force", Duration::from_secs(20), seen).await?;
            }
            took.push(committed.elapsed());
        }
        took.sort_unstable();
        let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
        println!("{}: 20 changes, in force on 4 replicas after p50 {median:?}, p99 {worst:?}", &url[..6]);
        assert!(worst <= PROMISED, "{worst:?} after the answer");
    }
    Ok(())
}

/// Killed at some moment of a stream of creations: what was answered is there on the other replica, and nothing is there by half.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_in_the_middle_of_a_creation_leaves_no_half() -> TestResult {
    let _turn = turn::shared().await;
    let url = PostgresServer::shared().await?.database().await?;
    let survivor = on(&url, "").await?;
    let mut killed = on(&url, "").await?;
    for round in 0..4_u64 {
        let mut client = rpc::client(killed.address())?;
        let creations = tokio::spawn(async move {
            let mut answered = Vec::new();
            for n in 0_u64.. {
                let name = format!("r{round}-{n}");
                match create(&mut client, policy(&name, 1)).await {
                    Ok(_) => answered.push(name),
                    Err(_) => break,
                }
            }
            answered
        });
        tokio::time::sleep(Duration::from_millis(150 + 37 * round)).await;
        killed.kill()?;
        let answered = creations.await?;
        assert!(!answered.is_empty(), "it was killed before it did anything");
        let mut survivor = rpc::client(survivor.address())?;
        for name in answered {
            let get = GetPolicyRequest { namespace: "shop".into(), name: name.clone(), version: 0 };
            survivor.get_policy(get).await.unwrap_or_else(|status| panic!("{name} was answered: {status}"));
        }
        killed.restart().await?;
    }
    let mut database = PgConnection::connect(&url).await?;
    let halves: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM ratelimit.entries e FULL JOIN ratelimit.changes c \
         USING (kind, scope, name, version, id) WHERE e.name IS NULL OR c.name IS NULL) \
         + (SELECT count(*) FROM ratelimit.catalog WHERE revision <> (SELECT max(version) FROM ratelimit.changes)) \
         + (SELECT max(version) - count(DISTINCT version) FROM ratelimit.changes)",
    )
    .fetch_one(&mut database)
    .await?;
    assert_eq!(halves, 0, "entries, changes and revision tell the same");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_its_database_keeps_what_is_in_force_and_does_not_start_anew() -> TestResult {
    let _turn = turn::shared().await;
    let mut server = PostgresServer::start().await?;
    let url = server.database().await?;
    let mut service = on(&url, "").await?;
    let mut client = rpc::client(service.address())?;
    create(&mut client, policy("calls", 3)).await?;
    server.kill()?;
    let told = refused(create(&mut client, policy("more", 3)).await)?;
    assert_eq!((told.code, told.reason.as_str()), (Code::Unavailable, "DATABASE_UNAVAILABLE"));
    assert!(told.retry_after.is_some());
    assert!(client.check(rpc::check("shop", &[("user", "ann")])).await?.into_inner().allowed);
    let errors = async || Ok(service.metrics().await?.contains("tidegate_ratelimit_catalog_errors_total"));
    eventually("the metrics tell", Duration::from_secs(20), errors).await?;
    // A start without the database would be a start without its policies.
    let error = service.restart().await.unwrap_err();
    assert!(format!("{error:#}").contains("database.url"), "{error:#}");
    server.restart().await?;
    service.restart().await?;
    assert!(client.check(rpc::check("shop", &[("user", "ann")])).await?.into_inner().allowed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn up_keeps_what_was_set_and_migrate_makes_the_tables() -> TestResult {
    let _turn = turn::shared().await;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("other.db");
    let migrate = Command::new(tools::binary("tidegate")?)
        .args(["migrate", "--database-url", &format!("sqlite://{}", path.display())])
        .output()?;
    assert!(migrate.status.success() && path.is_file(), "{}", String::from_utf8_lossy(&migrate.stderr));

    let address = format!("127.0.0.1:{}", ports::free()?);
    let start = || -> anyhow::Result<Process> {
        let mut command = Command::new(tools::binary("tidegate")?);
        command.args(["up", "--data-dir", "kept"]).current_dir(folder.path());
        command.env("TIDEGATE_RATELIMIT_LISTEN", &address);
        for variable in
            ["RATELIMIT__SERVER__OPS_LISTEN", "GATEWAY__SERVER__LISTEN", "GATEWAY__SERVER__OPS_LISTEN"]
        {
            command.env(format!("TIDEGATE_{variable}"), format!("127.0.0.1:{}", ports::free()?));
        }
        Process::spawn("tidegate up", &mut command)
    };
    let mut client = rpc::client(&address)?;
    let mut first = start()?;
    let created = async || Ok(create(&mut client, policy("kept", 3)).await.is_ok());
    eventually("a policy is created", Duration::from_secs(30), created).await?;
    first.kill()?;
    let mut second = start()?;
    let get = GetPolicyRequest { namespace: "shop".into(), name: "kept".into(), version: 0 };
    let kept = async || Ok(client.get_policy(get.clone()).await.is_ok());
    eventually("the policy is still there", Duration::from_secs(30), kept).await?;
    second.kill()?;
    assert!(folder.path().join("kept/tidegate.db").is_file());
    Ok(())
}
