//! `tidegate orgs`: organizations and who belongs to them.

mod members;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use tidegate_proto::keys::v1::{
    CreateOrganizationRequest, GetOrganizationRequest, ListOrganizationsRequest, Organization,
    OrganizationStatus, Role, UpdateOrganizationRequest,
};

use crate::{client, policies::in_runtime, session::KeysAddress, table, when};

const LIST_EXAMPLES: &str = "\
Examples:
  tidegate orgs list
  tidegate orgs list --search acme --json";

const UPDATE_EXAMPLES: &str = "\
Examples:
  tidegate orgs update 0192f0c1-… --name 'Acme Inc.'
  tidegate orgs update 0192f0c1-… --plan business        in force for the next check; by admin only
  tidegate orgs update 0192f0c1-… --status suspended     its keys are denied from the next check on
  tidegate orgs update 0192f0c1-… --monthly-quota 1000000";

/// The most on a page.
const PAGE: i32 = 100;

/// What can be done with organizations.
#[derive(Debug, Subcommand)]
pub(crate) enum OrgsCommand {
    /// List organizations (by admin only).
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show an organization: that of the login, or another.
    Get(GetArgs),
    /// Make an organization without members (by admin only).
    Create(CreateArgs),
    /// Change an organization.
    #[command(after_help = UPDATE_EXAMPLES)]
    Update(UpdateArgs),
    /// List the members of an organization.
    Members(members::MembersArgs),
    /// Invite somebody, and print the token that lets them join.
    Invite(members::InviteArgs),
    /// End a membership.
    RemoveMember(members::RemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    keys: KeysAddress,

    /// Those whose name contains this.
    #[arg(long, default_value = "", hide_default_value = true)]
    search: String,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    keys: KeysAddress,

    /// Its id; absent: that of the login.
    #[arg(default_value = "", hide_default_value = true)]
    id: String,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    keys: KeysAddress,

    /// Its name.
    name: String,

    /// Its plan.
    #[arg(long, default_value = "free")]
    plan: String,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    keys: KeysAddress,

    /// Its id; absent: that of the login.
    #[arg(default_value = "", hide_default_value = true)]
    id: String,

    #[command(flatten)]
    changes: Changes,

    /// Only if nobody has changed it since `get` told this etag.
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// Its name.
    #[arg(long)]
    name: Option<String>,

    /// Its plan.
    #[arg(long)]
    plan: Option<String>,

    /// Whether its keys are accepted.
    #[arg(long)]
    status: Option<Status>,

    /// Tokens a calendar month of all its keys together; 0 for no such quota.
    #[arg(long, value_name = "TOKENS")]
    monthly_quota: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    Active,
    Suspended,
}

/// An organization as `--json` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct ShownOrganization<'o> {
    id: &'o str,
    name: &'o str,
    plan: &'o str,
    status: &'static str,
    monthly_quota: u64,
    created_at: String,
    updated_at: String,
    etag: &'o str,
}

impl<'o> ShownOrganization<'o> {
    /// Of an organization.
    pub(crate) fn new(of: &'o Organization) -> Self {
        Self {
            id: &of.id,
            name: &of.name,
            plan: &of.plan,
            status: status_word(of.status()),
            monthly_quota: of.monthly_quota,
            created_at: when::ms(of.created_at_ms),
            updated_at: when::ms(of.updated_at_ms),
            etag: &of.etag,
        }
    }
}

/// Runs the command.
pub(crate) fn run(command: OrgsCommand) -> anyhow::Result<ExitCode> {
    match command {
        OrgsCommand::List(args) => in_runtime(list(args)),
        OrgsCommand::Get(args) => in_runtime(get(args)),
        OrgsCommand::Create(args) => in_runtime(create(args)),
        OrgsCommand::Update(args) => in_runtime(update(args)),
        OrgsCommand::Members(args) => in_runtime(members::list(args)),
        OrgsCommand::Invite(args) => in_runtime(members::invite(args)),
        OrgsCommand::RemoveMember(args) => in_runtime(members::remove(args)),
    }
}

async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.keys.connect().await?;
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListOrganizationsRequest { page_size: PAGE, page_token, search: args.search.clone() };
        let page = client.list_organizations(request).await.map_err(|status| client::explain(&status))?;
        let page = page.into_inner();
        all.extend(page.organizations);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if args.json {
        let shown: Vec<_> = all.iter().map(ShownOrganization::new).collect();
        anstream::println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = table::new(&["id", "name", "plan", "status", "monthly quota", "created"], [4]);
    for of in &all {
        let quota = if of.monthly_quota == 0 { String::new() } else { of.monthly_quota.to_string() };
        let status = status_word(of.status()).to_owned();
        shown.add_row([
            of.id.clone(),
            of.name.clone(),
            of.plan.clone(),
            status,
            quota,
            when::ms(of.created_at_ms),
        ]);
    }
    anstream::println!("{shown}");
    Ok(ExitCode::SUCCESS)
}

async fn get(args: GetArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.keys.connect().await?;
    let request = GetOrganizationRequest { organization_id: args.id };
    let answer = client.get_organization(request).await.map_err(|status| client::explain(&status))?;
    show(answer.into_inner().organization, args.json)
}

async fn create(args: CreateArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.keys.connect().await?;
    let request = CreateOrganizationRequest { name: args.name, plan: args.plan };
    let answer = client.create_organization(request).await.map_err(|status| client::explain(&status))?;
    show(answer.into_inner().organization, args.json)
}

async fn update(args: UpdateArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.keys.connect().await?;
    let Changes { name, plan, status, monthly_quota } = args.changes;
    let status = status.map(|status| match status {
        Status::Active => OrganizationStatus::Active.into(),
        Status::Suspended => OrganizationStatus::Suspended.into(),
    });
    let request = UpdateOrganizationRequest {
        organization_id: args.id,
        name,
        plan,
        status,
        monthly_quota,
        etag: args.etag,
    };
    let answer = client.update_organization(request).await.map_err(|status| client::explain(&status))?;
    show(answer.into_inner().organization, args.json)
}

fn show(of: Option<Organization>, json: bool) -> anyhow::Result<ExitCode> {
    let of = of.context("an answer without an organization")?;
    if json {
        anstream::println!("{}", serde_json::to_string_pretty(&ShownOrganization::new(&of))?);
        return Ok(ExitCode::SUCCESS);
    }
    let quota = match of.monthly_quota {
        0 => String::new(),
        quota => format!(", {quota} tokens a month"),
    };
    let status = status_word(of.status());
    anstream::println!("{} ({}): {status}, plan {}{quota}, etag {}", of.name, of.id, of.plan, of.etag);
    Ok(ExitCode::SUCCESS)
}

fn status_word(status: OrganizationStatus) -> &'static str {
    match status {
        OrganizationStatus::Active => "active",
        OrganizationStatus::Suspended => "suspended",
        OrganizationStatus::Unspecified => "unknown",
    }
}

/// The word for a role.
pub(crate) fn role_word(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::TenantAdmin => "tenant_admin",
        Role::User => "user",
        Role::Service => "service",
        Role::Unspecified => "unknown",
    }
}
