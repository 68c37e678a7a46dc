//! Every method with every role and with none, over a real port with real tokens.

use tidegate_chassis::auth::{
    Access,
    Role::{self, Admin, Service, TenantAdmin, User},
};
use tidegate_tests::roles::{self, Caller, Credentials, Method};
use uuid::Uuid;

use super::{ACCESS, internal, start, token};

const OWN: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_00aa);

#[tokio::test]
async fn each_method_lets_in_those_whom_the_table_names_and_nobody_else() {
    let running = start().await;
    let methods: Vec<_> = ACCESS
        .iter()
        .map(|(path, access)| Method {
            path,
            roles: match access {
                Access::Public => None,
                Access::Roles(roles) => Some(roles.iter().map(|role| role.name()).collect()),
            },
        })
        .collect();
    let by_role = |name, role: Role, org| Caller {
        name,
        authorization: Some(token(role, org)),
        shows: Credentials::Role(role.name()),
    };
    let callers = [
        Caller { name: "nobody", authorization: None, shows: Credentials::None },
        Caller {
            name: "somebody whose token was tampered with",
            authorization: Some(format!("{}A", token(Admin, None))),
            shows: Credentials::Bad,
        },
        by_role("an administrator", Admin, None),
        // There is none such.
        Caller {
            shows: Credentials::Bad,
            ..by_role("an administrator of one organization", Admin, Some(OWN))
        },
        by_role("a tenant's administrator", TenantAdmin, Some(OWN)),
        by_role("a user", User, Some(OWN)),
        by_role("a backend", Service, None),
        by_role("a backend of one organization", Service, Some(OWN)),
        Caller {
            name: "one of our own services",
            authorization: Some(internal()),
            shows: Credentials::Role("service"),
        },
    ];
    let violations = roles::violations(&running.channel, &methods, &callers).await.expect("called");
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn proto_files_name_the_roles_of_each_method() {
    let files = [
        include_str!("../../../../../proto/tidegate/keys/v1/keys.proto"),
        include_str!("../../../../../proto/tidegate/keys/v1/auth.proto"),
    ];
    for (path, access) in ACCESS {
        let name = path.rsplit('/').next().expect("a name");
        let declared = format!("  rpc {name}(");
        let before = files.iter().find_map(|file| Some(file.split_once(&declared)?.0));
        let before = before.unwrap_or_else(|| panic!("{path} is in no file"));
        let comment = before.rsplit("\n\n").next().expect("there is a first part");
        let roles = match access {
            Access::Public => "none needed".to_owned(),
            Access::Roles(allowed) => {
                let names = Role::ALL.iter().filter(|role| allowed.contains(role)).map(|role| role.name());
                names.collect::<Vec<_>>().join(", ")
            }
        };
        let all = format!("// Roles: {roles} for all organizations.");
        let told = comment.contains(&format!("// Roles: {roles}.")) || comment.contains(&all);
        assert!(told, "{name}: {roles}: {comment}");
    }
}
