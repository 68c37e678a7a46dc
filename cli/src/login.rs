//! `tidegate signup`, `login`, `logout`, `whoami` and `token`: who works at this machine.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::{Context, ensure};
use clap::Args;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use tidegate_proto::keys::v1::{GetMeRequest, LogInRequest, Role, SignUpRequest};

use crate::{
    client,
    orgs::{ShownOrganization, role_word},
    session::KeysAddress,
};

const SIGN_UP_EXAMPLES: &str = "\
Examples:
  tidegate signup --email ada@example.com --organization 'Ada & Co'
  echo \"$PASSWORD\" | tidegate signup --email ada@example.com --organization Ada

The password is asked for, or read from standard input. Whoever signs up is logged in.";

const LOG_IN_EXAMPLES: &str = "\
Examples:
  tidegate login --email ada@example.com
  echo \"$PASSWORD\" | tidegate login --email ada@example.com

The password is asked for, or read from standard input. The tokens are kept in ~/.config/tidegate/credentials.toml
(TIDEGATE_CREDENTIALS names another file), readable by you only, and refreshed when they expire. Commands show the token
of TIDEGATE_TOKEN instead if it is set.";

const TOKEN_EXAMPLES: &str = "\
Examples:
  curl -H \"Authorization: Bearer $(tidegate token)\" http://127.0.0.1:8000/v1/auth/me
  TIDEGATE_TOKEN=$(tidegate token) tidegate policies list --addr ratelimit.example.com:8081";

/// Make an account and an organization.
#[derive(Debug, Args)]
#[command(after_help = SIGN_UP_EXAMPLES)]
pub(crate) struct SignUpArgs {
    #[command(flatten)]
    keys: KeysAddress,

    /// E-mail address of the account.
    #[arg(long)]
    email: String,

    /// Name of the organization.
    #[arg(long, value_name = "NAME")]
    organization: String,
}

/// Log in, for the commands after it.
#[derive(Debug, Args)]
#[command(after_help = LOG_IN_EXAMPLES)]
pub(crate) struct LogInArgs {
    #[command(flatten)]
    keys: KeysAddress,

    /// E-mail address of the account.
    #[arg(long)]
    email: String,

    /// Id of the organization, for who belongs to several; absent: the one that was joined first.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    organization: String,
}

/// End the login.
#[derive(Debug, Args)]
pub(crate) struct LogOutArgs {
    #[command(flatten)]
    keys: KeysAddress,
}

/// Say who is logged in.
#[derive(Debug, Args)]
pub(crate) struct WhoAmIArgs {
    #[command(flatten)]
    keys: KeysAddress,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Print an access token of who is logged in, for other programs.
#[derive(Debug, Args)]
#[command(after_help = TOKEN_EXAMPLES)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    keys: KeysAddress,
}

/// Makes an account.
pub(crate) async fn sign_up(args: SignUpArgs) -> anyhow::Result<ExitCode> {
    let password = read_password()?;
    let mut auth = args.keys.connect_as_nobody().await?;
    let request = SignUpRequest { email: args.email, password, organization_name: args.organization };
    let answer = auth.sign_up(request).await.map_err(|status| client::explain(&status))?.into_inner();
    let organization = answer.organization.context("an answer without an organization")?;
    let path = args.keys.keep(answer.tokens.context("an answer without tokens")?)?;
    anstream::println!(
        "organization {} ({}) on the plan {}",
        organization.name,
        organization.id,
        organization.plan
    );
    anstream::eprintln!("logged in; the tokens are in {}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// Logs in.
pub(crate) async fn log_in(args: LogInArgs) -> anyhow::Result<ExitCode> {
    let password = read_password()?;
    let mut auth = args.keys.connect_as_nobody().await?;
    let request = LogInRequest { email: args.email, password, organization_id: args.organization };
    let answer = auth.log_in(request).await.map_err(|status| client::explain(&status))?.into_inner();
    let path = args.keys.keep(answer.tokens.context("an answer without tokens")?)?;
    anstream::eprintln!("logged in; the tokens are in {}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// Logs out.
pub(crate) async fn log_out(args: LogOutArgs) -> anyhow::Result<ExitCode> {
    match args.keys.end().await? {
        true => anstream::eprintln!("logged out"),
        false => anstream::eprintln!("nobody was logged in at {}", args.keys.addr),
    }
    Ok(ExitCode::SUCCESS)
}

/// Says who is logged in.
pub(crate) async fn who_am_i(args: WhoAmIArgs) -> anyhow::Result<ExitCode> {
    let mut auth = args.keys.connect_auth().await?;
    let me = auth.get_me(GetMeRequest {}).await.map_err(|status| client::explain(&status))?.into_inner();
    let role = role_word(me.role());
    let organization = me.organization.as_ref().map(ShownOrganization::new);
    if args.json {
        let memberships: Vec<_> = me
            .memberships
            .iter()
            .map(|of| {
                serde_json::json!({
                    "organization_id": of.organization_id,
                    "organization_name": of.organization_name,
                    "role": role_word(of.role()),
                })
            })
            .collect();
        let shown = serde_json::json!({
            "role": role,
            "email": me.user.as_ref().map(|user| &user.email),
            "service_name": (!me.service_name.is_empty()).then_some(&me.service_name),
            "organization": organization,
            "memberships": memberships,
        });
        anstream::println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(ExitCode::SUCCESS);
    }
    let name = me.user.as_ref().map_or(&*me.service_name, |user| &user.email);
    let of = me.organization.as_ref();
    let of = of.map(|of| format!(" of {} ({}), plan {}", of.name, of.id, of.plan)).unwrap_or_default();
    anstream::println!("{name}: {role}{of}");
    for other in
        me.memberships.iter().filter(|m| Some(&m.organization_id) != me.organization.as_ref().map(|o| &o.id))
    {
        let role = role_word(Role::try_from(other.role).unwrap_or_default());
        anstream::println!("also {role} of {} ({})", other.organization_name, other.organization_id);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a token.
pub(crate) async fn token(args: TokenArgs) -> anyhow::Result<ExitCode> {
    let token = args.keys.access_token().await?;
    anstream::println!("{token}");
    Ok(ExitCode::SUCCESS)
}

/// Asks for a password without showing it, or reads the first line of a standard input that is no terminal.
fn read_password() -> anyhow::Result<String> {
    let stdin = io::stdin();
    let mut line = String::new();
    if stdin.is_terminal() {
        eprint(b"Password: ")?;
        let before = tcgetattr(&stdin).context("the terminal cannot be read")?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&stdin, SetArg::TCSANOW, &silent).context("the terminal cannot be made silent")?;
        let read = stdin.lock().read_line(&mut line);
        tcsetattr(&stdin, SetArg::TCSANOW, &before).context("the terminal cannot be restored")?;
        eprint(b"\n")?;
        read?;
    } else {
        stdin.lock().read_line(&mut line)?;
    }
    let password = line.trim_end_matches(['\n', '\r']);
    ensure!(!password.is_empty(), "no password was given");
    Ok(password.to_owned())
}

fn eprint(text: &[u8]) -> io::Result<()> {
    let mut stderr = io::stderr();
    stderr.write_all(text)?;
    stderr.flush()
}
