//! Who belongs to an organization.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tidegate_proto::keys::v1::{CreateInvitationRequest, ListMembersRequest, RemoveMemberRequest, Role};

use super::{PAGE, role_word};
use crate::{client, session::KeysAddress, table, when};

#[derive(Debug, Args)]
pub(crate) struct MembersArgs {
    #[command(flatten)]
    keys: KeysAddress,

    /// Id of the organization; absent: that of the login.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    organization: String,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InviteArgs {
    #[command(flatten)]
    keys: KeysAddress,

    /// Id of the organization; absent: that of the login.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    organization: String,

    /// Whom to invite.
    email: String,

    /// What they may do.
    #[arg(long, default_value = "user")]
    role: MemberRole,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    keys: KeysAddress,

    /// Id of the organization; absent: that of the login.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    organization: String,

    /// Id of the account.
    user: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum MemberRole {
    TenantAdmin,
    User,
}

/// Lists members.
pub(super) async fn list(args: MembersArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.keys.connect().await?;
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let organization_id = args.organization.clone();
        let request = ListMembersRequest { organization_id, page_size: PAGE, page_token };
        let page =
            client.list_members(request).await.map_err(|status| client::explain(&status))?.into_inner();
        all.extend(page.members);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if args.json {
        let shown: Vec<_> = all
            .iter()
            .map(|of| {
                serde_json::json!({
                    "user_id": of.user_id,
                    "email": of.email,
                    "role": role_word(of.role()),
                    "joined_at": when::ms(of.joined_at_ms),
                })
            })
            .collect();
        anstream::println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = table::new(&["id", "email", "role", "joined"], []);
    for of in &all {
        let role = role_word(of.role()).to_owned();
        shown.add_row([of.user_id.clone(), of.email.clone(), role, when::ms(of.joined_at_ms)]);
    }
    anstream::println!("{shown}");
    Ok(ExitCode::SUCCESS)
}

/// Invites somebody.
pub(super) async fn invite(args: InviteArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.keys.connect().await?;
    let role = match args.role {
        MemberRole::TenantAdmin => Role::TenantAdmin,
        MemberRole::User => Role::User,
    };
    let request =
        CreateInvitationRequest { organization_id: args.organization, email: args.email, role: role.into() };
    let answer = client.create_invitation(request).await.map_err(|status| client::explain(&status))?;
    let answer = answer.into_inner();
    let invitation = answer.invitation.context("an answer without an invitation")?;
    anstream::println!("{}", answer.token);
    let until = when::ms(invitation.expires_at_ms);
    anstream::eprintln!("{} can join with this token until {until}; it is shown this once", invitation.email);
    Ok(ExitCode::SUCCESS)
}

/// Ends a membership.
pub(super) async fn remove(args: RemoveArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.keys.connect().await?;
    let request = RemoveMemberRequest { organization_id: args.organization, user_id: args.user };
    client.remove_member(request).await.map_err(|status| client::explain(&status))?;
    anstream::println!("removed");
    Ok(ExitCode::SUCCESS)
}
