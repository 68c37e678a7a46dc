//! What the user of a connection may do, tried before anything depends on it.

use redis::{Cmd, Pipeline, RedisResult, Value, aio::MultiplexedConnection};

/// The commands that counting needs and the user may not run, as ACL rules name them. A script would fail at the first of them, without its
/// name, and some are needed only seldom. Trying them changes nothing but the `probe`, a key of our own that expires at once.
///
/// # Errors
///
/// If the connection fails.
pub(super) async fn missing(
    redis: &mut MultiplexedConnection,
    probe: &str,
    in_cluster: bool,
) -> RedisResult<Vec<&'static str>> {
    let tried = attempts(probe, in_cluster);
    let mut all = Pipeline::with_capacity(tried.len());
    for (_, command) in &tried {
        all.add_command(command.clone());
    }
    let answers = redis.send_packed_commands(&all, 0, tried.len()).await?;
    // Who may not is told so before anything else is looked at, as whether the key is here.
    let is_refused =
        |answer: Value| answer.extract_error().is_err_and(|error| error.code() == Some("NOPERM"));
    let refused = answers.into_iter().map(is_refused);
    Ok(tried.iter().zip(refused).filter(|(_, refused)| *refused).map(|((name, _), _)| *name).collect())
}

fn attempts(probe: &str, in_cluster: bool) -> Vec<(&'static str, Cmd)> {
    let on_probe = |name: &'static str, arguments: &[&str]| {
        let mut command = redis::cmd(name);
        command.arg(probe).arg(arguments);
        (name, command)
    };
    let script = |name: &'static str, script: &str| {
        let mut command = redis::cmd(name);
        command.arg(script).arg(1).arg(probe);
        (name, command)
    };
    let mut all = vec![
        // No script has this digest.
        script("evalsha", &"0".repeat(40)),
        script("eval", "return 1"),
        on_probe("get", &[]),
        on_probe("setrange", &["0", ""]),
        on_probe("pttl", &[]),
        on_probe("pexpire", &["1000"]),
        on_probe("del", &[]),
    ];
    if in_cluster {
        // It is about the command that follows.
        all.push(("asking", redis::cmd("asking")));
    }
    all.push(("time", redis::cmd("time")));
    all
}
