//! The command `tidegate`.

mod attribute;
mod bench;
mod bench_keys;
mod ceiling;
mod check;
mod client;
mod completions;
mod decision;
mod keys;
mod lease;
mod login;
mod migrate;
mod orgs;
mod overrides;
mod policies;
mod service_tokens;
mod session;
mod table;
mod top;
mod up;
mod when;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measured in docs/adr/0003-runtime-and-profile.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: &str = "\
Examples:
  tidegate                                              run everything in this process
  tidegate up --ephemeral --ready-file ready.json       on free ports, for a test
  tidegate check --attribute organization=acme          ask once: exit code 0 allowed, 1 denied
  tidegate lease run -a organization=acme -- ./export   run a command only while a place is free
  tidegate top                                          who asks, and who is denied
  tidegate policies validate policies.toml
  tidegate policies apply policies.toml --dry-run       what would change in a running service
  tidegate policies import --from limitador limits.yaml
  tidegate overrides set default:organization minute -k organization=acme --rate 50/min
  tidegate login --email ada@example.com
  tidegate keys create 'Production API Key'             prints the value, this once
  tidegate keys rotate 0192f0c1-… --grace-period 1h
  tidegate migrate --database-url postgres://…          bring the tables up to date
  tidegate bench --rate 10000                           latency at a fixed arrival rate
  tidegate completions bash > /etc/bash_completion.d/tidegate

`tidegate COMMAND --help` says more about each.";

/// Tidegate decides who may call an API, and how often.
#[derive(Parser)]
#[command(name = "tidegate", version, after_help = EXAMPLES)]
struct Cli {
    /// Without a command: `up`.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Up(up::UpArgs),
    Check(check::CheckArgs),
    /// Hold places of concurrency limits.
    #[command(subcommand)]
    Lease(lease::LeaseCommand),
    /// Work with policy files, and with the policies of a running service.
    #[command(subcommand)]
    Policies(policies::PoliciesCommand),
    /// Give a limit other numbers for some of its callers, in a running service.
    #[command(subcommand)]
    Overrides(overrides::OverridesCommand),
    Top(top::TopArgs),
    #[command(name = "signup")]
    SignUp(login::SignUpArgs),
    #[command(name = "login")]
    LogIn(login::LogInArgs),
    #[command(name = "logout")]
    LogOut(login::LogOutArgs),
    #[command(name = "whoami")]
    WhoAmI(login::WhoAmIArgs),
    Token(login::TokenArgs),
    /// Work with organizations and their members.
    #[command(subcommand)]
    Orgs(orgs::OrgsCommand),
    /// Work with API keys.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Work with tokens of backends.
    #[command(subcommand)]
    ServiceTokens(service_tokens::ServiceTokensCommand),
    Migrate(migrate::MigrateArgs),
    Bench(bench::BenchArgs),
    #[command(hide = true)]
    BenchCeiling(ceiling::CeilingArgs),
    #[command(hide = true)]
    BenchDecision(decision::DecisionArgs),
    #[command(hide = true)]
    BenchKeys(bench_keys::BenchKeysArgs),
    Completions(completions::CompletionsArgs),
}

fn main() -> ExitCode {
    let command = Cli::parse().command.unwrap_or_else(|| Command::Up(up::UpArgs::default()));
    let failed = match &command {
        // They keep 1 for "denied".
        Command::Check(_) => 2,
        Command::Lease(command) => command.failure(),
        _ => 1,
    };
    let done = match command {
        Command::Up(args) => up::run(&args),
        Command::Check(args) => check::run(args),
        Command::Lease(command) => lease::run(command),
        Command::Policies(command) => policies::run(command),
        Command::Overrides(command) => overrides::run(command),
        Command::Top(args) => top::run(&args),
        Command::SignUp(args) => policies::in_runtime(login::sign_up(args)),
        Command::LogIn(args) => policies::in_runtime(login::log_in(args)),
        Command::LogOut(args) => policies::in_runtime(login::log_out(args)),
        Command::WhoAmI(args) => policies::in_runtime(login::who_am_i(args)),
        Command::Token(args) => policies::in_runtime(login::token(args)),
        Command::Orgs(command) => orgs::run(command),
        Command::Keys(command) => keys::run(command),
        Command::ServiceTokens(command) => service_tokens::run(command),
        Command::Migrate(args) => migrate::run(args),
        Command::Bench(args) => bench::run(args),
        Command::BenchCeiling(args) => ceiling::run(&args),
        Command::BenchDecision(args) => decision::run(&args),
        Command::BenchKeys(args) => policies::in_runtime(bench_keys::run(args)),
        Command::Completions(args) => completions::run(&args),
    };
    done.unwrap_or_else(|error| {
        anstream::eprintln!("error: {error:#}");
        ExitCode::from(failed)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
